"""Losses with a solver inside: branches off a rollout, and a solver after the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from sciml.objectives.base import Discrepancy, Distance, Norm, Objective, Parts, checked_window
from sciml.objectives.unrolled import without_samples

Map = Callable[[Tensor], Tensor]


def finite_samples(states: Sequence[Tensor], limit: float) -> Tensor:
    """Which samples have only finite numbers of absolute value up to `limit` in all states, (B,)."""
    good = torch.ones(len(states[0]), dtype=torch.bool, device=states[0].device)
    for u in states:
        good &= (torch.isfinite(u.detach()) & (u.detach().abs() <= limit)).flatten(1).all(dim=1)
    return good


class DivertedChain(Objective):
    """At every state of a rollout, a solver says what the next states should be.

        z_0 = u_0, z_j = F(z_{j-1});   L = sum over branches j = 0..T - B and b = 1..B of l(z_{j+b}, P^b(z_j))

    Needs first states only: the window has one. T = B is supervision by the solver, B = 1 compares every step
    with the solver's from the same state. Koehler et al., APEBench, NeurIPS 2024, arXiv 2411.00180.

    A branch of the network is a piece of the rollout itself, so the cost is T calls of F and (T - B + 1) B of
    P, some of them after each other. Samples whose rollout or branch leaves the finite numbers, or exceeds
    `limit`, are dropped and counted; dropping costs a second evaluation.

    Args:
        solver: P, one step of the reference in the objective's units, (B, C, *points) to itself.
        steps: T, the length of the rollout.
        branch: B, from 1 to T.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.
        reduction: "sum" over the terms, as in the paper, or their "mean".
        gradient: "full" through the rollout; "none" cuts it before every step, an integer after every so many.
        through_solver: differentiate P as well, so that the parameters feel how they move its start.
        limit: largest absolute value of a state that the solver is asked about.

    Raises:
        ValueError: a number is out of range.
    """

    horizon = 1  # windows have at least two states; the second is not looked at

    def __init__(
        self,
        solver: Map,
        steps: int,
        branch: int = 1,
        norm: Norm | Distance = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        gradient: Literal["full", "none"] | int = "full",
        through_solver: bool = False,
        limit: float = float("inf"),
    ) -> None:
        super().__init__()
        if not 1 <= branch <= steps or not limit > 0:
            raise ValueError(
                f"DivertedChain got steps={steps}, branch={branch}, limit={limit}; expected 1 <= branch <= steps "
                "and a positive limit."
            )
        reach = steps if gradient == "full" else 1 if gradient == "none" else gradient
        if not isinstance(reach, int) or isinstance(reach, bool) or reach < 1:
            raise ValueError(
                f"DivertedChain got gradient={gradient!r}; expected 'full', 'none' or a number of steps from 1."
            )
        if reduction not in ("mean", "sum"):
            raise ValueError(f"DivertedChain got reduction={reduction!r}; expected 'mean' or 'sum'.")
        self.solver = solver
        self.steps, self.branch, self.reach = int(steps), int(branch), reach
        self.reduction = reduction
        self.through_solver = through_solver
        self.limit = float(limit)
        self.discrepancy = Discrepancy(norm, channel_scale)

    def _chain(self, step: Map, u: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The rollout, and the branches of the solver from its states."""
        main = [u]
        for k in range(self.steps):
            last = main[-1]
            main.append(step(last.detach() if k and k % self.reach == 0 else last))
        branches = []
        for z in main[: self.steps - self.branch + 1]:
            with torch.set_grad_enabled(self.through_solver and torch.is_grad_enabled()):
                states = [z]
                for _ in range(self.branch):
                    states.append(self.solver(states[-1]))
            branches.append(states[1:])
        return main, branches

    def forward(
        self,
        step: Map,
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        u = checked_window(window, 1, "DivertedChain")[:, 0]
        main, branches = self._chain(step, u)
        good = finite_samples([*main, *(y for branch in branches for y in branch)], self.limit)
        parts: Parts = {"dropped": (~good).sum().to(u.dtype)}
        if not bool(good.all()):
            # Not masked but computed again: infinite derivatives of a dropped sample would survive a factor of 0.
            if not bool(good.any()):
                return without_samples(step, window), parts
            main, branches = self._chain(step, u[good])
        terms = []
        for j, branch in enumerate(branches):
            for b, y in enumerate(branch, start=1):
                loss = self.discrepancy(main[j + b], y).mean()
                terms.append(loss)
                parts[f"branch_{j}_{b}"] = loss.detach()
        total = torch.stack(terms).sum()
        return (total / len(terms) if self.reduction == "mean" else total), parts


class MixedChain(Objective):
    """Steps of the network, then steps of a solver, compared with the data: what the solver cannot mend counts.

        L = l(P^Q F^T(u_0), u_{T+Q}),   with `intermediate` also l(F^t(u_0), u_t) and l(P^q F^T(u_0), u_{T+q})

    Gradients pass through P: errors that the flow damps weigh less, errors that it enlarges weigh more. The
    `mix` chain, with post-physics, of Koehler et al., APEBench, NeurIPS 2024, arXiv 2411.00180. Samples that leave
    the finite numbers or exceed `limit` are dropped and counted.

    Args:
        solver: P, a differentiable step of the reference in the objective's units.
        steps: T, the network's.
        after: Q, the solver's, 0 or more; with 0 this is `Unrolled`.
        intermediate: whether the states on the way count as well, all alike.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.
        reduction: "mean" of the terms, or their "sum".
        limit: largest absolute value of a state that the solver is asked about.

    Raises:
        ValueError: a number is out of range, or a window is too short.
    """

    def __init__(
        self,
        solver: Map,
        steps: int = 1,
        after: int = 1,
        intermediate: bool = True,
        norm: Norm | Distance = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        limit: float = float("inf"),
    ) -> None:
        super().__init__()
        if steps < 1 or after < 0 or not limit > 0:
            raise ValueError(
                f"MixedChain got steps={steps}, after={after}, limit={limit}; expected at least one step, 0 or more "
                "after it, and a positive limit."
            )
        if reduction not in ("mean", "sum"):
            raise ValueError(f"MixedChain got reduction={reduction!r}; expected 'mean' or 'sum'.")
        self.solver = solver
        self.steps, self.after = int(steps), int(after)
        self.horizon = self.steps + self.after
        self.intermediate = intermediate
        self.reduction = reduction
        self.limit = float(limit)
        self.discrepancy = Discrepancy(norm, channel_scale)

    def _chain(self, step: Map, u: Tensor) -> list[Tensor]:
        states = [u]
        for k in range(self.horizon):
            states.append((step if k < self.steps else self.solver)(states[-1]))
        return states[1:]

    def forward(
        self,
        step: Map,
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = checked_window(window, self.horizon + 1, "MixedChain")
        states = self._chain(step, window[:, 0])
        good = finite_samples(states, self.limit)
        parts: Parts = {"dropped": (~good).sum().to(window.dtype)}
        if not bool(good.all()):
            if not bool(good.any()):
                return without_samples(step, window), parts
            window = window[good]
            states = self._chain(step, window[:, 0])
        terms = []
        for k, state in enumerate(states, start=1):
            if self.intermediate or k == self.horizon:
                loss = self.discrepancy(state, window[:, k]).mean()
                terms.append(loss)
                parts[f"step_{k}" if k <= self.steps else f"solver_{k - self.steps}"] = loss.detach()
        total = torch.stack(terms).sum()
        return (total / len(terms) if self.reduction == "mean" else total), parts
