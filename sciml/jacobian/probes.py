"""Random directions with E[v v^T] = I."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

Distribution = Literal["rademacher", "gaussian", "sphere"]


def check_probes(probes: int | None, distribution: str) -> None:
    """Refuse a number or a distribution of probes that cannot be.

    Raises:
        ValueError: naming what was found and what is known.
    """
    if distribution not in get_args(Distribution):
        raise ValueError(
            f"Jacobian estimate got distribution={distribution!r}; expected one of {list(get_args(Distribution))}."
        )
    if probes is not None and probes < 1:
        raise ValueError(
            f"Jacobian estimate got probes={probes}; expected at least 1, or None for all unit vectors."
        )


def draw(like: Tensor, distribution: Distribution, generator: torch.Generator | None) -> Tensor:
    """A random direction for each sample, of the shape of `like` (B, C, *points).

    "rademacher" has signs, "gaussian" normal numbers, "sphere" a uniform direction of length sqrt(n); all
    have E[v v^T] = I.
    """
    device = like.device if generator is None else generator.device
    if distribution == "rademacher":
        signs = torch.randint(0, 2, like.shape, generator=generator, device=device)
        return signs.to(device=like.device, dtype=like.dtype) * 2 - 1
    v = torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)
    if distribution == "gaussian":
        return v
    flat = v.flatten(1)
    return (flat * (math.sqrt(flat.shape[1]) / flat.norm(dim=1, keepdim=True))).reshape(like.shape)


def directions(
    like: Tensor, probes: int | None, distribution: Distribution, generator: torch.Generator | None
) -> Iterator[Tensor]:
    """`probes` random directions, or for None the unit vectors times sqrt(n), whose mean of v v^T is I too.

    So the mean over what is yielded estimates without bias, and exactly for all unit vectors.
    """
    if probes is not None:
        for _ in range(probes):
            yield draw(like, distribution, generator)
        return
    n = like[0].numel()
    for i in range(n):
        unit = torch.zeros(n, dtype=like.dtype, device=like.device)
        unit[i] = math.sqrt(n)
        yield unit.reshape(like.shape[1:]).expand_as(like)
