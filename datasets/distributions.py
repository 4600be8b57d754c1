"""How a parameter of an equation is drawn for one sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch


class Distribution(Protocol):
    """Draws one number; whatever it draws comes from the generator alone."""

    def __call__(self, generator: torch.Generator) -> float: ...


def _unit(generator: torch.Generator) -> float:
    return float(torch.rand((), dtype=torch.float64, generator=generator))


@dataclass(frozen=True)
class Constant:
    """The same number for all samples, kept as a constant of the dataset."""

    value: float

    def __call__(self, generator: torch.Generator) -> float:
        return self.value


@dataclass(frozen=True)
class Uniform:
    """Even between `low` and `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"Uniform got low={self.low}, high={self.high}; expected low < high.")

    def __call__(self, generator: torch.Generator) -> float:
        return self.low + (self.high - self.low) * _unit(generator)


@dataclass(frozen=True)
class LogUniform:
    """Even in the logarithm, between two positive numbers."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"LogUniform got low={self.low}, high={self.high}; expected 0 < low < high.")

    def __call__(self, generator: torch.Generator) -> float:
        return math.exp(math.log(self.low) + math.log(self.high / self.low) * _unit(generator))


@dataclass(frozen=True)
class Choice:
    """One of the listed numbers, each as likely."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("Choice got no values; give at least one.")

    def __call__(self, generator: torch.Generator) -> float:
        return self.values[int(torch.randint(len(self.values), (), generator=generator))]
