"""Implicit diffusion with explicit rest on lines between sides: agreement, sides, derivatives, refusals, certificates."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.pdes import (
    AdvectionDiffusion,
    Burgers,
    CahnHilliard,
    DiffusionSorption,
    FisherKPP,
    FitzHughNagumo,
    GrayScott,
    Heat,
    PorousMedium,
    Stefan,
)
from sciml.solvers import build
from sciml.solvers.elliptic import Flux, Robin, Value
from sciml.solvers.parabolic import SCHEMES, parabolic
from sciml.solvers.parabolic.line import Functional, line
from sciml.solvers.verify.suites import parabolic as suite

SQUARE = Grid((32, 32), (2.0, 2.0), boundary="neumann", origin=-1.0, centering="cell")


def random(grid: Grid, channels: int = 1, samples: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(samples, channels, *grid.shape, generator=generator, dtype=torch.float64)


def waves(grid: Grid, channels: int) -> Tensor:
    """Smooth states without gradient at the sides, (1, C, *points)."""
    u = torch.ones(1, channels, *grid.shape, dtype=torch.float64)
    for axis, (x, length, low) in enumerate(
        zip(grid.coordinates(), grid.lengths, grid.origin, strict=True)
    ):  # type: ignore[arg-type]
        k = torch.arange(1, channels + 1, dtype=torch.float64).reshape(-1, *[1] * grid.dimension) + axis
        u = u * (0.6 + 0.4 * torch.cos(k * math.pi * (x - low) / length))
    return u


@pytest.mark.parametrize("accuracy", [2, 4, 6])
@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize(
    "sides", [("value", "value"), ("slope", "leak"), ("value", "slope"), ("mirror", "leak")]
)
def test_modes_between_any_sides_do_not_grow(accuracy: int, centering: Any, sides: tuple[str, str]) -> None:
    kinds = {
        "value": Functional(1.0, 0.0),
        "slope": Functional(0.0, 1.0),
        "leak": Functional(3.0, 1.0),
        "mirror": Functional(0.0, 1.0, mirror=True),
    }
    for n in (accuracy + 3, 20, 65):
        found = line(n, 1.0 / n, centering, (kinds[sides[0]], kinds[sides[1]]), accuracy)
        values, vectors, inverse = found.eigen()
        size = float(values.abs().max())
        assert float(values.real.max()) < 1e-10 * size
        restored = (
            ((vectors * values) @ inverse).real if values.is_complex() else (vectors * values) @ inverse
        )
        assert float((restored - found.second).abs().max()) < 1e-10 * size
        if accuracy == 2:
            weighted = found.widths[:, None] * found.second
            torch.testing.assert_close(weighted, weighted.T, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "pde",
    [FisherKPP(0.01, 2.0), FitzHughNagumo(), GrayScott(), Burgers(0.05)],
    ids=lambda p: type(p).__name__,
)
@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_implicit_and_explicit_steps_agree(pde: Any, dimension: int) -> None:
    """The same differences on nodes, stepped by Runge-Kutta with ever so small steps."""
    n = {1: 21, 2: 13, 3: 9}[dimension]
    grid = Grid((n,) * dimension, (1.0,) * dimension, boundary="neumann")
    u = waves(grid, len(pde.channels(dimension)))
    exact = build(pde, grid, 0.1, substeps=100, stepping="explicit")(u)
    found = parabolic(pde, grid, 0.1, accuracy=4, substeps=20)(u)
    # Fourth order in time of either.
    assert float((found - exact).abs().max()) < 1e-6


def test_dirichlet_nodes_keep_their_values_or_take_given_ones() -> None:
    grid = Grid((9, 10), (1.0, 1.0), boundary=("dirichlet", "neumann"))
    u = random(grid)
    held = parabolic(Heat(0.3), grid, 0.1, accuracy=4)(u)
    assert torch.equal(held[:, :, 0], u[:, :, 0]) and torch.equal(held[:, :, -1], u[:, :, -1])
    profile = torch.linspace(0.0, 1.0, 10, dtype=torch.float64).reshape(1, 10)
    given = parabolic(Heat(0.3), grid, 0.1, conditions={"x-": Value(profile)})(u)
    assert torch.equal(given[:, 0, 0], profile.expand(2, 10))
    assert torch.equal(given[:, :, -1], u[:, :, -1])


def test_channels_have_their_own_diffusivities_and_sides() -> None:
    """Two species that do not meet: each decays in its own mode of its own leaky side."""
    pde = replace(GrayScott(), feed=0.0, kill=0.0, diffusivity_a=0.2, diffusivity_b=0.5)
    grid = Grid((64,), (1.0,), boundary="neumann", centering="cell")
    c, modes, decays = 0.4, [], []
    for kappa in (0.2, 0.5):
        low, high = 0.0, math.pi / 2
        for _ in range(100):
            k = 0.5 * (low + high)
            low, high = (k, high) if c * math.cos(k) > kappa * k * math.sin(k) else (low, k)
        modes.append(1e-6 * torch.cos(k * grid.axes()[0]))  # too little to react
        decays.append(math.exp(-kappa * k**2 * 0.5))
    u = torch.stack(modes).unsqueeze(0)
    v = parabolic(pde, grid, 0.5, conditions={"x+": Robin(c)}, substeps=20)(u)
    for channel in (0, 1):
        torch.testing.assert_close(
            v[0, channel], decays[channel] * u[0, channel], rtol=3e-4, atol=0
        )  # dx^2


def test_a_flux_fills_what_is_insulated_elsewhere() -> None:
    for accuracy, tolerance in ((2, 1e-12), (4, 1e-3), (6, 1e-3)):
        grid = Grid((33,), (2.0,), boundary="neumann", centering="cell")
        u = waves(grid, 1)
        step = parabolic(Heat(0.3), grid, 0.5, conditions={"x+": Flux(0.7)}, accuracy=accuracy, substeps=20)  # type: ignore[arg-type]
        gained = float(((step(u) - u) * grid.weights()).sum())
        assert gained == pytest.approx(
            0.35, abs=tolerance
        )  # volumes to rounding; differences to the order of a start that does not fit the flux


@pytest.mark.parametrize("scheme", list(SCHEMES))
@pytest.mark.parametrize("accuracy", [2, 4, 6])
def test_steps_are_differentiable(scheme: Any, accuracy: Any) -> None:
    grid = Grid((10,), (1.0,), boundary=(("dirichlet", "neumann"),))
    u = random(grid, 2, 1).requires_grad_()
    conditions = {"x+": Robin(0.5, 0.2)}
    pde = FitzHughNagumo(0.1, 0.3)
    step = parabolic(pde, grid, 0.1, scheme=scheme, accuracy=accuracy, conditions=conditions, substeps=1)
    assert torch.autograd.gradcheck(step, (u,), check_forward_ad=True)


def test_parameters_and_sides_are_differentiable_and_differ_between_samples() -> None:
    grid = Grid((5, 6), (1.0, 1.0), boundary=(("dirichlet", "neumann"), "periodic"), centering="cell")
    u = random(grid)

    def solve(kappa: Tensor, velocity: Tensor, value: Tensor) -> Tensor:
        pde = AdvectionDiffusion(velocity, kappa)
        conditions = {"x-": Value(value), "x+": Flux(0.2)}
        return parabolic(pde, grid, 0.1, conditions=conditions, scheme="ars222", substeps=2)(u)

    kappa = torch.tensor([0.2, 0.4], dtype=torch.float64)
    velocity = torch.tensor([[0.3, -0.1], [0.2, 0.1]], dtype=torch.float64).reshape(2, 2, 1, 1)
    value = torch.tensor(1.3, dtype=torch.float64)
    assert torch.autograd.gradcheck(solve, tuple(v.requires_grad_() for v in (kappa, velocity, value)))
    both = solve(kappa, velocity, value)
    pde = AdvectionDiffusion((0.2, 0.1), 0.4)
    alone = parabolic(
        pde, grid, 0.1, conditions={"x-": Value(1.3), "x+": Flux(0.2)}, scheme="ars222", substeps=2
    )(u[1:])
    torch.testing.assert_close(both[1:], alone, rtol=1e-12, atol=1e-13)


def test_blow_up_and_single_precision() -> None:
    step = parabolic(FitzHughNagumo(), SQUARE, 0.05, substeps=2)
    u = random(SQUARE, 2)
    v = step(u)
    assert step(u.float()).dtype == torch.float32
    torch.testing.assert_close(step(u.float()).double(), v, rtol=0, atol=1e-5)
    u[0, 0, 3, 3] = torch.nan
    torch.testing.assert_close(step(u)[1], v[1])
    assert not bool(torch.isfinite(step(u)[0]).all())


def test_content_of_reaction_diffusion_is_that_of_the_reaction() -> None:
    """Without reaction the two fields keep their means to rounding, whatever the step."""
    pde = replace(GrayScott(), feed=0.0, kill=0.0)
    u = torch.cat([random(SQUARE), torch.zeros(2, 1, 32, 32, dtype=torch.float64)], dim=1)
    v = parabolic(pde, SQUARE, 50.0, substeps=1)(u)
    torch.testing.assert_close(v.mean(dim=(2, 3)), u.mean(dim=(2, 3)), rtol=1e-12, atol=1e-14)


def test_a_layer_thinner_than_the_grid_is_told() -> None:
    grid = Grid((20,), (1.0,), boundary="dirichlet")
    with pytest.warns(UserWarning, match="Peclet number 5.26 per spacing on axis 0.*About 53 points"):
        parabolic(AdvectionDiffusion(1.0, 0.01), grid, 0.1)


def test_wrong_input_is_refused_by_message() -> None:
    line = Grid((16,), (1.0,), boundary="neumann")
    cells = Grid((16,), (1.0,), boundary="neumann", centering="cell")
    cases: list[tuple[Any, str]] = [
        (
            lambda: parabolic(Heat(0.1), Grid((4,), (1.0,), "neumann"), 0.1, accuracy=4),
            "4 points is too short for order 4",
        ),
        (
            lambda: parabolic(Heat(0.0), line, 0.1, conditions={"x-": Flux(1.0)}),
            "a channel that does not diffuse",
        ),
        (
            lambda: parabolic(Heat(torch.tensor([0.1, 0.2])), line, 0.1, conditions={"x-": Robin(1.0)}),
            "differs between samples",
        ),
        (lambda: parabolic(Heat(0.1), line, 0.1)(torch.ones(1, 2, 16)), r"state of shape \(1, 2, 16\)"),
        (
            lambda: parabolic(Heat(0.1), Grid((16,), (1.0,)), 0.1, conditions={"x-": Robin(1.0)}),
            "x- is 'periodic'",
        ),
        (
            lambda: build(Burgers(0.1), cells, 0.1),
            "first derivatives need values on the sides.*centering='node'",
        ),
        (lambda: build(CahnHilliard(), cells, 0.1), "more than second derivatives|second derivatives"),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="derivative"):
        parabolic(CahnHilliard(), line, 0.1)


def wrong(pde: Any, factor: float, *names: str) -> Any:
    """A subclass some methods of which are scaled."""

    def scaled(right: Any) -> Any:
        return lambda self, *a: factor * right(self, *a)

    return type(f"Wrong{pde.__name__}", (pde,), {name: scaled(getattr(pde, name)) for name in names})


@pytest.mark.parametrize("factor", [1.02, 0.95])
def test_a_wrong_coefficient_fails_its_certificate(factor: float) -> None:
    diffusion = ("potential", "conductivity")
    for checks in (
        suite._barenblatt(wrong(PorousMedium, factor, *diffusion), 2.0),
        suite._melting(wrong(Stefan, factor, *diffusion), 0.6),
        suite._heat_between_sides(wrong(Heat, factor, "linear")),
    ):
        assert not all(check.passed for check in checks)


def test_a_wrong_ratio_of_transport_and_diffusion_fails_its_certificate() -> None:
    def linear(self: AdvectionDiffusion, u: Tensor, calc: Any) -> Tensor:
        return AdvectionDiffusion.linear(self, u, calc) + 0.005 * calc.laplacian(u)

    cls = type("WrongAdvectionDiffusion", (AdvectionDiffusion,), {"linear": linear})
    assert not all(check.passed for check in suite._boundary_layer(cls))


@pytest.mark.slow
def test_wrong_sorption_and_reaction_fail_their_certificates() -> None:
    for factor in (1.02, 0.95):
        cls = wrong(DiffusionSorption, factor, "potential", "conductivity")
        assert not all(check.passed for check in suite._diffusion_sorption(cls))

    class MoreSorption(DiffusionSorption):
        """Freundlich's coefficient two percent up."""

        def _sorption(self, u: Tensor) -> Any:
            a, n = super()._sorption(u)
            return 1.02 * a, n

    assert not all(check.passed for check in suite._diffusion_sorption(MoreSorption))
    assert not all(check.passed for check in suite._zero_flux(wrong(FitzHughNagumo, 1.02, "nonlinear")))


def test_py_pde_agrees_on_reaction_diffusion_between_walls() -> None:
    """The other package, on the same cells and on cells of its own, within what the grids differ by."""
    pde = pytest.importorskip("pde", reason="compares with py-pde, which is no dependency")
    k, end = 5e-3, 1.0
    ours = parabolic(FitzHughNagumo(1e-3, 5e-3, k), SQUARE, end, substeps=40)
    fine = Grid((64, 64), SQUARE.lengths, "neumann", -1.0, "cell")  # type: ignore[arg-type]
    twice = parabolic(FitzHughNagumo(1e-3, 5e-3, k), fine, end, substeps=40)

    def start(grid: Grid) -> Tensor:
        x = math.pi * (grid.coordinates() + 1) / 2
        return torch.stack([torch.cos(x[0]) * torch.cos(2 * x[1]), 0.5 * torch.cos(3 * x[0])]).unsqueeze(0)

    box = pde.CartesianGrid([[-1, 1], [-1, 1]], 32)
    fields = [pde.ScalarField(box, data) for data in start(SQUARE)[0].numpy()]
    equation = pde.PDE(
        {"u": f"1e-3 * laplace(u) + u - u**3 - {k} - v", "v": "5e-3 * laplace(v) + u - v"},
        bc={"derivative": 0},
    )
    result = equation.solve(
        pde.FieldCollection(fields),
        t_range=end,
        dt=1e-2,
        solver="scipy",
        rtol=1e-8,
        atol=1e-10,
        tracker=None,
    )
    other = torch.as_tensor(np.stack([f.data for f in result]))
    mine = ours(start(SQUARE))[0]
    halves = twice(start(fine))[0].unflatten(2, (32, 2)).unflatten(1, (32, 2)).mean(dim=(2, 4))
    of_the_grid = float((mine - halves).norm() / mine.norm())
    # The same cells: the errors in time alone.
    assert float((mine - other).norm() / mine.norm()) < 1e-7
    assert 1e-4 < of_the_grid < 1e-2 and float((halves - other).norm() / mine.norm()) < 1.01 * of_the_grid
