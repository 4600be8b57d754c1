"""Any convex set, stated for cvxpy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.constraints.base import (
    Constraint,
    Context,
    at_least_single,
    checked_channels,
    point_volumes,
    replace_channels,
    select,
)
from sciml.constraints.cone_program import ConeProgram
from sciml.constraints.linear import checked_scales
from sciml.constraints.nonlinear import Infeasible
from sciml.domains import Domain
from sciml.extras import require


class ConvexSet(Constraint):
    """The nearest state in a convex set of your own, for small states and what no other constraint here covers.

        min sum_i V_i / scale_c^2 (u_i - z_i)^2    subject to    constraints(u)

    A function states the set as a list of cvxpy constraints on a variable u (K, *points): bounds of norms, of total
    variation, of slopes and curvature, monotone or convex profiles, positive matrices, alone or together. Arguments of the
    names `previous` (the state before, a variable of the same shape) and `domain` are given as well. In a study:

        constraint: {class_path: ConvexSet, init_args: {function: "my_sets.py:calm"}}

        def calm(u, previous):
            return [u >= 0, cvxpy.sum(u) == cvxpy.sum(previous), cvxpy.tv(u[0]) <= 4]

    cvxpy makes a quadratic program over cones of it, once; Clarabel's interior-point method solves it for each sample by
    itself, on the CPU in float64, and Newton's method on the conditions of the optimum takes its answer to rounding of the
    largest number in the constraints. Where that does not gain, since what holds a state there hardly pushes, the
    solver's own tolerance (1e-13 of the objective, hence 1e-6 of the state) is what remains. States within `tolerance` of
    the set are left as they are, so that projecting twice is projecting once. Derivatives, forward and backward of first
    order, also in the previous state, are exact almost everywhere; there are none of second order. The nearest state in
    this norm never enlarges a difference of two states. Milliseconds for each sample of a hundred unknowns: what the closed
    forms here can do, they do faster.

    Needs the extra: pip install 'sciml[convex]'.

    Args:
        domain: gives the volumes.
        function: see above; constraints by cvxpy's rules for convexity, of half-spaces, norms, squares and positive
            matrices.
        channels: numbers of the K channels that the set is about and that may change, all where left out.
        scales: typical size of each channel of the state, which balances channels of unlike units; one for all where
            left out [unit of u].
        volumes: of the points in place of the domain's; those of a cloud's particles.
        tolerance: residual of the constraints up to which a state counts as inside [unit of the constraints].

    Raises:
        ModuleNotFoundError: cvxpy is not installed.
        ValueError: the function has other arguments or gives other things, constraints are not convex or of other cones,
            shapes do not fit, or the tolerance is not positive.
        Infeasible: the set is empty, or the solver failed; the message names the sample.

    Amos and Kolter, OptNet: Differentiable Optimization as a Layer in Neural Networks (ICML 2017); Agrawal et al.,
    Differentiating through a cone program (2019), for the derivatives; Goulart and Chen, Clarabel (2024).
    """

    weights: Tensor

    def __init__(
        self,
        domain: Domain,
        function: Callable[..., Any],
        channels: Sequence[int] | None = None,
        scales: Sequence[float] | None = None,
        volumes: Tensor | Sequence[float] | None = None,
        tolerance: float = 1e-10,
    ) -> None:
        super().__init__()
        if not callable(function):
            raise ValueError(
                f"ConvexSet got function={function!r}; expected a function of a cvxpy variable, in a file written as "
                "path/to/file.py:name."
            )
        if not 0 < tolerance < 1:
            raise ValueError(f"ConvexSet got tolerance={tolerance}; expected a number between 0 and 1.")
        require("cvxpy", extra="convex", purpose="ConvexSet")
        weights = point_volumes(domain, volumes, "ConvexSet")
        self.register_buffer("weights", weights / weights.mean(), persistent=False)
        self.channels = checked_channels(channels, "ConvexSet")
        self.scales = checked_scales(scales, "ConvexSet")
        self.function, self.domain, self.exactness = function, domain, float(tolerance)
        self.programs: dict[int, ConeProgram] = {}
        if self.channels is not None:
            self._program(len(self.channels))

    @torch.compiler.disable
    def _program(self, count: int) -> ConeProgram:
        if count not in self.programs:
            self.programs[count] = ConeProgram(self.function, (count, *self.weights.shape), self.domain)
        return self.programs[count]

    def prepare(self, channels: int) -> None:
        self._program(channels if self.channels is None else len(self.channels))

    def _states(self, u: Tensor, previous: Tensor | None) -> tuple[ConeProgram, Tensor, Tensor | None]:
        """The program, and what it is about of the state and of the one before, (B, K, *points) in float64."""
        z = select(u, self.channels, "ConvexSet")
        if z.shape[2:] != self.weights.shape:
            raise ValueError(
                f"ConvexSet got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{tuple(self.weights.shape)}."
            )
        program = self._program(z.shape[1])
        if not program.wants_previous:
            return program, z.to(torch.float64), None
        if previous is None or previous.shape != u.shape:
            found = "none" if previous is None else f"one of shape {tuple(previous.shape)}"
            raise ValueError(
                f"ConvexSet refers to the previous state and got {found}; pass one of shape {tuple(u.shape)}."
            )
        return (
            program,
            z.to(torch.float64),
            select(previous, self.channels, "ConvexSet").to(torch.float64),
        )

    @property
    def nonexpansive(self) -> bool:
        return True

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        program, z, before = self._states(u, previous)
        metric = self.weights.to("cpu").numpy()
        sizes = np.asarray(self.scales or (1.0,) * u.shape[1])
        if len(sizes) != u.shape[1]:
            raise ValueError(
                f"ConvexSet got {len(sizes)} scales for a state of {u.shape[1]} channels; expected one for each."
            )
        sizes = sizes if self.channels is None else sizes[list(self.channels)]
        metric = (sizes.reshape(-1, *[1] * metric.ndim) ** -2.0 * metric).flatten()
        found = _project(z, before, program, metric, self.exactness)
        return replace_channels(u, self.channels, found.to(u.dtype))

    @torch.compiler.disable
    @torch.no_grad()
    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest residual of the constraints as they are written, (B,) [their unit]; without derivatives."""
        program, z, before = self._states(u, previous)
        states = z.cpu().numpy()
        olds = [None] * len(states) if before is None else list(before.cpu().numpy())
        found = [program.violation(v, p) for v, p in zip(states, olds, strict=True)]
        return torch.tensor(found, dtype=torch.float64, device=u.device)


@torch.compiler.disable
def _project(
    z: Tensor, before: Tensor | None, program: ConeProgram, metric: np.ndarray, tolerance: float
) -> Tensor:
    found: Tensor = _Projection.apply(z, before, program, metric, tolerance)
    return found


class _Projection(torch.autograd.Function):
    """Nearest points (B, K, *points) of a batch, each by itself, with their derivatives."""

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        before: Tensor | None,
        program: ConeProgram,
        metric: np.ndarray,
        tolerance: float,
    ) -> Tensor:
        states = z.detach().cpu().numpy()
        olds = [None] * len(states) if before is None else list(before.detach().cpu().numpy())
        out = states.copy()
        ctx.program, ctx.metric = program, metric
        ctx.nearest = []
        for i, (state, old) in enumerate(zip(states, olds, strict=True)):
            ctx.nearest.append(None)
            # A rollout that blew up is a result of its own.
            if not np.isfinite(state).all() or (old is not None and not np.isfinite(old).all()):
                continue
            if program.violation(state, old) <= tolerance:
                continue
            nearest = program.solve(state.flatten(), None if old is None else old.flatten(), metric)
            if isinstance(nearest, str):
                raise Infeasible(
                    f"ConvexSet found no admissible state for sample {i}: the solver ended with {nearest!r}. Look for "
                    "constraints that contradict each other"
                    + (" or what the previous state asks for." if program.wants_previous else ".")
                )
            out[i] = nearest.x[: program.size].reshape(state.shape)
            ctx.nearest[i] = nearest
        return torch.from_numpy(out).to(z.device)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        given = gradient.cpu().numpy()
        to_z, to_before = given.copy(), np.zeros_like(given)
        for i, nearest in enumerate(ctx.nearest):
            if nearest is None:
                continue
            solve = ctx.program.derivative(nearest, ctx.metric)
            x, y = solve(given[i].flatten(), np.zeros(len(ctx.program.right)))
            to_z[i] = (ctx.metric * x).reshape(given[i].shape)
            if ctx.program.wants_previous:
                to_before[i] = -(ctx.program.rows_before.T @ y).reshape(given[i].shape)
        found = torch.from_numpy(to_z).to(gradient)
        old = torch.from_numpy(to_before).to(gradient) if ctx.needs_input_grad[1] else None
        return found, old, None, None, None

    @staticmethod
    def jvp(ctx: Any, dz: Tensor | None, dbefore: Tensor | None, *_: None) -> Tensor:
        some = dz if dz is not None else dbefore
        assert some is not None  # one of them moves
        moved = np.zeros(some.shape) if dz is None else some.cpu().numpy().copy()
        old = np.zeros(some.shape) if dbefore is None else dbefore.cpu().numpy()
        for i, nearest in enumerate(ctx.nearest):
            if nearest is None:
                continue
            solve = ctx.program.derivative(nearest, ctx.metric)
            right = np.zeros(len(ctx.program.right))
            if ctx.program.wants_previous:
                right = -(ctx.program.rows_before @ old[i].flatten())
            x, _ = solve(ctx.metric * moved[i].flatten(), right)
            moved[i] = x.reshape(moved[i].shape)
        return torch.from_numpy(moved).to(some)
