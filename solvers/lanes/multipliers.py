"""Which Fourier multipliers the compiled loops can take."""

from __future__ import annotations

from torch import Tensor


def real_or_turned(multiplier: Tensor) -> tuple[Tensor, int] | None:
    """(m, 0) of a real multiplier m, (m, 1) of i m, None of one that is neither."""
    if not multiplier.is_complex():
        return multiplier, 0
    if not bool(multiplier.imag.any()):
        return multiplier.real, 0
    return (multiplier.imag, 1) if not bool(multiplier.real.any()) else None
