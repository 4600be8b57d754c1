"""Errors scale by scale.

Wavenumbers are integers, in units of the lowest one of the longest side, and modes are gathered in shells
s = floor(|k|). All modes are counted, those with wavenumbers of opposite sign as well, so the shells of an
error add up to its mean square (Parseval). Bounded axes of a grid are continued evenly, which makes them
periodic without a jump.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.metrics.pointwise import checked_mode, checked_pair

SpectralMode = Literal["rms", "jaxcfd"]


def _checked(u: Tensor, grid: Grid | None, owner: str) -> None:
    if u.ndim < 4 or u.ndim > 6:
        raise ValueError(f"{owner} got shape {tuple(u.shape)}; expected (B, T, C, *points) on a grid.")
    if grid is not None and tuple(u.shape[3:]) != grid.shape:
        raise ValueError(f"{owner} got points {tuple(u.shape[3:])} on a grid of {grid.shape}.")


def _periodised(u: Tensor, grid: Grid | None) -> tuple[Tensor, tuple[float, ...]]:
    """u continued evenly along bounded axes, and the lengths of the continued box."""
    if grid is None:
        return u, (1.0,) * (u.ndim - 3)
    lengths = list(grid.lengths)
    for axis, periodic in enumerate(grid.periodic):
        if not periodic:
            d = axis + 3
            n = u.shape[d]
            # Nodes on the walls are not repeated, cells are: either way the mean square is kept.
            mirror = u.narrow(d, 1, n - 2) if grid.centering == "node" else u
            u = torch.cat([u, mirror.flip(d)], dim=d)
            lengths[axis] *= 2
    return u, tuple(lengths)


def _radius(shape: Sequence[int], lengths: Sequence[float], longest: float, device: torch.device) -> Tensor:
    """|k| of the modes of an rfftn, in units of the lowest wavenumber of a side `longest`."""
    lines = []
    for axis, (n, length) in enumerate(zip(shape, lengths, strict=True)):
        frequencies = torch.fft.rfftfreq if axis == len(shape) - 1 else torch.fft.fftfreq
        lines.append(frequencies(n, d=1 / n, dtype=torch.float64) * (longest / length))
    squares = torch.stack([line.square() for line in torch.meshgrid(*lines, indexing="ij")]).sum(0)
    return squares.sqrt().to(device)


def _power(u: Tensor) -> Tensor:
    """|u^|^2 / N^2 of each mode, those of the half that rfftn leaves out added to their partners."""
    modes = torch.fft.rfftn(u, dim=tuple(range(3, u.ndim)), norm="forward")
    # The modulus would take a root only to square it again, three times the work.
    power = modes.real.square()
    power += modes.imag.square()
    n = u.shape[-1]
    power[..., 1 : (n + 1) // 2] *= 2  # all but the mean and, where n is even, the Nyquist mode
    return power


def _gather(power: Tensor, bins: Tensor, count: int) -> Tensor:
    """Sum of the power in each bin, (B, T, C, *modes) -> (B, T, C, count)."""
    rows = power.reshape(-1, bins.numel())
    out = torch.zeros(rows.shape[0], count, dtype=power.dtype, device=power.device)
    return out.index_add(1, bins.flatten(), rows).reshape(*power.shape[:3], count)


@lru_cache(maxsize=16)
def _layout(
    shape: tuple[int, ...], lengths: tuple[float, ...], longest: float, device: torch.device
) -> tuple[Tensor, int, int]:
    """Shell of each mode, the number of shells, and the last shell that every axis resolves."""
    with torch.inference_mode(False):  # what is kept has to serve calls with gradients as well
        radius = _radius(shape, lengths, longest, device)
        # The shift keeps exact integers in their own shell when the sides are not powers of two apart.
        shells = (radius + 1e-9).floor().long()
    resolved = min(n // 2 * longest / length for n, length in zip(shape, lengths, strict=True))
    return shells, int(shells.max()) + 1, max(1, int(resolved + 1e-9))


def _shells(u: Tensor, grid: Grid | None) -> tuple[Tensor, Tensor, int, int]:
    """Power of the modes, their shells, the number of shells, and the last one that every axis resolves."""
    u, lengths = _periodised(u, grid)
    longest = 1.0 if grid is None else max(grid.lengths)
    return _power(u), *_layout(tuple(u.shape[3:]), lengths, longest, u.device)


def resolved_shells(grid: Grid) -> int:
    """The last shell that every axis of the grid resolves; distances compare shells 1 to this one."""
    longest = max(grid.lengths)
    limits = []
    for n, h, length, periodic in zip(grid.shape, grid.spacing, grid.lengths, grid.periodic, strict=True):
        # Continued evenly, a bounded axis has an even number of points; a periodic one may be odd.
        limits.append(n // 2 / length if periodic else 1 / (2 * h))
    return max(1, int(longest * min(limits) + 1e-9))


def spectrum(u: Tensor, grid: Grid | None = None) -> Tensor:
    """Half the mean square of each shell of wavenumbers, (B, T, C, *points) -> (B, T, C, S).

    Shell s holds s <= |k| < s + 1; their sum over s is <u^2>/2 to rounding. The last shells reach into the
    corners of the spectral box and are not full; `grid=None` takes a periodic box with equal sides.
    """
    _checked(u, grid, "spectrum")
    power, shells, count, _ = _shells(u, grid)
    return 0.5 * _gather(power, shells, count)


def energy_spectrum(u: Tensor, grid: Grid | None = None, channels: Sequence[int] | None = None) -> Tensor:
    """Kinetic energy per shell: `spectrum` summed over the velocity channels, -> (B, T, S)."""
    return spectrum(u if channels is None else u[:, :, list(channels)], grid).sum(dim=2)


def _spectra(pred: Tensor, ref: Tensor, grid: Grid | None, owner: str) -> tuple[Tensor, Tensor]:
    """Spectra from shell 1 to the last that every axis resolves."""
    checked_pair(pred, ref, None, owner)
    _checked(pred, grid, owner)
    out = []
    for u in (pred, ref):
        power, shells, count, last = _shells(u, grid)
        out.append(0.5 * _gather(power, shells, count)[..., 1 : last + 1])
    return out[0], out[1]


def log_spectral_distance(pred: Tensor, ref: Tensor, mode: SpectralMode = "rms") -> Tensor:
    """Distance of the logarithms of two spectra over the last axis, (..., S) -> (...).

    "rms" is the root mean square of ln(E_pred) - ln(E_ref), a floor of 1e-12 of the largest reference energy added to
    both. "jaxcfd" is the sum of |ln(E_pred) - ln(E_ref)| where E_ref > 0.01, and of |ln(E_pred)| where only
    E_pred > 0.01: it depends on the unit of the energy (Kochkov et al. 2021, the code of JAX-CFD). Average spectra
    over time first to compare statistics; take them frame by frame to find a blow-up.
    """
    checked_mode(mode, SpectralMode, "log_spectral_distance")
    if mode == "jaxcfd":
        tiny = torch.finfo(ref.dtype).tiny
        log_pred, log_ref = pred.clamp_min(tiny).log(), ref.clamp_min(tiny).log()
        false = (pred > 0.01) & (ref < 0.01)
        terms = torch.where(ref > 0.01, (log_pred - log_ref).abs(), 0.0) + torch.where(
            false, log_pred.abs(), 0.0
        )
        return terms.sum(dim=-1)
    floor = (1e-12 * ref.amax(dim=-1, keepdim=True)).clamp_min(torch.finfo(ref.dtype).tiny)
    return ((pred + floor).log() - (ref + floor).log()).square().mean(dim=-1).sqrt()


def spectral_divergence(pred: Tensor, ref: Tensor) -> Tensor:
    """KL divergence of the normalised spectra, sum q_ref ln(q_ref / q_pred) over the last axis, (..., S) -> (...).

    Blind to the total energy. Infinite where the prediction has none in a shell in which the reference has some.
    """
    tiny = torch.finfo(ref.dtype).tiny
    q = ref / ref.sum(dim=-1, keepdim=True).clamp_min(tiny)
    p = pred / pred.sum(dim=-1, keepdim=True).clamp_min(tiny)
    return torch.where(q > 0, q * (q.clamp_min(tiny).log() - p.log()), 0.0).sum(dim=-1)


def spectral_residual(pred: Tensor, ref: Tensor) -> Tensor:
    """Root mean square difference of two spectra over the last axis, (..., S) -> (...) [unit of the energy]."""
    return (pred - ref).square().mean(dim=-1).sqrt()


def spectral_distance(pred: Tensor, ref: Tensor, grid: Grid | None = None) -> Tensor:
    """Log-spectral distance of the resolved shells, mean excluded, (B, T, C); see `log_spectral_distance`."""
    return log_spectral_distance(*_spectra(pred, ref, grid, "spectral_distance"))


def high_band_gain(pred: Tensor, ref: Tensor, grid: Grid | None = None) -> Tensor:
    """Energy in the upper half of the resolved shells, prediction over reference, (B, T, C).

    Much above one: small scales blow up; much below: they are smoothed away.
    """
    return band_gain(*_spectra(pred, ref, grid, "high_band_gain"))


def band_gain(p: Tensor, r: Tensor) -> Tensor:
    """Energy in the upper half of the last axis, p over r, (..., S) -> (...)."""
    start = max(0, math.ceil(p.shape[-1] / 2) - 1)
    tiny = torch.finfo(r.dtype).tiny
    return p[..., start:].sum(dim=-1) / r[..., start:].sum(dim=-1).clamp_min(tiny)


def frmse(
    pred: Tensor,
    ref: Tensor,
    grid: Grid | None = None,
    bands: Sequence[int] = (4, 12),
    mode: Literal["parseval", "pdebench"] = "parseval",
) -> Tensor:
    """Root mean square error of each band of wavenumbers, low, middle and high by default.

    "parseval" gives (B, T, C, bands) whose squares add up to the square of `rmse`. "pdebench" follows
    published tables (arXiv 2210.07182): samples are averaged inside the root, shells averaged within
    a band, and above one dimension only modes whose wavenumbers are all zero or positive are counted; it
    gives (1, T, C, bands).

    Args:
        pred: prediction.
        ref: reference.
        grid: gives lengths and sides; a periodic unit box where left out.
        bands: first wavenumber of each band but the lowest, increasing; none for a single band.
        mode: the convention.
    """
    if mode not in ("parseval", "pdebench"):
        raise ValueError(f"frmse got mode {mode!r}; expected 'parseval' or 'pdebench'.")
    edges = tuple(int(b) for b in bands)
    if any(b < 1 for b in edges) or list(edges) != sorted(set(edges)):
        raise ValueError(f"frmse got bands {edges}; expected increasing wavenumbers from 1.")
    checked_pair(pred, ref, None, "frmse")
    _checked(pred, grid, "frmse")
    error = pred - ref
    boundaries = torch.tensor(edges, device=pred.device)
    if mode == "parseval":
        power, shells, _, _ = _shells(error, grid)
        return _gather(power, torch.bucketize(shells, boundaries, right=True), len(edges) + 1).sqrt()
    shape = error.shape[3:]
    lengths = (1.0,) * len(shape) if grid is None else grid.lengths
    modes = torch.fft.fftn(error, dim=tuple(range(3, error.ndim))).abs().square()
    for axis, n in enumerate(shape):
        # The one-dimensional table keeps the Nyquist mode, the others do not.
        modes = modes.narrow(axis + 3, 0, n // 2 + 1 if len(shape) == 1 else max(1, n // 2))
    lines = torch.meshgrid(*[torch.arange(n, device=pred.device) for n in modes.shape[3:]], indexing="ij")
    radius = torch.stack(lines).to(torch.float64).square().sum(0).sqrt()
    shells = radius.floor().long()
    if len(shape) > 1:
        inside = shells < min(shape) // 2
        modes, shells = torch.where(inside, modes, 0.0), torch.where(inside, shells, 0)
    count = int(shells.max()) + 1
    power = _gather(modes, shells, count).mean(dim=0, keepdim=True)
    root = power.sqrt() * (math.prod(lengths) / math.prod(shape))
    parts = []
    for low, high in zip((0, *edges), (*edges, count), strict=True):
        if low >= count:
            raise ValueError(f"frmse got bands {edges}, but the data have wavenumbers below {count} only.")
        parts.append(root[..., low : min(high, count)].mean(dim=-1))
    return torch.stack(parts, dim=-1)


def band_mse(pred: Tensor, ref: Tensor, bands: int = 3, normalised: bool = False) -> Tensor:
    """Mean square error of log-spaced bands of wavenumbers, (B, T, C, bands), as The Well reports it.

    Wavenumbers are in radians per sample; the bands divide 2 pi / N_max to pi sqrt(D) evenly in the
    logarithm, and the lowest starts at zero, so the bands add up to the mean square error. `normalised`
    divides by the same of the reference plus 1e-7.
    """
    checked_pair(pred, ref, None, "band_mse")
    _checked(pred, None, "band_mse")
    if bands < 1:
        raise ValueError(f"band_mse got bands={bands}; expected at least 1.")
    shape = pred.shape[3:]
    # A side of n samples has its lowest wavenumber at 2 pi / n radians per sample.
    radius = _radius(shape, tuple(float(n) for n in shape), 2 * math.pi, pred.device)
    low, high = 2 * math.pi / max(shape), math.pi * math.sqrt(len(shape))
    inner = torch.logspace(
        math.log10(low), math.log10(high), bands + 1, dtype=torch.float64, device=pred.device
    )[1:-1]
    bins = torch.bucketize(radius, inner, right=True)
    error = _gather(_power(pred - ref), bins, bands)
    return error / (_gather(_power(ref), bins, bands) + 1e-7) if normalised else error


def fourier_nrmse(
    pred: Tensor, ref: Tensor, low: int = 0, high: int | None = None, threshold: float = 1e-5
) -> Tensor:
    """Relative error of the modes between two wavenumbers, (B, T, C, *points) twice -> (B, T, C).

    APEBench's band error (arXiv 2411.00180), which it sums over channels: modes whose largest wavenumber of any axis
    is at least `low` and at most `high` count. Infinite where the reference has no such mode.

    Args:
        pred: prediction on a periodic box.
        ref: reference.
        low: lowest wavenumber, 0 for the mean.
        high: highest wavenumber; all where left out.
        threshold: coefficients of the unnormalised transform below this are dropped first, as rounding.

    Raises:
        ValueError: the band is empty.
    """
    checked_pair(pred, ref, None, "fourier_nrmse")
    _checked(pred, None, "fourier_nrmse")
    if low < 0 or (high is not None and high < low):
        raise ValueError(f"fourier_nrmse got low={low}, high={high}; expected 0 <= low <= high.")
    inside = band_of_axes(tuple(pred.shape[3:]), low, high, pred.device)
    error, size = (
        torch.where(inside, cut_power(u, threshold), 0.0).flatten(3).sum(dim=3) for u in (pred - ref, ref)
    )
    return error.sqrt() / size.sqrt()


def cut_power(u: Tensor, threshold: float) -> Tensor:
    """`_power` without the coefficients that are below a threshold before normalising."""
    power = _power(u)
    n = u.shape[-1]
    limit = torch.full((power.shape[-1],), 2.0, dtype=power.dtype, device=u.device)
    limit[0] = 1.0
    if n % 2 == 0:
        limit[-1] = 1.0
    limit *= (threshold / math.prod(u.shape[3:])) ** 2
    return torch.where(power < limit, 0.0, power)


def band_of_axes(shape: tuple[int, ...], low: int, high: int | None, device: torch.device) -> Tensor:
    """Modes of an rfftn whose largest wavenumber of any axis lies in [low, high], (*modes) of bool."""
    largest = torch.stack(wavenumbers(shape, device)).amax(dim=0)
    inside = largest >= low
    return inside if high is None else inside & (largest <= high)


def wavenumbers(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, ...]:
    """|k| per axis of the modes of an rfftn, whole numbers as float64, D tensors (*modes)."""
    lines = []
    for axis, n in enumerate(shape):
        frequencies = torch.fft.rfftfreq if axis == len(shape) - 1 else torch.fft.fftfreq
        lines.append(frequencies(n, d=1 / n, dtype=torch.float64, device=device).abs())
    return torch.meshgrid(*lines, indexing="ij")
