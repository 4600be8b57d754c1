"""Four quadrants of uniform gas that meet: CE-RP of Poseidon's pre-training data.

Theirs: unit box, periodic, gamma = 1.4, 128 x 128 cells out of 512 x 512, 21 frames up to t = 1, 10,000 samples
(9,640/120/240), densities and pressures of each quadrant in (0.1, 1), velocities in (-1, 1). Ours: 128 x 128 out of
256 x 256 cells, fewer samples, and what a finite-volume code has by nature, momentum and energy in place of velocity
and pressure. The quadrants meet at the middle and, as the box is periodic, at its sides.

Slip lines roll up, the finer the grid the smaller their whirls: this solution and one of twice the cells per axis differ by a
twentieth after four frames and by a third at the end. The same holds for the other sets of gases with borders.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CELLS, CITATION, GAMMA, Partition, volumes
from sciml.pdes import CompressibleEuler

RECIPE = Recipe(
    name="poseidon_ce_rp",
    title="2D compressible Euler from four quadrants (Poseidon CE-RP: 10,000 samples)",
    citation=f"{CITATION}, CE-RP.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(GAMMA)},
    domain=CELLS,
    initial=Partition(),
    solver=volumes,
    resolution_factor=2,
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
