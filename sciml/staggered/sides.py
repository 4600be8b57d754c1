"""What the sides of a box mean for a flow on a staggered grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Conditions, Grid, Inflow, MovingWall, side_conditions, side_name
from sciml.linear.fast_poisson import End

SIDES = ("periodic", "wall", "inflow", "outflow")
Held = Mapping[str, float | Tensor]
# Relative imbalance of what enters and leaves that is rounding of the given profiles, and is spread out.
_BALANCE = 1e-6


def face_coordinates(grid: Grid, axis: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Positions of the low faces of all cells along an axis, (D, *cells) [length].

    Where the component of the velocity along that axis lives.
    """
    x = grid.coordinates(dtype)
    x[axis] -= grid.spacing[axis] / 2
    return x


@dataclass(frozen=True)
class Ghosts:
    """Values beyond one side, per channel: scale * (value of the cell inside) + shift.

    Args:
        scale: (C, 1, ...).
        shift: (C, *cells of the other axes, 1 along this one), or None where it is zero.
    """

    scale: Tensor
    shift: Tensor | None


class Sides:
    """The sides of a grid of cells, checked and turned into ghost values, fixed faces and pressure ends.

    Args:
        grid: cells with sides "periodic", "wall", "inflow", "outflow".
        channels: D, or D + 1 with a scalar.
        conditions: what enters and which walls move.
        slip: names of the walls without friction, such as ("y-", "y+").
        held: values of the scalar at walls, by side; walls that are not named insulate.

    Raises:
        ValueError: a side is unknown or open where it must not be, a condition does not fit its side, or what
            enters does not balance what leaves.
    """

    def __init__(
        self,
        grid: Grid,
        channels: int,
        conditions: Conditions | None,
        slip: Sequence[str],
        held: Held | None,
    ) -> None:
        self.grid, self.channels = grid, channels
        d = grid.dimension
        names = {side_name(a, e): (a, e) for a in range(d) for e in (0, 1)}
        unknown = sorted({s for pair in grid.sides for s in pair if s not in SIDES})
        if unknown:
            raise ValueError(f"Flow got sides {unknown}; it knows {list(SIDES)}.")
        found = side_conditions(grid, conditions, channels)
        held = dict(held or {})
        for what, given in (("slip", list(slip)), ("held", list(held))):
            wrong = [s for s in given if s not in names or grid.sides[names[s][0]][names[s][1]] != "wall"]
            if wrong:
                raise ValueError(
                    f"Flow got {what} sides {wrong}; expected walls among {list(names)} of {grid.sides}."
                )
        if held and channels == d:
            raise ValueError(f"Flow got held sides {list(held)} for a flow without a scalar.")
        both = [s for s in slip if isinstance(found.get(names[s]), MovingWall)]
        if both:
            raise ValueError(
                f"Flow got {both} both as a MovingWall and without friction; a wall without friction moves "
                "nothing."
            )
        self.exit: int | None = None
        for axis, (_, high) in enumerate(grid.sides):
            if high == "outflow":
                if self.exit is not None:
                    raise ValueError(
                        "Flow got the side 'outflow' at the high end of two axes, where the last cell "
                        "cannot tell both faces; turn one of them round (x -> -x) so that it is a low side."
                    )
                self.exit = axis
        ends: dict[str, End] = {
            "periodic": "periodic",
            "wall": "neumann",
            "inflow": "neumann",
            "outflow": "dirichlet",
        }
        self.ends: tuple[tuple[End, End], ...] = tuple((ends[a], ends[b]) for a, b in grid.sides)
        # Velocity through each bounded side, (*cells, 1 along the axis), or None for zero or for an outflow.
        self.through: dict[tuple[int, int], Tensor | None] = {}
        self.ghosts: dict[tuple[int, int], Ghosts] = {}
        self.no_slip: list[tuple[int, int]] = []
        self.has_outflow = any("outflow" in pair for pair in grid.sides)
        speed = 0.0
        for name, (axis, end) in names.items():
            side = grid.sides[axis][end]
            if side == "periodic":
                continue
            condition = found.get((axis, end))
            scale, shift = torch.ones(channels, dtype=torch.float64), None
            if side == "wall":
                self.through[axis, end] = None
                if name not in slip:
                    self.no_slip.append((axis, end))
                    scale[:d] = -1.0
                scale[axis] = 0.0
                if isinstance(condition, MovingWall) or name in held:
                    shift = self._on_side(torch.zeros(channels, dtype=torch.float64), axis)
                if isinstance(condition, MovingWall) and shift is not None:
                    velocity = self._on_side(torch.as_tensor(condition.velocity), axis)
                    speed = max(speed, float(velocity.abs().max()))
                    shift[:d] = 2.0 * velocity
                if name in held and shift is not None:
                    scale[d:] = -1.0
                    wall = torch.as_tensor(held[name], dtype=torch.float64)
                    shift[d:] = 2.0 * self._on_side(wall.reshape(1, *wall.shape), axis)
            elif side == "inflow":
                assert isinstance(condition, Inflow)  # side_conditions has seen to it
                value = self._on_side(torch.as_tensor(condition.value), axis)
                self.through[axis, end] = value[axis]
                speed = max(speed, float(value[:d].abs().max()))
                scale[:] = -1.0
                shift = 2.0 * value
                scale[axis], shift[axis] = 0.0, value[axis]
            else:
                self.through[axis, end] = None
            self.ghosts[axis, end] = Ghosts(scale.reshape(-1, *[1] * d), shift)
        self.speed = speed
        self._balance()

    def _on_side(self, values: Tensor, axis: int) -> Tensor:
        """Values (K, *cells of the other axes or ones) spread over the side, (K, *cells, 1 along the axis)."""
        shape = [1 if a == axis else n for a, n in enumerate(self.grid.shape)]
        one = values.ndim == 1
        values = values.reshape(-1, *[1] * len(shape)) if one else values.unsqueeze(1 + axis)
        try:
            return values.to(torch.float64).expand(-1, *shape).clone()
        except RuntimeError:
            raise ValueError(
                f"Flow got values of shape {tuple(values.shape)} on a side of {shape} cells; expected one "
                "number or one for each cell of the side."
            ) from None

    def _balance(self) -> None:
        """Refuse what enters without leaving; spread rounding over the inflows."""
        if self.has_outflow:
            return
        area = {a: self.grid.volume / self.grid.lengths[a] for a in range(self.grid.dimension)}
        net, size, brought = 0.0, 0.0, []
        for (axis, end), value in self.through.items():
            if value is not None:
                enters = (1 - 2 * end) * float(value.mean()) * area[axis]
                net += enters
                size += float(value.abs().mean()) * area[axis]
                brought.append(f"{side_name(axis, end)} brings {enters:.6g}")
        if abs(net) > _BALANCE * size:
            raise ValueError(
                f"Flow got inflows with a net flux of {net:.6g} into a box without an outflow: "
                f"{', '.join(brought)}; what enters must leave. Give one side as 'outflow', or inflows that balance."
            )
        if net != 0.0:
            for (axis, end), value in self.through.items():
                if value is not None:
                    share = float(value.abs().mean()) * area[axis] / size
                    value -= (1 - 2 * end) * net * share / area[axis]
                    ghost = self.ghosts[axis, end]
                    assert ghost.shift is not None  # inflows have one
                    ghost.shift[axis] = value
