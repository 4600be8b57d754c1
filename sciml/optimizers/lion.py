"""Updates by the sign of an interpolated momentum."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from sciml.optimizers.checks import check_betas, check_numbers


class Lion(torch.optim.Optimizer):
    """Sign of an interpolated momentum: one state per weight, every weight moves by the rate itself.

        c = b1 m + (1 - b1) g;   p <- p - lr (sign c + weight_decay p);   m <- b2 m + (1 - b2) g

    A rate 3 to 10 times below and a decay 3 to 10 times above AdamW's is the usual start; betas of (0.95, 0.98) are
    steadier. With decay the iterates go into the box of sides 1 / weight_decay: Lion solves the bounded problem (Chen,
    Liu, Liang and Liu, arXiv 2310.05898). The sign of a complex weight is that of its real and of its imaginary part.

    Args:
        params: parameters or groups.
        lr: step of every weight.
        betas: of the interpolation and of the momentum.
        weight_decay: decoupled, times the rate.

    Raises:
        ValueError: a number is out of its range.

    Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv 2302.06675, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        check_numbers("Lion", lr=lr, weight_decay=weight_decay)
        check_betas("Lion", betas)
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update from the gradients, after calling the closure that makes them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                g, w = real(p.grad), real(p)
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                m = real(state["momentum"])
                w.mul_(1 - group["lr"] * group["weight_decay"])
                w.sub_(torch.lerp(g, m, first).sign_(), alpha=group["lr"])
                m.lerp_(g, 1 - second)
        return loss


def real(x: Tensor) -> Tensor:
    """A complex tensor as its real and imaginary parts in a last axis; others as they are."""
    return torch.view_as_real(x) if x.is_complex() else x
