"""Errors that count the gradient as well."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.metrics.pointwise import checked_mode, checked_pair
from sciml.metrics.spectral import cut_power, wavenumbers

SobolevMode = Literal["relative", "apebench", "apebench_mse"]


def h1_error(pred: Tensor, ref: Tensor, grid: Grid, mode: SobolevMode = "relative") -> Tensor:
    """Error in the Sobolev norm H1 on a periodic grid, (B, T, C, *points) twice -> (B, T, C).

        |e|_H1^2 = int e^2 dx + int |grad e|^2 dx,   derivatives by Fourier

    "relative" is |e|_H1 / |ref|_H1. The conventions of APEBench (arXiv 2411.00180), which are summed over channels:
    "apebench", |e|/|ref| plus the ratio of the sums over axes of the norms of the derivatives, so up to twice as
    large; "apebench_mse", |e|_H1^2. Those drop coefficients below 1e-5 of the unnormalised transform as rounding.
    The gradient brings in the length of the box: numbers compare between equal boxes only.

    Raises:
        ValueError: the grid has a bounded axis or other points.
    """
    checked_mode(mode, SobolevMode, "h1_error")
    checked_pair(pred, ref, None, "h1_error")
    if tuple(pred.shape[3:]) != grid.shape or not all(grid.periodic):
        raise ValueError(
            f"h1_error got points {tuple(pred.shape[3:])} on a grid of {grid.shape} with periodic axes "
            f"{grid.periodic}; expected points of a grid that is periodic everywhere."
        )
    threshold = 0.0 if mode == "relative" else 1e-5
    error, size = (_parts(u, grid, threshold) for u in (pred - ref, ref))
    if mode == "apebench_mse":
        return error.sum(dim=-1) * grid.volume
    if mode == "relative":
        return (error.sum(dim=-1) / size.sum(dim=-1)).sqrt()
    error, size = error.sqrt(), size.sqrt()
    return error[..., 0] / size[..., 0] + error[..., 1:].sum(dim=-1) / size[..., 1:].sum(dim=-1)


def _parts(u: Tensor, grid: Grid, threshold: float) -> Tensor:
    """Mean squares of u and of its derivative along each axis, (B, T, C, 1 + D)."""
    power = cut_power(u, threshold)
    parts = [power.flatten(3).sum(dim=3)]
    for k, length in zip(wavenumbers(grid.shape, u.device), grid.lengths, strict=True):
        squares = (2 * math.pi / length * k).square().to(power.dtype)
        parts.append((power * squares).flatten(3).sum(dim=3))
    return torch.stack(parts, dim=-1)
