"""How errors of each wavenumber grow, and which wavenumbers they pass to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.jacobian.products import Jacobian, Mode, StepFunction, per_channel
from sciml.jacobian.shells import Shells


@dataclass(frozen=True)
class ShellResponse:
    """What becomes of small random disturbances of each shell of wavenumbers.

    Attributes:
        gains: by what factor those of shell s have grown after 1, ..., T steps, root mean square (B, T, S).
        transfer: of the mean square of what was put into shell s, what is in shell r after T steps,
            (B, S, S) as [:, r, s]; its columns sum to the squared gains, less what went beyond the last shell.
    """

    gains: Tensor
    transfer: Tensor


def shell_response(
    step: StepFunction,
    u: Tensor,
    grid: Grid,
    *,
    steps: int = 1,
    probes: int = 1,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ShellResponse:
    """Error-growth spectrum along a rollout from u (B, C, *points), by products with the Jacobian.

    The squared gain of one step estimates ||J P_s||_F^2 / rank P_s without bias, P_s being the projection onto
    shell s. A gain above one at high wavenumbers that the reference does not have is what blows rollouts up;
    one below it smears. Without gradients; S probes products per step.

    Args:
        step: the step.
        u: initial states.
        grid: where its points lie; shells s <= |k| < s + 1 up to the last that every axis resolves.
        steps: T, over which the disturbances travel with the state.
        probes: random disturbances of each shell.
        mode: how J v is found, see `Jacobian`.
        scale: a typical size of each channel (C,), so that channels of unlike units are disturbed alike.
        generator: of the disturbances.

    Raises:
        ValueError: a number is below 1, or the states are not on the grid.
    """
    if steps < 1 or probes < 1:
        raise ValueError(f"shell_response got steps={steps}, probes={probes}; expected at least 1.")
    if tuple(u.shape[2:]) != grid.shape:
        raise ValueError(
            f"shell_response got states of points {tuple(u.shape[2:])} on a grid of {grid.shape}."
        )
    with torch.no_grad():
        u = u.detach()
        shells = Shells(grid, u.device)
        size = per_channel(scale, u)
        moving = [shells.noise(u, s, generator) for s in range(shells.count) for _ in range(probes)]
        gains = u.new_zeros(u.shape[0], steps, shells.count)
        transfer = u.new_zeros(u.shape[0], shells.count, shells.count)
        for t in range(steps):
            jacobian = Jacobian(step, u, mode=mode, scale=None if size is None else size.flatten())
            for i, v in enumerate(moving):
                v = jacobian.push(v)
                moving[i] = v
                energy = v.flatten(1).square().sum(dim=1)
                gains[:, t, i // probes] += energy / probes
                if t == steps - 1:
                    share = shells.shares(v) * energy.unsqueeze(1)
                    transfer[:, :, i // probes] += share / probes
            u = jacobian.value
    return ShellResponse(gains.sqrt(), transfer)
