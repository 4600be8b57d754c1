"""By how much a step shrinks or enlarges volumes of states."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.jacobian.probes import Distribution, check_probes, directions
from sciml.jacobian.products import Jacobian, Mode, StepFunction

Method = Literal["auto", "dense", "series"]

# Unknowns up to which all entries of J are found; the determinant is then exact.
DENSE_LIMIT = 256


def log_determinant(
    step: StepFunction,
    u: Tensor,
    *,
    method: Method = "auto",
    terms: int = 10,
    probes: int | None = 1,
    distribution: Distribution = "rademacher",
    mode: Mode = "auto",
    generator: torch.Generator | None = None,
) -> Tensor:
    """log |det J|, (B, C, *points) -> (B,), differentiable: the sum of all finite-time Lyapunov exponents times dt.

    Args:
        step: the step.
        u: states.
        method: "dense" from all entries of J, for n up to some hundreds; "series"
            sum_k (-1)^(k+1) tr(A^k) / k of A = J - I with random probes, for steps close to the identity: it
            converges for spectral radii of A below one, and its bias after the last term is of the order of
            n ||A||^(terms + 1); "auto" dense up to n = 256.
        terms: of the series; each is one product.
        probes: random directions of the series; None for all unit vectors, which gives exact traces.
        distribution: of the directions.
        mode: how J is multiplied, see `Jacobian`.
        generator: of the directions.

    Raises:
        ValueError: an option is unknown or out of range.
    """
    check_method(method, terms)
    check_probes(probes, distribution)
    if method == "dense" or (method == "auto" and u[0].numel() <= DENSE_LIMIT):
        return torch.linalg.slogdet(Jacobian(step, u, mode=mode).dense())[1]
    samples = log_determinant_samples(
        step, u, terms=terms, probes=probes, distribution=distribution, mode=mode, generator=generator
    )
    return samples.mean(dim=0)


def log_determinant_samples(
    step: StepFunction,
    u: Tensor,
    *,
    terms: int,
    probes: int | None,
    distribution: Distribution = "rademacher",
    mode: Mode = "auto",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The series of `log_determinant`, one independent estimate for each probe, (P, B)."""
    jacobian = Jacobian(step, u, mode=mode, target="identity")
    found = []
    for v in directions(u, probes, distribution, generator):
        w, total = v, torch.zeros((), dtype=u.dtype, device=u.device)
        for k in range(1, terms + 1):
            w = jacobian.push(w)
            total = total + (-1) ** (k + 1) / k * (v * w).flatten(1).sum(dim=1)
        found.append(total)
    return torch.stack(found)


def check_method(method: str, terms: int) -> None:
    """Refuse an unknown method and an empty series.

    Raises:
        ValueError: naming what is known.
    """
    if method not in get_args(Method):
        raise ValueError(
            f"log_determinant got method={method!r}; expected one of {list(get_args(Method))}."
        )
    if terms < 1:
        raise ValueError(f"log_determinant got terms={terms}; expected at least 1.")
