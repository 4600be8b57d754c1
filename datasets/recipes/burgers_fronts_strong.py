"""The fronts of `burgers_fronts` from initial states half as high again, which no surrogate of it was trained on."""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.recipes import burgers_fronts
from sciml.fields import RandomFourier

RECIPE = replace(
    burgers_fronts.RECIPE,
    name="burgers_fronts_strong",
    title="1D Burgers with fronts, amplitude 1.5: out of the distribution of burgers_fronts",
    initial=RandomFourier(modes=4, zero_mean=True, max_one=True, amplitude=1.5),
    substeps=32,
    samples={"train": 0, "valid": 0, "test": 16},
)
