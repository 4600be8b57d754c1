"""1D reaction-diffusion in the set-up of PDEBench: u_t = Nu u_xx + rho u (1 - u), unit interval, up to t = 1.

PDEBench: 1024 cells, 101 frames, 10,000 samples for each Nu of 0.5, 1, 2, 5 and rho of 1, 2, 5, 10. Its reaction is
stepped in float32 by amounts near the rounding unit, so that values near 0.45 grow by 44 % too much within t = 0.2 and
others not at all. Here 256 points in float64.

Diffusion flattens the box within t of about 0.1/Nu; what remains is the growth of one number.
"""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._pdebench import CITATION, TwoWaves, line
from sciml.pdes import FisherKPP
from sciml.pdes.parameters import Parameter


def reaction_diffusion(Nu: Parameter, rho: Parameter) -> FisherKPP:
    """The equation of a file's attributes Nu and rho."""
    return FisherKPP(Nu, rho)


RECIPE = Recipe(
    name="pdebench_reaction_diffusion",
    title="1D reaction-diffusion (PDEBench: 1024 cells, 10,000 samples per Nu and rho)",
    citation=f"{CITATION}.3.",
    pde=reaction_diffusion,
    parameters={"Nu": Constant(0.5), "rho": Constant(1.0)},
    domain=line(256),
    initial=TwoWaves(unit=True),
    dt=0.01,
    steps=100,
    substeps=2,
    samples={"train": 64, "valid": 8, "test": 8},
    shard_size=16,
)
