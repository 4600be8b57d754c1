"""What optimisers of matrices share: momentum for the matrices, AdamW for all other parameters."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sciml.optimizers.checks import check_betas, check_numbers
from sciml.optimizers.groups import Kind, as_matrices, from_matrices

Adjustment = Literal["rms", "original", "none"]


class MatrixOptimizer(torch.optim.Optimizer, ABC):
    """Momentum whose average is turned into a direction matrix by matrix; AdamW for what is no matrix.

        m <- mu m + (1 - mu) g;   u = mu m + (1 - mu) g (Nesterov) or m;   p <- p - lr (adjust direction(u) + decay p)

    Groups come from `parameter_groups` and carry "kind" and "outer"; in groups without these, parameters with two axes
    are matrices and all others are not. Outer layers, biases and scales go to AdamW with `other_lr`.

    Args:
        params: groups, or parameters.
        lr: of the matrices.
        momentum: mu.
        nesterov: look ahead by one update.
        weight_decay: decoupled, times the rate.
        adjustment: "rms" multiplies by 0.2 sqrt(max(rows, columns)), so that an orthogonal direction has the root mean
            square of an update of AdamW and its rates can be used; "original" by sqrt(max(1, rows / columns)).
        other_lr: rate of AdamW; that of the matrices if left out.
        betas, eps: of AdamW. Complex parameters are real and imaginary parts to it.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float,
        nesterov: bool,
        weight_decay: float,
        adjustment: Adjustment,
        other_lr: float | None,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        owner = type(self).__name__
        check_numbers(owner, lr=lr, weight_decay=weight_decay, other_lr=other_lr or 0.0, eps=eps)
        check_betas(owner, betas)
        if not 0 <= momentum < 1:
            raise ValueError(f"{owner} got momentum={momentum}; expected a number in [0, 1).")
        if adjustment not in get_args(Adjustment):
            raise ValueError(
                f"{owner} got adjustment={adjustment!r}; expected one of {get_args(Adjustment)}."
            )
        defaults = {
            **{"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay},
            **{"adjustment": adjustment, "betas": tuple(betas), "eps": eps, "kind": None, "outer": False},
        }
        super().__init__(_by_kind(list(params), lr if other_lr is None else other_lr), defaults)

    @abstractmethod
    def direction(self, u: Tensor) -> Tensor:
        """What the averaged gradient of matrices (..., rows, columns) becomes, of the same shape."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update from the gradients, after calling the closure that makes them."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                if group["kind"] == "other" or group["outer"]:
                    adamw_update(p, self.state[p], group)
                else:
                    self._matrix_update(p, group)
        return loss

    def _matrix_update(self, p: Tensor, group: dict[str, Any]) -> None:
        kind: Kind = group["kind"]
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        mu = group["momentum"]
        state["momentum"].lerp_(p.grad, 1 - mu)
        u = p.grad.lerp(state["momentum"], mu) if group["nesterov"] else state["momentum"]
        matrices = as_matrices(u, kind)
        rows, columns = matrices.shape[-2:]
        factor = {
            "rms": 0.2 * math.sqrt(max(rows, columns)),
            "original": math.sqrt(max(1.0, rows / columns)),
            "none": 1.0,
        }[group["adjustment"]]
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(from_matrices(self.direction(matrices), kind, p.shape), alpha=-group["lr"] * factor)


def adamw_update(p: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    """One update of AdamW (Loshchilov and Hutter, arXiv 1711.05101) with the group's numbers."""
    assert p.grad is not None
    if not state:
        state["step"] = 0
        state["first"], state["second"] = torch.zeros_like(p), torch.zeros_like(p)
    state["step"] += 1
    w, g, m, v = (
        torch.view_as_real(x) if x.is_complex() else x for x in (p, p.grad, state["first"], state["second"])
    )
    b1, b2 = group["betas"]
    w.mul_(1 - group["lr"] * group["weight_decay"])
    m.lerp_(g, 1 - b1)
    v.mul_(b2).addcmul_(g, g, value=1 - b2)
    scale = (v / (1 - b2 ** state["step"])).sqrt_().add_(group["eps"])
    w.addcdiv_(m, scale, value=-group["lr"] / (1 - b1 ** state["step"]))


def _by_kind(given: list[Any], other_lr: float) -> list[dict[str, Any]]:
    """Groups with a kind each; those of AdamW with their own rate."""
    groups: list[dict[str, Any]] = []
    named: list[dict[str, Any]] = given if given and isinstance(given[0], dict) else [{"params": given}]
    for group in named:
        if group.get("kind") is not None:
            groups.append(dict(group))
            continue
        members = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        flat = [p for p in members if p.ndim == 2 and not p.is_complex()]
        rest = [p for p in members if p.ndim != 2 or p.is_complex()]
        groups += [
            {**group, "params": chosen, "kind": kind, "outer": False}
            for kind, chosen in (("matrix", flat), ("other", rest))
            if chosen
        ]
    for group in groups:
        if (group["kind"] == "other" or group.get("outer")) and "lr" not in group:
            group["lr"] = other_lr
    return groups
