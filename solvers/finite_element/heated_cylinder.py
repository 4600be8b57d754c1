"""Temperature carried past a heated cylinder: the standard problem on an unstructured mesh."""

from __future__ import annotations

import math

from sciml.domains import Mesh
from sciml.pdes import AdvectionDiffusion
from sciml.solvers.finite_element.meshing import channel_inflow, channel_with_cylinder
from sciml.solvers.finite_element.stokes import stokes_flow


def heated_cylinder(mesh: Mesh | None = None, *, peclet: float = 100.0) -> tuple[AdvectionDiffusion, Mesh]:
    """Temperature advected and diffused past a warm obstacle in a channel, and the mesh it lives on.

    The velocity is the Stokes flow with a parabolic inflow of mean 1 between walls that do not slip,
    held at the nodes; units are the channel's height H and H over the mean velocity. Hold INFLOW and
    OBSTACLE nodes (the default of `p1_step`); walls are insulated and the outflow is free.

    Args:
        mesh: a channel along x with its sides marked by node types; `channel_with_cylinder()` if left out.
        peclet: H * mean velocity / diffusivity.

    Raises:
        ValueError: the Peclet number is not positive; the mesh has no INFLOW or OUTFLOW nodes.
        ModuleNotFoundError: scikit-fem is missing; the message names the extra.
    """
    if not (math.isfinite(peclet) and peclet > 0):
        raise ValueError(f"heated_cylinder got peclet={peclet}; expected a positive number.")
    mesh = channel_with_cylinder() if mesh is None else mesh
    height = float(mesh.points[:, 1].max())
    velocity = stokes_flow(mesh, channel_inflow(height))
    return AdvectionDiffusion(velocity=velocity.unsqueeze(0), diffusivity=height / peclet), mesh
