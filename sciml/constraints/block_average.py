"""Means over blocks of points, held to coarse values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sciml.constraints.base import (
    Context,
    at_least_single,
    checked_channels,
    named,
    point_volumes,
    replace_channels,
    select,
)
from sciml.constraints.given import given_tensor
from sciml.constraints.linear import Linear
from sciml.constraints.right_hand_side import RightHandSide
from sciml.domains import Cloud, Grid, Mesh

Form = Literal["additive", "multiplicative", "scaled"]
Quantity = Literal["mean", "integral"]


class BlockAverage(Linear):
    """Hold the volume-weighted mean, or the integral, over each block of points.

        additive         u = z + (x - m)
        multiplicative   u = lower + (z - lower) (x - lower) / (m - lower)
        scaled           that where m > x, and u = upper - (upper - z) (upper - x) / (upper - m) where m < x

    with m the mean of z over the block and x its target: the values of a coarser state that a finer one has to agree
    with, or what each block held before. The additive form is the nearest state in the volume-weighted L2 norm, never
    enlarges a difference of two states, and joins other rows in a `Stack`. The multiplicative one keeps fields that are
    above `lower` above it, the scaled one those between `lower` and `upper` between them, if x is there too. Both are no
    projections in a norm; in a block whose m or x is outside, they add as the first does, so that the mean is exact
    whatever the network gives. Behind an exponential, the multiplicative form with lower 0 is the softmax share
    u = exp(y) x / <exp y>.

    With bounds -1 and 1, the scaled form is z + (x - m) (s + z) / (s + m), s = sign(m - x), of Harder et al.,
    Hard-constrained deep learning for climate downscaling, Journal of Machine Learning Research 24 (2023).

    Args:
        domain: gives the volumes.
        size: points of a block along each axis of a grid; each divides the number of points.
        labels: in its place the number of each point's block, 0, 1, ... or -1 for points in no block, of the shape of the
            points; for meshes and clouds. A tensor, nested lists, or a file with an array "labels".
        values: x: "previous" for the means of the state before, "context" for `context.targets[target]`, or numbers
            or a file with an array "values"; of a shape that fits (K, *blocks), and (B, K, *blocks) in a context
            [unit of u, times volume for integrals].
        form: see above.
        quantity: whether x is a mean or an integral.
        lower, upper: of the forms above, upper of the scaled one only [unit of u].
        channels: numbers of the K channels that are held, all where left out.
        volumes: of the points in place of the domain's; those of a cloud's particles.
        target: under which name the context holds x.

    Raises:
        TypeError: the domain is a cloud, and no volumes are given.
        ValueError: blocks, bounds, form or shapes do not fit, a block is empty, or volumes are not positive.
    """

    disjoint = True
    weights: Tensor
    shares: Tensor
    block: Tensor
    sizes: Tensor

    def __init__(
        self,
        domain: Grid | Mesh | Cloud,
        size: Sequence[int] | None = None,
        labels: Tensor | Sequence[Any] | str | None = None,
        values: Tensor | Sequence[Any] | float | str = "previous",
        form: Form = "additive",
        quantity: Quantity = "mean",
        lower: float = 0.0,
        upper: float | None = None,
        channels: Sequence[int] | None = None,
        volumes: Tensor | Sequence[float] | None = None,
        target: str = "blocks",
    ) -> None:
        super().__init__()
        if form not in get_args(Form) or quantity not in get_args(Quantity):
            raise ValueError(
                f"BlockAverage got form={form!r} and quantity={quantity!r}; expected one of {list(get_args(Form))} and "
                f"one of {list(get_args(Quantity))}."
            )
        if (upper is None) == (form == "scaled") or (upper is not None and not lower < upper):
            raise ValueError(
                f"BlockAverage got form={form!r} with lower {lower} and upper {upper}; expected lower < upper with "
                "form='scaled', and no upper with another form."
            )
        weights = point_volumes(domain, volumes, "BlockAverage")
        points = tuple(weights.shape)
        if (size is None) == (labels is None):
            raise ValueError("BlockAverage needs either size, for grids, or labels.")
        if size is not None:
            index, blocks = _blocks(points, size)
        else:
            assert labels is not None
            index, blocks = _labelled(points, labels)
        self.blocks = blocks
        self.form: Form = form
        self.nearest = form == "additive"
        self.quantity: Quantity = quantity
        self.lower, self.upper = float(lower), upper
        self.channels = checked_channels(channels, "BlockAverage")
        count = torch.Size(blocks).numel()
        flat = weights.flatten()
        sizes = flat.new_zeros(count + 1).index_add(0, index, flat)[:count]
        # Points in no block belong to one more, whose mean nobody asks for.
        shares = torch.where(index < count, flat / sizes[index.clamp_max(count - 1)], 0.0)
        self.register_buffer("weights", weights / weights.sum(), persistent=False)
        self.register_buffer("shares", shares, persistent=False)
        self.register_buffer("block", index, persistent=False)
        self.register_buffer("sizes", sizes, persistent=False)
        self.right = RightHandSide(values, target, "BlockAverage")

    @property
    def points(self) -> tuple[int, ...]:
        return tuple(self.weights.shape)

    @property
    def volumes(self) -> Tensor:
        return self.weights

    def count(self, channels: int) -> int:
        return (channels if self.channels is None else len(self.channels)) * len(self.sizes)

    def means(self, u: Tensor) -> Tensor:
        """Means over the blocks of the held channels, (B, C, *points) -> (B, K, *blocks) in float64."""
        return self._means(u).unflatten(2, self.blocks)

    def _means(self, u: Tensor) -> Tensor:
        v = select(u, self.channels, "BlockAverage")
        if v.shape[2:] != self.weights.shape:
            raise ValueError(
                f"BlockAverage got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{self.points}."
            )
        weighted = v.flatten(2).to(torch.float64) * self.shares
        sums = weighted.new_zeros(*v.shape[:2], len(self.sizes) + 1).index_add(2, self.block, weighted)
        return sums[..., :-1]

    def _spread(self, values: Tensor, elsewhere: float) -> Tensor:
        """Each point's value of its block, (B, K, Q) -> (B, K, N), another one for points in no block."""
        return torch.nn.functional.pad(values, (0, 1), value=elsewhere)[..., self.block]

    def _wanted(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        """Means that the blocks should have, (B, K, Q)."""
        if self.right.source == "previous":
            return self._means(self.right.before(u, previous))
        count = u.shape[1] if self.channels is None else len(self.channels)
        given = self.right.given(u, context, (count, *self.blocks)).flatten(2)
        return given / self.sizes if self.quantity == "integral" else given

    def multiply(self, u: Tensor) -> Tensor:
        return self._means(u).flatten(1)

    def transpose(self, y: Tensor, channels: int) -> Tensor:
        v = self._spread(y.unflatten(1, (-1, len(self.sizes))), 0.0) * self.shares
        v = v.unflatten(2, self.points)
        if self.channels is None:
            return v
        return replace_channels(v.new_zeros(len(v), channels, *self.points), self.channels, v)

    def squares(self, diagonal: Tensor) -> Tensor:
        held = diagonal if self.channels is None else diagonal[list(self.channels)]
        terms = held.flatten(1) * self.shares.square()
        sums = terms.new_zeros(len(held), len(self.sizes) + 1).index_add(1, self.block, terms)
        return sums[:, :-1].flatten()

    def target(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        return self._wanted(u, previous, context).flatten(1)

    def constants(self, channels: int) -> Tensor | None:
        if self.right.constant is None:
            return None
        count = self.count(channels) // len(self.sizes)
        empty = self.weights.new_zeros(1, count)
        given = self.right.given(empty, None, (count, *self.blocks)).flatten(2)
        return (given / self.sizes if self.quantity == "integral" else given).flatten()

    def row_name(self, row: int, channels: int) -> str:
        held, number = divmod(row, len(self.sizes))
        place = []
        for n in reversed(self.blocks):
            number, last = divmod(number, n)
            place.append(last)
        where = tuple(reversed(place)) if len(place) > 1 else place[0]
        return f"block {where} of channel {held if self.channels is None else self.channels[held]}"

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        z = select(u, self.channels, "BlockAverage").flatten(2).to(torch.float64)
        mean, wanted = self._means(u), self._wanted(u, previous, context)
        if self.form == "additive":
            return self._replaced(u, z + self._spread(wanted - mean, 0.0))
        return self._replaced(u, self._rescaled(z, mean, wanted))

    def _replaced(self, u: Tensor, found: Tensor) -> Tensor:
        """u with the held channels (B, K, N) in its own dtype."""
        found = found.unflatten(2, self.points).to(u.dtype)
        return replace_channels(u, self.channels, found)

    def _rescaled(self, z: Tensor, mean: Tensor, wanted: Tensor) -> Tensor:
        """The forms that keep bounds, (B, K, N)."""
        anchor = torch.full_like(mean, self.lower)
        inside = (mean > self.lower) & (wanted >= self.lower)
        if self.upper is not None:
            anchor = torch.where(mean < wanted, self.upper, anchor)
            inside = inside & (mean < self.upper) & (wanted <= self.upper)
        ratio = torch.where(inside, (wanted - anchor) / torch.where(inside, mean - anchor, 1.0), 1.0)
        shift = torch.where(inside, 0.0, wanted - mean)
        a, r = self._spread(anchor, 0.0), self._spread(ratio, 1.0)
        return a + (z - a) * r + self._spread(shift, 0.0)


def _blocks(points: tuple[int, ...], size: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """Number of each point's block (N,), and the shape of the blocks."""
    sizes = tuple(int(n) for n in size)
    if len(sizes) != len(points) or any(n < 1 or m % n for m, n in zip(points, sizes, strict=True)):
        raise ValueError(
            f"BlockAverage got blocks of {sizes} points on points {points}; expected a divisor for each axis, or give "
            "labels."
        )
    blocks = tuple(m // n for m, n in zip(points, sizes, strict=True))
    lines = [torch.arange(m) // n for m, n in zip(points, sizes, strict=True)]
    index = torch.zeros((), dtype=torch.int64)
    for line, n in zip(lines, blocks, strict=True):
        index = index.unsqueeze(-1) * n + line
    return index.flatten(), blocks


def _labelled(points: tuple[int, ...], labels: object) -> tuple[Tensor, tuple[int, ...]]:
    """Number of each point's block (N,), the number of blocks for points in none, and that number."""
    given = given_tensor(labels, "labels", "BlockAverage")
    index = given.to(torch.int64)
    if tuple(index.shape) != points or not bool((index == given).all()) or int(index.min()) < -1:
        raise ValueError(
            f"BlockAverage got labels of shape {tuple(given.shape)} from {float(given.min())}; expected whole numbers of "
            f"shape {points}, -1 for points in no block."
        )
    count = int(index.max()) + 1
    missing = sorted(set(range(count)) - set(index.flatten().tolist()))
    if missing or not count:
        raise ValueError(
            f"BlockAverage got labels up to {count - 1} without a point in block {named(missing)}; expected one or more "
            "in each."
        )
    return torch.where(index < 0, count, index).flatten(), (count,)
