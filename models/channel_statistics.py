"""Mean and standard deviation of channels inside networks that give amounts in physical units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.calculus.constants import Constants


class ChannelStatistics(nn.Module):
    """Mean and standard deviation of each channel in the precision of what they meet; without any, nothing is changed.

    For steps that hand their network (u - mean) / std and scale what comes back themselves, because it is a transport or a
    potential and no state. `Normalized` does both for a state. Outside the state dict.

    Args:
        owner: whose they are, for messages.
        mean, std: one number or one per channel (C,), none or both [unit of u].
        dimension: number of axes of points behind the channels.
        channels: C, where it is known.

    Raises:
        ValueError: one of both is missing, their numbers differ or are not those of the channels, or a std is not positive.
    """

    def __init__(
        self,
        owner: str,
        mean: Tensor | Sequence[float] | float | None,
        std: Tensor | Sequence[float] | float | None,
        dimension: int,
        channels: int | None = None,
    ) -> None:
        super().__init__()
        values: dict[str, Tensor] = {}
        self.known = mean is not None and std is not None
        if (mean is None) != (std is None):
            raise ValueError(f"{owner} got one of mean and std; expected both or none.")
        if mean is not None and std is not None:
            for name, numbers in (("mean", mean), ("std", std)):
                vector = torch.as_tensor(numbers, dtype=torch.float64).detach().clone()
                values[name] = vector.reshape(-1, *[1] * dimension)
            sizes = {len(values["mean"]), len(values["std"])}
            fits = len(sizes) == 1 and (channels is None or sizes <= {1, channels})
            if not fits or not bool((values["std"] > 0).all()):
                raise ValueError(
                    f"{owner} got {len(values['mean'])} means and std = {values['std'].flatten().tolist()}; expected one "
                    f"of each for {'every channel' if channels is None else f'{channels} channels'}, or one for all, and a "
                    "positive std."
                )
        self.constants = Constants(values)

    def mean(self, like: Tensor) -> Tensor:
        """(C, 1, ...) or (1, 1, ...), zero without statistics, in the precision of `like`."""
        return self.constants.get("mean", like) if self.known else like.new_zeros(())

    def std(self, like: Tensor) -> Tensor:
        """(C, 1, ...) or (1, 1, ...), one without statistics, in the precision of `like`."""
        return self.constants.get("std", like) if self.known else like.new_ones(())

    def normalised(self, u: Tensor) -> Tensor:
        """(u - mean) / std, (B, C, *points)."""
        return (u - self.mean(u)) / self.std(u) if self.known else u
