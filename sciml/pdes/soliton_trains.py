"""Sums of equally spaced solitons, which solve their equation exactly on a periodic box.

With Q(z) = sum_n k^2 sech^2(k(z - n L)) and F(z) = sum_n k sech(k(z - n L)),

    Q'' = a Q - 6 Q^2 - b,   a = 4 k^2 - 24 k^2 sum_{n>0} 1/sinh^2(n k L),
    F'' = e F - 2 F^3,       e = k^2 + 12 k^2 sum_{n>0} cosh(n k L)/sinh^2(n k L).

Both follow from the poles: shifted by i pi/(2 k) the sums have one double (single) pole in each period,
and a combination of an elliptic function whose poles cancel is a constant. The crests of a narrow box
overlap, and what is left of one soliton's speed and frequency are a and e; so a periodic box costs no
error. Toda, Physics Reports 18 (1975) 1-123; Whitham, IMA Journal of Applied Mathematics 32 (1984) 353-366.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sech_squared_train(z: Tensor, wavenumber: float, length: float) -> Tensor:
    """Q(z) = sum_n k^2 sech^2(k (z - n L)), to rounding; differentiable [1/length^2]."""
    # Terms fall like exp(-2 n k L): the first one left out is below rounding.
    return wavenumber**2 * (1 / torch.cosh(_images(z, wavenumber, length, 19.0))).square().sum(dim=-1)


def sech_train(z: Tensor, wavenumber: float, length: float) -> Tensor:
    """F(z) = sum_n k sech(k (z - n L)), to rounding; differentiable [1/length]."""
    return wavenumber * (1 / torch.cosh(_images(z, wavenumber, length, 38.0))).sum(dim=-1)


def sech_squared_speed(wavenumber: float, length: float) -> float:
    """a, the speed of 2 Q along u_t + 6 u u_x + u_xxx = 0; 4 k^2 in a wide box [1/length^2]."""
    terms = _terms(wavenumber * length)
    return wavenumber**2 * (4 - 24 * sum(1 / math.sinh(n) ** 2 for n in terms))


def sech_frequency(wavenumber: float, length: float) -> float:
    """e, the frequency of F along i psi_t + psi_xx + 2 |psi|^2 psi = 0; k^2 in a wide box [1/length^2]."""
    terms = _terms(wavenumber * length)
    return wavenumber**2 * (1 + 12 * sum(math.cosh(n) / math.sinh(n) ** 2 for n in terms))


def _images(z: Tensor, wavenumber: float, length: float, reach: float) -> Tensor:
    """k (z - n L) of the images nearest to z, on a new last axis."""
    count = math.ceil(reach / (wavenumber * length)) + 1
    z = z - length * torch.round(z.detach() / length)
    n = torch.arange(-count, count + 1, dtype=z.dtype, device=z.device)
    return wavenumber * (z.unsqueeze(-1) - length * n)


def _terms(side: float) -> list[float]:
    """n k L for n > 0 until the terms vanish beside 1."""
    return [n * side for n in range(1, math.ceil(40.0 / side) + 2) if n * side < 300.0]
