"""The fronts of `burgers_fronts_full` from initial states half as high again."""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.recipes import burgers_fronts_full, burgers_fronts_strong

RECIPE = replace(
    burgers_fronts_full.RECIPE,
    name="burgers_fronts_full_strong",
    title="1D Burgers at full scale, amplitude 1.5: out of the distribution of burgers_fronts_full",
    initial=burgers_fronts_strong.RECIPE.initial,
    substeps=240,
    samples={"train": 0, "valid": 0, "test": 50},
)
