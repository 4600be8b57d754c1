"""Compiled finite volumes: the numbers of the tensors, and substeps that follow each sample."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from sciml.domains import Grid, Inflow
from sciml.pdes import CompressibleEuler
from sciml.solvers import build
from sciml.solvers.finite_volume import finite_volume
from sciml.solvers.finite_volume.exact import SOD
from sciml.solvers.lanes import available
from sciml.solvers.verify.suites.euler import averaged, vortex

GAS = CompressibleEuler()
compiled = pytest.mark.skipif(not available(), reason="the extra 'compiled' is not installed")

SCHEMES = list(
    itertools.product(
        ("godunov", "muscl", "weno5"), ("rusanov", "hll", "hllc"), ("sweeps", "hancock", "ssprk2", "ssprk3")
    )
)


def rough(shape: tuple[int, ...], samples: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Jumps in every cell: limiters, fluxes and planning see all of their cases."""
    generator = torch.Generator().manual_seed(0)
    dimension = len(shape)

    def noise(channels: int, size: float) -> Tensor:
        return size * torch.rand(samples, channels, *shape, generator=generator, dtype=torch.float64)

    w = torch.cat((1.0 + noise(1, 0.3), noise(dimension, 1.0) - 0.5, 1.0 + noise(1, 0.5)), dim=1)
    return GAS.conservative(w).to(dtype)


@compiled
@pytest.mark.parametrize("shape", [(40,), (18, 20), (7, 6, 18)], ids=lambda v: f"{len(v)}D")
@pytest.mark.parametrize("boundary", ["periodic", "outflow", "wall"])
@pytest.mark.parametrize(("reconstruction", "riemann", "time"), SCHEMES)
def test_the_same_numbers_as_tensors(shape, boundary, reconstruction, riemann, time):
    grid = Grid(shape, (1.0, 0.8, 1.2)[: len(shape)], boundary=boundary, centering="cell")
    u = rough(shape, 2)
    steps = [
        finite_volume(GAS, grid, 0.05, reconstruction=reconstruction, riemann=riemann, time=time, form=form)
        for form in ("tensors", "fused")
    ]
    expected, found = (step(u) for step in steps)
    assert steps[0].last_substeps == steps[1].last_substeps > 1
    assert float((expected - found).abs().max()) < 1e-13


@compiled
@pytest.mark.parametrize("samples", [1, 3])
def test_single_precision_and_inflow(samples):
    grid = Grid((20, 33), (1.0, 1.0), boundary=(("inflow", "outflow"), "wall"), centering="cell")
    entering = {"x-": Inflow((1.2, 1.5, 0.1, 4.0))}
    u = rough((20, 33), samples, torch.float32)
    expected, found = (
        finite_volume(GAS, grid, 0.02, conditions=entering, form=form)(u) for form in ("tensors", "fused")
    )
    assert found.dtype == torch.float32
    assert float((expected - found).abs().max()) < 2e-5


@compiled
def test_cells_in_need_are_helped_as_by_tensors():
    """Gases that part almost to vacuum: the tensors take over the substeps in which a cell would fall below."""
    grid = Grid((64,), (1.0,), boundary="outflow", centering="cell")
    x = grid.axes()[0]
    w = torch.stack([torch.ones_like(x), torch.where(x < 0.5, -2.0, 2.0), torch.full_like(x, 0.01)])
    u = GAS.conservative(w.unsqueeze(0)).expand(3, -1, -1).contiguous()
    steps = [finite_volume(GAS, grid, 0.05, form=form) for form in ("tensors", "fused")]
    expected, found = (step(u) for step in steps)
    assert steps[0].fallbacks == steps[1].fallbacks > 0
    assert bool(GAS.admissible(found).all())
    assert float((expected - found).abs().max()) < 1e-12


@pytest.mark.parametrize("form", ["tensors", pytest.param("fused", marks=compiled)])
@pytest.mark.parametrize("shape", [(32,), (8, 20)], ids=["1D", "2D"])
@pytest.mark.parametrize("dt", [0.002, 0.05])
def test_each_sample_has_substeps_of_its_own(form, shape, dt):
    """Also where they sweep the axes in another order at the same time: odd and even numbers of substeps."""
    grid = Grid(shape, (1.0,) * len(shape), centering="cell")
    u = rough(shape, 3)
    fast = GAS.primitive(u)
    fast[1, 1] += 10.0
    fast[2, 1] += 5.0
    u = GAS.conservative(fast)
    step = finite_volume(GAS, grid, dt, form=form)
    together, counts = step(u), []
    for i in range(3):
        assert torch.equal(together[i : i + 1], step(u[i : i + 1]))
        counts.append(step.last_substeps)
    assert len(set(counts)) == 3 if dt > 0.01 else counts[0] == 1


@pytest.mark.parametrize("form", ["tensors", pytest.param("fused", marks=compiled)])
def test_a_sudden_start_is_taken_in_short_substeps(form):
    """At rest the gases of a tube do not show the speed of the shock that they send out."""
    grid = Grid((200,), (1.0,), boundary="outflow", centering="cell")
    start = GAS.conservative(SOD.exact(grid.axes()[0], 0.0).unsqueeze(0))
    end = finite_volume(GAS, grid, 0.2, form=form)(start)
    density = SOD.exact(grid.axes()[0], 0.2)[0]
    # 2.4e-3 where the first substep is as long as the gas at rest lets it be.
    assert float((end[0, 0] - density).abs().mean()) < 2.2e-3


@pytest.mark.parametrize("form", ["tensors", pytest.param("fused", marks=compiled)])
@pytest.mark.parametrize("dimension", [1, 2])
def test_hancock_is_of_second_order(form, dimension):
    errors = []
    for n in (32, 64):
        grid = Grid((n,) * dimension, GAS.exact_lengths(dimension), centering="cell")
        x = grid.coordinates().unsqueeze(0)
        # Means over the cells differ from the values at their centres by the second order in dx.
        end = finite_volume(GAS, grid, 0.3, form=form)(GAS.exact(x, 0.0))
        errors.append(float((end - GAS.exact(x, 0.3)).abs().mean()))
    assert math.log2(errors[0] / errors[1]) > 1.7


@compiled
@pytest.mark.parametrize("substeps", [1, 2, 3])
def test_sweeps_are_of_second_order_in_few_substeps(substeps):
    """There and back again, and an odd one symmetric: 2.2, and 1.1 where every substep takes x before y."""
    errors = []
    for n in (64, 128):
        grid = Grid((n, n), (10.0, 10.0), origin=-5.0, centering="cell")
        start, end = (averaged(partial(vortex, GAS, t=t), grid) for t in (0.0, 1.0))
        # A Courant number of one half.
        count = 2 * n // (5 * substeps)
        step = finite_volume(GAS, grid, 1.0 / count, substeps=substeps, time="sweeps", form="fused")
        for _ in range(count):
            start = step(start)
        errors.append(float((start - end).abs().mean()))
    assert math.log2(errors[0] / errors[1]) > 1.8


@pytest.mark.parametrize(("time", "substeps"), [("hancock", 1), ("sweeps", 1), ("sweeps", 2)])
def test_hancock_is_differentiable(time, substeps):
    grid = Grid((6, 5), (1.0, 1.0), boundary=("wall", "periodic"), centering="cell")
    step = finite_volume(GAS, grid, 0.02, substeps=substeps, time=time)
    assert "Hancock" in step.method
    u = rough((6, 5), 1).requires_grad_(True)
    assert torch.autograd.gradcheck(step, (u,), eps=1e-7, atol=1e-5)


def test_what_has_no_compiled_form_is_refused():
    grid = Grid((32,), (1.0,), centering="cell")
    with pytest.raises(ValueError, match="has only tensors. Leave form='auto'"):
        finite_volume(GAS, grid, 0.1, riemann="roe", form="fused")
    assert "CFL 0.9" in build(GAS, grid, 0.1).reason
    with pytest.raises(ValueError, match="form='loops'"):
        finite_volume(GAS, grid, 0.1, form="loops")
    with pytest.raises(ValueError, match="friction or source"):
        from sciml.pdes import CompressibleNavierStokes

        finite_volume(CompressibleNavierStokes(viscosity=0.1), grid, 0.1, time="hancock")
