"""Products with the Jacobian of a step, and numbers estimated from them.

Every sample b of a batch has its own Jacobian J = d step(u)_b / d u_b, an n x n matrix with n the number
of channels times the number of points; a step must not mix samples (batch normalisation does).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

StepFunction = Callable[[Tensor], Tensor]
Kind = Literal["row", "column"]
Mode = Literal["auto", "jvp", "vjp", "fd"]
Distribution = Literal["rademacher", "gaussian"]
Target = Literal["identity"]

# What PyTorch says when an operation or a custom function has no forward-mode derivative.
_NO_FORWARD_MODE = ("forward AD", "forward mode", "forward-mode", "setup_context", "jvp")


def check_options(kind: str, probes: int, distribution: str, mode: str, target: str | None) -> None:
    """Refuse unknown options of the estimators.

    Raises:
        ValueError: naming the option, what was found and what is known.
    """
    for name, value, known in (
        ("kind", kind, get_args(Kind)),
        ("distribution", distribution, get_args(Distribution)),
        ("mode", mode, get_args(Mode)),
        ("target", target, (None, *get_args(Target))),
    ):
        if value not in known:
            raise ValueError(f"Jacobian estimate got {name}={value!r}; expected one of {list(known)}.")
    if probes < 1:
        raise ValueError(f"Jacobian estimate got probes={probes}; expected at least 1.")
    if kind == "column" and mode in ("jvp", "fd"):
        raise ValueError(
            f"Jacobian estimate got mode={mode!r} with kind='column'; column energies come from products "
            "with the transpose: use mode='vjp' or 'auto'."
        )


def _plain(u: Tensor) -> Tensor:
    """u as a tensor that autograd may save; inference mode, as of a validation pass, makes others."""
    return u.clone() if u.is_inference() else u


def _input(u: Tensor) -> Tensor:
    return u if u.requires_grad else _plain(u).detach().requires_grad_()


def _output(step: StepFunction, x: Tensor) -> Tensor:
    y = step(x)
    if y.shape != x.shape:
        raise ValueError(f"step maps {tuple(x.shape)} to {tuple(y.shape)}; its shape must stay the same.")
    if not y.requires_grad:
        raise ValueError(
            "step gave a result that does not depend differentiably on its input; expected a step that "
            "runs with gradients on (no torch.no_grad or detach inside). mode='fd' needs no gradients."
        )
    return y


def _double_vjp(step: StepFunction, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """step(u) and J v by two reverse passes: J^T w is linear in w, and its derivative along w is J."""
    graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x = _input(u)
        y = _output(step, x)
        w = torch.zeros_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad(y, x, w, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, w, _plain(v), create_graph=graph)
    return (y, pushed) if graph else (y.detach(), pushed)


def jacobian_vector(step: StepFunction, u: Tensor, v: Tensor, mode: Mode = "auto") -> tuple[Tensor, Tensor]:
    """step(u) and J v, both (B, C, *points), differentiable in u and in the step's parameters.

    Args:
        step: the step.
        u: states.
        v: directions, like u.
        mode: "jvp" by forward mode; "vjp" by two reverse passes, for steps with custom functions that
            have no forward mode; "fd" by a one-sided difference, which needs no derivative of the step
            at all and is wrong by about the square root of the rounding unit; "auto" forward mode, and
            two reverse passes where the step does not support it.
    """
    if any(stride == 0 and n > 1 for stride, n in zip(u.stride(), u.shape, strict=True)):
        u = u.contiguous()  # forward mode refuses states expanded from one in memory
    if mode == "fd":
        size = u.detach().flatten(1).square().mean(dim=1).sqrt().clamp_min(1.0)
        eps = (torch.finfo(u.dtype).eps ** 0.5 * size).reshape(-1, *[1] * (u.ndim - 1))
        y = step(u)
        return y, (step(u + eps * v) - y) / eps
    if mode == "vjp":
        return _double_vjp(step, u, v)
    try:
        result = torch.func.jvp(step, (u,), (v,))
    except (RuntimeError, NotImplementedError) as error:
        if mode == "jvp" or not any(words in str(error) for words in _NO_FORWARD_MODE):
            raise
        return _double_vjp(step, u, v)
    y, pushed = result[0], result[1]
    if y.shape != u.shape:
        raise ValueError(f"step maps {tuple(u.shape)} to {tuple(y.shape)}; its shape must stay the same.")
    return y, pushed


def vector_jacobian(step: StepFunction, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """step(u) and J^T w, both (B, C, *points), differentiable in u and in the step's parameters."""
    graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad():
        x = _input(u)
        y = _output(step, x)
        (pulled,) = torch.autograd.grad(y, x, _plain(w), create_graph=graph)
    return (y, pulled) if graph else (y.detach(), pulled)


def _probe(like: Tensor, distribution: Distribution, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    if distribution == "gaussian":
        v = torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype)
        return v.to(like.device)
    signs = torch.randint(0, 2, like.shape, generator=generator, device=device)
    return signs.to(device=like.device, dtype=like.dtype) * 2 - 1


def per_channel(scale: Tensor | None, u: Tensor) -> Tensor | None:
    """Channel scales (C,) shaped for u (B, C, *points).

    Raises:
        ValueError: the number of scales is not the number of channels.
    """
    if scale is None:
        return None
    if scale.shape != u.shape[1:2]:
        raise ValueError(
            f"Jacobian estimate got {tuple(scale.shape)} channel scales for a state of {u.shape[1]} channels."
        )
    return scale.to(u).reshape(1, -1, *[1] * (u.ndim - 2))


def jacobian_energy(
    step: StepFunction,
    u: Tensor,
    *,
    kind: Kind = "row",
    probes: int = 1,
    distribution: Distribution = "rademacher",
    mode: Mode = "auto",
    target: Target | None = None,
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Estimate how sensitive the output, or how influential the input, is at each point.

    With random v, E[v v^T] = I, the square of (J v)_i has the expectation sum_j J_ij^2: one product
    estimates the row energies of all points at once, without bias (Hutchinson 1989). Products with J^T
    give the column energies sum_i J_ij^2. Their sum over points is ||J||_F^2 either way. The variance of
    one Gaussian probe is 2 r_i^4, that of a Rademacher probe smaller by 2 sum_j J_ij^4.

    Args:
        step: the step.
        u: states (B, C, *points).
        kind: "row" sensitivity of the output at a point, "column" influence of the input there.
        probes: number of random directions averaged.
        distribution: of the directions, signs or normal numbers.
        mode: how J is multiplied, see `jacobian_vector`.
        target: "identity" measures J - I instead of J.
        scale: a typical size of each channel (C,), where channels have unlike units: measures
            S^-1 J S with S = diag(scale).
        generator: of the directions.

    Returns:
        (B, *points), summed over channels, differentiable in the parameters of the step.
    """
    check_options(kind, probes, distribution, mode, target)
    size = per_channel(scale, u)
    total = torch.zeros((), dtype=u.dtype, device=u.device)
    for _ in range(probes):
        v = _probe(u, distribution, generator)
        if kind == "row":
            y = jacobian_vector(step, u, v if size is None else v * size, mode)[1]
            y = y if size is None else y / size
        else:
            y = vector_jacobian(step, u, v if size is None else v / size)[1]
            y = y if size is None else y * size
        if target == "identity":
            y = y - v
        total = total + y.square().sum(dim=1)
    return total / probes


def _norm(v: Tensor) -> Tensor:
    return v.flatten(1).norm(dim=1)


def _like(values: Tensor, u: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (u.ndim - 1))


def spectral_norm(
    step: StepFunction,
    u: Tensor,
    iterations: int = 20,
    *,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Largest singular value of J, (B, C, *points) -> (B,), by power iteration on J^T J.

    Approaches it from below; 20 iterations are usually within a few percent. The last product is
    differentiable in the parameters of the step, with the direction held.
    """
    if iterations < 1:
        raise ValueError(f"spectral_norm got iterations={iterations}; expected at least 1.")
    size = per_channel(scale, u)
    v = _probe(u, "gaussian", generator)
    tiny = torch.finfo(u.dtype).tiny
    with torch.no_grad():
        v = v / _like(_norm(v), u)
        for _ in range(iterations):
            y = jacobian_vector(step, u, v if size is None else v * size, mode)[1]
            y = y if size is None else y / size.square()
            v = vector_jacobian(step, u, y)[1]
            v = v if size is None else v * size
            v = v / _like(_norm(v).clamp_min(tiny), u)
    y = jacobian_vector(step, u, v if size is None else v * size, mode)[1]
    return _norm(y if size is None else y / size)


def leading_lyapunov(
    step: StepFunction,
    u: Tensor,
    steps: int,
    dt: float,
    *,
    transient: int = 0,
    mode: Mode = "auto",
    generator: torch.Generator | None = None,
) -> Tensor:
    """Leading Lyapunov exponent along the trajectory from u, (B, C, *points) -> (B,) [1 / time].

    Mean growth rate of an infinitesimal error that is rescaled after every step (Benettin et al. 1980).

    Args:
        step: the step, usually the reference solver: a model's own exponent must not set its clock.
        u: initial states.
        steps: number of steps averaged.
        dt: time per step.
        transient: steps taken before, which turn the direction but are not counted.
        mode: how J is multiplied, see `jacobian_vector`.
        generator: of the initial direction.

    Raises:
        ValueError: `steps` is below 1, `transient` below 0, or `dt` not positive.
    """
    if steps < 1 or transient < 0 or not dt > 0:
        raise ValueError(
            f"leading_lyapunov got steps={steps}, transient={transient}, dt={dt}; expected at least 1, at "
            "least 0 and a positive time."
        )
    v = _probe(u, "gaussian", generator)
    growth = torch.zeros(u.shape[0], dtype=torch.float64, device=u.device)
    with torch.no_grad():
        v = v / _like(_norm(v), u)
        for i in range(transient + steps):
            u, v = jacobian_vector(step, u, v, mode)
            norm = _norm(v).clamp_min(torch.finfo(u.dtype).tiny)
            v = v / _like(norm, u)
            if i >= transient:
                growth = growth + norm.to(torch.float64).log()
    return growth / (steps * dt)


def jacobian_diagnostics(
    step: StepFunction,
    states: Tensor,
    *,
    probes: int = 8,
    iterations: int = 20,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """What the Jacobian of a step looks like at given states (B, C, *points), without gradients.

    Returns:
        "row_energy" (B, *points), where small errors of the input are enlarged; "frobenius" (B,),
        ||J||_F / sqrt(n), one for the identity; "spectral_norm" (B,), the worst enlargement.
    """
    with torch.no_grad():
        energy = jacobian_energy(
            step, states, probes=probes, mode=mode, scale=scale, generator=generator
        ).detach()
        sigma = spectral_norm(step, states, iterations, mode=mode, scale=scale, generator=generator)
    size = states[0].numel()
    return {
        "row_energy": energy,
        "frobenius": (energy.flatten(1).sum(dim=1) / size).sqrt(),
        "spectral_norm": sigma.detach(),
    }
