"""How far the Jacobian of a step is from symmetric."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.jacobian.probes import Distribution, check_probes, directions
from sciml.jacobian.products import Jacobian, Mode, StepFunction


def asymmetry(
    step: StepFunction,
    u: Tensor,
    *,
    probes: int | None = 1,
    distribution: Distribution = "gaussian",
    mode: Mode = "auto",
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
    relative: bool = False,
) -> Tensor:
    """Estimate 2 ||A||_F^2 / n of the antisymmetric part A = (J - J^T)/2, (B, C, *points) -> (B,).

    The mean of (|J e|^2 - e^T J J e) / n over random e, without bias and differentiable; single values can be
    negative. Zero for gradient flows, such as diffusion. Transport and Hamiltonian systems are antisymmetric
    at heart: nothing is wrong with them.

    Args:
        step: the step.
        u: states.
        probes: random directions; None for all unit vectors, which is exact.
        distribution: of the directions.
        mode: how J e is found, see `Jacobian`.
        scale: a typical size of each channel (C,).
        generator: of the directions.
        relative: ||J - J^T||_F^2 / ||J||_F^2 instead, a ratio of two estimates: 0 where J is symmetric, 4 where it is
            antisymmetric, 2 on average for a J of independent entries.

    Laborieux and Zenke, Improving equilibrium propagation without weight symmetry through Jacobian homeostasis
    (ICLR 2024).
    """
    check_probes(probes, distribution)
    jacobian = Jacobian(step, u, mode=mode, scale=scale)
    total = size = torch.zeros((), dtype=u.dtype, device=u.device)
    count = 0
    for e in directions(u, probes, distribution, generator):
        once = jacobian.push(e)
        twice = jacobian.push(once)
        total = total + (once.square() - e * twice).flatten(1).sum(dim=1)
        size = size + once.flatten(1).square().sum(dim=1)
        count += 1
    if relative:
        return 2.0 * total / size.clamp_min(torch.finfo(u.dtype).tiny)
    return total / (count * u[0].numel())


def symmetry(
    step: StepFunction,
    u: Tensor,
    *,
    probes: int | None = 8,
    distribution: Distribution = "rademacher",
    mode: Mode = "auto",
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """|S| / (|S| + |A|) of the symmetric and antisymmetric parts of J, (B,): one where J is symmetric.

    Frobenius norms, from products with J and J^T; without gradients.
    """
    check_probes(probes, distribution)
    with torch.no_grad():
        jacobian = Jacobian(step, u.detach(), mode=mode, scale=scale)
        even = odd = torch.zeros((), dtype=u.dtype, device=u.device)
        for e in directions(u, probes, distribution, generator):
            pushed, pulled = jacobian.push(e), jacobian.pull(e)
            even = even + (pushed + pulled).flatten(1).square().sum(dim=1)
            odd = odd + (pushed - pulled).flatten(1).square().sum(dim=1)
        even, odd = even.sqrt(), odd.sqrt()
        return even / (even + odd).clamp_min(torch.finfo(u.dtype).tiny)
