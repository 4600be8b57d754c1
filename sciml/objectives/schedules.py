"""Numbers that change while a model is trained: unrolled steps, noise, weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Schedule(ABC):
    """A number as a function of the training updates done so far.

    A pure function: who uses it counts the updates (see `Counted`) and stores the count with the model.
    """

    @abstractmethod
    def at(self, update: int) -> float:
        """The number at an update, 0 for the first."""

    @property
    @abstractmethod
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest number that it ever gives."""


@dataclass(frozen=True)
class Constant(Schedule):
    """The same number always; a plain number does as well."""

    value: float

    def at(self, update: int) -> float:
        return self.value

    @property
    def limits(self) -> tuple[float, float]:
        return self.value, self.value


def _check_updates(schedule: Schedule, updates: int, after: int) -> None:
    if updates < 1 or after < 0:
        raise ValueError(
            f"{type(schedule).__name__} got updates={updates}, after={after}; expected at least 1 and at least 0."
        )


@dataclass(frozen=True)
class Ramp(Schedule):
    """Linear from `first` to `last` in `updates` updates, constant before `after` and afterwards.

    Args:
        first, last: the ends.
        updates: from one to the other.
        after: updates before it begins.

    Raises:
        ValueError: `updates` is below 1 or `after` negative.
    """

    first: float
    last: float
    updates: int
    after: int = 0

    def __post_init__(self) -> None:
        _check_updates(self, self.updates, self.after)

    def at(self, update: int) -> float:
        part = min(1.0, max(0, update - self.after) / self.updates)
        return self.last if part == 1.0 else self.first + part * (self.last - self.first)

    @property
    def limits(self) -> tuple[float, float]:
        return min(self.first, self.last), max(self.first, self.last)


@dataclass(frozen=True)
class Geometric(Schedule):
    """Exponential from `first` to `last` in `updates` updates, constant before `after` and afterwards.

    Args:
        first, last: the ends, both positive.
        updates: from one to the other.
        after: updates before it begins.

    Raises:
        ValueError: an end is not positive, `updates` is below 1 or `after` negative.
    """

    first: float
    last: float
    updates: int
    after: int = 0

    def __post_init__(self) -> None:
        _check_updates(self, self.updates, self.after)
        if not min(self.first, self.last) > 0:
            raise ValueError(
                f"Geometric got first={self.first}, last={self.last}; expected positive numbers. To reach 0 "
                "use Ramp."
            )

    def at(self, update: int) -> float:
        part = min(1.0, max(0, update - self.after) / self.updates)
        return self.last if part == 1.0 else self.first * (self.last / self.first) ** part

    @property
    def limits(self) -> tuple[float, float]:
        return min(self.first, self.last), max(self.first, self.last)


@dataclass(frozen=True)
class Stairs(Schedule):
    """Constant between given updates: values[0] before at_updates[0], values[1] before at_updates[1], ...

    Args:
        values: n + 1 numbers.
        at_updates: n updates, growing.

    Raises:
        ValueError: the lengths do not fit, or the updates do not grow.
    """

    values: Sequence[float]
    at_updates: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "at_updates", tuple(self.at_updates))
        rising = all(a < b for a, b in zip((0, *self.at_updates), self.at_updates, strict=False))
        if len(self.values) != len(self.at_updates) + 1 or not rising:
            raise ValueError(
                f"Stairs got values {self.values} at updates {self.at_updates}; expected one value more than "
                "updates, and updates that grow from 1."
            )

    def at(self, update: int) -> float:
        return self.values[sum(update >= edge for edge in self.at_updates)]

    @property
    def limits(self) -> tuple[float, float]:
        return min(self.values), max(self.values)


@dataclass(frozen=True)
class Doubling(Schedule):
    """`first`, and twice as much after every `every` updates, up to `last`.

    Args:
        first, last: the ends, both positive, last not below first.
        every: updates between doublings.

    Raises:
        ValueError: a number is out of range.
    """

    first: float
    last: float
    every: int

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.last or self.every < 1:
            raise ValueError(
                f"Doubling got first={self.first}, last={self.last}, every={self.every}; expected "
                "0 < first <= last and every >= 1."
            )

    def at(self, update: int) -> float:
        doublings = min(update // self.every, math.ceil(math.log2(self.last / self.first)))
        return min(self.last, self.first * 2**doublings)

    @property
    def limits(self) -> tuple[float, float]:
        return self.first, self.last


@dataclass(frozen=True)
class Plateau(Schedule):
    """`first`, and twice (or, towards a smaller `last`, half) as much whenever the loss has stopped falling.

    For steps, free steps, noise and weights of terms of `Unrolled` and what is made of it, and for the weights of a
    `WeightedSum`. It is the training loss that is followed, in means over `every` updates.

    Args:
        first, last: the ends, both positive.
        every: updates in a mean.
        patience: means in a row that have not fallen below the least so far, before the change. After it the least is
            forgotten, since more steps have a larger loss.
        improvement: share by which a mean has to lie below the least to count as fallen.

    Raises:
        ValueError: a number is out of range.
    """

    first: float
    last: float
    every: int = 100
    patience: int = 3
    improvement: float = 0.01

    def __post_init__(self) -> None:
        good = min(self.first, self.last) > 0 and min(self.every, self.patience) >= 1
        if not good or not 0 <= self.improvement < 1:
            raise ValueError(
                f"Plateau got first={self.first}, last={self.last}, every={self.every}, patience={self.patience}, "
                f"improvement={self.improvement}; expected positive numbers and an improvement from 0 to below 1."
            )

    def at(self, update: int) -> float:
        raise ValueError(
            "Plateau follows a loss and is no function of the update; here take a schedule that is, such as Doubling."
        )

    def after(self, value: float) -> float:
        """What follows a value."""
        return min(self.last, 2 * value) if self.last > self.first else max(self.last, value / 2)

    @property
    def limits(self) -> tuple[float, float]:
        return min(self.first, self.last), max(self.first, self.last)


class Fixed(nn.Module):
    """A plain number where a schedule could be; it has no state to store."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.limits = (value, value)

    def forward(self) -> float:
        return self.value


class Counted(nn.Module):
    """A schedule with the count of the training updates it was asked in.

    Asked once per call of its owner; only calls in training mode count. The count is stored with the
    model, so that a resumed training goes on where it stopped.
    """

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.limits = schedule.limits
        self.updates = 0

    # The count stays a number of Python's: read from a buffer on a GPU, every update would wait for the last.
    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        self.updates = int(state)

    def forward(self) -> float:
        value = self.schedule.at(self.updates)
        if self.training:
            self.updates += 1
        return value


class Following(nn.Module):
    """A `Plateau` with what it has heard in training, which is stored with the model."""

    def __init__(self, schedule: Plateau) -> None:
        super().__init__()
        self.schedule = schedule
        self.limits = schedule.limits
        self.value, self.least, self.waited = float(schedule.first), math.inf, 0
        self.heard = 0
        self.total: Tensor | float = 0.0  # stays on its device until a mean is due

    def get_extra_state(self) -> Tensor:
        state = [self.value, self.least, self.waited, self.heard, float(self.total)]
        return torch.tensor(state, dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.value, self.least, waited, heard, self.total = state.tolist()
        self.waited, self.heard = int(waited), int(heard)

    def forward(self) -> float:
        return self.value

    def hear(self, loss: Tensor) -> None:
        """Take in the loss of an update."""
        if not self.training:
            return
        self.total = self.total + loss.detach().to(torch.float64)
        self.heard += 1
        if self.heard < self.schedule.every:
            return
        mean, self.total, self.heard = float(self.total) / self.heard, 0.0, 0
        if mean < (1 - self.schedule.improvement) * self.least:
            self.least, self.waited = mean, 0
            return
        self.waited += 1
        if self.waited >= self.schedule.patience and self.value != self.schedule.last:
            self.value, self.least, self.waited = self.schedule.after(self.value), math.inf, 0


def tell_loss(owner: nn.Module, loss: Tensor) -> None:
    """Let all schedules inside a module that follow the loss hear it."""
    for part in owner.modules():
        if isinstance(part, Following):
            part.hear(loss)


def counted(
    value: float | Schedule, name: str, low: float, high: float = math.inf, *, whole: bool = False
) -> Fixed | Counted | Following:
    """A number or schedule, ready to be asked for its present value.

    Args:
        value: the number or schedule.
        name: owner and argument for the message, as `Unrolled.steps`.
        low, high: what is admitted.
        whole: whether plain numbers must be whole; those of schedules are rounded by who asks.

    Raises:
        ValueError: it leaves [low, high] at some time, or is not whole.
    """
    found: Fixed | Counted | Following
    if isinstance(value, Plateau):
        found = Following(value)
    else:
        found = Counted(value) if isinstance(value, Schedule) else Fixed(value)
    owner, _, argument = name.partition(".")
    smallest, largest = found.limits
    if not (low <= smallest and largest <= high):
        reach = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{owner} got {argument}={value}; expected {reach}.")
    if whole and isinstance(found, Fixed) and (isinstance(value, bool) or value != int(found.value)):
        raise ValueError(f"{owner} got {argument}={value}; expected a whole number.")
    return found
