"""Gradients of the roots of nonlinear systems by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.linear.implicit import implicit_solve

Solver = Callable[..., Tensor]
"""(b, x, *parameters) -> d with J d = b, or J' d = b, where J is the Jacobian of the residual in x."""


class _Root(torch.autograd.Function):
    """x of residual(x, *parameters) = 0; inputs residual, find, solve, adjoint, *parameters."""

    @staticmethod
    def forward(
        residual: Callable[..., Tensor],
        find: Callable[..., Tensor],
        solve: Solver,
        adjoint: Solver | None,
        *parameters: Tensor,
    ) -> Tensor:
        with torch.no_grad():
            return find(*parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.residual, _, ctx.solve, ctx.adjoint, *parameters = inputs
        ctx.save_for_backward(output, *parameters)
        ctx.save_for_forward(output, *parameters)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *parameters = ctx.saved_tensors
        values = [x.detach(), *(p.detach() for p in parameters)]
        forward, backward = ctx.solve, ctx.adjoint or ctx.solve

        def transposed(y: Tensor, at: Tensor, *p: Tensor) -> Tensor:
            return torch.func.vjp(lambda v: ctx.residual(v, *p), at)[1](y)[0]

        # The root itself is among the parameters of the adjoint system: second derivatives need it.
        adjoint = implicit_solve(
            transposed,
            gradient,
            lambda b: backward(b, *values),
            (x, *parameters),
            adjoint=lambda b: forward(b, *values),
        )
        pull = torch.func.vjp(lambda *p: ctx.residual(x, *p), *parameters)[1]
        return None, None, None, None, *pull(-adjoint)

    @staticmethod
    def jvp(ctx: Any, _r: None, _f: None, _s: None, _a: None, *tangents: Tensor | None) -> Tensor:
        x, *parameters = ctx.saved_tensors
        given = tuple(
            torch.zeros_like(p) if t is None else t for p, t in zip(parameters, tangents, strict=True)
        )
        # The product as the transpose of a transpose: forward levels do not nest here.
        pull = torch.func.vjp(lambda *p: ctx.residual(x, *p), *parameters)[1]
        push = torch.func.vjp(pull, torch.zeros_like(x))[1]
        return -ctx.solve(push(given)[0], x, *parameters)


def implicit_root(
    residual: Callable[..., Tensor],
    find: Callable[..., Tensor],
    solve: Solver,
    parameters: Sequence[Tensor],
    adjoint: Solver | None = None,
) -> Tensor:
    """x with residual(x, *parameters) = 0, differentiable in the parameters without the iterations that found it.

    From r(x, p) = 0 follows dx = -J^-1 (dr/dp) dp with J = dr/dx: one linear solve for each derivative. Memory does
    not grow with the number of iterations, and a gradient is as exact as the root and the solve are. Backward
    derivatives of any order, forward ones of the first.

    Args:
        residual: (x, *parameters) -> r of the shape of x, twice differentiable by torch.func.
        find: (*parameters) -> x; its operations are not recorded.
        solve: (b, x, *parameters) -> J^-1 b; not recorded.
        parameters: tensors on which the root depends. Others that the residual uses count as constants.
        adjoint: (b, x, *parameters) -> J^-T b; left out where J is symmetric, when `solve` does it.

    Griewank and Walther, Evaluating Derivatives (2008), section 15.
    """
    return _Root.apply(residual, find, solve, adjoint, *parameters)
