"""What a hard constraint promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Context:
    """What a constraint may need to know beside the state and the one before it.

    Args:
        mean: volume-weighted means (B, C) or (C,) to hold instead of those of the previous state, such
            as the means of the initial state, or those that a known inflow asks for [unit of u].
    """

    mean: Tensor | None = None


class Constraint(nn.Module, ABC):
    """A projection onto admissible states, in physical units, differentiable.

    Projecting twice is projecting once, to rounding. `project` acts alike in training and in rollout;
    states in half precision come back in single precision, because a half cannot hold a conserved sum.
    """

    @abstractmethod
    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        """The admissible state that belongs to u, (B, C, *points) -> (B, C, *points).

        Args:
            u: the state to correct.
            previous: the state one step before, where the constraint refers to it.
            context: further targets.
        """

    @abstractmethod
    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """How far u is from admissible, (B, C, *points) -> (B,), zero or more [unit of u]."""

    def forward(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        return self.project(u, previous, context)


def checked_channels(channels: Sequence[int] | None, owner: str) -> tuple[int, ...] | None:
    """Channel numbers as a tuple, None for all of them.

    Raises:
        ValueError: the list is empty, or a number is negative or comes twice.
    """
    if channels is None:
        return None
    numbers = tuple(int(c) for c in channels)
    if not numbers or min(numbers) < 0 or len(set(numbers)) != len(numbers):
        raise ValueError(
            f"{owner} got channels {numbers}; expected different numbers from 0, or None for all channels."
        )
    return numbers


def select(u: Tensor, channels: tuple[int, ...] | None, owner: str) -> Tensor:
    """The chosen channels of u, (B, C, *points) -> (B, K, *points).

    Raises:
        ValueError: u has no such channel.
    """
    if channels is None:
        return u
    if max(channels) >= u.shape[1]:
        raise ValueError(f"{owner} acts on channels {channels}, but the state has {u.shape[1]}.")
    return u[:, list(channels)]


def replace_channels(u: Tensor, channels: tuple[int, ...] | None, values: Tensor) -> Tensor:
    """u with its chosen channels replaced by values (B, K, *points)."""
    if channels is None:
        return values
    index = torch.tensor(channels, device=u.device)
    return u.index_copy(1, index, values)


def at_least_single(u: Tensor) -> Tensor:
    """u, in float32 if it came in half precision."""
    return u.float() if u.dtype in (torch.float16, torch.bfloat16) else u
