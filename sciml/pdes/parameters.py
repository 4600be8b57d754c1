"""Parameters of equations: numbers, numbers per sample, and constant or varying velocities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

import torch
from torch import Tensor

Parameter = float | Tensor
"""A number, or a tensor (B,), (B, 1, ...) that gives each sample of a batch its own."""

Velocity = float | tuple[float, ...] | Tensor
"""One number for all axes, one per axis, a tensor (B, D, 1, ...) of one velocity per sample, or a field
(1 or B, D, *points)."""


def check_parameter(owner: str, name: str, value: Parameter, *, minimum: float = -math.inf) -> None:
    """Refuse a parameter that is no number, not finite, or lies below `minimum`."""
    if isinstance(value, str) or not isinstance(value, (Tensor, SupportsFloat)) or _is_complex(value):
        raise ValueError(
            f"{owner} got {name}={value!r}; expected a number, or a tensor of one per sample. (YAML reads 1e-3 as "
            "text and 1.0e-3 as a number.)"
        )
    values = torch.as_tensor(value, dtype=torch.float64).detach()
    if not bool(torch.isfinite(values).all()) or bool((values < minimum).any()):
        bound = "finite values" if minimum == -math.inf else f"finite values of at least {minimum:g}"
        raise ValueError(f"{owner} got {name}={value}; expected {bound}.")


def _is_complex(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_complex()


def fit(value: Parameter, u: Tensor) -> Parameter:
    """The parameter ready to multiply u (B, C, *points): numbers as they are, tensors with u's axes."""
    if not isinstance(value, Tensor):
        return value
    dtype = u.dtype.to_real() if u.is_complex() else u.dtype
    value = value.to(device=u.device, dtype=dtype)
    if value.ndim == 0:
        return value
    if value.shape[0] != 1 and u.ndim and u.shape[0] != 1 and value.shape[0] != u.shape[0]:
        raise ValueError(
            f"A parameter has {value.shape[0]} values, one per sample, for a batch of {u.shape[0]}; give one for "
            "all or as many as there are samples."
        )
    while value.ndim > u.ndim and value.shape[-1] == 1:
        value = value.squeeze(-1)
    return value.reshape(*value.shape, *[1] * (u.ndim - value.ndim))


def check_velocity(owner: str, velocity: Velocity) -> Velocity:
    """The velocity with tuples of floats, or ValueError."""
    if isinstance(velocity, Tensor):
        if velocity.ndim < 2 or not 1 <= velocity.shape[1] <= 3:
            raise ValueError(
                f"{owner} got a velocity of shape {tuple(velocity.shape)}; expected (B, D, 1, ...) for one "
                "per sample or (B, D, *points) for a field."
            )
        check_parameter(owner, "velocity", velocity)
        return velocity
    if isinstance(velocity, (int, float)):
        check_parameter(owner, "velocity", velocity)
        return float(velocity)
    if isinstance(velocity, str) or not isinstance(velocity, Sequence):
        raise ValueError(
            f"{owner} got velocity={velocity!r}; expected a number, one per axis, or a tensor."
        )
    for v in velocity:
        check_parameter(owner, "velocity", v)
    values = tuple(float(v) for v in velocity)
    if not 1 <= len(values) <= 3 or not all(map(math.isfinite, values)):
        raise ValueError(f"{owner} got velocity {values}; expected one finite number per axis.")
    return values


def is_field(velocity: Velocity) -> bool:
    """Whether the velocity differs from point to point."""
    return isinstance(velocity, Tensor) and any(n != 1 for n in velocity.shape[2:])


def component(velocity: Velocity, axis: int, dimension: int, u: Tensor) -> Parameter:
    """The velocity along one axis, ready to multiply u (B, C, *points).

    Raises:
        ValueError: the velocity has another number of components than there are axes.
    """
    if isinstance(velocity, (int, float)):
        return velocity
    count = velocity.shape[1] if isinstance(velocity, Tensor) else len(velocity)
    if count != dimension:
        raise ValueError(
            f"The velocity has {count} components in {dimension} space axes; give one per axis."
        )
    if isinstance(velocity, Tensor):
        return fit(velocity[:, axis : axis + 1], u)
    return velocity[axis]


def largest(value: Parameter) -> float:
    """The largest of a parameter's values."""
    return float(value.detach().max()) if isinstance(value, Tensor) else float(value)


def smallest(value: Parameter) -> float:
    """The smallest of a parameter's values."""
    return float(value.detach().min()) if isinstance(value, Tensor) else float(value)
