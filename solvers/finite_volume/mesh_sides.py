"""What the sides of a mesh are: walls, and where something enters or leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.domains import Conditions, Inflow, Mesh, NodeType

WALL, OUTFLOW, INFLOW = "wall", "outflow", "inflow"

_NAMES = {
    NodeType.WALL_BOUNDARY: WALL,
    NodeType.OBSTACLE: WALL,
    NodeType.AIRFOIL: WALL,
    NodeType.INFLOW: INFLOW,
    NodeType.OUTFLOW: OUTFLOW,
}
_REMEDY = "or say it facet by facet: sides=[...], a name for each of mesh.boundary_facets."

# Facets that bend by as much on both ends, to this angle, tell nothing.
_ALIKE = math.radians(10.0)


def facet_sides(mesh: Mesh) -> list[str]:
    """What each of `mesh.boundary_facets` is by the types of its nodes: "wall", "inflow" or "outflow".

    WALL_BOUNDARY, OBSTACLE and AIRFOIL are walls. Where the two ends of a facet differ, as at the corner of a channel,
    the facet is what it runs on into with the smaller bend.

    Raises:
        ValueError: a boundary node is of another type, or a facet between two sides bends into both alike.
    """
    facets = mesh.boundary_facets
    names = [_NAMES.get(NodeType(value), "") for value in range(len(NodeType))]
    index = torch.tensor([names.index(name) if name else -1 for name in names])
    ends = index[mesh.types[facets]]
    if bool((ends < 0).any()):
        node = int(facets[ends < 0][0])
        kind, count = NodeType(int(mesh.types[node])).name, len(torch.unique(facets[ends < 0]))
        raise ValueError(
            f"{count} nodes on the boundary of the mesh do not tell what happens there: node {node} at "
            f"{_place(mesh.points[node])} is {kind}. Give them the node type WALL_BOUNDARY, OBSTACLE, AIRFOIL, INFLOW or "
            f"OUTFLOW, {_REMEDY}"
        )
    found = ends[:, 0].clone()
    for facet in (ends[:, 0] != ends[:, 1]).nonzero().flatten().tolist():
        bends = []
        for end in (0, 1):
            node, back = int(facets[facet, end]), int(facets[facet, 1 - end])
            bend = math.inf
            for near in ((facets == node).any(dim=1)).nonzero().flatten().tolist():
                if near != facet and bool((ends[near] == ends[facet, end]).all()):
                    ahead = int(facets[near].sum()) - node
                    bend = min(bend, _bend(mesh.points[[back, node, ahead]]))
            bends.append(bend)
        if not abs(bends[0] - bends[1]) > _ALIKE:  # also two without any
            pair = [NodeType(int(t)).name for t in mesh.types[facets[facet]]]
            raise ValueError(
                f"The boundary facet at {_place(mesh.points[facets[facet]].mean(dim=0))} lies between a node "
                f"{pair[0]} and a node {pair[1]} and could belong to either. Change the type of one, {_REMEDY}"
            )
        found[facet] = ends[facet, bends.index(min(bends))]
    return [names[value] for value in found.tolist()]


def checked_sides(
    mesh: Mesh, sides: str | Sequence[str] | None, conditions: Conditions | None
) -> list[str]:
    """A name for each boundary facet: "wall", "outflow", or one for which there is a state that enters.

    Args:
        mesh: where.
        sides: the names, one for all, or None to go by the types of nodes.
        conditions: states that enter by name.

    Raises:
        ValueError: names are unknown, are not one per facet, or lack their state; or a condition is of no side.
    """
    count = len(mesh.boundary_facets)
    if sides is None:
        names = facet_sides(mesh)
    else:
        names = [sides] * count if isinstance(sides, str) else [str(name) for name in sides]
    if len(names) != count:
        raise ValueError(
            f"finite_volume_on_mesh got {len(names)} names of sides for {count} boundary facets; expected one for each "
            "of mesh.boundary_facets, or one for all."
        )
    given = dict(conditions or {})
    for name, condition in given.items():
        if not isinstance(condition, Inflow):
            raise ValueError(
                f"finite_volume_on_mesh got {type(condition).__name__} for the side {name!r}; sides of a mesh take "
                "Inflow alone, walls let slip."
            )
        if name in (WALL, OUTFLOW) or name not in names:
            entered = sorted(set(names) - {WALL, OUTFLOW})
            raise ValueError(
                f"finite_volume_on_mesh got a state that enters through {name!r}; the sides of this mesh through which "
                f"something may enter are {entered}."
            )
    missing = sorted(set(names) - {WALL, OUTFLOW} - set(given))
    if missing:
        name = missing[0]
        raise ValueError(
            f"The side {name!r} of the mesh has no state; give conditions={{{name!r}: Inflow(...)}} with a value for "
            "each channel."
            + ("" if name == INFLOW else f" Sides without a state are {WALL!r} and {OUTFLOW!r}.")
        )
    return names


def entering(name: str, condition: Inflow, channels: tuple[str, ...], nodes: int) -> Tensor:
    """What enters through a side, (C, 1) or (C, N) at the nodes of the mesh.

    Raises:
        ValueError: values have another shape, or are not finite.
    """
    value = torch.as_tensor(condition.value)
    value = value if value.is_floating_point() else value.to(torch.float64)
    value = value.reshape(-1, 1) if value.ndim < 2 else value
    if value.shape not in ((len(channels), 1), (len(channels), nodes)):
        raise ValueError(
            f"The condition of side {name!r} got values of shape {tuple(value.shape)}; expected one for each channel "
            f"{channels}, ({len(channels)},), or a field on the nodes, ({len(channels)}, {nodes}), of which those of "
            "the side are read."
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"The condition of side {name!r} got values that are not finite.")
    return value


def _bend(path: Tensor) -> float:
    """Angle by which a path of three points turns."""
    first, second = path[1] - path[0], path[2] - path[1]
    cross = first[0] * second[1] - first[1] * second[0]
    return abs(math.atan2(float(cross), float(first @ second)))


def _place(point: Tensor) -> str:
    return f"({', '.join(f'{x:.4g}' for x in point.tolist())})"
