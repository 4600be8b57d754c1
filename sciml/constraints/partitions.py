"""Which expert is responsible for which point of a grid of times and places."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Partition(ABC):
    """Every point belongs to one of `count` experts."""

    count: int

    @abstractmethod
    def labels(self, shape: tuple[int, ...]) -> Tensor:
        """Numbers 0 to count - 1 of the experts on a grid (T, *points), int64 of that shape.

        Raises:
            ValueError: the grid does not fit.
        """


@dataclass(frozen=True)
class BlockPartition(Partition):
    """Blocks of nearly equal size.

    Args:
        blocks: how many along time and each axis of space; (1, 4) splits one axis of space in four and keeps time whole.

    Raises:
        ValueError: a number is less than one.
    """

    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(int(n) for n in self.blocks))
        if not self.blocks or min(self.blocks) < 1:
            raise ValueError(
                f"BlockPartition got {self.blocks}; expected at least one block along time and each axis."
            )

    @property
    def count(self) -> int:  # type: ignore[override]
        """The number of blocks."""
        return math.prod(self.blocks)

    def labels(self, shape: tuple[int, ...]) -> Tensor:
        if len(shape) != len(self.blocks) or any(b > n for b, n in zip(self.blocks, shape, strict=False)):
            raise ValueError(
                f"BlockPartition got {self.blocks} blocks for a grid (T, *points) of {tuple(shape)}; expected one number "
                "per axis, none above its points."
            )
        found = torch.zeros((), dtype=torch.int64)
        for blocks, n in zip(self.blocks, shape, strict=True):
            found = found.unsqueeze(-1) * blocks + torch.arange(n) * blocks // n
        return found


@dataclass(frozen=True)
class RandomPartition(Partition):
    """Points dealt out at random, as evenly as possible: what the same experts do without regions of their own.

    Args:
        count: of experts.
        seed: of the deal.

    Raises:
        ValueError: there is no expert.
    """

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"RandomPartition got {self.count} experts; expected at least one.")

    def labels(self, shape: tuple[int, ...]) -> Tensor:
        size = math.prod(shape)
        if size < self.count:
            raise ValueError(f"RandomPartition got {self.count} experts for {size} points.")
        order = torch.randperm(size, generator=torch.Generator().manual_seed(self.seed))
        return (order % self.count).reshape(shape)
