"""The language and the mathematics of steps: domains, equations, steps and trajectories."""

from sciml.domains import Cloud, Domain, Grid, Mesh, NodeType
from sciml.step import FunctionStep, Step, iterate, persistence, repeat, rollout, with_dtype
from sciml.trajectory import Field, Trajectory, channel_names, first_non_finite

__version__ = "0.1.0"

__all__ = [
    "Cloud",
    "Domain",
    "Field",
    "FunctionStep",
    "Grid",
    "Mesh",
    "NodeType",
    "Step",
    "Trajectory",
    "channel_names",
    "first_non_finite",
    "iterate",
    "persistence",
    "repeat",
    "rollout",
    "with_dtype",
]
