"""What enters or moves at a side of a grid, for sides that a name alone does not describe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains.grid import AXIS_NAMES, Grid

Values = float | tuple[float, ...] | Tensor


@dataclass(frozen=True)
class Inflow:
    """A state that enters through a side "inflow".

    Args:
        value: of each channel a number (C,), or a field on the side (C, *points of the other axes), in the
            units of the state.
    """

    value: Values


@dataclass(frozen=True)
class MovingWall:
    """A side "wall" that slides along itself.

    Args:
        velocity: D components, or fields (D, *points of the other axes); the normal one is zero
            [length/time].
    """

    velocity: Values


Condition = Inflow | MovingWall
# By side: "x-" is the low side of the first axis, "y+" the high side of the second.
Conditions = Mapping[str, Condition]


def side_name(axis: int, end: int) -> str:
    """ "x-" for axis 0 and end 0, "y+" for axis 1 and end 1."""
    return AXIS_NAMES[axis] + "-+"[end]


def side_conditions(
    grid: Grid, conditions: Conditions | None, channels: int
) -> dict[tuple[int, int], Condition]:
    """The conditions by (axis, end), checked against the sides of the grid and made tensors of float64.

    Values are (C, *points of the other axes), or (C, 1, ...) where they were numbers.

    Raises:
        ValueError: a side is unknown or not of the kind, an "inflow" has no state, values have another
            number of components than the channels (`Inflow`) or axes (`MovingWall`) or do not fit the
            side, or a wall would move through itself.
    """
    given = dict(conditions or {})
    names = {side_name(axis, end): (axis, end) for axis in range(grid.dimension) for end in (0, 1)}
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(f"Conditions got sides {unknown}; this grid has {list(names)}.")
    found: dict[tuple[int, int], Condition] = {}
    for name, (axis, end) in names.items():
        side, condition = grid.sides[axis][end], given.get(name)
        if side == "inflow" and not isinstance(condition, Inflow):
            raise ValueError(
                f"The side {name} is an 'inflow' without a state; give conditions={{'{name}': Inflow(...)}} with a "
                "value for each channel."
            )
        if condition is None:
            continue
        kind = "inflow" if isinstance(condition, Inflow) else "wall"
        if side != kind:
            raise ValueError(
                f"The side {name} is {side!r}; {type(condition).__name__} is a condition of sides {kind!r}."
            )
        if isinstance(condition, Inflow):
            found[axis, end] = Inflow(_values(name, condition.value, grid, axis, channels))
            continue
        velocity = _values(name, condition.velocity, grid, axis, grid.dimension)
        if bool(velocity[axis].any()):
            raise ValueError(
                f"The wall {name} got a velocity through itself, {float(velocity[axis].abs().max()):g}; a wall slides "
                "along itself: the component normal to it is zero."
            )
        found[axis, end] = MovingWall(velocity)
    return found


def _values(name: str, given: Values, grid: Grid, axis: int, count: int) -> Tensor:
    """A value per component as (count, *points of the other axes or ones)."""
    value = torch.as_tensor(given, dtype=torch.float64)
    across = tuple(n for other, n in enumerate(grid.shape) if other != axis)
    value = value.reshape(1) if value.ndim == 0 else value
    fits = value.shape[1:] == across or value.ndim == 1
    if value.shape[0] != count or not fits:
        raise ValueError(
            f"The condition of side {name} got values of shape {tuple(value.shape)}; expected {count} components, "
            f"({count},) or ({count}, {', '.join(map(str, across))})."
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"The condition of side {name} got values that are not finite.")
    return (
        value.reshape(count, *across)
        if value.ndim > 1 or not across
        else value.reshape(count, *[1] * len(across))
    )
