"""The implicit midpoint rule, symplectic for every Hamiltonian."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

from sciml.solvers.time.composition import SINGLE, Composition

Rate = Callable[[Tensor], Tensor]

_PLAIN, _NEWTON = 25, 25  # iterations of either kind


def implicit_midpoint(
    rhs: Rate, dt: float, scheme: Composition = SINGLE, *, substeps: int = 1
) -> Callable[[Tensor], Tensor]:
    """One step u -> u + dt k of u' = rhs(u), with k = rhs(u + dt k / 2), and what `scheme` composes of it.

    Symplectic, symmetric, keeps quadratic invariants to rounding, and stable for every dt where rhs is linear
    and does not grow. The energy of a Hamiltonian oscillates without drift. k is found to rounding, sample
    by sample: by plain iteration where dt times the Lipschitz constant is small, else by Newton's method with
    the dense Jacobian of a sample, made for a few dozen unknowns. A sample for which neither converges
    becomes NaN; the others do not notice.

    First derivatives, in reverse and forward mode, are those of the solution, by the implicit function
    theorem, whatever the iteration did; second derivatives are not provided for.

    Args:
        rhs: (B, C, *points) -> (B, C, *points) [u / time], each sample on its own.
        dt: time of the step [time]; negative runs backwards.
        scheme: one of `COMPOSITIONS`.
        substeps: equal steps inside one.

    Hairer, Lubich and Wanner, Geometric Numerical Integration (2006), sections II.1, VI.4 and VIII.6.
    """
    if substeps < 1:
        raise ValueError(f"implicit_midpoint got substeps={substeps}; expected at least 1.")
    weights = scheme.weights * substeps
    h = dt / substeps

    def step(u: Tensor) -> Tensor:
        for w in weights:
            u = _midpoint(rhs, u, w * h)
        return u

    return step


def _midpoint(rhs: Rate, u: Tensor, h: float) -> Tensor:
    with torch.no_grad():
        k, converged = _iterate(rhs, u.detach(), h)
        if not bool(converged.all()):
            k, converged = _newton(rhs, u.detach(), h, k, converged)
            k = torch.where(_wide(converged, u), k, torch.full_like(k, torch.nan))
    rate = rhs(u + (0.5 * h) * k)
    if rate.requires_grad or torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        # One step of Newton's method from the solution does not move it and has its derivative.
        k = k - _solve(rhs, (u + (0.5 * h) * k).detach(), h, k - rate)
    return u + h * k


def _iterate(rhs: Rate, u: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """The slope at the midpoint by plain iteration, and which samples (B,) have converged."""
    k = rhs(u)
    enough = _rounding(u, h)
    done = torch.zeros(u.shape[0], dtype=torch.bool, device=u.device)
    for _ in range(_PLAIN):
        new = rhs(u + (0.5 * h) * k)
        change = (new - k).flatten(1).abs().amax(1) <= enough
        # A sample that is done stays as it is, so that its neighbours cannot change it.
        k = torch.where(_wide(done, u), k, new)
        done = done | change
        if bool(done.all()):
            break
    return k, done


def _newton(rhs: Rate, u: Tensor, h: float, k: Tensor, done: Tensor) -> tuple[Tensor, Tensor]:
    """The same by Newton's method, for the samples that are not done, from the slope at the start."""
    k = torch.where(_wide(done, u), k, rhs(u))
    enough = _rounding(u, h)
    for _ in range(_NEWTON):
        middle = u + (0.5 * h) * k
        delta = _solve(rhs, middle, h, k - rhs(middle))
        k = torch.where(_wide(done, u), k, k - delta)
        done = done | (delta.flatten(1).abs().amax(1) <= enough)
        if bool(done.all()):
            break
    return k, done


def _rounding(u: Tensor, h: float) -> Tensor:
    """The change of the slope that is rounding in the state, (B,)."""
    size = u.flatten(1).abs().amax(1).clamp(min=torch.finfo(u.dtype).tiny)
    return 8 * torch.finfo(u.dtype).eps / abs(h) * size


def _solve(rhs: Rate, middle: Tensor, h: float, right: Tensor) -> Tensor:
    """(1 - h/2 J)^-1 right of each sample, with J the Jacobian of rhs at `middle`, itself a constant."""
    count = middle[0].numel()
    pull = torch.func.vjp(rhs, middle)[1]
    rows = []
    for index in range(count):
        pick = torch.zeros(count, dtype=middle.dtype, device=middle.device)
        pick[index] = 1.0
        rows.append(pull(pick.reshape(middle.shape[1:]).expand_as(middle))[0].flatten(1))
    jacobian = torch.stack(rows, dim=1).detach()
    matrix = torch.eye(count, dtype=middle.dtype, device=middle.device) - (0.5 * h) * jacobian
    # A matrix with entries that are not finite would stop the solver for the whole batch.
    matrix = torch.where(torch.isfinite(matrix), matrix, torch.zeros_like(matrix))
    return torch.linalg.solve_ex(matrix, right.flatten(1).unsqueeze(2))[0].reshape(right.shape)


def _wide(flags: Tensor, like: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (like.ndim - 1))
