"""Four parts of fast gas with finely rippled borders: CE-RPUI of Poseidon's downstream tasks.

Theirs: unit box, periodic, gamma = 1.4, 128 x 128 cells out of 512 x 512, 21 frames up to t = 1, 10,000 samples
(9,640/120/240), densities in (1, 3), velocities in (-10, 10), pressures in (5, 7), borders rippled by p^2 waves of
amplitudes in (-0.01, 0.01) and wavenumbers above 2 p^2. Ours: p, which the supplement does not give, 2 as for the
quadrants of CE-RP; solved on the cells that are stored, fewer samples, momentum and energy in place of velocity and
pressure. Parts hit each other at up to ten times the speed of sound, or leave near vacuum behind.

After four frames this solution and one of twice the cells per axis differ by two fifths: what is stored is a sample of
such flows, and the flow of this grid.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CELLS, CITATION, GAMMA, Partition, volumes
from sciml.pdes import CompressibleEuler

RECIPE = Recipe(
    name="poseidon_ce_rpui",
    title="2D compressible Euler from four parts with rippled borders (Poseidon CE-RPUI: 10,000 samples)",
    citation=f"{CITATION}, CE-RPUI.",
    pde=CompressibleEuler,
    parameters={"gamma": Constant(GAMMA)},
    domain=CELLS,
    initial=Partition(density=(1.0, 3.0), speed=(-10.0, 10.0), pressure=(5.0, 7.0), bend=0.01, shift=8),
    solver=volumes,
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=4,
)
