"""The language and the mathematics of steps: domains, equations, steps and trajectories.

Names are imported when they are first used, so that the command line can answer without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciml.domains import Cloud, Domain, Grid, Mesh, NodeType, Point
    from sciml.step import FunctionStep, Step, iterate, persistence, repeat, rollout, with_dtype
    from sciml.trajectory import Field, Trajectory, channel_names, first_non_finite

__version__ = "0.1.0"

_HOMES = {
    **dict.fromkeys(("Cloud", "Domain", "Grid", "Mesh", "NodeType", "Point"), "sciml.domains"),
    **dict.fromkeys(
        ("FunctionStep", "Step", "iterate", "persistence", "repeat", "rollout", "with_dtype"), "sciml.step"
    ),
    **dict.fromkeys(("Field", "Trajectory", "channel_names", "first_non_finite"), "sciml.trajectory"),
}

__all__ = [
    "Cloud",
    "Domain",
    "Field",
    "FunctionStep",
    "Grid",
    "Mesh",
    "NodeType",
    "Point",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
