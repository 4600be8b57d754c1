"""The loss of steps that refine their own answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sciml.objectives.base import Discrepancy, Distance, Norm, Objective, Parts, checked_window


@runtime_checkable
class Refiner(Protocol):
    """What the loss asks of a step that refines: see `sciml.models.Refined`."""

    refinements: int
    scale: float

    def check(self, u: Tensor) -> None: ...

    def denoise(self, u: Tensor, x: Tensor, level: Tensor) -> Tensor: ...

    def disturbed(self, y: Tensor, level: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]: ...


class Refinement(Objective):
    """Ask a refining network at one random level of noise, L = l(f(u_0, x_k, k), v_k) with k drawn per sample.

    At level 0 the network predicts the change from nothing, at level k it removes noise from the true change. The
    cost is that of one step; with no refinements this is `OneStep` in units of the refiner's scale. PDE-Refiner:
    Lippe et al., NeurIPS 2023, arXiv 2308.05732.

    The network is trained in the objective's units, without what surrounds it: a step around it may be normalised
    as the objective is, and have constraints that the data satisfy, but must add no increment of its own
    (`residual: false` in a study). The first batch checks that.

    Args:
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`; of the change.

    Raises:
        ValueError: the step contains no refiner, or changes what the refiner answers.
    """

    def __init__(
        self, norm: Norm | Distance = "mse", channel_scale: Sequence[float] | Tensor | None = None
    ) -> None:
        super().__init__()
        self.discrepancy = Discrepancy(norm, channel_scale)
        self.checked = False

    def forward(
        self,
        step: Callable[..., Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = checked_window(window, 2, "Refinement")
        u, target = window[:, 0], window[:, 1]
        refiner = _refiner(step)
        if not self.checked:
            _check(step, refiner, u, target)
            self.checked = True
        device = u.device if generator is None else generator.device
        level = torch.randint(0, refiner.refinements + 1, (len(u),), generator=generator, device=device)
        noise = torch.randn(u.shape, generator=generator, device=device, dtype=u.dtype).to(u.device)
        level = level.to(u.device)
        x, answer = refiner.disturbed((target - u) / refiner.scale, level, noise)
        loss = self.discrepancy(refiner.denoise(u, x, level), answer)
        each, zero = loss.detach(), loss.new_zeros(refiner.refinements + 1)
        count = zero.index_add(0, level, torch.ones_like(each))
        means = zero.index_add(0, level, each) / count  # NaN for a level that was not drawn
        return loss.mean(), {f"level_{k}": mean for k, mean in enumerate(means)}


def _refiner(step: Callable[..., Tensor]) -> Refiner:
    for module in step.modules() if isinstance(step, nn.Module) else ():
        if isinstance(module, Refiner):
            return module
    raise ValueError(
        "Refinement found no refiner in the step; put the network into sciml.models.Refined, in a study "
        "network: {class_path: Refined, init_args: {f: ...}}."
    )


@torch.no_grad()
def _check(step: Callable[..., Tensor], refiner: Refiner, u: Tensor, target: Tensor) -> None:
    """That the step gives the true next state where the refiner does."""
    refiner.check(u)
    assert isinstance(refiner, nn.Module)
    hook = refiner.register_forward_hook(lambda module, given, answer: target)
    try:
        found = step(u)
    finally:
        hook.remove()
    error, size = (found - target).abs().max(), target.abs().max()
    # What constraints and changes of units do to data in single precision is far below a hundredth.
    if not bool(error <= 0.01 * size):
        raise ValueError(
            "Refinement trains the refiner alone, but the step changes its answer: where the refiner gives the true "
            f"next state, the step is off by {float(error):.2g} at a size of {float(size):.2g}. Set residual: false, "
            "delta: false, and use constraints only that the data satisfy."
        )
