"""Do rollouts visit what the data visit? A term that compares distributions, not states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.calculus.base import Calculus
from sciml.calculus.finite_difference import FiniteDifference
from sciml.calculus.spectral import Spectral
from sciml.domains import Grid
from sciml.metrics.sinkhorn import sinkhorn_divergence
from sciml.objectives.schedules import Schedule
from sciml.objectives.terms import Term


def grid_calculus(grid: Grid) -> Calculus:
    """How to differentiate fields on a grid: by Fourier series between periodic nodes, else by fourth-order differences."""
    if all(grid.periodic) and grid.centering == "node":
        return Spectral(grid)
    return FiniteDifference(grid, 4)


class Statistics(nn.Module, ABC):
    """A few numbers at each place and time whose joint distribution is to be right."""

    @abstractmethod
    def forward(self, trajectory: Tensor) -> Tensor:
        """(B, T, C, *points) -> (B, T, D, *points)."""


class States(Statistics):
    """The values of the state themselves, D = C."""

    def forward(self, trajectory: Tensor) -> Tensor:
        return trajectory


class Gradients(Statistics):
    """First derivatives of every channel along every axis, D = C times the number of axes.

    Args:
        grid: where the points lie.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.calculus = grid_calculus(grid)
        self.dimension = grid.dimension

    def forward(self, trajectory: Tensor) -> Tensor:
        flat = trajectory.flatten(0, 1)
        found = torch.cat([self.calculus.derivative(flat, axis) for axis in range(self.dimension)], dim=1)
        return found.unflatten(0, trajectory.shape[:2])


class Together(Statistics):
    """Several statistics side by side, so that their joint distribution counts.

    Args:
        members: the statistics.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, members: Sequence[Statistics]) -> None:
        super().__init__()
        if not members:
            raise ValueError("Together got no statistics; give one or more.")
        self.members = nn.ModuleList(members)

    def forward(self, trajectory: Tensor) -> Tensor:
        return torch.cat([member(trajectory) for member in self.members], dim=2)


class InvariantMeasure(Term):
    """Sinkhorn divergence between the values that statistics take along a rollout and along the data.

    Asks a rollout too long to be predicted to stay where the data are: for each sample the numbers at all places and
    times are one set of points in D dimensions. They are standardised by mean and spread of the data of the batch.
    Where states are small (an ODE of a few numbers) take long rollouts, so that there are points to compare. Jiang,
    Lu, Orlova and Willett, NeurIPS 2023, arXiv 2306.01187, train L96 with weight 3 and blur 0.02.

    Args:
        statistics: what is compared, the states themselves if left out; a class of your own can be named by its file.
        weight: what it is multiplied by, a number or a schedule.
        blur: length below which points are not told apart, in units of their spread.
        points: at most that many points a sample, evenly chosen; cost and memory grow with their square.
        iterations: of Sinkhorn's algorithm at the last blur, at most; what few of them leave cancels for the most part.

    Raises:
        ValueError: a number is not positive.
    """

    def __init__(
        self,
        statistics: Statistics | None = None,
        weight: float | Schedule = 3.0,
        blur: float = 0.02,
        points: int = 256,
        iterations: int = 5,
    ) -> None:
        super().__init__(weight, "invariant_measure")
        if not blur > 0 or points < 2 or iterations < 1:
            raise ValueError(
                f"InvariantMeasure got blur={blur}, points={points}, iterations={iterations}; expected a positive "
                "blur, at least two points and one iteration."
            )
        self.statistics = States() if statistics is None else statistics
        self.blur, self.points, self.iterations = float(blur), int(points), int(iterations)

    def _points(self, trajectory: Tensor) -> Tensor:
        """(B, T, C, *points) -> (B, N, D)."""
        found = self.statistics(trajectory)
        found = found.movedim(2, -1).flatten(1, -2)
        every = -(-found.shape[1] // self.points)
        return found[:, ::every]

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        ours, theirs = self._points(pred[:, 1:]), self._points(target[:, 1:])
        mean = theirs.mean(dim=(0, 1))
        spread = theirs.std(dim=(0, 1)).clamp_min(torch.finfo(theirs.dtype).tiny)
        # Half of the squared distance is the cost there: with entropy blur^2 the divergence is half of ours.
        return 0.5 * sinkhorn_divergence(
            (ours - mean) / spread, (theirs - mean) / spread, 2 * self.blur**2, iterations=self.iterations
        )
