"""Lorenz' weather on a circle of latitude: chaos in twenty unknowns, on the attractor."""

from __future__ import annotations

from sciml.datasets.recipe import Recipe, UsualStates
from sciml.domains import Point
from sciml.odes import Lorenz96
from sciml.pdes.parameters import Parameter


def twenty_sites(forcing: Parameter = 8.0) -> Lorenz96:
    """The equations on twenty sites."""
    return Lorenz96(20, forcing)


RECIPE = Recipe(
    name="lorenz96",
    title="Lorenz' equations of 1996 on 20 sites, on the attractor",
    citation="Lorenz, Predictability: a problem partly solved, ECMWF seminar (1996).",
    pde=twenty_sites,
    domain=Point(),
    initial=UsualStates(twenty_sites()),
    dt=0.02,
    steps={"train": 2500, "valid": 1000, "test": 1000},
    samples={"train": 8, "valid": 2, "test": 8},
    # Twenty time units, some thirty Lyapunov times, bring the disturbed steady state onto the attractor.
    warmup=1000,
    # Of Runge-Kutta 4: a stored step is right to 3e-6, a few roundings of float32.
    substeps=2,
    shard_size=8,
)
