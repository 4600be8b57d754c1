"""Exponential time differencing Runge-Kutta methods, ETDRK1 to ETDRK4 (Cox and Matthews 2002)."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Order = Literal[1, 2, 3, 4]

# Below this |z| the closed forms cancel; there the mean over a circle of this radius is taken, which
# stays at least 1 away from z = 0. Kassam and Trefethen use a circle of radius 1 round every z, which
# can pass through 0 itself where z is complex.
_NEAR, _RADIUS, _POINTS = 2.0, 3.0, 32


def _phi1(z: Tensor, e: Tensor) -> Tensor:
    return (e - 1) / z


def _phi2(z: Tensor, e: Tensor) -> Tensor:
    return (e - 1 - z) / z**2


def _first(z: Tensor, e: Tensor) -> Tensor:
    return (-4 - z + e * (4 - 3 * z + z**2)) / z**3


def _middle(z: Tensor, e: Tensor) -> Tensor:
    return (2 + z + e * (z - 2)) / z**3


def _last(z: Tensor, e: Tensor) -> Tensor:
    return (-4 - 3 * z - z**2 + e * (4 - z)) / z**3


def contour(function: Callable[[Tensor, Tensor], Tensor], z: Tensor) -> Tensor:
    """A function of (z, e^z) that is entire but whose closed form cancels at z = 0, to rounding error.

    Where |z| < 2 it is the mean over 32 points of a circle of radius 3 round z (Kassam and Trefethen
    2005, equation 2.6), elsewhere the closed form. Real z (...,) gives real values, complex z keeps the
    imaginary part: dropping it would make a method of order 4 one of order 1 for advection and
    dispersion. Differentiable in z.
    """
    near = z.detach().abs() < _NEAR
    if not bool(near.any()):
        return function(z, torch.exp(z))
    inside = z[near]
    # Conjugate points give conjugate values where z is real: half the circle and the real part do.
    turn = 2.0 if z.is_complex() else 1.0
    count = _POINTS if z.is_complex() else _POINTS // 2
    total: Tensor | None = None
    for j in range(count):
        at = inside + _RADIUS * cmath.exp(1j * turn * math.pi * (j + 0.5) / count)
        value = function(at, torch.exp(at))
        value = value if z.is_complex() else value.real
        total = value if total is None else total + value
    assert total is not None
    far = torch.where(
        near, torch.full_like(z, _NEAR), z
    )  # away from 0, for the gradient of the branch not taken
    return function(far, torch.exp(far)).masked_scatter(near, total / count)


@dataclass(frozen=True)
class Etdrk:
    """An ETDRK method with its coefficients for one linear operator L and one time step.

    Stage j is `propagators[j] u + sum_i weights[j][i] N_i` with N_i the nonlinear term of the earlier
    stages; the first stage is u itself, the last row gives the new state. None stands for a zero weight.
    All coefficients have the shape of L: that of u where it is diagonal, (..., C, C, *modes) where it
    couples the C channels of u.
    """

    propagators: tuple[Tensor, ...]
    weights: tuple[tuple[Tensor | None, ...], ...]
    order: int
    coupled: bool = False

    def map(self, change: Callable[[Tensor], Tensor]) -> Etdrk:
        """The method with every distinct coefficient changed (cast, cut, expanded) once."""
        seen: dict[int, Tensor] = {}

        def once(x: Tensor) -> Tensor:
            if id(x) not in seen:
                seen[id(x)] = change(x)
            return seen[id(x)]

        return Etdrk(
            tuple(once(e) for e in self.propagators),
            tuple(tuple(None if w is None else once(w) for w in row) for row in self.weights),
            self.order,
            self.coupled,
        )

    def apply(self, coefficient: Tensor, u: Tensor) -> Tensor:
        """A coefficient times (B, C, *modes)."""
        return (coefficient * u.unsqueeze(1)).sum(dim=2) if self.coupled else coefficient * u

    def step(self, u: Tensor, nonlinear: Callable[[Tensor], Tensor]) -> Tensor:
        """u(t + dt) from u(t), both in the basis where L is diagonal. Differentiable."""
        slopes = [nonlinear(u)]
        for j, (propagator, row) in enumerate(zip(self.propagators, self.weights, strict=True)):
            stage = self.apply(propagator, u)
            for weight, slope in zip(row, slopes, strict=True):
                if weight is not None:
                    stage = stage + self.apply(weight, slope)
            if j < len(self.weights) - 1:
                slopes.append(nonlinear(stage))
        return stage


def etdrk(linear: Tensor, dt: float, order: int = 4, *, coupled: bool = False) -> Etdrk:
    """Coefficients of ETDRK1 to ETDRK4 for u_t = L u + N(u) with L diagonal, or one matrix per mode.

    Args:
        linear: the diagonal of L, (..., C, *modes) [1/time], real or complex; single precision is raised
            to double. A leading batch axis gives each sample its own operator. May require gradients.
            Where `coupled`, (..., C, C, *modes) with leading axis (1 or B): a matrix over channels per mode.
        dt: time step [time].
        order: 1 to 4.
        coupled: whether L couples the channels.

    Cox and Matthews, J. Comput. Phys. 176 (2002), equations 4, 22, 23-25, 26-29. ETDRK4's last inner
    stage e^{z/2} a + Q (2 N_b - N_u) is written out in u, so that all methods share one form.
    """
    if order not in (1, 2, 3, 4):
        raise ValueError(f"etdrk got order={order}; expected 1, 2, 3 or 4.")
    z = linear.to(torch.complex128 if linear.is_complex() else torch.float64) * dt
    if coupled:
        return _matrices(z, dt, order)
    whole = torch.exp(z)
    if order == 1:
        return Etdrk((whole,), ((dt * contour(_phi1, z),),), 1)
    if order == 2:
        one, two = dt * contour(_phi1, z), dt * contour(_phi2, z)
        return Etdrk((whole, whole), ((one,), (one - two, two)), 2)
    half = torch.exp(z / 2)
    q = (dt / 2) * contour(_phi1, z / 2)
    first, middle, last = (dt * contour(f, z) for f in (_first, _middle, _last))
    if order == 3:
        one = dt * contour(_phi1, z)
        return Etdrk((half, whole, whole), ((q,), (-one, 2 * one), (first, 4 * middle, last)), 3)
    middle = 2 * middle
    return Etdrk(
        (half, half, whole, whole),
        ((q,), (None, q), (q * (half - 1), None, 2 * q), (first, middle, middle, last)),
        4,
    )


def phi_matrices(z: Tensor, count: int) -> list[Tensor]:
    """e^Z, phi_1(Z), ..., phi_count(Z) of matrices (..., C, C), phi_k(z) = (phi_{k-1}(z) - 1/(k-1)!)/z.

    They stand in the first row of blocks of the exponential of a larger matrix, with Z in the corner and
    unit blocks above the diagonal: no division, so nothing cancels where Z is singular. Differentiable.
    Al-Mohy and Higham, SIAM J. Sci. Comput. 33 (2011), theorem 2.1.
    """
    size = z.shape[-1]
    scale = _balance(z.detach())
    back = scale.unsqueeze(-1) / scale.unsqueeze(-2)
    z = z / back
    large = z.new_zeros(*z.shape[:-2], (count + 1) * size, (count + 1) * size)
    large[..., :size, :size] = z
    unit = torch.eye(size, dtype=z.dtype, device=z.device)
    for k in range(count):
        large[..., k * size : (k + 1) * size, (k + 1) * size : (k + 2) * size] = unit
    row = torch.linalg.matrix_exp(large)[..., :size, :]
    return [back * row[..., k * size : (k + 1) * size] for k in range(count + 1)]


def _balance(z: Tensor) -> Tensor:
    """Powers of two d (..., C) that make rows and columns of Z_ij d_j/d_i alike in size.

    The rounding of the exponential follows the norm of its matrix: without this a wave, whose displacement
    and rate differ by c |k|, loses one digit for every factor of ten in c |k|. Osborne, J. ACM 7 (1960).
    """
    size = z.abs() * (1 - torch.eye(z.shape[-1], dtype=z.real.dtype, device=z.device))
    scale = torch.ones_like(size[..., 0])
    for _ in range(2):
        for i in range(z.shape[-1]):
            row, column = size[..., i, :].sum(dim=-1), size[..., :, i].sum(dim=-1)
            ratio = torch.where((row > 0) & (column > 0), row / column, torch.ones_like(row))
            factor = torch.exp2((0.5 * torch.log2(ratio)).round())
            scale[..., i] *= factor
            size[..., i, :] /= factor.unsqueeze(-1)
            size[..., :, i] *= factor.unsqueeze(-1)
    return scale


def _matrices(z: Tensor, dt: float, order: int) -> Etdrk:
    """The methods of `etdrk` with matrices (B, C, C, *modes); their weights are sums of phi functions."""
    axes = (0, *range(3, z.ndim), 1, 2)
    back = (0, z.ndim - 2, z.ndim - 1, *range(1, z.ndim - 2))
    inner = z.permute(axes)

    def outer(x: Tensor) -> Tensor:
        return x.permute(back).contiguous()

    if order == 1:
        whole, one = phi_matrices(inner, 1)
        return Etdrk((outer(whole),), ((outer(dt * one),),), 1, True)
    whole, one, two, three = phi_matrices(inner, 3)
    e = outer(whole)
    if order == 2:
        return Etdrk((e, e), ((outer(dt * one),), (outer(dt * (one - two)), outer(dt * two))), 2, True)
    half, first = phi_matrices(inner / 2, 1)
    h, q = outer(half), outer(dt / 2 * first)
    start = outer(dt * (one - 3 * two + 4 * three))
    last = outer(dt * (4 * three - two))
    middle = outer(dt * (4 * two - 8 * three))
    if order == 3:
        whole_step = outer(dt * one)
        return Etdrk((h, e, e), ((q,), (-whole_step, 2 * whole_step), (start, middle, last)), 3, True)
    middle = middle / 2
    between = outer(dt / 2 * first @ (half - torch.eye(half.shape[-1], dtype=z.dtype, device=z.device)))
    return Etdrk(
        (h, h, e, e), ((q,), (None, q), (between, None, 2 * q), (start, middle, middle, last)), 4, True
    )
