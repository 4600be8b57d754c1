"""Least squares over coefficients of basis functions: minima, gradients of minima, batches, refusals."""

from __future__ import annotations

import pytest
import torch

from sciml.constraints.least_squares import solve_least_squares

VISCOSITY = 0.1


def burgers(z: torch.Tensor) -> torch.Tensor:
    """u_t + u u_x - nu u_xx from (u, u_t, u_x, u_xx)."""
    u, u_t, u_x, u_xx = z.unbind(1)
    return u_t + u * u_x - VISCOSITY * u_xx


def features(count: int = 2, points: int = 40, n: int = 4, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, points, n, generator=generator, dtype=torch.float64)


def conditions(count: int = 2, n: int = 4, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, 6, n, generator=generator, dtype=torch.float64)
    return rows, torch.randn(count, 6, generator=generator, dtype=torch.float64)


def solution(z, rows, targets, **settings):
    return solve_least_squares(
        burgers, z, rows, targets, ridge=1e-3, tolerance=1e-11, max_iterations=100, **settings
    )


def test_finds_a_minimum_that_scipy_finds():
    from scipy.optimize import least_squares

    z, (rows, targets) = features(), conditions()
    found = solution(z, rows, targets)
    assert bool(found.converged.all())
    for k in range(2):

        def residual(w, k=k):
            w = torch.as_tensor(w)
            r = burgers((z[k] @ w)[None])[0]
            return torch.cat((r, rows[k] @ w - targets[k], 1e-3 * w)).numpy()

        expected = least_squares(
            residual, found.coefficients[k].numpy() + 0.01, xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        assert torch.allclose(found.coefficients[k], torch.as_tensor(expected.x), atol=1e-7)
        assert float(found.residual[k]) > 0.05  # a residual that no coefficients remove


def test_recovers_a_solution_in_the_span():
    generator = torch.Generator().manual_seed(3)
    x = torch.linspace(0.1, 1, 40, dtype=torch.float64)
    # u = x / (1 + t) at t = 1 solves Burgers' equation: u_t = -x/4, u_x = 1/2, u_xx = 0.
    exact = torch.stack((x / 2, -x / 4, torch.full_like(x, 0.5), torch.zeros_like(x)))
    other = torch.randn(4, 40, 7, generator=generator, dtype=torch.float64)
    z = torch.cat((exact.unsqueeze(-1), other), -1)[None]
    # Some values of u, with weight: without them u = 0 solves the equation as well.
    rows, targets = 10 * z[:, 0, :10], 10 * x[None, :10] / 2
    found = solve_least_squares(burgers, z, rows, targets, ridge=0.0, tolerance=1e-12)
    truth = torch.zeros(1, 8, dtype=torch.float64)
    truth[0, 0] = 1.0
    assert torch.allclose(found.coefficients, truth, atol=1e-8)
    assert float(found.residual) <= 1e-10
    assert int(found.iterations) <= 15


def test_gradient_of_the_minimum_is_exact_with_a_residual_left_over():
    z, (rows, targets) = features(), conditions()
    call = lambda z, rows, targets: solution(z, rows, targets).coefficients  # noqa: E731
    inputs = tuple(t.clone().requires_grad_() for t in (z, rows, targets))
    assert torch.autograd.gradcheck(call, inputs, atol=1e-6, rtol=1e-4, fast_mode=True)


def test_gauss_newton_in_the_place_of_the_hessian_would_be_wrong():
    z, (rows, targets) = features(), conditions()
    z = z.requires_grad_()
    found = solution(z, rows, targets)
    assert bool(found.converged.all())
    v = torch.ones_like(found.coefficients)
    (exact,) = torch.autograd.grad(found.coefficients, z, v)
    w = found.coefficients.detach()
    values = torch.einsum("pfmn,pn->pfm", z, w)
    u, _, u_x, _ = values.unbind(1)
    slopes = torch.stack((u_x, torch.ones_like(u), u, torch.full_like(u, -VISCOSITY)), 1)
    j = torch.einsum("pfm,pfmn->pmn", slopes, z)
    square = (j.mT @ j + rows.mT @ rows + 1e-6 * torch.eye(4, dtype=torch.float64)).detach()
    # As if the residual were zero: J^T J instead of the Hessian, J^T dr instead of d(J^T r).
    q = torch.linalg.solve(square, v.unsqueeze(-1)).squeeze(-1)
    root = (torch.einsum("pmn,pn->pm", j.detach(), q) * burgers(values)).sum()
    (wrong,) = torch.autograd.grad(-root, z)
    assert float((wrong - exact).norm()) > 0.05 * float(exact.norm())


def test_gradients_of_the_three_ways():
    z, (rows, targets) = features(), conditions()
    gradients = {}
    for backward in ("implicit", "unroll", "detach"):
        inputs = z.clone().requires_grad_()
        found = solution(inputs, rows, targets, backward=backward)
        u = (inputs[:, 0] @ found.coefficients.unsqueeze(-1)).squeeze(-1)
        (gradients[backward],) = torch.autograd.grad((u**3).sum(), inputs)
    size = float(gradients["implicit"].norm())
    assert float((gradients["unroll"] - gradients["implicit"]).norm()) < 1e-4 * size
    assert float((gradients["detach"] - gradients["implicit"]).norm()) > 0.05 * size


def test_of_its_own_cost_the_gradient_needs_no_coefficients():
    z, (rows, targets) = features(), conditions()
    gradients = []
    for backward in ("implicit", "detach"):
        inputs = z.clone().requires_grad_()
        w = solution(inputs, rows, targets, backward=backward).coefficients
        r = burgers(torch.einsum("pfmn,pn->pfm", inputs, w))
        miss = torch.einsum("pqn,pn->pq", rows, w) - targets
        cost = r.square().sum() + miss.square().sum() + 1e-6 * w.square().sum()
        gradients.append(torch.autograd.grad(cost, inputs)[0])
    assert torch.allclose(*gradients, atol=1e-8)


def test_problems_of_a_batch_are_each_alone_in_any_order():
    z, (rows, targets) = features(8), conditions(8)
    whole = solution(z, rows, targets).coefficients
    each = torch.cat(
        [solution(z[k : k + 1], rows[k : k + 1], targets[k : k + 1]).coefficients for k in range(8)]
    )
    assert torch.allclose(whole, each, atol=1e-12, rtol=0)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        solution(z[order], rows[order], targets[order]).coefficients, whole[order], atol=1e-12, rtol=0
    )


def test_what_has_not_converged_has_no_gradient():
    z, (rows, targets) = features(), conditions()
    inputs = z.clone().requires_grad_()
    found = solve_least_squares(burgers, inputs, rows, targets, max_iterations=1, tolerance=1e-13)
    assert not bool(found.converged.any())
    (gradient,) = torch.autograd.grad(found.coefficients.sum(), inputs)
    assert float(gradient.abs().max()) == 0.0


def test_nearly_dependent_functions_are_told():
    z, (rows, targets) = features(1), conditions(1)
    linear = lambda q: q[:, 1] + q[:, 0]  # noqa: E731
    well = solve_least_squares(linear, z, rows, targets)
    z[..., 3], rows[..., 3] = z[..., 2], rows[..., 2]
    ill = solve_least_squares(linear, z, rows, targets, ridge=1e-5)
    assert bool(well.converged.all() & ill.converged.all())
    assert float(ill.coefficients[0, 2] - ill.coefficients[0, 3]) == pytest.approx(0.0, abs=1e-4)
    assert float(ill.condition) > 1e8 * float(well.condition)


def test_a_linear_equation_is_solved_as_by_the_normal_equations():
    z, (rows, targets) = features(), conditions()
    found = solve_least_squares(lambda q: q[:, 1] + q[:, 0], z, rows, targets, ridge=0.0)
    every = torch.cat((z[:, 1] + z[:, 0], rows), 1)
    right = torch.cat((torch.zeros(2, 40, dtype=torch.float64), targets), 1)
    expected = torch.linalg.lstsq(every, right.unsqueeze(-1)).solution.squeeze(-1)
    assert torch.allclose(found.coefficients, expected, atol=1e-9)


def test_single_precision_is_solved_in_double():
    z, (rows, targets) = features(), conditions()
    wide = solution(z.float().double(), rows.float().double(), targets.float().double())
    found = solution(z.float(), rows.float(), targets.float())
    assert found.coefficients.dtype == torch.float32
    assert torch.allclose(found.coefficients.double(), wide.coefficients, atol=1e-6)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: solve_least_squares(burgers, torch.zeros(2, 3, 4)), "problems, quantities"),
        (lambda: solve_least_squares(burgers, features(), torch.zeros(2, 3, 4)), "together"),
        (lambda: solve_least_squares(burgers, features(), torch.zeros(2, 3, 5), torch.zeros(2, 3)), r"\(2, q, 4\)"),
        (lambda: solve_least_squares(burgers, features(), start=torch.zeros(2, 3)), r"expected \(2, 4\)"),
        (lambda: solve_least_squares(burgers, features(), ridge=-1.0), "ridge=-1"),
        (lambda: solve_least_squares(burgers, features(), backward="adjoint"), "backward='adjoint'"),
    ],
)  # fmt: skip
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
