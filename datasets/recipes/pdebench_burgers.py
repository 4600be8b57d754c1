"""1D Burgers' equation in the set-up of PDEBench: u_t + (u^2/2)_x = (Nu/pi) u_xx, unit interval, up to t = 2.

PDEBench: 1024 cells, 201 frames, 10,000 samples for each Nu of 1, 2 and 4 times 0.001, 0.01, 0.1 and 1. Its files say
Nu, and the coefficient of diffusion is Nu/pi. Here 512 points and Nu = 0.01, whose fronts are 2 to 4 points wide; at
0.001 they need 4096.
"""

from __future__ import annotations

import math

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import Spectral
from sciml.datasets.recipes._pdebench import CITATION, TwoWaves, line
from sciml.pdes import ScalarBurgers
from sciml.pdes.parameters import Parameter


def burgers(Nu: Parameter) -> ScalarBurgers:
    """The equation of a file's attribute Nu."""
    return ScalarBurgers(Nu / math.pi)


RECIPE = Recipe(
    name="pdebench_burgers",
    title="1D Burgers of diffusion Nu/pi (PDEBench: 1024 cells, 10,000 samples per Nu)",
    citation=f"{CITATION}.2.",
    pde=burgers,
    parameters={"Nu": Constant(0.01)},
    domain=line(512),
    initial=TwoWaves(),
    solver=Spectral(max_speed=2.5),
    dt=0.01,
    steps=200,
    samples={"train": 64, "valid": 8, "test": 8},
    shard_size=16,
)
