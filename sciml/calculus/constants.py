"""Constants of an operator that keep their precision when the module around them is cast."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn


class Constants(nn.Module):
    """Named float64 tensors with their float32 copies, as buffers outside the state dict.

    They move between devices with the module that owns them, but `.float()` or `.to(dtype)` leaves
    them as they are: a wavenumber rounded to float32 and used in float64 would spoil a solver without
    a sign of it. Both copies are made at construction and never inside a call, because a tensor cached
    under `torch.func` or inference mode could not be used outside.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_buffer(f"{name}_double", value.to(torch.float64), persistent=False)
            self.register_buffer(f"{name}_single", value.to(torch.float32), persistent=False)

    def get(self, name: str, like: Tensor) -> Tensor:
        """The constant in the real precision of `like`."""
        dtype = like.dtype.to_real() if like.is_complex() else like.dtype
        if dtype == torch.float32:
            return self.get_buffer(f"{name}_single")
        value = self.get_buffer(f"{name}_double")
        return value if dtype == torch.float64 else value.to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Constants:
        for name, buffer in self._buffers.items():
            if buffer is not None:
                self._buffers[name] = buffer.to(device=fn(buffer.new_empty(0)).device)
        return self
