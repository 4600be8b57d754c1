"""Errors of particles, whose positions are fields (B, T, D, N) in a box."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Cloud


def position_mse(pred: Tensor, ref: Tensor, box: Cloud) -> Tensor:
    """Mean square error of positions along the shortest way, (B, T, D, N) twice -> (B, T) [length^2].

    The mean is over particles and coordinates. LagrangeBench (Toshev et al., arXiv 2309.16342) reports its mean over
    the first k of the predicted frames as MSE_k, k = 1, 5, 10, 20, 50, 100: `position_mse(...)[:, :k].mean(1)`.

    Args:
        pred: predicted positions.
        ref: true ones.
        box: in which they move; distances cross its periodic sides.

    Raises:
        ValueError: the shapes differ, or are not of positions in this box.
    """
    _check(pred, box, "position_mse", ref)
    return box.displacement(pred, ref).square().mean(dim=(2, 3))


def particle_energy(x: Tensor, box: Cloud, dt: float, volume: float = 1.0, every: int = 1) -> Tensor:
    """Sum over particles of |v|^2 times their volume, velocities from neighbouring frames, (B, T, D, N) -> (B, K).

    With frames 0 and 1, `every` and `every` + 1, and so on. LagrangeBench's kinetic energy, which has no factor one
    half: `every` = 10, volume = dx^D for particles dx apart, dt the time between stored frames. Its error is the mean
    over these of the squared difference between prediction and truth.

    Args:
        x: positions.
        box: in which they move.
        dt: time between frames.
        volume: of a particle [length^D], or its mass.
        every: frames between two that are looked at.

    Raises:
        ValueError: x is not of positions in this box, there are fewer than two frames, or a number is not positive.
    """
    _check(x, box, "particle_energy")
    if x.shape[1] < 2 or not dt > 0 or not volume > 0 or every < 1:
        raise ValueError(
            f"particle_energy got {x.shape[1]} frames, dt={dt}, volume={volume}, every={every}; expected two frames or "
            "more and positive numbers."
        )
    velocity = box.displacement(x[:, 1::every], x[:, :-1:every]) / dt
    return volume * velocity.square().sum(dim=(2, 3))


def _check(x: Tensor, box: Cloud, owner: str, ref: Tensor | None = None) -> None:
    if x.ndim != 4 or x.shape[2] != box.dimension or (ref is not None and ref.shape != x.shape):
        shapes = [tuple(u.shape) for u in (x, ref) if isinstance(u, torch.Tensor)]
        raise ValueError(
            f"{owner} got positions of shape {' and '.join(map(str, shapes))}; expected (B, T, {box.dimension}, N)"
            f"{' twice' if ref is not None else ''}."
        )
