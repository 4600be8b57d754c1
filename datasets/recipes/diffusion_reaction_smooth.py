"""2D diffusion-reaction from noise that is smooth over a twentieth of the box, which every grid resolves alike."""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.recipes.diffusion_reaction import RECIPE as WHITE
from sciml.datasets.recipes.diffusion_reaction import CellNoise

RECIPE = replace(
    WHITE,
    name="diffusion_reaction_smooth",
    title="2D diffusion-reaction from smooth noise between insulated sides",
    initial=CellNoise(length=0.1),
    substeps=2,
)
