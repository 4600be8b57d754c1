"""Kuramoto-Sivashinsky: spatio-temporal chaos in one dimension."""

from __future__ import annotations

from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import Sines
from sciml.pdes import KuramotoSivashinsky

RECIPE = Recipe(
    name="kuramoto_sivashinsky",
    title="1D Kuramoto-Sivashinsky on a box of 64, on the attractor",
    citation="Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005), section 4.2, for solver and scales.",
    pde=KuramotoSivashinsky,
    domain=Grid((128,), (64.0,)),
    initial=Sines(count=10, modes=3, amplitude=0.5),
    dt=0.5,
    steps={"train": 200, "valid": 200, "test": 1000},
    samples={"train": 64, "valid": 16, "test": 16},
    # 100 time units take the random sines onto the attractor.
    warmup=200,
    substeps=5,
    shard_size=16,
)
