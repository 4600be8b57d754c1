"""2D Swift-Hohenberg patterns: box of side 10 pi, drive 0.7, u^2 - u^3, 0.1 between frames; at 64 x 64 points."""

from __future__ import annotations

import math

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, SAMPLES_2D, STEPS, WAVES
from sciml.domains import Grid
from sciml.pdes import SwiftHohenberg

RECIPE = Recipe(
    name="apebench_2d_sh",
    title="2D Swift-Hohenberg patterns (APEBench: 160^2 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 2d_phy_sh.",
    pde=SwiftHohenberg,
    parameters={"drive": Constant(0.7), "quadratic": Constant(1.0)},
    domain=Grid((64, 64), (10 * math.pi, 10 * math.pi)),
    initial=WAVES,
    dt=0.1,
    steps=STEPS,
    substeps=5,
    samples=SAMPLES_2D,
    shard_size=4,
)
