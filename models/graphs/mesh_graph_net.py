"""Encode, process, decode on the graph of a mesh."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciml.domains import Mesh
from sciml.extras import require

MessagePassing: Any = require("torch_geometric.nn", extra="graph", purpose="MeshGraphNet").MessagePassing

NODE_TYPES = 9
"""Width of the one-hot code of node types in Pfaff et al. (2021); `NodeType` uses seven of them."""


class MLP(nn.Sequential):
    """Linear maps with ReLU between them, `hidden_layers` + 1 of them, and a LayerNorm unless refused."""

    def __init__(
        self, inputs: int, width: int, outputs: int, hidden_layers: int, normalised: bool = True
    ) -> None:
        sizes = [inputs, *[width] * hidden_layers, outputs]
        parts: list[nn.Module] = []
        for a, b in zip(sizes[:-1], sizes[1:], strict=True):
            parts += [nn.Linear(a, b), nn.ReLU(inplace=True)]
        parts[-1:] = [nn.LayerNorm(outputs)] if normalised else []
        super().__init__(*parts)

    def first(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the first linear map."""
        linear = self[0]
        assert isinstance(linear, nn.Linear)  # built above
        return linear.weight, linear.bias

    def rest(self, x: Tensor) -> Tensor:
        """Everything after the first linear map."""
        for part in list(self)[1:]:
            x = part(x)
        return x


class Block(MessagePassing):
    """One round of messages: edges from their ends, nodes from the sum of their incoming edges.

    e' = MLP_E(v_sender, v_receiver, e), v' = MLP_V(v, sum of e' into v), then v + v' and e + e'. The sum
    is over the new edges before their residual is added.

    The first layer of MLP_E is linear, so its parts for the two ends are computed once per node and not
    once per edge, which saves two fifths of the work; the weights are those of the unsplit layer.
    """

    def __init__(self, width: int, hidden_layers: int) -> None:
        # Nodes come first, (N, B, width), so that gathering and summing move whole rows.
        super().__init__(aggr="sum", node_dim=0)
        self.edge_mlp = MLP(3 * width, width, width, hidden_layers)
        self.node_mlp = MLP(2 * width, width, width, hidden_layers)

    def forward(self, v: Tensor, e: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        weight, bias = self.edge_mlp.first()
        of_sender, of_receiver, of_edge = weight.chunk(3, dim=1)
        new = self.edge_updater(
            edge_index,
            sender=functional.linear(v, of_sender),
            receiver=functional.linear(v, of_receiver),
            edge=functional.linear(e, of_edge, bias),
        )
        total = self.propagate(edge_index, new=new, size=(v.shape[0], v.shape[0]))
        return v + self.node_mlp(torch.cat([v, total], dim=-1)), e + new

    def edge_update(self, sender_j: Tensor, receiver_i: Tensor, edge: Tensor) -> Tensor:
        return self.edge_mlp.rest(sender_j + receiver_i + edge)

    def message(self, new: Tensor) -> Tensor:
        return new

    def aggregate(
        self, inputs: Tensor, index: Tensor, ptr: Tensor | None = None, dim_size: int | None = None
    ) -> Tensor:
        # index_add on edges sorted by receiver runs at the speed of a copy; its gradient is a gather.
        assert dim_size is not None  # `size` is given to propagate
        return inputs.new_zeros(dim_size, *inputs.shape[1:]).index_add(0, index, inputs)


def directed_edges(mesh: Mesh) -> Tensor:
    """Both directions of every mesh edge as (sender, receiver), (2, E), sorted by receiver."""
    both = torch.cat([mesh.edges, mesh.edges.flip(0)], dim=1)
    return both[:, torch.argsort(both[1] * mesh.shape[0] + both[0])].contiguous()


def edge_features(mesh: Mesh, edges: Tensor) -> Tensor:
    """Displacement from receiver to sender and its norm, (E, D + 1) float64 [length]."""
    gap = mesh.points[edges[0]] - mesh.points[edges[1]]  # in float64: close nodes lose no digits
    return torch.cat([gap, torch.linalg.vector_norm(gap, dim=1, keepdim=True)], dim=1)


class MeshGraphNet(nn.Module):
    """A graph network on the nodes and edges of a mesh, (B, in_channels, N) -> (B, out_channels, N).

    Node features are the state and the node's type (one-hot, 9), edge features the displacement of the
    two ends and its length, scaled by the statistics of the mesh it was built on; positions themselves
    do not enter, so that the map is invariant under translation, and it commutes with renumbering the
    nodes. Each of `layers` blocks has its own weights and reaches one edge further; what has to travel
    further than `layers` edges in one step cannot be represented. With 2 channels in and out and the
    defaults there are 2,332,930 parameters.

    All states of a batch live on the one mesh and are computed together as (N, B, width), which equals
    the disjoint union of B graphs. `on` gives the same network on another mesh.

    Pfaff, Fortunato, Sanchez-Gonzalez and Battaglia, Learning Mesh-Based Simulation with Graph Networks
    (ICLR 2021), section 3 and appendix A.

    Args:
        mesh: gives edges, displacements and node types.
        in_channels, out_channels: channels C of the state, and of the answer.
        width: of all latent vectors.
        layers: number of message passing blocks.
        hidden_layers: hidden layers of each of the small networks.

    Raises:
        ValueError: a size is not positive, or a node type is not below 9.
        ModuleNotFoundError: torch-geometric is missing (on import); the message names the extra.
    """

    edges: Tensor
    features: Tensor
    types: Tensor
    edge_mean: Tensor
    edge_std: Tensor

    def __init__(
        self,
        mesh: Mesh,
        in_channels: int,
        out_channels: int,
        *,
        width: int = 128,
        layers: int = 15,
        hidden_layers: int = 2,
    ) -> None:
        super().__init__()
        sizes = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "width": width,
            "layers": layers,
            "hidden_layers": hidden_layers,
        }
        wrong = {name: size for name, size in sizes.items() if size < 1}
        if wrong:
            raise ValueError(f"MeshGraphNet got {wrong}; expected positive numbers.")
        self.mesh = mesh
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.width = width
        self.layers = layers
        self.hidden_layers = hidden_layers
        raw = edge_features(mesh, directed_edges(mesh))
        # Both directions of each edge are there, so displacements have mean zero; one scale for all axes
        # keeps the geometry undistorted.
        scale = raw[:, :-1].square().mean().sqrt().expand(mesh.dimension)
        # Edges of one length, as on a regular mesh, have no spread; then the mean length is the scale.
        spread = raw[:, -1].std(correction=0)
        spread = torch.where(spread > 1e-6 * raw[:, -1].mean(), spread, raw[:, -1].mean())
        mean = torch.zeros(mesh.dimension + 1, dtype=torch.float64)
        mean[-1] = raw[:, -1].mean()
        # Part of a checkpoint: on another mesh the network must see lengths in the units it has learned.
        self.register_buffer("edge_mean", mean)
        self.register_buffer("edge_std", torch.cat([scale, spread.reshape(1)]))
        for name, buffer in self._graph(mesh).items():
            self.register_buffer(name, buffer, persistent=False)
        self.node_encoder = MLP(in_channels + NODE_TYPES, width, width, hidden_layers)
        self.edge_encoder = MLP(mesh.dimension + 1, width, width, hidden_layers)
        self.blocks = nn.ModuleList(Block(width, hidden_layers) for _ in range(layers))
        self.decoder = MLP(width, width, out_channels, hidden_layers, normalised=False)

    @staticmethod
    def _graph(mesh: Mesh) -> dict[str, Tensor]:
        if int(mesh.types.min()) < 0 or int(mesh.types.max()) >= NODE_TYPES:
            raise ValueError(
                f"MeshGraphNet got node types from {int(mesh.types.min())} to {int(mesh.types.max())}; "
                f"expected 0 to {NODE_TYPES - 1}."
            )
        edges = directed_edges(mesh)
        return {"edges": edges, "features": edge_features(mesh, edges), "types": mesh.types}

    def on(self, mesh: Mesh) -> MeshGraphNet:
        """The same network, sharing its parameters and scales, on another mesh of the same dimension.

        Raises:
            ValueError: the mesh has another dimension.
        """
        if mesh.dimension != self.mesh.dimension:
            raise ValueError(
                f"MeshGraphNet was built in {self.mesh.dimension}D and got a mesh in {mesh.dimension}D."
            )
        other = copy.copy(self)  # modules and parameters shared
        other._buffers = dict(self._buffers)
        for name, buffer in self._graph(mesh).items():
            other._buffers[name] = buffer.to(self.edges.device)
        other.mesh = mesh
        return other

    def forward(self, u: Tensor) -> Tensor:
        """(B, in_channels, N) -> (B, out_channels, N)."""
        if u.ndim != 3 or u.shape[1] != self.in_channels or u.shape[2] != self.types.shape[0]:
            raise ValueError(
                f"MeshGraphNet got a state of shape {tuple(u.shape)}; expected (B, {self.in_channels}, "
                f"{self.types.shape[0]})."
            )
        dtype = self.decoder.first()[0].dtype
        types = functional.one_hot(self.types, NODE_TYPES).to(u.dtype).unsqueeze(1)
        nodes = torch.cat([u.permute(2, 0, 1), types.expand(-1, u.shape[0], -1)], dim=-1)
        v = self.node_encoder(nodes)
        # The mesh is the same for the whole batch, and so are its edges before the first block.
        e = self.edge_encoder(((self.features - self.edge_mean) / self.edge_std).to(dtype).unsqueeze(1))
        for block in self.blocks:
            v, e = block(v, e, self.edges)
        return self.decoder(v).permute(1, 2, 0)
