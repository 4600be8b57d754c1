"""Implicit-explicit Runge-Kutta methods: order conditions, stability, and the spectral step made of them."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.pdes import Burgers, KuramotoSivashinsky, NavierStokesVorticity, Wave
from sciml.solvers import imex_spectral, pseudo_spectral
from sciml.solvers.time import ARK4, ARS222, ARS443, IMEX, ImexTableau, imex
from sciml.solvers.verify.measure import observed_order, random_states


def _arrays(t: ImexTableau) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    n = len(t.b)
    explicit, implicit = np.zeros((n, n)), np.zeros((n, n))
    for i, (e, k) in enumerate(zip(t.explicit.a, t.implicit, strict=True), start=1):
        explicit[i, : len(e)], implicit[i, : len(k)] = e, k
    return [explicit, implicit], [np.array(t.explicit.b), np.array(t.b)], np.array(t.explicit.c)


@pytest.mark.parametrize("tableau", IMEX, ids=lambda t: t.name)
def test_order_conditions_of_both_tables_and_between_them(tableau: ImexTableau) -> None:
    matrices, weights, c = _arrays(tableau)
    found: dict[int, list[float]] = {2: [], 3: [], 4: []}
    for b in weights:
        found[2].append(b @ c - 1 / 2)
        found[3].append(b @ c**2 - 1 / 3)
        found[4].append(b @ c**3 - 1 / 4)
        for a in matrices:
            found[3].append(b @ a @ c - 1 / 6)
            found[4] += [b @ (c * (a @ c)) - 1 / 8, b @ a @ c**2 - 1 / 12]
        for a, d in itertools.product(matrices, matrices):
            found[4].append(b @ a @ d @ c - 1 / 24)
    for order, residuals in found.items():
        if order <= tableau.order:
            assert max(map(abs, residuals)) < 1e-14
    if tableau.order < 4:
        assert max(map(abs, found[tableau.order + 1])) > 1e-2


@pytest.mark.parametrize(
    ("tableau", "advection"),
    [(ARS222, 0.0), (ARS443, 1.57), (ARK4, 4.0)],
    ids=lambda t: getattr(t, "name", t),
)
def test_stability_as_stated(tableau: ImexTableau, advection: float) -> None:
    """L-stable, bounded on the imaginary axis, and explicit limits as the documentation says."""
    assert abs(tableau.damping(-1e12)) < 1e-10
    assert max(abs(tableau.damping(1j * y)) for y in np.logspace(-3, 4, 400)) <= 1 + 1e-12
    assert max(abs(tableau.damping(-x)) for x in np.logspace(-3, 6, 400)) <= 1
    assert tableau.explicit.stability_limit(1j) == pytest.approx(advection, abs=5e-3)


@pytest.mark.parametrize("tableau", IMEX, ids=lambda t: t.name)
def test_orders_with_a_matrix_and_a_diagonal(tableau: ImexTableau) -> None:
    """A damped oscillator and a cubic; the exact solution by four hundred steps of ARK4."""
    matrix = torch.tensor([[-1.0, 3.0], [-3.0, -2.0]], dtype=torch.float64).reshape(1, 2, 2, 1)
    u = torch.tensor([[[0.7], [-0.4]]], dtype=torch.float64)

    def run(linear: Tensor, coupled: bool, tableau: ImexTableau, n: int) -> Tensor:
        method, v = imex(linear, 1.0 / n, tableau, coupled=coupled), u
        for _ in range(n):
            v = method.step(v, lambda w: w.flip(1) ** 3 - 0.5 * w**2)
        return v

    for linear, coupled in ((matrix, True), (torch.diagonal(matrix, 0, 1, 2).movedim(-1, 1), False)):
        exact = run(linear, coupled, ARK4, 400)
        errors = [float((run(linear, coupled, tableau, n) - exact).norm()) for n in (16, 32)]
        assert observed_order(errors) == pytest.approx(tableau.order, abs=0.3)


def test_a_diagonal_matrix_is_a_diagonal() -> None:
    generator = torch.Generator().manual_seed(0)
    diagonal = -10 * torch.rand(1, 2, 5, generator=generator, dtype=torch.float64)
    u = torch.randn(3, 2, 5, generator=generator, dtype=torch.float64)
    one = imex(diagonal, 0.1).step(u, torch.sin)
    matrix = torch.diag_embed(diagonal.movedim(1, -1)).movedim(1, -1)
    two = imex(matrix, 0.1, coupled=True).step(u, torch.sin)
    assert (one - two).abs().max() < 1e-14


def test_linear_stiffness_does_not_limit_the_step() -> None:
    linear = torch.tensor([[[-1e9, -1.0, 0.0]]], dtype=torch.float64)
    u = torch.ones(1, 1, 3, dtype=torch.float64)
    for tableau in IMEX:
        v = imex(linear, 0.1, tableau).step(u, torch.zeros_like)
        assert float(v[0, 0, 0].abs()) < 1e-6
        # Errors of the damped mode, of order h^(p+1).
        assert float(v[0, 0, 1]) == pytest.approx(math.exp(-0.1), abs=0.1 ** (tableau.order + 1))
        assert float(v[0, 0, 2]) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("pde", "grid", "dt", "substeps"),
    [
        (KuramotoSivashinsky(), Grid((32,), (22.0,)), 0.5, 100),
        (Burgers(0.05), Grid((16, 16), (6.28, 6.28)), 0.2, 40),
        (NavierStokesVorticity(0.01), Grid((16, 16), (6.28, 6.28)), 0.2, 20),
        (Wave(), Grid((16, 18), (6.28, 5.0)), 0.1, 40),
    ],
    ids=lambda v: type(v).__name__ if dataclasses.is_dataclass(v) else str(v),
)
def test_it_agrees_with_exponential_steps(pde: object, grid: Grid, dt: float, substeps: int) -> None:
    u = random_states(grid, len(pde.channels(grid.dimension)))  # type: ignore[attr-defined]
    reference = pseudo_spectral(pde, grid, dt, substeps=4 * substeps)(u)  # type: ignore[arg-type]
    found = imex_spectral(pde, grid, dt, substeps=substeps)(u)  # type: ignore[arg-type]
    # Fourth order in a step that resolves every mode.
    assert float((found - reference).norm() / reference.norm()) < 1e-7


@pytest.mark.parametrize("tableau", IMEX, ids=lambda t: t.name)
def test_orders_on_burgers(tableau: ImexTableau) -> None:
    pde, grid = Burgers(0.1), Grid((32,), (2 * math.pi,))
    u = pde.exact(grid.coordinates()[None], 0.0).contiguous()
    exact = pseudo_spectral(pde, grid, 0.5, substeps=400)(u)
    errors = [
        float((imex_spectral(pde, grid, 0.5, tableau=tableau, substeps=n)(u) - exact).norm())
        for n in (20, 40)
    ]
    assert observed_order(errors) > tableau.order - 0.3


def test_derivatives_and_precision() -> None:
    grid = Grid((8,), (2 * math.pi,))
    viscosity = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    u = random_states(grid, 1).requires_grad_()

    def step(u: Tensor, viscosity: Tensor) -> Tensor:
        return imex_spectral(Burgers(viscosity), grid, 0.1, substeps=2)(u)

    assert torch.autograd.gradcheck(step, (u, viscosity), check_forward_ad=True)
    plain = imex_spectral(Burgers(0.1), grid, 0.1, substeps=2)
    single = plain(u.detach().float())
    assert single.dtype == torch.float32
    assert (single - plain(u.detach())).abs().max() < 1e-6
    own = imex_spectral(Burgers(torch.tensor([[[0.1]], [[0.3]]])), grid, 0.1)(u.detach())
    alone = imex_spectral(Burgers(torch.tensor(0.3)), grid, 0.1)(u.detach()[1:])
    assert (own[1:] - alone).abs().max() < 1e-8


def test_refusals() -> None:
    grid = Grid((8,), (1.0,))
    for bad, message in (
        (lambda: imex_spectral(Burgers(), grid, -1.0), "dt=-1"),
        (lambda: imex_spectral(Burgers(), grid, 1.0, substeps=0), "substeps=0"),
        (lambda: imex_spectral(Burgers(), Grid((8,), (1.0,), boundary="dirichlet"), 1.0), "periodic"),
        (lambda: imex_spectral(Burgers(), grid, 0.1)(torch.zeros(1, 2, 8)), r"\(1, 2, 8\)"),
        (lambda: dataclasses.replace(ARS443, b=(1.0,)), "1 weights for 5 stages"),
        (lambda: dataclasses.replace(ARS222, implicit=((0.1, 0.1), (0.0, 0.7, 0.3))), "inconsistent"),
    ):
        with pytest.raises(ValueError, match=message):
            bad()
