"""Steps around steps: increments, normalisation, constraints, held nodes, corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.constraints.base import Constraint, Context
from sciml.domains import Cloud, Domain, Point
from sciml.step import ahead

Map = Callable[..., Tensor]
"""(B, C, *points) -> (B, C, *points); one that takes a lead time is called with it, (B,), as second argument."""


def _called(f: Map, u: Tensor, lead: Tensor | None) -> Tensor:
    return f(u) if lead is None else f(u, lead)


def _each(f: Map, states: Tensor) -> Tensor:
    """A map of states applied to (B, m, C, *points)."""
    return f(states.flatten(0, 1)).unflatten(0, states.shape[:2])


class _Around(nn.Module):
    """A map around a map: it gives as many states at once as that does."""

    f: Map

    @property
    def bundle(self) -> int:
        """States that one call gives, see `sciml.step.ahead`."""
        return int(getattr(self.f, "bundle", 1))


def _per_channel(name: str, values: Tensor | Sequence[float] | float) -> Tensor:
    """Statistics as a vector (C,)."""
    vector = torch.as_tensor(values, dtype=torch.float64).detach().clone()
    if vector.ndim > 1:
        raise ValueError(
            f"Got {name} of shape {tuple(vector.shape)}; expected one number per channel, (C,)."
        )
    if not bool(torch.isfinite(vector).all()):
        raise ValueError(f"Got {name} = {vector.tolist()}; expected finite numbers.")
    return vector.reshape(-1)


def _positive(name: str, vector: Tensor) -> Tensor:
    if not bool((vector > 0).all()):
        raise ValueError(
            f"Got {name} = {vector.tolist()}; expected positive numbers. A channel that never varies has "
            "no scale: give it 1.0."
        )
    return vector


class _Statistics(nn.Module):
    """A mean and a standard deviation per channel, cast to the precision of the field they meet."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if len(mean) != len(std):
            raise ValueError(
                f"Got {len(mean)} means and {len(std)} standard deviations; expected one of each per channel."
            )
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.mean: Tensor
        self.std: Tensor

    def _shaped(self, values: Tensor, u: Tensor) -> Tensor:
        if len(values) not in (1, u.shape[1]):
            raise ValueError(
                f"Got a field of {u.shape[1]} channels, normalised with statistics of {len(values)}."
            )
        return values.to(dtype=u.dtype, device=u.device).reshape(1, -1, *[1] * (u.ndim - 2))

    def normalise(self, u: Tensor) -> Tensor:
        return (u - self._shaped(self.mean, u)) / self._shaped(self.std, u)

    def restore(self, u: Tensor) -> Tensor:
        return u * self._shaped(self.std, u) + self._shaped(self.mean, u)


class Residual(_Around):
    """u + f(u): the network gives the increment, so that a small output is a small change.

    Args:
        f: map (B, C, *points) -> (B, C, *points).
        mean, scale: per channel (C,), which make it u + mean + scale * f(u); none or both.

    Raises:
        ValueError: a number is not finite, or a scale is not positive.
    """

    def __init__(self, f: Map, mean: Tensor | None = None, scale: Tensor | None = None) -> None:
        super().__init__()
        self.f = f
        self.increment: _Statistics | None = None
        if mean is not None and scale is not None:
            self.increment = _Statistics(
                _per_channel("mean", mean), _positive("scale", _per_channel("scale", scale))
            )

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        return u + self._restored(_called(self.f, u, lead))

    def ahead(self, u: Tensor) -> Tensor:
        """The next states, (B, m, C, *points), each an increment from u."""
        return u.unsqueeze(1) + _each(self._restored, ahead(self.f, u))

    def _restored(self, change: Tensor) -> Tensor:
        return change if self.increment is None else self.increment.restore(change)


class WithCoordinates(_Around):
    """f([u, x]): the points' coordinates as D further channels, for equations that differ from place to place.

    A map that knows only the state and distances between points cannot tell where a flow that carries
    it is fast or slow. The coordinates are centred and scaled by their spread, one scale for all axes.

    Args:
        f: map (B, C + D, *points) -> (B, C, *points).
        domain: where the points lie.

    Raises:
        TypeError: the domain is a cloud, whose points move.
    """

    def __init__(self, f: Map, domain: Domain) -> None:
        super().__init__()
        if isinstance(domain, Cloud | Point):
            kind = type(domain).__name__
            raise TypeError(f"WithCoordinates got a {kind}; expected a Grid or a Mesh, whose points stay.")
        self.f = f
        self.domain = domain
        x = domain.coordinates()
        flat = x.flatten(1)
        x = x - flat.mean(dim=1).reshape(-1, *[1] * (x.ndim - 1))
        self.register_buffer("x", x / x.square().mean().sqrt(), persistent=False)
        self.x: Tensor

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        return _called(self.f, self._located(u), lead)

    def ahead(self, u: Tensor) -> Tensor:
        """The next states, (B, m, C, *points)."""
        return ahead(self.f, self._located(u))

    def _located(self, u: Tensor) -> Tensor:
        x = self.x.to(dtype=u.dtype, device=u.device)
        return torch.cat([u, x.expand(len(u), *x.shape)], dim=1)


class Normalized(_Around):
    """std * f((u - mean) / std) + mean: a map between normalised states, seen from physical units.

    Put `Residual` inside, Normalized(Residual(network), mean, std): the increment then has the scale
    of the state and the mean drops out.

    Args:
        f: map (B, C, *points) -> (B, C, *points) between normalised states.
        mean: mean of each channel (C,) or one for all [unit of the channel].
        std: standard deviation of each channel (C,) or one for all [unit of the channel].

    Raises:
        ValueError: a number is not finite, or a standard deviation is not positive.
    """

    def __init__(
        self, f: Map, mean: Tensor | Sequence[float] | float, std: Tensor | Sequence[float] | float
    ) -> None:
        super().__init__()
        self.f = f
        self.statistics = _Statistics(
            _per_channel("mean", mean), _positive("std", _per_channel("std", std))
        )

    @property
    def mean(self) -> Tensor:
        """Mean of each channel (C,)."""
        return self.statistics.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation of each channel (C,)."""
        return self.statistics.std

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        return self.statistics.restore(_called(self.f, self.statistics.normalise(u), lead))

    def ahead(self, u: Tensor) -> Tensor:
        """The next states, (B, m, C, *points)."""
        return _each(self.statistics.restore, ahead(self.f, self.statistics.normalise(u)))


class NormalizedMap(nn.Module):
    """output_std * f((a - input_mean) / input_std) + output_mean, for maps between different fields.

    For operators such as coefficient -> solution, whose input and output have different units.

    Args:
        f: map (B, C_in, *points) -> (B, C_out, *points) between normalised fields.
        input_mean, input_std: statistics of the input channels, (C_in,) or one number.
        output_mean, output_std: statistics of the output channels, (C_out,) or one number.

    Raises:
        ValueError: a number is not finite, or a standard deviation is not positive.
    """

    def __init__(
        self,
        f: Map,
        input_mean: Tensor | Sequence[float] | float,
        input_std: Tensor | Sequence[float] | float,
        output_mean: Tensor | Sequence[float] | float,
        output_std: Tensor | Sequence[float] | float,
    ) -> None:
        super().__init__()
        self.f = f
        self.input = _Statistics(
            _per_channel("input_mean", input_mean),
            _positive("input_std", _per_channel("input_std", input_std)),
        )
        self.output = _Statistics(
            _per_channel("output_mean", output_mean),
            _positive("output_std", _per_channel("output_std", output_std)),
        )

    @property
    def input_mean(self) -> Tensor:
        """Mean of each input channel (C_in,)."""
        return self.input.mean

    @property
    def input_std(self) -> Tensor:
        """Standard deviation of each input channel (C_in,)."""
        return self.input.std

    @property
    def output_mean(self) -> Tensor:
        """Mean of each output channel (C_out,)."""
        return self.output.mean

    @property
    def output_std(self) -> Tensor:
        """Standard deviation of each output channel (C_out,)."""
        return self.output.std

    def forward(self, a: Tensor) -> Tensor:
        return self.output.restore(self.f(self.input.normalise(a)))


class Constrained(_Around):
    """constraint.project(f(u), previous=u): every output is admissible, in training and in rollouts alike.

    Args:
        f: map between states in physical units.
        constraint: the admissible set.
        context: targets that are the same in every call, such as the means of the state that a rollout starts from:
            held to these, and not to the state before, rounding does not add up.
        begins: the share of a training, 0 to 1, from which on f sees the constraint in training mode; before, it is
            left as it is. Infinity never shows it the constraint that holds its rollouts in evaluation mode. What
            trains the step sets `progress`; a projection has no gradient along what it takes away, so that a network
            that has not learned a law roughly by itself may never learn it behind one.
    """

    def __init__(
        self, f: Map, constraint: Constraint, context: Context | None = None, begins: float = 0.0
    ) -> None:
        super().__init__()
        if not isinstance(constraint, Constraint):
            raise TypeError(
                f"Constrained got {type(constraint).__name__}; expected a sciml.constraints.Constraint."
            )
        self.f = f
        self.constraint = constraint
        self.context = context
        self.begins = begins
        self.progress = 0.0

    @property
    def _free(self) -> bool:
        return self.training and self.progress < self.begins

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        found = _called(self.f, u, lead)
        return found if self._free else self.constraint.project(found, previous=u, context=self.context)

    def ahead(self, u: Tensor) -> Tensor:
        """The next states, (B, m, C, *points), each projected with u before it."""
        states = ahead(self.f, u)
        if self._free:
            return states
        held = [self.constraint.project(v, previous=u, context=self.context) for v in states.unbind(1)]
        return torch.stack(held, dim=1)


class HoldNodes(_Around):
    """f(u) with some points kept as they were: prescribed values of Dirichlet nodes.

    Args:
        f: map between states.
        mask: True where the value is held, of the shape of the points.
    """

    def __init__(self, f: Map, mask: Tensor | Sequence[bool]) -> None:
        super().__init__()
        held = torch.as_tensor(mask)
        if held.dtype != torch.bool:
            raise ValueError(
                f"HoldNodes got a mask of {held.dtype}; expected booleans, True where u is held."
            )
        self.f = f
        self.register_buffer("mask", held.detach().clone())
        self.mask: Tensor

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        self._check(u)
        return torch.where(self.mask, u, _called(self.f, u, lead))

    def ahead(self, u: Tensor) -> Tensor:
        """The next states, (B, m, C, *points), all with the values held."""
        self._check(u)
        return torch.where(self.mask, u.unsqueeze(1), ahead(self.f, u))

    def _check(self, u: Tensor) -> None:
        if u.shape[2:] != self.mask.shape:
            raise ValueError(
                f"HoldNodes holds points of shape {tuple(self.mask.shape)}; got {tuple(u.shape[2:])}."
            )


class Corrected(nn.Module):
    """A (coarse) solver step with a learned correction N.

    Args:
        f: the network N.
        solver: the step P it corrects; gradients pass through it.
        mode: "parallel" P(u) + N(u), "sequential" N(P(u)), or "bypass" P(u) + N(P(u)).

    Um et al., Solver-in-the-Loop (NeurIPS 2020), train the bypass form.
    """

    Mode = Literal["parallel", "sequential", "bypass"]

    def __init__(self, f: Map, solver: Map, mode: Mode = "bypass") -> None:
        super().__init__()
        if mode not in get_args(Corrected.Mode):
            raise ValueError(
                f"Corrected got mode {mode!r}; expected one of {list(get_args(Corrected.Mode))}."
            )
        self.f = f
        self.solver = solver
        self.mode = mode

    def forward(self, u: Tensor) -> Tensor:
        advanced = self.solver(u)
        if self.mode == "sequential":
            return self.f(advanced)
        return advanced + self.f(u if self.mode == "parallel" else advanced)


class Surrogate(_Around):
    """A map between states as a `sciml.Step`: it knows its time step, its domain and its channels.

    The outermost wrapper. It checks the shape of what it is given, so that a state of another
    resolution or with other channels is refused and not silently computed with.

    Args:
        f: map (B, C, *points) -> (B, C, *points) in physical units.
        dt: time that one application advances.
        domain: where the points lie.
        channels: names of the C channels.
    """

    def __init__(self, f: Map, dt: float, domain: Domain, channels: Sequence[str]) -> None:
        super().__init__()
        if not dt > 0:
            raise ValueError(f"Surrogate got dt={dt}; expected a positive time.")
        self.f = f
        self.dt = float(dt)
        self.domain = domain
        self.channels = (channels,) if isinstance(channels, str) else tuple(channels)

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        self._check(u)
        return _called(self.f, u, lead)

    def ahead(self, u: Tensor) -> Tensor:
        """The next states, (B, m, C, *points), `dt` apart."""
        self._check(u)
        return ahead(self.f, u)

    def _check(self, u: Tensor) -> None:
        if u.ndim < 2 or u.shape[1] != len(self.channels):
            raise ValueError(
                f"Surrogate got a state of shape {tuple(u.shape)}; expected (B, {len(self.channels)}, *points) "
                f"with channels {self.channels}."
            )
        if not isinstance(self.domain, Cloud) and tuple(u.shape[2:]) != self.domain.shape:
            raise ValueError(
                f"Surrogate got points {tuple(u.shape[2:])} on a domain of {self.domain.shape}; to use it at "
                "another resolution, call `on(domain)`."
            )

    def on(self, domain: Domain) -> Surrogate:
        """The same map, sharing its parameters, on another domain, for instance a finer grid."""
        return Surrogate(self.f, self.dt, domain, self.channels)
