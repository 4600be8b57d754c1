"""Affine rows A u = b, and the nearest state that meets them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.constraints.base import Constraint, Context, Exact, named
from sciml.linear import conjugate_gradient, implicit_solve

Dependent = Literal["refuse", "drop"]

# Squared sine of the angle to the span of the other rows at which a row counts as depending on them.
DEPENDENT = 1e-12
# Rows up to which A W^-1 A' becomes a matrix.
DENSE = 1024
# Numbers in a block of rows while that matrix is filled.
BLOCK = 2**22
# Of conjugate gradients where it does not.
TOLERANCE = 1e-11
ITERATIONS = 1000


class Linear(Constraint):
    """A constraint that is rows A u = b, which `Stack` and `Chain` project together with those of others."""

    disjoint: bool = False
    """Whether no two rows share an unknown, so that A W^-1 A' is diagonal."""

    nearest: bool = True
    """Whether `project` gives the nearest state, and rows of others may join."""

    scales: tuple[float, ...] | None = None
    """Typical size of each channel of the state, None where the rows do not care [unit of u]."""

    @property
    @abstractmethod
    def points(self) -> tuple[int, ...]:
        """Shape of the points."""

    @property
    @abstractmethod
    def volumes(self) -> Tensor | None:
        """Shares of the points in the volume (*points), None where the rows do not care."""

    @abstractmethod
    def count(self, channels: int) -> int:
        """Number q of rows for states of so many channels."""

    @abstractmethod
    def multiply(self, u: Tensor) -> Tensor:
        """A u, (B, C, *points) -> (B, q) in float64."""

    @abstractmethod
    def transpose(self, y: Tensor, channels: int) -> Tensor:
        """A' y, (B, q) in float64 -> (B, C, *points)."""

    @abstractmethod
    def squares(self, diagonal: Tensor) -> Tensor | None:
        """Diagonal of A D A' for a diagonal D (C, *points), (q,); None where it is not known."""

    @abstractmethod
    def target(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        """b, (B, q) in float64, for the state u that is to be corrected."""

    @abstractmethod
    def row_name(self, row: int, channels: int) -> str:
        """A row in words, for messages."""

    def constants(self, channels: int) -> Tensor | None:
        """b (q,) where it is the same for all states."""
        return None

    def fixed(self, channels: int) -> Tensor | None:
        """Where the rows are single unknowns, which these are, (C, *points); `project` writes b there."""
        return None

    @property
    def nonexpansive(self) -> bool:
        return self.nearest

    def residual(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        """A u - b, (B, q) in float64."""
        return self.multiply(u.to(torch.float64)) - self.target(u, previous, context)

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest |A u - b|, (B,) [unit of the rows]."""
        return self.residual(u, previous, context).abs().amax(dim=1)


class Rows:
    """The rows of several constraints, one below the other.

    Args:
        members: the constraints.
        channels: of the states.
        within: a constraint with `orthogonal` volumes that states meet already and corrections may not break.
    """

    def __init__(self, members: Sequence[Linear], channels: int, within: Constraint | None = None) -> None:
        self.members = tuple(members)
        self.channels = channels
        self.within = within
        self.counts = [m.count(channels) for m in self.members]
        self.total = sum(self.counts)
        self.disjoint = len(self.members) == 1 and self.members[0].disjoint and within is None

    def multiply(self, u: Tensor) -> Tensor:
        return torch.cat([m.multiply(u) for m in self.members], dim=1)

    def transpose(self, y: Tensor) -> Tensor:
        parts = y.split(self.counts, dim=1)
        total = self.members[0].transpose(parts[0], self.channels)
        for member, part in zip(self.members[1:], parts[1:], strict=True):
            total = total + member.transpose(part, self.channels)
        return total

    def lift(self, inverse: Tensor, y: Tensor) -> Tensor:
        """W^-1 A' y, (B, q) -> (B, C, *points), without what would leave the set that states stay in."""
        v = inverse * self.transpose(y)
        if self.within is None:
            return v
        # The set is affine: what its projection does to a change is what it does beside zero.
        return self.within.project(v) - self.within.project(torch.zeros_like(v[:1]))

    def target(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        return torch.cat([m.target(u, previous, context) for m in self.members], dim=1)

    def squares(self, diagonal: Tensor) -> Tensor | None:
        parts = [m.squares(diagonal) for m in self.members]
        known = [p for p in parts if p is not None]
        return torch.cat(known) if len(known) == len(parts) else None

    def constants(self, like: Tensor) -> Tensor:
        """b (q,), not a number where it depends on the state."""
        parts = []
        for member, count in zip(self.members, self.counts, strict=True):
            known = member.constants(self.channels)
            parts.append(like.new_full((count,), math.nan) if known is None else known.to(like.device))
        return torch.cat(parts)

    def names(self, rows: Tensor) -> str:
        """The rows of these numbers in words."""
        words = []
        for row in rows.tolist():
            for member, count in zip(self.members, self.counts, strict=True):
                if row < count:
                    words.append(member.row_name(row, self.channels))
                    break
                row -= count
        return named(words)


class _Factor(Exact):
    """What a projection keeps: W^-1, an inverse of A W^-1 A', and the combinations of rows that vanish."""

    inverse: Tensor
    metric: Tensor
    norms: Tensor
    size: Tensor
    null: Tensor
    gram: Tensor | None

    def __init__(self, inverse: Tensor, metric: Tensor, norms: Tensor) -> None:
        super().__init__()
        self.register_buffer("inverse", inverse, persistent=False)
        self.register_buffer("metric", metric, persistent=False)
        self.register_buffer("norms", norms, persistent=False)
        self.register_buffer("size", norms.new_ones(()), persistent=False)
        self.register_buffer("null", norms.new_zeros(0, len(norms)), persistent=False)
        self.register_buffer("gram", None, persistent=False)
        self.sweeps = 2

    @property
    def vanishing(self) -> bool:
        """Whether rows depend on each other."""
        return len(self.null) > 0

    def span(self, z: Tensor, right: Tensor) -> Tensor:
        """What A z and b may be at most, for rows of length one, (B,)."""
        length = (z.square() * self.metric).flatten(1).sum(dim=1).sqrt()
        return self.size * length + (right / self.norms).norm(dim=1)

    def solve(self, rows: Rows, excess: Tensor) -> Tensor:
        """(A W^-1 A')^-1 excess, (B, q) -> (B, q)."""
        if self.gram is None:
            return _iterate(rows, self.inverse, self.norms, excess)
        if self.gram.ndim == 1:
            return excess * self.gram
        return excess @ self.gram


class Projection(nn.Module):
    """The state nearest to z in the metric W among those with A u = b.

        u = z - W^-1 A' (A W^-1 A')^-1 (A z - b),    W = diag(V_i / scale_c^2)

    everything in float64 whatever the dtype of z, which u keeps. One more sweep of the formula takes away what the
    rounding of the first has left. A W^-1 A' is factored once for each number of channels: divided where no two
    rows share an unknown, inverted by its eigenvectors up to 1,024 rows, and beyond these solved by conjugate
    gradients with products of A and A' alone, and gradients by the same solve.

    Args:
        owner: for messages.
        dependent: rows that depend on each other are refused, or dropped where their right-hand sides agree.
        scales: typical size of each channel of the state, which balances channels of unlike units.

    Raises:
        ValueError: when rows are factored, they depend on each other or have no unknown left; when a state is
            projected outside torch.compile, right-hand sides contradict each other. The rows are named.
    """

    def __init__(
        self, owner: str, dependent: Dependent = "refuse", scales: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if dependent not in get_args(Dependent):
            raise ValueError(
                f"{owner} got dependent={dependent!r}; expected one of {list(get_args(Dependent))}."
            )
        self.owner = owner
        self.dependent = dependent
        self.scales = checked_scales(scales, owner)
        self.factors = nn.ModuleDict()

    def factor(self, rows: Rows, fixed: Tensor | None = None) -> _Factor:
        """What is kept of rows for states of their number of channels, made at the first call.

        Args:
            rows: A.
            fixed: unknowns that take no part, (C, *points).
        """
        key = str(rows.channels)
        if key not in self.factors:
            self._make(key, rows, fixed)
        found = self.factors[key]
        assert isinstance(found, _Factor)
        return found

    def forward(self, rows: Rows, factor: _Factor, u: Tensor, right: Tensor) -> Tensor:
        """The projected state, (B, C, *points) with right-hand sides (B, q) -> (B, C, *points)."""
        z = u.to(torch.float64)
        excess = rows.multiply(z) - right
        eager = not torch.compiler.is_compiling()
        if eager and factor.vanishing:
            self._check(rows, factor, z, right, excess, torch.finfo(u.dtype).eps)
        z = z - rows.lift(factor.inverse, factor.solve(rows, excess))
        if eager and factor.gram is None:
            self._check_met(rows, factor, z, right, excess)
        # In single precision the rounding of the result hides what a last sweep would take away.
        for _ in range(factor.sweeps - (1 if u.dtype == torch.float64 else 2)):
            again = factor.solve(rows, rows.multiply(z) - right)
            z = z - rows.lift(factor.inverse, again).detach()
        return z.to(u.dtype)

    @torch.compiler.disable
    @torch.no_grad()
    def _make(self, key: str, rows: Rows, fixed: Tensor | None) -> None:
        metric = self._metric(rows)
        whole = 1 / metric
        inverse = whole if fixed is None else torch.where(fixed, 0.0, whole)
        lengths = rows.squares(whole)
        free = rows.squares(inverse) if rows.within is None else None
        ones = whole.new_ones(rows.total)
        norms = ones if lengths is None else torch.where(lengths > 0, lengths, 1.0).sqrt()
        factor = _Factor(inverse, metric, norms)
        empty = torch.zeros_like(ones, dtype=torch.bool)
        if free is not None:
            empty = free <= DEPENDENT * norms.square()
        if rows.disjoint and free is not None:
            factor.gram = torch.where(empty, 0.0, 1 / torch.where(empty, 1.0, free))
            factor.null = torch.eye(rows.total, dtype=norms.dtype, device=norms.device)[empty]
        elif rows.total <= DENSE:
            gram = _gram(rows, inverse, norms)
            values, vectors = torch.linalg.eigh(gram)
            factor.size = values[-1].clamp_min(0.0).sqrt()
            kept = values > DEPENDENT * values[-1]
            if bool(kept.any()):
                condition = float(values[-1] / values[kept][0])
                # Rounding times the condition number is what a sweep leaves of the excess.
                factor.sweeps = max(2, math.ceil(14 / (15.6 - math.log10(condition))))
            scaled = vectors[:, kept] / norms.unsqueeze(1)
            factor.gram = (scaled / values[kept]) @ scaled.T
            factor.null = _reduced(vectors[:, ~kept].T)
        else:
            factor.size, factor.null = _probe(rows, inverse, norms)
        self._refuse(rows, factor, fixed)
        self.factors[key] = factor

    def _metric(self, rows: Rows) -> Tensor:
        """W, (C, *points)."""
        members = rows.members
        points = members[0].points
        odd = next((m for m in members if m.points != points), None)
        if odd is not None:
            raise ValueError(
                f"{self.owner} got constraints on points {points} and {odd.points}; expected the same points for all."
            )
        surface = None if rows.within is None else rows.within.orthogonal()
        known = [v for v in (surface, *(m.volumes for m in members)) if v is not None]
        device = next((b.device for m in members for b in m.buffers()), torch.device("cpu"))
        known = [(v / v.sum()).to(device) for v in known]
        volumes = known[0] if known else torch.ones(points, dtype=torch.float64, device=device)
        for other in known[1:]:
            same = other.shape == volumes.shape and torch.allclose(other, volumes, rtol=1e-10, atol=0.0)
            if not same:
                if other.shape != volumes.shape:
                    raise ValueError(
                        f"{self.owner} got constraints on points {tuple(volumes.shape)} and {tuple(other.shape)}; "
                        "expected the same points for all."
                    )
                where = (other - volumes).abs().argmax()
                raise ValueError(
                    f"{self.owner} got constraints that give point {int(where)} different volumes; expected the same "
                    "for all."
                )
        scales = self.scales
        for found in (m.scales for m in members):
            if found is not None and scales is not None and found != scales:
                raise ValueError(
                    f"{self.owner} got scales {scales} and a member with {found}; expected the same for all."
                )
            scales = scales or found
        if scales is not None and len(scales) != rows.channels:
            raise ValueError(
                f"{self.owner} got {len(scales)} scales for states of {rows.channels} channels; expected one for each."
            )
        if rows.within is not None and scales is not None and len(set(scales)) > 1:
            raise ValueError(
                f"{self.owner} got scales {scales} beside a {type(rows.within).__name__}, which is nearest with one for "
                "all; leave them out."
            )
        metric = volumes.expand(rows.channels, *points).clone()
        if scales is not None:
            squares = torch.tensor(scales, dtype=torch.float64, device=metric.device).square()
            metric = metric / squares.reshape(-1, *[1] * len(points))
        return metric

    def _refuse(self, rows: Rows, factor: _Factor, fixed: Tensor | None) -> None:
        """Say which rows depend on each other."""
        if not factor.vanishing:
            return
        used = factor.null.abs() > 1e-6 * factor.null.abs().amax(dim=1, keepdim=True)
        single = used.sum(dim=1) == 1
        shares = torch.where(used, factor.null, 0.0)
        constants = torch.where(used, rows.constants(factor.norms) / factor.norms, 0.0)
        # What is not a number is greater than nothing: right-hand sides that are not constant are judged later, and
        # so are those beside values that are held.
        wrong = (shares * constants).sum(dim=1).abs() > 1e-9 * (shares * constants).abs().sum(dim=1)
        wrong = wrong & ~single & (fixed is None)
        if self.dependent == "drop" and not bool(wrong.any()):
            return
        told = []
        if bool(single.any()):
            rows_of = used[single].any(dim=0).nonzero().flatten()
            told.append(
                f"{int(single.sum())} have no unknown that is free, since they are zero or all their unknowns are "
                f"fixed: {rows.names(rows_of)}"
            )
        order = sorted(range(len(used)), key=lambda i: not bool(wrong[i]))
        several = [i for i in order if not bool(single[i])]
        for i in several[:3]:
            verdict = ", and contradict each other" if bool(wrong[i]) else ""
            told.append(f"dependent on each other{verdict}: {rows.names(used[i].nonzero().flatten())}")
        if len(several) > 3:
            told.append(f"{len(several) - 3} further groups")
        remedy = (
            "No state meets them all; change the right-hand sides."
            if bool(wrong.any())
            else "Leave out what follows from the others, or say dependent='drop'."
        )
        raise ValueError(
            f"{self.owner} got {rows.total} rows that are not independent: {'; '.join(told)}. {remedy}"
        )

    @torch.no_grad()
    def _check(
        self, rows: Rows, factor: _Factor, z: Tensor, right: Tensor, excess: Tensor, rounding: float
    ) -> None:
        """Refuse right-hand sides that dependent rows cannot all meet."""
        left = ((excess / factor.norms) @ factor.null.T).abs() / factor.null.norm(dim=1)
        bad = left > max(1e-10, 100 * rounding) * factor.span(z, right).unsqueeze(1)
        if bool(bad.any()):
            sample, group = bad.nonzero()[0].tolist()
            share = factor.null[group].abs()
            raise ValueError(
                f"{self.owner} got right-hand sides that contradict each other by {float(left[sample, group]):.3g} in "
                f"sample {sample}: {rows.names((share > 1e-6 * share.amax()).nonzero().flatten())}. No state meets "
                "them all."
            )

    @torch.no_grad()
    def _check_met(self, rows: Rows, factor: _Factor, z: Tensor, right: Tensor, excess: Tensor) -> None:
        """Refuse what conjugate gradients have not solved; states that are not finite pass."""
        left = ((rows.multiply(z) - right) / factor.norms).abs()
        allowed = 1e-8 * (excess / factor.norms).norm(dim=1) + 1e-10 * factor.span(z, right)
        bad = left.norm(dim=1) > allowed
        if bool(bad.any()):
            sample = int(bad.nonzero()[0])
            worst = left[sample].argsort(descending=True)[:6]
            raise ValueError(
                f"{self.owner} could not meet its {rows.total} rows in sample {sample}; those left farthest off are "
                f"{rows.names(worst)}. Either they contradict each other, or they are so nearly dependent that "
                "conjugate gradients do not converge."
            )


def checked_scales(scales: Sequence[float] | None, owner: str) -> tuple[float, ...] | None:
    """Typical sizes of the channels as a tuple.

    Raises:
        ValueError: one is not positive and finite.
    """
    if scales is None:
        return None
    found = tuple(float(s) for s in scales)
    if not found or not all(math.isfinite(s) and s > 0 for s in found):
        raise ValueError(
            f"{owner} got scales {found}; expected positive numbers, one per channel of the state."
        )
    return found


def _product(rows: Rows, inverse: Tensor, norms: Tensor, y: Tensor) -> Tensor:
    """A W^-1 A' y for rows of length one, (B, q) -> (B, q)."""
    return rows.multiply(rows.lift(inverse, y / norms)) / norms


def _gram(rows: Rows, inverse: Tensor, norms: Tensor) -> Tensor:
    """A W^-1 A' for rows of length one, (q, q)."""
    unit = torch.eye(rows.total, dtype=torch.float64, device=inverse.device)
    blocks = unit.split(max(1, BLOCK // inverse.numel()))
    gram = torch.cat([_product(rows, inverse, norms, block) for block in blocks])
    return 0.5 * (gram + gram.T)


@torch.compiler.disable
def _iterate(rows: Rows, inverse: Tensor, norms: Tensor, excess: Tensor) -> Tensor:
    """(A W^-1 A')^-1 excess by conjugate gradients, zero for samples that are not finite."""

    def apply(y: Tensor) -> Tensor:
        return _product(rows, inverse, norms, y)

    def solve(b: Tensor) -> Tensor:
        b = torch.where(torch.isfinite(b).all(dim=1, keepdim=True), b, 0.0)
        return conjugate_gradient(
            apply, b, tolerance=TOLERANCE, max_iterations=ITERATIONS, strict=False, best=True
        ).x

    return implicit_solve(apply, excess / norms, solve) / norms


def _probe(rows: Rows, inverse: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """Root of the largest eigenvalue of A W^-1 A', and a combination of rows that vanishes, (1, q) or (0, q).

    From w at random, S x = S w has the solution x nearest to zero, which conjugate gradients from zero find; w - x is
    then the part of w in the null space, and zero for independent rows.
    """
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(1, rows.total, generator=generator, dtype=torch.float64).to(norms.device)
    v = w
    for _ in range(20):
        v = _product(rows, inverse, norms, v / v.norm())
    largest = v.norm()
    right = _product(rows, inverse, norms, w)
    x = conjugate_gradient(
        lambda y: _product(rows, inverse, norms, y),
        right,
        tolerance=TOLERANCE,
        max_iterations=ITERATIONS,
        strict=False,
        best=True,
    ).x
    rest = w - x
    vanishes = _product(rows, inverse, norms, rest).norm() <= 1e-10 * largest * rest.norm()
    found = bool(vanishes) and float(rest.norm()) > 1e-5 * float(w.norm())
    return largest.sqrt(), rest if found else rest[:0]


def _reduced(null: Tensor) -> Tensor:
    """The same combinations, each with a row that is in no other, (k, q)."""
    null = null.clone()
    for i in range(len(null)):
        column = int(null[i].abs().argmax())
        null[i] /= null[i, column].clone()
        others = torch.arange(len(null), device=null.device) != i
        null[others] -= null[others, column].unsqueeze(1) * null[i]
    return torch.where(null.abs() > 1e-9, null, 0.0)
