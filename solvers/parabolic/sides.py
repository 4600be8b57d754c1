"""What holds at the sides of a box for something that diffuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from sciml.domains import Grid, side_name
from sciml.solvers.elliptic.sides import EllipticConditions, Flux, Robin, Value, by_side

# By side, with the meanings they have in stationary problems: `Value(g)` on "dirichlet", `Flux(g)` and
# `Robin(c, g)` on "neumann". Each g is a number, one per channel (C,), a field on the side
# (C, *points of the other axes), or per sample (B, C, *points of the other axes); or a function of positions.
SideConditions = EllipticConditions
Kind = Literal["periodic", "held", "value", "insulated", "flux", "robin"]
_SIDES = ("periodic", "dirichlet", "neumann", "outflow")


@dataclass(frozen=True)
class Edge:
    """One side of the grid.

    Args:
        kind: "held" is a Dirichlet side of nodes of which nothing was said: they keep what they have.
        datum: (1 or B, C, *points of the grid with one along the axis) or ones; zero where nothing was given.
        coefficient: of "robin".
    """

    kind: Kind
    datum: Tensor
    coefficient: float = 0.0


Edges = dict[tuple[int, int], Edge]


def read_sides(grid: Grid, conditions: SideConditions | None, channels: int) -> Edges:
    """The sides by (axis, end).

    Raises:
        ValueError: a side is of a kind that says nothing to diffusion, a condition stands at a side that does
            not exist or is of another kind, or its values do not fit.
    """
    unknown = sorted({side for pair in grid.sides for side in pair if side not in _SIDES})
    if unknown:
        raise ValueError(
            f"A diffusing quantity got sides {unknown}; expected some of {list(_SIDES)}, with Value, Flux or Robin in "
            "`conditions` for what is not zero."
        )
    for name, given in (conditions or {}).items():
        if not isinstance(given, (Value, Flux, Robin)):
            raise ValueError(
                f"The side {name} got {type(given).__name__}; expected Value, Flux or Robin for a diffusing quantity."
            )
    found = by_side(grid, conditions)
    none = torch.zeros((1,) * (grid.dimension + 2), dtype=torch.float64)
    edges: Edges = {}
    for axis, pair in enumerate(grid.sides):
        for end, side in enumerate(pair):
            condition = found.get((axis, end))
            if side == "periodic":
                edges[axis, end] = Edge("periodic", none)
            elif condition is None and side == "dirichlet":
                edges[axis, end] = Edge("held" if grid.centering == "node" else "value", none)
            elif condition is None:
                edges[axis, end] = Edge("insulated", none)
            else:
                datum = _datum(condition.value, grid, axis, end, channels)
                if isinstance(condition, Robin):
                    edges[axis, end] = Edge("robin", datum, _coefficient(condition, axis, end))
                else:
                    edges[axis, end] = Edge("value" if isinstance(condition, Value) else "flux", datum)
    return edges


def hold_nodes(u: Tensor, grid: Grid, edges: Edges) -> Tensor:
    """The state (B, C, *points) with the values of its sides on their nodes."""
    if grid.centering == "cell":
        return u
    for (axis, end), edge in edges.items():
        if edge.kind == "value":
            dim, n = axis + 2, grid.shape[axis]
            datum = edge.datum.to(u)
            shape = [max(len(u), len(datum)), *u.shape[1:]]
            shape[dim] = 1
            inner = u.narrow(dim, 1 - end, n - 1).expand(shape[0], *[-1] * (u.ndim - 1))
            u = torch.cat((inner, datum.expand(shape)) if end else (datum.expand(shape), inner), dim=dim)
    return u


def _coefficient(condition: Robin, axis: int, end: int) -> float:
    try:
        value = float(cast(float, condition.coefficient))
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ValueError(
            f"Robin on side {side_name(axis, end)} got the coefficient {condition.coefficient!r}; expected one finite "
            "number of at least zero: a side that gives more the more there is lets it grow without bounds."
        )
    return value


def _datum(given: object, grid: Grid, axis: int, end: int, channels: int) -> Tensor:
    name, d = side_name(axis, end), grid.dimension
    across = tuple(n for other, n in enumerate(grid.shape) if other != axis)
    if callable(given):
        lines = list(grid.axes())
        place = cast("tuple[float, ...]", grid.origin)[axis] + (grid.lengths[axis] if end else 0.0)
        lines[axis] = torch.tensor([place], dtype=torch.float64)
        value = torch.as_tensor(given(torch.stack(torch.meshgrid(*lines, indexing="ij"))))
        value = value.to(torch.float64)
        if value.ndim >= d:
            value = value.squeeze(value.ndim - d + axis)
        if value.ndim == d - 1:
            value = value.expand(channels, *across)
    else:
        value = torch.as_tensor(given, dtype=torch.float64)
    if value.ndim == 0:
        value = value.expand(channels)
    if value.ndim == 1:
        value = value.reshape(-1, *[1] * len(across))
    fits = value.shape[1:] == across or (value.ndim == d and set(value.shape[1:]) <= {1})
    if value.ndim == d and value.shape[0] == channels and fits:
        value = value.unsqueeze(0)
    elif not (value.ndim == d + 1 and value.shape[1] == channels and value.shape[2:] == across):
        raise ValueError(
            f"The condition of side {name} got values of shape {tuple(value.shape)}; expected a number, ({channels},), "
            f"{(channels, *across)} or (B, {', '.join(map(str, (channels, *across)))})."
        )
    if not bool(torch.isfinite(value.detach()).all()):
        raise ValueError(f"The condition of side {name} got values that are not finite.")
    return value.unsqueeze(2 + axis)
