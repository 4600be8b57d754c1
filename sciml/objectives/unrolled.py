"""Losses on one step and on several steps in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from sciml.objectives.base import Discrepancy, Distance, Norm, Objective, Parts, checked_window
from sciml.objectives.schedules import Schedule, counted, tell_loss
from sciml.objectives.starts import Draw, Span, Start, check_draw, drawn, given_state
from sciml.objectives.terms import Term
from sciml.step import ahead


class Unrolled(Objective):
    """Compare the first K states of a rollout with the data, L = sum_k w_k l(F^k(u_0), u_k).

    With `gradient="full"` the parameters see how they shape later inputs (memory K steps); with "none"
    every input is cut off from its past, which shows the step its own errors but keeps no long-term
    gradient; an integer m cuts after every m steps, between the two (1 is "none", K is "full"). Taxonomy
    and comparison: List, Chen, Bali and Thuerey, arXiv 2402.12971. Where the chain is cut, the gradient
    of what lies before is taken at once and its activations are given up, so that memory is that of m steps.

    Where the rollout starts is a value of its own: at the data, or where a `Start`, or several one after
    the other, have brought it. `start=FreeSteps(2)` with `steps=1` is the pushforward loss, `Noise` with
    `steps=3` three steps from a disturbed state, and so on.

    Args:
        steps: K, at least 1; rounded where a schedule gives it. The window needs K + 1 states for the
            largest K.
        gradient: "full", "none", or how many steps a gradient reaches back.
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.
        reduction: "mean" over k keeps the size of the gradient as K grows, "sum" does not.
        weights: w_k (K,) for the largest K, ones where left out.
        checkpoint: compute inside each step again in the backward pass: memory of the states only.
        start: what happens before the rollout, nothing if left out.
        draw: K as it is ("fixed"), or uniform from 1 to K for each "batch" or each "sample". Where samples
            differ the step is called on fewer and fewer of them, and each has the mean over its own K.
        history: frames that the step is given, oldest first, side by side as channels.
        bundle: frames that one call of the step gives (`sciml.step.ahead`); K counts calls, and the loss is
            taken over all K times `bundle` frames.
        terms: further terms on the rollout as a whole, added with their weights.
        gradient_norms: log |dL/du_k| too, `gradient_k`: how much this loss still feels each state. They are
            filled in by the backward pass, at the latest, and NaN before.

    Raises:
        ValueError: an argument is out of range, or a window is too short.
    """

    def __init__(
        self,
        steps: int | Schedule,
        gradient: Literal["full", "none"] | int = "full",
        norm: Norm | Distance = "mse",
        channel_scale: Sequence[float] | Tensor | None = None,
        reduction: Literal["mean", "sum"] = "mean",
        weights: Sequence[float] | None = None,
        checkpoint: bool = False,
        start: Start | Sequence[Start] | None = None,
        draw: Draw = "fixed",
        history: int = 1,
        bundle: int = 1,
        terms: Sequence[Term] = (),
        gradient_norms: bool = False,
    ) -> None:
        super().__init__()
        self.steps = counted(steps, "Unrolled.steps", 1, whole=True)
        most = round(self.steps.limits[1])
        reach = most if gradient == "full" else 1 if gradient == "none" else gradient
        if not isinstance(reach, int) or isinstance(reach, bool) or reach < 1:
            raise ValueError(
                f"Unrolled got gradient={gradient!r}; expected 'full', 'none' or a number of steps from 1."
            )
        if reduction not in ("mean", "sum"):
            raise ValueError(f"Unrolled got reduction={reduction!r}; expected 'mean' or 'sum'.")
        if history < 1 or bundle < 1:
            raise ValueError(f"Unrolled got history={history}, bundle={bundle}; expected at least 1.")
        check_draw(draw, "Unrolled")
        factors = tuple(float(w) for w in weights) if weights is not None else (1.0,) * most
        if len(factors) != most or min(factors) < 0 or sum(factors) <= 0:
            raise ValueError(
                f"Unrolled got weights {factors}; expected {most}, zero or more, not all zero."
            )
        if terms and draw == "sample":
            raise ValueError(
                "Unrolled got terms on whole rollouts with draw='sample', where rollouts differ in length; "
                "take draw='batch'."
            )
        self.reach = reach
        self.weights = factors
        self.reduction = reduction
        self.checkpoint = checkpoint
        self.draw: Draw = draw
        self.gradient_norms = gradient_norms
        self.logged = draw != "fixed" or isinstance(steps, Schedule)
        starts = [] if start is None else [start] if isinstance(start, Start) else list(start)
        self.starts = nn.ModuleList(starts)
        # Pieces are differentiated, and freed, one by one; logged norms are of the loss alone.
        self.shares = reach >= most and not gradient_norms
        self.terms = nn.ModuleList(terms)
        self.discrepancy = Discrepancy(norm, channel_scale)
        spans = [Span(history, bundle, most * bundle)]  # of what each start leaves, the last one first
        for value in reversed(starts):
            spans.append(value.needs(spans[-1]))
        *left, self.window = spans
        self.spans = left[::-1]
        self.span = spans[0]
        self.horizon = max(1, self.window.frames - 1)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        window = checked_window(window, self.window.frames, "Unrolled")[:, : self.window.frames]
        parts: Parts = {}
        for start, span in zip(self.starts, self.spans, strict=False):
            window, told = start(step, window, span, generator)
            parts |= told
        most, each = drawn(1, round(self.steps()), self.draw, len(window), generator)
        if len(window) == 0:  # every sample was dropped: this update teaches nothing
            return without_samples(step, window), parts
        if self.logged:
            parts["steps"] = torch.tensor(float(most) if each is None else float(each.double().mean()))
        n, m, channels = self.span.history, self.span.bundle, window.shape[2]
        u = given_state(window, n)
        rows: Tensor | None = None  # samples whose rollout goes on, all of them while None
        own = None if each is None else torch.zeros(len(window), dtype=window.dtype, device=window.device)
        early = _Early(step, window, enabled=not self.terms)
        terms: list[Tensor] = []
        states = [window[:, n - 1]]
        for k in range(1, most + 1):
            if each is not None:
                on = each >= k
                if not bool(on.all()):
                    before = torch.ones_like(on) if rows is None else each >= k - 1
                    u = u[on[before].to(u.device)]
                    rows = on.nonzero().squeeze(1).to(u.device)
            if k > 1 and (k - 1) % self.reach == 0:
                u = u.detach()
                if early.enabled:
                    early.take(self._gathered(terms, own, most * m, each))
                    terms, own = [], None if own is None else torch.zeros_like(own)
            if m == 1:
                u = recompute(step, u, use_reentrant=False) if self.checkpoint else step(u)
                new = [u if n == 1 else u[:, -channels:]]
            else:
                several = (
                    recompute(ahead, step, u, use_reentrant=False) if self.checkpoint else ahead(step, u)
                )
                if several.shape[1] != m:
                    raise ValueError(
                        f"Unrolled compares bundles of {m} frames; one call of the step gives {several.shape[1]}."
                    )
                u, new = several[:, -1], list(several[:, :, -channels:].unbind(1))
            for frame, state in enumerate(new, start=(k - 1) * m + 1):
                target = window[:, n - 1 + frame]
                if self.gradient_norms:
                    parts[f"gradient_{frame}"] = gradient_norm(state)
                loss = self.discrepancy(state, target if rows is None else target[rows])
                parts[f"step_{frame}"] = loss.detach().mean()
                if own is None:
                    terms.append(self.weights[k - 1] * loss.mean())
                else:
                    loss = self.weights[k - 1] * loss
                    own = own + loss if rows is None else own.index_add(0, rows, loss)
                if self.terms:
                    states.append(state)
        total = early.joined(self._gathered(terms, own, most * m, each))
        if self.terms:
            pred, true = torch.stack(states, dim=1), window[:, n - 1 : n + most * m]
            for term in self.terms:
                assert isinstance(term, Term)
                value = term(pred, true).mean()
                total = total + term.weight() * value
                parts[term.name] = value.detach()
        tell_loss(self, total)
        return total, parts

    def _gathered(self, terms: list[Tensor], own: Tensor | None, count: int, each: Tensor | None) -> Tensor:
        """The loss of some of `count` frames: of the batch, or of each sample with its own number of calls."""
        mean = self.reduction == "mean"
        if own is None or each is None:
            total = torch.stack(terms).sum()
            return total / count if mean else total
        return (own / (each * self.span.bundle).to(own) if mean else own).mean()


class OneStep(Objective):
    """Compare one step with the data, L = l(F(u_0), u_1): `Unrolled` with one step.

    Args:
        norm: see `Discrepancy`.
        channel_scale: see `Discrepancy`.
    """

    def __init__(
        self, norm: Norm | Distance = "mse", channel_scale: Sequence[float] | Tensor | None = None
    ) -> None:
        super().__init__()
        self.unrolled = Unrolled(1, norm=norm, channel_scale=channel_scale)
        self.shares = self.unrolled.shares

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        return self.unrolled(step, checked_window(window, 2, "OneStep"), generator)


class _Early:
    """Takes gradients of the parts of a loss that nothing later depends on, before the rest is computed.

    A loss cut into pieces needs the activations of one piece at a time only if each piece is differentiated as soon
    as it is there. The values go on, with their gradients attached.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], window: Tensor, *, enabled: bool) -> None:
        found = list(step.parameters()) if isinstance(step, nn.Module) else []
        self.parameters = [p for p in found if p.requires_grad]
        device = window.device.type
        half = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
        # A loss in half precision is scaled before it is differentiated, or small gradients vanish: not here.
        wanted = enabled and torch.is_grad_enabled() and not window.requires_grad and not half
        self.enabled = wanted and bool(self.parameters)
        self.value: Tensor | None = None
        self.gradients: list[Tensor | None] = [None] * len(self.parameters)

    def take(self, loss: Tensor) -> None:
        """Differentiate a piece and let its graph go."""
        new = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        for i, gradient in enumerate(new):
            known = self.gradients[i]
            if gradient is not None:
                self.gradients[i] = gradient if known is None else known + gradient
        self.value = loss.detach() if self.value is None else self.value + loss.detach()

    def joined(self, loss: Tensor) -> Tensor:
        """The whole: what was taken, with its gradients, and the last piece."""
        if self.value is None:
            return loss
        pairs = [(p, g) for p, g in zip(self.parameters, self.gradients, strict=True) if g is not None]
        gradients = [g for _, g in pairs]
        taken: Tensor = _Attached.apply(self.value, gradients, *(p for p, _ in pairs))
        return taken + loss


class _Attached(torch.autograd.Function):
    """A value whose gradients in some parameters are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(grads[0] * gradient for gradient in ctx.gradients))


def gradient_norm(state: Tensor) -> Tensor:
    """The norm of the loss's gradient in a state, a scalar that the backward pass fills in; NaN before."""
    norm = torch.full((), torch.nan, dtype=state.dtype, device=state.device)

    def look(gradient: Tensor) -> None:
        norm.copy_(gradient.detach().norm())

    if state.requires_grad:
        state.register_hook(look)
    return norm


def without_samples(step: Callable[[Tensor], Tensor], window: Tensor) -> Tensor:
    """A loss of zero whose gradient in the step's parameters is zero."""
    zero = window.new_zeros(())
    for parameter in step.parameters() if isinstance(step, nn.Module) else ():
        if parameter.requires_grad:
            zero = zero + 0.0 * parameter.abs().sum()
    return zero
