"""Conservation of uncertain fields: a Gaussian belief, and what it becomes once linear sums of it are known.

Hansen, Maddix, Alizadeh, Gupta and Mahoney, Learning physical models that can respect conservation laws, ICML 2023
(arXiv 2302.11002). A deterministic state is corrected alike everywhere, which is the belief with one variance; a belief that
knows where it is unsure, such as at a front, moves most there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.jacobian import dense_jacobian

# Share of its variance, in units of the prior's rounding, below which a sum counts as known already.
_ROUNDING = 1e3


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of n numbers, of any batch shape.

    The covariance is diag(spread) + added added^T - removed removed^T: a diagonal, what correlates the numbers, and
    what observations have taken away. Whoever builds one sees to it that what is removed is no more than what is there;
    `condition` does.

    Args:
        mean: (..., n) [unit of u].
        spread: (..., n), the diagonal part of the covariance, not negative [unit of u, squared].
        added: (..., n, a), or None.
        removed: (..., n, r), or None.
    """

    mean: Tensor
    spread: Tensor
    added: Tensor | None = None
    removed: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.mean.shape)
        if not shape or tuple(self.spread.shape) != shape:
            raise ValueError(
                f"Gaussian got a mean of shape {shape} and a spread of {tuple(self.spread.shape)}; expected (..., n) twice."
            )
        for name, factor in (("added", self.added), ("removed", self.removed)):
            if factor is not None and tuple(factor.shape[:-1]) != shape:
                raise ValueError(
                    f"Gaussian got {name} of shape {tuple(factor.shape)}; expected {(*shape, '...')}: a factor of the "
                    "covariance has a row for each number."
                )

    @classmethod
    def dense(cls, mean: Tensor, covariance: Tensor, jitter: float = 0.0) -> Gaussian:
        """From a covariance (..., n, n), symmetric and positive definite once `jitter` is added to its diagonal.

        Raises:
            ValueError: it is not.
        """
        n = mean.shape[-1]
        if tuple(covariance.shape) != (*mean.shape, n):
            raise ValueError(
                f"Gaussian.dense got a mean of shape {tuple(mean.shape)} and a covariance of {tuple(covariance.shape)}; "
                f"expected {(*mean.shape, n)}."
            )
        eye = torch.eye(n, dtype=covariance.dtype, device=covariance.device)
        factor, info = torch.linalg.cholesky_ex(covariance + jitter * eye)
        if bool((info != 0).any()):
            raise ValueError(
                "Gaussian.dense got a covariance that is not positive definite; give it a jitter, such as 1e-8 of its "
                "largest entry."
            )
        return cls(mean, torch.zeros_like(mean), factor)

    def times(self, x: Tensor) -> Tensor:
        """The covariance times columns x (..., n, q)."""
        out = self.spread.unsqueeze(-1) * x
        if self.added is not None:
            out = out + self.added @ (self.added.mT @ x)
        if self.removed is not None:
            out = out - self.removed @ (self.removed.mT @ x)
        return out

    @property
    def variance(self) -> Tensor:
        """Of each number, (..., n); rounding below zero is cut off."""
        found = self.spread
        if self.added is not None:
            found = found + self.added.square().sum(dim=-1)
        if self.removed is not None:
            found = found - self.removed.square().sum(dim=-1)
        return found.clamp(min=0.0)

    @property
    def covariance(self) -> Tensor:
        """The whole of it, (..., n, n)."""
        n = self.mean.shape[-1]
        return self.times(torch.eye(n, dtype=self.mean.dtype, device=self.mean.device))

    def sample(self, count: int, generator: torch.Generator | None = None, jitter: float = 1e-8) -> Tensor:
        """Draws, (count, ..., n). What observations have fixed stays fixed but for `jitter`, relative to the largest
        variance, which is added to the diagonal in double precision because what is certain has no Cholesky factor."""
        covariance = self.covariance.to(torch.float64)
        largest = covariance.diagonal(dim1=-2, dim2=-1).amax(dim=-1, keepdim=True)
        diagonal = torch.diag_embed((jitter * largest).clamp(min=1e-300).expand(self.mean.shape))
        factor = torch.linalg.cholesky(covariance + diagonal)
        noise = torch.randn(
            (count, *self.mean.shape), dtype=torch.float64, device=self.mean.device, generator=generator
        )
        # All draws as columns, since a factor for each draw would fill the memory.
        drawn = self.mean.to(torch.float64) + (factor @ noise.movedim(0, -1)).movedim(-1, 0)
        return drawn.to(self.mean.dtype)


def trapezoid(x: Tensor) -> Tensor:
    """Weights (n,) of the trapezoidal rule on points x (n,), ascending, whose sum with values is an integral.

    Raises:
        ValueError: fewer than two points, or points that do not ascend.
    """
    if x.ndim != 1 or len(x) < 2 or not bool((x.diff() > 0).all()):
        raise ValueError(
            f"trapezoid got points of shape {tuple(x.shape)}; expected at least two, ascending."
        )
    gaps = x.diff()
    return 0.5 * (torch.cat((gaps, gaps.new_zeros(1))) + torch.cat((gaps.new_zeros(1), gaps)))


def moments(x: Tensor, count: int = 2) -> Tensor:
    """Rows (count, n) of the integrals of u, x u, x^2 u, ... by the trapezoidal rule on points x (n,), ascending."""
    if count < 1:
        raise ValueError(f"moments got count={count}; expected at least 1.")
    return torch.stack([trapezoid(x) * x**k for k in range(count)])


def parts(x: Tensor, edges: Sequence[int]) -> Tensor:
    """Rows (len(edges) - 1, n) of the integrals between points number edges[0], edges[1], ... of x (n,), ascending.

    Balances of subdomains: of the points between two parts each gets half.

    Raises:
        ValueError: fewer than two edges, or edges that do not ascend or are no points.
    """
    n = len(x)
    known = list(edges)
    if len(known) < 2 or known != sorted(set(known)) or known[0] < 0 or known[-1] >= n:
        raise ValueError(
            f"parts got edges {known} for {n} points; expected at least two, ascending from 0 to {n - 1} at most."
        )
    rows = x.new_zeros(len(known) - 1, n)
    for row, a, b in zip(rows, known, known[1:], strict=False):
        row[a : b + 1] = trapezoid(x[a : b + 1])
    return rows


def condition(prior: Gaussian, rows: Tensor, values: Tensor, noise: Tensor | float = 0.0) -> Gaussian:
    """What a belief becomes once sums of its numbers are known.

    mean - Sigma G^T S^-1 (G mean - b) and Sigma - Sigma G^T S^-1 G Sigma with S = G Sigma G^T + noise: Hansen et al.
    (2023), equations 7 and 8. Without noise the sums hold to rounding afterwards, the mean is the projection that is
    nearest in the metric of Sigma^-1, and conditioning again on the same sums changes nothing. In double precision
    within, in the prior's outside.

    Args:
        prior: the belief of (..., n) numbers.
        rows: G, (q, n) or (..., q, n): quadrature weights of an integral, or any linear sums.
        values: b, (q,) or (..., q).
        noise: variance of what the sums leave out, such as the error of the quadrature: a number, (q,) or (..., q).

    Raises:
        ValueError: shapes do not fit; noise is negative; rows are combinations of others, without noise; or a sum that
            the prior is certain of is said to be another: the row is named.
    """
    n = prior.mean.shape[-1]
    if rows.ndim < 2 or rows.shape[-1] != n or values.shape[-1:] != rows.shape[-2:-1]:
        raise ValueError(
            f"condition got rows of shape {tuple(rows.shape)} and values of {tuple(values.shape)} for a belief of {n} "
            f"numbers; expected (..., q, {n}) and (..., q)."
        )
    double = torch.float64
    g, b = rows.to(double), values.to(double)
    wide = _double(prior)
    extra = torch.as_tensor(noise, dtype=double, device=g.device)
    if bool((extra < 0).any()):
        raise ValueError(
            f"condition got a noise of {float(extra.min()):g}; expected a variance, zero or more."
        )
    reach = wide.times(g.mT)  # Sigma G^T, (..., n, q)
    own = g @ reach
    own, extra = torch.broadcast_tensors(own, torch.diag_embed(extra.expand(own.shape[:-1])))
    sums = own + extra
    miss = (g @ wide.mean.unsqueeze(-1)).squeeze(-1) - b
    known = _known(wide, g, sums, prior.mean.dtype)
    _refuse_contradictions(known, miss, g, wide.mean, b, prior.mean.dtype)
    # Each row is scaled by its own deviation, since rows may come in unlike units; what is known already moves nothing.
    scale = torch.where(known, torch.inf, sums.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt())
    shaped = sums / (scale.unsqueeze(-1) * scale.unsqueeze(-2)) + torch.diag_embed(known.to(double))
    factor, info = torch.linalg.cholesky_ex(shaped)
    _refuse_dependent(factor.detach(), info, prior.mean.dtype)
    # C^-1 G Sigma, and how far the sums are off in the same measure
    gain = torch.linalg.solve_triangular(factor, (reach / scale.unsqueeze(-2)).mT, upper=False)
    miss = torch.linalg.solve_triangular(factor, (miss / scale).unsqueeze(-1), upper=False)
    mean = wide.mean - (gain.mT @ miss).squeeze(-1)
    taken = gain.mT.expand(*mean.shape, gain.shape[-2])
    removed = (
        taken if wide.removed is None else torch.cat((wide.removed.expand(*mean.shape, -1), taken), -1)
    )
    dtype = prior.mean.dtype
    return Gaussian(
        mean.to(dtype),
        wide.spread.expand_as(mean).to(dtype),
        None if wide.added is None else wide.added.expand(*mean.shape, -1).to(dtype),
        removed.to(dtype),
    )


def project_mean(prior: Gaussian, rows: Tensor, values: Tensor) -> Gaussian:
    """The belief with its mean moved to the nearest one whose sums are `values`, all numbers alike, its covariance kept.

    The deterministic projection beside which `condition` is compared (HardC of Hansen et al., 2023). Arguments and
    errors are those of `condition`.
    """
    even = condition(Gaussian(prior.mean, torch.ones_like(prior.mean)), rows, values)
    return Gaussian(even.mean, prior.spread, prior.added, prior.removed)


def through(
    prior: Gaussian,
    step: Callable[[Tensor], Tensor],
    shape: Sequence[int] | None = None,
    noise: Tensor | float = 0.0,
) -> Gaussian:
    """What a map makes of a belief, to first order: mean F(mean) and covariance J Sigma J^T + noise, J = F'(mean).

    F is a step, or a projection that is not linear, `lambda u: constraint.project(u, previous=before)`: what a
    constraint holds has no variance left afterwards in the directions of its gradients. Exact for affine maps; for others
    wrong by as much as they bend within a deviation. n products with J: for hundreds of numbers, not for millions.

    Utkarsh et al., End-to-end probabilistic framework for learning with hard constraints (arXiv 2506.07003).

    Args:
        prior: the belief of (..., n) numbers.
        step: (B, *shape) -> (B, *shape), each sample by itself.
        shape: of a state, such as (C, *points), with n numbers; (n,) where left out.
        noise: variances that the step adds, a number or (..., n), such as those that a model states of its own.

    Raises:
        ValueError: the shape does not have n numbers, noise is negative, or the map changes the shape.
    """
    batch, n = prior.mean.shape[:-1], prior.mean.shape[-1]
    shape = (n,) if shape is None else tuple(shape)
    if math.prod(shape) != n:
        raise ValueError(
            f"through got the shape {tuple(shape)} for a belief of {n} numbers; expected {n} in all."
        )
    extra = torch.as_tensor(noise, dtype=prior.mean.dtype, device=prior.mean.device)
    if bool((extra < 0).any()):
        raise ValueError(
            f"through got a noise of {float(extra.min()):g}; expected variances, zero or more."
        )
    states = prior.mean.reshape(-1, *shape)
    mean = step(states).reshape(*batch, n)
    slope = dense_jacobian(step, states).reshape(*batch, n, n)
    added = slope * prior.spread.clamp(min=0.0).sqrt().unsqueeze(-2)
    if prior.added is not None:
        added = _narrow(torch.cat((added, slope @ prior.added), dim=-1))
    removed = None if prior.removed is None else _narrow(slope @ prior.removed)
    return Gaussian(mean, extra.expand_as(mean), added, removed)


def forecast(
    step: Callable[[Gaussian], Gaussian],
    start: Gaussian,
    rows: Tensor,
    values: Tensor,
    noise: Tensor | float = 0.0,
) -> list[Gaussian]:
    """Beliefs after each step of a rollout, each told its sums before the next step: `condition` in time.

    Args:
        step: from a belief to the next, such as a model that states means and variances, or `through` of one that is
            deterministic.
        start: the belief that the first step acts on.
        rows: G (q, n), such as `moments` or `parts`.
        values: b after each step, (steps, q) or (steps, ..., q). They follow from a model of the fluxes, as in
            b_new = b + dt (inflow - outflow); taken from the prediction they would say nothing.
        noise: as in `condition`.

    Raises:
        ValueError: as in `condition`.
    """
    beliefs = []
    for known in values:
        start = condition(step(start), rows, known, noise)
        beliefs.append(start)
    return beliefs


def smooth(prior: Gaussian, correlation: float = 0.9) -> Gaussian:
    """The belief of a field on points in a row that knows of neighbours being alike.

    Conditions on second differences being zero, each with the variance that it has where neighbours of the predicted
    variances have `correlation`: independent numbers take a correction on few points, which leaves spikes. (..., n)
    numbers, at least three. The covariance afterwards is dense; the cost is that of a factorisation of n x n.

    Hansen et al. (2023), section 3.3.
    """
    if not 0 <= correlation < 1:
        raise ValueError(f"smooth got correlation={correlation}; expected 0 or more, below 1.")
    n = prior.mean.shape[-1]
    if n < 3:
        raise ValueError(f"smooth got a belief of {n} numbers; expected at least three in a row.")
    variance, a = prior.variance.to(torch.float64), correlation
    sd = variance.sqrt()
    before, here, after = sd[..., :-2], sd[..., 1:-1], sd[..., 2:]
    noise = (
        variance[..., :-2] + 4 * variance[..., 1:-1] + variance[..., 2:]
        - 4 * a * here * (before + after)
        + 2 * a**2 * before * after
    )  # fmt: skip
    rows = torch.zeros(n - 2, n, dtype=torch.float64, device=prior.mean.device)
    place = torch.arange(n - 2, device=prior.mean.device)
    for offset, weight in enumerate((1.0, -2.0, 1.0)):
        rows[place, place + offset] = weight
    return condition(prior, rows, torch.zeros_like(noise), noise.clamp(min=0.0))


def mixture(parts: Gaussian) -> Gaussian:
    """The normal distribution with the mean and variances of an even mixture, over the first axis (M, ..., n).

    Sums that all parts share are those of the mixture's mean; of the covariance only the diagonal is kept.
    """
    return Gaussian(
        parts.mean.mean(dim=0), parts.variance.mean(dim=0) + parts.mean.var(dim=0, unbiased=False)
    )


def conditional_log_density(prior: Gaussian, u: Tensor, rows: Tensor, noise: Tensor | float) -> Tensor:
    """Log density of u (..., n), given that its own sums are known up to `noise`, (...,).

    What a base model is trained on if it is to predict well once its sums are imposed: log p(u) + log p(G u | u) - log
    p(G u), by Bayes' rule. The prior has independent numbers; `noise` is positive. Hansen et al. (2023), appendix.

    Raises:
        ValueError: the prior correlates its numbers, or noise is not positive.
    """
    if prior.added is not None or prior.removed is not None:
        raise ValueError("conditional_log_density expects a prior of independent numbers.")
    extra = torch.as_tensor(noise, dtype=torch.float64, device=rows.device)
    if bool((extra <= 0).any()):
        raise ValueError(
            f"conditional_log_density got a noise of {float(extra.min()):g}; expected more than zero."
        )
    wide, g, x = _double(prior), rows.to(torch.float64), u.to(torch.float64)
    own = _normal(x - wide.mean, wide.spread).sum(dim=-1)
    own_sums = g @ wide.times(g.mT)
    extra = extra.expand(own_sums.shape[:-1])
    given = _normal(torch.zeros_like(extra), extra).sum(dim=-1)
    factor = torch.linalg.cholesky(own_sums + torch.diag_embed(extra))
    miss = (g @ (x - wide.mean).unsqueeze(-1)).squeeze(-1)
    white = torch.linalg.solve_triangular(factor, miss.unsqueeze(-1), upper=False).squeeze(-1)
    sums = -0.5 * (white.square() + math.log(2 * math.pi)).sum(dim=-1) - factor.diagonal(
        dim1=-2, dim2=-1
    ).log().sum(dim=-1)
    return (own + given - sums).to(prior.mean.dtype)


def _narrow(factor: Tensor) -> Tensor:
    """A factor (..., n, k) of the same matrix with at most n columns."""
    n, k = factor.shape[-2:]
    narrow: Tensor = factor if k <= n else torch.linalg.qr(factor.mT, mode="r").R.mT
    return narrow


def _normal(miss: Tensor, variance: Tensor) -> Tensor:
    """Log density of each number."""
    return -0.5 * (miss.square() / variance + variance.log() + math.log(2 * math.pi))


def _double(prior: Gaussian) -> Gaussian:
    return Gaussian(
        prior.mean.to(torch.float64),
        prior.spread.to(torch.float64),
        None if prior.added is None else prior.added.to(torch.float64),
        None if prior.removed is None else prior.removed.to(torch.float64),
    )


def _known(wide: Gaussian, g: Tensor, sums: Tensor, dtype: torch.dtype) -> Tensor:
    """Which sums have no variance left beside what they had before observations took it, (..., q) of bools."""
    with torch.no_grad():
        before = Gaussian(wide.mean, wide.spread, wide.added)
        had = (g.mT * before.times(g.mT)).sum(dim=-2)
        return sums.diagonal(dim1=-2, dim2=-1) <= _ROUNDING * torch.finfo(dtype).eps * had


def _refuse_contradictions(
    known: Tensor, miss: Tensor, g: Tensor, mean: Tensor, b: Tensor, dtype: torch.dtype
) -> None:
    """Refuse other values of sums that are known already."""
    with torch.no_grad():
        size = (g.abs() @ mean.abs().unsqueeze(-1)).squeeze(-1) + b.abs()
        against = known & (miss.abs() > _ROUNDING * torch.finfo(dtype).eps * size)
        if bool(against.any()):
            row = int(against.reshape(-1, against.shape[-1]).any(dim=0).nonzero()[0])
            off = float(miss[..., row][against[..., row]].abs().max())
            raise ValueError(
                f"condition got for row {row} a value that is off by {off:.3g} from what the belief is certain of; nothing "
                "can move that sum. Leave the row out, give it noise, or widen the belief."
            )


def _refuse_dependent(factor: Tensor, info: Tensor, dtype: torch.dtype) -> None:
    """Refuse rows that are combinations of those before them."""
    pivots = factor.diagonal(dim1=-2, dim2=-1).square()
    failed, small = info.flatten(), pivots <= _ROUNDING * torch.finfo(dtype).eps
    if bool((failed != 0).any()):
        row = int(failed[failed != 0][0]) - 1
    elif bool(small.any()):
        row = int(small.reshape(-1, small.shape[-1]).any(dim=0).nonzero()[0])
    else:
        return
    raise ValueError(
        f"condition got row {row} as a combination of the rows before it, so that its value is given already, or "
        "contradicted. Leave it out, or give the rows noise."
    )
