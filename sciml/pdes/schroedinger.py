"""The non-linear Schroedinger and Gross-Pitaevskii equations."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.pdes.soliton_trains import sech_frequency, sech_train
from sciml.trajectory import Field

# Side of the box and inverse width of the soliton of the exact solution.
_SIDE = {1: 40.0, 2: 6.0, 3: 6.0}
_WAVENUMBER = {1: 1.0, 2: 0.75, 3: 0.75}
# Turns of the phase along the box: of a moving soliton, and along each axis of a plane wave.
_TURNS = {1: 3, 2: 1, 3: 1}
_WAVE = (2, -1, 1)


class Wavefunction(SemiLinear):
    """i psi_t = -a lap(psi) + W(|psi|^2, x) psi, as two channels: the real and the imaginary part.

    The linear part couples the channels. On a periodic box the integral of |psi|^2 is kept.
    """

    fields: ClassVar[tuple[Field, ...]] = (Field("psi_real"), Field("psi_imaginary"))
    degree: ClassVar[int] = 3

    @abstractmethod
    def kinetic(self) -> Parameter:
        """The coefficient a of -lap [length^2/time]."""

    @abstractmethod
    def potential(self, u: Tensor, calc: Calculus) -> Tensor:
        """The real field W, (B, 2, *points) -> (1 or B, 1, *points) [1/time]."""

    @abstractmethod
    def potential_energy(self, u: Tensor, calc: Calculus) -> Tensor:
        """The density of which W psi is the variation in psi*, (B, 2, *points) -> (B, 1, *points)."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return _times_i(fit(self.kinetic(), u) * calc.laplacian(u))

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -_times_i(self.potential(u, calc) * u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not (isinstance(domain, Grid) and is_periodic(domain)):
            return {}
        calc = Spectral(domain).to(u.device)
        kept = {"mass": integral(u.square(), domain).sum(dim=1)}
        gradient = calc.gradient(u)
        kinetic = fit(self.kinetic(), u) * gradient.square().sum(dim=(1, 2)).unsqueeze(1)
        kept["energy"] = integral(kinetic + self.potential_energy(u, calc), domain)[:, 0]
        if self._is_homogeneous():
            current = u[:, :1] * gradient[:, 1] - u[:, 1:] * gradient[:, 0]
            for name, value in zip(domain.axis_names, integral(current, domain).unbind(dim=1), strict=True):
                kept[f"momentum_{name}"] = value
        return kept

    def _is_homogeneous(self) -> bool:
        """Whether W is the same everywhere, so that momentum is kept."""
        return True


def _times_i(u: Tensor) -> Tensor:
    """i (re + i im) = -im + i re, channel by channel."""
    return torch.cat([-u[:, 1:2], u[:, 0:1]], dim=1)


def _largest(value: Parameter) -> float:
    return float(torch.as_tensor(value).detach().abs().max())


@dataclass(frozen=True)
class Schroedinger(Wavefunction):
    """Non-linear Schroedinger equation, i psi_t + a lap(psi) + b |psi|^2 psi = 0; linear where b = 0.

    The channels are the real and the imaginary part of psi. On a periodic box it keeps mass, the integral
    of |psi|^2, momentum, that of Im(psi* grad psi), and energy, that of a |grad psi|^2 - b |psi|^4/2.

    Where a b > 0 it focuses: in 1D into solitons; in 2D and 3D a state of enough mass collapses to a
    point in finite time, which no grid follows. Plane waves are then unstable to long waves.

    Args:
        dispersion: a [length^2/time]; 1/2 and 1 are both in use.
        nonlinearity: b [1/(time |psi|^2)], positive where it focuses (for a > 0).

    Sulem and Sulem, The Nonlinear Schroedinger Equation (1999), sections 1.1 and 2.1.
    """

    dispersion: Parameter = 0.5
    nonlinearity: Parameter = 1.0

    def __post_init__(self) -> None:
        check_parameter("Schroedinger", "dispersion", self.dispersion)
        check_parameter("Schroedinger", "nonlinearity", self.nonlinearity)

    def kinetic(self) -> Parameter:
        return self.dispersion

    def potential(self, u: Tensor, calc: Calculus) -> Tensor:
        return -fit(self.nonlinearity, u) * u.square().sum(dim=1, keepdim=True)

    def potential_energy(self, u: Tensor, calc: Calculus) -> Tensor:
        return -0.5 * fit(self.nonlinearity, u) * u.square().sum(dim=1, keepdim=True).square()

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """3 |b| max|psi|^2, with `max_speed` read as the largest |psi|."""
        return max(3 * _largest(self.nonlinearity) * max_speed**2, 1e-12)

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A solution on a periodic box at points x (B, D, *points) and times t.

        Where a b > 0 for every sample a bright soliton, which moves: in 1D of height sqrt(2 a/b) on a box
        of side 40, with its crest at 10 for t = 0; in 2D and 3D wider crests along the diagonal on a box
        of side 6, where they overlap. The sum over the images is a solution too (`soliton_trains`), and
        the speed is one whose phase fits the box. Else a plane wave of height 1/2. Differentiable in x, t.
        """
        a, b = fit(self.dispersion, x), fit(self.nonlinearity, x)
        dimension = x.shape[1]
        side = _SIDE[dimension]
        if not bool((torch.as_tensor(a * b).detach() > 0).all()):
            k = x.new_tensor(_WAVE[:dimension]).reshape(1, -1, *[1] * (x.ndim - 2)) * (2 * math.pi / side)
            frequency = a * float(k.square().sum()) - 0.25 * b
            phase = (k * x).sum(dim=1, keepdim=True) - frequency * t
            return 0.5 * torch.cat([torch.cos(phase), torch.sin(phase)], dim=1)
        # In s = x + y + z the Laplacian is D d^2/ds^2: a becomes D a.
        inverse_width, a = _WAVENUMBER[dimension], dimension * a
        turn = 2 * math.pi * _TURNS[dimension] / side
        s = x.sum(dim=1, keepdim=True) - side / 4
        size = sech_train(s - 2 * a * turn * t, inverse_width, side)
        phase = turn * s + a * (sech_frequency(inverse_width, side) - turn**2) * t
        scale = torch.sqrt(torch.as_tensor(2 * a / b, dtype=x.dtype, device=x.device))
        return scale * size * torch.cat([torch.cos(phase), torch.sin(phase)], dim=1)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (_SIDE[dimension],) * dimension


@dataclass(frozen=True)
class GrossPitaevskii(Wavefunction):
    """Gross-Pitaevskii equation of a gas in a trap, i psi_t = -lap(psi)/2 + V psi + g |psi|^2 psi.

    V = sum_d w_d^2 (x_d - c_d)^2/2. Units in which Planck's constant and the mass are 1; the channels are
    the real and the imaginary part of psi. Mass, the integral of |psi|^2, and energy, that of
    |grad psi|^2/2 + V |psi|^2 + g |psi|^4/2, are kept on a periodic box. V has a kink at the sides of the
    box, which nothing sees as long as psi vanishes there: put the centre of the trap into the middle of a
    box a few widths 1/sqrt(w) and a few Thomas-Fermi radii sqrt(2 mu)/w wide.

    The centre of mass oscillates at w_d exactly, whatever g (Kohn's theorem), and in a round 2D trap the
    mean square radius at 2 w.

    Args:
        frequency: w [1/time], one number for all axes or one per axis; not negative.
        interaction: g [length^D/time for a state of norm 1]; a cloud with g < 0 can collapse in 2D and 3D.
        centre: c [length], one number for all axes or one per axis.

    Pitaevskii and Stringari, Bose-Einstein Condensation (2003), chapters 5 and 12; Dobson, Physical Review
    Letters 73 (1994) 2244; Pitaevskii and Rosch, Physical Review A 55 (1997) R853.
    """

    frequency: Parameter | tuple[float, ...] = 1.0
    interaction: Parameter = 1.0
    centre: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        for value in self.frequency if isinstance(self.frequency, tuple) else (self.frequency,):
            check_parameter("GrossPitaevskii", "frequency", value, minimum=0.0)
        check_parameter("GrossPitaevskii", "interaction", self.interaction)
        for value in self.centre if isinstance(self.centre, tuple) else (self.centre,):
            check_parameter("GrossPitaevskii", "centre", value)

    def kinetic(self) -> Parameter:
        return 0.5

    def trap(self, u: Tensor, calc: Calculus) -> Tensor:
        """V at the points of u, (1 or B, 1, *points) [1/time].

        Raises:
            ValueError: frequency or centre have another number of components than there are axes.
        """
        x = calc.coordinates(u)
        total = torch.zeros((), dtype=u.dtype, device=u.device)
        for axis in range(calc.dimension):
            w = fit(_component("frequency", self.frequency, axis, calc.dimension), u)
            c = _component("centre", self.centre, axis, calc.dimension)
            total = total + 0.5 * w**2 * (x[:, axis : axis + 1] - c).square()
        return total

    def potential(self, u: Tensor, calc: Calculus) -> Tensor:
        return self.trap(u, calc) + fit(self.interaction, u) * u.square().sum(dim=1, keepdim=True)

    def potential_energy(self, u: Tensor, calc: Calculus) -> Tensor:
        density = u.square().sum(dim=1, keepdim=True)
        return self.trap(u, calc) * density + 0.5 * fit(self.interaction, u) * density.square()

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """The trap at the corners of the grid and 3 |g| max|psi|^2, with `max_speed` read as the largest |psi|."""
        top = 0.0
        for axis, points in enumerate(grid.axes()):
            w = _largest(_component("frequency", self.frequency, axis, grid.dimension))
            c = _component("centre", self.centre, axis, grid.dimension)
            top += 0.5 * w**2 * float((points - c).abs().max()) ** 2
        return max(top + 3 * _largest(self.interaction) * max_speed**2, 1e-12)

    def _is_homogeneous(self) -> bool:
        values = self.frequency if isinstance(self.frequency, tuple) else (self.frequency,)
        return all(_largest(w) == 0.0 for w in values)


def _component(name: str, value: Parameter | tuple[float, ...], axis: int, dimension: int) -> Parameter:
    if not isinstance(value, tuple):
        return value
    if len(value) != dimension:
        raise ValueError(
            f"GrossPitaevskii got {name}={value} in {dimension} space axes; give one number per axis, or one "
            "for all."
        )
    return value[axis]
