"""Point-wise nonlinearities by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Activation = Literal["gelu", "relu", "silu", "tanh"]

# GELU is the form with the error function: the tanh approximation is several times slower on a CPU.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The function behind `name`.

    Raises:
        ValueError: the name is not one of `ACTIVATIONS`.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"Got activation {name!r}; expected one of {list(ACTIVATIONS)}.")
    return ACTIVATIONS[name]
