"""Averages of the weights along a training, which are evaluated in their place.

Buffers are averaged where they are floating point and copied where not. The networks here have no batch normalisation;
one that has would need its statistics measured anew with the averaged weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class WeightAverage:
    """A weighted mean of the states that it was shown.

    Attributes:
        weights: the mean by name, none before the first state.
        count: states shown so far.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] | None = None
        self.count = 0

    def add(self, module: nn.Module, kept: float) -> None:
        """mean <- kept mean + (1 - kept) state; the first state is the mean."""
        now = module.state_dict()
        self.count += 1
        if self.weights is None:
            self.weights = {name: value.detach().clone() for name, value in now.items()}
            return
        for name, value in now.items():
            if self.weights[name].device != value.device:  # loaded from a file
                self.weights[name] = self.weights[name].to(value.device)
            if value.is_floating_point() or value.is_complex():
                self.weights[name].lerp_(value.detach(), 1 - kept)
            else:
                self.weights[name].copy_(value)

    def add_exponentially(self, module: nn.Module, decay: float) -> None:
        """Exponential average with less memory at the start, so that the first weights are soon forgotten.

        A memory of 1 / (1 - decay) updates should be a small part of the run: with 0.9999 five thousand updates would
        still show where they began.
        """
        self.add(module, min(decay, (2 + self.count) / (11 + self.count)))

    def add_equally(self, module: nn.Module) -> None:
        """The plain mean of all states shown (Izmailov et al., arXiv 1803.05407)."""
        self.add(module, self.count / (self.count + 1))

    def state_dict(self) -> dict[str, Any]:
        """Mean and count."""
        return {"weights": self.weights, "count": self.count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.weights = None if state["weights"] is None else dict(state["weights"])
        self.count = int(state["count"])
