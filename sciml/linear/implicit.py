"""Gradients of linear solves by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


class _Solve(torch.autograd.Function):
    """x of A(parameters) x = b; inputs apply, solve, adjoint, b, *parameters."""

    @staticmethod
    def forward(
        apply: Callable[..., Tensor],
        solve: Callable[[Tensor], Tensor],
        adjoint: Callable[[Tensor], Tensor] | None,
        b: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        with torch.no_grad():
            return solve(b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.operator, ctx.solve, ctx.adjoint, _, *parameters = inputs
        ctx.save_for_backward(output, *parameters)
        ctx.save_for_forward(output, *parameters)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *parameters = ctx.saved_tensors
        # The adjoint system of a symmetric operator is the same system. Solving it by this function
        # again, and taking the product by torch.func.vjp, is what makes second derivatives right.
        if ctx.adjoint is None:
            adjoint = implicit_solve(ctx.operator, gradient, ctx.solve, parameters)
        else:
            transposed = _transposed(ctx.operator)
            adjoint = implicit_solve(transposed, gradient, ctx.adjoint, parameters, adjoint=ctx.solve)
        if not parameters:
            return None, None, None, adjoint
        pull = torch.func.vjp(lambda *p: ctx.operator(x, *p), *parameters)[1]
        return None, None, None, adjoint, *pull(-adjoint)

    @staticmethod
    def jvp(
        ctx: Any, _apply: None, _solve: None, _adjoint: None, b: Tensor | None, *parameters: Tensor | None
    ) -> Tensor:
        x, *values = ctx.saved_tensors
        right = torch.zeros_like(x) if b is None else b
        if any(t is not None for t in parameters):
            tangents = tuple(
                torch.zeros_like(p) if t is None else t for p, t in zip(values, parameters, strict=True)
            )
            # Forward product as the transpose of the backward one: forward levels do not nest here.
            pull = torch.func.vjp(lambda *p: ctx.operator(x, *p), *values)[1]
            push = torch.func.vjp(pull, torch.zeros_like(x))[1]
            right = right - push(tangents)[0]
        return ctx.solve(right)


def _transposed(apply: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """(y, *parameters) -> A' y, the conjugate transpose of a linear operator."""

    def product(y: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.vjp(lambda v: apply(v, *parameters), torch.zeros_like(y))[1](y)[0]

    return product


def implicit_solve(
    apply: Callable[..., Tensor],
    b: Tensor,
    solve: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor] = (),
    adjoint: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """x with apply(x, *parameters) = b for a linear operator, differentiable without iterations.

    From A(a) x = b follows dx = A^-1 (db - dA x): the gradient with respect to b is one more solve
    with the adjoint operator, and the gradient with respect to the parameters follows from one product
    with it. Memory does not grow with the number of iterations, and the error of a gradient is that of
    the solver's tolerance. Backward derivatives of any order, forward ones of the first.

    Args:
        apply: (x, *parameters) -> A x, differentiable.
        b: right-hand side, of the dtype of x.
        solve: b -> x for the given values of the parameters; its operations are not recorded.
        parameters: tensors on which A depends. Others that `apply` uses count as constants.
        adjoint: g -> y with A' y = g, A' the conjugate transpose; left out where A is real and symmetric,
            when `solve` does it. For a complex symmetric A it is the conjugate of `solve` of the conjugate.

    That A is symmetric, or that `adjoint` belongs to it, is taken on trust; otherwise gradients are wrong.

    Griewank and Walther, Evaluating Derivatives (2008), section 15.
    """
    return _Solve.apply(apply, solve, adjoint, b, *parameters)
