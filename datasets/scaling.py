"""Normalisation per channel, from a dataset's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.errors import UserError

if TYPE_CHECKING:
    from sciml.datasets.statistics import Statistics


@dataclass(frozen=True, eq=False)
class Scaling:
    """(u - shift) / scale per channel, and back.

    Args:
        shift: per channel (C,) [unit of the channel].
        scale: per channel (C,) [unit of the channel], positive.

    Raises:
        UserError: a scale is not positive.
    """

    shift: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if not bool((self.scale > 0).all()):
            raise UserError(f"Scaling got scales {self.scale.tolist()}; expected positive numbers.")

    @classmethod
    def z_score(cls, statistics: Statistics) -> Scaling:
        """Mean zero and standard deviation one over the training split; a channel that never varies keeps its scale."""
        return cls(statistics.mean, _positive(statistics.std))

    @classmethod
    def rms(cls, statistics: Statistics) -> Scaling:
        """Root mean square one over the training split; zero stays zero, and so does a sign."""
        return cls(torch.zeros_like(statistics.rms), _positive(statistics.rms))

    @classmethod
    def delta(cls, statistics: Statistics, how: str = "z_score") -> Scaling:
        """Of differences of neighbouring stored frames, which a network that gives increments aims at.

        Args:
            statistics: of the training split.
            how: "z_score" or "rms".

        Raises:
            UserError: another name.
        """
        if how == "z_score":
            return cls(statistics.mean_delta, _positive(statistics.std_delta))
        if how == "rms":
            return cls(torch.zeros_like(statistics.rms_delta), _positive(statistics.rms_delta))
        raise UserError(f"Scaling.delta got how={how!r}; expected 'z_score' or 'rms'.")

    def __call__(self, u: Tensor, axis: int = 1) -> Tensor:
        """Scaled values; `axis` is that of the channels."""
        return (u - self._shaped(self.shift, u, axis)) / self._shaped(self.scale, u, axis)

    def inverse(self, u: Tensor, axis: int = 1) -> Tensor:
        """Values in physical units again."""
        return u * self._shaped(self.scale, u, axis) + self._shaped(self.shift, u, axis)

    def _shaped(self, values: Tensor, u: Tensor, axis: int) -> Tensor:
        if u.shape[axis] != len(values):
            raise UserError(f"Scaling of {len(values)} channels got {u.shape[axis]} along axis {axis}.")
        return values.to(u).reshape(-1, *[1] * (u.ndim - 1 - axis))


def _positive(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, torch.ones_like(values))
