"""How far a rollout is from satisfying its equation, between one state and the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.objectives.invariant_measure import grid_calculus
from sciml.objectives.schedules import Schedule
from sciml.objectives.terms import Term
from sciml.pdes.base import PDE

Rule = Literal["crank_nicolson", "midpoint"]


class EquationResidual(Term):
    """Mean square of (u_{k+1} - u_k)/dt - rhs, over that of the data's own rate of change.

    The right-hand side is the one of the equation itself, on the grid of the data: with "crank_nicolson" the mean of
    those at both states, with "midpoint" the one at their mean. Both leave what a step of second order leaves, so
    that the data themselves do not have residual zero: about a twelfth of u_ttt dt^2. Where dt is too long for that
    the term pulls away from the truth; take `SolverDefect`.

    Args:
        pde: the equation, with the parameters that all samples share.
        grid: where the points lie.
        dt: time between states.
        weight: what it is multiplied by, a number or a schedule.
        rule: which mean of the right-hand side.
        units: mean and scale of each channel (C,) in which the objective sees states; none for physical units.

    Raises:
        ValueError: the rule is unknown or `dt` not positive.
    """

    mean: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        pde: PDE,
        grid: Grid,
        dt: float,
        weight: float | Schedule = 1.0,
        rule: Rule = "crank_nicolson",
        units: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(weight, "equation_residual")
        if rule not in get_args(Rule) or not dt > 0:
            raise ValueError(
                f"EquationResidual got rule={rule!r}, dt={dt}; expected one of {list(get_args(Rule))} and a positive "
                "time."
            )
        self.pde, self.dt, self.rule = pde, float(dt), rule
        self.calculus = grid_calculus(grid)
        mean, scale = (None, None) if units is None else (value.detach().clone() for value in units)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def _physical(self, u: Tensor) -> Tensor:
        """(B, T, C, *points) in the equation's units."""
        if self.mean is None or self.scale is None:
            return u
        shape = (-1, *[1] * (u.ndim - 3))
        return u * self.scale.to(u).reshape(shape) + self.mean.to(u).reshape(shape)

    def residual(self, trajectory: Tensor) -> Tensor:
        """(B, T, C, *points) -> (B, T - 1, C, *points) [u / time], of states in physical units."""
        before, after = trajectory[:, :-1], trajectory[:, 1:]
        rate = (after - before) / self.dt
        if self.rule == "midpoint":
            rhs = self._rhs((before + after) / 2)
        else:
            both = self._rhs(trajectory)
            rhs = (both[:, :-1] + both[:, 1:]) / 2
        return rate - rhs

    def _rhs(self, u: Tensor) -> Tensor:
        return self.pde.rhs(u.flatten(0, 1), self.calculus).unflatten(0, u.shape[:2])

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        pred, target = self._physical(pred), self._physical(target)
        # Channels have unlike units: each is measured by its own rate of change in the data of the batch.
        axes = tuple(i for i in range(target.ndim) if i != 2)
        usual = ((target[:, 1:] - target[:, :-1]) / self.dt).square().mean(dim=axes)
        usual = usual.clamp_min(torch.finfo(usual.dtype).tiny).reshape(-1, *[1] * (target.ndim - 3))
        return (self.residual(pred).square() / usual).flatten(1).mean(dim=1)


class SolverDefect(Term):
    """Mean square of u_{k+1} - P(u_k) along a rollout, over that of the data's own change: a residual that the data satisfy.

    P is the solver that made the data, so that nothing but its own rounding is left at the truth; costs one step of it
    per state. States for which it does not stay finite count as none.

    Args:
        solver: P, one step in the objective's units.
        weight: what it is multiplied by, a number or a schedule.
        through_solver: differentiate P as well; otherwise it only says where each state should go.
    """

    def __init__(
        self,
        solver: Callable[[Tensor], Tensor],
        weight: float | Schedule = 1.0,
        through_solver: bool = True,
    ) -> None:
        super().__init__(weight, "solver_defect")
        self.solver = solver
        self.through_solver = through_solver

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        axes = tuple(i for i in range(target.ndim) if i != 2)
        usual = (target[:, 1:] - target[:, :-1]).square().mean(dim=axes)
        usual = usual.clamp_min(torch.finfo(usual.dtype).tiny).reshape(-1, *[1] * (target.ndim - 3))
        before = pred[:, :-1].flatten(0, 1)
        advanced = self._advanced(before)
        finite = torch.isfinite(advanced.detach()).flatten(1).all(dim=1)
        if not bool(finite.all()):
            safe = before[finite]
            filled = pred[:, 1:].flatten(0, 1).detach().clone()
            filled = (
                filled.index_copy(0, finite.nonzero().squeeze(1), self._advanced(safe))
                if len(safe)
                else filled
            )
            keep = finite.reshape(-1, *[1] * (filled.ndim - 1))
            error = torch.where(keep, pred[:, 1:].flatten(0, 1) - filled, 0.0)
        else:
            error = pred[:, 1:].flatten(0, 1) - advanced
        error = error.unflatten(0, pred[:, 1:].shape[:2])
        return (error.square() / usual).flatten(1).mean(dim=1)

    def _advanced(self, u: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.through_solver and torch.is_grad_enabled()):
            return self.solver(u)
