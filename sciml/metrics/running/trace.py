"""A few numbers of each state, kept as series."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.metrics.running.base import Running


class Trace(Running):
    """Series of a few numbers per state, for what needs the order in time: spectra in time, delays, horizons.

    Memory grows by those numbers per state: 10,000 states of 4 samples and 8 numbers are 2.6 MB.

    Args:
        summary: state (B, C, *points) -> (B, K); the state itself, flattened, where left out.
        every: keep every that many states, beginning with the first.

    Raises:
        ValueError: `every` is below one.
    """

    def __init__(self, summary: Callable[[Tensor], Tensor] | None = None, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"Trace got every={every}; expected at least 1.")
        self.summary, self.every = summary, every
        self._seen = self._kept = 0
        self._buffer: Tensor | None = None  # (capacity, B, K), doubled when full

    def update(self, state: Tensor) -> None:
        if self._seen % self.every == 0:
            u = state.detach()
            values = (u.reshape(len(u), -1) if self.summary is None else self.summary(u)).double()
            if self._buffer is None:
                self._buffer = values.new_empty(64, *values.shape)
            if values.shape != self._buffer.shape[1:]:
                raise ValueError(
                    f"Trace followed {tuple(self._buffer.shape[1:])} numbers and got {tuple(values.shape)}; every "
                    "update needs the same samples."
                )
            if self._kept == len(self._buffer):
                self._buffer = torch.cat([self._buffer, torch.empty_like(self._buffer)])
            self._buffer[self._kept] = values
            self._kept += 1
        self._seen += 1

    @property
    def series(self) -> Tensor:
        """What was kept (B, T, K), in double precision; a lost sample stays in, as what is not finite."""
        if self._buffer is None:
            raise ValueError("Trace has seen no state yet; call update first.")
        return self._buffer[: self._kept].transpose(0, 1)

    def merge(self, other: Trace) -> None:
        """Append the samples of another one that has seen as many states."""
        mine, theirs = self.series, other.series
        if (self._seen, self.every, mine.shape[2]) != (other._seen, other.every, theirs.shape[2]):
            raise ValueError(
                f"Trace of {self._seen} states every {self.every} cannot merge with one of {other._seen} every "
                f"{other.every}; samples are put side by side, so both have to be as long."
            )
        self._buffer = torch.cat([mine, theirs.to(mine)]).transpose(0, 1).contiguous()

    def state_dict(self) -> dict[str, Any]:
        kept = None if self._buffer is None else self._buffer[: self._kept].clone()
        return {"kept": kept, "seen": self._seen, "every": self.every}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["every"] != self.every:
            raise ValueError(f"Trace every {self.every} got the state of one every {state['every']}.")
        kept = state["kept"]
        self._buffer, self._kept = kept, 0 if kept is None else len(kept)
        self._seen = int(state["seen"])


def point_values(points: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """A summary: the values at a few points, counted along the flattened axes, (B, C, *points) -> (B, C len(points))."""
    index = torch.as_tensor(points, dtype=torch.int64)
    return lambda u: u.flatten(2)[:, :, index.to(u.device)].flatten(1)


def leading_modes(grid: Grid, count: int) -> Callable[[Tensor], Tensor]:
    """A summary: real and imaginary parts of the longest waves of a periodic grid, (B, C, *points) -> (B, 2 C count).

    The mean is left out, and of k and -k one is taken; waves of equal length come in lexical order. Amplitudes are
    those of exp(i k x): half of a cosine's. The channel runs slowest.

    Raises:
        ValueError: the grid has a bounded axis, or fewer waves.
    """
    span = range(-min(count, max(grid.shape)), min(count, max(grid.shape)) + 1)
    candidates = [
        (sum((k / length) ** 2 for k, length in zip(wave, grid.lengths, strict=True)), wave)
        for wave in itertools.product(span, repeat=grid.dimension)
        if wave > (0,) * grid.dimension
        and all(abs(k) < n / 2 for k, n in zip(wave, grid.shape, strict=True))
    ]
    if not all(grid.periodic) or not 1 <= count <= len(candidates):
        raise ValueError(
            f"leading_modes got {count} waves on a grid of {grid.shape} with periodic axes {grid.periodic}; expected a "
            "grid that is periodic everywhere, and at least one wave that it resolves."
        )
    chosen = [wave for _, wave in sorted(candidates)[:count]]
    unit = torch.stack(
        torch.meshgrid(*[torch.arange(n, dtype=torch.float64) / n for n in grid.shape], indexing="ij")
    ).flatten(1)
    phase = 2 * math.pi * torch.tensor(chosen, dtype=torch.float64) @ unit
    table = torch.stack([phase.cos(), -phase.sin()], dim=1).flatten(0, 1).T / unit.shape[1]  # (N, 2 count)
    return lambda u: (u.flatten(2) @ table.to(u)).flatten(1)
