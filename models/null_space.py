"""A step whose increments break no row of a linear law: they lie in its null space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sciml.calculus.constants import Constants
from sciml.constraints.base import at_least_single
from sciml.constraints.linear_rows import LinearRows
from sciml.constraints.row_maps import RowMap
from sciml.domains import Domain
from sciml.models.wrappers import Map


class NullSpace(nn.Module):
    """u plus what leaves A u as it is, in coordinates of the null space: u' = u_p + Z c, A Z = 0, A u_p = b.

    The network gives the n - q coordinates c of a state of n numbers under q rows, and nothing is projected: Z, from a QR
    factorisation of the rows in the metric of the volumes, is orthonormal there, so that |c| is the size of the change. u_p
    is u itself where b is A u ("previous", an increment), or the smallest state with A u_p = b where b is given (a state
    anew, to which u is only the network's input). A u' is A u or b to rounding, for any weights; over n steps the rounding
    of increments adds up like that of a random walk. For few unknowns: Z has n (n - q) numbers. `LinearRows` around any
    network does the same for large states.

    In a study set residual: false and normalized: false.

    Args:
        f: map (B, C, *points) -> any shape of n - q numbers per sample, such as a network with so many outputs at one point.
        domain: gives points and volumes.
        rows: A, see `LinearRows`.
        channels: C.
        values: "previous", or b as numbers (q,), one for all rows, or a file with them.
        volumes: of the points in place of the domain's.

    Raises:
        ValueError: rows do not fit, depend on each other, or leave nothing free; or the network gives another number of
            coordinates.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        domain: Domain,
        rows: Tensor | Sequence[Any] | str | Callable[..., Any] | RowMap,
        channels: int = 1,
        values: Tensor | Sequence[float] | float | str | None = None,
        volumes: Tensor | Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.f = f
        law = LinearRows(domain, rows, values=values, volumes=volumes)
        law.prepare(channels)
        if law.right.source == "context":
            raise ValueError(
                "NullSpace got values='context', which no step passes on; expected 'previous' or numbers."
            )
        self.shape = (channels, *law.points)
        count, size = law.count(channels), torch.Size(self.shape).numel()
        if count >= size:
            raise ValueError(f"NullSpace got {count} rows for {size} unknowns; expected fewer.")
        # A' as columns, in coordinates in which the metric is the identity.
        columns = law.transpose(torch.eye(count, dtype=torch.float64), channels).flatten(1).T
        root = law.weights.expand(self.shape).flatten().sqrt().unsqueeze(1)
        basis = torch.linalg.qr(columns / root, mode="complete").Q[:, count:] / root
        constants = {"basis": basis}
        if law.right.constant is not None:
            empty = torch.zeros(1, *self.shape, dtype=torch.float64)
            constants["start"] = law.project(empty)
        self.law, self.constants = law, Constants(constants)
        self.free = size - count

    def forward(self, u: Tensor) -> Tensor:
        if tuple(u.shape[1:]) != self.shape:
            raise ValueError(
                f"NullSpace got a state of shape {tuple(u.shape)}; expected (B, {', '.join(map(str, self.shape))})."
            )
        u = at_least_single(u)
        exact = u.to(torch.float64)
        c = self.f(u).flatten(1).to(torch.float64)
        if c.shape[1] != self.free:
            raise ValueError(
                f"NullSpace got {c.shape[1]} numbers per sample from its network; expected {self.free}, the unknowns less "
                "the rows."
            )
        start = self.constants.get("start", exact) if self.law.right.constant is not None else exact
        change = (c @ self.constants.get("basis", exact).T).unflatten(1, self.shape)
        return (start + change).to(u.dtype)
