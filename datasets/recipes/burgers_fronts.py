"""Viscous Burgers' equation whose fronts are thinner than a cell of the stored grid."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import Burgers

RECIPE = Recipe(
    name="burgers_fronts",
    title="1D Burgers with fronts at the edge of the stored grid, few trajectories",
    citation="Random Fourier states as in Bar-Sinai et al. (2019); front thickness 2 nu / max|u|.",
    pde=Burgers,
    # 2 nu / max|u| is 0.004 at first, half a stored cell of 1/128 and two of the cells that it is solved on.
    parameters={"viscosity": Constant(2e-3)},
    domain=Grid((128,), (1.0,)),
    initial=RandomFourier(modes=4, zero_mean=True, max_one=True),
    dt=0.02,
    steps={"train": 50, "valid": 50, "test": 200},
    samples={"train": 8, "valid": 8, "test": 16},
    resolution_factor=4,
    substeps=21,
    shard_size=8,
)
