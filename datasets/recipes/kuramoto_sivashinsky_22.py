"""Kuramoto-Sivashinsky on the small box of 22, where its attractor is known best."""

from __future__ import annotations

from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import Sines
from sciml.pdes import KuramotoSivashinsky

RECIPE = Recipe(
    name="kuramoto_sivashinsky_22",
    title="1D Kuramoto-Sivashinsky on a box of 22, on the attractor",
    citation="Cvitanovic, Davidchack and Siminos, SIAM J. Appl. Dyn. Syst. 9 (2010), for the box.",
    pde=KuramotoSivashinsky,
    domain=Grid((64,), (22.0,)),
    initial=Sines(count=10, modes=3, amplitude=0.5),
    dt=0.25,
    steps={"train": 200, "valid": 200, "test": 1000},
    samples={"train": 32, "valid": 8, "test": 16},
    # 200 time units take the random sines onto the attractor.
    warmup=800,
    substeps=3,
    shard_size=16,
)
