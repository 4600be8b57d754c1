"""A step that only moves amounts along the edges of a graph: conservation by construction on meshes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.calculus.constants import Constants
from sciml.constraints.base import at_least_single
from sciml.domains import Mesh
from sciml.models.channel_statistics import ChannelStatistics
from sciml.models.wrappers import Map


def exchange(messages: Tensor, edges: Tensor, nodes: int) -> Tensor:
    """What each node gains where every edge takes from its first node what it brings to its second.

    The sum over all nodes is zero to rounding. One number per undirected edge serves both ends; two directed
    messages that ought to be opposite are so only until they are rounded. Sums are taken in float64, whatever comes
    in. Edges may differ from call to call, as those between particles do.

    Args:
        messages: (B, C, E), what edge e carries from edges[0, e] to edges[1, e].
        edges: node numbers (2, E), each undirected edge once.
        nodes: how many there are, N.

    Returns:
        (B, C, N) in float64.
    """
    exact = messages.to(torch.float64)
    gained = exact.new_zeros(*messages.shape[:2], nodes)
    return gained.index_add(2, edges[1], exact).index_add(2, edges[0], -exact)


def _lengths(mesh: Mesh) -> Tensor:
    """Lengths of the edges (E, 1)."""
    gap = mesh.points[mesh.edges[1]] - mesh.points[mesh.edges[0]]
    return torch.linalg.vector_norm(gap, dim=1, keepdim=True)


class EdgeFluxes(nn.Module):
    """u plus what arrives along the edges of a mesh, for messages that are antisymmetric by construction.

        u_i <- u_i + (1 / V_i) (inflow_i + sum over edges of m_ji),    m_ij = -m_ji

    with V the volumes of the nodes (lumped P1 masses), so that sum_i V_i u_i changes by the inflow alone, for any
    weights. The network f gives features z of the nodes; a small network phi makes of them one number per channel and
    undirected edge,

        m_ij = (phi(z_i, z_j, x_j - x_i, |x_j - x_i|) - phi(z_j, z_i, x_i - x_j, |x_i - x_j|)) / 2,

    which changes its sign, and nothing else, with the order of the two ends: the step commutes with renumbering the
    nodes. That number, times the mean volume of a node, leaves one end and arrives at the other (`exchange`), summed in
    float64. Lengths enter divided by the mean length of an edge. The state is rounded once; states in half precision
    come back in single precision.

    As for `FluxForm`, the network sees (u - mean) / std and messages are multiplied by std: `residual: false` and
    `normalized: false` in a study.

    Args:
        f: map (B, C, N) -> (B, features, N), such as a MeshGraphNet with as many out_channels.
        mesh: gives edges and volumes.
        in_channels: C.
        features: per node, C where left out.
        width: of the hidden layers of phi.
        hidden_layers: of phi, at least 1.
        inflow: what each node gains in one application, (C, N), (N,), or None for a closed system
            [unit of u * length^D].
        mean, std: statistics of the channels (C,), none or both [unit of u].

    Raises:
        TypeError: the domain is no mesh.
        ValueError: a size is not positive, a node has no volume (the message names it), or shapes do not fit.

    `on` gives the same step on another mesh.

    Horie and Mitsume, Graph neural PDE solvers with conservation and similarity-equivariance (ICML 2024), build finite
    volumes of networks in this way.
    """

    physical = True
    edges: Tensor

    def __init__(
        self,
        f: Map,
        mesh: Mesh,
        in_channels: int,
        features: int | None = None,
        width: int = 64,
        hidden_layers: int = 1,
        inflow: Tensor | Sequence[float] | None = None,
        mean: Tensor | Sequence[float] | float | None = None,
        std: Tensor | Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(mesh, Mesh):
            raise TypeError(
                f"EdgeFluxes got a {type(mesh).__name__}; expected a Mesh. On a grid take FluxForm."
            )
        if min(in_channels, features or in_channels, width, hidden_layers) < 1:
            raise ValueError(
                f"EdgeFluxes got in_channels={in_channels}, features={features}, width={width}, "
                f"hidden_layers={hidden_layers}; expected at least 1 of each."
            )
        self.f, self.mesh = f, mesh
        self.in_channels, self.features = in_channels, features or in_channels
        # What a length and an amount are measured by stays with the step when it goes to another mesh.
        self.unit, self.volume = float(_lengths(mesh).mean()), float(mesh.weights().mean())
        self.statistics = ChannelStatistics("EdgeFluxes", mean, std, 1)
        self.driven = inflow is not None
        self.geometry = self._geometry(mesh, inflow)
        self.register_buffer("edges", mesh.edges, persistent=False)
        # The first layer of phi is linear: its parts for the two ends are computed per node, not per edge.
        self.of_first = nn.Linear(self.features, width)
        self.of_second = nn.Linear(self.features, width, bias=False)
        self.of_edge = nn.Linear(mesh.dimension + 1, width, bias=False)
        rest: list[nn.Module] = [nn.GELU()]
        for _ in range(hidden_layers - 1):
            rest += [nn.Linear(width, width), nn.GELU()]
        # A bias of the last layer would cancel in the difference.
        self.rest = nn.Sequential(*rest, nn.Linear(width, in_channels, bias=False))

    def _geometry(self, mesh: Mesh, inflow: Tensor | Sequence[float] | None) -> Constants:
        volumes = mesh.weights()
        empty = (volumes <= 0).nonzero().flatten().tolist()
        if empty:
            raise ValueError(
                f"EdgeFluxes got {len(empty)} nodes without volume, such as {empty[:5]}, which belong to no cell; remove "
                "them from the mesh."
            )
        gap, length = mesh.points[mesh.edges[1]] - mesh.points[mesh.edges[0]], _lengths(mesh)
        values = {
            "share": self.volume / volumes,
            "along": torch.cat([gap, length], dim=1) / self.unit,
            "back": torch.cat([-gap, length], dim=1) / self.unit,
        }
        if inflow is not None:
            given = torch.as_tensor(inflow, dtype=torch.float64).detach().clone()
            if given.shape not in ((mesh.shape[0],), (self.in_channels, mesh.shape[0])):
                raise ValueError(
                    f"EdgeFluxes got inflow of shape {tuple(given.shape)}; expected ({mesh.shape[0]},) or "
                    f"({self.in_channels}, {mesh.shape[0]})."
                )
            values["inflow"] = given / volumes
        return Constants(values)

    def on(self, mesh: Mesh, inflow: Tensor | Sequence[float] | None = None) -> EdgeFluxes:
        """The same step, sharing its parameters and the units of lengths and amounts, on another mesh.

        Args:
            mesh: of the same dimension; its parts may be meshes of their own.
            inflow: on its nodes, for a step that has one.

        Raises:
            ValueError: the mesh has another dimension, or a step with inflow gets none for these nodes.
        """
        if mesh.dimension != self.mesh.dimension or (inflow is None) == self.driven:
            raise ValueError(
                f"EdgeFluxes was built in {self.mesh.dimension}D with{'' if self.driven else 'out'} inflow, and got a mesh "
                f"in {mesh.dimension}D with{'out' if inflow is None else ''} inflow; expected the same of both."
            )
        other = copy.copy(self)  # modules and parameters shared
        other._buffers, other._modules = dict(self._buffers), dict(self._modules)
        other.mesh = mesh
        other.edges = mesh.edges.to(self.edges.device)
        other.geometry = self._geometry(mesh, inflow).to(self.edges.device)
        moved = getattr(self.f, "on", None)
        other.f = self.f if moved is None else moved(mesh)
        return other

    def messages(self, u: Tensor) -> Tensor:
        """Change that each edge brings to a node of mean volume at its second end, (B, C, N) -> (B, C, E)
        [unit of u]."""
        if u.shape[1:] != (self.in_channels, *self.mesh.shape):
            raise ValueError(
                f"EdgeFluxes got a state of shape {tuple(u.shape)}; expected (B, {self.in_channels}, "
                f"{self.mesh.shape[0]})."
            )
        z = self.f(self.statistics.normalised(u))
        if z.shape != (len(u), self.features, *self.mesh.shape):
            raise ValueError(
                f"EdgeFluxes got features of shape {tuple(z.shape)} from its network; expected "
                f"{(len(u), self.features, *self.mesh.shape)}: set out_channels there and features here alike."
            )
        z = z.movedim(1, 2).to(self.of_first.weight.dtype)
        first, second = self.of_first(z), self.of_second(z)
        weight = self.of_edge.weight
        a, b = self.edges[0], self.edges[1]
        there = first[:, a] + second[:, b] + self.of_edge(self.geometry.get("along", weight))
        return_ = first[:, b] + second[:, a] + self.of_edge(self.geometry.get("back", weight))
        messages = (0.5 * (self.rest(there) - self.rest(return_))).movedim(2, 1)
        messages = messages.to(torch.float64)
        return messages * self.statistics.std(messages)

    def forward(self, u: Tensor) -> Tensor:
        u = at_least_single(u)
        gained = exchange(self.messages(u), self.edges, self.mesh.shape[0])
        new = u.to(torch.float64) + gained * self.geometry.get("share", gained)
        if self.driven:
            new = new + self.geometry.get("inflow", new)
        return new.to(u.dtype)
