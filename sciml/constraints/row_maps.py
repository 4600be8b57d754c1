"""Linear maps from a state to numbers: dense, sparse, or a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.constraints.base import Exact, named


class RowMap(Exact, ABC):
    """q linear functionals of K channels, A: (B, K, *points) -> (B, q), all in float64.

    Args:
        count: q.
        shape: (K, *points).
    """

    def __init__(self, count: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.count = count
        self.shape = tuple(int(n) for n in shape)

    @abstractmethod
    def multiply(self, v: Tensor) -> Tensor:
        """A v, (B, K, *points) -> (B, q)."""

    @abstractmethod
    def transpose(self, y: Tensor) -> Tensor:
        """A' y, (B, q) -> (B, K, *points)."""

    @abstractmethod
    def squares(self, diagonal: Tensor) -> Tensor | None:
        """Diagonal of A D A' for a diagonal D (K, *points), (q,); None where it is not known."""


class DenseRows(RowMap):
    """A as a matrix.

    Args:
        matrix: (q, K, *points), or (q, n) with n = K times the number of points.
        shape: (K, *points).

    Raises:
        ValueError: the matrix has another shape.
    """

    matrix: Tensor

    def __init__(self, matrix: Tensor, shape: Sequence[int]) -> None:
        super().__init__(len(matrix), shape)
        size = torch.Size(self.shape).numel()
        if matrix.ndim < 2 or matrix.shape[1:] not in (torch.Size(self.shape), torch.Size((size,))):
            raise ValueError(
                f"DenseRows got a matrix of shape {tuple(matrix.shape)}; expected (q, {size}) or "
                f"(q, {', '.join(map(str, self.shape))}), a row for each of q conditions."
            )
        self.register_buffer("matrix", matrix.to(torch.float64).reshape(-1, size).clone(), persistent=False)

    def multiply(self, v: Tensor) -> Tensor:
        return v.flatten(1) @ self.matrix.T

    def transpose(self, y: Tensor) -> Tensor:
        return (y @ self.matrix).unflatten(1, self.shape)

    def squares(self, diagonal: Tensor) -> Tensor:
        return self.matrix.square() @ diagonal.flatten()


class SparseRows(RowMap):
    """A by its entries, gathered and scattered, so that it compiles and has derivatives of any kind.

    Args:
        matrix: sparse (q, n), n = K times the number of points; in any of torch's layouts.
        shape: (K, *points).

    Raises:
        ValueError: the matrix has another shape.
    """

    row: Tensor
    column: Tensor
    entry: Tensor

    def __init__(self, matrix: Tensor, shape: Sequence[int]) -> None:
        super().__init__(matrix.shape[0], shape)
        size = torch.Size(self.shape).numel()
        if matrix.ndim != 2 or matrix.shape[1] != size:
            raise ValueError(
                f"SparseRows got a matrix of shape {tuple(matrix.shape)}; expected (q, {size}), a row for each of q "
                "conditions."
            )
        entries = matrix.to_sparse_coo().coalesce()
        row, column = entries.indices()
        self.register_buffer("row", row.clone(), persistent=False)
        self.register_buffer("column", column.clone(), persistent=False)
        self.register_buffer("entry", entries.values().to(torch.float64).clone(), persistent=False)
        self.size = size

    def multiply(self, v: Tensor) -> Tensor:
        terms = v.flatten(1)[:, self.column] * self.entry
        return terms.new_zeros(len(v), self.count).index_add(1, self.row, terms)

    def transpose(self, y: Tensor) -> Tensor:
        terms = y[:, self.row] * self.entry
        return terms.new_zeros(len(y), self.size).index_add(1, self.column, terms).unflatten(1, self.shape)

    def squares(self, diagonal: Tensor) -> Tensor:
        terms = self.entry.square() * diagonal.flatten()[self.column]
        return terms.new_zeros(self.count).index_add(0, self.row, terms)


class FunctionRows(RowMap):
    """A as a function, never as a matrix; A' by automatic differentiation.

    Args:
        function: linear map (B, K, *points) -> (B, q) in float64, each sample by itself, without an offset. Give rows
            of length about one: their lengths are not known, and conjugate gradients are not scaled by them.
        shape: (K, *points).

    Raises:
        ValueError: the function gives another shape, or is not linear.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], shape: Sequence[int]) -> None:
        generator = torch.Generator().manual_seed(0)
        a, b = torch.randn(2, 1, *shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            found = function(torch.stack([a, b, 2 * a - 3 * b, torch.zeros_like(a)], dim=1)[0])
        if found.ndim != 2 or len(found) != 4 or found.dtype != torch.float64:
            raise ValueError(
                f"FunctionRows got a function that makes {found.dtype} of shape {tuple(found.shape)} of 4 states; "
                "expected (4, q) in float64."
            )
        offset = found[3].abs()
        error = (2 * found[0] - 3 * found[1] - found[2]).abs()
        wrong = torch.maximum(offset, error) > 1e-10 * found.abs().amax(dim=0)
        if bool(wrong.any()):
            rows = wrong.nonzero().flatten().tolist()
            raise ValueError(
                f"FunctionRows got a function that is not linear in rows {named(rows)}; put offsets into the "
                "right-hand side, and equations that are not linear into a constraint for these."
            )
        super().__init__(found.shape[1], shape)
        self.function = function

    def multiply(self, v: Tensor) -> Tensor:
        return self.function(v)

    def transpose(self, y: Tensor) -> Tensor:
        found: Tensor = _Transposed.apply(self.function, self.shape, y)
        return found

    def squares(self, diagonal: Tensor) -> None:
        return None


def _pulled(function: Callable[[Tensor], Tensor], shape: tuple[int, ...], y: Tensor) -> Tensor:
    with torch.enable_grad():
        v = torch.zeros((len(y), *shape), dtype=y.dtype, device=y.device, requires_grad=True)
        out = function(v)
    return torch.autograd.grad(out, v, y)[0]


class _Transposed(torch.autograd.Function):
    """A' y, whose own derivatives are A and A' again."""

    @staticmethod
    def forward(function: Callable[[Tensor], Tensor], shape: tuple[int, ...], y: Tensor) -> Tensor:
        return _pulled(function, shape, y)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.function, ctx.shape, _ = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:  # type: ignore[override]
        return None, None, ctx.function(gradient)

    @staticmethod
    def jvp(ctx: Any, _function: None, _shape: None, y: Tensor) -> Tensor:
        return _pulled(ctx.function, ctx.shape, y)
