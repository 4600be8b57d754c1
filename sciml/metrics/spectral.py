"""Errors scale by scale.

Wavenumbers are integers, in units of the lowest one of the longest side, and modes are gathered in shells
s = floor(|k|). All modes are counted, those with wavenumbers of opposite sign as well, so the shells of an
error add up to its mean square (Parseval). Bounded axes of a grid are continued evenly, which makes them
periodic without a jump.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.metrics.pointwise import checked_pair


def _checked(u: Tensor, grid: Grid | None, owner: str) -> None:
    if u.ndim < 4 or u.ndim > 6:
        raise ValueError(f"{owner} got shape {tuple(u.shape)}; expected (B, T, C, *points) on a grid.")
    if grid is not None and tuple(u.shape[3:]) != grid.shape:
        raise ValueError(f"{owner} got points {tuple(u.shape[3:])} on a grid of {grid.shape}.")


def _periodised(u: Tensor, grid: Grid | None) -> tuple[Tensor, tuple[float, ...]]:
    """u continued evenly along bounded axes, and the lengths of the continued box."""
    if grid is None:
        return u, (1.0,) * (u.ndim - 3)
    lengths = list(grid.lengths)
    for axis, periodic in enumerate(grid.periodic):
        if not periodic:
            d = axis + 3
            n = u.shape[d]
            # Nodes on the walls are not repeated, cells are: either way the mean square is kept.
            mirror = u.narrow(d, 1, n - 2) if grid.centering == "node" else u
            u = torch.cat([u, mirror.flip(d)], dim=d)
            lengths[axis] *= 2
    return u, tuple(lengths)


def _radius(shape: Sequence[int], lengths: Sequence[float], longest: float, device: torch.device) -> Tensor:
    """|k| of the modes of an rfftn, in units of the lowest wavenumber of a side `longest`."""
    lines = []
    for axis, (n, length) in enumerate(zip(shape, lengths, strict=True)):
        frequencies = torch.fft.rfftfreq if axis == len(shape) - 1 else torch.fft.fftfreq
        lines.append(frequencies(n, d=1 / n, dtype=torch.float64) * (longest / length))
    squares = torch.stack([line.square() for line in torch.meshgrid(*lines, indexing="ij")]).sum(0)
    return squares.sqrt().to(device)


def _power(u: Tensor) -> Tensor:
    """|u^|^2 / N^2 of each mode, those of the half that rfftn leaves out added to their partners."""
    axes = tuple(range(3, u.ndim))
    power = torch.fft.rfftn(u, dim=axes, norm="forward").abs().square()
    n = u.shape[-1]
    twice = torch.full((power.shape[-1],), 2.0, dtype=power.dtype, device=u.device)
    twice[0] = 1.0
    if n % 2 == 0:
        twice[-1] = 1.0
    return power * twice


def _gather(power: Tensor, bins: Tensor, count: int) -> Tensor:
    """Sum of the power in each bin, (B, T, C, *modes) -> (B, T, C, count)."""
    out = torch.zeros(*power.shape[:3], count, dtype=power.dtype, device=power.device)
    return out.index_add(3, bins.flatten(), power.flatten(3))


@lru_cache(maxsize=16)
def _layout(
    shape: tuple[int, ...], lengths: tuple[float, ...], longest: float, device: torch.device
) -> tuple[Tensor, int]:
    """Shell of each mode, and the last shell that every axis resolves."""
    with torch.inference_mode(False):  # what is kept has to serve calls with gradients as well
        radius = _radius(shape, lengths, longest, device)
        # The shift keeps exact integers in their own shell when the sides are not powers of two apart.
        shells = (radius + 1e-9).floor().long()
    resolved = min(n // 2 * longest / length for n, length in zip(shape, lengths, strict=True))
    return shells, max(1, int(resolved + 1e-9))


def _shells(u: Tensor, grid: Grid | None) -> tuple[Tensor, Tensor, int]:
    """Power of the modes, their shells, and the last shell that every axis resolves."""
    u, lengths = _periodised(u, grid)
    longest = 1.0 if grid is None else max(grid.lengths)
    shells, resolved = _layout(tuple(u.shape[3:]), lengths, longest, u.device)
    return _power(u), shells, resolved


def resolved_shells(grid: Grid) -> int:
    """The last shell that every axis of the grid resolves; distances compare shells 1 to this one."""
    longest = max(grid.lengths)
    limits = []
    for n, h, length, periodic in zip(grid.shape, grid.spacing, grid.lengths, grid.periodic, strict=True):
        # Continued evenly, a bounded axis has an even number of points; a periodic one may be odd.
        limits.append(n // 2 / length if periodic else 1 / (2 * h))
    return max(1, int(longest * min(limits) + 1e-9))


def spectrum(u: Tensor, grid: Grid | None = None) -> Tensor:
    """Half the mean square of each shell of wavenumbers, (B, T, C, *points) -> (B, T, C, S).

    Shell s holds s <= |k| < s + 1; their sum over s is <u^2>/2 to rounding. The last shells reach into the
    corners of the spectral box and are not full; `grid=None` takes a periodic box with equal sides.
    """
    _checked(u, grid, "spectrum")
    power, shells, _ = _shells(u, grid)
    return 0.5 * _gather(power, shells, int(shells.max()) + 1)


def energy_spectrum(u: Tensor, grid: Grid | None = None, channels: Sequence[int] | None = None) -> Tensor:
    """Kinetic energy per shell: `spectrum` summed over the velocity channels, -> (B, T, S)."""
    return spectrum(u if channels is None else u[:, :, list(channels)], grid).sum(dim=2)


def _spectra(pred: Tensor, ref: Tensor, grid: Grid | None, owner: str) -> tuple[Tensor, Tensor]:
    """Spectra from shell 1 to the last that every axis resolves."""
    checked_pair(pred, ref, None, owner)
    _checked(pred, grid, owner)
    out = []
    for u in (pred, ref):
        power, shells, last = _shells(u, grid)
        out.append(0.5 * _gather(power, shells, int(shells.max()) + 1)[..., 1 : last + 1])
    return out[0], out[1]


def log_spectral_distance(pred: Tensor, ref: Tensor) -> Tensor:
    """Root mean square of ln(E_pred) - ln(E_ref) over the last axis, (..., S) -> (...).

    A floor of 1e-12 of the largest reference energy is added to both. Average spectra over time first to
    compare statistics; take them frame by frame to find a blow-up.
    """
    floor = (1e-12 * ref.amax(dim=-1, keepdim=True)).clamp_min(torch.finfo(ref.dtype).tiny)
    return ((pred + floor).log() - (ref + floor).log()).square().mean(dim=-1).sqrt()


def spectral_distance(pred: Tensor, ref: Tensor, grid: Grid | None = None) -> Tensor:
    """Log-spectral distance of the resolved shells, mean excluded, (B, T, C); see `log_spectral_distance`."""
    return log_spectral_distance(*_spectra(pred, ref, grid, "spectral_distance"))


def high_band_gain(pred: Tensor, ref: Tensor, grid: Grid | None = None) -> Tensor:
    """Energy in the upper half of the resolved shells, prediction over reference, (B, T, C).

    Much above one: small scales blow up; much below: they are smoothed away.
    """
    return band_gain(*_spectra(pred, ref, grid, "high_band_gain"))


def band_gain(p: Tensor, r: Tensor) -> Tensor:
    """Energy in the upper half of the last axis, p over r, (..., S) -> (...)."""
    start = max(0, math.ceil(p.shape[-1] / 2) - 1)
    tiny = torch.finfo(r.dtype).tiny
    return p[..., start:].sum(dim=-1) / r[..., start:].sum(dim=-1).clamp_min(tiny)


def frmse(
    pred: Tensor,
    ref: Tensor,
    grid: Grid | None = None,
    bands: Sequence[int] = (4, 12),
    mode: Literal["parseval", "pdebench"] = "parseval",
) -> Tensor:
    """Root mean square error of each band of wavenumbers, low, middle and high by default.

    "parseval" gives (B, T, C, bands) whose squares add up to the square of `rmse`. "pdebench" follows
    published tables (arXiv 2210.07182): samples are averaged inside the root, shells averaged within
    a band, and above one dimension only modes whose wavenumbers are all zero or positive are counted; it
    gives (1, T, C, bands).

    Args:
        pred: prediction.
        ref: reference.
        grid: gives lengths and sides; a periodic unit box where left out.
        bands: first wavenumber of each band but the lowest, increasing; none for a single band.
        mode: the convention.
    """
    if mode not in ("parseval", "pdebench"):
        raise ValueError(f"frmse got mode {mode!r}; expected 'parseval' or 'pdebench'.")
    edges = tuple(int(b) for b in bands)
    if any(b < 1 for b in edges) or list(edges) != sorted(set(edges)):
        raise ValueError(f"frmse got bands {edges}; expected increasing wavenumbers from 1.")
    checked_pair(pred, ref, None, "frmse")
    _checked(pred, grid, "frmse")
    error = pred - ref
    boundaries = torch.tensor(edges, device=pred.device)
    if mode == "parseval":
        power, shells, _ = _shells(error, grid)
        return _gather(power, torch.bucketize(shells, boundaries, right=True), len(edges) + 1).sqrt()
    shape = error.shape[3:]
    lengths = (1.0,) * len(shape) if grid is None else grid.lengths
    modes = torch.fft.fftn(error, dim=tuple(range(3, error.ndim))).abs().square()
    for axis, n in enumerate(shape):
        # The one-dimensional table keeps the Nyquist mode, the others do not.
        modes = modes.narrow(axis + 3, 0, n // 2 + 1 if len(shape) == 1 else max(1, n // 2))
    lines = torch.meshgrid(*[torch.arange(n, device=pred.device) for n in modes.shape[3:]], indexing="ij")
    radius = torch.stack(lines).to(torch.float64).square().sum(0).sqrt()
    shells = radius.floor().long()
    if len(shape) > 1:
        inside = shells < min(shape) // 2
        modes, shells = torch.where(inside, modes, 0.0), torch.where(inside, shells, 0)
    count = int(shells.max()) + 1
    power = _gather(modes, shells, count).mean(dim=0, keepdim=True)
    root = power.sqrt() * (math.prod(lengths) / math.prod(shape))
    parts = []
    for low, high in zip((0, *edges), (*edges, count), strict=True):
        if low >= count:
            raise ValueError(f"frmse got bands {edges}, but the data have wavenumbers below {count} only.")
        parts.append(root[..., low : min(high, count)].mean(dim=-1))
    return torch.stack(parts, dim=-1)


def band_mse(pred: Tensor, ref: Tensor, bands: int = 3, normalised: bool = False) -> Tensor:
    """Mean square error of log-spaced bands of wavenumbers, (B, T, C, bands), as The Well reports it.

    Wavenumbers are in radians per sample; the bands divide 2 pi / N_max to pi sqrt(D) evenly in the
    logarithm, and the lowest starts at zero, so the bands add up to the mean square error. `normalised`
    divides by the same of the reference plus 1e-7.
    """
    checked_pair(pred, ref, None, "band_mse")
    _checked(pred, None, "band_mse")
    if bands < 1:
        raise ValueError(f"band_mse got bands={bands}; expected at least 1.")
    shape = pred.shape[3:]
    # A side of n samples has its lowest wavenumber at 2 pi / n radians per sample.
    radius = _radius(shape, tuple(float(n) for n in shape), 2 * math.pi, pred.device)
    low, high = 2 * math.pi / max(shape), math.pi * math.sqrt(len(shape))
    inner = torch.logspace(
        math.log10(low), math.log10(high), bands + 1, dtype=torch.float64, device=pred.device
    )[1:-1]
    bins = torch.bucketize(radius, inner, right=True)
    error = _gather(_power(pred - ref), bins, bands)
    return error / (_gather(_power(ref), bins, bands) + 1e-7) if normalised else error
