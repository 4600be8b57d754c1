"""What a hard constraint promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor, nn

from sciml.domains import Cloud, Domain


@dataclass(frozen=True)
class Context:
    """What a constraint may need to know beside the state and the one before it.

    Args:
        mean: volume-weighted means (B, C) or (C,) to hold instead of those of the previous state, such
            as the means of the initial state, or those that a known inflow asks for [unit of u].
        targets: what further constraints hold, by the names under which they look it up: right-hand sides of
            rows, coarse values of blocks, prescribed values of points.
    """

    mean: Tensor | None = None
    targets: Mapping[str, Tensor] = field(default_factory=dict)


class Exact(nn.Module):
    """A module whose own buffers in float64 stay so: moved to another precision, only their device follows."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        exact = {n: b for n, b in self._buffers.items() if b is not None and b.dtype == torch.float64}
        super()._apply(fn, recurse)
        for name, before in exact.items():
            after = self._buffers[name]
            self._buffers[name] = before if after is None else before.to(after.device)
        return self


class Constraint(Exact, ABC):
    """A projection onto admissible states, in physical units, differentiable.

    Projecting twice is projecting once, to rounding. `project` acts alike in training and in rollout;
    states in half precision come back in single precision, because a half cannot hold a conserved sum.
    """

    exactness: float = 0.0
    """What `violation` may be after `project` in float64, beyond rounding; zero where that is all that is left."""

    @property
    def nonexpansive(self) -> bool:
        """Whether `project` never enlarges a difference of two states, |P u - P v| <= |u - v|, with the same `previous`.

        In the norm weighted by volumes, and by the squares of scales where there are some: a step that contracts in this
        norm still does so with the projection behind it.
        """
        return False

    def prepare(self, channels: int) -> None:
        """Do once what depends on the number of channels of the states only, such as factors of rows.

        Raises:
            ValueError: no state of so many channels is admissible.
        """
        return None

    def orthogonal(self) -> Tensor | None:
        """Volumes of the points (*points) in whose norm `project` gives the nearest state of an affine set.

        None for constraints that are not affine, or not the same for all states. With these volumes rows of others can
        be met inside the set, see `Stack`.
        """
        return None

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


def point_volumes(domain: Domain, volumes: Sequence[float] | Tensor | None, owner: str) -> Tensor:
    """Volumes of the points, (*points) in float64 [length^D].

    Args:
        domain: gives them, unless it is a cloud.
        volumes: in their place, of the shape of the points; those of a cloud's particles.
        owner: for messages.

    Raises:
        TypeError: the domain is a cloud, and no volumes are given.
        ValueError: the shape does not fit, or a volume is not positive; the points are named.
    """
    if volumes is not None:
        found = torch.as_tensor(volumes, dtype=torch.float64).detach().clone()
        if not isinstance(domain, Cloud) and found.shape != domain.shape:
            raise ValueError(
                f"{owner} got volumes of shape {tuple(found.shape)}; expected {tuple(domain.shape)}, one per point."
            )
    elif isinstance(domain, Cloud):
        raise TypeError(
            f"{owner} got a {type(domain).__name__}; expected a Grid or a Mesh, whose points have volumes, or volumes "
            "for the particles."
        )
    else:
        found = domain.weights()
    bad = ~(torch.isfinite(found) & (found > 0))
    if bool(bad.any()):
        where = [tuple(p) for p in bad.nonzero().tolist()]
        raise ValueError(
            f"{owner} got volumes that are not positive at {len(where)} points: {named(where)}, the first being "
            f"{float(found[where[0]])}. A node of a mesh needs a cell that it belongs to."
        )
    return found


def named(things: Sequence[object], most: int = 6) -> str:
    """The first few of many, for messages."""
    more = f" and {len(things) - most} more" if len(things) > most else ""
    return ", ".join(map(str, things[:most])) + more


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
