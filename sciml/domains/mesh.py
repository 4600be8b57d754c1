"""Unstructured meshes of line segments, triangles or tetrahedra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor


class NodeType(IntEnum):
    """Role of a node, numbered as in the MeshGraphNets data sets (Pfaff et al. 2021)."""

    NORMAL = 0
    OBSTACLE = 1
    AIRFOIL = 2
    HANDLE = 3
    INFLOW = 4
    OUTFLOW = 5
    WALL_BOUNDARY = 6


@dataclass(frozen=True, eq=False)
class Mesh:
    """A simplicial mesh, in 2D of triangles and in 3D of tetrahedra.

    Args:
        points: node coordinates (N, D) [length], stored as float64.
        cells: node numbers of each simplex (M, D + 1), stored as int64. Cells of negative volume are
            turned round.
        node_type: `NodeType` of each node (N,), all NORMAL where left out.

    Raises:
        ValueError: shapes do not fit, a node number is out of range, a coordinate is not finite, or a
            cell has no volume.
    """

    points: Tensor
    cells: Tensor
    node_type: Tensor | None = field(default=None)

    def __post_init__(self) -> None:
        points = torch.as_tensor(self.points, dtype=torch.float64)
        cells = torch.as_tensor(self.cells, dtype=torch.int64).clone()
        if points.ndim != 2 or points.shape[1] not in (2, 3):
            raise ValueError(f"Mesh got points of shape {tuple(points.shape)}; expected (N, 2) or (N, 3).")
        count, dimension = points.shape
        if cells.ndim != 2 or cells.shape[1] != dimension + 1 or not len(cells):
            raise ValueError(
                f"Mesh got cells of shape {tuple(cells.shape)}; expected (M, {dimension + 1}), the "
                f"corners of simplices in {dimension}D."
            )
        if int(cells.min()) < 0 or int(cells.max()) >= count:
            raise ValueError(
                f"Mesh got node numbers from {int(cells.min())} to {int(cells.max())} for {count} points."
            )
        if not torch.isfinite(points).all():
            raise ValueError("Mesh got coordinates that are not finite.")
        node_type = (
            torch.zeros(count, dtype=torch.int64)
            if self.node_type is None
            else torch.as_tensor(self.node_type, dtype=torch.int64).reshape(-1)
        )
        if node_type.shape != (count,):
            raise ValueError(f"Mesh got {node_type.shape[0]} node types for {count} points.")
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "cells", cells)
        object.__setattr__(self, "node_type", node_type)
        signed = self._signed_volumes()
        if bool((signed == 0).any()):
            raise ValueError(f"Mesh got {int((signed == 0).sum())} cells without volume; remove them.")
        flipped = signed < 0
        cells[flipped, :2] = cells[flipped, :2].flip(1)

    def _signed_volumes(self) -> Tensor:
        corners = self.points[self.cells]
        edges = corners[:, 1:] - corners[:, :1]
        return torch.linalg.det(edges) / (2.0 if self.dimension == 2 else 6.0)

    @property
    def dimension(self) -> int:
        """Number of space axes D."""
        return self.points.shape[1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing axes of a field on the nodes, (N,)."""
        return (self.points.shape[0],)

    @property
    def types(self) -> Tensor:
        """`NodeType` of each node (N,)."""
        assert self.node_type is not None  # filled in by the constructor
        return self.node_type

    @cached_property
    def cell_volumes(self) -> Tensor:
        """Areas or volumes of the cells (M,) [length^D]."""
        return self._signed_volumes().abs()

    @property
    def volume(self) -> float:
        """Volume of the meshed region [length^D]."""
        return float(self.cell_volumes.sum())

    @cached_property
    def edges(self) -> Tensor:
        """Unique undirected edges (2, E), the lower node number first."""
        pairs = torch.cat(
            [self.cells[:, list(pair)] for pair in combinations(range(self.dimension + 1), 2)]
        )
        return torch.unique(pairs.sort(dim=1).values, dim=0).T.contiguous()

    @cached_property
    def boundary_facets(self) -> Tensor:
        """Facets that belong to one cell only (F, D), node numbers sorted."""
        corners = range(self.dimension + 1)
        facets = torch.cat([self.cells[:, list(face)] for face in combinations(corners, self.dimension)])
        unique, counts = torch.unique(facets.sort(dim=1).values, dim=0, return_counts=True)
        return unique[counts == 1]

    def coordinates(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> Tensor:
        """Coordinates of the nodes, (D, N) [length]."""
        return self.points.T.to(device=device, dtype=dtype)

    def weights(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> Tensor:
        """Lumped P1 masses (N,), the integral of each hat function, which sum to the volume [length^D]."""
        share = (self.cell_volumes / (self.dimension + 1)).unsqueeze(1).expand_as(self.cells)
        total = torch.zeros(self.shape[0], dtype=torch.float64)
        total.index_add_(0, self.cells.reshape(-1), share.reshape(-1))
        return total.to(device=device, dtype=dtype)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Several meshes side by side as one of separate parts, nodes and cells in order.

    Raises:
        ValueError: there are none, or they differ in dimension.
    """
    if len({mesh.dimension for mesh in meshes}) != 1:
        raise ValueError(
            f"join got meshes of dimensions {[m.dimension for m in meshes]}; expected one for all."
        )
    cells, start = [], 0
    for mesh in meshes:
        cells.append(mesh.cells + start)
        start += mesh.shape[0]
    return Mesh(
        torch.cat([mesh.points for mesh in meshes]),
        torch.cat(cells),
        torch.cat([mesh.types for mesh in meshes]),
    )
