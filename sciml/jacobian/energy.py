"""Where a step is sensitive, and what it is sensitive to."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.jacobian.probes import Distribution, check_probes, directions
from sciml.jacobian.products import Jacobian, Mode, StepFunction, Target, check_mode, check_target

Kind = Literal["row", "column"]


def check_options(kind: str, probes: int | None, distribution: str, mode: str, target: object) -> None:
    """Refuse unknown options of the estimators.

    Raises:
        ValueError: naming the option, what was found and what is known.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"Jacobian estimate got kind={kind!r}; expected one of {list(get_args(Kind))}.")
    check_probes(probes, distribution)
    check_mode(mode)
    check_target(target)
    if kind == "column" and mode in ("jvp", "fd"):
        raise ValueError(
            f"Jacobian estimate got mode={mode!r} with kind='column'; column energies come from products "
            "with the transpose: use mode='vjp' or 'auto'."
        )


def jacobian_energy(
    step: StepFunction,
    u: Tensor,
    *,
    kind: Kind = "row",
    probes: int | None = 1,
    distribution: Distribution = "rademacher",
    mode: Mode = "auto",
    target: Target | StepFunction | None = None,
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Estimate how sensitive the output, or how influential the input, is at each point.

    With random v, E[v v^T] = I, the square of (J v)_i has the expectation sum_j J_ij^2: one product
    estimates the row energies of all points at once, without bias (Hutchinson 1989). Products with J^T
    give the column energies sum_i J_ij^2. Their sum over points is ||J||_F^2 either way. The variance of
    one Gaussian probe is 2 r_i^4, that of a Rademacher probe smaller by 2 sum_j J_ij^4.

    Column energies cost less (one reverse pass), but a map of them shows where errors come from, which a
    flow moves away from where they end.

    Args:
        step: the step.
        u: states (B, C, *points).
        kind: "row" sensitivity of the output at a point, "column" influence of the input there.
        probes: number of random directions averaged; None takes all n unit vectors, which is exact and for
            small systems.
        distribution: of the directions: signs, normal numbers, or uniform on a sphere.
        mode: how J is multiplied, see `Jacobian`.
        target: what is subtracted from J: "identity", or a step whose own J at u is; see `Jacobian`.
        scale: a typical size of each channel (C,), where channels have unlike units: measures
            S^-1 J S with S = diag(scale).
        generator: of the directions.

    Returns:
        (B, *points), summed over channels, differentiable in the parameters of the step.
    """
    check_options(kind, probes, distribution, mode, target)
    jacobian = Jacobian(step, u, mode=mode, scale=scale, target=target)
    product = jacobian.push if kind == "row" else jacobian.pull
    total = torch.zeros((), dtype=u.dtype, device=u.device)
    count = 0
    for v in directions(u, probes, distribution, generator):
        total = total + product(v).square().sum(dim=1)
        count += 1
    return total / count


def per_sample(energy: Tensor) -> Tensor:
    """Sum over the points, (B, *points) -> (B,)."""
    return energy.reshape(len(energy), -1).sum(dim=1)
