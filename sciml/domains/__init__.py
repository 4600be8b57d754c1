"""Where a field lives, with its boundary."""

from sciml.domains.cloud import Cloud
from sciml.domains.grid import AXIS_NAMES, Centering, Grid, Side, Sides
from sciml.domains.mesh import Mesh, NodeType

Domain = Grid | Mesh | Cloud

__all__ = [
    "AXIS_NAMES",
    "Centering",
    "Cloud",
    "Domain",
    "Grid",
    "Mesh",
    "NodeType",
    "Side",
    "Sides",
]
