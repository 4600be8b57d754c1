"""A step that contracts far outside the data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.models.wrappers import Map


class Dissipative(nn.Module):
    """F(u) inside a ball, factor * u far outside, and a smooth passage between: every rollout stays bounded.

        rho F(u) + (1 - rho) factor u,    rho = sigmoid((radius - |u|) / width),    |u| the root mean square of u

    Li et al., Learning dissipative dynamics in chaotic systems, NeurIPS 2022, arXiv 2106.06898, eq. 8. Where F was
    trained with the loss `Dissipativity` on states of these sizes, the blend hardly changes it.

    Args:
        f: map (B, C, *points) -> (B, C, *points).
        radius: root mean square of the states at which the two weigh alike; well outside the data.
        width: of the passage.
        factor: what remains of a state far outside, from 0 to below 1.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(self, f: Map, radius: float, width: float, factor: float = 0.5) -> None:
        super().__init__()
        if not radius > 0 or not width > 0 or not 0 <= factor < 1:
            raise ValueError(
                f"Dissipative got radius={radius}, width={width}, factor={factor}; expected positive lengths and a "
                "factor from 0 to below 1."
            )
        self.f = f
        self.radius, self.width, self.factor = float(radius), float(width), float(factor)

    def forward(self, u: Tensor) -> Tensor:
        size = u.flatten(1).square().mean(dim=1).sqrt().reshape(-1, *[1] * (u.ndim - 1))
        rho = torch.sigmoid((self.radius - size) / self.width)
        # Far outside F may be anything, even infinite, which zero times would not remove.
        inside = torch.where(rho > 0, self.f(u), 0.0)
        return rho * inside + (1 - rho) * self.factor * u
