"""1D hyper-diffusion, hyp_diffusion_gamma = -4; exact in Fourier space."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, LINE, SAMPLES_1D, STEPS, WAVES, Spectral, linear

RECIPE = Recipe(
    name="apebench_1d_diff_hyp_diff",
    title="1D hyper-diffusion (APEBench: 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 1d_diff_hyp_diff.",
    pde=linear,
    parameters={"hyp_diffusion_gamma": Constant(-4.0)},
    domain=LINE,
    initial=WAVES,
    solver=Spectral(),
    dt=1.0,
    steps=STEPS,
    samples=SAMPLES_1D,
    shard_size=10,
)
