"""Linear equations of constant coefficients: any derivatives, dispersion, hyper-diffusion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain
from sciml.pdes.base import SemiLinear, integral, is_periodic
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

Coefficient = Parameter | tuple[Parameter, ...]
"""A number or a number per sample (`Parameter`), for all axes; or a tuple with one of these per axis."""

# Wave vectors and amplitudes of the exact solutions, cut to the number of axes. Different numbers along
# the axes, so that a mixed-up axis shows.
_WAVES = (((1.0, 2.0, 1.0), 1.0), ((2.0, -1.0, 1.0), 0.5))
_MEAN = 0.25


def check_coefficient(owner: str, name: str, value: Coefficient | Sequence[Parameter]) -> Coefficient:
    """The coefficient with tuples for sequences, or ValueError."""
    if isinstance(value, Tensor) or not isinstance(value, Sequence):
        if not isinstance(value, Tensor | int | float):
            raise ValueError(f"{owner} got {name}={value!r}; expected a number, a tensor, or one per axis.")
        check_parameter(owner, name, value)
        return value if isinstance(value, Tensor) else float(value)
    if not 1 <= len(value) <= 3 or not all(isinstance(v, Tensor | int | float) for v in value):
        raise ValueError(f"{owner} got {name}={value!r}; expected one number or tensor per axis.")
    for one in value:
        check_parameter(owner, name, one)
    return tuple(v if isinstance(v, Tensor) else float(v) for v in value)


def along(value: Coefficient, axis: int, dimension: int) -> Parameter:
    """The coefficient along one axis.

    Raises:
        ValueError: it has another number of components than there are axes.
    """
    if not isinstance(value, tuple):
        return value
    if len(value) != dimension:
        raise ValueError(
            f"A coefficient has {len(value)} components in {dimension} space axes; give one per axis."
        )
    return value[axis]


def vanishes(value: Coefficient) -> bool:
    """Whether the coefficient is zero, along every axis and for every sample."""
    parts = value if isinstance(value, tuple) else (value,)
    return not any(bool(torch.as_tensor(part).detach().any()) for part in parts)


def _skipped(value: Parameter) -> bool:
    """Whether a term can be left out; a tensor stays, as somebody may ask for its derivative."""
    return not isinstance(value, Tensor) and value == 0.0


def damped_waves(x: Tensor, t: Tensor | float, growth: list[Parameter], turning: list[Parameter]) -> Tensor:
    """A constant and two plane waves that grow as e^{growth t} and turn by turning * t, (B, 1, *points).

    Args:
        x: points (B, D, *points).
        t: times, broadcastable to (B, 1, *points).
        growth: of the constant and of each wave [1/time].
        turning: the same for the phase, `turning[0]` being unused [1/time].
    """
    t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
    u = _MEAN * torch.exp(fit(growth[0], x) * t) + torch.zeros_like(x[:, :1])
    for (numbers, amplitude), sigma, omega in zip(_WAVES, growth[1:], turning[1:], strict=True):
        k = x.new_tensor(numbers[: x.shape[1]]).reshape(1, -1, *[1] * (x.ndim - 2))
        phase = (k * x).sum(dim=1, keepdim=True) + fit(omega, x) * t
        u = u + amplitude * torch.exp(fit(sigma, x) * t) * torch.sin(phase)
    return u


def _wave_numbers(dimension: int) -> list[tuple[float, ...]]:
    """Of the constant and the waves of `damped_waves`."""
    return [(0.0,) * dimension, *(numbers[:dimension] for numbers, _ in _WAVES)]


@dataclass(frozen=True)
class LinearEquation(SemiLinear):
    """A linear equation with pure derivatives, u_t = a_0 u + sum_{j>0} sum_d a_jd d^j u/dx_d^j.

    a_0 is a growth, a_1 = -c transport with velocity c, a_2 diffusion, a_3 dispersion, a_4 < 0
    hyper-diffusion; any order and any mixture. A mode of wave vector k is multiplied by
    exp(t sum_j sum_d a_jd (i k_d)^j): even orders damp or amplify, odd ones turn the phase. The integral is
    kept where a_0 = 0, that of u^2 where all even orders vanish, on periodic boxes. Mixed derivatives:
    `AnisotropicDiffusion`, `Dispersion`, `HyperDiffusion`.

    Args:
        coefficients: a_j [length^j/time], a_0 first, each a `Coefficient`; a_0 is one for all axes.

    Raises:
        ValueError: none given, one is not finite, they are for different numbers of axes, or the
            highest even order amplifies: short waves would then grow without bound.

    The linear part common to the benchmark of Koehler, Niedermayr, Westermann and Thuerey, APEBench
    (2024), arXiv 2411.00180; its released code counts a_0 once per axis, here it counts once.
    """

    coefficients: tuple[Coefficient, ...] = (0.0, -1.0, 0.05, 0.02, -0.002)

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def __post_init__(self) -> None:
        given = self.coefficients
        if isinstance(given, Tensor) or not isinstance(given, Sequence) or not given:
            raise ValueError(
                f"LinearEquation got coefficients={given!r}; expected a sequence (a_0, a_1, ...), such as "
                "(0.0, -1.0, 0.1) for transport to the right at speed 1 with diffusivity 0.1."
            )
        values = tuple(check_coefficient("LinearEquation", f"a_{j}", a) for j, a in enumerate(given))
        if isinstance(values[0], tuple):
            raise ValueError(f"LinearEquation got a_0={values[0]}; u itself has no axes, give one number.")
        if len({len(a) for a in values if isinstance(a, tuple)}) > 1:
            raise ValueError(f"LinearEquation got coefficients {values} for different numbers of axes.")
        object.__setattr__(self, "coefficients", values)
        self._check_posed()

    def _check_posed(self) -> None:
        axes = max((len(a) for a in self.coefficients if isinstance(a, tuple)), default=1)
        for axis in range(axes):
            settled = torch.zeros((), dtype=torch.bool)
            for order in range(2 * ((len(self.coefficients) - 1) // 2), 0, -2):
                value = along(self.coefficients[order], axis, axes)
                a = torch.as_tensor(value, dtype=torch.float64).detach().cpu().flatten()
                # Samples in which no higher even order settles the fate of short waves.
                decides = (a != 0) & ~settled
                sign = (-1.0) ** (order // 2)
                if bool((decides & (sign * a > 0)).any()):
                    raise ValueError(
                        f"LinearEquation got a_{order}={value}, of the highest even order along axis {axis}: "
                        f"short waves would grow without bound. It has to be "
                        f"{'positive' if sign < 0 else 'negative'}, or a higher even order has to damp."
                    )
                settled = settled | decides

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        rate = torch.zeros_like(u)
        for order, a in enumerate(self.coefficients):
            if order == 0:
                assert not isinstance(a, tuple)  # refused by the constructor
                rate = rate + fit(a, u) * u
            elif order == 2 and not isinstance(a, tuple) and not _skipped(a):
                rate = rate + fit(a, u) * calc.laplacian(u)
            else:
                for axis in range(calc.dimension):
                    value = along(a, axis, calc.dimension)
                    if not _skipped(value):
                        rate = rate + fit(value, u) * calc.derivative(u, axis, order)
        return rate

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not is_periodic(domain) or not vanishes(self.coefficients[0]):
            return {}
        kept = {"content": integral(u, domain)[:, 0]}
        if all(vanishes(a) for a in self.coefficients[::2]):
            kept["square"] = integral(u.square(), domain)[:, 0]
        return kept

    def symbol(self, k: Sequence[float]) -> tuple[Parameter, Parameter]:
        """Real and imaginary part of sum_j sum_d a_jd (i k_d)^j, growth and turning of a mode [1/time]."""
        parts: list[Parameter] = [0.0, 0.0]
        for order, a in enumerate(self.coefficients):
            for axis, number in enumerate(k[:1] if order == 0 else k):
                value = along(a, axis, len(k))
                parts[order % 2] = parts[order % 2] + (-1.0) ** (order // 2) * number**order * value
        return parts[0], parts[1]

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A constant and two plane waves at points x (B, D, *points) and times t, on a box of side 2 pi."""
        symbols = [self.symbol(k) for k in _wave_numbers(x.shape[1])]
        return damped_waves(x, t, [s[0] for s in symbols], [s[1] for s in symbols])

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


@dataclass(frozen=True)
class Dispersion(SemiLinear):
    """Dispersion, u_t = (a . grad) lap(u): waves travel at a speed that grows with the square of |k|.

    The linear part of the Zakharov-Kuznetsov equation, and in 1D, with a = -1, of that of Korteweg and
    de Vries. In 2D and 3D it has mixed derivatives; `LinearEquation((0, 0, 0, a))` is the form without.
    On a periodic box the integral of u and that of u^2 are kept.

    Args:
        dispersivity: a [length^3/time], one number for all axes or one per axis.
    """

    dispersivity: Coefficient = 0.1

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def __post_init__(self) -> None:
        value = check_coefficient("Dispersion", "dispersivity", self.dispersivity)
        object.__setattr__(self, "dispersivity", value)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        curvature, rate = calc.laplacian(u), torch.zeros_like(u)
        for axis in range(calc.dimension):
            value = fit(along(self.dispersivity, axis, calc.dimension), u)
            rate = rate + value * calc.derivative(curvature, axis)
        return rate

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not is_periodic(domain):
            return {}
        return {"content": integral(u, domain)[:, 0], "square": integral(u.square(), domain)[:, 0]}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A constant and two plane waves at points x (B, D, *points) and times t, on a box of side 2 pi."""
        turning: list[Parameter] = []
        for k in _wave_numbers(x.shape[1]):
            total: Parameter = 0.0
            for axis, number in enumerate(k):
                value = along(self.dispersivity, axis, len(k))
                total = total - sum(n**2 for n in k) * number * value
            turning.append(total)
        return damped_waves(x, t, [0.0, 0.0, 0.0], turning)

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension


@dataclass(frozen=True)
class HyperDiffusion(SemiLinear):
    """Hyper-diffusion, u_t = -mu lap(lap(u)): damping that spares long waves.

    The same in every direction; `LinearEquation((0, 0, 0, 0, -mu))` is the form without mixed derivatives,
    which differs from it in 2D and 3D. The integral of u is kept on a periodic box. Unlike diffusion it keeps no bounds: a
    positive u may become negative.

    Args:
        hyper_diffusivity: mu [length^4/time], not negative.
    """

    hyper_diffusivity: Parameter = 0.01

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def __post_init__(self) -> None:
        check_parameter("HyperDiffusion", "hyper_diffusivity", self.hyper_diffusivity, minimum=0.0)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -fit(self.hyper_diffusivity, u) * calc.laplacian(calc.laplacian(u))

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return torch.zeros_like(u)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        return {"content": integral(u, domain)[:, 0]} if is_periodic(domain) else {}

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """A constant and two plane waves at points x (B, D, *points) and times t, on a box of side 2 pi."""
        growth: list[Parameter] = []
        for k in _wave_numbers(x.shape[1]):
            growth.append(-(sum(n**2 for n in k) ** 2) * self.hyper_diffusivity)
        return damped_waves(x, t, growth, [0.0, 0.0, 0.0])

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the periodic box of `exact` [length]."""
        return (2 * math.pi,) * dimension
