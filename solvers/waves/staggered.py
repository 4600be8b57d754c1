"""Leapfrog on staggered positions, for any pair of fields that drive each other by first derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sciml.domains import AXIS_NAMES, Grid
from sciml.pdes.base import PDE
from sciml.pdes.parameters import Parameter, fit
from sciml.solvers.waves.layers import PML, Layer, Sponge, check_layer, depth, open_axes, strength
from sciml.step import LowFaces

Offsets = tuple[float, ...]
Mean = Literal["arithmetic", "harmonic"]


@dataclass(frozen=True)
class Term:
    """sign * d/dx_axis of channel `source` in the rate of channel `target`; `memory` numbers its convolution."""

    target: int
    source: int
    axis: int
    sign: float
    memory: int | None = None


@dataclass(frozen=True)
class Convolution:
    """The memory m' = -r m - g r d of a derivative d that stands still over an interval: what it comes to, and
    its mean.

    The mean, not the value at the end: both groups of fields then meet the same layer at the same times,
    without which it would reflect a hundred times more.

    Args:
        factor, gain: m at the end is factor * m + gain * d.
        direct, mean: the derivative that acts is direct * d + mean * m.
    """

    factor: Tensor
    gain: Tensor
    direct: Tensor
    mean: Tensor


@dataclass(frozen=True)
class Medium:
    """What multiplies the derivatives, at the channels' positions, for one precision and device.

    Args:
        coefficient: of each channel, a number or (B or 1, *cells), zero where the channel is held.
        loss: of each first-half channel half a substep times its damping rate, or None.
        decay: of each channel its factor over half a substep (sponge), or None.
        wholes: of each memory how it moves over a substep.
        halves: the same over half of one.
    """

    coefficient: tuple[Tensor | float, ...]
    loss: tuple[Tensor | float | None, ...]
    decay: tuple[Tensor, ...] | None
    wholes: tuple[Convolution, ...]
    halves: tuple[Convolution, ...]


class Leapfrog:
    """Two groups of fields, a and b, with a_t = A D b - loss a and b_t = -B D^T a: leapfrog in space and time.

    One substep of h kicks b by h/2, drifts a by h and kicks b by h/2, so that both halves of a state belong
    to one time. Second order; without loss reversible, and the energy at staggered times

        sum (a^2/A + b^2/B)/2 - (h^2/8) sum B |D^T a|^2

    (`energy`) is kept to rounding; it is positive, and the solution bounded, while h is below `limit`.
    Channels lie at different positions of a cell, see `offsets`.

    Attributes:
        dt, domain, channels, method: as every Step.
        substeps: equal substeps of one call.
        limit: the largest stable substep [time].
        offsets: of each field channel where it lies in its cell, per axis in cells from the low corner:
            1/2 in the middle, 0 on the low face. Positions on the high wall are not stored: they are zero.
        low_faces: of each channel the axes on whose low faces it lies.
        layer: what absorbs at the sides "outflow", or None.
    """

    name = "Leapfrog"

    def __init__(
        self,
        pde: PDE,
        grid: Grid,
        dt: float,
        *,
        offsets: Sequence[Offsets],
        first: int,
        terms: Sequence[Term],
        substeps: int | None,
        cfl: float,
        layer: Layer | None,
        method: str,
    ) -> None:
        check_grid(self.name, grid, dt, substeps, cfl)
        check_layer(self.name, layer, grid)
        self.pde, self.domain, self.dt, self.layer = pde, grid, float(dt), layer
        self.offsets, self._first = tuple(offsets), first
        self._names = pde.channels(grid.dimension)
        absorbing = open_axes(grid) if isinstance(layer, PML) else ()
        numbered: list[Term] = []
        memories: list[Term] = []
        for term in terms:
            memory = None
            if term.axis in absorbing:
                memory = len(memories)
                memories.append(term)
            numbered.append(Term(term.target, term.source, term.axis, term.sign, memory))
        self._terms, self._memories = tuple(numbered), tuple(memories)
        self.channels = self._names + tuple(
            f"memory_{self._names[t.target]}_{AXIS_NAMES[t.axis]}" for t in memories
        )
        # A memory lies where the field lies that it acts on.
        places = [*self.offsets, *(self.offsets[term.target] for term in memories)]
        self.low_faces: LowFaces = tuple(
            tuple(axis for axis, at in enumerate(place) if at == 0.0) for place in places
        )
        # A value on a wall that a forward difference reads from the low side is the wall's own: zero.
        self._held: tuple[tuple[int, ...], ...] = tuple(
            tuple(
                axis
                for axis in range(grid.dimension)
                if not grid.periodic[axis]
                and any(
                    t.source == channel and t.axis == axis and offsets[channel][axis] == 0.0 for t in terms
                )
            )
            for channel in range(len(offsets))
        )
        self.limit = 2.0 / math.sqrt(self._largest_square())
        self.substeps = choose_substeps(self.name, dt, self.limit, substeps, cfl)
        self.method = method
        self._cached: tuple[tuple[torch.dtype, torch.device], Medium] | None = None

    def __repr__(self) -> str:
        return f"{self.name}({self.pde}, {self.domain.shape}, dt={self.dt}, {self.method})"

    # What a kind of wave says about itself.

    def _coefficients(self, u: Tensor) -> list[Parameter]:
        """A and B of every channel at its position: numbers, or (B or 1, 1, *cells)."""
        raise TypeError(f"{type(self).__name__} states no coefficients.")

    def _loss(self, u: Tensor) -> list[Parameter | None]:
        """Damping rates of the first channels [1/time]."""
        return [None] * self._first

    def _largest_square(self) -> float:
        """Bound of the largest squared frequency of the discrete equations [1/time^2]."""
        raise TypeError(f"{type(self).__name__} states no bound.")

    def _speed(self, u: Tensor) -> Parameter:
        """Largest wave speed of each sample, a number or (B or 1, 1, 1...)."""
        raise TypeError(f"{type(self).__name__} states no speed.")

    def _ends(self, axis: int) -> tuple[str, str]:
        """What forward differences meet at both ends: "periodic", "closed" or "open"."""
        low, _ = self.domain.sides[axis]
        return ("periodic", "periodic") if low == "periodic" else ("closed", "closed")

    def _finish(self, fields: list[Tensor], medium: Medium) -> None:
        """Fill stored values that follow from others."""

    # States.

    def start(self, fields: Tensor) -> Tensor:
        """Fields (B, C, *cells) as a state of this step: with empty memory where the layer keeps one.

        Raises:
            ValueError: the number of channels or points is another one.
        """
        self._check(fields, self._names)
        memory = fields.new_zeros(fields.shape[0], len(self._memories), *fields.shape[2:])
        return torch.cat([fields, memory], dim=1) if self._memories else fields

    def fields(self, u: Tensor) -> Tensor:
        """The fields of a state, (B, C + memory, *cells) -> (B, C, *cells)."""
        return u[:, : len(self._names)]

    def coordinates(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> Tensor:
        """Positions of every field channel, (C, D, *cells) [length]."""
        corner = [
            low + h * torch.arange(n, dtype=torch.float64)
            for low, h, n in zip(
                self.domain.origin,  # type: ignore[arg-type]
                self.domain.spacing,
                self.domain.shape,
                strict=True,
            )
        ]
        spacing = self.domain.spacing
        places = [
            torch.stack(
                torch.meshgrid(
                    *[c + o * h for c, o, h in zip(corner, offset, spacing, strict=True)], indexing="ij"
                )
            )
            for offset in self.offsets
        ]
        return torch.stack(places).to(dtype=dtype, device=device)

    def sample(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Fields from a function of points (1, D, *cells) -> (B, C, *cells), each channel at its position.

        Values that walls hold become zero.
        """
        places = self.coordinates()
        parts = [self._hold(function(places[c : c + 1])[:, c : c + 1], c) for c in range(len(self.offsets))]
        return torch.cat(parts, dim=1)

    def to_centres(self, u: Tensor) -> Tensor:
        """The fields of a state at the centres of the cells, by means of neighbours, (B, C, *cells).

        Second order. For looking and storing: means lose the shortest waves, so they are no state to go on from.
        """
        out = []
        for channel, offset in enumerate(self.offsets):
            f = u[:, channel]
            for axis, o in enumerate(offset):
                if o == 0.0:
                    f = 0.5 * (f + self._next(f, axis))
            out.append(f)
        return torch.stack(out, dim=1)

    def from_centres(self, centred: Tensor) -> Tensor:
        """Fields at the channels' positions from fields at the centres of the cells, by means of neighbours.

        (B, C, *cells) -> (B, C, *cells), second order. Values that walls hold become zero.
        """
        self._check(centred, self._names)
        out = []
        for channel, offset in enumerate(self.offsets):
            f = centred[:, channel : channel + 1]
            for axis, o in enumerate(offset):
                if o == 0.0:
                    f = 0.5 * (f + previous(f, axis + 2, self.domain.periodic[axis]))
            out.append(self._hold(f, channel))
        return torch.cat(out, dim=1)

    def energy(self, u: Tensor) -> Tensor:
        """The energy at staggered times that a closed grid without loss keeps to rounding, (B,).

        [energy, that is (a^2/A + b^2/B)/2 * length^D].
        """
        self._check(u, self.channels)
        medium, h = self._medium(u), self.dt / self.substeps
        fields = [u[:, c] for c in range(len(self._names))]
        total = u.new_zeros(u.shape[0])
        for channel, f in enumerate(fields):
            coefficient = torch.as_tensor(medium.coefficient[channel], dtype=u.dtype, device=u.device)
            # Held values are zero, and so is their coefficient.
            weight = torch.where(coefficient > 0, 1.0 / coefficient.clamp(min=1e-300), 0.0)
            total = total + 0.5 * (weight * f.square()).flatten(1).sum(1)
            if channel >= self._first:
                rate = self._derivatives(fields, channel)
                total = total - h * h / 8.0 * (coefficient * rate.square()).flatten(1).sum(1)
        return total * math.prod(self.domain.spacing)

    def __call__(self, u: Tensor, /) -> Tensor:
        self._check(u, self.channels)
        medium, h = self._medium(u), self.dt / self.substeps
        count = len(self._names)
        fields = [self._hold(u[:, c : c + 1], c)[:, 0] for c in range(count)]
        memory = [u[:, count + m] for m in range(len(self._memories))]
        if medium.decay is None:
            self._kick(fields, memory, medium, h, 1)
            for i in range(self.substeps):
                self._drift(fields, memory, medium, h)
                # Two half kicks from the same drifted fields are one; the last one ends the step.
                self._kick(fields, memory, medium, h, 1 if i == self.substeps - 1 else 2)
        else:
            for _ in range(self.substeps):
                fields = [f * d for f, d in zip(fields, medium.decay, strict=True)]
                self._kick(fields, memory, medium, h, 1)
                self._drift(fields, memory, medium, h)
                self._kick(fields, memory, medium, h, 1)
                fields = [f * d for f, d in zip(fields, medium.decay, strict=True)]
        self._finish(fields, medium)
        return torch.stack([*fields, *memory], dim=1)

    def _kick(
        self, fields: list[Tensor], memory: list[Tensor], medium: Medium, h: float, halves: int
    ) -> None:
        for channel in range(self._first, len(fields)):
            rate = self._rate(fields, memory, channel, medium.halves if halves == 1 else medium.wholes)
            if rate is not None:
                time = 0.5 * h * halves
                fields[channel] = fields[channel] + time * medium.coefficient[channel] * rate

    def _drift(self, fields: list[Tensor], memory: list[Tensor], medium: Medium, h: float) -> None:
        for channel in range(self._first):
            rate = self._rate(fields, memory, channel, medium.wholes)
            push = 0.0 if rate is None else h * medium.coefficient[channel] * rate
            loss = medium.loss[channel]
            if loss is None:
                fields[channel] = fields[channel] + push
            else:  # the loss at the mean of both times: stable and second order at any rate
                fields[channel] = ((1.0 - loss) * fields[channel] + push) / (1.0 + loss)

    def _rate(
        self,
        fields: list[Tensor],
        memory: list[Tensor],
        channel: int,
        convolutions: tuple[Convolution, ...],
    ) -> Tensor | None:
        """The mean over an interval of a channel's derivatives; the memory moves to its end."""
        rate: Tensor | None = None
        for term in self._terms:
            if term.target != channel:
                continue
            part = term.sign * self._difference(fields[term.source], term)
            if term.memory is not None:
                now, c = memory[term.memory], convolutions[term.memory]
                memory[term.memory] = c.factor * now + c.gain * part
                part = c.direct * part + c.mean * now
            rate = part if rate is None else rate + part
        return rate

    def _derivatives(self, fields: list[Tensor], channel: int) -> Tensor:
        """The sum of a channel's terms, without a layer."""
        total = torch.zeros_like(fields[channel])
        for term in self._terms:
            if term.target == channel:
                total = total + term.sign * self._difference(fields[term.source], term)
        return total

    def _difference(self, f: Tensor, term: Term) -> Tensor:
        """Derivative of (B, *cells) along the term's axis, between two neighbours of the target."""
        h, dim, n = self.domain.spacing[term.axis], term.axis + 1, self.domain.shape[term.axis]
        forward = self.offsets[term.source][term.axis] == 0.0
        if self.domain.periodic[term.axis]:
            return (f.roll(-1, dim) - f) / h if forward else (f - f.roll(1, dim)) / h
        if not forward:  # nothing acts on the wall itself
            return torch.cat([torch.zeros_like(f.narrow(dim, 0, 1)), f.diff(dim=dim)], dim=dim) / h
        low, high = self._ends(term.axis)
        # At an open end the value beyond is minus the one before it, apart from what `_loss` adds: see there.
        first = -f.narrow(dim, 1, 1) if low == "open" else f.narrow(dim, 0, 1)
        last = -f.narrow(dim, n - 1, 1) if high == "open" else torch.zeros_like(f.narrow(dim, 0, 1))
        return torch.cat([first, f.narrow(dim, 1, n - 1), last], dim=dim).diff(dim=dim) / h

    def _next(self, f: Tensor, axis: int) -> Tensor:
        """Values one cell further, (B, *cells): zero on a high wall, carried on where it is open."""
        dim, n = axis + 1, f.shape[axis + 1]
        if self.domain.periodic[axis]:
            return f.roll(-1, dim)
        edge = f.narrow(dim, n - 1, 1)
        _, high = self._ends(axis)
        last = 2.0 * edge - f.narrow(dim, n - 2, 1) if high == "open" else torch.zeros_like(edge)
        return torch.cat([f.narrow(dim, 1, n - 1), last], dim=dim)

    def _hold(self, f: Tensor, channel: int) -> Tensor:
        """(B, 1, *cells) with zeros where a low wall holds the channel."""
        for axis in self._held[channel]:
            if self._ends(axis)[0] == "closed":
                dim = axis + 2
                rest = f.narrow(dim, 1, f.shape[dim] - 1)
                f = torch.cat([torch.zeros_like(f.narrow(dim, 0, 1)), rest], dim=dim)
        return f

    def _check(self, u: Tensor, channels: tuple[str, ...]) -> None:
        expected = (len(channels), *self.domain.shape)
        if tuple(u.shape[1:]) == expected:
            return
        hint = ""
        if tuple(u.shape[1:]) == (len(self._names), *self.domain.shape):
            hint = " Give the fields to .start(fields), which adds the empty memory of the layer."
        raise ValueError(
            f"{self.name} got a state of shape {tuple(u.shape)}; expected (B, *{expected}) with channels "
            f"{channels}.{hint}"
        )

    # The medium.

    def _medium(self, u: Tensor) -> Medium:
        """Coefficients for u's precision and device; kept between calls unless they take gradients."""
        key = (u.dtype, u.device)
        if self._cached is not None and self._cached[0] == key:
            return self._cached[1]
        h = self.dt / self.substeps
        given = self._coefficients(u)
        learns = any(isinstance(v, Tensor) and v.requires_grad for v in given)
        coefficients = tuple(
            self._masked(value, channel, u) if self._held[channel] else _squeezed(value)
            for channel, value in enumerate(given)
        )
        loss = tuple(None if value is None else _squeezed(0.5 * h * value) for value in self._loss(u))
        learns = learns or any(isinstance(v, Tensor) and v.requires_grad for v in loss)
        speed = self._speed(u) if self.layer is not None else 0.0
        decay = self._decays(speed, h, u) if isinstance(self.layer, Sponge) else None
        wholes, halves = (
            tuple(self._convolution(term, speed, time, u) for term in self._memories)
            for time in (h, 0.5 * h)
        )
        medium = Medium(coefficients, loss, decay, wholes, halves)
        if not learns:
            self._cached = (key, medium)
        return medium

    def _masked(self, value: Parameter, channel: int, u: Tensor) -> Tensor:
        """A coefficient (B or 1, *cells) that is zero on the low walls that hold its channel."""
        mask = u.new_ones(self.domain.shape)
        for axis in self._held[channel]:
            mask.select(axis, 0).zero_()
        return mask * _squeezed(value)

    def _along(self, values: Tensor, axis: int, u: Tensor) -> Tensor:
        """(N,) values of one axis as (N, 1...) for (B, *cells)."""
        ones = [1] * self.domain.dimension
        ones[axis] = -1
        return values.reshape(ones).to(dtype=u.dtype, device=u.device)

    def _decays(self, speed: Parameter, h: float, u: Tensor) -> tuple[Tensor, ...]:
        assert self.layer is not None
        out = []
        for offset in self.offsets:
            rate = u.new_zeros([1] * self.domain.dimension)
            for axis in open_axes(self.domain):
                into = depth(self.layer, self.domain, axis, offset[axis])
                grown = strength(self.layer, self.domain, axis) * into**self.layer.order
                rate = rate + self._along(grown, axis, u)
            out.append(torch.exp(-0.5 * h * _squeezed(speed) * rate.unsqueeze(0)))
        return tuple(out)

    def _convolution(self, term: Term, speed: Parameter, time: float, u: Tensor) -> Convolution:
        layer = self.layer
        assert isinstance(layer, PML)
        into = self._along(
            depth(layer, self.domain, term.axis, self.offsets[term.target][term.axis]), term.axis, u
        )
        s = strength(layer, self.domain, term.axis) * into**layer.order * _squeezed(speed)
        k = 1.0 + (layer.stretch - 1.0) * into**layer.order
        a = layer.shift * (1.0 - into) * torch.ones_like(s)
        turn = (s / k + a) * time
        # Where nothing turns there is no memory, and the quotients must not be 0/0 there.
        still = turn == 0
        factor = torch.exp(-turn)
        mean = torch.where(still, torch.ones_like(turn), -torch.expm1(-turn) / turn.masked_fill(still, 1.0))
        share = torch.where(s > 0, s / (k * (s + k * a)).masked_fill(s == 0, 1.0), torch.zeros_like(s))
        return Convolution(factor, share * (factor - 1.0), 1.0 / k + share * (mean - 1.0), mean)

    def _at(self, value: Parameter, channel: int, u: Tensor, mean: Mean) -> Parameter:
        """A parameter of the cells at a channel's position: the mean of the cells that meet there."""
        value = fit(value, u)
        if not isinstance(value, Tensor) or all(n == 1 for n in value.shape[2:]):
            return value
        check_field(self.name, value, self.domain)
        for axis, o in enumerate(self.offsets[channel]):
            if o == 0.0:
                other = previous(value, axis + 2, self.domain.periodic[axis])
                both = value + other
                value = 0.5 * both if mean == "arithmetic" else 2.0 * value * other / both
        return value


def check_grid(owner: str, grid: Grid, dt: float, substeps: int | None, cfl: float) -> None:
    """Refuse what no wave solver takes.

    Raises:
        ValueError: the grid is one of nodes or has an unknown side, or a number is out of range.
    """
    if not (isinstance(dt, (int, float)) and math.isfinite(dt) and dt > 0):
        raise ValueError(f"{owner} got dt={dt}; expected a positive time.")
    if substeps is not None and (not isinstance(substeps, int) or substeps < 1):
        raise ValueError(f"{owner} got substeps={substeps}; expected at least 1, or None to choose.")
    if not (math.isfinite(cfl) and 0 < cfl <= 1):
        raise ValueError(
            f"{owner} got cfl={cfl}; expected above 0 and at most 1, a part of the stable limit."
        )
    if grid.centering != "cell":
        raise ValueError(f"{owner} got a grid of nodes. Use Grid(..., centering='cell').")
    known = ("periodic", "wall", "outflow")
    unknown = sorted({side for pair in grid.sides for side in pair if side not in known})
    if unknown:
        raise ValueError(f"{owner} got sides {unknown}; it knows {list(known)}.")


def check_field(owner: str, value: Tensor, grid: Grid) -> None:
    """Refuse a field of other cells.

    Raises:
        ValueError: see above.
    """
    if tuple(value.shape[1:]) != (1, *grid.shape):
        raise ValueError(
            f"{owner} got a field of shape {tuple(value.shape)} for the medium; expected (1 or B, 1, "
            f"{', '.join(map(str, grid.shape))})."
        )


def choose_substeps(owner: str, dt: float, limit: float, substeps: int | None, cfl: float) -> int:
    """Equal substeps of at most `cfl` times the limit, or those asked for.

    Raises:
        ValueError: those asked for are longer than the limit.
    """
    if substeps is None:
        return max(1, math.ceil(dt / (cfl * limit) * (1 - 1e-12)))
    if dt / substeps > limit * (1 + 1e-12):
        raise ValueError(
            f"{owner} got substeps={substeps}: a substep of {dt / substeps:.4g} exceeds the limit {limit:.4g} of the "
            f"fastest wave on this grid. Use at least {math.ceil(dt / limit)} substeps, or substeps=None, which "
            "chooses."
        )
    return substeps


def previous(f: Tensor, dim: int, periodic: bool) -> Tensor:
    """Values one cell back along a dimension; the first one again at a low side."""
    if periodic:
        return f.roll(1, dim)
    return torch.cat([f.narrow(dim, 0, 1), f.narrow(dim, 0, f.shape[dim] - 1)], dim=dim)


def numerical_frequency(
    speed: float, wavenumbers: Sequence[float], spacing: Sequence[float], h: float
) -> float:
    """Frequency at which leapfrog carries a plane wave in a uniform medium [1/time].

    sin(omega h/2)/h = c (sum_d sin(k_d dx_d/2)^2/dx_d^2)^(1/2), for substeps h. Taflove and Hagness,
    Computational Electrodynamics (2005), equation 4.5.

    Raises:
        ValueError: no real frequency solves it: h is beyond the stable limit.
    """
    square = sum((math.sin(k * d / 2) / d) ** 2 for k, d in zip(wavenumbers, spacing, strict=True))
    sine = h * speed * math.sqrt(square)
    if sine > 1:
        raise ValueError(
            f"numerical_frequency got h={h:g}, for which the wave grows; take a shorter substep."
        )
    return 2.0 / h * math.asin(sine)


def _squeezed(value: Parameter) -> Tensor | float:
    """(B or 1, 1, *cells) as (B or 1, *cells)."""
    return value.squeeze(1) if isinstance(value, Tensor) and value.ndim > 1 else value
