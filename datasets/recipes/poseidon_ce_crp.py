"""Four curved parts of uniform gas that meet: CE-CRP of Poseidon's pre-training data.

Theirs: unit box, periodic, gamma = 1.4, 128 x 128 cells out of 512 x 512, 21 frames up to t = 1, 10,000 samples
(9,640/120/240), states as in CE-RP, borders bent by p^2 waves of amplitudes in (-0.1, 0.1). Ours: p, which the supplement
does not give, 2 as for the quadrants of CE-RP; waves that fit the box (its formula has 2 pi i x + j y); 128 x 128 out
of 256 x 256 cells, fewer samples, momentum and energy in place of velocity and pressure.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CELLS, CITATION, GAMMA, Partition, volumes
from sciml.pdes import CompressibleEuler

RECIPE = Recipe(
    name="poseidon_ce_crp",
    title="2D compressible Euler from four curved parts (Poseidon CE-CRP: 10,000 samples)",
    citation=f"{CITATION}, CE-CRP.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(GAMMA)},
    domain=CELLS,
    initial=Partition(bend=0.1),
    solver=volumes,
    resolution_factor=2,
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
