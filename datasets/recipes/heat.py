"""Heat equation: a small dataset for trying things out, with a parameter that differs between samples."""

from __future__ import annotations

from sciml.datasets.distributions import LogUniform
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import Heat

RECIPE = Recipe(
    name="heat",
    title="1D heat equation with a diffusivity per sample",
    pde=Heat,
    parameters={"diffusivity": LogUniform(1e-3, 1e-2)},
    domain=Grid((64,), (1.0,)),
    initial=RandomFourier(modes=5, zero_mean=False),
    dt=0.05,
    steps=20,
    samples={"train": 32, "valid": 8, "test": 8},
    shard_size=8,
)
