"""Compiled loops over lanes: transforms, the same numbers as with tensors, and life without them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sciml.domains import Grid
from sciml.pdes import (
    AllenCahn,
    Burgers,
    CahnHilliard,
    ConservativeBurgers,
    FisherKPP,
    GrayScott,
    KuramotoSivashinsky,
    NavierStokes,
    NavierStokesVorticity,
    ScalarBurgers,
    SemiLinear,
    SwiftHohenberg,
)
from sciml.solvers import lanes
from sciml.solvers.spectral import pseudo_spectral
from sciml.step import rollout

numba = pytest.importorskip("numba", reason="the extra 'compiled' is not installed")

from sciml.solvers.lanes import fourier  # noqa: E402
from sciml.solvers.lanes.vector import kernel  # noqa: E402

TAU = 2 * math.pi
DOUBLE = torch.float64


@kernel
def _both(x, at, n, width, passes, roots, forward):  # type: ignore[no-untyped-def]
    if forward:
        fourier.to_modes(x, at, n, width, passes, roots, 0)
    else:
        fourier.to_points(x, at, n, width, passes, roots, 0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 12, 15, 30, 64, 75, 250, 256, 486, 1000, 1024, 2160, 4096])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_transforms_of_lanes_against_a_library(n: int, dtype: str) -> None:
    width = 64 // np.dtype(dtype).itemsize
    plan = fourier.plan(n, dtype)
    assert plan is not None and sorted(plan.places) == list(range(n))
    random = np.random.default_rng(0)
    z = random.standard_normal((width, n)) + 1j * random.standard_normal((width, n))
    x = np.ascontiguousarray(np.stack([z.real.T, z.imag.T], axis=1), dtype=dtype)
    flat = x.reshape(-1)
    _both(flat, 0, n, width, plan.passes, plan.roots, True)
    modes = (x[:, 0] + 1j * x[:, 1])[plan.places].T
    exact = np.fft.fft(z)
    rounding = 4 * np.finfo(dtype).eps * math.log2(n + 1)
    assert np.abs(modes - exact).max() <= rounding * np.abs(exact).max()
    _both(flat, 0, n, width, plan.passes, plan.roots, False)
    back = (x[:, 0] + 1j * x[:, 1]).T / n
    assert np.abs(back - z).max() <= rounding * np.abs(z).max()


def test_sizes_with_other_factors_have_no_plan() -> None:
    assert fourier.factors(14) is None and fourier.plan(22, "float64") is None
    assert fourier.factors(360) == [4, 2, 3, 3, 5]


CASES: list[tuple[SemiLinear, Grid, float]] = [
    (Burgers(0.02), Grid((64,), (TAU,)), 0.05),
    (Burgers(0.02), Grid((45,), (1.0,)), 0.01),
    (KuramotoSivashinsky(), Grid((600,), (88.0,)), 0.1),
    (NavierStokesVorticity(0.01), Grid((32, 32), (TAU, TAU)), 0.05),
    (NavierStokesVorticity(0.01, drag=0.1, forcing=(2.0, 1.0)), Grid((24, 40), (TAU, TAU)), 0.05),
    (NavierStokesVorticity(0.01, drag=0.1, forcing=(2.0, 1.0)), Grid((45, 27), (TAU, TAU)), 0.05),
    (NavierStokesVorticity(0.01), Grid((10, 3), (TAU, TAU)), 0.05),
    (KuramotoSivashinsky(integrated=True), Grid((64,), (22.0,)), 0.1),
    (KuramotoSivashinsky(), Grid((32, 24), (22.0, 20.0)), 0.1),
    (FisherKPP(), Grid((45,), (TAU,)), 0.1),
    (AllenCahn(), Grid((48, 30), (TAU, TAU)), 0.1),
    (CahnHilliard(), Grid((50,), (TAU,)), 0.05),
    (GrayScott(), Grid((64,), (1.0,)), 1.0),
    (GrayScott(), Grid((24, 40), (1.0, 1.0)), 1.0),
    (SwiftHohenberg(), Grid((24, 45), (20.0, 30.0)), 0.1),
    (Burgers(0.02), Grid((24, 40), (TAU, TAU)), 0.05),
    (Burgers(0.02), Grid((12, 15, 20), (TAU, TAU, 4.0)), 0.05),
    (ConservativeBurgers(0.02), Grid((45, 24), (TAU, TAU)), 0.05),
    (ConservativeBurgers(0.02), Grid((9, 16, 10), (TAU, TAU, TAU)), 0.05),
    (NavierStokes(0.01, drag=0.1, forcing=(2.0, 1.0)), Grid((24, 40), (TAU, TAU)), 0.05),
    (NavierStokes(0.01, drag=0.1, forcing=(2.0, 1.0)), Grid((12, 18, 20), (TAU, TAU, TAU)), 0.05),
    (NavierStokes(0.01), Grid((3, 2, 12), (TAU, TAU, TAU)), 0.05),
    (ScalarBurgers(0.02), Grid((16, 12, 10), (TAU, TAU, TAU)), 0.05),
    (KuramotoSivashinsky(), Grid((10, 12, 16), (22.0, 20.0, 18.0)), 0.1),
    (GrayScott(), Grid((8, 9, 10), (1.0, 1.0, 1.0)), 1.0),
]


@pytest.mark.parametrize(("pde", "grid", "dt"), CASES, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("samples", [1, 2, 19])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float64, 1e-14), (torch.float32, 5e-6)])
def test_lanes_give_the_numbers_of_tensors(
    pde: SemiLinear,
    grid: Grid,
    dt: float,
    samples: int,
    order: int,
    dtype: torch.dtype,
    rounding: float,
) -> None:
    generator = torch.Generator().manual_seed(0)
    channels = len(pde.channels(grid.dimension))
    u = 0.3 * torch.randn(samples, channels, *grid.shape, generator=generator, dtype=DOUBLE).to(dtype)
    fast = pseudo_spectral(pde, grid, dt, substeps=3, order=order)
    assert fast.form == "lanes"
    plain = pseudo_spectral(pde, grid, dt, substeps=3, order=order, form="generic")
    assert float((fast(u) - plain(u)).abs().max()) < rounding


@pytest.mark.parametrize(("pde", "grid", "dt"), [CASES[0], CASES[4]], ids=lambda v: type(v).__name__)
def test_threads_share_the_samples(pde: SemiLinear, grid: Grid, dt: float) -> None:
    u = 0.3 * torch.randn(37, 1, *grid.shape, dtype=DOUBLE)
    step = pseudo_spectral(pde, grid, dt, substeps=4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = step(u)
        torch.set_num_threads(3)
        together = step(u)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(alone, together)


@pytest.mark.parametrize(
    ("pde", "shape"),
    [(SwiftHohenberg(), (16, 12)), (AllenCahn(), (12, 10, 8)), (Burgers(0.1), (16, 20))],
    ids=lambda v: type(v).__name__,
)
def test_a_sample_that_blows_up_leaves_the_others_alone(pde: SemiLinear, shape: tuple[int, ...]) -> None:
    grid = Grid(shape, (TAU,) * len(shape))
    channels = len(pde.channels(grid.dimension))
    u = 0.3 * torch.randn(5, channels, *shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    u[2] *= 1e60
    step = pseudo_spectral(pde, grid, 0.05, substeps=3)
    new = step(u)
    assert step.form == "lanes" and not bool(new[2].isfinite().all())
    others = [0, 1, 3, 4]
    alone = torch.cat([step(u[i : i + 1]) for i in others])
    torch.testing.assert_close(new[others], alone, rtol=0, atol=1e-14)


def test_a_size_with_other_factors_is_solved_with_tensors() -> None:
    grid = Grid((44,), (TAU,))
    step = pseudo_spectral(Burgers(0.1), grid, 0.1)
    assert step.form == "packed"
    with pytest.raises(ValueError, match="has only the form 'packed'"):
        pseudo_spectral(Burgers(0.1), grid, 0.1, form="lanes")


def test_few_long_lines_are_solved_with_tensors() -> None:
    step = pseudo_spectral(Burgers(0.1), Grid((2**14,), (TAU,)), 1e-4)
    assert step.packed is not None
    form = step.packed.lanes(torch.float64)
    assert form is not None and form.worthwhile(4) and not form.worthwhile(3)


def test_several_channels_need_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid((24, 40), (1.0, 1.0))
    u = torch.rand(3, 2, 24, 40, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    fast = pseudo_spectral(GrayScott(), grid, 1.0)
    monkeypatch.setattr("sciml.solvers.spectral.available", lambda: False)
    slow = pseudo_spectral(GrayScott(), grid, 1.0)
    assert (fast.form, slow.form) == ("lanes", "generic")
    torch.testing.assert_close(fast(u), slow(u), rtol=0, atol=1e-14)


def test_few_long_lines_of_several_channels_take_the_general_form() -> None:
    grid = Grid((2**14,), (1.0,))
    u = torch.rand(1, 2, 2**14, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    step = pseudo_spectral(GrayScott(), grid, 1e-3)
    assert step.packed is not None and not step.packed.takes(u)
    torch.testing.assert_close(
        step(u), pseudo_spectral(GrayScott(), grid, 1e-3, form="generic")(u), rtol=0, atol=0
    )


def test_without_numba_tensors_do_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = Grid((64,), (22.0,))
    u = 0.3 * torch.randn(6, 1, 64, dtype=DOUBLE)
    fast = pseudo_spectral(KuramotoSivashinsky(), grid, 0.1)
    monkeypatch.setattr("sciml.solvers.spectral.available", lambda: False)
    slow = pseudo_spectral(KuramotoSivashinsky(), grid, 0.1)
    assert (fast.form, slow.form) == ("lanes", "packed")
    torch.testing.assert_close(rollout(fast, 20)(u), rollout(slow, 20)(u), rtol=0, atol=1e-12)

    def missing(module: str, *, extra: str, purpose: str) -> None:
        raise ModuleNotFoundError(f"{purpose} needs {module}: sciml[{extra}]")

    monkeypatch.setattr("sciml.solvers.spectral.require", missing)
    with pytest.raises(
        ModuleNotFoundError, match=r"'lanes' of pseudo_spectral needs numba: sciml\[compiled\]"
    ):
        pseudo_spectral(KuramotoSivashinsky(), grid, 0.1, form="lanes")


def test_availability_is_what_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lanes.available()
    monkeypatch.setattr("sciml.solvers.lanes.find_spec", lambda name: None)
    assert not lanes.available()
