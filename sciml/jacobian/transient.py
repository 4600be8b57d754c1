"""The largest growth that an error can have over some steps, and the error that has it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.jacobian.probes import draw
from sciml.jacobian.products import Jacobian, Mode, StepFunction
from sciml.jacobian.singular import leading_singular
from sciml.step import iterate


@dataclass(frozen=True)
class TransientGrowth:
    """What the product of the Jacobians over k steps enlarges most.

    Attributes:
        gains: its largest singular values (B, M) in falling order; the first is the worst enlargement.
        initial: the disturbances at the start that grow by them, of length one (B, M, C, *points).
        final: what they have become (B, M, C, *points).
    """

    gains: Tensor
    initial: Tensor
    final: Tensor


def transient_growth(
    step: StepFunction,
    u: Tensor,
    steps: int,
    *,
    count: int = 1,
    iterations: int = 20,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> TransientGrowth:
    """Optimal disturbances over k steps: singular vectors of J(u_{k-1}) ... J(u_0), without gradients.

    A step whose eigenvalues all lie inside the unit circle still enlarges some errors if its Jacobian is not
    normal, which is what a rollout sees first. Products go forward along the stored states and back; each
    step is computed again when it is needed, so the memory is k states and the activations of one step.

    Args:
        step: the step.
        u: initial states (B, C, *points).
        steps: k.
        count: M, how many are wanted.
        iterations: of the bidiagonalisation, each 2 k products; the gains approach the true ones from below.
        mode: how J v is found, see `Jacobian`; J^T w is a reverse pass.
        scale: a typical size of each channel (C,), which makes lengths comparable.
        generator: of the first direction.

    Raises:
        ValueError: a number is out of range.

    Farrell and Ioannou, Journal of the Atmospheric Sciences 53 (1996) 2025-2040.
    """
    if steps < 1 or not 1 <= count <= iterations:
        raise ValueError(
            f"transient_growth got steps={steps}, count={count}, iterations={iterations}; expected at least one "
            "step and 1 <= count <= iterations."
        )
    with torch.no_grad():
        path = list(iterate(step, u.detach(), steps - 1))

        def push(v: Tensor) -> Tensor:
            for state in path:
                v = Jacobian(step, state, mode=mode, scale=scale).push(v)
            return v

        def pull(w: Tensor) -> Tensor:
            for state in reversed(path):
                w = Jacobian(step, state, mode=mode, scale=scale).pull(w)
            return w

        gains, vectors = leading_singular(push, pull, draw(u, "gaussian", generator), iterations)
        count = min(count, gains.shape[1])
        initial = vectors[:, :count]
        final = torch.stack([push(initial[:, m]) for m in range(count)], dim=1)
    return TransientGrowth(gains[:, :count], initial, final)
