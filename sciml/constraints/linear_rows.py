"""Any affine conditions on a state, held exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.constraints.base import (
    Context,
    at_least_single,
    checked_channels,
    point_volumes,
    replace_channels,
    select,
)
from sciml.constraints.given import called, given_tensor
from sciml.constraints.linear import Dependent, Linear, Projection, Rows, checked_scales
from sciml.constraints.right_hand_side import RightHandSide
from sciml.constraints.row_maps import DenseRows, RowMap, SparseRows
from sciml.domains import Domain


class LinearRows(Linear):
    """Rows A and right-hand sides b of your own, A u = b, held by the nearest state in a metric.

        u = z - W^-1 A' (A W^-1 A')^-1 (A z - b),    W = diag(V_i / scale_c^2)

    With W from the volumes and one scale this is the orthogonal projection in L2: it never enlarges the difference of
    two states. Rows are a matrix, a sparse matrix, or a function and never a matrix; see
    `sciml.constraints.linear.Projection` for how A W^-1 A' is solved. Everything is summed in float64; the state
    keeps its dtype, and then its rounding is all that is left of A u - b.

    b is A of the previous state ("previous", for what the flow keeps), one given with the context ("context",
    `Context(targets={target: b})`, with b (q,) or (B, q); anchor a long rollout to its initial state in this way), or
    given numbers. A function gives both where it returns a pair. In a study:

        constraint: {class_path: LinearRows, init_args: {rows: "my_rows.py:budget"}}
        constraint: {class_path: LinearRows, init_args: {rows: rows.npy, values: [0.0, 1.5]}}

    Args:
        domain: gives the volumes.
        rows: A as a tensor or nested lists (q, K, *points) or (q, n), n = K times the number of points; a `.npy` file;
            a `.npz` file with an array "rows", or a matrix by scipy.sparse.save_npz; a `RowMap`; or a function of the
            domain that returns one of these, or a pair of one and b.
        values: "previous", "context", or b as numbers (q,), one for all rows, or a file with an array "values".
            Left out, it is what the function gives, or "previous".
        channels: numbers of the K channels that the rows see and that may change, all where left out.
        scales: typical size of each channel of the state, which balances channels of unlike units; one for all where
            left out [unit of u].
        volumes: of the points in place of the domain's; those of a cloud's particles.
        names: of the rows, for messages.
        target: under which name the context holds b.
        dependent: rows that depend on others (their angle to the span of the others is below 1e-6) are refused, or
            dropped where their right-hand sides agree.

    Raises:
        ValueError: arguments or shapes do not fit, or rows are zero, depend on each other or contradict each other; they
            are named. Also when a state is projected and right-hand sides of dropped rows do not agree.
        UserError: a file is missing or cannot be read safely.
    """

    weights: Tensor

    def __init__(
        self,
        domain: Domain,
        rows: Tensor | Sequence[Any] | str | Callable[..., Any] | RowMap,
        values: Tensor | Sequence[float] | float | str | None = None,
        channels: Sequence[int] | None = None,
        scales: Sequence[float] | None = None,
        volumes: Tensor | Sequence[float] | None = None,
        names: Sequence[str] | None = None,
        target: str = "rows",
        dependent: Dependent = "refuse",
    ) -> None:
        super().__init__()
        weights = point_volumes(domain, volumes, "LinearRows")
        self.register_buffer("weights", weights / weights.sum(), persistent=False)
        self.channels = checked_channels(channels, "LinearRows")
        self.scales = checked_scales(scales, "LinearRows")
        found = called(rows, domain, "rows", "LinearRows")
        if isinstance(found, tuple) and len(found) == 2:
            found, own = found
            values = own if values is None else values
        self.rows = _row_map(found, self.points, self.channels)
        states = self.rows.shape[0] if self.channels is None else max(self.channels) + 1
        if self.channels is not None and self.rows.shape[0] != len(self.channels):
            raise ValueError(
                f"LinearRows got rows of {self.rows.shape[0]} channels that act on channels {self.channels}."
            )
        self.right = RightHandSide("previous" if values is None else values, target, "LinearRows")
        constant = self.right.constant
        if constant is not None and constant.shape not in ((), (1,), (self.rows.count,)):
            raise ValueError(
                f"LinearRows got {self.rows.count} rows and values of shape {tuple(constant.shape)}; expected one for "
                "each row, or one number."
            )
        if names is not None and len(names) != self.rows.count:
            raise ValueError(
                f"LinearRows got {len(names)} names for {self.rows.count} rows; expected one for each."
            )
        self.names = None if names is None else tuple(map(str, names))
        self.projection = Projection("LinearRows", dependent)
        self.prepare(states if self.scales is None else len(self.scales))

    @property
    def points(self) -> tuple[int, ...]:
        return tuple(self.weights.shape)

    @property
    def volumes(self) -> Tensor:
        return self.weights

    def count(self, channels: int) -> int:
        return self.rows.count

    def prepare(self, channels: int) -> None:
        self.projection.factor(Rows([self], channels))

    def multiply(self, u: Tensor) -> Tensor:
        v = select(u, self.channels, "LinearRows")
        if v.shape[1:] != self.rows.shape:
            raise ValueError(
                f"LinearRows got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{self.points}, and rows for {self.rows.shape[0]} channels."
            )
        return self.rows.multiply(v.to(torch.float64))

    def transpose(self, y: Tensor, channels: int) -> Tensor:
        v = self.rows.transpose(y)
        if self.channels is None:
            return v
        return replace_channels(v.new_zeros(len(v), channels, *self.points), self.channels, v)

    def squares(self, diagonal: Tensor) -> Tensor | None:
        return self.rows.squares(diagonal if self.channels is None else diagonal[list(self.channels)])

    def target(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        if self.right.source == "previous":
            return self.multiply(self.right.before(u, previous))
        return self.right.given(u, context, (self.rows.count,))

    def constants(self, channels: int) -> Tensor | None:
        constant = self.right.constant
        return None if constant is None else constant.expand(self.rows.count)

    def row_name(self, row: int, channels: int) -> str:
        return f"row {row}" if self.names is None else repr(self.names[row])

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        rows = Rows([self], u.shape[1])
        right = self.target(u, previous, context)
        return self.projection(rows, self.projection.factor(rows), u, right)


def _row_map(found: object, points: tuple[int, ...], channels: tuple[int, ...] | None) -> RowMap:
    """The rows as a map."""
    if isinstance(found, RowMap):
        if found.shape[1:] != points:
            raise ValueError(f"LinearRows got rows on points {found.shape[1:]}; expected {points}.")
        return found
    matrix = given_tensor(found, "rows", "LinearRows")
    size = torch.Size(points).numel()
    if matrix.ndim < 2 or matrix.shape[0] < 1:
        raise ValueError(
            f"LinearRows got rows of shape {tuple(matrix.shape)}; expected (q, n) with q of 1 or more, or "
            "(q, K, *points)."
        )
    if matrix.ndim == 2:
        count, rest = divmod(matrix.shape[1], size)
        if rest or not count:
            raise ValueError(
                f"LinearRows got rows of length {matrix.shape[1]}; expected a multiple of the {size} points {points}, "
                "one number per channel and point."
            )
    else:
        count = matrix.shape[1]
    shape = (count, *points)
    return (DenseRows if matrix.layout == torch.strided else SparseRows)(matrix, shape)
