"""1D advection in the set-up of PDEBench: one speed beta, unit interval, up to t = 2.

PDEBench: 1024 cells, 201 frames, 10,000 samples for each beta of 0.1, 0.2, 0.4, 1, 2, 4, by finite volumes of second
order, whose errors its data have. Here 500 points, at which beta of 0.2, 0.4, 1, 2 and 4 move by whole points per
frame: then values change places, kinks and all. Other speeds take exact steps of Fourier modes, which ring at kinks
that lie between points; at 1000 points all six are whole.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import transport
from sciml.datasets.recipes._pdebench import CITATION, TwoWaves, line
from sciml.pdes import LinearEquation
from sciml.pdes.parameters import Parameter


def advection(beta: Parameter) -> LinearEquation:
    """u_t + beta u_x = 0."""
    return LinearEquation((0.0, -beta))


RECIPE = Recipe(
    name="pdebench_advection",
    title="1D advection (PDEBench: 1024 cells, 10,000 samples per speed)",
    citation=f"{CITATION}.1.",
    pde=advection,
    parameters={"beta": Constant(0.4)},
    domain=line(500),
    initial=TwoWaves(),
    solver=transport,
    dt=0.01,
    steps=200,
    samples={"train": 64, "valid": 8, "test": 8},
    shard_size=16,
)
