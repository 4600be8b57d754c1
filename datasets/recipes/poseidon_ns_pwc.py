"""Incompressible flow from squares of even vorticity: NS-PwC of Poseidon's downstream tasks.

Theirs: unit box, periodic, 128 x 128 points, 21 frames up to t = 1, 20,000 samples (19,640/120/240), 10 x 10 squares,
viscosity 4e-4 on short waves, and a tracer that only NS-Tracer-PwC reads. Ours: the strength of the vortices,
viscosity on all waves, fewer samples. Edges are cut off at the waves that the grid carries.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import (
    CITATION,
    NODES,
    VISCOSITY,
    Patches,
    Spectral,
    Vortices,
)
from sciml.pdes import NavierStokes

STRENGTH = 20.0
"""Largest vorticity of a square. The supplement says 1, at which the rms speed is 0.02 and hardly anything moves by
t = 1; at 20 it is 0.38, that of the sets for pre-training and of the constants by which their reader normalises."""

RECIPE = Recipe(
    name="poseidon_ns_pwc",
    title="2D incompressible flow from squares of vorticity (Poseidon NS-PwC: 20,000 samples)",
    citation=f"{CITATION}, NS-PwC.",
    pde=NavierStokes,
    parameters={"viscosity": Constant(VISCOSITY)},
    domain=NODES,
    initial=Vortices(Patches(strength=STRENGTH)),
    solver=Spectral(max_speed=2.0),
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
