"""Optimisers beside those of torch."""

import torch

from sciml.optimizers.lion import Lion

OPTIMIZERS: tuple[type[torch.optim.Optimizer], ...] = (Lion,)

__all__ = [
    "OPTIMIZERS",
    "Lion",
]
