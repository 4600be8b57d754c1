"""How far the power spectra in time of two long series are from each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.metrics.occupation import checked_series


def power_spectrum_hellinger(generated: Tensor, reference: Tensor, sigma: float = 20.0) -> Tensor:
    """D_H: Hellinger distance of smoothed power spectra, averaged over axes, from 0 to 1.

    (T, N) twice -> (), or (B, T, N) twice -> (B,). Each axis is standardised, |rfft|^2 smoothed over frequencies by a
    Gaussian of `sigma` bins, normalised to one; the distance is sqrt(sum (sqrt p - sqrt q)^2 / 2) (Mikhaeil et al.
    2022; Hess et al. 2023, arXiv 2306.04406). The smoothing is in bins, so the value depends on the length: unlike ones
    are refused. A constant axis has no spectrum and is at distance one. NaN for a series that is not finite.

    Other software (dysts) compares the first hundred bins without smoothing: its numbers are not comparable.

    Args:
        generated: series.
        reference: series.
        sigma: of the smoothing, in bins of frequency; 0 for none.

    Raises:
        ValueError: the shapes differ, or sigma is negative.
    """
    checked_series(generated, reference, "power_spectrum_hellinger")
    if not sigma >= 0:
        raise ValueError(f"power_spectrum_hellinger got sigma={sigma}; expected 0 or more.")
    p, q = (_normalised_spectrum(u, sigma) for u in (generated, reference))
    distance = ((p.sqrt() - q.sqrt()).square().sum(dim=-1) / 2).clamp_max(1.0).sqrt()
    one_is_empty = (p.sum(dim=-1) == 0) ^ (q.sum(dim=-1) == 0)
    distance = torch.where(one_is_empty, 1.0, distance)
    return distance.mean(dim=-1)


def _normalised_spectrum(series: Tensor, sigma: float) -> Tensor:
    """Smoothed power of each axis, adding up to one, (..., T, N) -> (..., N, F)."""
    u = series.mT.to(torch.float64)
    u = u - u.mean(dim=-1, keepdim=True)
    spread = u.square().mean(dim=-1, keepdim=True).sqrt()
    modes = torch.fft.rfft(u / torch.where(spread > 0, spread, 1.0), dim=-1)
    power = modes.real.square() + modes.imag.square()
    power = gaussian_smooth(power, sigma).clamp_min(0)
    total = power.sum(dim=-1, keepdim=True)
    return power / torch.where(total > 0, total, 1.0)


def gaussian_smooth(values: Tensor, sigma: float) -> Tensor:
    """Convolve the last axis with a Gaussian of `sigma` samples, cut at four sigma.

    Beyond its ends the series is mirrored with the end value repeated, (d c b a | a b c d | d c b a).
    """
    radius = int(4 * sigma + 0.5)
    if radius == 0:
        return values
    n = values.shape[-1]
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64, device=values.device)
    kernel = torch.exp(-0.5 * (offsets / sigma).square())
    kernel = (kernel / kernel.sum()).to(values.dtype)
    # The mirrored continuation has period 2 n, however far the kernel reaches.
    index = torch.arange(-radius, n + radius, device=values.device).remainder(2 * n)
    padded = values[..., torch.where(index < n, index, 2 * n - 1 - index)]
    rows = padded.reshape(-1, 1, padded.shape[-1])
    if radius <= 32:
        return torch.nn.functional.conv1d(rows, kernel.reshape(1, 1, -1)).reshape(*values.shape[:-1], n)
    # Long kernels by Fourier: the zeros behind keep the ends from meeting.
    size = 1 << math.ceil(math.log2(rows.shape[-1] + 2 * radius))
    product = torch.fft.rfft(rows, n=size) * torch.fft.rfft(kernel, n=size)
    return torch.fft.irfft(product, n=size)[..., 2 * radius : 2 * radius + n].reshape(*values.shape[:-1], n)
