"""Coefficients without units: normalised by box and time step, or by cells and time step.

Two ways to say how hard an equation is for whoever predicts it one step of dt at a time, from
Koehler, Niedermayr, Westermann and Thuerey, APEBench: A Benchmark for Autoregressive Neural Emulators of
PDEs (2024), arXiv 2411.00180. Equations with equal normalised coefficients have the same dynamics per
step on a box of side 1. Difficulties measure against the spacing of N points per axis in D axes: gamma_1
is D times the number of cells a wave moves per step, gamma_2 relates to the stability limit of explicit
diffusion. They are for cubes with N points along every axis.

Numbers may be floats, or tensors with one value per sample, and negative where the coefficient may be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sciml.pdes.linear_equation import LinearEquation
from sciml.pdes.parameters import Parameter, check_parameter


def normalized_coefficients(
    coefficients: Sequence[Parameter], *, dt: float, length: float
) -> tuple[Parameter, ...]:
    """alpha_j = a_j dt/L^j of the linear coefficients a_0, a_1, ... [length^j/time].

    Args:
        coefficients: a_j of `LinearEquation`, each one for all axes.
        dt: time of one step [time].
        length: side L of the box [length].

    Raises:
        ValueError: a number is not finite, or dt or length is not positive.
    """
    _check("normalized_coefficients", coefficients, dt=dt, length=length)
    return tuple(a * (dt / length**j) for j, a in enumerate(coefficients))


def from_normalized_coefficients(
    normalized: Sequence[Parameter], *, dt: float, length: float
) -> tuple[Parameter, ...]:
    """The linear coefficients a_j [length^j/time] of given alpha_j; undoes `normalized_coefficients`."""
    _check("from_normalized_coefficients", normalized, dt=dt, length=length)
    return tuple(alpha * (length**j / dt) for j, alpha in enumerate(normalized))


def linear_difficulties(
    coefficients: Sequence[Parameter], *, dt: float, length: float, points: int, dimension: int
) -> tuple[Parameter, ...]:
    """gamma_0 = alpha_0 and gamma_j = alpha_j N^j 2^(j-1) D of the linear coefficients a_0, a_1, ...

    Args:
        coefficients: a_j of `LinearEquation` [length^j/time], each one for all axes.
        dt: time of one step [time].
        length: side L of the box [length].
        points: N, points along each axis.
        dimension: D, number of axes.

    Raises:
        ValueError: a number is not finite, or dt, length, points or dimension is out of range.
    """
    _check("linear_difficulties", coefficients, dt=dt, length=length, points=points, dimension=dimension)
    alphas = normalized_coefficients(coefficients, dt=dt, length=length)
    return tuple(alpha * _factor(j, points, dimension) for j, alpha in enumerate(alphas))


def from_linear_difficulties(
    difficulties: Sequence[Parameter], *, dt: float, length: float, points: int, dimension: int
) -> tuple[Parameter, ...]:
    """The linear coefficients a_j [length^j/time] of given gamma_j; undoes `linear_difficulties`."""
    _check(
        "from_linear_difficulties", difficulties, dt=dt, length=length, points=points, dimension=dimension
    )
    alphas = tuple(gamma / _factor(j, points, dimension) for j, gamma in enumerate(difficulties))
    return from_normalized_coefficients(alphas, dt=dt, length=length)


def convection_difficulty(
    scale: Parameter, *, dt: float, length: float, points: int, dimension: int, maximum: float = 1.0
) -> Parameter:
    """delta_1 = b_1 dt N D M/L of the factor b_1 of a convection term, b_1 (u^2/2)_x or b_1 (u . grad) u.

    Args:
        scale: b_1, times u a velocity [length/time/u].
        dt: time of one step [time].
        length: side L of the box [length].
        points: N, points along each axis.
        dimension: D, number of axes.
        maximum: M, the largest |u| of the initial states [u].

    Raises:
        ValueError: a number is not finite, or one of the others is out of range.
    """
    _check(
        "convection_difficulty",
        [scale],
        dt=dt,
        length=length,
        points=points,
        dimension=dimension,
        maximum=maximum,
    )
    return scale * (dt / length * points * dimension * maximum)


def from_convection_difficulty(
    difficulty: Parameter, *, dt: float, length: float, points: int, dimension: int, maximum: float = 1.0
) -> Parameter:
    """The factor b_1 [length/time/u] of a given delta_1; undoes `convection_difficulty`."""
    _check(
        "from_convection_difficulty",
        [difficulty],
        dt=dt,
        length=length,
        points=points,
        dimension=dimension,
        maximum=maximum,
    )
    return difficulty * (length / (dt * points * dimension * maximum))


def gradient_norm_difficulty(
    scale: Parameter, *, dt: float, length: float, points: int, dimension: int, maximum: float = 1.0
) -> Parameter:
    """delta_2 = b_2 dt N^2 D M/L^2 of the factor b_2 of a term b_2 |grad u|^2/2.

    Args and errors as for `convection_difficulty`, with b_2 in [length^2/time/u].
    """
    _check(
        "gradient_norm_difficulty",
        [scale],
        dt=dt,
        length=length,
        points=points,
        dimension=dimension,
        maximum=maximum,
    )
    return scale * (dt / length**2 * points**2 * dimension * maximum)


def from_gradient_norm_difficulty(
    difficulty: Parameter, *, dt: float, length: float, points: int, dimension: int, maximum: float = 1.0
) -> Parameter:
    """The factor b_2 [length^2/time/u] of a given delta_2; undoes `gradient_norm_difficulty`."""
    _check(
        "from_gradient_norm_difficulty",
        [difficulty],
        dt=dt,
        length=length,
        points=points,
        dimension=dimension,
        maximum=maximum,
    )
    return difficulty * (length**2 / (dt * points**2 * dimension * maximum))


def linear_from_normalized(
    normalized: Sequence[Parameter], *, dt: float = 1.0, length: float = 1.0
) -> LinearEquation:
    """The `LinearEquation` with given alpha_j, on a box of side `length` with steps of `dt`."""
    return LinearEquation(from_normalized_coefficients(normalized, dt=dt, length=length))


def linear_from_difficulties(
    difficulties: Sequence[Parameter], *, points: int, dimension: int, dt: float = 1.0, length: float = 1.0
) -> LinearEquation:
    """The `LinearEquation` with given gamma_j, for N = `points` along each of D = `dimension` axes."""
    return LinearEquation(
        from_linear_difficulties(difficulties, dt=dt, length=length, points=points, dimension=dimension)
    )


def _factor(order: int, points: int, dimension: int) -> float:
    """gamma_j/alpha_j."""
    return 1.0 if order == 0 else float(points) ** order * 2.0 ** (order - 1) * dimension


def _check(
    owner: str,
    values: Sequence[Parameter],
    *,
    dt: float,
    length: float,
    points: int = 2,
    dimension: int = 1,
    maximum: float = 1.0,
) -> None:
    if not values:
        raise ValueError(f"{owner} got no numbers; expected one per order, that of order 0 first.")
    for order, value in enumerate(values):
        check_parameter(owner, f"number {order}", value)
    for name, size in (("dt", dt), ("length", length), ("maximum", maximum)):
        if not (math.isfinite(size) and size > 0):
            raise ValueError(f"{owner} got {name}={size}; expected a positive, finite number.")
    if points != int(points) or points < 2:
        raise ValueError(f"{owner} got points={points}; expected a whole number of at least 2 per axis.")
    if dimension not in (1, 2, 3):
        raise ValueError(f"{owner} got dimension={dimension}; expected 1, 2 or 3.")
