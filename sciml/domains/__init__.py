"""Where a field lives, with its boundary."""

from sciml.domains.cloud import Cloud
from sciml.domains.grid import AXIS_NAMES, Centering, Grid, Side, Sides
from sciml.domains.mesh import Mesh, NodeType
from sciml.domains.point import Point

Domain = Grid | Mesh | Cloud | Point

__all__ = [
    "AXIS_NAMES",
    "Centering",
    "Cloud",
    "Domain",
    "Grid",
    "Mesh",
    "NodeType",
    "Point",
    "Side",
    "Sides",
]
