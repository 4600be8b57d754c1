"""Traffic on a plane that ends at walls: cars drive one way and queue up in the far corner, on an unstructured mesh."""

from __future__ import annotations

from functools import cache

from sciml.datasets.recipe import Recipe
from sciml.domains import Mesh
from sciml.pdes import Traffic
from sciml.solvers.finite_element import RandomBlobs, rectangle

SPACING = 0.1


@cache
def mesh(factor: int) -> Mesh:
    """A rectangle of 2 x 1 between walls, with edges `factor` times shorter than what is stored."""
    return rectangle((2.0, 1.0), SPACING / factor)


def oneway() -> Traffic:
    """Cars that drive to the right and half as fast up, the slower the closer they are; none passes a wall."""
    return Traffic(direction=(1.0, 0.5))


RECIPE = Recipe(
    name="traffic_jam",
    title="Cars that queue up at walls, on triangles",
    citation="Lighthill and Whitham (1955) with Greenshields' speed, as in LeVeque, Finite Volume Methods for Hyperbolic "
    "Problems (2002), section 11.1; here in the plane.",
    pde=oneway,
    domain=mesh,
    # From a tenth to at most all of the density at which nothing moves.
    initial=RandomBlobs(blobs=(1, 3), width=(0.1, 0.3), amplitude=(0.1, 0.3), inflow=0.1),
    # The fastest car crosses about an edge per frame; the jam stands at the end of the training trajectories.
    dt=0.1,
    steps={"train": 40, "valid": 40, "test": 400},
    samples={"train": 16, "valid": 4, "test": 8},
    shard_size=8,
)
