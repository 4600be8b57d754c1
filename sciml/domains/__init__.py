"""Where a field lives, with its boundary."""

from sciml.domains.cloud import Cloud
from sciml.domains.conditions import Condition, Conditions, Inflow, MovingWall, side_conditions, side_name
from sciml.domains.grid import AXIS_NAMES, Centering, Grid, Side, Sides
from sciml.domains.mesh import Mesh, NodeType, join
from sciml.domains.point import Point

Domain = Grid | Mesh | Cloud | Point

__all__ = [
    "AXIS_NAMES",
    "Centering",
    "Cloud",
    "Condition",
    "Conditions",
    "Domain",
    "Grid",
    "Inflow",
    "Mesh",
    "MovingWall",
    "NodeType",
    "Point",
    "Side",
    "Sides",
    "side_conditions",
    "side_name",
    "join",
]
