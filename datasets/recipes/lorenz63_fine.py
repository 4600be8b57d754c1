"""Lorenz' convection sampled finely, in long records: for learning its invariant measure."""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.recipes.lorenz63 import RECIPE as COARSE

RECIPE = replace(
    COARSE,
    name="lorenz63_fine",
    title="Lorenz' three equations of 1963, finely sampled",
    dt=0.01,
    steps={"train": 5000, "valid": 2000, "test": 2000},
    samples={"train": 8, "valid": 2, "test": 8},
    warmup=1000,
    # Of Runge-Kutta 4: a stored step is right to 3e-7.
    substeps=2,
    shard_size=8,
)
