"""Quasi-Newton methods that keep the whole inverse Hessian, for small networks in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from sciml.optimizers.line_search import Point, strong_wolfe

Scaling = Literal["bfgs", "ssbfgs", "ssbroyden"]


def coefficients(scaling: Scaling, size: int, ys: float, yhy: float, sbs: float) -> tuple[float, float]:
    """tau and phi of the self-scaled Broyden family.

    Args:
        scaling: "bfgs" is tau = phi = 1, "ssbfgs" divides by tau, "ssbroyden" also leaves BFGS.
        size: number of unknowns.
        ys: y s.
        yhy: y H y with the inverse Hessian H before the update.
        sbs: s B s with its inverse B.

    Al-Baali, Math. Program. 82 (1998) and Al-Baali, Spedicato and Maggioni, Optim. Methods Softw. 29 (2014); for networks
    Urban, Stefanou and Pons, arXiv 2405.04230, and Kiyani et al., arXiv 2501.16371.
    """
    if scaling == "bfgs":
        return 1.0, 1.0
    h, b = yhy / ys, sbs / ys
    shrink = min(1.0, 1.0 / b)
    if scaling == "ssbfgs":
        return shrink, 1.0
    a = h * b - 1.0  # not negative, by Cauchy and Schwarz
    if a <= 1e-12:
        return shrink, 1.0
    c = math.sqrt(a / (1.0 + a))
    rm = min(1.0, h * (1.0 - c))
    theta = max((rm - 1.0) / a, min(1.0 / rm, (1.0 - b) / b))
    spread = 1.0 + theta * a
    power = abs(spread) ** (1.0 / (1.0 - size)) if size > 1 else 1.0
    tau = min(shrink * power, spread) if theta <= 0 else shrink * min(power, 1.0 / theta)
    return tau, (1.0 - theta) / (1.0 + a * theta)


def updated(
    inverse: Tensor, s: Tensor, y: Tensor, gradient: Tensor, length: float, scaling: Scaling
) -> bool:
    """Update the inverse Hessian H (N, N) in place, so that H y = s; false where y s is not positive.

        H <- (H - Hy Hy^T / yHy + phi yHy v v^T) / tau + s s^T / ys,   v = s / ys - Hy / yHy

    Args:
        inverse: H, symmetric and positive definite, and so afterwards.
        s, y: changes of the unknowns and of the gradient.
        gradient: before the step, which was s = -length H gradient; it gives s B s without B.
        length: of the step.
        scaling: member of the family.
    """
    ys = float(y @ s)
    hy = inverse @ y
    yhy = float(y @ hy)
    sbs = -length * float(s @ gradient)
    if not (ys > 1e-14 * float(s.norm() * y.norm()) and yhy > 0 and sbs > 0):
        return False
    tau, phi = coefficients(scaling, len(s), ys, yhy, sbs)
    # Both terms in Hy and s at once: H / tau + [Hy s] M [Hy s]^T.
    first = (phi - 1.0) / (yhy * tau)
    cross = -phi / (ys * tau)
    last = phi * yhy / (ys * ys * tau) + 1.0 / ys
    pair = torch.stack((hy, s), dim=1)
    middle = torch.tensor([[first, cross], [cross, last]], dtype=s.dtype, device=s.device)
    inverse.addmm_(pair @ middle, pair.mT, beta=1.0 / tau)
    return True


class QuasiNewton(torch.optim.Optimizer):
    """BFGS and its self-scaled relatives with a dense inverse Hessian and a strong Wolfe line search.

    For full batches, up to some 10,000 weights (N^2 numbers of memory) and float64; in float32 they stall near a loss
    of 1e-7. A step of the optimiser is several iterations on the function that the closure gives. Points of a
    residual may be drawn anew between steps: the gradient is evaluated again at the start of each, and the inverse
    Hessian is kept.

    Args:
        params: parameters; complex ones count as real pairs.
        scaling: "bfgs", "ssbfgs" or "ssbroyden".
        max_iter: iterations of one step.
        root: minimise the square root of the loss, which has the same minimum and is better scaled near zero; for
            losses that are not negative.
        decrease, curvature: of the strong Wolfe conditions.
        tolerance: largest entry of the gradient at which the step ends.
        largest: number of weights beyond which the dense matrix is refused.

    Raises:
        ValueError: a number is out of its range, or there are too many weights.
        ArithmeticError: `root` met a negative loss.

    Nocedal and Wright, Numerical Optimization (2006), section 6.1; `coefficients` names the sources of the scalings.
    """

    def __init__(
        self,
        params: Iterable[Any],
        scaling: Scaling = "ssbroyden",
        max_iter: int = 20,
        root: bool = True,
        decrease: float = 1e-4,
        curvature: float = 0.9,
        tolerance: float = 1e-14,
        largest: int = 20_000,
    ) -> None:
        if scaling not in get_args(Scaling):
            raise ValueError(f"QuasiNewton got scaling={scaling!r}; expected one of {get_args(Scaling)}.")
        if max_iter < 1 or not 0 < decrease < curvature < 1:
            raise ValueError(
                f"QuasiNewton got max_iter={max_iter}, decrease={decrease}, curvature={curvature}; expected at least 1 "
                "iteration and 0 < decrease < curvature < 1."
            )
        super().__init__(params, {"lr": 1.0})
        self.scaling, self.max_iter, self.root, self.tolerance = scaling, max_iter, root, tolerance
        self.decrease, self.curvature = decrease, curvature
        self.weights = [p for group in self.param_groups for p in group["params"]]
        size = sum(p.numel() * (2 if p.is_complex() else 1) for p in self.weights)
        if size > largest:
            raise ValueError(
                f"QuasiNewton got {size} weights, whose inverse Hessian takes {size**2 / 1e6:.0f} million numbers; expected "
                f"at most {largest}. Use L-BFGS, or raise `largest`."
            )
        self.size = size

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Iterate on the function that the closure evaluates, with its gradients; returns the loss at the start."""
        evaluate = torch.enable_grad()(closure)
        state = self.state[self.weights[0]]
        x = self._gather([p.detach() for p in self.weights])
        if not state:
            state["inverse"] = torch.eye(self.size, dtype=x.dtype, device=x.device)
            state["iterations"], state["evaluations"], state["fresh"], state["before"] = (
                0,
                0,
                True,
                math.inf,
            )
        loss = evaluate()
        state["evaluations"] += 1
        value, gradient = self._seen(loss)
        for _ in range(self.max_iter):
            if not math.isfinite(value) or float(gradient.abs().max()) <= self.tolerance:
                break
            accepted = self._iterate(evaluate, state, x, value, gradient)
            if accepted is None:
                break
            x, value, gradient = accepted
        self._scatter(x)
        return loss

    def _iterate(
        self, evaluate: Callable[[], Any], state: dict[str, Any], x: Tensor, value: float, gradient: Tensor
    ) -> tuple[Tensor, float, Tensor] | None:
        """One line search and one update; None where even steepest descent finds nothing better."""
        inverse = state["inverse"]
        direction = -(inverse @ gradient)
        slope = float(direction @ gradient)
        if not slope < 0:
            return self._again(evaluate, state, x, value, gradient)

        def at(length: float) -> Point:
            self._scatter(x + length * direction)
            there, g = self._seen(evaluate())
            state["evaluations"] += 1
            return Point(length, there, float(g @ direction), g)

        # The identity knows nothing of the scale of the problem. Later the next decrease is guessed from the last one
        # (Nocedal and Wright, 3.60): as long as the inverse Hessian is poor, a length of one is mostly too long.
        first = min(1.0, 1.0 / float(gradient.abs().sum()))
        if not state["fresh"] and state["before"] > value:
            first = min(1.0, 2.02 * (value - state["before"]) / slope)
        found, _ = strong_wolfe(
            at, Point(0.0, value, slope, gradient), first, decrease=self.decrease, curvature=self.curvature
        )
        if found is None:
            return self._again(evaluate, state, x, value, gradient)
        s = found.length * direction
        updated(inverse, s, found.gradient - gradient, gradient, found.length, self.scaling)
        state["iterations"] += 1
        state["fresh"], state["before"] = False, value
        return x + s, found.value, found.gradient

    def _again(
        self, evaluate: Callable[[], Any], state: dict[str, Any], x: Tensor, value: float, gradient: Tensor
    ) -> tuple[Tensor, float, Tensor] | None:
        """The iteration once more from the identity, unless it was the identity that failed."""
        if state["fresh"]:
            return None
        state["inverse"].zero_().diagonal().fill_(1.0)
        state["fresh"] = True
        return self._iterate(evaluate, state, x, value, gradient)

    def _seen(self, loss: Any) -> tuple[float, Tensor]:
        value = float(loss)
        gradient = self._gather([torch.zeros_like(p) if p.grad is None else p.grad for p in self.weights])
        if not self.root or not math.isfinite(value):
            return value, gradient
        if value < 0:
            raise ArithmeticError(
                f"QuasiNewton takes the root of the loss and met {value:.3g}; set root=False for losses below zero."
            )
        root = math.sqrt(value)
        return root, gradient * (0.5 / root if root > 0 else 0.0)

    def _gather(self, tensors: list[Tensor]) -> Tensor:
        real = [torch.view_as_real(t) if t.is_complex() else t for t in tensors]
        return torch.cat([t.reshape(-1) for t in real])

    def _scatter(self, x: Tensor) -> None:
        start = 0
        for p in self.weights:
            w = torch.view_as_real(p) if p.is_complex() else p
            w.copy_(x[start : start + w.numel()].view_as(w))
            start += w.numel()
