"""Roessler's band with one fold: the simplest chaos in continuous time, on the attractor."""

from __future__ import annotations

from sciml.datasets.recipe import Recipe, UsualStates
from sciml.domains import Point
from sciml.odes import Roessler

RECIPE = Recipe(
    name="roessler",
    title="Roessler's three equations of 1976, on the attractor",
    citation="Roessler, Physics Letters A 57 (1976) 397-398.",
    pde=Roessler,
    domain=Point(),
    initial=UsualStates(Roessler()),
    dt=0.06,
    steps={"train": 1000, "valid": 1000, "test": 3000},
    samples={"train": 16, "valid": 4, "test": 8},
    # Sixty time units, ten turns: the third unknown decays within one.
    warmup=1000,
    # Of Runge-Kutta 4: a stored step is right to 3e-8.
    substeps=4,
    shard_size=16,
)
