"""Temperature carried past a heated cylinder, on an unstructured mesh."""

from __future__ import annotations

from functools import cache

from sciml.datasets.recipe import Recipe
from sciml.domains import Mesh
from sciml.pdes import AdvectionDiffusion
from sciml.solvers.finite_element import RandomBlobs, channel_with_cylinder, heated_cylinder

SPACING = 0.06


@cache
def mesh(factor: int) -> Mesh:
    """The channel, with edges `factor` times shorter than what is stored."""
    return channel_with_cylinder(spacing=SPACING / factor)


@cache
def flow(domain: Mesh) -> AdvectionDiffusion:
    """Advection by the Stokes flow past the cylinder, and diffusion at a Peclet number of 100."""
    return heated_cylinder(domain)[0]


RECIPE = Recipe(
    name="cylinder",
    title="Heat carried past a warm cylinder, on triangles",
    citation="Geometry after Schaefer and Turek (1996), with a wider obstacle.",
    pde=flow,
    domain=mesh,
    initial=RandomBlobs(),
    # The fastest fluid crosses about half an edge per frame, and 400 frames end before all is steady.
    dt=0.02,
    steps={"train": 40, "valid": 40, "test": 400},
    samples={"train": 32, "valid": 8, "test": 8},
    substeps=1,
    shard_size=8,
)
