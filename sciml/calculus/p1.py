"""Derivatives of piecewise linear fields on triangles and tetrahedra."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Mesh


def hat_gradients(mesh: Mesh) -> Tensor:
    """Gradients of the D + 1 hat functions on each cell, (M, D + 1, D) [1/length].

    Those of corners 1..D are the rows of the inverse transposed edge matrix; all of them sum to zero.
    """
    corners = mesh.points[mesh.cells]
    edges = corners[:, 1:] - corners[:, :1]
    rest = torch.linalg.inv(edges).mT
    return torch.cat([-rest.sum(dim=1, keepdim=True), rest], dim=1)


class P1(Calculus):
    """Linear finite elements with lumped mass M, for fields (B, C, N) on the nodes of a mesh.

    First derivatives are those of the linear interpolant, averaged over the cells around a node with
    their volumes as weights: exact for linear fields at every node, of second order on average over a
    smooth mesh and of first order on a rough one. Second derivatives are weak, with zero flux through
    the boundary, (d2u/dx_a2)_i = -(1/M_i) int d(hat_i)/dx_a du/dx_a; their sum -M^-1 K u is the
    Laplacian. It is symmetric and negative semi-definite in the product <u, v> = sum_i M_i u_i v_i and
    has zero mean for every u, so that the heat equation keeps its total exactly. It vanishes for linear
    fields at inner nodes only: at a boundary node a field with flux through the boundary sees that
    flux as a source of size flux/h. As a pointwise formula the lumped Laplacian is not consistent on a
    mesh without symmetry: its error does not shrink with the cells there, and only in the weak sense,
    as inside an evolution, is it of second order.

    Elements: Ern and Guermond, Theory and Practice of Finite Elements (2004), sections 1.2 and 9.1.

    Raises:
        ValueError: the mesh has nodes without a cell, which have no mass.
    """

    lumped: Tensor
    volumes: Tensor
    gradients: Tensor
    cells: Tensor
    edges: Tensor
    conductances: Tensor

    def __init__(self, mesh: Mesh) -> None:
        super().__init__()
        self.dimension = mesh.dimension
        self.mesh = mesh
        lumped = mesh.weights()
        if not bool((lumped > 0).all()):
            raise ValueError(
                f"P1 got a mesh with {int((lumped <= 0).sum())} nodes that belong to no cell, first "
                f"{int((lumped <= 0).nonzero()[0])}; remove them."
            )
        gradients = hat_gradients(mesh)
        volumes = mesh.cell_volumes
        # Row sums of the stiffness matrix are zero, so K u needs its off-diagonal entries only, one
        # per edge and axis: (K u)_i = sum_j k_ij (u_i - u_j) with k_ij = -K_ij.
        pairs, entries = [], []
        for i, j in combinations(range(mesh.dimension + 1), 2):
            pairs.append(mesh.cells[:, [i, j]])
            entries.append(-volumes[:, None] * gradients[:, i] * gradients[:, j])
        edges, inverse = torch.unique(torch.cat(pairs).sort(dim=1).values, dim=0, return_inverse=True)
        conductances = torch.zeros(len(edges), mesh.dimension, dtype=torch.float64)
        conductances.index_add_(0, inverse, torch.cat(entries))
        buffers = {
            "lumped": lumped,
            "volumes": volumes,
            "gradients": gradients,
            "cells": mesh.cells,
            "edges": edges.T.contiguous(),
            "conductances": conductances.T.contiguous(),
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    def _check(self, u: Tensor) -> None:
        if u.ndim < 2 or u.shape[-1] != self.lumped.shape[0]:
            raise ValueError(
                f"P1 got a field of shape {tuple(u.shape)} on a mesh of {self.lumped.shape[0]} nodes; "
                "expected (B, C, N)."
            )

    def _flow(self, u: Tensor, conductance: Tensor) -> Tensor:
        """-M^-1 K u for the stiffness given by one conductance per edge (E,)."""
        low, high = self.edges
        flow = conductance.to(u.dtype) * (u.index_select(-1, high) - u.index_select(-1, low))
        total = torch.zeros_like(u).index_add(-1, low, flow).index_add(-1, high, -flow)
        return total / self.lumped.to(u.dtype)

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        """d^order u / dx_axis^order, (B, C, N) -> (B, C, N), order 0, 1 or 2.

        Raises:
            ValueError: a higher order, which piecewise linear fields do not have; a wrong number of nodes.
        """
        self._check(u)
        if order == 0:
            return u
        if order == 1:
            return self._averaged(u, self.gradients[:, :, axis])
        if order == 2:
            return self._flow(u, self.conductances[axis])
        raise ValueError(f"P1 got order {order}; linear elements have derivatives of order 0, 1 and 2.")

    def _averaged(self, u: Tensor, gradients: Tensor) -> Tensor:
        corners = u[..., self.cells]  # (B, C, M, D + 1)
        slope = (corners * gradients.to(u.dtype)).sum(dim=-1)
        share = slope * (self.volumes / (self.dimension + 1)).to(u.dtype)
        spread = share.unsqueeze(-1).expand_as(corners).flatten(-2)
        total = torch.zeros_like(u).index_add(-1, self.cells.flatten(), spread)
        return total / self.lumped.to(u.dtype)

    def laplacian(self, u: Tensor) -> Tensor:
        """-M^-1 K u with zero flux through the boundary, (B, C, N) -> (B, C, N) [u / length^2]."""
        self._check(u)
        return self._flow(u, self.conductances.sum(dim=0))
