"""Slow incompressible flow past obstacles, to carry something with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from sciml.domains import Mesh, NodeType
from sciml.extras import require
from sciml.solvers.finite_element.assembly import skfem_basis


def stokes_flow(mesh: Mesh, inflow: Callable[[Tensor], Tensor]) -> Tensor:
    """Velocity of the Stokes flow -lap(v) + grad p = 0, div v = 0 at the nodes, (D, N) [as `inflow`].

    Taylor-Hood elements, P2 for the velocity and P1 for the pressure. The boundary is read from the
    node types: facets between INFLOW nodes have the given velocity, facets with an OUTFLOW node are
    free (dv/dn = p n), all others do not slip. Third order in the velocity for a smooth region;
    viscosity does not matter, because it only scales the pressure. Its divergence vanishes against
    every P1 function; that of its P1 interpolant, which the nodal values define, only approximately.

    Ern and Guermond, Theory and Practice of Finite Elements (2004), section 4.2.

    Args:
        mesh: triangles or tetrahedra with INFLOW and OUTFLOW nodes.
        inflow: velocity at points, (D, K) -> (D, K).

    Raises:
        ValueError: there are no INFLOW or no OUTFLOW nodes, or `inflow` returns another shape.
        ModuleNotFoundError: scikit-fem is missing; the message names the extra.
    """
    helpers = require("skfem.helpers", extra="fem", purpose="The Stokes solver")
    skfem = require("skfem", extra="fem", purpose="The Stokes solver")
    for kind in (NodeType.INFLOW, NodeType.OUTFLOW):
        if not bool((mesh.types == int(kind)).any()):
            raise ValueError(f"stokes_flow got a mesh without {kind.name} nodes; mark them in node_type.")
    velocity = skfem_basis(mesh, order=2, vector=True, quadrature=4)
    pressure = velocity.with_element(skfem.ElementTriP1() if mesh.dimension == 2 else skfem.ElementTetP1())
    viscous = skfem.BilinearForm(lambda u, v, w: helpers.ddot(helpers.grad(u), helpers.grad(v)))
    divergence = skfem.BilinearForm(lambda u, q, w: -helpers.div(u) * q)
    a = viscous.assemble(velocity)
    b = divergence.assemble(velocity, pressure)
    system = sparse.bmat([[a, b.T], [b, None]], format="csr")

    native = velocity.mesh
    facets = native.boundary_facets()
    types = mesh.types.numpy()[native.facets[:, facets]]  # (D, F)
    given = facets[(types == int(NodeType.INFLOW)).all(axis=0)]
    fixed = facets[~(types == int(NodeType.OUTFLOW)).any(axis=0)]
    rigid = np.setdiff1d(fixed, given)
    solution = np.zeros(system.shape[0])
    inlet = velocity.get_dofs(given).all()
    places = torch.from_numpy(np.ascontiguousarray(velocity.doflocs[:, inlet]))
    profile = inflow(places)
    if profile.shape != places.shape:
        raise ValueError(
            f"stokes_flow: inflow returned {tuple(profile.shape)} for points of shape {tuple(places.shape)}."
        )
    # A degree of freedom of the vector element is one component at one place.
    component = np.zeros(velocity.N, dtype=int)
    for axis in range(mesh.dimension):
        component[velocity.split_indices()[axis]] = axis
    solution[inlet] = profile.numpy()[component[inlet], np.arange(len(inlet))]
    walls = velocity.get_dofs(rigid).all()
    solution[walls] = 0.0
    held = np.union1d(inlet, walls)
    free = np.setdiff1d(np.arange(system.shape[0]), held)
    rows = system[free]
    solution[free] = splu(sparse.csc_matrix(rows[:, free])).solve(-(rows @ solution))
    return torch.from_numpy(solution[velocity.nodal_dofs])
