"""Lorenz' convection in three unknowns: chaos without space, on the attractor."""

from __future__ import annotations

from sciml.datasets.recipe import Recipe, UsualStates
from sciml.domains import Point
from sciml.odes import Lorenz63

RECIPE = Recipe(
    name="lorenz63",
    title="Lorenz' three equations of 1963, on the attractor",
    citation="Lorenz, Journal of the Atmospheric Sciences 20 (1963) 130-141.",
    pde=Lorenz63,
    domain=Point(),
    initial=UsualStates(Lorenz63()),
    dt=0.02,
    steps={"train": 500, "valid": 500, "test": 1500},
    samples={"train": 64, "valid": 16, "test": 16},
    # Ten time units bring the draws onto the attractor, whose leading exponent is 0.906.
    warmup=500,
    # Of Runge-Kutta 4: a stored step is right to 4e-6, a few roundings of float32.
    substeps=4,
    shard_size=32,
)
