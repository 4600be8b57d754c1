"""Adam in the eigenbases of the gradients' covariances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from sciml.optimizers.checks import check_betas, check_numbers
from sciml.optimizers.groups import Kind, as_matrices, from_matrices
from sciml.optimizers.momentum import adamw_update


class SOAP(torch.optim.Optimizer):
    """Adam in the eigenbases of the averaged G G^H and G^H G of each matrix; AdamW for what is no matrix.

    Every `frequency` updates the bases are improved by one power iteration and a QR factorisation, in the type of the
    weights. The first update only fills the averages and moves nothing. A Fourier weight is one complex matrix per
    mode; the second moment of a complex entry is that of its modulus. Memory: beside both moments, 2 (rows^2 + columns^2)
    numbers a matrix.

    Args:
        params: groups of `parameter_groups`, or parameters, of which those with two axes are matrices.
        lr: as Adam's.
        betas: of both moments; the second one is that of the covariances too.
        weight_decay: decoupled, times the rate.
        frequency: updates from one improvement of the bases to the next.
        largest: a side longer than this keeps the identity as its basis.
        eps: added to the root of the second moment.

    Raises:
        ValueError: a number is out of its range.

    Vyas et al., SOAP: Improving and Stabilizing Shampoo using Adam, arXiv 2409.11321, algorithm 3; for physics-informed
    networks Wang et al., arXiv 2502.00604.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        weight_decay: float = 0.0,
        frequency: int = 10,
        largest: int = 10_000,
        eps: float = 1e-8,
    ) -> None:
        check_numbers("SOAP", lr=lr, weight_decay=weight_decay, eps=eps)
        check_betas("SOAP", betas)
        if frequency < 1 or largest < 1:
            raise ValueError(
                f"SOAP got frequency={frequency}, largest={largest}; expected at least 1 of each."
            )
        defaults = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**defaults, "frequency": frequency, "largest": largest, "kind": None})

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
                kind: Kind = group["kind"] or ("matrix" if p.ndim == 2 and not p.is_complex() else "other")
                if kind == "other":
                    adamw_update(p, self.state[p], group)
                else:
                    _update(p, kind, self.state[p], group)
        return loss


class _State:
    """The tensors kept of one parameter; complex ones as real pairs, since loading casts them to the parameter's type."""

    def __init__(self, kept: dict[str, Any], kind: Kind) -> None:
        self.kept, self.complex = kept, kind in ("modes", "packed modes")

    def __contains__(self, name: str) -> bool:
        return name in self.kept

    def __getitem__(self, name: str) -> Tensor:
        value: Tensor = self.kept[name]
        return torch.view_as_complex(value) if self.complex and name != "second" else value

    def __setitem__(self, name: str, value: Tensor) -> None:
        self.kept[name] = torch.view_as_real(value).contiguous() if value.is_complex() else value

    def basis(self, side: str) -> Tensor | None:
        """Of one side, none where it is the identity."""
        return self[f"{side}_basis"] if side in self else None


def _update(p: Tensor, kind: Kind, kept: dict[str, Any], group: dict[str, Any]) -> None:
    assert p.grad is not None
    g = as_matrices(p.grad, kind)
    b1, b2 = group["betas"]
    state = _State(kept, kind)
    if not kept:
        kept["step"] = 0
        state["first"] = torch.zeros_like(g, memory_format=torch.contiguous_format)
        state["second"] = torch.zeros_like(g.abs(), memory_format=torch.contiguous_format)
        for name, side in (("left", -2), ("right", -1)):
            n = g.shape[side]
            if n <= group["largest"]:
                state[name] = g.new_zeros((*g.shape[:-2], n, n))
        _gather(g, state, b2)
        for name in ("left", "right"):
            if name in state:  # the largest eigenvalue first
                state[f"{name}_basis"] = torch.linalg.eigh(state[name])[1].flip(-1).contiguous()
        return
    kept["step"] += 1
    left, right = state.basis("left"), state.basis("right")
    rotated = _rotated(g, left, right)
    state["first"].lerp_(g, 1 - b1)
    state["second"].lerp_(rotated.abs().square(), 1 - b2)
    ratio = _rotated(state["first"], left, right) / (state["second"].sqrt() + group["eps"])
    change = _back(ratio, left, right)
    t = kept["step"]
    p.mul_(1 - group["lr"] * group["weight_decay"])
    size = group["lr"] * math.sqrt(1 - b2**t) / (1 - b1**t)
    p.sub_(from_matrices(change, kind, p.shape), alpha=size)
    _gather(g, state, b2)
    if t % group["frequency"] == 0:
        _improve(state)


def _gather(g: Tensor, state: _State, beta: float) -> None:
    """Take a gradient into the averages of both covariances."""
    if "left" in state:
        state["left"].lerp_(g @ g.mH, 1 - beta)
    if "right" in state:
        state["right"].lerp_(g.mH @ g, 1 - beta)


def _improve(state: _State) -> None:
    """One power iteration of both bases; the second moment is sorted along with their columns."""
    for name, side in (("left", -2), ("right", -1)):
        if name not in state:
            continue
        basis = state[f"{name}_basis"]
        product = state[name] @ basis
        values = (basis.conj() * product).sum(-2).real
        order = values.argsort(dim=-1, descending=True, stable=True)
        columns = order.unsqueeze(-2).expand(product.shape)
        state[f"{name}_basis"] = torch.linalg.qr(product.gather(-1, columns))[0]
        second = state["second"]
        index = order.unsqueeze(-1 if side == -2 else -2).expand(second.shape)
        state["second"] = second.gather(side, index)


def _rotated(x: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    x = x if left is None else left.mH @ x
    return x if right is None else x @ right


def _back(x: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    x = x if left is None else left @ x
    return x if right is None else x @ right.mH
