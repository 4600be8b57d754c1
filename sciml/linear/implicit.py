"""Gradients of linear solves by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class _Solved(torch.autograd.Function):
    """The given solution, with the derivative A^-1 with respect to its residual b - A x."""

    @staticmethod
    def forward(
        residual: Tensor,
        solution: Tensor,
        apply: Callable[[Tensor], Tensor],
        solve: Callable[[Tensor], Tensor],
    ) -> Tensor:
        return solution.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, _, ctx.operator, ctx.solve = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        # The adjoint system of a symmetric operator is the same system; solved in the same way it can
        # be differentiated again.
        return implicit_solve(ctx.operator, gradient, ctx.solve), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        return ctx.solve(tangent)


def implicit_solve(
    apply: Callable[[Tensor], Tensor], b: Tensor, solve: Callable[[Tensor], Tensor]
) -> Tensor:
    """x with apply(x) = b for a symmetric linear operator, differentiable without its iterations.

    From A(a) x = b follows dx = A^-1 (db - dA x): the gradient with respect to b is one more solve
    with the same operator, and the gradient with respect to every tensor that `apply` uses follows
    from one product with it. Memory does not grow with the number of iterations. The error of a
    gradient is that of the solver's tolerance. Derivatives of any order.

    Args:
        apply: x -> A x, differentiable in x and in the tensors that A depends on.
        b: right-hand side.
        solve: b -> x; its operations are not recorded.

    Griewank and Walther, Evaluating Derivatives (2008), section 15; a symmetric operator is taken on
    trust, for another the gradient is wrong.
    """
    with torch.no_grad():
        solution = solve(b.detach())
    return _Solved.apply(b - apply(solution), solution, apply, solve)
