"""What carries numbers of its own along, between states in physical units, as a study trains and judges it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.domains import Domain
from sciml.models.forecasters.base import Forecaster
from sciml.models.latent.observed import Observed


class ForecastSurrogate(nn.Module):
    """A forecaster, or latent dynamics, of normalised states, seen from states (B, C, *points) in physical units.

    It has the time step, domain and channels of a Step, and is one where a single state is history enough. Others
    begin with several states: `begin`, `advance` and `show`, or `forecast`.

    Args:
        forecaster: of states laid flat; an `Observed` is trained by gradients and not fitted.
        mean: of each channel (C,).
        std: of each channel (C,).
        dt: time that one step advances.
        domain: where the points lie.
        channels: names of the C channels.

    Raises:
        ValueError: the time is not positive.
    """

    def __init__(
        self,
        forecaster: Forecaster | Observed,
        mean: Tensor,
        std: Tensor,
        dt: float,
        domain: Domain,
        channels: Sequence[str],
    ) -> None:
        super().__init__()
        if not dt > 0:
            raise ValueError(f"ForecastSurrogate got dt={dt}; expected a positive time.")
        self.forecaster = forecaster
        self.register_buffer("mean", mean.detach().double().clone())
        self.register_buffer("std", std.detach().double().clone())
        self.mean: Tensor
        self.std: Tensor
        self.dt, self.domain, self.channels = float(dt), domain, tuple(channels)
        self._points: tuple[int, ...] = tuple(getattr(domain, "shape", ()))

    @property
    def history(self) -> int:
        """How many states a forecast starts from."""
        return self.forecaster.history

    def _scale(self, u: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * len(self._points))
        return self.mean.reshape(shape).to(u.device), self.std.reshape(shape).to(u.device)

    def _flat(self, u: Tensor) -> Tensor:
        """States (B, T, C, *points), normalised and laid flat, (B, T, n)."""
        if u.ndim != 3 + len(self._points) or u.shape[2] != len(self.channels):
            raise ValueError(
                f"ForecastSurrogate got states of shape {tuple(u.shape)}; expected (B, T, {len(self.channels)}, "
                f"*points) with channels {self.channels}."
            )
        mean, std = self._scale(u)
        return ((u.double() - mean) / std).flatten(2)

    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        """Learn from trajectories (B, T, C, *points).

        Raises:
            ValueError: they do not suit the forecaster, or it is trained by gradients.
        """
        if not isinstance(self.forecaster, Forecaster):
            raise ValueError(f"a {type(self.forecaster).__name__} is trained by gradients, not fitted.")
        self.forecaster.fit(self._flat(trajectories), generator)

    @torch.no_grad()
    def error(self, trajectories: Tensor) -> float:
        """Mean square error of one step from each piece of trajectories (B, T, C, *points), in normalised units."""
        data = self._flat(trajectories)
        length = self.history
        starts = range(0, data.shape[1] - length, max(1, (data.shape[1] - length) // 64))
        inner = self.forecaster
        found = [
            inner.show(inner.advance(inner.begin(data[:, s : s + length]))) - data[:, s + length]
            for s in starts
        ]
        return float(torch.stack(found).square().mean())

    def begin(self, history: Tensor) -> Tensor:
        """The last states (B, T >= history, C, *points) to what is carried along."""
        return self.forecaster.begin(self._flat(history[:, history.shape[1] - self.history :]))

    def advance(self, carried: Tensor) -> Tensor:
        """What is carried along, one step later."""
        return self.forecaster.advance(carried)

    def show(self, carried: Tensor) -> Tensor:
        """The states (B, C, *points) in physical units that it stands for."""
        flat = self.forecaster.show(carried)
        mean, std = self._scale(flat)
        return flat.double().reshape(len(flat), len(self.channels), *self._points) * std + mean

    def forecast(self, history: Tensor, steps: int) -> Tensor:
        """The next states: history (B, T >= history, C, *points) -> (B, steps, C, *points)."""
        with torch.no_grad():
            carried, found = self.begin(history), []
            for _ in range(steps):
                carried = self.advance(carried)
                found.append(self.show(carried))
        return torch.stack(found, dim=1).to(history.dtype)

    def forward(self, u: Tensor) -> Tensor:
        if self.history > 1:
            raise ValueError(
                f"a {type(self.forecaster).__name__} with a history of {self.history} states does not go on from one "
                "alone; use begin, advance and show, or forecast."
            )
        return self.show(self.advance(self.begin(u.unsqueeze(1)))).to(u.dtype)
