"""Burgers' equation at viscosity 1e-4 on 1024 points: the fronts of `burgers_fronts` at full scale."""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.distributions import Constant
from sciml.datasets.recipes import burgers_fronts
from sciml.domains import Grid

RECIPE = replace(
    burgers_fronts.RECIPE,
    name="burgers_fronts_full",
    title="1D Burgers with fronts at full scale: 1024 points, 1000 trajectories of 200 steps",
    # 2 nu / max|u| is 2e-4 at first, a fifth of a stored cell and 1.6 of the cells that it is solved on.
    parameters={"viscosity": Constant(1e-4)},
    domain=Grid((1024,), (1.0,)),
    dt=0.01,
    steps={"train": 200, "valid": 200, "test": 500},
    samples={"train": 1000, "valid": 50, "test": 50},
    resolution_factor=8,
    substeps=160,
)
