"""How far the measure that a long trajectory leaves in state space is from that of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def checked_series(generated: Tensor, reference: Tensor, owner: str) -> None:
    """Raise ValueError unless both are (T, N) or (B, T, N), of the same length."""
    if generated.ndim not in (2, 3) or generated.ndim != reference.ndim:
        raise ValueError(
            f"{owner} got series of shapes {tuple(generated.shape)} and {tuple(reference.shape)}; expected (T, N) or "
            "(B, T, N) twice."
        )
    if generated.shape != reference.shape:
        raise ValueError(
            f"{owner} got series of shapes {tuple(generated.shape)} and {tuple(reference.shape)}; the value depends "
            "on the number of points, so both need the same: cut the longer one."
        )


def per_series(
    function: Callable[[Tensor, Tensor], Tensor], generated: Tensor, reference: Tensor
) -> Tensor:
    """A function of two series (T, N), for one pair or for each of a batch."""
    if generated.ndim == 2:
        return function(generated, reference)
    return torch.stack([function(g, r) for g, r in zip(generated, reference, strict=True)])


def state_space_divergence(
    generated: Tensor, reference: Tensor, bins: int = 30, smoothing: float = 1e-5
) -> Tensor:
    """D_stsp: KL divergence of the binned occupation of state space, sum p_ref ln(p_ref / p_gen).

    (T, N) twice -> (), or (B, T, N) twice -> (B,). Every axis is divided into `bins` between the least value of the
    reference minus a tenth of its standard deviation and the largest plus as much; points outside are left out. Counts
    are smoothed, (count + s) / (sum + s bins^N) (Koppe et al. 2019; Hess et al. 2023, arXiv 2306.04406, appendix). Take
    off the transient first. NaN if no generated point lies in the range or is finite.

    It has a floor that falls slowly with the number of points: two pieces of the same attractor differ. Show it beside
    (`against_floor`), and never compare values of unlike lengths, which are refused. Meant for few dimensions; from six
    on the bins are empty, see `mixture_divergence`.

    Args:
        generated: standardised like the reference.
        reference: standardised.
        bins: per axis.
        smoothing: added to each count.

    Raises:
        ValueError: the shapes differ, or there are more bins than 64-bit numbers.
    """
    checked_series(generated, reference, "state_space_divergence")
    dimension = reference.shape[-1]
    if bins < 1 or not smoothing > 0 or bins**dimension >= 2**62:
        raise ValueError(
            f"state_space_divergence got {bins} bins on {dimension} axes and smoothing {smoothing}; expected at least "
            "one bin, at most 2^62 in all, and a positive smoothing. Use mixture_divergence in high dimension."
        )

    def one(gen: Tensor, ref: Tensor) -> Tensor:
        lower, upper = reference_range(ref)
        keys = [bin_keys(series, lower, upper, bins) for series in (ref, gen)]
        return divergence_of_counts(*keys_to_counts(*keys), bins**dimension, smoothing)

    return per_series(one, generated, reference)


def reference_range(reference: Tensor) -> tuple[Tensor, Tensor]:
    """Limits per axis (N,) of a reference (T, N): its range and a tenth of a standard deviation on each side."""
    margin = 0.1 * reference.std(dim=0)
    return reference.amin(dim=0) - margin, reference.amax(dim=0) + margin


def bin_keys(points: Tensor, lower: Tensor, upper: Tensor, bins: int) -> Tensor:
    """Number of the bin of each point within the limits, (T, N) -> (T',) of int64."""
    at = (points - lower) * (bins / (upper - lower))
    inside = ((points >= lower) & (points <= upper)).all(dim=1)  # false for NaN
    index = at[inside].long().clamp_(0, bins - 1)
    places = bins ** torch.arange(points.shape[1], device=points.device)
    return (index * places).sum(dim=1)


def keys_to_counts(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """How often each key occurs in one and in the other, over the keys that occur in either, (K,) twice."""
    keys, where = torch.unique(torch.cat([first, second]), return_inverse=True)
    counts = [torch.bincount(part, minlength=len(keys)) for part in where.split([len(first), len(second)])]
    return counts[0], counts[1]


def divergence_of_counts(reference: Tensor, generated: Tensor, cells: int, smoothing: float) -> Tensor:
    """KL divergence of two smoothed histograms of `cells` bins, given by the bins (K,) that either one has met."""
    r, g = reference.to(torch.float64), generated.to(torch.float64)
    p = (r + smoothing) / (r.sum() + smoothing * cells)
    q = (g + smoothing) / (g.sum() + smoothing * cells)
    empty = cells - len(r)  # bins that nobody met still hold what the smoothing put there
    rest_p, rest_q = smoothing / (r.sum() + smoothing * cells), smoothing / (g.sum() + smoothing * cells)
    value = (p * (p / q).log()).sum() + empty * rest_p * (rest_p / rest_q).log()
    return torch.where(g.sum() > 0, value, torch.nan)


def mixture_divergence(
    generated: Tensor,
    reference: Tensor,
    variance: float = 1.0,
    *,
    samples: int = 1000,
    limit: int = 10_000,
    seed: int = 0,
) -> Tensor:
    """D_stsp for six dimensions and more: KL divergence of two Gaussian mixtures, by Monte Carlo.

    (T, N) twice -> (), or (B, T, N) twice -> (B,). Each of the first `limit` points is the centre of a component of
    equal weight with the same variance along all axes; the mean of ln p - ln q over points drawn from p, the mixture of
    the reference (Hess et al. 2023, arXiv 2306.04406, appendix). Points where either density underflows are left out;
    NaN if all do, or if the generated series is not finite. Has a floor like `state_space_divergence`.

    Args:
        generated: standardised like the reference.
        reference: standardised.
        variance: of the components; 1 is the published one, for standardised data.
        samples: number of draws.
        limit: points used of each series.
        seed: of the draws.

    Raises:
        ValueError: the shapes differ, or a number is not positive.
    """
    checked_series(generated, reference, "mixture_divergence")
    if not variance > 0 or samples < 1 or limit < 1:
        raise ValueError(
            f"mixture_divergence got variance={variance}, samples={samples}, limit={limit}; all must be positive."
        )
    generator = torch.Generator().manual_seed(seed)

    def one(gen: Tensor, ref: Tensor) -> Tensor:
        gen, ref = gen[:limit].to(torch.float64), ref[:limit].to(torch.float64)
        if not bool(torch.isfinite(gen).all()):
            return gen.new_tensor(math.nan)
        chosen = torch.randint(len(ref), (samples,), generator=generator)
        shift = torch.randn(samples, ref.shape[1], generator=generator, dtype=torch.float64)
        points = ref[chosen.to(ref.device)] + math.sqrt(variance) * shift.to(ref.device)
        logs = [_log_mixture(points, centres, variance) for centres in (ref, gen)]
        lowest = math.log(5e-324)
        usable = (logs[0] > lowest) & (logs[1] > lowest)
        return torch.where(usable, logs[0] - logs[1], torch.nan).nanmean()

    return per_series(one, generated, reference)


def _log_mixture(points: Tensor, centres: Tensor, variance: float) -> Tensor:
    """ln of the mean of exp(-|x - c|^2 / (2 variance)) over the centres, (S, N), (T, N) -> (S,)."""
    squares = torch.cdist(points, centres).square()
    return torch.logsumexp(squares / (-2 * variance), dim=1) - math.log(len(centres))
