"""Maxwell's equations in three dimensions and in the plane."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.acoustics import check_positive, is_closed
from sciml.pdes.base import PDE, integral
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.pdes.wave import oscillation
from sciml.trajectory import Field

CurlTerm = tuple[int, int, int, float]
"""(component of the result, component, axis, sign): sign * d/dx_axis of a component."""

# Wave vector, direction that fixes the polarisation, phase, and how electric and magnetic field start.
_MODES = (
    ((1.0, 2.0, 1.0), (0.3, -0.7, 1.0), 0.4, 1.0, 0.0),
    ((2.0, -1.0, 1.0), (1.0, 0.2, -0.4), 1.1, 0.6, -0.3),
)


def curl_terms(result: tuple[int, ...], source: tuple[int, ...], dimension: int) -> tuple[CurlTerm, ...]:
    """The terms of (curl F)_a = dF_c/dx_b - dF_b/dx_c, for a, b, c in cyclic order.

    Args:
        result: components a that are wanted, 0 to 2.
        source: components that F has; the others are zero.
        dimension: number of axes; along the others nothing varies.

    Returns (index into `result`, index into `source`, axis, sign) of each term that does not vanish.
    """
    terms = []
    for i, a in enumerate(result):
        b, c = (a + 1) % 3, (a + 2) % 3
        for axis, component, sign in ((b, c, 1.0), (c, b, -1.0)):
            if axis < dimension and component in source:
                terms.append((i, source.index(component), axis, sign))
    return tuple(terms)


@dataclass(frozen=True)
class MaxwellEquations(PDE):
    """Electric field E and magnetic field H in a medium that is linear and at rest,

        eps E_t = curl H - sigma E,    mu H_t = -curl E.

    Waves travel at c = 1/sqrt(eps mu); the impedance is sqrt(mu/eps). div(mu H) never changes, nor does
    div(eps E) where nothing conducts; a state with charges or magnetic charges keeps them. Without
    conductivity the energy, the integral of (eps |E|^2 + mu |H|^2)/2, is kept on periodic boxes and between
    perfect conductors ("wall" sides).

    Take `Maxwell` in three dimensions, `MaxwellTM` or `MaxwellTE` in the plane.

    Args:
        permittivity: eps [charge/(voltage length)], above 0: a number, one per sample (B, 1, ...), or a
            field (1 or B, 1, *points).
        permeability: mu, above 0, likewise.
        conductivity: sigma, at least 0, likewise.
    """

    permittivity: Parameter = 1.0
    permeability: Parameter = 1.0
    conductivity: Parameter = 0.0

    electric: ClassVar[tuple[int, ...]] = (0, 1, 2)
    """Components of E in the state, as many as of the channels come first."""
    magnetic: ClassVar[tuple[int, ...]] = (0, 1, 2)
    """Components of H in the state."""

    def __post_init__(self) -> None:
        owner = type(self).__name__
        check_positive(owner, "permittivity", self.permittivity)
        check_positive(owner, "permeability", self.permeability)
        check_parameter(owner, "conductivity", self.conductivity, minimum=0.0)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        first = len(self.electric)
        if u.shape[1] != first + len(self.magnetic):
            raise ValueError(
                f"{type(self).__name__} got {u.shape[1]} channels; expected {self.channels(calc.dimension)}."
            )
        e, h = u[:, :first], u[:, first:]
        current = fit(self.conductivity, u) * e
        de = (_curl(h, self.electric, self.magnetic, calc) - current) / fit(self.permittivity, u)
        dh = -_curl(e, self.magnetic, self.electric, calc) / fit(self.permeability, u)
        return torch.cat([de, dh], dim=1)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        conducts = bool(torch.as_tensor(self.conductivity).detach().any())
        return {} if conducts or not is_closed(domain) else {"energy": self.energy(u, domain)}

    def energy(self, u: Tensor, domain: Domain) -> Tensor:
        """Integral of (eps |E|^2 + mu |H|^2)/2, (B, C, *points) -> (B,)."""
        squares = u.square()
        first = len(self.electric)
        stored = fit(self.permittivity, u) * squares[:, :first].sum(1, keepdim=True)
        stored = stored + fit(self.permeability, u) * squares[:, first:].sum(1, keepdim=True)
        return 0.5 * integral(stored, domain)[:, 0]

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """Two plane waves, damped where the medium conducts, at points x (B, D, *points) and times t.

        On a periodic box of side 2 pi, in a uniform medium, (B, C, *points). One starts as a standing wave.

        Raises:
            ValueError: the medium varies from place to place.
        """
        names = ("permittivity", "permeability", "conductivity")
        for name in names:
            value = getattr(self, name)
            if isinstance(value, Tensor) and any(n != 1 for n in value.shape[2:]):
                raise ValueError(
                    f"{type(self).__name__}.exact got a {name} that varies in space; it knows uniform media."
                )
        eps, mu, sigma = (
            torch.as_tensor(fit(getattr(self, name), x), dtype=x.dtype, device=x.device) for name in names
        )
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        t = t.reshape([1] * x.ndim) if t.ndim == 0 else t
        dimension, ones = x.shape[1], [1] * (x.ndim - 2)
        total = x.new_zeros(())
        for k, direction, angle, electric, magnetic in _MODES:
            wave = x.new_tensor([*k[:dimension], *[0.0] * (3 - dimension)])
            aim = x.new_zeros(3)
            aim[list(self.electric)] = x.new_tensor(direction)[list(self.electric)]
            e = aim - (aim @ wave) / (wave @ wave) * wave  # transverse, or the field would carry charges
            h = torch.linalg.cross(wave, e)
            phase = (wave[:dimension].reshape(1, -1, *ones) * x).sum(1, keepdim=True) + angle
            # E = a e cos(phase), H = b (k x e) sin(phase): mu b' = a and eps a' = -k^2 b - sigma a.
            frequency = wave.norm() / torch.sqrt(eps * mu)
            p, q = oscillation(frequency, sigma / eps, t)
            start = electric / mu
            b = magnetic * p + start * q
            a = mu * (-frequency.square() * q * magnetic + (p - sigma / eps * q) * start)
            fields = [a * e[i] * torch.cos(phase) for i in self.electric]
            fields += [b * h[i] * torch.sin(phase) for i in self.magnetic]
            total = total + torch.cat(torch.broadcast_tensors(*fields), dim=1)
        return total

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


@dataclass(frozen=True)
class Maxwell(MaxwellEquations):
    """Maxwell's equations in three dimensions: E_x, E_y, E_z, H_x, H_y, H_z (see `MaxwellEquations`)."""

    fields: ClassVar[tuple[Field, ...]] = (
        Field("electric", "V/m", rank=1),
        Field("magnetic", "A/m", rank=1),
    )
    dimensions: ClassVar[tuple[int, ...]] = (3,)


@dataclass(frozen=True)
class MaxwellTM(MaxwellEquations):
    """Fields in the plane with the magnetic field in it: E_z, H_x, H_y (see `MaxwellEquations`)."""

    fields: ClassVar[tuple[Field, ...]] = (
        Field("electric_z", "V/m"),
        Field("magnetic", "A/m", rank=1),
    )
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    electric: ClassVar[tuple[int, ...]] = (2,)
    magnetic: ClassVar[tuple[int, ...]] = (0, 1)


@dataclass(frozen=True)
class MaxwellTE(MaxwellEquations):
    """Fields in the plane with the electric field in it: E_x, E_y, H_z (see `MaxwellEquations`)."""

    fields: ClassVar[tuple[Field, ...]] = (
        Field("electric", "V/m", rank=1),
        Field("magnetic_z", "A/m"),
    )
    dimensions: ClassVar[tuple[int, ...]] = (2,)
    electric: ClassVar[tuple[int, ...]] = (0, 1)
    magnetic: ClassVar[tuple[int, ...]] = (2,)


def _curl(f: Tensor, result: tuple[int, ...], source: tuple[int, ...], calc: Calculus) -> Tensor:
    """Components `result` of the curl of a vector of components `source`."""
    total: list[Tensor | None] = [None] * len(result)
    for i, j, axis, sign in curl_terms(result, source, calc.dimension):
        term = sign * calc.derivative(f[:, j : j + 1], axis)
        old = total[i]
        total[i] = term if old is None else old + term
    return torch.cat([t for t in total if t is not None], dim=1)
