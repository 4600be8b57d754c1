"""Compressible flow."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes import (
    CompressibleEuler,
)
from sciml.solvers.build import build
from sciml.solvers.finite_volume import SOD
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    observed_order,
    points,
    random_states,
    structure,
)


def _euler(cls: type[CompressibleEuler]) -> list[Check]:
    pde = cls()
    waves = []
    for n in (64, 128):
        grid = box(pde, n, 1, centering="cell")
        x = points(grid)
        # Averages over cells, exact for the sine but for the common factor sinc.
        damp = math.sin(math.pi / n) / (math.pi / n)
        u = _average(pde.exact(x, 0.0), damp)
        with torch.no_grad():
            u = build(pde, grid, 0.25)(u)
        waves.append(float((u - _average(pde.exact(x, 0.25), damp))[:, 0].abs().mean()))
    tube = Grid((400,), (1.0,), boundary="outflow", centering="cell")
    line = tube.axes()[0]
    start, end = (
        pde.conservative(SOD.exact(line, t, gamma=float(pde.gamma))[None]) for t in (0.0, SOD.time)
    )
    with torch.no_grad():
        shocked = build(pde, tube, SOD.time)(start)
    plane = box(pde, 24, 2, centering="cell")
    random = random_states(plane, 4)
    primitive = torch.cat([1 + 0.2 * random[:, :1], 0.3 * random[:, 1:3], 1 + 0.2 * random[:, 3:]], dim=1)
    return [
        at_least(
            "order in space on a density wave", observed_order(waves), 1.8, "64 to 128 cells, L1, t = 0.25"
        ),
        at_most(
            "L1 error of Sod's density", (shocked - end)[:, 0].abs().mean(), 1.6e-3, "400 cells, t = 0.2"
        ),
        *structure(pde, plane, 0.02, 10, pde.conservative(primitive)),
    ]


def _average(u: Tensor, damp: float) -> Tensor:
    """Cell averages of a state whose first harmonic is all that varies."""
    mean = u.mean(dim=2, keepdim=True)
    return mean + damp * (u - mean)


SUITES: Suites = {
    CompressibleEuler: _euler,
}
