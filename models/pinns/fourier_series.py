"""Trigonometric interpolation of values on a periodic grid, at any points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class FourierSeries(nn.Module):
    """The trigonometric interpolant of values on a periodic box, x (B, D, *points) -> (B, C, *points).

    At the nodes of the grid it gives the values back, to rounding; it is infinitely smooth, periodic,
    and differentiable in x.

    Args:
        values: (C, *shape) on the nodes of a periodic grid, a tensor or nested lists.
        lengths: side of the box per axis [length].
        origin: low corner, one number or one per axis [length].
        tolerance: modes below this share of the largest coefficient are left out; 1e-7 is the rounding
            noise of values stored in float32. Zero keeps all.

    Raises:
        ValueError: the values have not one axis per length after the channels, or are not finite.
    """

    def __init__(
        self,
        values: Tensor | Sequence[Any],
        lengths: Sequence[float],
        origin: float | Sequence[float] = 0.0,
        tolerance: float = 1e-7,
    ) -> None:
        super().__init__()
        data = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
        self.lengths = tuple(float(length) for length in lengths)
        self.origin = origin
        self.tolerance = tolerance
        dimension = len(self.lengths)
        if data.ndim != dimension + 1:
            raise ValueError(
                f"FourierSeries got values of shape {tuple(data.shape)} for {dimension} axes; expected (C, *shape), "
                "one sample."
            )
        if not bool(torch.isfinite(data).all()):
            raise ValueError("FourierSeries got values that are not finite.")
        self.values = data
        shape = data.shape[1:]
        coefficients = torch.fft.rfftn(data, dim=tuple(range(1, data.ndim)), norm="forward")
        waves = [torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64) for n in shape[:-1]]
        waves.append(torch.fft.rfftfreq(shape[-1], 1.0 / shape[-1], dtype=torch.float64))
        k = torch.stack(torch.meshgrid(*waves, indexing="ij")).flatten(1)  # (D, M)
        coefficients = coefficients.flatten(1)
        # The real transform keeps one of each pair +k, -k, except for the constant and Nyquist planes.
        alone = (k[-1] == 0) | (2 * k[-1] == shape[-1])
        coefficients = coefficients * torch.where(alone, 1.0, 2.0)
        size = coefficients.abs().amax(dim=0)
        kept = size > tolerance * size.max()
        scale = 2.0 * math.pi / torch.tensor(self.lengths, dtype=torch.float64)
        self.register_buffer("wavenumbers", k[:, kept] * scale[:, None])
        self.register_buffer("cosines", coefficients.real[:, kept].contiguous())
        self.register_buffer("sines", -coefficients.imag[:, kept].contiguous())
        low = torch.as_tensor(origin, dtype=torch.float64).expand(dimension).clone()
        self.register_buffer("low", low)
        self.wavenumbers: Tensor
        self.cosines: Tensor
        self.sines: Tensor
        self.low: Tensor

    def forward(self, x: Tensor) -> Tensor:
        low = self.low.to(x).reshape(1, -1, *[1] * (x.ndim - 2))
        phase = torch.einsum("bd...,dm->bm...", x - low, self.wavenumbers.to(x))
        return torch.einsum("bm...,cm->bc...", torch.cos(phase), self.cosines.to(x)) + torch.einsum(
            "bm...,cm->bc...", torch.sin(phase), self.sines.to(x)
        )
