"""Ideal magnetohydrodynamics: waves, a vortex, a shock tube, and how far the magnetic field is from divergence free."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes import IdealMHD
from sciml.solvers.finite_volume import finite_volume
from sciml.solvers.finite_volume.hlld import hlld
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import box, observed_order, random_states, structure
from sciml.solvers.verify.suites.euler import averaged

# A tube of gamma 2 whose waves include a compound of a shock and a fan. Brio and Wu, J. Comput. Phys. 75 (1988),
# section 5: density, velocity, pressure, field, left and right of the middle.
BRIO_WU = (1.0, 0.0, 0.0, 1.0, 0.75, 1.0, 0.0), (0.125, 0.0, 0.0, 0.1, 0.75, -1.0, 0.0)


def _mhd(cls: type[IdealMHD]) -> list[Check]:
    vortices = [vortex_error(cls(), n) for n in (32, 64)]
    waves = [alfven_error(cls(cleaning_speed=1.5), n) for n in (6, 12)]
    exacts = [exact_error(cls(), n, 2) for n in (24, 48)]
    third = exact_error(cls(), 16, 3)
    fine = brio_wu(cls(gamma=2.0), 800)
    tubes = [_distance(brio_wu(cls(gamma=2.0), n), fine) for n in (100, 200)]
    compound = float(fine[0, :, (fine.shape[2] * 45) // 100 : fine.shape[2] // 2].amax(dim=1)[0])
    cleaned, left = (orszag_tang(cls(cleaning_speed=c), 48, cfl=0.8) for c in (3.0, 0.0))
    law = cls()
    plane = box(law, 20, 2, centering="cell")
    space = box(law, 8, 3, centering="cell")
    return [
        # With sound and the field along an axis 1 and the field across it 1, the fast speed is the golden ratio.
        at_most(
            "error of a fast wave worked out by hand", _golden_error(law), 1e-14, "both axes, 2D and 3D"
        ),
        at_most(
            "HLLD between equal states less the flux", flux_gap(law), 1e-12, "2D and 3D, random states"
        ),
        at_least(
            "order in space on a vortex",
            observed_order(vortices),
            1.8,
            "32x32 to 64x64, L1 of the field, t = 1",
        ),
        at_least(
            "order in space on an Alfven wave",
            observed_order(waves),
            3.5,
            "3D, oblique, 12x6x6 to 24x12x12 cells, WENO5",
        ),
        at_most("its relative error", waves[-1], 0.04, "24x12x12 cells, one period, amplitude 0.2"),
        at_least(
            "order in space on a field in balance",
            observed_order(exacts),
            1.8,
            "24x24 to 48x48, L1, t = 0.2",
        ),
        at_most("error of a force-free field in 3D", third, 8e-3, "16x16x16, L1, t = 0.2"),
        at_most("L1 error of Brio and Wu's density", tubes[1], 6e-3, "200 cells against 800, t = 0.1"),
        at_least("order of this error", observed_order(tubes), 0.7, "100 to 200 cells, with shocks"),
        at_least("peak of their compound wave", compound, 0.75, "800 cells, t = 0.1"),
        at_least(
            "least pressure of Orszag and Tang's vortex",
            law.pressure(cleaned).min(),
            0.02,
            "48x48, t = 0.5",
        ),
        at_most("turning it by half", half_turn_error(cleaned), 1e-12, "48x48, t = 0.5"),
        at_most(
            "div B with over without cleaning",
            divergence(law, cleaned) / divergence(law, left),
            0.5,
            "48x48, t = 0.5, mean",
        ),
        *structure(law, plane, 0.01, 10, random_plasma(law, plane)),
        *structure(law, space, 0.01, 4, random_plasma(law, space)),
    ]


def vortex(law: IdealMHD, x: Tensor, t: float) -> Tensor:
    """A magnetised vortex carried along the diagonal of a periodic box of side 10, (2, *points) -> (1, 7, *points).

    Balsara, Astrophys. J. Suppl. 151 (2004), section 6, in units in which |B|^2 / 2 is a pressure. In its frame
    d(p + B^2/2)/dr = (rho v^2 - B^2) / r around the middle, and v is along B. With v = B, p = 1 - r^2 f^2 / 2. What is
    cut off at the sides is 5e-6.
    """
    d = (x - t + 5.0) % 10.0 - 5.0
    square = d.square().sum(0)
    turn = torch.exp((1 - square) / 2) / (2 * math.pi)
    around = torch.stack((-d[1] * turn, d[0] * turn))
    pressure = 1 - 0.5 * square * turn.square()
    rest = torch.zeros_like(square)
    w = torch.cat((torch.stack((rest + 1.0, *(1 + around), pressure)), around, rest.unsqueeze(0)))
    return law.conservative(w.unsqueeze(0))


def vortex_error(law: IdealMHD, n: int, **scheme: Any) -> float:
    """Mean error of the magnetic field of a vortex at t = 1."""
    grid = Grid((n, n), (10.0, 10.0), origin=-5.0, centering="cell")
    start, end = (averaged(partial(vortex, law, t=t), grid) for t in (0.0, 1.0))
    with torch.no_grad():
        found = finite_volume(law, grid, 1.0, **scheme)(start)
    return float(law.magnetic(found - end).abs().mean())


def alfven(law: IdealMHD, x: Tensor, t: float) -> Tensor:
    """A circularly polarised Alfven wave along (1, 2, 2) in a box of 3, 1.5 and 1.5, (3, *points) -> (1, 9, *points).

    Exact at any amplitude: density, pressure and |B| are uniform, and the transverse velocity is -B / sqrt(rho).
    Toth, J. Comput. Phys. 161 (2000), section 6.2; period 1.
    """
    along = torch.tensor([1.0, 2.0, 2.0], dtype=x.dtype) / 3
    first = torch.tensor([2.0, 1.0, -2.0], dtype=x.dtype) / 3
    second = torch.tensor([2.0, -2.0, 1.0], dtype=x.dtype) / 3
    shape = (3, *[1] * (x.ndim - 1))
    along, first, second = (v.reshape(shape) for v in (along, first, second))
    phase = 2 * math.pi * ((along * x).sum(0) - t)
    # Right-handed about the axis or left-handed: both are exact.
    across = 0.2 * (torch.sin(phase) * first + torch.cos(phase) * second)
    one = torch.ones_like(phase).unsqueeze(0)
    w = torch.cat((one, -across, 0.1 * one, along + across, 0 * one))
    return law.conservative(w.unsqueeze(0))


def alfven_error(law: IdealMHD, n: int, **scheme: Any) -> float:
    """Relative L2 error of the transverse field after one period on 2 n by n by n cells."""
    grid = Grid((2 * n, n, n), (3.0, 1.5, 1.5), centering="cell")
    start = averaged(partial(alfven, law, t=0.0), grid)
    options: dict[str, Any] = {"reconstruction": "weno5", "cfl": 0.8, **scheme}
    with torch.no_grad():
        found = finite_volume(law, grid, 1.0, **options)(start)
    wave = law.magnetic(start)
    mean = wave.mean(dim=(2, 3, 4), keepdim=True)
    return float(law.magnetic(found - start).norm() / (wave - mean).norm())


def exact_error(law: IdealMHD, n: int, dimension: int, **scheme: Any) -> float:
    """Mean error of the field in balance that the equation states, at t = 0.2."""
    grid = box(law, n, dimension, centering="cell")

    def state(x: Tensor, t: float) -> Tensor:
        return law.exact(x.unsqueeze(0), t)

    start, end = (averaged(partial(state, t=t), grid) for t in (0.0, 0.2))
    with torch.no_grad():
        return float((finite_volume(law, grid, 0.2, **scheme)(start) - end).abs().mean())


def brio_wu(law: IdealMHD, n: int, **scheme: Any) -> Tensor:
    """Primitive variables (1, 7, n) of the tube at t = 0.1, on a strip two cells wide."""
    grid = Grid((n, 2), (1.0, 20.0), (("outflow", "outflow"), ("periodic", "periodic")), centering="cell")
    left, right = (torch.tensor(w, dtype=torch.float64).reshape(1, 7, 1, 1) for w in BRIO_WU)
    w = torch.where(grid.coordinates()[0] < 0.5, left, right)
    options: dict[str, Any] = {"time": "ssprk2", "cfl": 0.8, **scheme}
    with torch.no_grad():
        step = finite_volume(law, grid, 0.1, **options)
        return law.primitive(step(law.conservative(w)))[..., 0]


def _distance(coarse: Tensor, fine: Tensor) -> float:
    """Mean distance of densities, the finer one averaged."""
    n = coarse.shape[2]
    return float((coarse[:, 0] - fine[:, 0].reshape(len(fine), n, -1).mean(dim=2)).abs().mean())


def orszag_tang(law: IdealMHD, n: int, time: float = 0.5, **scheme: Any) -> Tensor:
    """The vortex of Orszag and Tang, J. Fluid Mech. 90 (1979), compressible, on n^2 cells of a box of side 1.

    Density 25/(36 pi) and pressure 5/(12 pi), sound 1, v = (-sin 2 pi y, sin 2 pi x) and
    B = (-sin 2 pi y, sin 4 pi x) / sqrt(4 pi). Toth (2000), section 6.4. It is its own image under half a turn.
    """
    grid = Grid((n, n), (1.0, 1.0), centering="cell")
    x, y = 2 * math.pi * grid.coordinates()
    field = 1 / math.sqrt(4 * math.pi)
    one = torch.ones_like(x)
    w = torch.stack(
        (
            25 / (36 * math.pi) * one,
            -torch.sin(y),
            torch.sin(x),
            5 / (12 * math.pi) * one,
            -field * torch.sin(y),
            field * torch.sin(2 * x),
            0 * one,
        )
    )
    with torch.no_grad():
        return finite_volume(law, grid, time, **scheme)(law.conservative(w.unsqueeze(0)))


def half_turn_error(u: Tensor) -> float:
    """By how much a state in 2D differs from its image under half a turn."""
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0, -1.0, 1.0], dtype=u.dtype).reshape(1, 7, 1, 1)
    return float((u.flip(2, 3) * sign - u).abs().max())


def divergence(law: IdealMHD, u: Tensor) -> float:
    """Mean |div B| by central differences on a periodic box of side 1, times the spacing, over mean |B|."""
    field = law.magnetic(u)
    across = [
        0.5 * (field[:, d].roll(-1, d + 1) - field[:, d].roll(1, d + 1)) for d in range(field.shape[1])
    ]
    return float(torch.stack(across).sum(0).abs().mean() / field.norm(dim=1).mean())


def random_plasma(law: IdealMHD, grid: Grid) -> Tensor:
    """Smooth random flow and field, of pressures about those of the gas; div B is not zero."""
    d = grid.dimension
    random = random_states(grid, 2 * d + 3)
    w = 0.3 * random
    w[:, 0], w[:, 1 + d] = 1 + 0.2 * random[:, 0], 1 + 0.2 * random[:, 1 + d]
    w[:, 2 + d : 2 + 2 * d] += 0.5
    return law.conservative(w)


def flux_gap(law: IdealMHD) -> float:
    """By how much HLLD, which states the flux a second time, differs from the law's between equal states."""
    worst = 0.0
    for d in (2, 3):
        grid = Grid((8,) * d, (1.0,) * d, centering="cell")
        u = random_plasma(law, grid)
        w = law.primitive(u)
        for axis in range(d):
            gap = hlld(law, w, w, axis) - law.flux(u)[:, :, axis]
            worst = max(worst, float(gap.abs().max()))
    return worst


def _golden_error(law: IdealMHD) -> float:
    worst = 0.0
    for d in (2, 3):
        for axis in range(d):
            w = torch.zeros(1, 2 * d + 3, 1, dtype=torch.float64)
            w[:, 0], w[:, 1 + d] = 1.0, 1.0 / float(law.gamma)
            w[:, 2 + d + axis] = w[:, 2 + d + (axis + 1) % d] = 1.0
            worst = max(worst, abs(float(law.fast_speed(w)[0, axis, 0]) - (1 + math.sqrt(5)) / 2))
    return worst


SUITES: Suites = {IdealMHD: _mhd}
