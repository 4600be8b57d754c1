"""The wave equation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.base import SemiLinear, integral, is_insulated, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

# The exact solution: a mean that drifts, a standing and a travelling wave.
_MEAN, _DRIFT = 0.3, 0.2
_STANDING, _TRAVELLING = (1.0, 2.0, 1.0), (2.0, -1.0, 1.0)
_AMPLITUDE = 0.5


def oscillation(frequency: Tensor, damping: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Solutions p, q of y'' + g y' + w^2 y = 0 with p(0) = 1, p'(0) = 0 and q(0) = 0, q'(0) = 1.

    Whether it swings (g < 2 w), creeps (g > 2 w) or neither; p' = -w^2 q and q' = p - g q.

    Args:
        frequency: w [1/time], not negative.
        damping: g [1/time], not negative.
        t: times; all broadcastable to each other.
    """
    square = frequency.square() - (damping / 2).square()
    frequency, damping, t, square = torch.broadcast_tensors(frequency, damping, t, square)
    swings, creeps = square > 0, square < 0
    # The root of the branch not taken must not spoil the gradient of the other.
    root = torch.where(square == 0, torch.ones_like(square), square.abs()).sqrt()
    # Creeping decays as e^{-(g/2 -+ root) t}; as a product of e^{-g t/2} and cosh it would overflow.
    slow, fast = torch.exp((root - damping / 2) * t), torch.exp(-(root + damping / 2) * t)
    envelope = torch.exp(-damping / 2 * t)
    cosine = torch.where(
        swings, envelope * torch.cos(root * t), torch.where(creeps, (slow + fast) / 2, envelope)
    )
    sine = torch.where(
        swings,
        envelope * torch.sin(root * t) / root,
        torch.where(creeps, (slow - fast) / (2 * root), envelope * t),
    )
    return cosine + damping / 2 * sine, sine


@dataclass(frozen=True)
class Wave(SemiLinear):
    """Wave equation u_tt + g u_t = c^2 lap(u) for displacement u and rate v: u_t = v, v_t = c^2 lap(u) - g v.

    On periodic boxes the energy, the integral of (v^2 + c^2 |grad u|^2)/2, is kept without damping, and the
    integral of v + g u always; the latter between insulated (Neumann) sides too. The mean displacement
    feels no restoring force: without damping it drifts at the mean rate for ever. Displacement and rate of
    a short wave differ by the factor c |k|, which is what single precision loses in u against v.

    Args:
        speed: c [length/time], not negative.
        damping: g [1/time], not negative.
    """

    speed: Parameter = 1.0
    damping: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (Field("displacement", "m"), Field("rate", "m/s"))

    def __post_init__(self) -> None:
        check_parameter("Wave", "speed", self.speed, minimum=0.0)
        check_parameter("Wave", "damping", self.damping, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        if u.shape[1] != 2:
            raise ValueError(f"Wave got {u.shape[1]} channels; expected displacement and rate.")
        displacement, rate = u[:, :1], u[:, 1:]
        speed = fit(self.speed, u)
        force = speed * speed * calc.laplacian(displacement) - fit(self.damping, u) * rate
        return torch.cat([rate.expand_as(force), force], dim=1)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not is_insulated(domain):
            return {}
        displacement, rate = u[:, :1], u[:, 1:]
        kept = {"momentum": integral(rate + fit(self.damping, u) * displacement, domain)[:, 0]}
        undamped = not bool(torch.as_tensor(self.damping).detach().any())
        if undamped and isinstance(domain, Grid) and is_periodic(domain):
            kept["energy"] = self.energy(u, domain)
        return kept

    def energy(self, u: Tensor, grid: Grid) -> Tensor:
        """Integral of (v^2 + c^2 |grad u|^2)/2 over a periodic grid, (B, 2, *points) -> (B,)."""
        displacement, rate = u[:, :1], u[:, 1:]
        speed = fit(self.speed, u)
        # -u lap(u) for |grad u|^2: the Nyquist mode has a second derivative but no first one.
        tension = -speed * speed * displacement * Spectral(grid).to(u.device).laplacian(displacement)
        return 0.5 * integral(rate.square() + tension, grid)[:, 0]

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Displacement and rate at points x (B, D, *points) and times t, on a box of side 2 pi.

        A mean that drifts, a standing wave (a product of cosines), and a plane wave that starts as one that
        travels and does so for ever where there is no damping.
        """
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        t = t.reshape([1] * x.ndim) if t.ndim == 0 else t
        dimension, ones = x.shape[1], [1] * (x.ndim - 2)
        speed, damping = (
            torch.as_tensor(fit(value, x), dtype=x.dtype, device=x.device)
            for value in (self.speed, self.damping)
        )
        standing = x.new_tensor(_STANDING[:dimension])
        travelling = x.new_tensor(_TRAVELLING[:dimension])
        phase = (travelling.reshape(1, -1, *ones) * x).sum(dim=1, keepdim=True)
        shape = torch.cos(standing.reshape(1, -1, *ones) * x).prod(dim=1, keepdim=True)
        moving = speed * travelling.norm()
        none = torch.zeros_like(phase)
        displacement = rate = none
        for frequency, start, push in (
            (torch.zeros_like(speed), none + _MEAN, none + _DRIFT),
            (speed * standing.norm(), shape, none),
            (moving, _AMPLITUDE * torch.sin(phase), -_AMPLITUDE * moving * torch.cos(phase)),
        ):
            p, q = oscillation(frequency, damping, t)
            displacement = displacement + p * start + q * push
            rate = rate - frequency.square() * q * start + (p - damping * q) * push
        return torch.cat([displacement, rate], dim=1)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension
