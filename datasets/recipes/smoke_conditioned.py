"""Smoke of random buoyancy in a closed box: PDEArena's conditioned set, with frames of 1.5 s.

PDEArena draws the buoyancy between 0.2 and 0.5 m/s^2 and keeps all 56 steps after the first eight (here after twelve,
at the same 18 s as in the other set).
"""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.distributions import Constant, Uniform
from sciml.datasets.recipes.smoke import RECIPE as SMOKE

RECIPE = replace(
    SMOKE,
    name="smoke_conditioned",
    title="2D smoke of random buoyancy that rises in a closed box (PDEArena: 128^2 cells)",
    parameters={"viscosity": Constant(0.01), "buoyancy": Uniform(0.2, 0.5)},
    dt=1.5,
    steps=55,
    warmup=12,
)
