"""Splittings, the split-step Fourier method and ground states; gradients of the dispersive solvers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.errors import UserError
from sciml.pdes import (
    PDE,
    ConservativeBurgers,
    GrossPitaevskii,
    KortewegDeVries,
    ScalarBurgers,
    Schroedinger,
)
from sciml.solvers import build
from sciml.solvers.spectral import pseudo_spectral
from sciml.solvers.split_step import ground_state, split_step
from sciml.solvers.time import SPLITTINGS, STRANG, YOSHIDA4, Splitting, splitting


def _drift(u: Tensor, time: float) -> Tensor:
    """x' = p of a pendulum with u = (x, p)."""
    return torch.stack([u[0] + time * u[1], u[1]])


def _kick(u: Tensor, time: float) -> Tensor:
    """p' = -sin x."""
    return torch.stack([u[0], u[1] - time * torch.sin(u[0])])


@pytest.mark.parametrize("scheme", SPLITTINGS, ids=lambda s: s.name)
def test_halving_the_step_divides_the_error_by_two_to_the_order(scheme: Splitting) -> None:
    start = torch.tensor([1.2, 0.3], dtype=torch.float64)
    fine = splitting(_drift, _kick, 2.0, YOSHIDA4, substeps=2000)(start)
    errors = [
        float((splitting(_drift, _kick, 2.0, scheme, substeps=n)(start) - fine).norm()) for n in (40, 80)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(scheme.order, abs=0.1)


@pytest.mark.parametrize("scheme", SPLITTINGS, ids=lambda s: s.name)
def test_a_step_back_undoes_a_step(scheme: Splitting) -> None:
    start = torch.tensor([1.2, 0.3], dtype=torch.float64)
    there = splitting(_drift, _kick, 0.5, scheme, substeps=3)(start)
    again = splitting(_drift, _kick, -0.5, scheme, substeps=3)(there)
    assert (there - start).abs().max() > 0.1
    assert (again - start).abs().max() < 1e-14  # rounding
    single = splitting(_drift, _kick, 0.5 / 3, scheme)
    assert (single(single(single(start))) - there).abs().max() < 1e-14


def test_splittings_are_checked() -> None:
    with pytest.raises(ValueError, match="sums of 1"):
        Splitting("odd", (0.5, 0.4), (1.0,), 1)
    with pytest.raises(ValueError, match="one more of the first flow"):
        Splitting("short", (1.0,), (1.0,), 1)
    with pytest.raises(ValueError, match="substeps=0"):
        splitting(_drift, _kick, 0.1, STRANG, substeps=0)


def test_split_step_keeps_the_mass_to_rounding_and_runs_in_single_precision() -> None:
    pde, grid = Schroedinger(), Grid((64, 32), (10.0, 8.0))
    u = torch.randn(2, 2, 64, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = split_step(pde, grid, 0.1, substeps=10)
    first, last = (pde.invariants(v, grid)["mass"] for v in (u, step(u)))
    assert ((last - first) / first).abs().max() < 1e-13
    single = step(u.float())
    assert single.dtype == torch.float32
    # White noise holds the highest modes: phases of 200 radians a step in single precision, 1e-5 each.
    assert (single.double() - step(u)).abs().max() < 1e-3
    with pytest.raises(UserError, match="periodic along every axis"):
        split_step(pde, Grid((16,), (1.0,), boundary="dirichlet"), 0.1)
    with pytest.raises(UserError, match="dt=-1"):
        split_step(pde, grid, -1.0)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_free_ground_state_is_the_gaussian(dimension: int) -> None:
    n = (64, 40, 24)[dimension - 1]
    grid = Grid((n,) * dimension, (12.0,) * dimension, origin=-6.0)
    frequency = (1.0, 1.5, 1.2)[:dimension]
    state = ground_state(GrossPitaevskii(frequency, 0.0), grid, norm=2.0, tolerance=1e-8)
    x = grid.coordinates()
    exponent = sum(0.5 * w * x[i] ** 2 for i, w in enumerate(frequency))
    exact = math.sqrt(2.0) * math.prod((w / math.pi) ** 0.25 for w in frequency) * torch.exp(-exponent)
    # 24 points see modes up to 6: exp(-18); the Gaussian at the sides is exp(-18) too
    assert (state[0, 0] - exact).abs().max() < 1e-6
    assert not state[:, 1].any()
    energy = GrossPitaevskii(frequency, 0.0).invariants(state, grid)["energy"]
    assert float(energy) == pytest.approx(sum(frequency), abs=1e-6)  # norm 2, w/2 for each axis


def test_ground_state_obeys_the_virial_theorem_and_stands_still() -> None:
    """2 kinetic - 2 trap + D interaction = 0 in a harmonic trap."""
    grid = Grid((64, 64), (14.0, 14.0), origin=-7.0)
    pde = GrossPitaevskii(1.0, 100.0)
    state = ground_state(pde, grid, tolerance=1e-9)
    energy = float(pde.invariants(state, grid)["energy"])
    cell = grid.volume / 64**2
    density = state[:, :1].square()
    trap = cell * float((0.5 * grid.coordinates().square().sum(0) * density).sum())
    repulsion = cell * float(50.0 * density.square().sum())
    kinetic = energy - trap - repulsion
    assert kinetic > 0
    assert 2 * kinetic - 2 * trap + 2 * repulsion == pytest.approx(0.0, abs=1e-6)
    # Thomas-Fermi: mu = w sqrt(g/pi) for a large g, from below by the kinetic energy of a few per cent
    mu = energy + repulsion
    assert mu == pytest.approx(math.sqrt(100.0 / math.pi), rel=0.04)
    with torch.no_grad():
        later = split_step(pde, grid, 0.5, substeps=40)(state)
    turned = torch.cat([state[:, :1] * math.cos(0.5 * mu), -state[:, :1] * math.sin(0.5 * mu)], dim=1)
    assert (later - turned).norm() < 1e-5 * turned.norm()  # time error of 40 substeps


def test_ground_state_refuses_what_it_cannot_find() -> None:
    with pytest.raises(UserError, match="at the sides of the box"):
        ground_state(GrossPitaevskii(1.0, 0.0), Grid((32,), (12.0,)))  # the trap stands on the side
    with pytest.raises(UserError, match="in 3 steps"):
        ground_state(GrossPitaevskii(1.0, 5.0), Grid((32,), (12.0,), origin=-6.0), iterations=3)
    with pytest.raises(UserError, match="positive numbers"):
        ground_state(GrossPitaevskii(), Grid((32,), (12.0,)), norm=0.0)


CASES = [
    (KortewegDeVries, ("convection", "dispersion", "hyperdiffusion"), (2.0, 0.3, 0.01)),
    (Schroedinger, ("dispersion", "nonlinearity"), (0.5, 1.2)),
    (GrossPitaevskii, ("frequency", "interaction"), (0.8, 1.5)),
    (ScalarBurgers, ("viscosity", "convection"), (0.1, 0.7)),
    (ConservativeBurgers, ("viscosity",), (0.1,)),
]


@pytest.mark.parametrize(("cls", "names", "values"), CASES, ids=lambda c: getattr(c, "__name__", ""))
def test_steps_differentiate_in_state_and_parameters(
    cls: type[PDE], names: tuple[str, ...], values: tuple[float, ...]
) -> None:
    """Per-sample parameters, gradcheck in float64."""
    grid = Grid((8,), (4.0,), origin=-2.0)
    count = len(cls.channels(1))
    u = 0.5 * torch.randn(2, count, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    parameters = [torch.tensor([[v], [1.2 * v]], dtype=torch.float64, requires_grad=True) for v in values]

    def solve(state: Tensor, *given: Tensor) -> Tensor:
        return pseudo_spectral(cls(**dict(zip(names, given, strict=True))), grid, 0.1)(state)

    assert torch.autograd.gradcheck(solve, (u.requires_grad_(), *parameters), atol=1e-7)
    # A batch with parameters of its own is each sample alone.
    with torch.no_grad():
        both = solve(u, *parameters)
        alone = solve(u[1:], *[p[1:] for p in parameters])
    assert (both[1:] - alone).abs().max() < 1e-12


def test_split_step_differentiates() -> None:
    grid = Grid((8,), (4.0,), origin=-2.0)
    u = torch.randn(1, 2, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    w, g = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.8, 1.5))

    def solve(state: Tensor, frequency: Tensor, interaction: Tensor) -> Tensor:
        return split_step(GrossPitaevskii(frequency, interaction), grid, 0.2, substeps=2)(state)

    assert torch.autograd.gradcheck(solve, (u.requires_grad_(), w, g))


@pytest.mark.parametrize("shape", [(48,), (24, 20), (12, 10, 14)])
def test_fast_forms_of_burgers_give_the_numbers_of_the_equation(shape: tuple[int, ...]) -> None:
    grid = Grid(shape, (6.0, 5.0, 4.0)[: len(shape)])
    pdes: list[ScalarBurgers | ConservativeBurgers] = [ScalarBurgers(0.05, -0.7)]
    if len(shape) == 1:
        pdes.append(ConservativeBurgers(0.05))
    u = torch.randn(3, 1, *shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for pde in pdes:
        fast = pseudo_spectral(pde, grid, 0.02, substeps=3)
        assert fast.form != "generic"
        plain = pseudo_spectral(pde, grid, 0.02, substeps=3, form="generic")(u)
        assert (fast(u) - plain).abs().max() < 1e-13


@pytest.mark.parametrize(
    ("pde", "max_speed", "dt", "level"),
    [
        (KortewegDeVries(), 2.0, 1.0, 5e-5),
        (Schroedinger(), 1.0, 2.0, 1e-3),
        (Schroedinger(0.5, -1.0), 0.5, 2.0, 1e-4),
        (ScalarBurgers(0.1, 0.125), 8.0, 0.5, 1e-6),
    ],
)
def test_the_step_that_build_chooses_is_sound(pde: PDE, max_speed: float, dt: float, level: float) -> None:
    grid = Grid((256,), pde.exact_lengths(1))  # type: ignore[attr-defined]
    x = grid.coordinates()[None]
    with torch.no_grad():
        u = build(pde, grid, dt, max_speed=max_speed)(pde.exact(x, 0.0))  # type: ignore[attr-defined]
    exact = pde.exact(x, dt)  # type: ignore[attr-defined]
    assert (u - exact).norm() < level * exact.norm()
