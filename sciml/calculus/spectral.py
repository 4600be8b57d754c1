"""Fourier derivatives on periodic grids, in space and as multipliers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.constants import Constants
from sciml.domains import Grid


def factor(k: Tensor, order: int) -> Tensor:
    """(i k)^order, real for even orders and complex for odd ones."""
    sign = -1.0 if order % 4 in (2, 3) else 1.0
    power = sign * k**order
    return power if order % 2 == 0 else torch.complex(torch.zeros_like(power), power)


class Spectral(Calculus):
    """Derivatives of the trigonometric interpolant on a grid that is periodic along every axis.

    Exact for fields whose modes the grid resolves; the error of a smooth field falls faster than any
    power of the spacing. Odd derivatives are skew-adjoint and even ones self-adjoint under the plain
    sum over the points. Products are not dealiased here: `dealias` gives the mask.

    Args:
        grid: periodic grid of nodes or cells, 1D to 3D.

    Raises:
        ValueError: an axis of the grid is not periodic.

    Trefethen, Spectral Methods in MATLAB (2000), chapter 3.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        if not all(grid.periodic):
            raise ValueError(
                f"Spectral got a grid with sides {grid.sides}; Fourier derivatives need every axis to be "
                "periodic. Use Trigonometric where fields or their normal derivatives vanish on the sides, "
                "FiniteDifference elsewhere, or boundary='periodic'."
            )
        self.grid = grid
        self.dimension = grid.dimension
        last = grid.dimension - 1
        values: dict[str, Tensor] = {}
        square = torch.zeros((), dtype=torch.float64)
        odd_square = torch.zeros((), dtype=torch.float64)
        for axis, (n, length) in enumerate(zip(grid.shape, grid.lengths, strict=True)):
            unit = 2 * math.pi / length
            half = unit * torch.arange(n // 2 + 1, dtype=torch.float64)
            full = unit * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).abs()
            signed = unit * torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
            # The Nyquist mode has no real odd derivative, so its factor is zero.
            odd_half, odd_signed = half.clone(), signed.clone()
            if n % 2 == 0:
                odd_half[n // 2] = 0.0
                odd_signed[n // 2] = 0.0
            values[f"line{axis}"] = half
            values[f"odd_line{axis}"] = odd_half
            broadcast = [1] * grid.dimension
            broadcast[axis] = -1
            values[f"k{axis}"] = (half if axis == last else full).reshape(broadcast)
            values[f"odd_k{axis}"] = (odd_half if axis == last else odd_signed).reshape(broadcast)
            square = square + values[f"k{axis}"] ** 2
            odd_square = odd_square + values[f"odd_k{axis}"] ** 2
        values["laplacian"] = -square
        inverse = torch.zeros_like(square)
        inverse[square > 0] = -1 / square[square > 0]
        values["inverse_laplacian"] = inverse
        # div(grad) has no Nyquist modes, unlike the Laplacian; its own inverse makes projections exact.
        values["inverse_odd_square"] = torch.where(
            odd_square > 0, 1 / torch.where(odd_square > 0, odd_square, 1.0), 0.0
        )
        self.constants = Constants(values)

    @property
    def symbol_shape(self) -> tuple[int, ...]:
        """Shape of the half spectrum that `rfftn` gives, (N_1, ..., N_D // 2 + 1)."""
        return (*self.grid.shape[:-1], self.grid.shape[-1] // 2 + 1)

    @property
    def wavenumbers(self) -> tuple[Tensor, ...]:
        """Angular wavenumbers per axis, float64 and broadcastable to `symbol_shape` [1/length].

        Those of odd derivatives: the Nyquist mode has none, and the last axis holds its half only.
        """
        like = torch.empty(0, dtype=torch.float64)
        return tuple(self.constants.get(f"odd_k{axis}", like) for axis in range(self.dimension))

    def dealias(self, degree: int = 2) -> Tensor:
        """Mask (*symbol_shape) of the modes that products of `degree` factors leave unaliased.

        True where |k_d| < N_d / (degree + 1) along every axis: the 2/3 rule for a square.

        Raises:
            ValueError: the degree is less than 1.
        """
        if degree < 1:
            raise ValueError(f"dealias got degree {degree}; expected 1 or more (2 for a square).")
        device = self.constants.get_buffer("laplacian_double").device
        mask = torch.ones((), dtype=torch.bool, device=device)
        for axis, n in enumerate(self.grid.shape):
            index = (
                torch.arange(n // 2 + 1)
                if axis == self.dimension - 1
                else torch.fft.fftfreq(n, 1 / n).abs().round()
            )
            keep = (index * (degree + 1) < n) if degree > 1 else torch.ones_like(index, dtype=torch.bool)
            mask = mask.unsqueeze(-1) & keep.to(device)
        return mask

    def to_modes(self, u: Tensor) -> Tensor:
        """Fourier coefficients (B, C, *symbol_shape); the first one is the mean."""
        return torch.fft.rfftn(u, dim=tuple(range(-self.dimension, 0)), norm="forward")

    def to_points(self, modes: Tensor) -> Tensor:
        """The field (B, C, *points) of the coefficients that `to_modes` gives."""
        axes = tuple(range(-self.dimension, 0))
        return torch.fft.irfftn(modes, s=self.grid.shape, dim=axes, norm="forward")

    def coordinates(self, u: Tensor) -> Tensor:
        return self.grid.coordinates(dtype=u.dtype, device=u.device).unsqueeze(0)

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        self._check(u, axis, order)
        if order == 0:
            return u
        # One transform along one axis: cheaper than a transform of all of them.
        dim = u.ndim - self.dimension + axis
        name = f"line{axis}" if order % 2 == 0 else f"odd_line{axis}"
        line = factor(self.constants.get(name, u), order)
        modes = torch.fft.rfft(u, dim=dim) * line.reshape(-1, *[1] * (self.dimension - 1 - axis))
        return torch.fft.irfft(modes, n=self.grid.shape[axis], dim=dim)

    def laplacian(self, u: Tensor) -> Tensor:
        self._check(u, 0, 2)
        return self.to_points(self.to_modes(u) * self.constants.get("laplacian", u))

    def inverse_laplacian(self, u: Tensor) -> Tensor:
        self._check(u, 0, 2)
        return self.to_points(self.to_modes(u) * self.constants.get("inverse_laplacian", u))

    def solenoidal(self, f: Tensor) -> Tensor:
        """Leray projection f^ - k (k . f^)/|k|^2, (B, D, *points) -> (B, D, *points) [f].

        The divergence that is left is rounding, also where f is not resolved: k is that of odd
        derivatives. The mean and what has no divergence stay as they are. Self-adjoint under the plain
        sum over the points.
        """
        self._check(f, 0, 1)
        if f.shape[1] != self.dimension:
            raise ValueError(
                f"Spectral.solenoidal got {f.shape[1]} components in {self.dimension} space axes; expected one "
                "per axis."
            )
        return f - self.to_points(self.gradient_part(self.to_modes(f)))

    def gradient_part(self, modes: Tensor) -> Tensor:
        """What `solenoidal` takes away, on modes, (B, D, *symbol_shape) -> (B, D, *symbol_shape)."""
        waves = [self.constants.get(f"odd_k{axis}", modes) for axis in range(self.dimension)]
        flux = waves[0] * modes[:, 0]
        for axis in range(1, self.dimension):
            flux = flux + waves[axis] * modes[:, axis]
        flux = flux * self.constants.get("inverse_odd_square", modes)
        return torch.stack([k * flux for k in waves], dim=1)

    def _check(self, u: Tensor, axis: int, order: int) -> None:
        check_request(self, axis, order)
        if tuple(u.shape[-self.dimension :]) != self.grid.shape:
            raise ValueError(
                f"Spectral got a field of points {tuple(u.shape[-self.dimension :])} on a grid of "
                f"{self.grid.shape}."
            )


class Symbol(Calculus):
    """Differentiation as multiplication by (i k)^order on the half spectrum of a `Spectral`.

    `pde.linear(one, Symbol(spectral))` with ones (1, C, *symbol_shape) is the Fourier multiplier of a
    linear operator of constant coefficients. It stays real while all orders are even.
    """

    def __init__(self, spectral: Spectral) -> None:
        super().__init__()
        self.spectral = spectral
        self.dimension = spectral.dimension

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        check_request(self, axis, order)
        name = f"k{axis}" if order % 2 == 0 else f"odd_k{axis}"
        return u * factor(self.spectral.constants.get(name, u), order)

    def laplacian(self, u: Tensor) -> Tensor:
        return u * self.spectral.constants.get("laplacian", u)

    def inverse_laplacian(self, u: Tensor) -> Tensor:
        return u * self.spectral.constants.get("inverse_laplacian", u)

    def solenoidal(self, f: Tensor) -> Tensor:
        return f - self.spectral.gradient_part(f)


def check_request(calc: Calculus, axis: int, order: int) -> None:
    """Refuse an axis or an order that the calculus does not have."""
    if not 0 <= axis < calc.dimension or order < 0:
        raise ValueError(
            f"{type(calc).__name__} got derivative order {order} along axis {axis}; expected order 0 or "
            f"more along an axis from 0 to {calc.dimension - 1}."
        )
