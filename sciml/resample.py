"""The same field on another grid of the same box."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.step import LowFaces


def resample(u: Tensor, source: Grid, target: Grid, low_faces: LowFaces | None = None) -> Tensor:
    """Carry fields (..., *source.shape) to (..., *target.shape); linear and differentiable in u.

    All-periodic node grids: truncation or zero padding of the Fourier series, exact for what both grids resolve, so
    that coarse to fine and back is the identity but for the Nyquist mode, which is dropped. Cell grids: averages over
    whole blocks downwards, which conserves the integral, and linear interpolation of cell centres upwards, corrected
    block by block to keep each average. Bounded node grids: piecewise linear interpolation.

    Staggered states on cells: what lies on low faces of an axis (`Step.low_faces`) is averaged over the faces that make
    up a coarser one, so that a flow without divergence keeps none; upwards it is linear between faces, zero on walls.

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
    if low_faces is not None and any(low_faces):
        return _staggered(u, source, target, low_faces)
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


def _staggered(u: Tensor, source: Grid, target: Grid, low_faces: LowFaces) -> Tensor:
    """Channels (..., C, *points), each on its own faces."""
    dimension = source.dimension
    channels = u.ndim - dimension - 1
    if channels < 0 or u.shape[channels] != len(low_faces) or source.centering != "cell":
        raise ValueError(
            f"resample got low_faces of {len(low_faces)} channels for {tuple(u.shape)} on {source.centering}s; expected "
            "those of each channel, (..., C, *points), on cells."
        )
    parts = []
    for part, faces in zip(u.unbind(channels), low_faces, strict=True):
        for axis in range(dimension):
            n, m, dim = source.shape[axis], target.shape[axis], part.ndim - dimension + axis
            if axis not in faces or n == m:
                part = part if n == m else _cells(part, dim, m, source.periodic[axis])
            elif n % m == 0:
                part = part.unflatten(dim, (m, n // m)).select(dim + 1, 0)
            elif m % n == 0:
                part = _between(part, dim, m, source.sides[axis][1])
            else:
                raise ValueError(f"resample got {n} cells for {m}; one must be a multiple of the other.")
        parts.append(part)
    return torch.stack(parts, dim=channels)


def _between(u: Tensor, dim: int, m: int, high: str) -> Tensor:
    """Linear between the low faces of n cells, onto those of m; beyond the last, the side."""
    n = u.shape[dim]
    if high == "periodic":
        after = u.narrow(dim, 0, 1)
    elif high == "wall":
        after = torch.zeros_like(u.narrow(dim, 0, 1))
    else:
        after = u.narrow(dim, n - 1, 1)
    step = torch.cat([u, after], dim=dim).diff(dim=dim)
    share = torch.arange(m // n, dtype=u.dtype, device=u.device) / (m // n)
    share = share.reshape(-1, *[1] * (u.ndim - dim - 1))
    return (u.unsqueeze(dim + 1) + step.unsqueeze(dim + 1) * share).flatten(dim, dim + 1)
