"""Lyapunov exponents: of maps with known ones, of Lorenz's and the Kuramoto-Sivashinsky system."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import FunctionStep, Grid, Point, rollout
from sciml.fields import RandomFourier
from sciml.jacobian import (
    finite_time_exponents,
    kaplan_yorke_dimension,
    leading_exponent,
    lyapunov_exponents,
    lyapunov_spectrum,
)
from sciml.odes import Lorenz63, Lorenz96
from sciml.pdes import Heat, KuramotoSivashinsky
from sciml.solvers import build


def _linear(matrix: Tensor, dt: float = 0.5) -> FunctionStep:
    return FunctionStep(lambda u: u @ matrix.mT, dt, Point(), tuple("abc"))


def test_a_linear_map_has_the_logarithms_of_its_eigenvalues() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    matrix = basis @ torch.diag(torch.tensor([1.5, -1.0, 0.25]).double()) @ torch.linalg.inv(basis)
    u = 1e-3 * torch.randn(2, 3, generator=generator, dtype=torch.float64)
    found = lyapunov_spectrum(_linear(matrix), u, 400, discard=100)
    expected = torch.tensor([math.log(1.5), 0.0, math.log(0.25)], dtype=torch.float64) / 0.5
    # The frame has turned to its limit while the first calls were discarded.
    assert (found - expected).abs().max() < 1e-10


def test_the_logistic_map_has_the_logarithm_of_two() -> None:
    """ln 2 per step for x -> 4x(1 - x)."""
    step = FunctionStep(lambda x: 4 * x * (1 - x), 0.5, Point(), ("x",))
    u = torch.tensor([[0.123456], [0.7321]], dtype=torch.float64)
    for mode in ("vjp", "fd"):
        found = leading_exponent(step, u, 1500, discard=50, mode=mode)  # type: ignore[arg-type]
        # Finite-time exponents of this map scatter by about 1/steps^0.5 at worst: 2 % of ln 2.
        assert (found / (math.log(2) / 0.5) - 1).abs().max() < 0.02


@pytest.mark.parametrize("every", [1, 3])
def test_all_ways_to_push_vectors_agree(every: int) -> None:
    ode = Lorenz63()
    step = build(ode, Point(), 0.1, substeps=4)
    u = ode.initial(2, torch.Generator().manual_seed(0))
    first = lyapunov_spectrum(step, u, 7, discard=2, every=every)
    for together in (True, False):
        for mode in ("vjp", "jvp"):
            other = lyapunov_spectrum(step, u, 7, discard=2, every=every, together=together, mode=mode)  # type: ignore[arg-type]
            assert (other - first).abs().max() < 1e-9
        rough = lyapunov_spectrum(step, u, 7, discard=2, every=every, together=together, mode="fd")
        assert (rough - first).abs().max() < 1e-4  # one-sided differences
    # A sample alone has the same exponents, and the decompositions may lie anywhere.
    assert (lyapunov_spectrum(step, u[1:], 7, discard=2) - first[1:]).abs().max() < 1e-9
    assert lyapunov_spectrum(step, u, 7, discard=2, count=2).shape == (2, 2)


def test_lorenz_63_has_its_published_exponents() -> None:
    """0.9056, 0, -14.572 and dimension 2.062 (Sprott 2003, table A.5)."""
    ode = Lorenz63()
    step = build(ode, Point(), 0.1, substeps=5)
    u = ode.initial(256, torch.Generator().manual_seed(0))
    found = lyapunov_spectrum(step, u, 150, discard=100, every=2)
    mean = found.mean(0)
    # 256 paths of 15: the standard error is 0.008, one per cent.
    assert float(mean[0]) == pytest.approx(0.9056, rel=0.05)
    assert float(mean[1]) == pytest.approx(0.0, abs=0.03)
    assert float(mean[2]) == pytest.approx(-14.572, rel=0.005)
    # Volumes shrink at a constant rate: no statistical error here.
    assert (found.sum(1) + 41 / 3).abs().max() < 0.02
    assert float(kaplan_yorke_dimension(mean.unsqueeze(0))) == pytest.approx(2.062, abs=0.005)


def test_finite_time_exponents_add_up_and_say_how_they_scatter() -> None:
    ode = Lorenz63()
    step = build(ode, Point(), 0.05, substeps=2)
    u = ode.initial(3, torch.Generator().manual_seed(0))
    found = lyapunov_exponents(step, u, 60, count=2, discard=5, intervals=12, every=4)
    assert found.local.shape == (3, 12, 2) and found.times[-1] == pytest.approx(3.0)
    assert (found.local.mean(1) - found.mean).abs().max() < 1e-12
    # Decompositions lie elsewhere, but the volumes they measure are the same.
    assert (lyapunov_spectrum(step, u, 60, count=2, discard=5) - found.mean).abs().max() < 1e-6
    expected = found.local.std(1) / math.sqrt(12)
    assert (found.standard_error - expected).abs().max() < 1e-12
    streamed = list(finite_time_exponents(step, u, 60, count=2, discard=5, intervals=12, every=4))
    assert [time for time, _ in streamed] == pytest.approx(found.times.tolist())
    assert torch.equal(torch.stack([local for _, local in streamed], 1), found.local)
    one = lyapunov_exponents(step, u, 3, count=1, intervals=1)
    assert one.standard_error.isnan().all()
    uneven = lyapunov_exponents(step, u, 7, count=1, intervals=3)
    lengths = torch.diff(uneven.times, prepend=torch.zeros(1).double())
    assert ((uneven.local[:, :, 0] * lengths).sum(1) / 0.35 - uneven.mean[:, 0]).abs().max() < 1e-12


def test_the_standard_error_covers_the_scatter_of_paths() -> None:
    """The skewed tent map stretches by 1/a or 1/(1 - a) at independent times: entropy of (a, 1 - a) per step."""
    a = 0.3
    step = FunctionStep(lambda x: torch.where(x < a, x / a, (1 - x) / (1 - a)), 1.0, Point(), ("x",))
    u = torch.rand(400, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = lyapunov_exponents(step, u, 200, intervals=10)
    entropy = -a * math.log(a) - (1 - a) * math.log(1 - a)
    score = (found.mean - entropy) / found.standard_error
    # Student's t with 9 degrees of freedom has the standard deviation 1.13; 400 paths tell it to a few per cent.
    assert 1.0 < float(score.std()) < 1.3
    assert abs(float(score.mean())) < 4 * 1.13 / 20


def test_a_few_exponents_of_a_field_of_64_squared() -> None:
    """Diffusion: 0 for the mean, -kappa (2 pi)^2 four times, with K vectors in one call."""
    grid = Grid((64, 64), (1.0, 1.0))
    kappa = 0.1
    step = build(Heat(kappa), grid, 0.05)
    u = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for mode in ("vjp", "fd"):
        found = lyapunov_spectrum(step, u, 10, count=5, discard=60, mode=mode)  # type: ignore[arg-type]
        expected = torch.tensor([0.0] + [-kappa * (2 * math.pi) ** 2] * 4, dtype=torch.float64)
        assert (found - expected).abs().max() < (1e-8 if mode == "vjp" else 1e-4)


def test_steps_with_reverse_mode_only_have_exponents() -> None:
    class Grown(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x)
            return 1.5 * x + 0.0 * x**2

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            return 1.5 * grad + 0.0 * x * grad

    step = FunctionStep(Grown.apply, 1.0, Point(), ("u",))
    u = torch.ones(1, 1, dtype=torch.float64)
    for mode in ("auto", "vjp"):
        assert float(leading_exponent(step, u, 5, mode=mode)) == pytest.approx(math.log(1.5))  # type: ignore[arg-type]


def test_adaptive_steps_and_rings_have_exponents_too() -> None:
    ode = Lorenz96(6, forcing=2.0)
    u = ode.initial(1, torch.Generator().manual_seed(0))
    fixed = lyapunov_spectrum(build(ode, Point(), 0.1, substeps=8), u, 10)
    adaptive = lyapunov_spectrum(build(ode, Point(), 0.1, tolerance=1e-8), u, 10)
    assert (fixed - adaptive).abs().max() < 1e-5
    # The trace of the Jacobian is minus the number of sites.
    assert float(fixed.sum()) == pytest.approx(-6.0, rel=1e-5)


def test_dimension_of_kaplan_and_yorke() -> None:
    spectra = torch.tensor([[0.9, 0.0, -14.5], [-1.0, -2.0, -3.0], [1.0, 0.5, 0.1], [0.5, -1.0, -1.0]])
    found = kaplan_yorke_dimension(spectra.double())
    assert found.tolist() == pytest.approx([2 + 0.9 / 14.5, 0.0, 3.0, 1.5])
    assert kaplan_yorke_dimension(torch.tensor([[math.nan, 1.0]])).isnan().all()


def test_a_sample_that_blows_up_is_nan_and_alone() -> None:
    step = FunctionStep(lambda u: u * u, 1.0, Point(), ("u",))
    found = leading_exponent(step, torch.tensor([[10.0], [0.5]], dtype=torch.float64), 12)
    assert found.isnan().tolist() == [True, False]


def test_refusals() -> None:
    step, u = _linear(torch.eye(3, dtype=torch.float64)), torch.zeros(1, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="count=4; a state of .* has 1 to 3"):
        lyapunov_spectrum(step, u, 1, count=4)
    with pytest.raises(ValueError, match="steps=0"):
        lyapunov_spectrum(step, u, 0)
    with pytest.raises(ValueError, match="intervals=0"):
        lyapunov_exponents(step, u, 1, intervals=0)
    with pytest.raises(ValueError, match="mode='sideways'"):
        lyapunov_spectrum(step, u, 1, mode="sideways")  # type: ignore[arg-type]


@pytest.mark.slow
def test_kuramoto_sivashinsky_has_its_published_leading_exponent() -> None:
    """0.048 at L = 22 (Cvitanovic, Davidchack and Siminos 2010; Edson, Bunder, Mattner and Roberts 2019: 0.043)."""
    grid = Grid((64,), (22.0,))
    step = build(KuramotoSivashinsky(), grid, 2.0, max_speed=3.0)
    generator = torch.Generator().manual_seed(0)
    draw = RandomFourier(modes=3)
    u = torch.stack([draw(grid, 1, generator) for _ in range(16)])
    with torch.no_grad():
        u = rollout(step, 100)(u)[:, -1]
    # 16 paths of 2000: the standard error is 0.001.
    found = leading_exponent(step, u, 1000, discard=10, every=2, mode="fd")
    assert 0.04 < float(found.mean()) < 0.056
    # Differences of a compiled solver measure what derivatives do, as long as paths stay together.
    u, short = u[:2], 6
    exact = leading_exponent(step, u, short)
    assert (leading_exponent(step, u, short, mode="fd") - exact).abs().max() < 1e-5
