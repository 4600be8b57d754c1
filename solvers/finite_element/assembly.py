"""Mass, stiffness and advection matrices of linear elements, assembled with scikit-fem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from sciml.calculus.p1 import hat_gradients
from sciml.domains import Mesh
from sciml.extras import require

Stabilisation = Literal["supg", "none"]


def skfem_basis(mesh: Mesh, *, order: int = 1, vector: bool = False, quadrature: int | None = None) -> Any:
    """A scikit-fem cell basis on the mesh: P1 or P2, scalar or with D components.

    Raises:
        ModuleNotFoundError: scikit-fem is missing; the message names the extra.
        ValueError: the mesh has nodes that belong to no cell.
    """
    skfem = require("skfem", extra="fem", purpose="The finite element solver")
    used = torch.unique(mesh.cells)
    if len(used) != mesh.shape[0]:
        raise ValueError(
            f"The finite element solver got a mesh of {mesh.shape[0]} nodes of which only {len(used)} "
            "belong to a cell; remove the others."
        )
    points = np.ascontiguousarray(mesh.points.numpy().T)
    cells = np.ascontiguousarray(mesh.cells.numpy().T)
    if mesh.dimension == 2:
        # Cells keep their order and are not sorted by node number, so that per-cell arrays of `mesh`
        # can be used in forms.
        native = skfem.MeshTri(points, cells, sort_t=False)
        element = skfem.ElementTriP1() if order == 1 else skfem.ElementTriP2()
    else:
        native = skfem.MeshTet(points, cells, sort_t=False)
        element = skfem.ElementTetP1() if order == 1 else skfem.ElementTetP2()
    if vector:
        element = skfem.ElementVector(element)
    return skfem.Basis(native, element, intorder=quadrature)


@dataclass(frozen=True)
class Matrices:
    """The semi-discrete equation mass u' + rate u = 0 on the nodes, before boundary values.

    Args:
        mass: (N, N) [length^D]; with streamline stabilisation it has the test functions' tilt in it.
        rate: (N, N) [length^D / time].
        peclet: largest cell Peclet number |b| h / (2 kappa), with h the length of the cell along the
            velocity; 0 without advection and infinite without diffusion.
    """

    mass: sparse.csc_matrix
    rate: sparse.csc_matrix
    peclet: float


def _streamline(mesh: Mesh, velocity: Tensor, diffusivity: float) -> tuple[np.ndarray, float]:
    """SUPG time scale tau of each cell (M,) [time], and the largest cell Peclet number.

    tau = h/(2|b|) (coth Pe - 1/Pe), which makes 1D stationary advection-diffusion exact at the nodes;
    h = 2|b| / sum_a |b . grad hat_a| is the cell's length along the velocity (Tezduyar and Park 1986).
    """
    mean = velocity.T[mesh.cells].mean(dim=1)  # (M, D)
    speed = torch.linalg.vector_norm(mean, dim=1)
    rate = torch.einsum("mad,md->ma", hat_gradients(mesh), mean).abs().sum(dim=1)  # 2|b|/h
    moving = rate > 0
    safe = torch.where(moving, rate, 1.0)
    length = 2 * speed / safe
    if diffusivity == 0:
        return torch.where(moving, 1 / safe, 0.0).numpy(), float("inf") if bool(moving.any()) else 0.0
    peclet = speed * length / (2 * diffusivity)
    # coth x - 1/x loses all digits to cancellation near 0, where x/3 - x^3/45 is exact to rounding.
    small = peclet < 1e-2
    x = torch.where(small, 1.0, peclet)
    upwind = torch.where(small, peclet / 3 - peclet**3 / 45, 1 / torch.tanh(x) - 1 / x)
    return torch.where(moving, upwind / safe, 0.0).numpy(), float(peclet.max())


def assemble(
    mesh: Mesh,
    diffusivity: float,
    velocity: Tensor | None = None,
    *,
    lumped: bool = False,
    stabilisation: Stabilisation = "supg",
) -> Matrices:
    """Matrices of u_t + b . grad u = kappa lap(u) on P1 elements, natural boundary kappa du/dn = 0.

    The advective form keeps constant states exactly. Without advection the columns of `rate` sum to
    zero, so that the total 1' M u is kept exactly; with it the total changes by the flux through the
    boundary and by u div b, where the interpolated velocity has a divergence.

    Args:
        mesh: triangles or tetrahedra.
        diffusivity: kappa [length^2/time].
        velocity: b at the nodes (D, N) [length/time], interpolated linearly; None for the heat equation.
        lumped: replace the mass matrix by its row sums; of the same order, needed for a maximum
            principle, less accurate in the phase of advection. Only without SUPG terms.
        stabilisation: "supg" tilts all test functions by tau b . grad v, on the time derivative too
            (Brooks and Hughes 1982), so that the scheme stays consistent and, where the layers are
            resolved, of second order; "none" is Galerkin's method, for small cell Peclet numbers.
    """
    skfem = require("skfem", extra="fem", purpose="The finite element solver")
    helpers = require("skfem.helpers", extra="fem", purpose="The finite element solver")
    dot, grad = helpers.dot, helpers.grad
    basis = skfem_basis(mesh, quadrature=4 if velocity is not None else 2)

    mass_form = skfem.BilinearForm(lambda u, v, w: u * v)
    stiffness_form = skfem.BilinearForm(lambda u, v, w: dot(grad(u), grad(v)))
    mass = mass_form.assemble(basis)
    rate = diffusivity * stiffness_form.assemble(basis)
    peclet = 0.0
    if velocity is not None:
        tau, peclet = _streamline(mesh, velocity, diffusivity)
        nodal = velocity.numpy()
        b = np.stack([np.asarray(basis.interpolate(component)) for component in nodal])
        advection = skfem.BilinearForm(lambda u, v, w: dot(w["b"], grad(u)) * v)
        rate = rate + advection.assemble(basis, b=b)
        if stabilisation == "supg":
            if lumped:
                raise ValueError(
                    "assemble got lumped=True with SUPG advection, whose mass matrix has no row-sum form; "
                    "take lumped=False, or stabilisation='none' on a mesh of small cell Peclet number."
                )
            tilt = {"b": b, "tau": np.broadcast_to(tau[:, None], b.shape[1:])}
            supg_mass = skfem.BilinearForm(lambda u, v, w: w["tau"] * dot(w["b"], grad(v)) * u)
            supg_rate = skfem.BilinearForm(
                lambda u, v, w: w["tau"] * dot(w["b"], grad(v)) * dot(w["b"], grad(u))
            )
            mass = mass + supg_mass.assemble(basis, **tilt)
            rate = rate + supg_rate.assemble(basis, **tilt)
    if lumped:
        mass = sparse.diags(np.asarray(mass.sum(axis=1)).ravel())
    return Matrices(sparse.csc_matrix(mass), sparse.csc_matrix(rate), peclet)
