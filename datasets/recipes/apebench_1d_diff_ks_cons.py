"""1D Kuramoto-Sivashinsky in the conservative form of a slope, after 500 steps of warm-up.

convection_delta = -1, diffusion_gamma = -2, hyp_diffusion_gamma = -18.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, LINE, SAMPLES_1D, STEPS, WAVES, Spectral, convection

RECIPE = Recipe(
    name="apebench_1d_diff_ks_cons",
    title="1D Kuramoto-Sivashinsky, slope form, on the attractor (APEBench: 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 1d_diff_ks_cons.",
    pde=convection,
    parameters={
        "convection_delta": Constant(-1.0),
        "diffusion_gamma": Constant(-2.0),
        "hyp_diffusion_gamma": Constant(-18.0),
    },
    domain=LINE,
    initial=WAVES,
    solver=Spectral(max_speed=3.0),
    dt=1.0,
    steps=STEPS,
    resolution_factor=2,
    warmup=500,
    samples=SAMPLES_1D,
    shard_size=10,
)
