"""The operator -div(a grad u) + c u on a grid, by finite volumes with harmonic means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.solvers.elliptic.sides import (
    BySide,
    EllipticConditions,
    Flux,
    Robin,
    SideValues,
    Value,
    by_side,
    field_on_nodes,
    side_field,
)

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_SIDES = ("dirichlet", "neumann", "periodic")


@dataclass(frozen=True)
class Diffusion:
    """Sum of the fluxes out of each control volume and what is lost inside, (A u)_i = sum_j k_ij (u_i - u_j) + c_i u_i.

    Symmetric; for real k >= 0 and c >= 0 positive (semi-)definite, with non-positive off-diagonal
    entries, hence with a discrete maximum principle. Complex numbers state waves and what absorbs them.
    Fields are (B, *points), without a channel axis.

    Args:
        faces: per axis the conductances k (B or 1, *points with one more along that axis). The
            outermost lead to known values, or nowhere where k = 0; on a periodic axis the first and
            last are the same face.
        periodic: which axes wrap round.
        reaction: c times the volumes, (B or 1, *points); zero where left out.
    """

    faces: tuple[Tensor, ...]
    periodic: tuple[bool, ...]
    reaction: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of unknowns along each axis."""
        return tuple(k.shape[axis + 1] - 1 for axis, k in enumerate(self.faces))

    @property
    def dimension(self) -> int:
        """Number of axes D."""
        return len(self.faces)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The conductances, and the reaction where there is one."""
        return self.faces if self.reaction is None else (*self.faces, self.reaction)

    def with_parameters(self, parameters: Sequence[Tensor]) -> Diffusion:
        """The same operator with other values of `parameters`."""
        faces, rest = tuple(parameters[: self.dimension]), tuple(parameters[self.dimension :])
        return Diffusion(faces, self.periodic, rest[0] if rest else None)

    def detached(self) -> Diffusion:
        """The same operator outside of any graph."""
        return self.with_parameters([p.detach() for p in self.parameters])

    @property
    def samples(self) -> int:
        """Number of different operators: 1 where all samples share one."""
        return max(len(p) for p in self.parameters)

    def __call__(self, u: Tensor) -> Tensor:
        """A u with zero known values, differentiable in u and the conductances."""
        total = torch.zeros_like(u) if self.reaction is None else self.reaction * u
        for axis, (k, wraps) in enumerate(zip(self.faces, self.periodic, strict=True)):
            total = total - torch.diff(
                k * torch.diff(padded(u, axis + 1, wraps), dim=axis + 1), dim=axis + 1
            )
        return total

    @cached_property
    def diagonal(self) -> Tensor:
        """(B or 1, *points)."""
        parts = [
            k.narrow(axis + 1, 0, n) + k.narrow(axis + 1, 1, n)
            for axis, (k, n) in enumerate(zip(self.faces, self.shape, strict=True))
        ]
        total = parts[0]
        for part in (*parts[1:], *([] if self.reaction is None else [self.reaction])):
            total = total + part
        return total

    def residual(self, u: Tensor, b: Tensor) -> Tensor:
        """b - A u in few passes over memory; takes no gradients."""
        with torch.no_grad():
            r = torch.addcmul(b, self.diagonal, u, value=-1)
            for axis, (k, wraps, n) in enumerate(zip(self.faces, self.periodic, self.shape, strict=True)):
                dim = axis + 1
                inner = k.narrow(dim, 1, n - 1)
                r.narrow(dim, 0, n - 1).addcmul_(inner, u.narrow(dim, 1, n - 1))
                r.narrow(dim, 1, n - 1).addcmul_(inner, u.narrow(dim, 0, n - 1))
                if wraps:
                    seam = k.narrow(dim, 0, 1)
                    r.narrow(dim, 0, 1).addcmul_(seam, u.narrow(dim, n - 1, 1))
                    r.narrow(dim, n - 1, 1).addcmul_(seam, u.narrow(dim, 0, 1))
            return r

    def matrix(self, sample: int = 0) -> csr_array:
        """The matrix of one sample, (N, N) with points in row-major order."""
        from scipy.sparse import coo_array

        index = np.arange(int(np.prod(self.shape))).reshape(self.shape)
        diagonal = self.diagonal.detach().expand(-1, *self.shape)
        rows, columns = [index.ravel()], [index.ravel()]
        values = [diagonal[min(sample, len(diagonal) - 1)].cpu().numpy().ravel()]
        for axis, (k, wraps, n) in enumerate(zip(self.faces, self.periodic, self.shape, strict=True)):
            weights = k[min(sample, len(k) - 1)].detach().cpu().numpy()
            first, last = (0, n) if wraps else (1, n)
            right = np.arange(first, last)
            i, j = np.take(index, right - 1, axis), np.take(index, right, axis)
            w = np.take(weights, right, axis)
            rows += [i.ravel(), j.ravel()]
            columns += [j.ravel(), i.ravel()]
            values += [-w.ravel(), -w.ravel()]
        entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
        return coo_array(entries, shape=(index.size, index.size)).tocsr()


@dataclass(frozen=True)
class Lines:
    """Widths of the control volumes along one axis, and the distances between their points.

    Args:
        widths: (unknowns,) [length].
        gaps: (unknowns + 1,) [length]; the first and last are those of inner faces, whatever is outside.
    """

    widths: Tensor
    gaps: Tensor


@dataclass(frozen=True)
class DiffusionProblem:
    """-div(a grad u) + c u = f on a grid, as A u = b for the unknown points.

    Args:
        operator: A.
        grid: all points; those on Dirichlet sides of a grid of nodes are known.
        volumes: of the control volumes of the unknowns, (1, *unknowns) [length^D].
        kept: range of the unknowns along each axis.
        singular: no side holds a value, nothing is lost, and u is defined up to a constant.
        lines: widths and distances along each axis.
        conditions: what was said of each side, by (axis, end).
        shares: what of the flux of a side reaches the outermost unknowns, by (axis, end); 1 where left out.
    """

    operator: Diffusion
    grid: Grid
    volumes: Tensor
    kept: tuple[slice, ...]
    singular: bool
    lines: tuple[Lines, ...]
    conditions: BySide = field(default_factory=dict)
    shares: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    def right_hand_side(self, f: Tensor, values: SideValues, flux: SideValues) -> Tensor:
        """b (B, *unknowns) of the source f (B, *points), boundary values and boundary flux.

        The last two hold on the sides of which `conditions` say nothing.
        """
        b = f[(slice(None), *self.kept)] * self.volumes
        for axis, (pair, k) in enumerate(zip(self.grid.sides, self.operator.faces, strict=True)):
            dim, n = axis + 1, self.operator.shape[axis]
            ends = []
            for end, side in enumerate(pair):
                if side == "dirichlet":
                    ends.append(k.narrow(dim, n * end, 1) * self.on_side(values, axis, end, b))
                elif side == "neumann":
                    ends.append(self.areas(axis) * self.on_side(flux, axis, end, b))
                    if (axis, end) in self.shares:
                        ends[-1] = ends[-1] * self.shares[axis, end]
                else:
                    ends.append(b.new_zeros(1, *self._slab(axis)))
            samples = max(len(b), *(len(e) for e in ends))
            shape = (samples, *self._slab(axis))
            low, high = (e.expand(shape) for e in ends)
            if n == 1:
                b = b + low + high
            else:
                inner = b.new_zeros(1).expand(samples, *self._slab(axis, n - 2))
                b = b + torch.cat((low, inner, high), dim=dim)
        return b

    def areas(self, axis: int) -> Tensor:
        """Areas of the faces normal to an axis, (1, *unknowns with 1 along that axis) [length^(D-1)]."""
        widths = [line.widths for line in self.lines]
        widths[axis] = torch.ones_like(widths[axis][:1])
        return _outer(widths).unsqueeze(0)

    def complete(self, u: Tensor, values: SideValues) -> Tensor:
        """All points (B, *points) from the unknowns, known ones filled in."""
        if tuple(u.shape[1:]) == self.grid.shape:
            return u
        given = {place for place, condition in self.conditions.items() if isinstance(condition, Value)}
        sides = [
            (axis, end)
            for axis, pair in enumerate(self.grid.sides)
            for end in (0, 1)
            if pair[end] == "dirichlet"
        ]
        everywhere = 0.0 if given.issuperset(sides) else values
        known = field_on_nodes(everywhere, self.grid, u)
        for axis, end in sides:
            if (axis, end) not in given:
                continue
            line = torch.zeros(self.grid.shape[axis], dtype=torch.bool, device=u.device)
            line[-1 if end else 0] = True
            line = line.reshape([-1 if other == axis else 1 for other in range(self.grid.dimension)])
            known = torch.where(
                line, side_field(self.conditions[axis, end].value, self.grid, axis, end, u), known
            )
        pads: list[int] = []
        mask = torch.zeros(self.grid.shape, dtype=torch.bool, device=u.device)
        mask[self.kept] = True
        for span, n in reversed(list(zip(self.kept, self.grid.shape, strict=True))):
            pads += [span.start, n - span.stop]
        return torch.where(mask, torch.nn.functional.pad(u, pads), known)

    def _slab(self, axis: int, thickness: int = 1) -> list[int]:
        shape = list(self.operator.shape)
        shape[axis] = thickness
        return shape

    def on_side(self, values: SideValues, axis: int, end: int, like: Tensor) -> Tensor:
        """Values on one side, those of its condition first, broadcastable to (B, *unknowns with 1 along the axis)."""
        condition = self.conditions.get((axis, end))
        if condition is None and isinstance(values, Tensor) and values.ndim > 0:
            known = field_on_nodes(values, self.grid, like)
            index: list[slice] = list(self.kept)
            index[axis] = slice(-1, None) if end else slice(0, 1)
            return known[(slice(None), *index)]
        given = values if condition is None else condition.value
        return self.cut(side_field(given, self.grid, axis, end, like), axis)

    def cut(self, side: Tensor, axis: int) -> Tensor:
        """The values of a side that are beside unknowns."""
        return _cut(side, self.kept, axis)


def discretise(
    a: Tensor | Sequence[Tensor],
    grid: Grid,
    conditions: EllipticConditions | None = None,
    reaction: Tensor | None = None,
    stretch: Sequence[tuple[Tensor, Tensor]] | None = None,
) -> DiffusionProblem:
    """Finite volumes for -div(a grad u) + c u, second order for smooth coefficients.

    On cells the values lie at centres and the sides half a cell outside the last ones; on nodes the
    control volumes reach half-way to the neighbours, nodes on Dirichlet sides are known, and those on
    Neumann sides have half volumes. The conductance of a face is the harmonic mean of the coefficients
    beside it, which keeps the flux through layers exact where a jumps between points.

    Args:
        a: coefficient (B, *points), positive, or one for each axis: the diagonal of a tensor.
        grid: its sides are "dirichlet", "neumann" or "periodic".
        conditions: what the names of the sides do not say; a `Robin` side enters the operator.
        reaction: c (B, *points).
        stretch: per axis factors of the widths at all points (N_d,) and of the distances across the faces
            between them (N_d + 1,), complex where a layer absorbs waves.

    Raises:
        ValueError: a side is of another kind, the shape does not fit, or no node is unknown.
    """
    unknown = sorted({side for pair in grid.sides for side in pair if side not in _SIDES})
    if unknown:
        raise ValueError(f"discretise got sides {unknown}; it knows {list(_SIDES)}.")
    coefficients = (a,) * grid.dimension if isinstance(a, Tensor) else tuple(a)
    if len(coefficients) != grid.dimension:
        raise ValueError(
            f"discretise got {len(coefficients)} coefficients for {grid.dimension} axes; expected one, or one each."
        )
    for given in (*coefficients, *([] if reaction is None else [reaction])):
        if tuple(given.shape[1:]) != grid.shape:
            raise ValueError(
                f"discretise got a coefficient {tuple(given.shape)}; expected (B, *{grid.shape})."
            )
    found = by_side(grid, conditions)
    nodes = grid.centering == "node"
    kept = tuple(
        slice(int(nodes and low == "dirichlet"), n - int(nodes and high == "dirichlet"))
        for (low, high), n in zip(grid.sides, grid.shape, strict=True)
    )
    if any(span.stop - span.start < 1 for span in kept):
        raise ValueError(
            f"discretise got {grid.shape} nodes, none of them unknown between two Dirichlet sides; "
            "use at least 3 nodes per axis."
        )
    like = coefficients[0]
    lines = _lines(grid, kept, stretch, like)
    shares: dict[tuple[int, int], Tensor] = {}
    held = any("dirichlet" in pair for pair in grid.sides)
    faces = []
    for axis, pair in enumerate(grid.sides):
        dim = axis + 1
        across = [slice(None), *kept]
        across[dim] = slice(None)
        line = coefficients[axis][tuple(across)]
        n = line.shape[dim]
        left, right = line.narrow(dim, 0, n - 1), line.narrow(dim, 1, n - 1)
        inner = 2 * left * right / (left + right)
        first, last = line.narrow(dim, 0, 1), line.narrow(dim, n - 1, 1)
        gaps = lines[axis].gaps
        parts = [inner]
        if pair[0] == "periodic":
            seam = 2 * first * last / (first + last)
            parts = [seam, inner, seam]
        else:
            for end, (side, edge) in enumerate(zip(pair, (first, last), strict=True)):
                if nodes and side == "dirichlet":
                    continue  # a face to a known node is an inner one
                part = 2.0 * edge if side == "dirichlet" else torch.zeros_like(edge)
                condition = found.get((axis, end))
                if isinstance(condition, Robin):
                    h = gaps[-1 if end else 0]
                    film = _cut(side_field(condition.coefficient, grid, axis, end, edge), kept, axis)
                    _check_film(film, edge)
                    held = held or bool((film.detach() != 0).any())
                    if nodes:
                        part = (film * h).expand(
                            edge.shape if len(edge) >= len(film) else (len(film), *edge.shape[1:])
                        )
                    else:
                        # Resistances of the film and of half a cell in series.
                        shares[axis, end] = 2 * edge / (2 * edge + film * h)
                        part = film * h * shares[axis, end]
                parts.insert(0 if end == 0 else len(parts), part)
        samples = max(len(part) for part in parts)
        kind = next((part.dtype for part in parts if part.is_complex()), line.dtype)
        parts = [part.to(kind).expand(samples, *part.shape[1:]) for part in parts]
        areas = [other.widths for other in lines]
        areas[axis] = 1.0 / gaps
        faces.append(torch.cat(parts, dim=dim) * _outer(areas))
    volumes = _outer([line.widths for line in lines]).unsqueeze(0)
    lost = None
    if reaction is not None:
        lost = reaction[(slice(None), *kept)] * volumes
        held = held or bool((lost.detach() != 0).any())
    operator = Diffusion(tuple(faces), grid.periodic, lost)
    return DiffusionProblem(operator, grid, volumes, kept, not held, lines, found, shares)


def padded(u: Tensor, dim: int, wraps: bool) -> Tensor:
    """u with one more value at both ends of `dim`: zeros, or those from the other end."""
    first, last = u.narrow(dim, 0, 1), u.narrow(dim, u.shape[dim] - 1, 1)
    if wraps:
        return torch.cat((last, u, first), dim=dim)
    zero = torch.zeros_like(first)
    return torch.cat((zero, u, zero), dim=dim)


def _check_film(film: Tensor, like: Tensor) -> None:
    if not bool(torch.isfinite(film.detach()).all()):
        raise ValueError("Robin got a coefficient that is not finite.")
    if not film.is_complex() and not like.is_complex() and bool((film.detach() < 0).any()):
        raise ValueError(
            f"Robin got the coefficient {float(film.detach().min()):.3g}; expected at least zero: a side that gives "
            "more the more there is makes the problem indefinite."
        )


def _cut(side: Tensor, kept: tuple[slice, ...], axis: int) -> Tensor:
    """Values on a side, beside the unknowns; ones stay ones."""
    index = [
        slice(None) if other == axis or side.shape[other + 1] == 1 else span
        for other, span in enumerate(kept)
    ]
    return side[(slice(None), *index)]


def _lines(
    grid: Grid, kept: tuple[slice, ...], stretch: Sequence[tuple[Tensor, Tensor]] | None, like: Tensor
) -> tuple[Lines, ...]:
    """Widths of the control volumes of the unknowns along each axis, and the distances between points."""
    out = []
    for axis, ((low, _), h, n, span) in enumerate(
        zip(grid.sides, grid.spacing, grid.shape, kept, strict=True)
    ):
        widths = torch.full((n,), h, dtype=like.dtype, device=like.device)
        gaps = torch.full((n + 1,), h, dtype=like.dtype, device=like.device)
        if grid.centering == "node" and low != "periodic":
            widths[0] = widths[-1] = h / 2
        if stretch is not None:
            widths, gaps = widths * stretch[axis][0], gaps * stretch[axis][1]
        # A known node takes its control volume away, and its outer face.
        out.append(Lines(widths[span], gaps[span.start : span.stop + 1]))
    return tuple(out)


def _outer(lines: list[Tensor]) -> Tensor:
    """Product of D lines as a field over all axes."""
    total = torch.ones((), dtype=lines[0].dtype, device=lines[0].device)
    for line in lines:
        total = total.unsqueeze(-1) * line
    return total


__all__ = ["Diffusion", "DiffusionProblem", "Flux", "Lines", "SideValues", "discretise", "padded"]
