"""A step that carries what is in a cell to cells some way off: no limit on the length of a step."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from sciml.constraints.transport import check_cells
from sciml.domains import Grid
from sciml.models.neighbours import neighbour_logits
from sciml.models.wrappers import Map


class WideTransport(nn.Module):
    """Every cell sends shares of what it holds to the cells within `radius` of it: positive and conservative.

        u'_i = sum over j near i of w_ji u_j,    w_j. = softmax of what the network gives at j

    What is moved is the transport of a whole step, not a rate at a face: it reaches `radius` cells along each axis at
    once, so that no CFL condition limits the step, where `FluxForm` and `LimitedTransport` move one cell at most. The sum
    over the cells is kept to rounding, values above `lower` stay there, for any weights. With `upper` a cell takes no more
    than it has room for; the rest stays where it came from, and what leaves a cell makes room in the next of `passes`
    rounds, so that a crowd moves on in as many rounds as it is deep. Sums are taken in float64; a rollout in float32 drifts
    by its rounding per step only.

    New extremes can arise where amounts meet, as they do where a flow converges; `LocalMixture` makes none and keeps no sum.
    In a study set residual: false and normalized: false.

    Args:
        f: map (B, C, *points) -> (B, C S, *points), S = (2 radius + 1)^D: of each channel the S logits side by side, shifts
            in the order of itertools.product with the last axis fastest, from -radius to radius. S is 125 in 3D for radius 2.
        grid: cells of equal volume, periodic or between closed sides, which nothing passes.
        radius: how far amounts go in one step along each axis, in cells.
        lower: what no value falls below if none is below it; amounts are counted from there [unit of u].
        upper: what no value exceeds if none does, None for no such bound [unit of u].
        passes: rounds in which a crowd makes room.
        own: added to the logit of what stays, so that a network that gives zero changes little.

    Raises:
        ValueError: the grid has open sides or unequal cells, sizes or bounds are impossible, or the network gives other
            channels.

    Time-integrated transports between cells some way apart, limited by capacities: FluxNet, arXiv 2602.01941.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        grid: Grid,
        radius: int = 2,
        lower: float = 0.0,
        upper: float | None = None,
        passes: int = 4,
        own: float = 4.0,
    ) -> None:
        super().__init__()
        if not isinstance(grid, Grid):
            raise ValueError(f"WideTransport got a {type(grid).__name__}; expected a Grid.")
        check_cells(grid, "WideTransport")
        if radius < 1 or 2 * radius >= min(grid.shape) or passes < 1:
            raise ValueError(
                f"WideTransport got radius={radius} and passes={passes} on {grid.shape} cells; expected 1 or more of each, "
                "and less than half of the cells along an axis."
            )
        if upper is not None and not lower < upper:
            raise ValueError(f"WideTransport got lower {lower} and upper {upper}; expected lower < upper.")
        self.f, self.grid, self.radius, self.own = f, grid, int(radius), float(own)
        self.lower, self.upper, self.passes = float(lower), upper, int(passes)
        self.shifts = tuple(product(range(-self.radius, self.radius + 1), repeat=grid.dimension))
        self.register_buffer("closed", self._closed(), persistent=False)
        self.closed: Tensor

    def _closed(self) -> Tensor:
        """Which ways (S, *points) lead out of the grid."""
        closed = torch.zeros(len(self.shifts), *self.grid.shape, dtype=torch.bool)
        for axis, (n, periodic) in enumerate(zip(self.grid.shape, self.grid.periodic, strict=True)):
            if periodic:
                continue
            place = torch.arange(n).reshape([-1 if a == axis else 1 for a in range(self.grid.dimension)])
            for number, shift in enumerate(self.shifts):
                end = place + shift[axis]
                closed[number] |= (end < 0) | (end >= n)
        return closed

    def shares(self, u: Tensor) -> Tensor:
        """w (B, C, S, *points) in float64: which share of a cell goes which way."""
        logits = neighbour_logits("WideTransport", self.f, u, len(self.shifts), self.own)
        return logits.masked_fill(self.closed, -torch.inf).softmax(dim=2)

    def _arrived(self, sent: Tensor) -> Tensor:
        """What comes to each cell of what is sent each way, (B, C, S, *points) -> (B, C, *points)."""
        axes = tuple(range(2, 2 + self.grid.dimension))
        total = torch.zeros_like(sent[:, :, 0])
        for number, shift in enumerate(self.shifts):
            total = total + sent[:, :, number].roll(shift, axes)
        return total

    def _at_ends(self, field: Tensor) -> Tensor:
        """Of each way from a cell the value at its end, (B, C, *points) -> (B, C, S, *points)."""
        axes = tuple(range(2, 2 + self.grid.dimension))
        return torch.stack([field.roll([-s for s in shift], axes) for shift in self.shifts], dim=2)

    def forward(self, u: Tensor) -> Tensor:
        amount = u.to(torch.float64) - self.lower
        sent = self.shares(u) * amount.unsqueeze(2)
        middle = len(self.shifts) // 2
        held = sent[:, :, middle]
        stays = torch.zeros_like(held).unsqueeze(2)
        ways = torch.cat([sent[:, :, :middle], stays, sent[:, :, middle + 1 :]], dim=2)
        free = self.upper is None
        new = held + self._arrived(ways) if free else self._within(amount, held, ways)
        moved = new + self.lower
        return moved if u.dtype == torch.float64 else moved.to(torch.float32)

    def _within(self, amount: Tensor, held: Tensor, ways: Tensor) -> Tensor:
        """What is in the cells where no cell takes more than it has room for, (B, C, *points)."""
        assert self.upper is not None  # by the caller
        capacity = self.upper - self.lower
        arrived = torch.zeros_like(held)
        for _ in range(self.passes):
            coming = self._arrived(ways)
            # Those who wait count as being where they are: nobody is pushed beyond the bound by who cannot leave.
            room = (capacity - held - ways.sum(dim=2) - arrived).clamp_min(0.0)
            tight = coming > room
            share = torch.where(tight, room / torch.where(tight, coming, 1.0), 1.0)
            moved = self._at_ends(share) * ways
            ways = ways - moved
            arrived = arrived + self._arrived(moved)
        # A sum of what is not negative; that it does not exceed the bound is true to rounding only.
        return torch.minimum(held + ways.sum(dim=2) + arrived, amount.clamp_min(capacity))
