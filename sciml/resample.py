"""The same field on another grid of the same box."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Grid


def resample(u: Tensor, source: Grid, target: Grid) -> Tensor:
    """Carry fields (..., *source.shape) to (..., *target.shape); linear and differentiable in u.

    All-periodic node grids: truncation or zero padding of the Fourier series, exact for what both grids resolve, so
    that coarse to fine and back is the identity but for the Nyquist mode, which is dropped. Cell grids: averages over
    whole blocks downwards, which conserves the integral, and linear interpolation of cell centres upwards, corrected
    block by block to keep each average. Bounded node grids: piecewise linear interpolation.

    Raises:
        ValueError: the boxes differ, or cells do not divide into whole blocks.
    """
    same = (source.lengths, source.origin, source.sides, source.centering)
    if same != (target.lengths, target.origin, target.sides, target.centering):
        raise ValueError(
            f"resample got grids of different boxes, {source} and {target}; they may differ in shape only."
        )
    if tuple(u.shape[-source.dimension :]) != source.shape:
        raise ValueError(f"resample got points {tuple(u.shape)} for a grid of {source.shape}.")
    if source.shape == target.shape:
        return u
    for axis in range(source.dimension):
        n, m, dim = source.shape[axis], target.shape[axis], u.ndim - source.dimension + axis
        if n == m:
            continue
        if source.centering == "cell":
            u = _cells(u, dim, m, source.periodic[axis])
        elif source.periodic[axis]:
            u = _fourier(u, dim, m)
        else:
            u = _linear(u, dim, m)
    return u


def _fourier(u: Tensor, dim: int, m: int) -> Tensor:
    n = u.shape[dim]
    spectrum = torch.fft.rfft(u, dim=dim, norm="forward")
    keep = (min(n, m) + 1) // 2  # wavenumbers below either Nyquist mode
    spectrum = spectrum.narrow(dim, 0, keep)
    missing = m // 2 + 1 - keep
    if missing:
        shape = list(spectrum.shape)
        shape[dim] = missing
        spectrum = torch.cat([spectrum, spectrum.new_zeros(shape)], dim=dim)
    return torch.fft.irfft(spectrum, n=m, dim=dim, norm="forward")


def _linear(u: Tensor, dim: int, m: int) -> Tensor:
    n = u.shape[dim]
    position = torch.linspace(0, n - 1, m, dtype=torch.float64, device=u.device)
    low = position.floor().long().clamp_(max=n - 2)
    weight = (position - low).to(u.dtype)
    a, b = u.index_select(dim, low), u.index_select(dim, low + 1)
    weight = weight.reshape(-1, *[1] * (u.ndim - dim - 1))
    return a + weight * (b - a)


def _cells(u: Tensor, dim: int, m: int, periodic: bool) -> Tensor:
    n = u.shape[dim]
    if n % m and m % n:
        raise ValueError(f"resample got {n} cells for {m}; one must be a multiple of the other.")
    if n > m:
        return u.unflatten(dim, (m, n // m)).mean(dim=dim + 1)
    factor = m // n
    left = u.narrow(dim, n - 1 if periodic else 0, 1)
    right = u.narrow(dim, 0 if periodic else n - 1, 1)
    padded = torch.cat([left, u, right], dim=dim)
    slope = (padded.narrow(dim, 2, n) - padded.narrow(dim, 0, n)) / 2
    offset = (torch.arange(factor, dtype=u.dtype, device=u.device) + 0.5) / factor - 0.5
    offset = offset.reshape(factor, *[1] * (u.ndim - dim - 1))
    # The offsets of a block sum to zero, so each block keeps its average.
    return (u.unsqueeze(dim + 1) + slope.unsqueeze(dim + 1) * offset).flatten(dim, dim + 1)
