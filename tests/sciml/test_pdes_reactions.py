"""Reaction-diffusion and phase-field equations: parameters, exact solutions, bounds, and what certificates see."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Calculus, Spectral, Symbol
from sciml.errors import UserError
from sciml.fields import RandomFourier
from sciml.pdes import (
    AllenCahn,
    BelousovZhabotinsky,
    CahnHilliard,
    FisherKPP,
    FitzHughNagumo,
    GrayScott,
    SemiLinear,
    SwiftHohenberg,
)
from sciml.pdes.gray_scott import REGIMES
from sciml.solvers import build
from sciml.solvers.verify import verify
from sciml.step import rollout

EQUATIONS: tuple[type[SemiLinear], ...] = (
    FisherKPP,
    AllenCahn,
    CahnHilliard,
    SwiftHohenberg,
    GrayScott,
    FitzHughNagumo,
    BelousovZhabotinsky,
)
Term = Callable[[Any, Tensor, Calculus], Tensor]


def _states(grid: Grid, channels: int, samples: int = 2, middle: float = 0.5) -> Tensor:
    """Smooth states between 0 and 1 (about `middle`), seed 0."""
    generator = torch.Generator().manual_seed(0)
    draw = RandomFourier(modes=2, amplitude=0.3)
    return middle + torch.stack([draw(grid, channels, generator) for _ in range(samples)])


def _in(channel: int, count: int, term: Term) -> Term:
    """A term of one channel's equation."""

    def placed(pde: Any, u: Tensor, calc: Calculus) -> Tensor:
        out = torch.zeros_like(u)
        out[:, channel : channel + 1] = term(pde, u, calc)
        assert u.shape[1] == count
        return out

    return placed


# Every term of every equation, as it stands in it.
TERMS: dict[tuple[type[SemiLinear], str], Term] = {
    (FisherKPP, "diffusion"): lambda p, u, c: p.diffusivity * c.laplacian(u),
    (FisherKPP, "growth"): lambda p, u, c: p.growth * u,
    (FisherKPP, "saturation"): lambda p, u, c: -p.growth * u**2,
    (AllenCahn, "diffusion"): lambda p, u, c: p.diffusivity * c.laplacian(u),
    (AllenCahn, "growth"): lambda p, u, c: p.reaction * u,
    (AllenCahn, "saturation"): lambda p, u, c: -p.reaction * u**3,
    (CahnHilliard, "unmixing"): lambda p, u, c: -p.mobility * c.laplacian(u),
    (CahnHilliard, "saturation"): lambda p, u, c: p.mobility * c.laplacian(u**3),
    (CahnHilliard, "interfaces"): lambda p, u, c: (
        -p.mobility * p.gradient_energy * c.laplacian(c.laplacian(u))
    ),
    (SwiftHohenberg, "drive"): lambda p, u, c: p.drive * u,
    (SwiftHohenberg, "damping"): lambda p, u, c: -u,
    (SwiftHohenberg, "curvature"): lambda p, u, c: -2 * c.laplacian(u),
    (SwiftHohenberg, "stiffness"): lambda p, u, c: -c.laplacian(c.laplacian(u)),
    (SwiftHohenberg, "square"): lambda p, u, c: p.quadratic * u**2,
    (SwiftHohenberg, "cube"): lambda p, u, c: -(u**3),
    (GrayScott, "diffusion of a"): _in(0, 2, lambda p, u, c: p.diffusivity_a * c.laplacian(u[:, :1])),
    (GrayScott, "diffusion of b"): _in(1, 2, lambda p, u, c: p.diffusivity_b * c.laplacian(u[:, 1:])),
    (GrayScott, "use of a"): _in(0, 2, lambda p, u, c: -u[:, :1] * u[:, 1:] ** 2),
    (GrayScott, "making of b"): _in(1, 2, lambda p, u, c: u[:, :1] * u[:, 1:] ** 2),
    (GrayScott, "feed"): _in(0, 2, lambda p, u, c: p.feed * torch.ones_like(u[:, :1])),
    (GrayScott, "outflow of a"): _in(0, 2, lambda p, u, c: -p.feed * u[:, :1]),
    (GrayScott, "outflow of b"): _in(1, 2, lambda p, u, c: -p.feed * u[:, 1:]),
    (GrayScott, "kill"): _in(1, 2, lambda p, u, c: -p.kill * u[:, 1:]),
    (FitzHughNagumo, "diffusion of u"): _in(0, 2, lambda p, u, c: p.diffusivity_u * c.laplacian(u[:, :1])),
    (FitzHughNagumo, "diffusion of v"): _in(1, 2, lambda p, u, c: p.diffusivity_v * c.laplacian(u[:, 1:])),
    (FitzHughNagumo, "growth"): _in(0, 2, lambda p, u, c: u[:, :1]),
    (FitzHughNagumo, "cube"): _in(0, 2, lambda p, u, c: -(u[:, :1] ** 3)),
    (FitzHughNagumo, "threshold"): _in(0, 2, lambda p, u, c: -p.threshold * torch.ones_like(u[:, :1])),
    (FitzHughNagumo, "inhibition"): _in(0, 2, lambda p, u, c: -u[:, 1:]),
    (FitzHughNagumo, "activation"): _in(1, 2, lambda p, u, c: u[:, :1]),
    (FitzHughNagumo, "decay"): _in(1, 2, lambda p, u, c: -u[:, 1:]),
    (BelousovZhabotinsky, "diffusion of u"): _in(
        0, 3, lambda p, u, c: p.diffusivity_u * c.laplacian(u[:, :1])
    ),
    (BelousovZhabotinsky, "diffusion of v"): _in(
        1, 3, lambda p, u, c: p.diffusivity_v * c.laplacian(u[:, 1:2])
    ),
    (BelousovZhabotinsky, "diffusion of w"): _in(
        2, 3, lambda p, u, c: p.diffusivity_w * c.laplacian(u[:, 2:])
    ),
    (BelousovZhabotinsky, "u of u"): _in(0, 3, lambda p, u, c: u[:, :1]),
    (BelousovZhabotinsky, "v of u"): _in(0, 3, lambda p, u, c: u[:, 1:2]),
    (BelousovZhabotinsky, "u v of u"): _in(0, 3, lambda p, u, c: -u[:, :1] * u[:, 1:2]),
    (BelousovZhabotinsky, "u u of u"): _in(0, 3, lambda p, u, c: -(u[:, :1] ** 2)),
    (BelousovZhabotinsky, "w of v"): _in(1, 3, lambda p, u, c: u[:, 2:]),
    (BelousovZhabotinsky, "v of v"): _in(1, 3, lambda p, u, c: -u[:, 1:2]),
    (BelousovZhabotinsky, "u v of v"): _in(1, 3, lambda p, u, c: -u[:, :1] * u[:, 1:2]),
    (BelousovZhabotinsky, "u of w"): _in(2, 3, lambda p, u, c: u[:, :1]),
    (BelousovZhabotinsky, "w of w"): _in(2, 3, lambda p, u, c: -u[:, 2:]),
}


def _wrong(cls: type[SemiLinear], name: str, factor: float) -> type[SemiLinear]:
    """The equation with one of its terms times a factor; diffusion is part of what is linear."""
    part = "linear" if name.startswith("diffusion") else "nonlinear"
    right, term = getattr(cls, part), TERMS[cls, name]

    def wrong(self: Any, u: Tensor, calc: Any) -> Tensor:
        return right(self, u, calc) + (factor - 1) * term(self, u, calc)

    return type(f"Wrong{cls.__name__}", (cls,), {part: wrong})


@pytest.mark.parametrize("cls", EQUATIONS, ids=lambda c: c.__name__)
def test_the_terms_listed_here_are_the_equation(cls: type[SemiLinear]) -> None:
    grid = Grid((12, 10), (3.0, 4.0))
    pde, calc = cls(), Spectral(grid)
    u = _states(grid, len(pde.channels(2)))
    total = sum(term(pde, u, calc) for (owner, _), term in TERMS.items() if owner is cls)
    assert (pde.rhs(u, calc) - total).abs().max() < 1e-12 * total.abs().max()  # rounding


@pytest.mark.parametrize(
    ("cls", "term", "factor"),
    [
        (FisherKPP, "saturation", 1.01),
        (AllenCahn, "diffusion", 1.01),
        (GrayScott, "kill", 1.01),
        (BelousovZhabotinsky, "diffusion of u", 1.01),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_a_wrong_term_fails_the_certificate(cls: type[SemiLinear], term: str, factor: float) -> None:
    assert not verify(_wrong(cls, term, factor)).passed


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.01, -1.0])
@pytest.mark.parametrize(("cls", "term"), list(TERMS), ids=lambda v: getattr(v, "__name__", str(v)))
def test_every_wrong_term_fails_the_certificate(cls: type[SemiLinear], term: str, factor: float) -> None:
    try:
        passed = verify(_wrong(cls, term, factor)).passed
    except UserError as error:
        assert term.startswith("diffusion") and factor < 0 and "backward diffusion" in str(error)
    else:
        assert not passed


@pytest.mark.parametrize("cls", EQUATIONS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_no_linear_part_grows(cls: type[SemiLinear], dimension: int) -> None:
    """Modes that products do not reach follow it alone, so that growth would amplify their rounding."""
    grid = Grid((12, 10, 8)[:dimension], (2.0, 3.0, 40.0)[:dimension])
    spectral, pde = Spectral(grid), cls()
    count = len(pde.channels(dimension))
    columns = []
    for channel in range(count):
        one = torch.zeros(1, count, *spectral.symbol_shape, dtype=torch.float64)
        one[:, channel] = 1.0
        columns.append(pde.linear(one, Symbol(spectral))[0].flatten(1))
    matrices = torch.stack(columns, dim=1).permute(2, 0, 1)
    assert torch.linalg.eigvals(matrices).real.max() < 1e-12  # rounding


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (FisherKPP, "diffusivity"),
        (FisherKPP, "growth"),
        (AllenCahn, "reaction"),
        (CahnHilliard, "mobility"),
        (CahnHilliard, "gradient_energy"),
        (SwiftHohenberg, "drive"),
        (GrayScott, "feed"),
        (GrayScott, "diffusivity_a"),
        (FitzHughNagumo, "threshold"),
        (FitzHughNagumo, "diffusivity_v"),
        (BelousovZhabotinsky, "diffusivity_v"),
    ],
)
def test_each_sample_may_have_its_own_parameter(cls: Any, name: str) -> None:
    grid = Grid((16, 18), (3.0, 4.0))
    values = torch.tensor([0.02, 0.03], dtype=torch.float64).reshape(2, 1, 1, 1)
    u = _states(grid, len(cls.channels(2)))
    both = build(cls(**{name: values}), grid, 0.1, substeps=2)(u)
    for i, value in enumerate((0.02, 0.03)):
        alone = build(cls(**{name: value}), grid, 0.1, substeps=2)(u[i : i + 1])
        assert (both[i : i + 1] - alone).abs().max() < 1e-12  # rounding


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (FisherKPP, "growth"),
        (AllenCahn, "diffusivity"),
        (CahnHilliard, "gradient_energy"),
        (SwiftHohenberg, "quadratic"),
        (GrayScott, "kill"),
        (FitzHughNagumo, "threshold"),
        (BelousovZhabotinsky, "diffusivity_w"),
    ],
)
def test_steps_are_differentiable_in_state_and_parameter(cls: Any, name: str) -> None:
    grid = Grid((8,), (3.0,))
    u = _states(grid, len(cls.channels(1)), samples=1).requires_grad_()
    value = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)

    def step(v: Tensor, p: Tensor) -> Tensor:
        return build(cls(**{name: p}), grid, 0.1, substeps=1)(v)

    assert torch.autograd.gradcheck(step, (u, value), fast_mode=True)


@pytest.mark.parametrize(("diffusivity", "growth"), [(0.01, 1.0), (3.0, 0.2)])
def test_fisher_fronts_have_their_speed(diffusivity: float, growth: float) -> None:
    """Twice the speed 5 sqrt(r D/6) is the rate at which the integral grows, to what the tails hide."""
    pde = FisherKPP(diffusivity, growth)
    grid = Grid((512,), pde.exact_lengths(1))
    x = grid.coordinates()[None]
    dt = 0.5 / growth
    u = rollout(build(pde, grid, dt, substeps=8), 4)(pde.exact(x, 0.0))
    mass = (u * grid.weights()).sum(dim=(2, 3))[0]
    speed = (mass[-1] - mass[0]) / (8 * dt)
    # substeps of 1/16 leave errors of 1e-7 in the state
    assert float(speed) == pytest.approx(5 * math.sqrt(growth * diffusivity / 6), rel=1e-6)


def test_a_disc_of_allen_cahn_shrinks_with_its_curvature() -> None:
    """r^2 falls at 2 D in the limit of thin interfaces; here they are a tenth of the radius thick."""
    pde = AllenCahn(diffusivity=2.5e-3, reaction=1.0)
    grid = Grid((96, 96), (2.4, 2.4))
    x = grid.coordinates()[None] - 1.2
    radius = x.square().sum(dim=1, keepdim=True).sqrt()
    u = torch.tanh((0.7 - radius) / math.sqrt(2 * 2.5e-3))
    with torch.no_grad():
        path = rollout(build(pde, grid, 5.0), 4)(u)
    area = ((1 + path) / 2 * grid.weights()).sum(dim=(2, 3, 4))[0]
    # Corrections are of the order of (thickness/radius)^2.
    assert float((area[1] - area[4]) / (15.0 * math.pi)) == pytest.approx(2 * 2.5e-3, rel=0.02)


def test_cahn_hilliard_separates_into_its_phases() -> None:
    pde = CahnHilliard(mobility=0.05, gradient_energy=2e-3)
    grid = Grid((64, 64), (2.0, 2.0))
    generator = torch.Generator().manual_seed(0)
    u = 0.05 * RandomFourier(modes=6)(grid, 1, generator)[None]
    with torch.no_grad():
        path = rollout(build(pde, grid, 1.0), 20)(u)
    assert path[:, -1].amax() > 0.9 and path[:, -1].amin() < -0.9
    assert (path.mean(dim=(2, 3, 4)) - u.mean()).abs().max() < 1e-14  # rounding


def test_swift_hohenberg_stripes_have_the_amplitude_of_weak_theory() -> None:
    """u = A cos(x) with A^2 = 4 r/3 up to order r, for g = 0."""
    pde = SwiftHohenberg(drive=0.02, quadratic=0.0)
    grid = Grid((32,), (4 * math.pi,))
    x = grid.coordinates()[None]
    with torch.no_grad():
        u = build(pde, grid, 400.0, substeps=400)(0.1 * torch.cos(x))
    # The third harmonic is A^3/256 and changes A by r^2 or so.
    assert float(u.max()) == pytest.approx(math.sqrt(4 * 0.02 / 3), rel=2e-3)


def test_gray_scott_knows_the_regimes_of_the_well() -> None:
    assert set(REGIMES) == {"gliders", "bubbles", "maze", "worms", "spirals", "spots"}
    assert GrayScott.regime("maze") == GrayScott(feed=0.029, kill=0.057)
    assert GrayScott.regime("bubbles").kill == 0.057 and GrayScott.regime("bubbles").feed == 0.098
    with pytest.raises(ValueError, match=r"regime 'stripes'; expected one of \('gliders'"):
        GrayScott.regime("stripes")  # type: ignore[arg-type]


@pytest.mark.parametrize("regime", ["gliders", "maze", "spots"])
def test_a_patch_of_gray_scott_lives(regime: Any) -> None:
    """In these regimes a square patch does not die out but grows into a pattern."""
    pde = GrayScott.regime(regime)
    grid = Grid((48, 48), (0.75, 0.75))
    square = (grid.coordinates()[None] - 0.375).square().sum(dim=1, keepdim=True)
    b = 0.5 * torch.exp(-((square / 0.01) ** 2))
    with torch.no_grad():
        u = build(pde, grid, 400.0)(torch.cat([1 - b, b], dim=1))
    assert torch.isfinite(u).all()
    assert 0.15 < float(u[:, 1].max()) < 0.8
    assert float(u[:, 0].min()) > 0.0 and float(u[:, 0].max()) < 1.0 + 1e-2  # ripples of a coarse grid


def test_fitzhugh_nagumo_survives_white_noise() -> None:
    """PDEBench's initial state, whose cubic is fifteen times as fast as the step is chosen for."""
    pde = FitzHughNagumo()
    grid = Grid((64, 64), (2.0, 2.0))
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(1, 2, 64, 64, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        chosen, fine = build(pde, grid, 2.0)(u), build(pde, grid, 2.0, substeps=96)(u)
    assert float((chosen - fine).norm() / fine.norm()) < 5e-3
    assert fine.abs().max() < 1.5


def test_belousov_zhabotinsky_fills_the_box() -> None:
    """Fronts carry (1, 1/2, 1) into the empty state."""
    pde = BelousovZhabotinsky()
    grid = Grid((128,), (0.4,))
    b = torch.exp(-400 * (grid.coordinates()[None] - 0.2).square())
    with torch.no_grad():
        u = build(pde, grid, 40.0)(torch.cat([b, 0 * b, 0 * b], dim=1))
    steady = torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64).reshape(1, 3, 1)
    # The slowest rate to it is 1, and the front is through by t = 20.
    assert (u - steady).abs().max() < 1e-7


@pytest.mark.parametrize("cls", [FisherKPP, AllenCahn])
def test_fronts_need_a_width(cls: Any) -> None:
    with pytest.raises(ValueError, match="a front needs both positive"):
        cls(diffusivity=0.0).exact_lengths(1)


def test_bad_coefficients_are_refused() -> None:
    for cls in EQUATIONS:
        name = next(iter(cls.__dataclass_fields__))  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match=f"{cls.__name__} got {name}=nan; expected finite values"):
            cls(**{name: math.nan})
    with pytest.raises(ValueError, match="without it short waves grow"):
        CahnHilliard(gradient_energy=0.0)
    with pytest.raises(ValueError, match="at least 0"):
        GrayScott(kill=-0.1)
