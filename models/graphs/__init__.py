"""Networks on the graphs of meshes; importing this needs torch-geometric (extra `graph`)."""

from sciml.models.graphs.mesh_graph_net import MeshGraphNet

__all__ = ["MeshGraphNet"]
