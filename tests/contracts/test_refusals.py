"""Wrong input to equations, grids and solvers: refused at the door, with what was found and what helps."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Spectral
from sciml.domains import Cloud, Point
from sciml.odes import ODES, DoublePendulum, Lorenz96
from sciml.pdes import (
    PDES,
    Acoustics,
    AcousticScattering,
    AdvectionDiffusion,
    AllenCahn,
    AnisotropicDiffusion,
    BelousovZhabotinsky,
    Boussinesq,
    Burgers,
    CahnHilliard,
    CompressibleEuler,
    CompressibleNavierStokes,
    ConservativeBurgers,
    DiffusionLaw,
    DiffusionSorption,
    FisherKPP,
    FitzHughNagumo,
    GrayScott,
    GrossPitaevskii,
    Heat,
    HyperDiffusion,
    IdealMHD,
    KortewegDeVries,
    KuramotoSivashinsky,
    NavierStokes,
    NavierStokesVorticity,
    PorousMedium,
    ScalarBurgers,
    ShallowWater,
    Stefan,
    Wave,
)
from sciml.pdes.base import ConservationLaw
from sciml.pdes.maxwell import MaxwellEquations
from sciml.solvers import build
from sciml.solvers.imex_spectral import imex_spectral
from sciml.solvers.spectral import pseudo_spectral

NOT_NEGATIVE = [
    (Heat, "diffusivity"),
    (AdvectionDiffusion, "diffusivity"),
    (AnisotropicDiffusion, "diffusivity"),
    (HyperDiffusion, "hyper_diffusivity"),
    (Wave, "speed"),
    (Wave, "damping"),
    (Burgers, "viscosity"),
    (ConservativeBurgers, "viscosity"),
    (ScalarBurgers, "viscosity"),
    (KortewegDeVries, "hyperdiffusion"),
    (GrossPitaevskii, "frequency"),
    (NavierStokes, "viscosity"),
    (ShallowWater, "friction"),
    (ShallowWater, "manning"),
    (NavierStokesVorticity, "viscosity"),
    (FisherKPP, "diffusivity"),
    (FisherKPP, "growth"),
    (AllenCahn, "diffusivity"),
    (AllenCahn, "reaction"),
    (CahnHilliard, "mobility"),
    (CahnHilliard, "gradient_energy"),
    (GrayScott, "feed"),
    (GrayScott, "kill"),
    (GrayScott, "diffusivity_a"),
    (GrayScott, "diffusivity_b"),
    (FitzHughNagumo, "diffusivity_u"),
    (FitzHughNagumo, "diffusivity_v"),
    *[(BelousovZhabotinsky, f"diffusivity_{x}") for x in "uvw"],
    (CompressibleEuler, "gamma"),
    *[(IdealMHD, name) for name in ("gamma", "cleaning_speed", "damping")],
    *[
        (CompressibleNavierStokes, name)
        for name in ("gamma", "viscosity", "bulk_viscosity", "conductivity")
    ],
    (PorousMedium, "exponent"),
    (PorousMedium, "diffusivity"),
    (Stefan, "diffusivity"),
    *[(DiffusionSorption, x) for x in ("diffusivity", "porosity", "density", "partition", "exponent")],
]
SOUND = {"forcing": None, "conductivity": None}  # arguments that may be absent


@pytest.mark.parametrize(
    ("kind", "name"), NOT_NEGATIVE, ids=lambda x: x if isinstance(x, str) else x.__name__
)
def test_a_coefficient_that_must_not_be_negative_is_refused(kind: Any, name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} got {name}=-0.1; expected .*(at least 0|above 1)"
    ):
        kind(**{name: -0.1})
    if kind is not AnisotropicDiffusion:  # which takes (B, D, D)
        with pytest.raises(ValueError, match=rf"{kind.__name__} got {name}="):
            kind(**{name: torch.tensor([1.5, -0.1])})


@pytest.mark.parametrize("kind", [*PDES, *ODES], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("value", [math.nan, math.inf, "1e-3", None], ids=str)
def test_what_is_no_finite_number_is_refused_by_every_argument(kind: Any, value: object) -> None:
    for argument in fields(kind):
        if argument.name in SOUND and value is None:
            continue
        with pytest.raises(ValueError, match=rf"{kind.__name__} got"):
            kind(**{argument.name: value})


def test_text_that_looks_like_a_number_is_explained() -> None:
    with pytest.raises(ValueError, match="got viscosity='1e-3'; expected a number.*1.0e-3"):
        Burgers("1e-3")  # type: ignore[arg-type]
    for wrong in ({"masses": 1.0}, {"lengths": "ab"}):
        with pytest.raises(ValueError, match="DoublePendulum got"):
            DoublePendulum(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="sites=40.5; expected a whole number"):
        Lorenz96(sites=40.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="forcing=1.0; expected .wavenumber, amplitude"):
        NavierStokes(forcing=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"field of shape \(3,\); expected \(1 or B, channels"):
        NavierStokes(forcing=torch.ones(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1,), (1.0,)), "sizes must be at least 2"),
        (((0, 8), (1.0, 1.0)), "sizes must be at least 2"),
        (((32.5,), (1.0,)), "shape=.32.5,.; expected whole numbers"),
        ((("a",), (1.0,)), "expected a number per axis"),
        ((8, (1.0,)), "shape=8; expected a number per axis, such as .64,."),
        (((8,), 1.0), "lengths=1.0; expected a number per axis, such as .1.0,."),
        (((8,), (math.nan,)), "positive and finite"),
        (((8,), (-1.0,)), "positive and finite"),
        (((8,), (1.0,), "periodic", math.nan), "expected a finite one for each"),
        (((8, 8), (1.0,)), "one of each per axis"),
        (((8,), (1.0,), "cyclic"), "expected one of"),
    ],
)
def test_impossible_grids_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(*arguments)


def smallest_grid(kind: Any, n: int = 16) -> Grid:
    dimension = min(kind.dimensions)
    cells = issubclass(kind, (ConservationLaw, Acoustics, AcousticScattering, MaxwellEquations))
    return Grid((n,) * dimension, (6.0,) * dimension, centering="cell" if cells else "node")


@pytest.mark.parametrize("kind", PDES, ids=lambda kind: kind.__name__)
def test_every_solver_refuses_other_channels_points_and_domains(kind: Any) -> None:
    pde = kind((0.0, -1.0, 0.1)) if kind.__name__ == "LinearEquation" else kind()
    grid = smallest_grid(kind)
    step = build(pde, grid, 0.01)
    count = len(step.channels)
    for shape in ((2, count + 1, *grid.shape), (2, count, *(n + 1 for n in grid.shape)), grid.shape):
        with pytest.raises(ValueError, match=r"got a state of shape .*expected \(B, .*channels \('"):
            step(torch.ones(shape, dtype=torch.float64))
    for dt in (0, -0.1, math.nan, math.inf, "0.1", None):
        with pytest.raises(ValueError, match=f"dt={dt!r}; expected a positive time"):
            build(pde, grid, dt)  # type: ignore[arg-type]
    other = "node" if grid.centering == "cell" else "cell"
    # These are solved on nodes, and on cells or their faces.
    if not issubclass(kind, (NavierStokes, Boussinesq, DiffusionLaw)):
        with pytest.raises(ValueError, match=rf"Use.* Grid\(..., centering='{grid.centering}'\)"):
            build(pde, Grid(grid.shape, grid.lengths, centering=other), 0.01)  # type: ignore[arg-type]
    for dimension in {1, 2, 3} - set(kind.dimensions):
        with pytest.raises(ValueError, match=rf"{dimension} space axes; {kind.__name__} lives in"):
            build(pde, Grid((8,) * dimension, (1.0,) * dimension), 0.01)
    with pytest.raises(ValueError, match=f"{kind.__name__} is solved on a Grid or a Mesh"):
        build(pde, Cloud(((0.0, 1.0),) * grid.dimension, True), 0.01)
    with pytest.raises(ValueError, match=f"build got {kind.__name__} on a Point"):
        build(pde, Point(), 0.01)


def test_fourier_methods_refuse_what_is_not_periodic_or_not_of_nodes() -> None:
    walls = Grid((16,), (1.0,), boundary="dirichlet")
    with pytest.raises(ValueError, match="every axis to be periodic. Use Trigonometric"):
        Spectral(walls)
    with pytest.raises(ValueError, match="expected nodes, periodic along every axis"):
        imex_spectral(Burgers(), walls, 0.01)
    with pytest.raises(ValueError, match="for open sides"):
        pseudo_spectral(Burgers(), Grid((16,), (1.0,), boundary="outflow"), 0.01)
    with pytest.raises(ValueError, match="grid of cells; make it with"):
        pseudo_spectral(Burgers(), Grid((16,), (1.0,), centering="cell"), 0.01)
    with pytest.raises(
        ValueError, match="inverse Laplacian on periodic grids only.*Use boundary='periodic'"
    ):
        build(NavierStokes(), Grid((16, 16), (1.0, 1.0), boundary="dirichlet"), 0.01)


@pytest.mark.parametrize("n", [5, 6, 7, 8, 15, 16])
def test_odd_and_even_grids_solve_alike(n: int) -> None:
    """A wave that each of them resolves decays by the same factor, to rounding."""
    grid = Grid((n,), (2 * math.pi,))
    u = torch.cos(grid.coordinates()).unsqueeze(0)
    assert float((build(Heat(0.3), grid, 0.5)(u) - math.exp(-0.15) * u).abs().max()) < 1e-14


def burgers_blows_up(substeps: int) -> object:
    return build(Burgers(0.001), Grid((256,), (1.0,)), 0.1, substeps=substeps)


def test_unstable_substeps_are_refused_with_the_limit_and_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"The limit is about 0.00391: use at least (\d+) substeps, or"):
        burgers_blows_up(1)
    burgers_blows_up(26)
    line = Grid((256,), (1.0,), boundary="dirichlet")
    with pytest.raises(ValueError, match=r"diffusive limit 7.67e-05 .* Use at least 1304 substeps"):
        build(Heat(0.1), line, 0.1, substeps=1, stepping="explicit")
    assert "diffusion implicit" in build(Heat(0.1), line, 0.1, substeps=1).method
    gas = CompressibleEuler()
    step = build(gas, Grid((64,), (1.0,), centering="cell"), 0.1, substeps=1)
    with pytest.raises(ValueError, match=r"CFL number .* Use at least \d+ substeps, a smaller dt"):
        step(gas.conservative(torch.ones(1, 3, 64, dtype=torch.float64)))


def test_parameters_of_another_batch_are_refused() -> None:
    pde = Heat(torch.tensor([0.1, 0.2]))
    grid = Grid((16,), (1.0,))

    def rate(samples: int) -> Tensor:
        return pde.rhs(torch.ones(samples, 1, 16, dtype=torch.float64), Spectral(grid))

    assert rate(2).shape == (2, 1, 16) and rate(1).shape == (2, 1, 16)
    with pytest.raises(ValueError, match="2 values, one per sample, for a batch of 3"):
        rate(3)


def test_a_flag_is_no_number() -> None:
    with pytest.raises(ValueError, match="integrated=1; expected True or False"):
        KuramotoSivashinsky(integrated=1)  # type: ignore[arg-type]
