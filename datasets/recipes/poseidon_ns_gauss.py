"""Incompressible flow from a hundred round vortices: NS-Gauss of Poseidon's pre-training data.

Theirs: unit box, periodic, 128 x 128 points, 21 frames up to t = 1, 20,000 samples (19,640/120/240), Gaussian vortices
of widths 0.01 to 0.1, viscosity 4e-4 on short waves. Ours: viscosity on all waves, fewer samples.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import (
    CITATION,
    NODES,
    VISCOSITY,
    GaussianVortices,
    Spectral,
    Vortices,
)
from sciml.pdes import NavierStokes

RECIPE = Recipe(
    name="poseidon_ns_gauss",
    title="2D incompressible flow from a hundred vortices (Poseidon NS-Gauss: 20,000 samples)",
    citation=f"{CITATION}, NS-Gauss.",
    pde=NavierStokes,
    parameters={"viscosity": Constant(VISCOSITY)},
    domain=NODES,
    initial=Vortices(GaussianVortices()),
    solver=Spectral(max_speed=2.0),
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
