"""Flow on a staggered grid: what its sides mean, its operators, and bodies inside it.

Channel d of a state holds the velocity along axis d on the low face of each cell.
"""

from sciml.staggered.obstacles import Bodies, Obstacle, Shape, block, cylinder
from sciml.staggered.operators import Staggered
from sciml.staggered.sides import Held, Sides, face_coordinates

__all__ = [
    "Bodies",
    "Held",
    "Obstacle",
    "Shape",
    "Sides",
    "Staggered",
    "block",
    "cylinder",
    "face_coordinates",
]
