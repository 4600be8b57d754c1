"""Steady forces that keep a flow moving."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.pdes.parameters import check_parameter


@dataclass(frozen=True)
class ShearForcing:
    """Steady parallel body force f = (s sin(k.x) + c cos(k.x)) e with e = (k_y, -k_x)/|k|, without divergence.

    In 3D it lies in the x-y plane and does not depend on z. Stated by its formula, so that it has no
    resolution of its own; the same object forces the velocity and the vorticity form.

    Args:
        wave: k = (k_x, k_y) [1/length], fitting the box.
        sine, cosine: s and c [length/time^2].
    """

    wave: tuple[float, float]
    sine: float
    cosine: float = 0.0

    def __post_init__(self) -> None:
        wave = tuple(float(k) for k in self.wave)
        values = (*wave, self.sine, self.cosine)
        if len(wave) != 2 or not all(map(math.isfinite, values)) or wave == (0.0, 0.0):
            raise ValueError(
                f"ShearForcing got wave {wave}, sine {self.sine} and cosine {self.cosine}; expected two "
                "wavenumbers, not both zero, and finite amplitudes."
            )
        object.__setattr__(self, "wave", wave)

    @property
    def square(self) -> float:
        """|k|^2, by which -lap multiplies the force [1/length^2]."""
        return self.wave[0] ** 2 + self.wave[1] ** 2

    def velocity(self, x: Tensor) -> Tensor:
        """Force on the velocity at points (B, D, *points), as (B, D, *points) [length/time^2]."""
        angle, size = self._angle(x), math.sqrt(self.square)
        strength = self.sine * torch.sin(angle) + self.cosine * torch.cos(angle)
        parts = [strength * (self.wave[1] / size), strength * (-self.wave[0] / size)]
        return torch.cat([*parts, *[torch.zeros_like(strength)] * (x.shape[1] - 2)], dim=1)

    def vorticity(self, x: Tensor) -> Tensor:
        """Its curl along z, the force on the vorticity, (B, D, *points) -> (B, 1, *points) [1/time^2]."""
        angle = self._angle(x)
        return math.sqrt(self.square) * (self.cosine * torch.sin(angle) - self.sine * torch.cos(angle))

    def check(self, calc: Calculus) -> None:
        """Refuse a periodic box that the waves do not fit.

        Raises:
            ValueError: a side of the box is no whole number of wavelengths.
        """
        grid = getattr(calc, "grid", None)
        if grid is None or not all(grid.periodic):
            return
        for axis, (k, length) in enumerate(zip(self.wave, grid.lengths, strict=False)):
            turns = k * length / (2 * math.pi)
            if abs(turns - round(turns)) > 1e-9 * max(1.0, abs(turns)):
                raise ValueError(
                    f"A force of wavenumber {k:g} got a periodic box of side {length:g} on axis {axis}, which "
                    f"holds {turns:g} wavelengths; expected a whole number."
                )

    def lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of a periodic box that it fits: 2 pi for integer wavenumbers, else a wavelength."""
        if all(k.is_integer() for k in self.wave):
            return (2 * math.pi,) * dimension
        longest = 2 * math.pi / max(map(abs, self.wave))
        sides = tuple(2 * math.pi / abs(k) if k else longest for k in self.wave)
        return (*sides, *[longest] * (dimension - 2))

    def _angle(self, x: Tensor) -> Tensor:
        return self.wave[0] * x[:, :1] + self.wave[1] * x[:, 1:2]


def kolmogorov_forcing(wavenumber: float = 4.0, amplitude: float = 1.0) -> ShearForcing:
    """F sin(k y) on the x velocity, -F k cos(k y) on the vorticity.

    Args:
        wavenumber: k [1/length].
        amplitude: F [length/time^2].
    """
    return ShearForcing((0.0, wavenumber), amplitude)


def fno_forcing(amplitude: float = 0.1, length: float = 1.0) -> ShearForcing:
    """A (sin(2 pi (x + y)/L) + cos(2 pi (x + y)/L)) on the vorticity, of the Fourier neural operator's data.

    Args:
        amplitude: A [1/time^2].
        length: L, the side of the torus [length].

    Li et al., Fourier Neural Operator for Parametric Partial Differential Equations (ICLR 2021), section 5.3.
    """
    k = 2 * math.pi / length
    scale = amplitude / (k * math.sqrt(2.0))
    return ShearForcing((k, k), -scale, scale)


Forcing = Sequence[float] | ShearForcing | Tensor
"""A pair (k, F) for Kolmogorov forcing, a named force, or a field on the points of the grid."""


def checked_forcing(
    owner: str, forcing: Forcing | None
) -> tuple[float, float] | ShearForcing | Tensor | None:
    """The forcing with pairs of floats, or ValueError."""
    if forcing is None or isinstance(forcing, ShearForcing):
        return forcing
    if isinstance(forcing, Tensor):
        if forcing.ndim < 3:
            raise ValueError(
                f"{owner} got a forcing field of shape {tuple(forcing.shape)}; expected (1 or B, channels, *points)."
            )
        if not bool(torch.isfinite(forcing.detach()).all()):
            raise ValueError(f"{owner} got a forcing field that is not finite.")
        return forcing
    if isinstance(forcing, str) or not isinstance(forcing, Sequence):
        raise ValueError(
            f"{owner} got forcing={forcing!r}; expected (wavenumber, amplitude), a ShearForcing or a field."
        )
    for v in forcing:
        check_parameter(owner, "forcing", v)
    pair = tuple(float(v) for v in forcing)
    if len(pair) != 2 or not all(map(math.isfinite, pair)):
        raise ValueError(
            f"{owner} got forcing {pair}; expected (wavenumber, amplitude), a ShearForcing or a field."
        )
    return pair


def shear_of(forcing: Forcing | None) -> ShearForcing | None:
    """The force as a formula, or None where there is none or where it is a field."""
    if forcing is None or isinstance(forcing, (ShearForcing, Tensor)):
        return None if isinstance(forcing, Tensor) else forcing
    wavenumber, amplitude = forcing
    return kolmogorov_forcing(wavenumber, amplitude)


def response(rate: float | Tensor, t: Tensor) -> Tensor:
    """(1 - exp(-rate t))/rate, which is t where nothing damps: what a steady force of strength 1 has made
    by the time t of a quantity that decays at `rate`."""
    rate = torch.as_tensor(rate, dtype=t.dtype, device=t.device)
    return torch.where(rate == 0, t, -torch.expm1(-rate * t) / torch.where(rate == 0, 1.0, rate))
