"""Which samples of a batch may not be stored, from when on, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.errors import UserError
from sciml.pdes.admissible import HasLimits
from sciml.trajectory import Field


def channel_bounds(
    bounds: Mapping[str, tuple[float, float]], fields: Sequence[Field], dimension: int
) -> Mapping[str, tuple[float, float]]:
    """The bounds of each channel that has some, by name; a field's name stands for all its channels."""
    found = {}
    for f in fields:
        for channel in f.channels(dimension):
            if f.name in bounds or channel in bounds:
                found[channel] = bounds[channel] if channel in bounds else bounds[f.name]
    return found


def check_bounds(
    bounds: Mapping[str, tuple[float, float]], fields: Sequence[Field], dimension: int, recipe: str
) -> None:
    """Refuse bounds of something that the recipe does not store.

    Raises:
        UserError: a name is neither a field nor a channel.
    """
    known = [f.name for f in fields]
    known += [c for f in fields for c in f.channels(dimension) if c not in known]
    for name in bounds:
        if name not in known:
            raise UserError(f"Recipe {recipe!r} gives bounds of {name!r}; it has {', '.join(known)}.")


class Watch:
    """Follows a batch frame by frame and keeps, of each sample, the first fault.

    Args:
        samples: in the batch.
        channels: names of the C channels.
        bounds: lowest and highest value of some channels, both admitted, in the precision of storage.
    """

    def __init__(
        self, samples: int, channels: Sequence[str], bounds: Mapping[str, tuple[float, float]]
    ) -> None:
        self.faults: list[tuple[int, str] | None] = [None] * samples
        self._channels = tuple(channels)
        pairs = [bounds.get(name, (-math.inf, math.inf)) for name in channels]
        self._low = torch.tensor([low for low, _ in pairs], dtype=torch.float32)
        self._high = torch.tensor([high for _, high in pairs], dtype=torch.float32)
        self._bounded = [c for c, name in enumerate(channels) if name in bounds]

    def see(self, frame: int, stored: Tensor, state: Tensor | None = None, law: Any = None) -> None:
        """Look at one frame.

        Args:
            frame: its number.
            stored: what would be stored, (B, C, *points) float32.
            state: the solver's own state, (B, C, *points), which `law` is asked about.
            law: the equation, which may limit quantities of the state.
        """
        if not self._sound(stored):
            self._look(frame, stored)
        if state is not None and isinstance(law, HasLimits):
            for limit in law.limits(state):
                least, most = torch.aminmax(limit.values.flatten(1), dim=1)
                for sample in (
                    torch.nonzero(~((least > limit.low) & (most < limit.high))).flatten().tolist()
                ):
                    if self.faults[sample] is None:
                        value = float(least[sample] if not least[sample] > limit.low else most[sample])
                        said = f"{limit.name} is {value:.4g}, outside {limit.low:g} to {limit.high:g}"
                        self.faults[sample] = (frame, said)

    def _sound(self, stored: Tensor) -> bool:
        """Whether all is well with all samples, which is the usual case and quickly told."""
        low, high = torch.aminmax(stored)  # NaN goes through
        sound = bool(torch.isfinite(low) & torch.isfinite(high))
        for channel in self._bounded if sound else ():
            low, high = torch.aminmax(stored[:, channel])
            sound = sound and bool((low >= self._low[channel]) & (high <= self._high[channel]))
        return sound

    def _look(self, frame: int, stored: Tensor) -> None:
        """Find the samples that are not well."""
        flat = stored.flatten(2) if stored.ndim > 2 else stored.unsqueeze(2)
        low, high = torch.aminmax(flat, dim=2)
        finite = torch.isfinite(low) & torch.isfinite(high)
        good = finite & (low >= self._low) & (high <= self._high)
        if not bool(good.all()):
            for sample, channel in torch.nonzero(~good).tolist():
                if self.faults[sample] is not None:
                    continue
                name = self._channels[channel]
                said = f"{name} is not finite"
                if bool(finite[sample, channel]):
                    a, b = (float(x[sample, channel]) for x in (low, high))
                    expected = f"{float(self._low[channel]):g} to {float(self._high[channel]):g}"
                    said = f"{name} reaches from {a:g} to {b:g}, outside {expected}"
                self.faults[sample] = (frame, said)
