"""Order, stability and coefficients of the time integrators."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache

import pytest
import torch

from sciml.solvers.time import (
    DOPRI5,
    EULER,
    HEUN,
    RK3,
    RK4,
    SSPRK3,
    TABLEAUS,
    TSIT5,
    Tableau,
    contour,
    etdrk,
    explicit_rk,
)
from sciml.solvers.time.etdrk import _first, _last, _middle, _phi1, _phi2, phi_matrices


def _predators(u: torch.Tensor) -> torch.Tensor:
    """Lotka and Volterra's two equations, which see every order condition up to 5."""
    return torch.stack([u[0] * (1.5 - u[1]), -u[1] * (1 - u[0])])


@lru_cache
def _at_two(tableau: Tableau, steps: int) -> torch.Tensor:
    """The state at t = 2."""
    u = torch.tensor([1.2, 0.7], dtype=torch.float64)
    step = explicit_rk(_predators, 2.0 / steps, tableau)
    for _ in range(steps):
        u = step(u)
    return u


def _error(tableau: Tableau, steps: int) -> float:
    """Error against 512 steps of order 5, whose own error is below 1e-14."""
    return float((_at_two(tableau, steps) - _at_two(DOPRI5, 512)).norm())


# Tsitouras made the leading term of the error so small (for linear systems 3 per cent of the exact series' term) that it
# leads at smaller steps only.
FINER = {TSIT5.name: 4}


@pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda t: t.name)
def test_halving_dt_divides_the_error_by_two_to_the_order(tableau: Tableau) -> None:
    coarse, fine = (_error(tableau, n * FINER.get(tableau.name, 1)) for n in (32, 64))
    # 0.25: the next term of the error expansion at dt = 1/16, largest for order 5.
    assert math.log2(coarse / fine) == pytest.approx(tableau.order, abs=0.25)


@pytest.mark.parametrize("tableau", TABLEAUS, ids=lambda t: t.name)
def test_amplification_is_the_exponential_to_the_order_of_the_method(tableau: Tableau) -> None:
    finer = FINER.get(tableau.name, 1)
    errors = [abs(tableau.amplification(z / finer) - math.exp(z / finer)) for z in (-0.2, -0.1)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(tableau.order + 1, abs=0.15)


def test_stability_limits_are_those_of_the_books() -> None:
    # Hairer and Wanner, Solving ODEs II, table IV.2: 2, 2.51, 2.785 on the real axis; sqrt(3), 2 sqrt(2)
    # on the imaginary one; Euler and Heun have no stable piece of it.
    assert EULER.stability_limit(-1) == pytest.approx(2.0, abs=1e-6)
    assert SSPRK3.stability_limit(-1) == pytest.approx(2.5127, abs=1e-3)
    assert RK4.stability_limit(-1) == pytest.approx(2.7853, abs=1e-3)
    assert RK3.stability_limit(1j) == pytest.approx(math.sqrt(3), abs=1e-3)
    assert RK4.stability_limit(1j) == pytest.approx(2 * math.sqrt(2), abs=1e-3)
    assert EULER.stability_limit(1j) == 0.0
    assert HEUN.stability_limit(1j) == 0.0


def test_an_explicit_step_is_differentiable() -> None:
    u = torch.linspace(0.1, 1.0, 6, dtype=torch.float64).reshape(2, 1, 3).requires_grad_()
    rate = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, r: explicit_rk(lambda w: -r * w**2, 0.1, RK4)(v), (u, rate))


def test_an_inconsistent_tableau_is_refused() -> None:
    with pytest.raises(ValueError, match="b sums to 0.9"):
        Tableau((), (0.9,), (0.0,), 1, "wrong")
    with pytest.raises(ValueError, match="rows of lengths"):
        Tableau(((1.0, 0.0),), (0.5, 0.5), (0.0, 1.0), 2, "wrong")


def _series(z: Fraction, coefficient: Callable[[int], Fraction], terms: int = 60) -> float:
    """Sum of coefficient(n) z^n in exact rational arithmetic."""
    return float(sum(coefficient(n) * z**n for n in range(terms)))


def _f(n: int) -> Fraction:
    return Fraction(1, math.factorial(n)) if n >= 0 else Fraction(0)


# Taylor coefficients of the entire functions: collect z^(n+3) in the numerators of Cox and Matthews.
EXACT = {
    "phi1": (_phi1, lambda n: _f(n + 1)),
    "phi2": (_phi2, lambda n: _f(n + 2)),
    "first": (_first, lambda n: 4 * _f(n + 3) - 3 * _f(n + 2) + _f(n + 1)),
    "middle": (_middle, lambda n: _f(n + 2) - 2 * _f(n + 3)),
    "last": (_last, lambda n: 4 * _f(n + 3) - _f(n + 2)),
}


@pytest.mark.parametrize("name", EXACT)
def test_coefficients_match_exact_series_and_closed_forms(name: str) -> None:
    function, coefficient = EXACT[name]
    small = [0.0, 1e-12, -1e-8, 1e-5, -1e-3, 0.1, -0.9, 1.0, -1.5, 1.99, -1.99, -2.01, 2.5, -5.0]
    got = contour(function, torch.tensor(small, dtype=torch.float64))
    exact = torch.tensor([_series(Fraction(z), coefficient) for z in small], dtype=torch.float64)
    # Rounding of the terms, which are up to a hundred times the result at |z| = 2.
    torch.testing.assert_close(got, exact, rtol=2e-13, atol=1e-15)
    large = torch.tensor([-3.0, -40.0, -1e4, 6.0], dtype=torch.float64)
    torch.testing.assert_close(
        contour(function, large), function(large, torch.exp(large)), rtol=1e-14, atol=0
    )


@pytest.mark.parametrize("name", EXACT)
def test_complex_coefficients_keep_their_imaginary_part(name: str) -> None:
    function, coefficient = EXACT[name]
    z = torch.tensor([0.0, 1e-6j, 0.5j, -0.3 + 1.2j, 1.9j, -1.5 - 1.5j], dtype=torch.complex128)
    exact = sum(float(coefficient(n)) * z**n for n in range(40))
    got = contour(function, z)
    torch.testing.assert_close(got, exact, rtol=2e-13, atol=1e-15)
    assert got.imag.abs().max() > 0.02


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_real_operators_have_real_coefficients_and_batches_keep_their_shape(order: int) -> None:
    linear = -torch.rand(3, 1, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    method = etdrk(linear, 0.1, order)
    parts = [*method.propagators, *(w for row in method.weights for w in row if w is not None)]
    assert all(p.shape == linear.shape and p.dtype == torch.float64 for p in parts)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("rate", [-3.0, -0.4 + 2.0j], ids=["real", "complex"])
def test_etdrk_has_its_order_and_is_exact_where_the_source_is_constant(order: int, rate: complex) -> None:
    linear = torch.tensor([rate], dtype=torch.complex128 if isinstance(rate, complex) else torch.float64)

    def run(n: int, scheme: int) -> torch.Tensor:
        u = torch.ones_like(linear)
        method = etdrk(linear, 1.0 / n, scheme)
        for _ in range(n):
            u = method.step(u, lambda v: torch.cos(3 * v))
        return u

    reference = run(256, 4)
    coarse, fine = (float((run(n, order) - reference).abs()) for n in (32, 64))
    # 0.15: the next term of the error expansion at dt = 1/32.
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)
    source = torch.full_like(linear, 0.3)
    exact = torch.exp(linear) * 1.0 + torch.expm1(linear) / linear * source
    once = etdrk(linear, 1.0, order).step(torch.ones_like(linear), lambda v: source)
    torch.testing.assert_close(once, exact, rtol=1e-13, atol=1e-14)


def test_coefficients_are_differentiable_in_the_operator() -> None:
    # Both branches: |z| = |L dt| on either side of the switch at 2.
    linear = torch.tensor([-0.1, -15.0, -30.0], dtype=torch.float64, requires_grad=True)

    def coefficients(value: torch.Tensor) -> torch.Tensor:
        return torch.stack([w for row in etdrk(value, 0.1).weights for w in row if w is not None])

    assert torch.autograd.gradcheck(coefficients, (linear,))


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match="order=5; expected 1, 2, 3 or 4"):
        etdrk(torch.zeros(1), 0.1, 5)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_matrix_coefficients_are_those_of_the_eigenvalues(order: int) -> None:
    """A rotated diagonal operator: stiff, small and zero eigenvalues, which scalar formulas treat apart."""
    eigenvalues = torch.tensor([[-400.0, -1e-6, 0.0], [0.3, -2.0, -30.0]], dtype=torch.float64).T  # (C, K)
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    matrices = torch.einsum("ic,ck,jc->ijk", rotation, eigenvalues, rotation)[None]
    diagonal = etdrk(eigenvalues[None], 0.1, order)
    coupled = etdrk(matrices, 0.1, order, coupled=True)
    u = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64)

    def turned(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ic,bck->bik", rotation, x)

    def back(x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ic,bik->bck", rotation, x)

    expected = turned(diagonal.step(back(u), lambda v: back(turned(v).sin())))
    # Squaring the exponential of a norm of 40 loses two digits.
    torch.testing.assert_close(coupled.step(u, torch.sin), expected, rtol=0, atol=1e-12)


def test_matrix_coefficients_of_a_matrix_without_eigenvectors() -> None:
    # e^{tJ} = [[1, t], [0, 1]] and phi_1 = [[1, t/2], [0, 1]] for a Jordan block J at zero.
    block = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    whole, first = phi_matrices(0.7 * block, 1)
    unit = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(whole, unit + 0.7 * block, rtol=0, atol=1e-15)
    torch.testing.assert_close(first, unit + 0.35 * block, rtol=0, atol=1e-15)


def test_matrix_coefficients_are_differentiable() -> None:
    generator = torch.Generator().manual_seed(0)
    linear = torch.randn(1, 2, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    u = torch.randn(1, 2, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a: etdrk(a, 0.3, 4, coupled=True).step(u, torch.sin), linear)
