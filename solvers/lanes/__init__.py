"""Compiled loops over lanes: one SIMD vector holds the same mode of 8 (float64) or 16 (float32) transforms.

Needs numba (the extra `compiled`). Everything here has a form in tensors elsewhere that gives the same numbers
to rounding and is used where numba is missing, on other devices and where derivatives are asked for.
"""

from importlib.util import find_spec


def available() -> bool:
    """Whether the compiled loops can be used."""
    return find_spec("numba") is not None
