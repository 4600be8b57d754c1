"""1D Kuramoto-Sivashinsky in the combustion form of a height less its mean, after 500 steps of warm-up.

gradient_norm_delta = -6, diffusion_gamma = -1.2, hyp_diffusion_gamma = -15.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, LINE, SAMPLES_1D, STEPS, WAVES, Spectral, nonlinear

RECIPE = Recipe(
    name="apebench_1d_diff_ks",
    title="1D Kuramoto-Sivashinsky, combustion form, on the attractor (APEBench: 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 1d_diff_ks.",
    pde=nonlinear,
    parameters={
        "gradient_norm_delta": Constant(-6.0),
        "diffusion_gamma": Constant(-1.2),
        "hyp_diffusion_gamma": Constant(-15.0),
    },
    domain=LINE,
    initial=WAVES,
    solver=Spectral(max_speed=60.0),
    dt=1.0,
    steps=STEPS,
    warmup=500,
    samples=SAMPLES_1D,
    shard_size=10,
)
