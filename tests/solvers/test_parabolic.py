"""Nonlinear diffusion on control volumes: fronts, conservation, sides, derivatives, refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.pdes import DiffusionLaw, DiffusionSorption, Heat, KortewegDeVries, PorousMedium, Stefan
from sciml.pdes.parameters import fit
from sciml.solvers import build
from sciml.solvers.elliptic import Diffusion, Flux, Multigrid, Robin, Value
from sciml.solvers.parabolic import SCHEMES, ImexLines, parabolic, solve_tridiagonal
from sciml.step import Step, rollout
from sciml.trajectory import Field

CELLS = Grid((5,), (1.0,), boundary=(("dirichlet", "neumann"),), centering="cell")
NODES = Grid((5,), (1.0,), boundary=(("dirichlet", "neumann"),))


def random(grid: Grid, samples: int = 2, channels: int = 1, low: float = 0.2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + torch.rand(samples, channels, *grid.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("n", [2, 3, 7, 64, 1000])
@pytest.mark.parametrize("wraps", [False, True])
def test_tridiagonal_systems_are_solved_to_rounding(n: int, wraps: bool) -> None:
    generator = torch.Generator().manual_seed(n)
    lower, upper = (-torch.rand(3, n, generator=generator, dtype=torch.float64) for _ in range(2))
    if not wraps or n < 3:
        lower[:, 0] = upper[:, -1] = 0.0
    diagonal = 0.01 - lower - upper
    b = torch.randn(3, n, generator=generator, dtype=torch.float64)
    x = solve_tridiagonal(lower, diagonal, upper, b)
    residual = diagonal * x + lower * x.roll(1, 1) + upper * x.roll(-1, 1) - b
    # Rounding times a solution of up to a hundred times the right side.
    assert float(residual.abs().max()) < 1e-11


def test_the_tridiagonal_solve_is_differentiable() -> None:
    generator = torch.Generator().manual_seed(0)
    lower, upper, b = (torch.rand(2, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    inputs = [v.requires_grad_() for v in (lower, 3.0 + lower.detach() + upper, upper, b)]
    assert torch.autograd.gradcheck(solve_tridiagonal, inputs)


@pytest.mark.parametrize("m", [0.0, 1.0, 3.0, 6.0])
def test_powers_are_continued_to_negative_states(m: float) -> None:
    pde = PorousMedium(m, 0.7)
    u = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    (slope,) = torch.autograd.grad(pde.potential(u).sum(), u)
    torch.testing.assert_close(slope, pde.conductivity(u.detach()), rtol=1e-12, atol=1e-15)
    assert torch.equal(pde.potential(-u), -pde.potential(u))


@pytest.mark.parametrize("exponent", [0.3, 0.874, 1.0, 2.5])
def test_what_is_stored_gives_the_state_back(exponent: float) -> None:
    pde = DiffusionSorption(exponent=exponent)
    u = torch.cat([torch.logspace(-12, 1, 30, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    u = torch.cat([u, -u]).reshape(1, 1, -1)
    assert float((pde.state(pde.storage(u)) - u).abs().max()) < 1e-14
    w, k = torch.tensor([[[0.3, 2.0, 5.0]]], dtype=torch.float64), torch.tensor(3.5e-4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda w, k: DiffusionSorption(partition=k, exponent=exponent).state(w),
        (w.requires_grad_(), k.requires_grad_()),
        eps=1e-9,
    )
    v = torch.tensor([[[0.3, 2.0]]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(pde.storage(v).sum(), v)
    torch.testing.assert_close(slope * pde.release(v), torch.ones_like(v))


def test_pdebench_retardation() -> None:
    # 1 + 0.71/0.29 * 2880 * 3.5e-4 * 0.874 at u = 1
    factor = DiffusionSorption().retardation(torch.ones(1, 1, 1, dtype=torch.float64))
    assert float(factor) == pytest.approx(3.15691, abs=1e-5)


def test_stefan_front_of_the_literature() -> None:
    """u* = 0.6: z = 0.52567 and the front at t = 0.05 is x = 0.23509 (Hansen et al., 2023)."""
    pde = Stefan(0.6)
    assert pde.front(0.05) == pytest.approx(0.23509, abs=1e-5)
    x = torch.tensor([[[0.0, pde.front(0.05) - 1e-9, pde.front(0.05) + 1e-9]]], dtype=torch.float64)
    torch.testing.assert_close(pde.similarity(x, 0.05).flatten(), torch.tensor([1.0, 0.6, 0.0]).double())
    with pytest.raises(ValueError, match="one threshold between 0 and 1; got 1.5"):
        Stefan(1.5).front(0.1)


@pytest.mark.parametrize("m", [1.0, 2.5])
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_exact_fronts_solve_the_equation(m: float, dimension: int) -> None:
    """u_t = div(kappa u^m grad u), by differences of the formulas inside the front."""
    pde, h = PorousMedium(m, 0.8), 1e-3
    x = 0.2 * torch.ones(1, dimension, 1, dtype=torch.float64)

    def check(u: Any) -> None:
        rate = (u(x, 1.0 + h) - u(x, 1.0 - h)) / (2 * h)
        total = torch.zeros_like(rate)
        for axis in range(dimension):
            e = torch.zeros_like(x)
            e[:, axis] = h
            potentials = [pde.potential(u(x + k * e, 1.0)) for k in (-1, 0, 1)]
            total = total + (potentials[0] - 2 * potentials[1] + potentials[2]) / h**2
        assert float(rate.abs()) > 0.05
        assert float((rate - total).abs()) < 1e-5  # h^2

    check(lambda x, t: pde.barenblatt(x, t, size=0.5))
    check(pde.wave)
    assert float(pde.barenblatt_front(1.0, dimension)) > 0.2 * dimension**0.5
    with pytest.raises(ValueError, match="positive exponent"):
        PorousMedium(0.0).barenblatt(x, 1.0)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_the_mass_of_a_point_source(dimension: int) -> None:
    pde = PorousMedium(torch.tensor([1.0, 2.0], dtype=torch.float64))
    n = {1: 4000, 2: 400, 3: 90}[dimension]
    grid = Grid((n,) * dimension, (10.0,) * dimension, origin=-5.0, centering="cell", boundary="neumann")
    u = pde.barenblatt(grid.coordinates().unsqueeze(0), 1.0)
    found = (u * grid.weights()).flatten(1).sum(dim=1)
    # Midpoints across a kink or a root.
    torch.testing.assert_close(found, pde.barenblatt_mass(dimension).flatten(), rtol=2e-3, atol=0)


@pytest.mark.parametrize("scheme", ["explicit", *SCHEMES])
def test_content_stays_and_states_stay_between_their_bounds(scheme: Any) -> None:
    pde = PorousMedium(torch.tensor([1.0, 4.0], dtype=torch.float64))
    for grid in (
        Grid((40,), (1.0,), boundary="neumann", centering="cell"),
        Grid((41,), (1.0,), boundary="neumann"),
        Grid((12, 10), (1.0, 1.0), boundary=("neumann", "periodic"), centering="cell"),
    ):
        u = (random(grid, low=0.0) - 0.6).clamp(min=0.0) * 4.0
        v = rollout(parabolic(pde, grid, 0.002, scheme=scheme), 3)(u)[:, -1]
        before, after = (pde.invariants(w, grid)["content"] for w in (u, v))
        torch.testing.assert_close(after, before, rtol=1e-13, atol=0)  # rounding
        assert float(v.min()) > -1e-12
        if scheme in ("explicit", "backward-euler"):
            assert float((v.flatten(1).amax(1) - u.flatten(1).amax(1)).max()) < 1e-12


def test_sorbed_content_stays_in_long_implicit_steps() -> None:
    pde, grid = DiffusionSorption(), Grid((50,), (1.0,), boundary="neumann", centering="cell")
    u = random(grid, low=0.0)
    v = rollout(parabolic(pde, grid, 50.0), 10)(u)[:, -1]
    torch.testing.assert_close(
        pde.invariants(v, grid)["content"], pde.invariants(u, grid)["content"], rtol=1e-12, atol=0
    )


def test_a_step_that_leaves_the_states_is_taken_again() -> None:
    """Crank-Nicolson at a large step throws rough states below zero; backward Euler does not."""
    grid = Grid((60,), (1.0,), boundary="neumann", centering="cell")
    u = torch.zeros(2, 1, 60, dtype=torch.float64)
    u[0, 0, 20:22], u[1] = 1.0, 0.5
    step = parabolic(PorousMedium(1.0), grid, 0.02, scheme="crank-nicolson", substeps=2)
    v = step(u)
    assert step.fallbacks >= 1 and float(v.min()) >= -1e-12  # type: ignore[union-attr]
    torch.testing.assert_close(v.sum(dim=2), u.sum(dim=2), rtol=1e-13, atol=0)


@pytest.mark.parametrize("centering", ["cell", "node"])
def test_fluxes_and_leaks_balance(centering: Any) -> None:
    """Content grows by what Flux brings; a Robin side ends where both are alike."""
    grid = Grid((20,), (1.0,), boundary="neumann", centering=centering)
    pde = PorousMedium(1.0)
    u = random(grid)
    filled = parabolic(pde, grid, 0.5, conditions={"x-": Flux(0.3)})(u)
    gained = pde.invariants(filled, grid)["content"] - pde.invariants(u, grid)["content"]
    torch.testing.assert_close(gained, torch.full_like(gained, 0.15), rtol=1e-12, atol=0)
    sides = {"x-": Flux(0.3), "x+": Robin(2.0, 0.5)}
    still = parabolic(pde, grid, 400.0, conditions=sides, scheme="backward-euler", substeps=200)(u)
    # 0.3 leaves at u = 0.4, and u^2/2 falls by 0.3 per length.
    exact = (0.16 + 0.6 * (1 - grid.axes()[0])).sqrt()
    # The half cell next to the leak is linearised: second order there.
    torch.testing.assert_close(still[0, 0], exact, rtol=2e-3, atol=0)


def test_sides_may_hold_fields_and_differ_between_samples() -> None:
    grid = Grid((16, 12), (1.0, 1.0), boundary=(("dirichlet", "dirichlet"), "neumann"), centering="cell")
    y = grid.axes()[1]
    profile = torch.stack([1 + 0 * y, 1 + 0.5 * torch.cos(math.pi * y)]).unsqueeze(1)
    pde = PorousMedium(0.0)  # the heat equation, with an exact steady state
    step = parabolic(
        pde, grid, 4.0, conditions={"x+": Value(profile)}, scheme="backward-euler", substeps=40
    )
    v = step(torch.zeros(2, 1, 16, 12, dtype=torch.float64))
    x = grid.coordinates()
    flat = x[0]
    wavy = flat + 0.5 * torch.sinh(math.pi * x[0]) / math.sinh(math.pi) * torch.cos(math.pi * x[1])
    # Second order on 16 x 12 cells.
    assert float((v[:, 0] - torch.stack([flat, wavy])).abs().max()) < 4e-3
    by_function = parabolic(
        pde,
        grid,
        4.0,
        conditions={"x+": Value(lambda x: 1 + 0.5 * torch.cos(math.pi * x[1]))},
        scheme="backward-euler",
        substeps=40,
    )(torch.zeros(1, 1, 16, 12, dtype=torch.float64))
    torch.testing.assert_close(by_function, v[1:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("scheme", ["explicit", *SCHEMES])
def test_every_step_has_the_derivatives_of_its_solution(scheme: Any) -> None:
    leaky = {"x-": Value(1.0), "x+": Robin(0.5, 0.2)}
    step = parabolic(PorousMedium(2.0), CELLS, 0.01, conditions=leaky, scheme=scheme, substeps=1)
    assert torch.autograd.gradcheck(step, (random(CELLS, 1).requires_grad_(),))


@pytest.mark.parametrize("scheme", ["explicit", "ars222"])
def test_derivatives_on_nodes_in_more_axes_and_of_what_is_stored(scheme: Any) -> None:
    def check(pde: DiffusionLaw, grid: Grid, conditions: Any, dt: float) -> None:
        step = parabolic(pde, grid, dt, conditions=conditions, scheme=scheme, substeps=1)
        assert torch.autograd.gradcheck(step, (random(grid, 1).requires_grad_(),))

    check(PorousMedium(2.0), NODES, {"x+": Robin(0.5, 0.2)}, 0.01)
    check(
        PorousMedium(1.0), Grid((3, 4), (1.0, 1.0), ("neumann", "periodic"), centering="cell"), None, 0.01
    )
    check(PorousMedium(1.0), Grid((2, 3, 2), (1.0, 1.0, 1.0), "neumann", centering="cell"), None, 0.01)
    check(DiffusionSorption(), CELLS, {"x-": Value(1.0), "x+": Robin(1.0)}, 20.0)


def test_derivatives_forward_and_of_several_steps() -> None:
    step = parabolic(PorousMedium(2.0), CELLS, 0.02, scheme="ars222", substeps=2)
    assert torch.autograd.gradcheck(step, (random(CELLS, 1).requires_grad_(),), check_forward_ad=True)


def test_parameters_and_sides_that_learn() -> None:
    u = random(CELLS)

    def solve(m: Tensor, kappa: Tensor, value: Tensor) -> Tensor:
        return parabolic(
            PorousMedium(m, kappa),
            CELLS,
            0.02,
            conditions={"x-": Value(value)},
            scheme="tr-bdf2",
            substeps=2,
        )(u)

    inputs = (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.5]), torch.tensor(1.2))
    assert torch.autograd.gradcheck(solve, tuple(v.double().requires_grad_() for v in inputs))


def test_a_diffusivity_is_found_from_what_it_did() -> None:
    """Newton's method on one number by the gradient of an implicit step."""
    grid = Grid((24,), (1.0,), boundary="neumann", centering="cell")
    u = 0.2 + torch.exp(-50 * (grid.coordinates().unsqueeze(0) - 0.5) ** 2)
    seen = parabolic(PorousMedium(2.0, 0.7), grid, 0.05, scheme="ars222", substeps=4)(u)
    kappa = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    for _ in range(6):
        left = parabolic(PorousMedium(2.0, kappa), grid, 0.05, scheme="ars222", substeps=4)(u) - seen
        (found,) = torch.autograd.grad(left.square().sum(), kappa)
        with torch.no_grad():
            _, slope = torch.autograd.functional.jvp(
                lambda k: parabolic(PorousMedium(2.0, k), grid, 0.05, scheme="ars222", substeps=4)(u),
                kappa.detach(),
                torch.ones((), dtype=torch.float64),
            )
            kappa -= 0.5 * found / slope.square().sum()
    assert float(kappa.detach()) == pytest.approx(0.7, abs=1e-8)


@pytest.mark.parametrize("scheme", ["explicit", "ars222"])
def test_a_sample_that_blows_up_leaves_the_others_alone(scheme: Any) -> None:
    for grid in (CELLS, Grid((6, 5), (1.0, 1.0), "neumann", centering="cell")):
        step = parabolic(PorousMedium(2.0), grid, 0.01, scheme=scheme, substeps=3)
        u = random(grid, 3)
        alone = step(u[:1])
        u[1, 0, 2] = torch.nan
        v = step(u)
        torch.testing.assert_close(v[:1], alone, rtol=1e-10, atol=1e-12)  # conjugate gradients' tolerance
        assert not bool(torch.isfinite(v[1]).all()) and bool(torch.isfinite(v[2]).all())


@dataclass(frozen=True)
class Growing(DiffusionLaw):
    """Porous medium with growth, u_t = lap(u^2)/2 + u: two channels, one of them fed by the other."""

    growth: float = 1.0
    fields = (Field("grass"), Field("hare"))

    def potential(self, u: Tensor) -> Tensor:
        return 0.5 * u.abs() * u

    def conductivity(self, u: Tensor) -> Tensor:
        return u.abs()

    def source(self, u: Tensor) -> Tensor:
        return torch.cat([self.growth * u[:, :1], fit(self.growth, u) * u[:, :1]], dim=1)


@pytest.mark.parametrize("scheme", [*SCHEMES])
def test_sources_have_the_order_of_their_method(scheme: Any) -> None:
    grid = Grid((8,), (1.0,), boundary="neumann", centering="cell")
    u = torch.ones(1, 2, 8, dtype=torch.float64)
    counts = (8, 16)
    errors = []
    for n in counts:
        v = parabolic(
            Growing(), grid, 1.0, scheme=scheme, substeps=n * (200 if scheme == "explicit" else 1)
        )(u)
        errors.append(float((v[0, 0] - math.e).abs().max()))
        torch.testing.assert_close(
            v[0, 1], v[0, 0], rtol=1e-12, atol=0
        )  # both start at 1 and gain the same
    order = float(SCHEMES[scheme].order)
    if errors[-1] > 1e-11:  # else rounding
        # The explicit part of TR-BDF2 is of third order where it is alone.
        assert math.log2(errors[0] / errors[1]) > order - 0.2


@pytest.mark.parametrize("mean", ["arithmetic", "harmonic"])
def test_other_means_conserve_and_agree_where_nothing_degenerates(mean: Any) -> None:
    grid = Grid((64,), (1.0,), boundary="neumann", centering="cell")
    u = 1 + 0.3 * torch.cos(math.pi * grid.coordinates().unsqueeze(0))
    one, other = (
        parabolic(PorousMedium(2.0), grid, 0.02, scheme="explicit", mean=m)(u) for m in ("integral", mean)
    )
    assert float((one - other).abs().max()) < 2e-5  # second order on 64 cells
    assert float((other.sum() - u.sum()).abs()) < 1e-11
    ring = Grid((12, 10), (1.0, 1.0), centering="cell")
    v = random(ring)
    w = parabolic(PorousMedium(2.0), ring, 0.001, scheme="explicit", mean=mean)(v)
    torch.testing.assert_close(w.sum(dim=(2, 3)), v.sum(dim=(2, 3)), rtol=1e-12, atol=0)
    turned = parabolic(PorousMedium(2.0), ring, 0.001, scheme="explicit", mean=mean)(v.roll((3, 4), (2, 3)))
    torch.testing.assert_close(turned, w.roll((3, 4), (2, 3)), rtol=1e-12, atol=0)


def test_large_steps_in_2d_by_multigrid() -> None:
    """Nothing degenerates, and a step crosses many cells: the reaction is a small part of the system."""
    grid = Grid((32, 32), (1.0, 1.0), boundary=("dirichlet", "neumann"), centering="cell")
    pde = PorousMedium(1.0)
    conditions = {"x-": Value(1.0), "x+": Value(2.0)}
    u = torch.ones(2, 1, 32, 32, dtype=torch.float64)
    v = parabolic(pde, grid, 4.0, conditions=conditions, scheme="backward-euler", substeps=20)(u)
    exact = (1 + 3 * grid.coordinates()[0]).sqrt()  # u^2 is linear
    assert float((v[:, 0] - exact).abs().max()) < 4e-4


def test_multigrid_counts_a_reaction_that_is_not_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    faces = (torch.ones(1, 33, 32, dtype=torch.float64), torch.ones(1, 32, 33, dtype=torch.float64))
    lost = 5 * torch.rand(2, 32, 32, generator=generator, dtype=torch.float64)
    operator = Diffusion(faces, (False, False), lost)
    cycle = Multigrid(operator)
    r = torch.randn(2, 32, 32, generator=generator, dtype=torch.float64)
    s = torch.randn(2, 32, 32, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((r * cycle(s)).sum(), (s * cycle(r)).sum())  # symmetric
    assert float((r - operator(cycle(r))).norm() / r.norm()) < 0.1
    signed = Multigrid(Diffusion(faces, (False, False), lost - 2.0))  # a cycle for the rest alone
    torch.testing.assert_close(signed(r), Multigrid(Diffusion(faces, (False, False)))(r))


def test_build_chooses_by_stiffness_and_says_so() -> None:
    coarse = Grid((16,), (1.0,), boundary="neumann", centering="cell")
    gentle = build(PorousMedium(2.0), coarse, 0.01)
    assert isinstance(gentle, Step) and "explicit" in gentle.method
    assert "cost less than implicit" in gentle.reason and gentle.reason.endswith(".")
    stiff = build(PorousMedium(2.0), coarse.resized((1024,)), 0.1)
    assert "ARS 2,2,2 implicit" in stiff.method and "would need about 2" in stiff.reason
    assert "backward Euler" in build(Stefan(), coarse.resized((1024,)), 0.1).method
    nodes = Grid((512,), (1.0,), boundary="dirichlet")
    lines = build(Heat(1.0), nodes, 0.1)
    assert isinstance(lines.step, ImexLines) and "diffusion implicit" in lines.method
    assert "is stiff: explicit steps would need" in lines.reason
    assert lines.substeps is not None and lines.substeps < 1000
    assert "RK4" in build(Heat(1.0), nodes, 0.1, stepping="explicit").method
    assert build(KortewegDeVries(), Grid((32,), (1.0,), boundary="neumann"), 1e-4).method.endswith("RK4")
    cells = build(Heat(1.0), coarse, 0.01)
    assert cells.method == "finite volumes, ARK4(3)6L[2]SA, diffusion implicit"
    # Single precision states stay so.
    assert gentle(torch.ones(1, 1, 16)).dtype == cells(torch.ones(1, 1, 16)).dtype == torch.float32


def test_wrong_input_is_refused_by_message() -> None:
    pde, ring = PorousMedium(2.0), Grid((8,), (1.0,), centering="cell")
    cases: list[tuple[Any, str]] = [
        (
            lambda: PorousMedium(diffusivity=-1.0),
            "PorousMedium got diffusivity=-1.0; expected finite values of at",
        ),
        (lambda: PorousMedium(exponent=math.nan), "PorousMedium got exponent=nan"),
        (lambda: DiffusionSorption(porosity=1.5), "porosity=1.5; expected above 0 and at most 1"),
        (lambda: DiffusionSorption(exponent=0.0), "exponent=0.0; expected above 0"),
        (
            lambda: parabolic(pde, CELLS, 0.1)(-torch.ones(1, 1, 5)),
            "values down to -1 in sample 0; expected none below",
        ),
        (
            lambda: parabolic(pde, CELLS, 0.1)(torch.ones(1, 1, 8)),
            r"state of shape \(1, 1, 8\).*expected \(B, \*\(1, 5\)\)",
        ),
        (
            lambda: parabolic(pde, ring, 0.1, conditions={"x-": Robin(1.0)}),
            "x- is 'periodic'; Robin is a condition of sides",
        ),
        (
            lambda: parabolic(pde, CELLS, 0.1, conditions={"x-": Flux(1.0)}),
            "x- is 'dirichlet'; Flux is a condition of sides",
        ),
        (lambda: parabolic(pde, CELLS, 0.1, conditions={"y-": Value(1.0)}), r"got sides \['y-'\]"),
        (
            lambda: parabolic(pde, CELLS, 0.1, conditions={"x-": 1.0}),
            "x- got float; expected Value, Flux or Robin",
        ),  # type: ignore[dict-item]
        (
            lambda: parabolic(pde, CELLS, 0.1, conditions={"x-": Value(math.nan)}),
            "values that are not finite",
        ),
        (
            lambda: parabolic(pde, CELLS, 0.1, conditions={"x-": Value(torch.ones(3))}),
            r"expected a number, \(1,\)",
        ),
        (
            lambda: parabolic(pde, CELLS, 0.1, conditions={"x+": Robin(-1.0)}),
            "coefficient -1.0; expected one finite number",
        ),
        (lambda: parabolic(pde, CELLS, 0.1, scheme="euler"), "scheme='euler'; expected one of"),  # type: ignore[arg-type]
        (lambda: parabolic(pde, CELLS, -0.1), "dt=-0.1; expected a positive time"),
        (lambda: parabolic(pde, CELLS, 0.1, accuracy=4), "its volumes are of order 2"),
        (lambda: parabolic(pde, CELLS, 0.1, mean="harmonic", scheme="ark4"), "stepped explicitly"),
        (lambda: parabolic(pde, CELLS, 0.1, mean="median"), "mean='median'; expected one of"),  # type: ignore[arg-type]
        (lambda: parabolic(pde, CELLS, 0.1, substeps=0), "substeps=0; expected a whole number from 1"),
        (
            lambda: parabolic(pde, CELLS, 0.1, conditions={"x+": Flux(1.0)}, scheme="explicit"),
            "Use an implicit scheme",
        ),
        (
            lambda: parabolic(pde, Grid((8,), (1.0,), "wall", centering="cell"), 0.1),
            r"got sides \['wall'\]",
        ),
        (lambda: parabolic(Heat(), CELLS, 0.1, mean="harmonic"), "those are of nonlinear diffusion"),
        (lambda: build(KortewegDeVries(), CELLS, 0.1), "derivative of order 3.*centering='node'"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
