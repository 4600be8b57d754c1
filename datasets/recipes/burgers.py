"""Viscous Burgers' equation with steepening fronts."""

from __future__ import annotations

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import Burgers

RECIPE = Recipe(
    name="burgers",
    title="1D viscous Burgers with steepening fronts",
    citation="Random Fourier states as in Bar-Sinai et al. (2019); front thickness 2 nu / max|u|.",
    pde=Burgers,
    # The thinnest front, of half height 1, is 2 nu wide: about 1.5 of the stored cells of 1/256.
    parameters={"viscosity": Constant(3e-3)},
    domain=Grid((256,), (1.0,)),
    initial=RandomFourier(modes=4, zero_mean=True, max_one=True),
    dt=0.01,
    steps={"train": 50, "valid": 50, "test": 500},
    samples={"train": 128, "valid": 32, "test": 32},
    substeps=5,
    shard_size=32,
)
