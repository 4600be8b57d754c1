"""Boxes for particles, periodic or not."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cloud:
    """A box in which particles move; their positions are a field (B, D, N), not a part of the domain.

    Args:
        box: (low, high) per axis [length].
        periodic: which axes wrap round; one flag for all, or one per axis.
        particle_type: what each particle is (N,), stored as int64, where they differ: 0 fluid, 1 solid wall, 2
            moving wall, 3 rigid body, as LagrangeBench (Toshev et al. 2023) numbers them.

    Raises:
        ValueError: the box is empty or not finite, the numbers of sides and flags differ, or the types are not (N,).
    """

    box: tuple[tuple[float, float], ...]
    periodic: bool | tuple[bool, ...] = False
    particle_type: Tensor | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        box = tuple((float(low), float(high)) for low, high in self.box)
        if not 1 <= len(box) <= 3:
            raise ValueError(f"Cloud got a box of {len(box)} axes; expected one to three.")
        if not all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in box):
            raise ValueError(f"Cloud got box {box}; each axis needs finite low < high.")
        flags = (self.periodic,) * len(box) if isinstance(self.periodic, bool) else tuple(self.periodic)
        if len(flags) != len(box):
            raise ValueError(f"Cloud got {len(flags)} periodic flags for {len(box)} axes.")
        object.__setattr__(self, "box", box)
        object.__setattr__(self, "periodic", flags)
        if self.particle_type is not None:
            types = torch.as_tensor(self.particle_type, dtype=torch.int64)
            if types.ndim != 1:
                raise ValueError(f"Cloud got particle types of shape {tuple(types.shape)}; expected (N,).")
            object.__setattr__(self, "particle_type", types)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cloud):
            return NotImplemented
        mine, theirs = self.particle_type, other.particle_type
        same = mine is theirs or (mine is not None and theirs is not None and torch.equal(mine, theirs))
        return self.box == other.box and self.periodic == other.periodic and same

    @property
    def dimension(self) -> int:
        """Number of space axes D."""
        return len(self.box)

    @property
    def lengths(self) -> tuple[float, ...]:
        """Side of the box per axis [length]."""
        return tuple(high - low for low, high in self.box)

    @property
    def flags(self) -> tuple[bool, ...]:
        """Which axes are periodic."""
        assert isinstance(self.periodic, tuple)  # expanded by the constructor
        return self.periodic

    @property
    def volume(self) -> float:
        """Volume of the box [length^D]."""
        return math.prod(self.lengths)

    def _per_axis(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return like.new_tensor(values).reshape(-1, 1)

    def wrap(self, x: Tensor) -> Tensor:
        """Bring positions (..., D, N) back into the box along the periodic axes."""
        low = self._per_axis(tuple(low for low, _ in self.box), x)
        length = self._per_axis(self.lengths, x)
        wrapped = low + torch.remainder(x - low, length)
        return torch.where(torch.tensor(self.flags, device=x.device).reshape(-1, 1), wrapped, x)

    def displacement(self, a: Tensor, b: Tensor) -> Tensor:
        """Vectors from b to a, (..., D, N), the shortest image along the periodic axes."""
        d = a - b
        length = self._per_axis(self.lengths, d)
        shortest = d - length * torch.round(d / length)
        return torch.where(torch.tensor(self.flags, device=d.device).reshape(-1, 1), shortest, d)

    def neighbours(self, x: Tensor, radius: float) -> Tensor:
        """Ordered pairs (2, E) of different particles closer than `radius`, for one cloud (D, N).

        Particles are binned into cells no smaller than the radius and compared with the cells around
        theirs, so that the work grows with the number of pairs and not with N^2. Pairs come sorted by
        the second particle, the receiver.

        Raises:
            ValueError: x is not (D, N), is not finite, or a periodic axis is shorter than twice the
                radius, where the nearest image is not unique.
        """
        dimension, count = self.dimension, x.shape[-1]
        if x.ndim != 2 or x.shape[0] != dimension:
            raise ValueError(f"neighbours got x of shape {tuple(x.shape)}; expected ({dimension}, N).")
        if not torch.isfinite(x).all():
            raise ValueError("neighbours got positions that are not finite.")
        short = [n for n, wraps in zip(self.lengths, self.flags, strict=True) if wraps and n < 2 * radius]
        if short or not radius > 0:
            raise ValueError(
                f"neighbours got radius {radius} in a box of sides {self.lengths}; it must be positive "
                "and at most half of each periodic side."
            )
        x = self.wrap(x)
        low = x.amin(dim=1, keepdim=True)
        extent = (x.amax(dim=1, keepdim=True) - low).flatten()
        bins, index = [], []
        for axis in range(dimension):
            if self.flags[axis]:
                n = max(1, int(self.lengths[axis] / radius))
                i = ((x[axis] - self.box[axis][0]) / self.lengths[axis] * n).long().clamp_(0, n - 1)
            else:
                n = max(1, int(float(extent[axis]) / radius))
                width = max(float(extent[axis]) / n, radius)
                i = ((x[axis] - low[axis]) / width).long().clamp_(0, n - 1)
            bins.append(n)
            index.append(i)
        cell = torch.zeros(count, dtype=torch.int64, device=x.device)
        for i, n in zip(index, bins, strict=True):
            cell = cell * n + i
        order = torch.argsort(cell)
        total = math.prod(bins)
        starts = torch.searchsorted(cell[order].contiguous(), torch.arange(total + 1, device=x.device))
        senders, receivers = [], []
        seen_offsets = product(
            *[
                sorted({o % n for o in (-1, 0, 1)}) if w else (-1, 0, 1)
                for n, w in zip(bins, self.flags, strict=True)
            ]
        )
        for offset in seen_offsets:
            other = torch.zeros(count, dtype=torch.int64, device=x.device)
            inside = torch.ones(count, dtype=torch.bool, device=x.device)
            for i, o, n, wraps in zip(index, offset, bins, self.flags, strict=True):
                j = (i + o) % n if wraps else i + o
                inside &= (j >= 0) & (j < n)
                other = other * n + j.clamp(0, n - 1)
            first, last = starts[other], starts[other + 1]
            lengths = torch.where(inside, last - first, 0)
            receiver = torch.repeat_interleave(torch.arange(count, device=x.device), lengths)
            ends = lengths.cumsum(0)
            within = torch.arange(int(lengths.sum()), device=x.device) - (ends - lengths)[receiver]
            sender = order[first[receiver] + within]
            gap = self.displacement(x[:, sender], x[:, receiver])
            near = (gap.square().sum(0) < radius**2) & (sender != receiver)
            senders.append(sender[near])
            receivers.append(receiver[near])
        pairs = torch.stack([torch.cat(senders), torch.cat(receivers)])
        return pairs[:, torch.argsort(pairs[1] * count + pairs[0])]
