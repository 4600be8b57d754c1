"""The domain of systems that have no extent in space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """No space at all: where the states (B, C) of ordinary differential equations live.

    It has no axes and no coordinates; its one place has weight one, so that an integral is the value.
    """

    dimension: ClassVar[int] = 0
    shape: ClassVar[tuple[int, ...]] = ()
    lengths: ClassVar[tuple[float, ...]] = ()
    volume: ClassVar[float] = 1.0

    def weights(
        self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
    ) -> Tensor:
        """Weight one, of shape ()."""
        return torch.ones((), dtype=dtype, device=device)
