"""Implicit time steps of linear elements: heat and advection-diffusion on a mesh."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from sciml.domains import Domain, Mesh, NodeType
from sciml.pdes import Advection, AdvectionDiffusion, Heat
from sciml.pdes.base import PDE
from sciml.pdes.parameters import Parameter, Velocity
from sciml.solvers.finite_element.assembly import Matrices, Stabilisation, assemble

Scheme = Literal["sdirk2", "crank-nicolson", "backward-euler"]

# Each scheme applied to M u' = -A u is a polynomial in Q = (M + g dt A)^-1 A with u+ = u - dt Q (u - c dt Q u):
# scheme -> (g, c). One factorisation serves all stages.
_GAMMA = 1 - math.sqrt(0.5)
_COEFFICIENTS: dict[str, tuple[float, float]] = {
    "sdirk2": (_GAMMA, _GAMMA * (1 - _GAMMA)),
    "crank-nicolson": (0.5, 0.0),
    "backward-euler": (1.0, 0.0),
}

# Galerkin's method on a 1D mesh gives a monotone boundary layer up to this |b| h / (2 kappa).
GALERKIN_PECLET = 1.0


class Propagator:
    """The linear map u -> u(t + dt) of M u' + A u = 0, with some nodes held, and its transpose.

    Factorised once per floating point type on first use. The held nodes have u' = 0, so that only the
    rows of the others are solved for.
    """

    def __init__(
        self, matrices: Matrices, held: np.ndarray, dt: float, substeps: int, scheme: Scheme
    ) -> None:
        self.free = np.flatnonzero(~held)
        self.matrices = matrices
        self.dt = dt / substeps
        self.substeps = substeps
        self.implicit, self.second = _COEFFICIENTS[scheme]
        self._factors: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A SuperLU object cannot be pickled; another process factorises again.
        return {**self.__dict__, "_factors": {}}

    def _factorised(self, dtype: np.dtype) -> tuple[Any, sparse.csr_matrix, sparse.csr_matrix]:
        if dtype.str not in self._factors:
            rate = self.matrices.rate.tocsr()[self.free]
            system = self.matrices.mass + self.implicit * self.dt * self.matrices.rate
            system = sparse.csc_matrix(system.tocsr()[self.free][:, self.free].astype(dtype))
            # Minimum degree on A + A' keeps the factors of these structurally symmetric matrices small.
            lu = splu(
                system,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.1,
                options={"SymmetricMode": True},
            )
            rate = rate.astype(dtype)
            self._factors[dtype.str] = (lu, rate, rate.T.tocsr())
        return self._factors[dtype.str]

    def _rate(self, u: np.ndarray, transposed: bool) -> np.ndarray:
        """Q u, or Q' u, for columns u (N, K)."""
        lu, rate, rate_transposed = self._factorised(u.dtype)
        if transposed:
            return rate_transposed @ lu.solve(np.asfortranarray(u[self.free]), trans="T")
        out = np.zeros_like(u)
        out[self.free] = lu.solve(np.asfortranarray(rate @ u))
        return out

    def __call__(self, u: np.ndarray, transposed: bool = False) -> np.ndarray:
        """The map, or its transpose, on columns u (N, K)."""
        if not len(self.free):
            return u.copy()
        for _ in range(self.substeps):
            # The held rows of Q are zero, so held nodes keep their values bit for bit.
            inner = u - self.second * self.dt * self._rate(u, transposed) if self.second else u
            u = u - self.dt * self._rate(inner, transposed)
        return u


class _Linear(torch.autograd.Function):
    """Propagators applied to u (B, C, N), with exact first and higher derivatives in both modes."""

    @staticmethod
    def forward(u: Tensor, propagators: tuple[Propagator, ...], transposed: bool) -> Tensor:
        flat = u.detach().cpu()
        if flat.dtype not in (torch.float32, torch.float64):
            flat = flat.float()
        count = len(propagators)
        groups = flat.reshape(count, -1, flat.shape[-1]).numpy()
        parts = [
            propagator(group.T, transposed).T for propagator, group in zip(propagators, groups, strict=True)
        ]
        out = torch.from_numpy(np.ascontiguousarray(np.concatenate(parts)))
        return out.reshape(u.shape).to(device=u.device, dtype=u.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.propagators, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Linear.apply(grads[0], ctx.propagators, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Linear.apply(tangents[0], ctx.propagators, ctx.transposed)

    @staticmethod
    def vmap(info: Any, in_dims: Any, u: Tensor, propagators: Any, transposed: bool) -> Any:
        # (B, V, C, N): the vmapped axis inside the batch axis, so that each sample keeps its propagator.
        moved = u.movedim(in_dims[0], 1)
        shape = moved.shape
        out = _Linear.apply(moved.reshape(shape[0], -1, shape[-1]), propagators, transposed)
        return out.reshape(shape), 1


class P1Step:
    """A finite element time step, (B, C, N) -> (B, C, N); made by `p1_step`.

    Attributes:
        dt, domain, channels: as of every Step.
        substeps: implicit steps inside one call.
        method: what it does, for people.
        dirichlet: nodes that hold their incoming value, (N,) bool.
        peclet: largest cell Peclet number.
    """

    def __init__(
        self,
        propagators: tuple[Propagator, ...],
        dt: float,
        domain: Mesh,
        channels: tuple[str, ...],
        substeps: int,
        method: str,
        dirichlet: Tensor,
        peclet: float,
    ) -> None:
        self.propagators = propagators
        self.dt = dt
        self.domain: Domain = domain
        self.channels = channels
        self.substeps = substeps
        self.method = method
        self.dirichlet = dirichlet
        self.peclet = peclet

    def __call__(self, u: Tensor, /) -> Tensor:
        if u.ndim != 3 or u.shape[-1:] != self.dirichlet.shape:
            raise ValueError(
                f"The finite element step got a state of shape {tuple(u.shape)}; expected "
                f"(B, C, {self.dirichlet.shape[0]})."
            )
        count = len(self.propagators)
        if count > 1 and u.shape[0] != count:
            raise ValueError(
                f"The finite element step was built for {count} samples with their own parameters and "
                f"got a batch of {u.shape[0]}."
            )
        if not u.numel():
            return u
        return _Linear.apply(u, self.propagators, False)


def nodal_velocities(velocity: Velocity, mesh: Mesh) -> Tensor:
    """The velocity at the nodes, (S, D, N) float64 [length/time]: one for all samples (S = 1) or one for each.

    Raises:
        ValueError: a shape that fits neither the axes nor the nodes.
    """
    dimension, count = mesh.dimension, mesh.shape[0]
    if isinstance(velocity, Tensor):
        b = velocity.detach().cpu().to(torch.float64)
        b = b.reshape(*b.shape, *[1] * (3 - b.ndim))
    else:
        values = (velocity,) * dimension if isinstance(velocity, (int, float)) else velocity
        b = torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)
    if b.ndim != 3 or b.shape[1] != dimension or b.shape[2] not in (1, count):
        raise ValueError(
            f"The finite element solver got a velocity of shape {tuple(b.shape)}; expected one component "
            f"per axis, (1 or B, {dimension}, 1 or {count}), on this mesh."
        )
    return b.expand(-1, -1, count).contiguous()


def _coefficients(pde: PDE) -> tuple[list[float], Velocity | None]:
    """Diffusivities, one for all samples or one for each, and the velocity or None."""
    diffusivity: Parameter = 0.0
    velocity: Velocity | None = None
    if isinstance(pde, Heat):
        diffusivity = pde.diffusivity
    elif isinstance(pde, AdvectionDiffusion):
        diffusivity, velocity = pde.diffusivity, pde.velocity
    elif isinstance(pde, Advection):
        velocity = pde.velocity
    else:
        raise TypeError(
            f"The finite element solver got {type(pde).__name__}; it solves Heat, Advection and "
            "AdvectionDiffusion on a Mesh."
        )
    if any(isinstance(value, Tensor) and value.requires_grad for value in (diffusivity, velocity)):
        raise ValueError(
            "The finite element step got a parameter that requires a gradient; it differentiates in the "
            "state only. For gradients in parameters integrate pde.rhs(u, P1(mesh)) explicitly."
        )
    return torch.as_tensor(diffusivity, dtype=torch.float64).flatten().tolist(), velocity


def held_nodes(mesh: Mesh, dirichlet: Sequence[NodeType] | Tensor) -> Tensor:
    """Nodes whose type is listed, or the mask itself, as (N,) bool.

    Raises:
        ValueError: a mask of another shape or type.
    """
    if isinstance(dirichlet, Tensor):
        if dirichlet.shape != mesh.shape or dirichlet.dtype != torch.bool:
            raise ValueError(
                f"dirichlet got a {dirichlet.dtype} mask of shape {tuple(dirichlet.shape)}; expected bool "
                f"of shape {mesh.shape}, or a sequence of NodeType."
            )
        return dirichlet.clone()
    wanted = torch.tensor([int(kind) for kind in dirichlet], dtype=torch.int64)
    return torch.isin(mesh.types, wanted)


def p1_step(
    pde: PDE,
    mesh: Mesh,
    dt: float,
    *,
    substeps: int = 1,
    dirichlet: Sequence[NodeType] | Tensor = (NodeType.INFLOW, NodeType.OBSTACLE),
    scheme: Scheme = "sdirk2",
    lumped: bool = False,
    stabilisation: Stabilisation = "supg",
) -> P1Step:
    """An implicit finite element Step for heat, advection or advection-diffusion on a mesh.

    Linear elements, assembled and factorised once, applied to whole batches. Second order in space; in
    time the two-stage, L-stable SDIRK scheme (Alexander 1977, SIAM J. Numer. Anal. 14, theorem 5) by
    default, of second order, which damps the jump between a held value and its surroundings that
    Crank-Nicolson would let ring. Unconditionally stable. The map is linear, and differentiable in the
    state to any order in both modes; its gradient solves the transposed system.

    What is kept: for the heat equation without held nodes the total sum_i weights_i u_i, to rounding;
    constant states always. A maximum principle holds for backward Euler with the lumped mass on a
    Delaunay mesh of triangles (non-obtuse ones or opposite angles summing to at most pi), and for no
    scheme of second order.

    Args:
        pde: `Heat`, `Advection` or `AdvectionDiffusion`; a diffusivity (B, 1, ...) gives each sample its
            own matrix, and the step then takes batches of B.
        mesh: triangles or tetrahedra.
        dt: time step of one call [time].
        substeps: implicit steps in it.
        dirichlet: nodes that hold their incoming values, by type or as a mask (N,). All other boundaries
            are natural: no diffusive flux, and what the velocity carries out leaves.
        scheme: "sdirk2", "crank-nicolson" or "backward-euler".
        lumped: lump the mass matrix (see `assemble`).
        stabilisation: "supg", or "none" for Galerkin's method, which is refused where the cell Peclet
            number |b| h/(2 kappa) passes 1 and its solutions would oscillate.

    Raises:
        ValueError: dt or substeps not positive, an unknown scheme, a velocity or mask that does not fit
            the mesh, a parameter that requires a gradient, Galerkin's method at a large Peclet number.
        TypeError: another equation.
        ModuleNotFoundError: scikit-fem is missing; the message names the extra.
    """
    if not (math.isfinite(dt) and dt > 0) or substeps < 1:
        raise ValueError(f"p1_step got dt={dt}, substeps={substeps}; expected dt > 0 and substeps >= 1.")
    if scheme not in _COEFFICIENTS:
        raise ValueError(f"p1_step got scheme {scheme!r}; expected one of {list(_COEFFICIENTS)}.")
    if stabilisation not in get_args(Stabilisation):
        raise ValueError(
            f"p1_step got stabilisation {stabilisation!r}; expected one of {list(get_args(Stabilisation))}."
        )
    held = held_nodes(mesh, dirichlet)
    diffusivities, velocity = _coefficients(pde)
    velocities = None if velocity is None else nodal_velocities(velocity, mesh)
    samples = max(len(diffusivities), 1 if velocities is None else len(velocities))
    fewer = min(len(diffusivities), samples if velocities is None else len(velocities))
    if fewer not in (1, samples):
        raise ValueError(
            f"p1_step got {fewer} values of one parameter and {samples} of another; give "
            "one for all samples, or as many of each."
        )
    propagators: list[Propagator] = []
    peclet = 0.0
    for sample in range(samples):
        diffusivity = diffusivities[sample % len(diffusivities)]
        nodal = None if velocities is None else velocities[sample % len(velocities)]
        matrices = assemble(mesh, diffusivity, nodal, lumped=lumped, stabilisation=stabilisation)
        if stabilisation == "none" and matrices.peclet > GALERKIN_PECLET:
            raise ValueError(
                f"p1_step got stabilisation='none' at cell Peclet number {matrices.peclet:.3g}; Galerkin's "
                f"method oscillates above {GALERKIN_PECLET:g}. Refine the mesh, raise the diffusivity, or "
                "take stabilisation='supg'."
            )
        peclet = max(peclet, matrices.peclet)
        propagators.append(Propagator(matrices, held.numpy(), dt, substeps, scheme))
    method = ", ".join(
        [
            "P1 elements",
            "lumped mass" if lumped else "consistent mass",
            *(["SUPG"] if velocity is not None and stabilisation == "supg" else []),
            scheme.replace("sdirk2", "SDIRK2"),
        ]
    )
    return P1Step(
        tuple(propagators),
        dt,
        mesh,
        pde.channels(mesh.dimension),
        substeps,
        method,
        held,
        peclet,
    )
