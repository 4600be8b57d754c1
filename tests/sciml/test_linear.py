"""Conjugate gradients and implicit gradients against dense linear algebra."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sciml.linear import NotConverged, bicgstab, conjugate_gradient, gmres, implicit_solve


def spd(batch: int, n: int, seed: int) -> Tensor:
    """Symmetric matrices with eigenvalues between 1 and 20."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(batch, n, n, generator=generator, dtype=torch.float64)).Q
    return basis @ torch.diag(torch.linspace(1, 20, n, dtype=torch.float64)) @ basis.mT


def times(matrix: Tensor):
    return lambda x: (matrix @ x.unsqueeze(2)).squeeze(2)


def test_solution_is_the_dense_one():
    a, b = (
        spd(3, 12, 0),
        torch.randn(3, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
    )
    found = conjugate_gradient(times(a), b, tolerance=1e-13)
    # Error at most condition number 20 times the residual.
    torch.testing.assert_close(found.x, torch.linalg.solve(a, b), rtol=0, atol=1e-11)
    assert found.converged.all() and (found.residuals <= 1e-13).all()
    # In exact arithmetic as many iterations as distinct eigenvalues; two more for rounding.
    assert (found.iterations <= 14).all()


def test_each_sample_stops_by_itself_and_is_the_same_alone():
    a = torch.stack([torch.eye(12, dtype=torch.float64), spd(1, 12, 0)[0], spd(1, 12, 2)[0]])
    b = torch.randn(3, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    b[2] = 0.0
    found = conjugate_gradient(times(a), b)
    assert found.iterations.tolist()[0] == 1 and found.iterations.tolist()[2] == 0
    assert found.iterations.tolist()[1] > 5
    assert found.x[2].abs().max() == 0
    alone = conjugate_gradient(times(a[:1]), b[:1])
    torch.testing.assert_close(found.x[:1], alone.x, rtol=0, atol=0)
    assert found.history.shape == (int(found.iterations.max()) + 1, 3)


def test_preconditioner_that_is_the_inverse_needs_one_iteration():
    a, b = spd(2, 12, 0), torch.ones(2, 12, dtype=torch.float64)
    found = conjugate_gradient(times(a), b, preconditioner=times(torch.linalg.inv(a)))
    assert found.iterations.tolist() == [1, 1]


def test_what_does_not_converge_is_told():
    a, b = spd(2, 12, 0), torch.ones(2, 12, dtype=torch.float64)
    with pytest.raises(NotConverged, match=r"2 of 2 samples .* after 3 iterations; expected 1.0e-10"):
        conjugate_gradient(times(a), b, max_iterations=3)
    loose = conjugate_gradient(times(a), b, max_iterations=3, strict=False)
    assert not loose.converged.any() and torch.isfinite(loose.x).all()
    with pytest.raises(NotConverged, match="symmetric and positive"):
        conjugate_gradient(times(-a), b)  # a wrong sign has no positive curvature
    with pytest.raises(ValueError, match="not finite"):
        conjugate_gradient(times(a), b * torch.nan)
    with pytest.raises(ValueError, match="must be positive"):
        conjugate_gradient(times(a), b, tolerance=0.0)


def shifted_square(x: Tensor, root: Tensor) -> Tensor:
    """(R R' + I) x, symmetric and positive for every R."""
    return times(root @ root.mT)(x) + x


def solve_with(root: Tensor, b: Tensor) -> Tensor:
    def solve(r: Tensor) -> Tensor:
        return conjugate_gradient(lambda x: shifted_square(x, root), r, tolerance=1e-14, strict=False).x

    return implicit_solve(shifted_square, b, solve, (root,))


def test_gradients_of_first_and_second_order():
    root = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = torch.randn(2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = (root.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(solve_with, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(solve_with, inputs)


def test_functional_transforms_agree_with_the_dense_solve():
    root, droot = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b, db = torch.randn(2, 1, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def dense(root: Tensor, b: Tensor) -> Tensor:
        return torch.linalg.solve(root @ root.mT + torch.eye(4, dtype=torch.float64), b)

    # CG reaches 1e-14 up to the condition number, here below 100.
    for one, other in zip(
        torch.func.jvp(solve_with, (root, b), (droot, db)),
        torch.func.jvp(dense, (root, b), (droot, db)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    one, other = (torch.func.grad(lambda r, f=f: f(r, b).sum())(root) for f in (solve_with, dense))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def general(batch: int, n: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Matrices without symmetry, their eigenvalues about 6 from zero, some of negative real part."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.diag(torch.where(torch.arange(n) < n // 4, -6.0, 6.0)).to(dtype)
    return torch.randn(batch, n, n, generator=generator, dtype=dtype) / n**0.5 + shift


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("solver", [gmres, bicgstab])
def test_krylov_methods_without_symmetry(solver, dtype):
    a = general(3, 20, 0, dtype)
    b = torch.randn(3, 20, generator=torch.Generator().manual_seed(1), dtype=dtype)
    b[2] = 0.0
    found = solver(times(a), b, tolerance=1e-12)
    # The smallest singular value is about 4.
    torch.testing.assert_close(found.x, torch.linalg.solve(a, b), rtol=0, atol=1e-11)
    assert found.converged.all() and found.iterations[2] == 0 and found.x[2].abs().max() == 0
    exact = solver(times(a), b, preconditioner=times(torch.linalg.inv(a)))
    assert (exact.iterations <= 1).all()


def test_gmres_restarts_without_growth_and_ends_in_as_many_steps_as_unknowns():
    a = general(2, 20, 0, torch.complex128)
    b = torch.randn(2, 20, generator=torch.Generator().manual_seed(1), dtype=torch.complex128)
    found = gmres(times(a), b, restart=6, tolerance=1e-12)
    assert (found.history[1:] <= found.history[:-1] * (1 + 1e-9)).all()
    assert found.residuals.max() <= 1e-12
    # A rotation turns everything: no progress before the last of n steps.
    turn = torch.roll(torch.eye(8, dtype=torch.float64), 1, dims=0).unsqueeze(0)
    first = torch.eye(8, dtype=torch.float64)[:1]
    assert gmres(times(turn), first).iterations.tolist() == [8]
    with pytest.raises(NotConverged, match=r"gmres left 1 of 1 samples .* after 7 iterations"):
        gmres(times(turn), first, restart=7, max_iterations=7)


def test_krylov_refusals():
    one = torch.ones(1, 3, dtype=torch.float64)
    singular = torch.diag(torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)).unsqueeze(0)
    for solver in (gmres, bicgstab):
        with pytest.raises(NotConverged, match="1 of 1 samples"):
            solver(times(singular), one)
        with pytest.raises(ValueError, match="not finite"):
            solver(times(singular), one * torch.nan)
        with pytest.raises(ValueError, match="must be positive"):
            solver(times(singular), one, tolerance=0.0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_gradients_without_symmetry(dtype):
    a = general(2, 4, 0, dtype).requires_grad_()
    b = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=dtype).requires_grad_()

    def solve(a: Tensor, b: Tensor) -> Tensor:
        def forward(r: Tensor) -> Tensor:
            return gmres(times(a.detach()), r, tolerance=1e-14, strict=False).x

        def adjoint(r: Tensor) -> Tensor:
            return gmres(times(a.detach().mH), r, tolerance=1e-14, strict=False).x

        return implicit_solve(lambda x, m: times(m)(x), b, forward, (a,), adjoint=adjoint)

    assert torch.autograd.gradcheck(solve, (a, b))
    assert torch.autograd.gradgradcheck(solve, (a, b))
    torch.testing.assert_close(solve(a, b), torch.linalg.solve(a, b), rtol=0, atol=1e-12)
