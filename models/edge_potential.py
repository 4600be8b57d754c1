"""Values on the edges of a mesh that are differences of a potential."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.calculus.constants import Constants
from sciml.constraints.base import at_least_single
from sciml.domains import Mesh
from sciml.models.edge_fluxes import exchange
from sciml.models.wrappers import Map


class EdgePotential(nn.Module):
    """Forces along the edges of a mesh from a learned potential of its nodes, F_e = (phi_j - phi_i) / l_e.

    For edge e from node i to node j of length l_e: the sum of F_e l_e round any closed path is zero, to rounding, for any
    weights, so that nothing that moves along the edges gains energy in a loop, as it must not in elastic bodies, molecules
    and steady potential flow. Never right for what turns or dissipates. Adding a constant to phi changes nothing.

    `forces` gives F_e. As a step it lets amounts flow down them,

        u_i <- u_i + (1 / V_i) sum over edges from i to j of k (phi_j - phi_i) / l_e,

    with k the coefficient times the mean volume of a node over the mean length of an edge, by `exchange`: the volume-weighted
    sum of each channel is kept to rounding as well. In a study set residual: false.

    Args:
        f: map (B, C, N) -> (B, C, N), phi; such as a MeshGraphNet with as many channels out as in.
        mesh: gives edges, lengths and volumes.
        coefficient: of the step.

    Raises:
        TypeError: the domain is no mesh.
        ValueError: an edge has no length, or states do not fit.
    """

    whole = True
    edges: Tensor

    def __init__(self, f: Map, mesh: Mesh, coefficient: float = 1.0) -> None:
        super().__init__()
        if not isinstance(mesh, Mesh):
            raise TypeError(
                f"EdgePotential got a {type(mesh).__name__}; expected a Mesh. On a grid take PotentialForce."
            )
        gap = mesh.points[mesh.edges[1]] - mesh.points[mesh.edges[0]]
        lengths = torch.linalg.vector_norm(gap, dim=1)
        if not bool((lengths > 0).all()):
            where = [tuple(mesh.edges[:, e].tolist()) for e in (lengths <= 0).nonzero().flatten()[:5]]
            raise ValueError(f"EdgePotential got edges without length between nodes {where}.")
        volumes = mesh.weights()
        empty = (volumes <= 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"EdgePotential got {len(empty)} nodes without volume, such as {empty[:5]}, which belong to no cell; remove "
                "them from the mesh."
            )
        self.f, self.mesh = f, mesh
        self.register_buffer("edges", mesh.edges, persistent=False)
        unit = float(coefficient * volumes.mean() / lengths.mean())
        self.constants = Constants({"lengths": lengths, "share": unit / volumes})

    def forces(self, u: Tensor) -> Tensor:
        """F_e of each edge, positive where phi rises along it, (B, C, N) -> (B, C, E) in float64 [phi / length]."""
        phi = self.f(u)
        if phi.ndim != 3 or phi.shape[2] != self.mesh.shape[0]:
            raise ValueError(
                f"EdgePotential got potentials of shape {tuple(phi.shape)} from its network; expected (B, C, "
                f"{self.mesh.shape[0]}), one for each node."
            )
        phi = phi.to(torch.float64)
        return (phi[:, :, self.edges[1]] - phi[:, :, self.edges[0]]) / self.constants.get("lengths", phi)

    def forward(self, u: Tensor) -> Tensor:
        u = at_least_single(u)
        gained = exchange(-self.forces(u), self.edges, self.mesh.shape[0])
        if gained.shape != u.shape:
            raise ValueError(
                f"EdgePotential got potentials of {gained.shape[1]} channels for a state of shape {tuple(u.shape)}; "
                "expected as many as it has."
            )
        return (u.to(torch.float64) + gained * self.constants.get("share", gained)).to(u.dtype)


def loop_sums(values: Tensor, mesh: Mesh, loop: Sequence[int]) -> Tensor:
    """Sum of F_e l_e along a closed path of nodes, each edge counted against its direction where the path is,
    (B, C, E) -> (B, C) [F times length].

    Zero for differences of a potential; for any other forces what one round gains. The corners of a cell
    are such a path.

    Args:
        values: F_e of the edges of the mesh.
        mesh: gives edges and lengths.
        loop: node numbers; the last is joined to the first.

    Raises:
        ValueError: there are fewer than three nodes, or two that follow each other share no edge.
    """
    path = [int(n) for n in loop]
    number = {tuple(pair): e for e, pair in enumerate(mesh.edges.T.tolist())}
    total = torch.zeros_like(values[:, :, 0])
    if len(path) < 3:
        raise ValueError(f"loop_sums got the path {path}; expected three nodes or more.")
    for a, b in zip(path, [*path[1:], path[0]], strict=True):
        e, sign = number.get((a, b)), 1.0
        if e is None:
            e, sign = number.get((b, a)), -1.0
        if e is None:
            raise ValueError(f"loop_sums got a path from node {a} to node {b}, which share no edge.")
        length = torch.linalg.vector_norm(mesh.points[b] - mesh.points[a]).to(values)
        total = total + sign * length * values[:, :, e]
    return total
