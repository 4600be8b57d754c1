"""Products with the Jacobian of a step.

Every sample b of a batch has its own Jacobian J = d step(u)_b / d u_b, an n x n matrix with n the number
of channels times the number of points; a step must not mix samples (batch normalisation does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from sciml.jacobian.remembered import Remembered

StepFunction = Callable[[Tensor], Tensor]
Mode = Literal["auto", "jvp", "vjp", "fd"]
Target = Literal["identity"]

# What PyTorch says when an operation or a custom function has no forward-mode derivative.
_NO_FORWARD_MODE = ("forward AD", "forward mode", "forward-mode", "setup_context", "jvp")


class Jacobian:
    """The Jacobian of a step at states u, as a linear map on fields like u; never formed.

    Products share one pass of the step wherever they can: all that use reverse mode do. With gradients on
    they are differentiable in u and in the step's parameters; otherwise they carry no graph.

    How J v is found, `mode`:

    - "jvp": forward mode. About 2.5 times the step for networks. Steps with many small operations between a
      field and a constant (solvers) are slow in it (torch 2.13 spends half a millisecond on each).
    - "vjp": two reverse passes; J^T w is linear in w, and its derivative along v is J v. For solvers, and for
      custom functions without forward mode; their backward has to be differentiable itself.
    - "fd": a one-sided difference, wrong by about the square root of the rounding unit. It needs no
      derivative of the step, so compiled solvers stay compiled: the fastest for them by far. Networks (modules)
      are given both states as one batch.
    - "auto": forward mode, and reverse mode where the step does not support it.

    J^T w is a reverse pass in every mode.

    Args:
        step: (B, C, *points) -> (B, C, *points), or (B, C) -> (B, C).
        u: the states.
        mode: how J v is found.
        scale: a typical size of each channel (C,), where channels have unlike units: S^-1 J S with
            S = diag(scale) stands in place of J.
        target: what is subtracted, "identity" for J - I, a step for J - J_ref at the same states (in the
            precision of u; without gradients in the parameters of that step), None for nothing.

    Raises:
        ValueError: mode or target are unknown, or the scales do not fit the channels. In products: the
            step changes the shape, or its result does not depend differentiably on its input.
    """

    def __init__(
        self,
        step: StepFunction,
        u: Tensor,
        *,
        mode: Mode = "auto",
        scale: Tensor | None = None,
        target: Target | StepFunction | None = None,
    ) -> None:
        check_mode(mode)
        check_target(target)
        if any(stride == 0 and n > 1 for stride, n in zip(u.stride(), u.shape, strict=True)):
            u = u.contiguous()  # forward mode refuses states expanded from one in memory
        self.u = u
        self.mode = mode
        self._step = step
        self._run: StepFunction = step.step if isinstance(step, Remembered) else step
        self._scale = per_channel(scale, u)
        self._target = target
        self._reference: Jacobian | None = None
        self._graph = torch.is_grad_enabled()
        self._value: Tensor | None = None
        self._recorded: tuple[Tensor, Tensor] | None = None
        self._transposed: tuple[Tensor, Tensor] | None = None

    @property
    def value(self) -> Tensor:
        """step(u), from the pass of a product if there was one."""
        if self._value is None:
            self._note(self._step(self.u))
        assert self._value is not None
        return self._value

    def push(self, v: Tensor) -> Tensor:
        """J v, like u."""
        w = self._pushed(v if self._scale is None else v * self._scale)
        w = w if self._scale is None else w / self._scale
        if self._target is None:
            return w
        if self._target == "identity":
            return w - v
        with torch.no_grad():
            known = self._against().push(v)
        return w - known

    def pull(self, w: Tensor) -> Tensor:
        """J^T w, like u."""
        v = self._pulled(w if self._scale is None else w / self._scale)
        v = v if self._scale is None else v * self._scale
        if self._target is None:
            return v
        if self._target == "identity":
            return v - w
        with torch.no_grad():
            known = self._against().pull(w)
        return v - known

    def dense(self) -> Tensor:
        """J as matrices (B, n, n), by n products; for small systems."""
        n = self.u[0].numel()
        units = torch.eye(n, dtype=self.u.dtype, device=self.u.device).reshape(n, 1, *self.u.shape[1:])
        by_rows = self.mode in ("auto", "vjp")  # one pass of the step serves all of them
        product = self.pull if by_rows else self.push
        lines = [product(e.expand_as(self.u)).flatten(1) for e in units]
        return torch.stack(lines, dim=1 if by_rows else 2)

    def _against(self) -> Jacobian:
        if self._reference is None:
            assert callable(self._target)
            with torch.no_grad():
                self._reference = Jacobian(
                    self._target, self.u.detach(), mode=self.mode, scale=_flat(self._scale)
                )
        return self._reference

    def _size(self, v: Tensor) -> Tensor:
        """Root mean square of each sample in units of the scales (B,), 1 for zero."""
        v = v.detach() if self._scale is None else v.detach() / self._scale
        size = v.flatten(1).square().mean(dim=1).sqrt()
        return torch.where(size > 0, size, torch.ones_like(size))

    def _note(self, y: Tensor) -> Tensor:
        self._value = y
        if isinstance(self._step, Remembered):
            self._step.keep(self.u, y)
        return y

    def _pushed(self, v: Tensor) -> Tensor:
        if self.mode == "fd":
            eps = like(torch.finfo(self.u.dtype).eps ** 0.5 * self._size(self.u) / self._size(v), self.u)
            moved = self.u + eps * v
            if self._value is None and isinstance(self._run, nn.Module):
                both = self._run(torch.cat([self.u, moved]))  # quicker for networks than two calls
                y, w = both.chunk(2)
                _check_shape(self.u, y)
                return (w - self._note(y)) / eps
            w = self._run(moved)
            return (w - self.value) / eps
        if self.mode == "vjp":
            return self._twice_reversed(v)
        try:
            # Inference mode, as of a validation pass, has no forward derivatives either.
            with torch.inference_mode(False), torch.set_grad_enabled(self._graph):
                y, w = _forward(self._run, _plain(self.u), _plain(v))
        except (RuntimeError, NotImplementedError) as error:
            if self.mode == "jvp" or not any(words in str(error) for words in _NO_FORWARD_MODE):
                raise
            self.mode = "vjp"
            return self._twice_reversed(v)
        _check_shape(self.u, y)
        if w is None:
            raise _not_differentiable()
        self._note(y)
        return w

    def _record(self) -> tuple[Tensor, Tensor]:
        """Input and output of the step with a graph between them."""
        if self._recorded is None:
            with torch.inference_mode(False), torch.enable_grad():
                x = self.u if self.u.requires_grad else _plain(self.u).detach().requires_grad_()
                y = self._run(x)
                _check_shape(x, y)
                if not y.requires_grad:
                    raise _not_differentiable()
            self._recorded = (x, y)
            self._note(y if self._graph else y.detach())
        return self._recorded

    def _pulled(self, w: Tensor) -> Tensor:
        x, y = self._record()
        with torch.inference_mode(False), torch.enable_grad():
            return torch.autograd.grad(y, x, _plain(w), create_graph=self._graph, retain_graph=True)[0]

    def _twice_reversed(self, v: Tensor) -> Tensor:
        x, y = self._record()
        with torch.inference_mode(False), torch.enable_grad():
            if self._transposed is None:
                w = torch.zeros_like(y, requires_grad=True)
                self._transposed = (w, torch.autograd.grad(y, x, w, create_graph=True)[0])
            w, pulled = self._transposed
            if not pulled.requires_grad:
                raise ValueError(
                    "the backward pass of this step is not differentiable itself, so two reverse passes "
                    "give no product with J: use mode='jvp' or 'fd'."
                )
            return torch.autograd.grad(pulled, w, _plain(v), create_graph=self._graph, retain_graph=True)[0]


def jacobian_vector(step: StepFunction, u: Tensor, v: Tensor, mode: Mode = "auto") -> tuple[Tensor, Tensor]:
    """step(u) and J v, both like u, differentiable in u and in the step's parameters; modes as in `Jacobian`."""
    jacobian = Jacobian(step, u, mode=mode)
    pushed = jacobian.push(v)
    return jacobian.value, pushed


def vector_jacobian(step: StepFunction, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """step(u) and J^T w, both like u, differentiable in u and in the step's parameters."""
    jacobian = Jacobian(step, u)
    pulled = jacobian.pull(w)
    return jacobian.value, pulled


def dense_jacobian(
    step: StepFunction,
    u: Tensor,
    *,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    target: Target | StepFunction | None = None,
) -> Tensor:
    """The Jacobians of a step as matrices, (B, C, *points) -> (B, n, n) with n = C times points.

    By n products, for small systems; differentiable where gradients are on. Arguments as in `Jacobian`.
    """
    return Jacobian(step, u, mode=mode, scale=scale, target=target).dense()


def check_mode(mode: str) -> None:
    """Refuse an unknown way of multiplying.

    Raises:
        ValueError: naming what is known.
    """
    if mode not in get_args(Mode):
        raise ValueError(f"Jacobian got mode={mode!r}; expected one of {list(get_args(Mode))}.")


def check_target(target: object) -> None:
    """Refuse a target that is neither known nor a step.

    Raises:
        ValueError: naming what is known.
    """
    if target is not None and not callable(target) and target not in get_args(Target):
        raise ValueError(
            f"Jacobian got target={target!r}; expected None, 'identity' or a step to compare with."
        )


def per_channel(scale: Tensor | Sequence[float] | None, u: Tensor) -> Tensor | None:
    """Channel scales (C,) shaped for u (B, C, *points).

    Raises:
        ValueError: the number of scales is not the number of channels.
    """
    if scale is None:
        return None
    values = torch.as_tensor(scale)
    if values.shape != u.shape[1:2]:
        raise ValueError(
            f"Jacobian got {tuple(values.shape)} channel scales for a state of {u.shape[1]} channels."
        )
    return values.to(u).reshape(1, -1, *[1] * (u.ndim - 2))


def like(values: Tensor, u: Tensor) -> Tensor:
    """One number per sample (B,) shaped to multiply u."""
    return values.reshape(-1, *[1] * (u.ndim - 1))


def _flat(scale: Tensor | None) -> Tensor | None:
    return None if scale is None else scale.flatten()


def _plain(u: Tensor) -> Tensor:
    """u as a tensor that autograd may save; inference mode, as of a validation pass, makes others."""
    return u.clone() if u.is_inference() else u


def _forward(step: StepFunction, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
    """step(u) and J v in forward mode; None where the result does not depend on u."""
    try:
        level = forward_ad.dual_level()
        level.__enter__()
    except RuntimeError:
        # Inside another forward derivative: torch.func nests, at some cost.
        pair = torch.func.jvp(step, (u,), (v,))
        return pair[0], pair[1]
    try:
        y, w = forward_ad.unpack_dual(step(forward_ad.make_dual(u, v)))
        return y, w
    finally:
        level.__exit__(None, None, None)


def _check_shape(u: Tensor, y: Tensor) -> None:
    if y.shape != u.shape:
        raise ValueError(f"step maps {tuple(u.shape)} to {tuple(y.shape)}; its shape must stay the same.")


def _not_differentiable() -> ValueError:
    return ValueError(
        "step gave a result that does not depend differentiably on its input; expected a step that "
        "runs with gradients on (no torch.no_grad or detach inside). mode='fd' needs no gradients."
    )
