"""The operator -div(a grad u) on a grid, by finite volumes with harmonic means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Grid

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# Values on the sides of a box: a number, a field on the nodes, or a function of position.
SideValues = float | Tensor | Callable[[Tensor], Tensor]

_SIDES = ("dirichlet", "neumann", "periodic")


@dataclass(frozen=True)
class Diffusion:
    """Sum of the fluxes out of each control volume, (A u)_i = sum_j k_ij (u_i - u_j).

    Symmetric and positive (semi-)definite, with non-positive off-diagonal entries, hence with a
    discrete maximum principle. Fields are (B, *points), without a channel axis.

    Args:
        faces: per axis the conductances k >= 0 (B or 1, *points with one more along that axis). The
            outermost lead to known values, or nowhere where k = 0; on a periodic axis the first and
            last are the same face.
        periodic: which axes wrap round.
    """

    faces: tuple[Tensor, ...]
    periodic: tuple[bool, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of unknowns along each axis."""
        return tuple(k.shape[axis + 1] - 1 for axis, k in enumerate(self.faces))

    @property
    def dimension(self) -> int:
        """Number of axes D."""
        return len(self.faces)

    def __call__(self, u: Tensor) -> Tensor:
        """A u with zero known values, differentiable in u and the conductances."""
        total = torch.zeros_like(u)
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
        return torch.stack(parts).sum(dim=0)

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
        diagonal = self.diagonal.detach()
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
class DiffusionProblem:
    """-div(a grad u) = f on a grid, as A u = b for the unknown points.

    Args:
        operator: A.
        grid: all points; those on Dirichlet sides of a grid of nodes are known.
        volumes: of the control volumes of the unknowns, (1, *unknowns) [length^D].
        kept: range of the unknowns along each axis.
        singular: no side holds a value, and u is defined up to a constant.
    """

    operator: Diffusion
    grid: Grid
    volumes: Tensor
    kept: tuple[slice, ...]
    singular: bool

    def right_hand_side(self, f: Tensor, values: SideValues, flux: SideValues) -> Tensor:
        """b (B, *unknowns) of the source f (B, *points), boundary values and boundary flux."""
        b = f[(slice(None), *self.kept)] * self.volumes
        for axis, (pair, k) in enumerate(zip(self.grid.sides, self.operator.faces, strict=True)):
            dim, n = axis + 1, self.operator.shape[axis]
            ends = []
            for side, index in zip(pair, (0, n), strict=True):
                if side == "dirichlet":
                    ends.append(k.narrow(dim, index, 1) * self._on_side(values, axis, index > 0, f))
                elif side == "neumann":
                    area = self.areas(axis).to(f)
                    ends.append(area * self._on_side(flux, axis, index > 0, f))
                else:
                    ends.append(torch.zeros_like(k.narrow(dim, index, 1)))
            shape = list(torch.broadcast_shapes(b.shape[:1], *(e.shape[:1] for e in ends)))
            low, high = (e.expand(*shape, *self._slab(axis)) for e in ends)
            if n == 1:
                b = b + low + high
            else:
                inner = b.new_zeros(1).expand(*shape, *self._slab(axis, n - 2))
                b = b + torch.cat((low, inner, high), dim=dim)
        return b

    def areas(self, axis: int) -> Tensor:
        """Areas of the faces normal to an axis, (1, *unknowns with 1 along that axis) [length^(D-1)]."""
        widths = _widths(self.grid)
        widths[axis] = torch.ones(1, dtype=torch.float64)
        return _outer(widths).unsqueeze(0)

    def complete(self, u: Tensor, values: SideValues) -> Tensor:
        """All points (B, *points) from the unknowns, known ones filled in."""
        if tuple(u.shape[1:]) == self.grid.shape:
            return u
        known = _on_nodes(values, self.grid, u)
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

    def _on_side(self, values: SideValues, axis: int, high: bool, like: Tensor) -> Tensor:
        """Values on one side, broadcastable to (B, *unknowns with 1 along the axis)."""
        if isinstance(values, Tensor) and values.ndim > 0:
            field = _on_nodes(values, self.grid, like)
            index: list[slice] = list(self.kept)
            index[axis] = slice(-1, None) if high else slice(0, 1)
            return field[(slice(None), *index)]
        if callable(values):
            lines = [
                line[span] for line, span in zip(self.grid.axes(device=like.device), self.kept, strict=True)
            ]
            origin = self.grid.origin
            low = origin if isinstance(origin, float) else origin[axis]
            end = low + (self.grid.lengths[axis] if high else 0.0)
            lines[axis] = torch.tensor([end], dtype=torch.float64, device=like.device)
            x = torch.stack(torch.meshgrid(*lines, indexing="ij"))
            return _field(values(x), tuple(x.shape[1:]), like)
        return torch.as_tensor(values).to(like).reshape(1, *([1] * self.operator.dimension))


def discretise(a: Tensor, grid: Grid) -> DiffusionProblem:
    """Finite volumes for -div(a grad u), second order for smooth coefficients.

    On cells the values lie at centres and the sides half a cell outside the last ones; on nodes the
    control volumes reach half-way to the neighbours, nodes on Dirichlet sides are known, and those on
    Neumann sides have half volumes. The conductance of a face is the harmonic mean of the coefficients
    beside it, which keeps the flux through layers exact where a jumps between points.

    Args:
        a: coefficient (B, *points), positive.
        grid: its sides are "dirichlet", "neumann" or "periodic".

    Raises:
        ValueError: a side is of another kind, the shape does not fit, or no node is unknown.
    """
    unknown = sorted({side for pair in grid.sides for side in pair if side not in _SIDES})
    if unknown:
        raise ValueError(f"discretise got sides {unknown}; it knows {list(_SIDES)}.")
    if tuple(a.shape[1:]) != grid.shape:
        raise ValueError(f"discretise got a coefficient {tuple(a.shape)}; expected (B, *{grid.shape}).")
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
    widths = _widths(grid)
    faces = []
    for axis, ((low, high), h) in enumerate(zip(grid.sides, grid.spacing, strict=True)):
        dim = axis + 1
        across = [slice(None), *kept]
        across[dim] = slice(None)
        line = a[tuple(across)]
        n = line.shape[dim]
        left, right = line.narrow(dim, 0, n - 1), line.narrow(dim, 1, n - 1)
        inner = 2 * left * right / (left + right)
        first, last = line.narrow(dim, 0, 1), line.narrow(dim, n - 1, 1)
        if low == "periodic":
            seam = 2 * first * last / (first + last)
            parts = [seam, inner, seam]
        elif nodes:
            # A face to a known node is an inner one; beyond a Neumann node there is none.
            parts = [inner]
            if low == "neumann":
                parts.insert(0, torch.zeros_like(first))
            if high == "neumann":
                parts.append(torch.zeros_like(last))
        else:
            parts = [
                first * (2.0 if low == "dirichlet" else 0.0),
                inner,
                last * (2.0 if high == "dirichlet" else 0.0),
            ]
        areas = [w.to(a) for w in widths]
        areas[axis] = torch.ones(1, dtype=a.dtype, device=a.device)
        faces.append(torch.cat(parts, dim=dim) * (_outer(areas) / h))
    operator = Diffusion(tuple(faces), grid.periodic)
    singular = not any("dirichlet" in pair for pair in grid.sides)
    return DiffusionProblem(operator, grid, _outer(widths).to(a).unsqueeze(0), kept, singular)


def padded(u: Tensor, dim: int, wraps: bool) -> Tensor:
    """u with one more value at both ends of `dim`: zeros, or those from the other end."""
    first, last = u.narrow(dim, 0, 1), u.narrow(dim, u.shape[dim] - 1, 1)
    if wraps:
        return torch.cat((last, u, first), dim=dim)
    zero = torch.zeros_like(first)
    return torch.cat((zero, u, zero), dim=dim)


def _widths(grid: Grid) -> list[Tensor]:
    """Width of the control volumes of the unknowns along each axis."""
    out = []
    for (low, high), h, n in zip(grid.sides, grid.spacing, grid.shape, strict=True):
        line = torch.full((n,), h, dtype=torch.float64)
        if grid.centering == "node" and low != "periodic":
            line[0] = line[-1] = h / 2
            line = line[int(low == "dirichlet") : n - int(high == "dirichlet")]
        out.append(line)
    return out


def _outer(lines: list[Tensor]) -> Tensor:
    """Product of D lines as a field over all axes."""
    total = torch.ones((), dtype=lines[0].dtype, device=lines[0].device)
    for line in lines:
        total = total.unsqueeze(-1) * line
    return total


def _field(values: Tensor, points: tuple[int, ...], like: Tensor) -> Tensor:
    """(*points), (B, *points) or (B, 1, *points) as (B or 1, *points)."""
    values = values.to(like)
    if tuple(values.shape) == points:
        return values.unsqueeze(0)
    if values.ndim == len(points) + 2 and values.shape[1] == 1:
        values = values.squeeze(1)
    if tuple(values.shape[1:]) != points:
        raise ValueError(
            f"Boundary values have shape {tuple(values.shape)}; expected {points} or (B, 1, *{points})."
        )
    return values


def _on_nodes(values: SideValues, grid: Grid, like: Tensor) -> Tensor:
    """Values at all nodes of the grid, (B or 1, *points)."""
    if isinstance(values, Tensor) and values.ndim > 0:
        if grid.centering == "cell":
            raise ValueError(
                "Boundary values came as a field on cells, which has no points on the sides; give a "
                "number, or a function of positions (D, *points)."
            )
        return _field(values, grid.shape, like)
    if callable(values):
        return _field(values(grid.coordinates(device=like.device)), grid.shape, like)
    return torch.as_tensor(values).to(like).expand(1, *grid.shape)
