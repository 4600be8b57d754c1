"""Compiled loops over lanes: one SIMD vector holds the same mode of 8 (float64) or 16 (float32) transforms.

Needs numba (the extra `compiled`). Everything here has a form in tensors elsewhere that gives the same numbers
to rounding and is used where numba is missing, on other devices and where derivatives are asked for.
"""

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.autograd import forward_ad


def available() -> bool:
    """Whether the compiled loops can be used."""
    return find_spec("numba") is not None


def is_differentiated(u: Tensor) -> bool:
    """Whether somebody may ask for a derivative of what is computed from u."""
    return (
        (torch.is_grad_enabled() and u.requires_grad)
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )
