"""Explicit symplectic steps of separable Hamiltonian systems."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sciml.solvers.time.composition import SINGLE, Composition


def symplectic(
    velocity: Callable[[Tensor], Tensor],
    force: Callable[[Tensor], Tensor],
    dt: float,
    scheme: Composition = SINGLE,
    *,
    substeps: int = 1,
) -> Callable[[Tensor], Tensor]:
    """One step of q' = velocity(p), p' = force(q), as a function (q, p) -> (q, p) of halves of the channels.

    Velocity Verlet (leapfrog, kick-drift-kick), and what `scheme` composes of it. The map is symplectic and
    is undone by a step of -dt; the energy oscillates with an error of the order of the scheme and does
    not drift over times exponentially long in 1/dt, as long as dt times the largest frequency lies well
    below `Composition.stability_limit`: 2 for Verlet, 1.57 for the triple jump. Differentiable.

    Args:
        velocity: (B, n, *points) of p -> rate of q.
        force: (B, n, *points) of q -> rate of p.
        dt: time of the step [time]; negative runs backwards.
        scheme: one of `COMPOSITIONS`.
        substeps: equal steps inside one; a kick that ends one and the kick that starts the next are one.

    Stoermer (1907), Verlet (1967); Yoshida, Physics Letters A 150 (1990) 262-268; Hairer, Lubich and Wanner,
    Geometric Numerical Integration (2006), sections I.1.4, II.4 and IX.8.
    """
    if substeps < 1:
        raise ValueError(f"symplectic got substeps={substeps}; expected at least 1.")
    weights = scheme.weights * substeps
    h = dt / substeps

    def step(u: Tensor) -> Tensor:
        q, p = u.chunk(2, dim=1)
        p = p + (0.5 * h * weights[0]) * force(q)
        for w, after in zip(weights, (*weights[1:], 0.0), strict=True):
            q = q + (h * w) * velocity(p)
            p = p + (0.5 * h * (w + after)) * force(q)
        return torch.cat([q, p], dim=1)

    return step
