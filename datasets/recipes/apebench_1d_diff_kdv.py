"""1D Korteweg-de Vries with hyper-diffusion, convection_sc_delta = -2, dispersion_gamma = -14, hyp_diffusion_gamma = -9."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, LINE, SAMPLES_1D, STEPS, WAVES, Spectral, nonlinear

RECIPE = Recipe(
    name="apebench_1d_diff_kdv",
    title="1D Korteweg-de Vries with hyper-diffusion (APEBench: 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 1d_diff_kdv.",
    pde=nonlinear,
    parameters={
        "convection_sc_delta": Constant(-2.0),
        "dispersion_gamma": Constant(-14.0),
        "hyp_diffusion_gamma": Constant(-9.0),
    },
    domain=LINE,
    initial=WAVES,
    solver=Spectral(max_speed=2.0),
    dt=1.0,
    steps=STEPS,
    resolution_factor=2,
    samples=SAMPLES_1D,
    shard_size=10,
)
