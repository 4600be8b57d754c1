"""What the recipes after APEBench have in common: equations stated by difficulties, states, and exact transport.

Koehler, Niedermayr, Westermann and Thuerey, APEBench: A Benchmark for Autoregressive Neural Emulators of PDEs (2024),
arXiv 2411.00180. `sciml.pdes.difficulty` says what gammas and deltas are. They belong to one stored step on the stored
grid: a grid of other points or another dt changes the coefficients of the equation and not its difficulties.

The names of the parameters are those of its scenarios, with its signs, by which everything stands on the right-hand
side. Its reference solver takes one step of second order per stored step in float32; these recipes take as many of
fourth order in float64 as the equation needs. Its seeds cannot give its numbers here: the generator of random numbers
is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid
from sciml.errors import UserError
from sciml.fields import RandomFourier
from sciml.pdes import LinearEquation
from sciml.pdes.base import PDE, SemiLinear, integral, is_periodic
from sciml.pdes.difficulty import (
    from_convection_difficulty,
    from_gradient_norm_difficulty,
    linear_from_difficulties,
)
from sciml.pdes.linear_equation import vanishes
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field

CITATION = "Koehler et al., APEBench (2024), arXiv 2411.00180"

LINE = Grid((160,), (1.0,))
SQUARE = Grid((64, 64), (1.0, 1.0))
CUBE = Grid((32, 32, 32), (1.0, 1.0, 1.0))

WAVES = RandomFourier(modes=5, zero_mean=True, max_one=True)
"""APEBench's "fourier;5;true;true"."""

STEPS: Mapping[str, int] = {"train": 50, "valid": 50, "test": 200}

SAMPLES_1D: Mapping[str, int] = {"train": 50, "valid": 10, "test": 30}
"""Of which "valid" is an addition."""

SAMPLES_2D: Mapping[str, int] = {"train": 16, "valid": 2, "test": 4}
SAMPLES_3D: Mapping[str, int] = {"train": 4, "valid": 1, "test": 1}


# Equations. Each function takes difficulties by name; `stored` and `dt` come from the recipe.


def linear(
    stored: Grid,
    dt: float,
    drag_gamma: Parameter = 0.0,
    advection_gamma: Parameter = 0.0,
    diffusion_gamma: Parameter = 0.0,
    dispersion_gamma: Parameter = 0.0,
    hyp_diffusion_gamma: Parameter = 0.0,
) -> LinearEquation:
    """The equation of gamma_0 to gamma_4 alone.

    Raises:
        UserError: the stored grid is no cube of nodes.
    """
    points, length = _cube(stored)
    gammas = (drag_gamma, advection_gamma, diffusion_gamma, dispersion_gamma, hyp_diffusion_gamma)
    return linear_from_difficulties(gammas, points=points, dimension=stored.dimension, dt=dt, length=length)


def nonlinear(
    stored: Grid,
    dt: float,
    drag_gamma: Parameter = 0.0,
    advection_gamma: Parameter = 0.0,
    diffusion_gamma: Parameter = 0.0,
    dispersion_gamma: Parameter = 0.0,
    hyp_diffusion_gamma: Parameter = 0.0,
    quadratic_delta: Parameter = 0.0,
    convection_sc_delta: Parameter = 0.0,
    gradient_norm_delta: Parameter = 0.0,
) -> GeneralScalar:
    """The equation of one channel of gammas and delta_0, delta_1, delta_2; starts have |u| <= 1."""
    points, length = _cube(stored)
    size = {"dt": dt, "length": length, "points": points, "dimension": stored.dimension}
    part = linear(
        stored, dt, drag_gamma, advection_gamma, diffusion_gamma, dispersion_gamma, hyp_diffusion_gamma
    )
    return GeneralScalar(
        part,
        quadratic=quadratic_delta / dt,
        convection=from_convection_difficulty(convection_sc_delta, **size),  # type: ignore[arg-type]
        gradient_norm=from_gradient_norm_difficulty(gradient_norm_delta, **size),  # type: ignore[arg-type]
    )


def convection(
    stored: Grid,
    dt: float,
    drag_gamma: Parameter = 0.0,
    advection_gamma: Parameter = 0.0,
    diffusion_gamma: Parameter = 0.0,
    dispersion_gamma: Parameter = 0.0,
    hyp_diffusion_gamma: Parameter = 0.0,
    convection_delta: Parameter = 0.0,
) -> GeneralVelocity:
    """The equation of one channel per axis of gammas and delta_1; starts have |u| <= 1."""
    points, length = _cube(stored)
    part = linear(
        stored, dt, drag_gamma, advection_gamma, diffusion_gamma, dispersion_gamma, hyp_diffusion_gamma
    )
    scale = from_convection_difficulty(
        convection_delta, dt=dt, length=length, points=points, dimension=stored.dimension
    )
    return GeneralVelocity(part, scale)


def _cube(stored: Grid) -> tuple[int, float]:
    """Points and length of every axis."""
    if not isinstance(stored, Grid) or len(set(stored.shape)) > 1 or len(set(stored.lengths)) > 1:
        raise UserError(
            f"Difficulties belong to a cube of N points a side, and the recipe stores {stored}; give all axes the same "
            "points and length, or state the equation by its coefficients."
        )
    return stored.shape[0], stored.lengths[0]


@dataclass(frozen=True)
class GeneralScalar(SemiLinear):
    """u_t = sum_j a_j D^j u + b_0 u^2 + (b_1/2) sum_d d(u^2)/dx_d + (b_2/2) (|grad u|^2 - its mean), one channel.

    The mean of the last term would grow without bound and act back on nothing.

    Args:
        part: the sum over j.
        quadratic: b_0 [1/(time u)].
        convection: b_1 [length/(time u)]; Burgers' equation has -1.
        gradient_norm: b_2 [length^2/(time u)].
    """

    part: LinearEquation
    quadratic: Parameter = 0.0
    convection: Parameter = 0.0
    gradient_norm: Parameter = 0.0

    fields: ClassVar[tuple[Field, ...]] = (Field("u"),)

    def __post_init__(self) -> None:
        for name in ("quadratic", "convection", "gradient_norm"):
            check_parameter("GeneralScalar", name, getattr(self, name))

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return self.part.linear(u, calc)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        rate = fit(self.quadratic, u) * u.square()
        if not vanishes(self.convection):
            flux = u.square().unsqueeze(2).expand(-1, -1, calc.dimension, *u.shape[2:])
            rate = rate + 0.5 * fit(self.convection, u) * calc.div(flux)
        if not vanishes(self.gradient_norm):
            steepness = calc.gradient(u).square().sum(dim=2)
            steepness = steepness - steepness.mean(dim=tuple(range(2, u.ndim)), keepdim=True)
            rate = rate + 0.5 * fit(self.gradient_norm, u) * steepness
        return rate

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """2 |b_0| M + |b_1| M sum_d 1/dx_d + |b_2| G sum_d 1/dx_d, with `max_speed` for both M and G.

        M is the largest |u|, G the largest |grad u|.
        """
        b_0, b_1, b_2 = (_size(b) for b in (self.quadratic, self.convection, self.gradient_norm))
        return max(max_speed * (2 * b_0 + (b_1 + b_2) * sum(1.0 / h for h in grid.spacing)), 1e-12)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        kept = is_periodic(domain) and vanishes(self.part.coefficients[0]) and vanishes(self.quadratic)
        return {"integral": integral(u, domain)[:, 0]} if kept else {}


@dataclass(frozen=True)
class GeneralVelocity(SemiLinear):
    """u_t = sum_j a_j D^j u + b div(u u)/2, one channel per axis; with b = -1 `ConservativeBurgers`.

    Args:
        part: the sum over j, the same for each channel.
        scale: b [length/(time u)].
    """

    part: LinearEquation
    scale: Parameter = -1.0

    fields: ClassVar[tuple[Field, ...]] = (Field("velocity", rank=1),)

    def __post_init__(self) -> None:
        check_parameter("GeneralVelocity", "scale", self.scale)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return self.part.linear(u, calc)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return 0.5 * fit(self.scale, u) * calc.div(u.unsqueeze(1) * u.unsqueeze(2))

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """|b| max|u| sum_d 1/dx_d, with `max_speed` read as the largest |u|."""
        return max(_size(self.scale) * max_speed * sum(1.0 / h for h in grid.spacing), 1e-12)

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        if not (isinstance(domain, Grid) and is_periodic(domain) and vanishes(self.part.coefficients[0])):
            return {}
        total = integral(u, domain)
        return {f"momentum_{name}": total[:, axis] for axis, name in enumerate(domain.axis_names)}


def _size(value: Parameter) -> float:
    return float(torch.as_tensor(value).detach().abs().max())


# Solvers.


@dataclass(frozen=True)
class Spectral:
    """Exponential steps of fourth order in Fourier space, as short as `max_speed` asks for."""

    max_speed: float = 1.0

    def __call__(
        self, pde: PDE, domain: Grid, dt: float, substeps: int | None
    ) -> Callable[[Tensor], Tensor]:
        from sciml.solvers import build

        return build(pde, domain, dt, max_speed=self.max_speed, substeps=substeps)


@dataclass(frozen=True)
class Shift:
    """Move all values (B, C, *points) by whole points along each axis."""

    points: tuple[int, ...]
    method: str = "shift by whole points, exact"

    def __call__(self, u: Tensor) -> Tensor:
        return torch.roll(u, self.points, dims=tuple(range(2, u.ndim)))


def transport(pde: PDE, domain: Grid, dt: float, substeps: int | None) -> Callable[[Tensor], Tensor]:
    """Values change places where the equation moves them by whole points per step; else exact steps of Fourier modes."""
    from sciml.solvers import build

    if isinstance(pde, LinearEquation) and all(
        vanishes(a) for j, a in enumerate(pde.coefficients) if j != 1
    ):
        speed = pde.coefficients[1]
        if isinstance(speed, float):
            moves = [-speed * dt / h for h in domain.spacing]
            if all(abs(m - round(m)) < 1e-9 for m in moves):
                return Shift(tuple(round(m) for m in moves))
    return build(pde, domain, dt, substeps=substeps)
