"""Incompressible flow under a steady wave of force: FNS-KF of Poseidon's downstream tasks.

Theirs: the start of NS-PwC, a force 0.1 sin(2 pi (x + y)), unit box, periodic, 128 x 128 points, 21 frames up to
t = 1, 20,000 samples (19,640/120/240), viscosity 4e-4 on short waves. Ours: the force acts across its wave vector, which
the supplement leaves open (along it, it would only raise the pressure); strength of the vortices, viscosity and
number of samples as in `poseidon_ns_pwc`.
"""

from __future__ import annotations

import math

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
from sciml.datasets.recipes.poseidon_ns_pwc import STRENGTH
from sciml.pdes import NavierStokes, ShearForcing
from sciml.pdes.parameters import Parameter

FORCE = ShearForcing((2 * math.pi, 2 * math.pi), 0.1)
"""0.1 sin(2 pi (x + y)) along (1, -1)/sqrt(2)."""


def forced(viscosity: Parameter) -> NavierStokes:
    """The equation with that force."""
    return NavierStokes(viscosity, forcing=FORCE)


RECIPE = Recipe(
    name="poseidon_fns_kf",
    title="2D incompressible flow under a wave of force (Poseidon FNS-KF: 20,000 samples)",
    citation=f"{CITATION}, FNS-KF.",
    pde=forced,
    parameters={"viscosity": Constant(VISCOSITY)},
    domain=NODES,
    initial=Vortices(Patches(strength=STRENGTH)),
    solver=Spectral(max_speed=2.0),
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
