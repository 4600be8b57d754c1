"""Shares of what lies around a point, from a network's logits."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.models.wrappers import Map


def neighbour_logits(owner: str, f: Map, u: Tensor, count: int, own: float) -> Tensor:
    """Logits of S = `count` places around each point in float64, (B, C, *points) -> (B, C, S, *points).

    Args:
        owner: whose they are, for messages.
        f: map (B, C, *points) -> (B, C S, *points), of each channel the S logits side by side.
        u: the state.
        count: S, odd, the point itself in the middle.
        own: added to the logit of the point itself.

    Raises:
        ValueError: the network gives another shape.
    """
    logits = f(u)
    wanted = (len(u), u.shape[1] * count, *u.shape[2:])
    if tuple(logits.shape) != wanted:
        raise ValueError(
            f"{owner} got logits of shape {tuple(logits.shape)} for a state of shape {tuple(u.shape)}; expected "
            f"{wanted}, {count} for each channel."
        )
    middle = torch.zeros(count, dtype=torch.float64, device=u.device)
    middle[count // 2] = own
    logits = logits.to(torch.float64).unflatten(1, (u.shape[1], -1))
    return logits + middle.reshape(-1, *[1] * (u.ndim - 2))
