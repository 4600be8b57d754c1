"""Control volumes around the nodes of a triangle mesh: the median dual."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sciml.domains import Mesh


@dataclass(frozen=True, eq=False)
class MedianDual:
    """Faces between the control volumes around nodes, and what gradients at nodes are made of.

    The volume of a node is bounded by lines from the middles of its edges to the centroids of its triangles, and on
    the boundary of the mesh by the near halves of its facets. Volumes are `Mesh.weights()`: a third of each triangle.
    Each of the E edges of the mesh has one face, with the sum of the normals of its two lines; the 2 K halves of the K
    boundary facets follow. The normals around each node add up to zero, so that a uniform state stays.

    Args:
        owner: the node from which the normal of a face points, (E + 2K,).
        other: the node to which it points, (E + 2K,); of the half of a boundary facet, its other end.
        facet: to which boundary facet of the mesh each half belongs, (2K,).
        normal: unit normals (2, E + 2K), out of the mesh on its boundary.
        area: of the faces (E + 2K,) [length].
        volume: of the nodes (N,) [length^2].
        along: from owner to other, of the E edges (2, E) [length].
        at_owner: by which the jump along an edge enters the gradient at its owner, (2, E) [1/length].
        at_other: the same at its other end.
    """

    owner: Tensor
    other: Tensor
    facet: Tensor
    normal: Tensor
    area: Tensor
    volume: Tensor
    along: Tensor
    at_owner: Tensor
    at_other: Tensor

    @property
    def edges(self) -> int:
        """Number of faces between two nodes, E."""
        return self.along.shape[1]

    def like(self, u: Tensor) -> MedianDual:
        """With the precision and on the device of a state."""
        floats = ("normal", "area", "volume", "along", "at_owner", "at_other")
        moved = {name: getattr(self, name).to(u) for name in floats}
        numbers = {name: getattr(self, name).to(u.device) for name in ("owner", "other", "facet")}
        return replace(self, **moved, **numbers)

    def gradient(self, w: Tensor) -> Tensor:
        """Gradients at the nodes by least squares over their edges, (B, C, N) -> (B, C, 2, N) [w / length].

        Exact for linear fields. Edges weigh by their inverse square length.
        """
        count = self.edges
        return self.gradient_of_jumps(at(w, self.other[:count]) - at(w, self.owner[:count]))

    def gradient_of_jumps(self, jump: Tensor) -> Tensor:
        """The same from the differences along edges, other end less owner, (B, C, E)."""
        count, (samples, channels) = self.edges, jump.shape[:2]
        shape = (samples, 2 * channels, count)
        total = jump.new_zeros(samples, 2 * channels, len(self.volume))
        for node, weight in ((self.owner, self.at_owner), (self.other, self.at_other)):
            total = total.index_add(2, node[:count], (jump.unsqueeze(2) * weight).reshape(shape))
        return total.reshape(samples, channels, 2, -1)

    def divergence(self, flux: Tensor) -> Tensor:
        """What leaves each volume through its faces, per volume: (B, C, E + 2K), times area -> (B, C, N)."""
        count = self.edges
        total = flux.new_zeros(*flux.shape[:2], len(self.volume))
        total = total.index_add(2, self.owner, flux)
        return total.index_add(2, self.other[:count], flux[..., :count], alpha=-1) / self.volume

    def gathered(self, amount: Tensor) -> Tensor:
        """Sum of an amount of each face over the faces of each node, (B, C, E + 2K) -> (B, C, N)."""
        count = self.edges
        total = amount.new_zeros(*amount.shape[:2], len(self.volume)).index_add(2, self.owner, amount)
        return total.index_add(2, self.other[:count], amount[..., :count])


def at(u: Tensor, node: Tensor) -> Tensor:
    """Values at some nodes, (B, C, N) and (F,) -> (B, C, F)."""
    # Several times as fast as indexing, and as its derivative.
    return u.gather(2, node.expand(*u.shape[:2], -1))


def median_dual(mesh: Mesh) -> MedianDual:
    """The median dual of a mesh of triangles, in float64.

    Barth and Jespersen, AIAA paper 89-0366 (1989); the two halves of a facet are closed where its middle is.

    Raises:
        ValueError: the mesh is not of triangles, or a node belongs to none.
    """
    if mesh.dimension != 2:
        raise ValueError(
            f"Finite volumes on a mesh got one in {mesh.dimension}D; expected triangles in 2D. In 3D there are grids."
        )
    points, cells, edges = mesh.points, mesh.cells, mesh.edges
    number, volume = len(points), mesh.weights()
    if bool((volume == 0).any()):
        raise ValueError(
            f"Finite volumes on a mesh got {int((volume == 0).sum())} nodes that belong to no cell; remove them."
        )
    keys = edges[0] * number + edges[1]  # sorted, as the edges are
    centroid = points[cells].mean(dim=1)
    vector = torch.zeros(2, edges.shape[1], dtype=torch.float64)
    outward = torch.zeros(2, len(mesh.boundary_facets), dtype=torch.float64)
    facet_keys = mesh.boundary_facets[:, 0] * number + mesh.boundary_facets[:, 1]
    for a, b in ((0, 1), (1, 2), (2, 0)):
        start, end = cells[:, a], cells[:, b]
        low, high = torch.minimum(start, end), torch.maximum(start, end)
        key = low * number + high
        # Cells run counterclockwise: their inside lies on the left of each side.
        towards = centroid - 0.5 * (points[start] + points[end])
        sign = torch.where(start < end, 1.0, -1.0)
        vector.index_add_(1, torch.searchsorted(keys, key), sign * _right(towards))
        place = torch.searchsorted(facet_keys, key).clamp(max=len(facet_keys) - 1)
        on_side = facet_keys[place] == key
        outward[:, place[on_side]] = 0.5 * _right(points[end] - points[start])[:, on_side]
    first, second = mesh.boundary_facets.T
    owner, other = torch.cat((edges[0], first, second)), torch.cat((edges[1], second, first))
    vector = torch.cat((vector, outward, outward), dim=1)
    area = vector.norm(dim=0)
    along = (points[edges[1]] - points[edges[0]]).T.contiguous()
    weight = along.square().sum(dim=0).reciprocal()
    square = torch.zeros(number, 2, 2, dtype=torch.float64)
    each = (weight * along.unsqueeze(0) * along.unsqueeze(1)).permute(2, 0, 1)
    square.index_add_(0, edges[0], each).index_add_(0, edges[1], each)
    inverse = torch.linalg.inv(square)
    at_owner, at_other = (
        torch.einsum("eij,je->ie", inverse[node], weight * along).contiguous() for node in edges
    )
    facet = torch.arange(len(first)).repeat(2)
    return MedianDual(owner, other, facet, vector / area, area, volume, along, at_owner, at_other)


def _right(vectors: Tensor) -> Tensor:
    """Vectors (M, 2) turned to the right by a quarter, (2, M)."""
    return torch.stack((vectors[:, 1], -vectors[:, 0]))
