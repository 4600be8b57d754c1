"""Random states on meshes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Domain, Mesh, NodeType


def _uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class RandomBlobs:
    """Gaussian blobs at random places of a mesh, zero at the inflow, an obstacle of random temperature.

    Called with (mesh, channels, generator) it gives one sample (C, N) in float64. Each channel has its
    own blobs; the obstacle's nodes take one value per channel; a draw uses the same number of random
    numbers whatever comes out, so that samples do not depend on one another.

    Args:
        blobs: least and largest number of blobs.
        width: range of their standard deviations [length].
        amplitude: range of their heights.
        obstacle: range of the value at OBSTACLE nodes.
        inflow: value at INFLOW nodes, and of the fluid without blobs.

    Raises:
        ValueError: a range is not ordered, or a width is not positive.
    """

    blobs: tuple[int, int] = (1, 4)
    width: tuple[float, float] = (0.08, 0.2)
    amplitude: tuple[float, float] = (-1.0, 1.0)
    obstacle: tuple[float, float] = (0.5, 1.5)
    inflow: float = 0.0

    def __post_init__(self) -> None:
        for name in ("blobs", "width", "amplitude", "obstacle"):
            low, high = getattr(self, name)
            object.__setattr__(self, name, (low, high))  # YAML gives lists
            if not low <= high:
                raise ValueError(
                    f"RandomBlobs got {name}={(low, high)}; expected (low, high) in this order."
                )
        if self.blobs[0] < 0 or self.width[0] <= 0:
            raise ValueError(
                f"RandomBlobs got blobs={self.blobs}, width={self.width}; expected at least 0 blobs and "
                "positive widths."
            )

    def __call__(self, domain: Domain, channels: int, generator: torch.Generator) -> Tensor:
        if not isinstance(domain, Mesh):
            raise TypeError(f"RandomBlobs got a {type(domain).__name__}; it fills a Mesh.")
        x = domain.coordinates()  # (D, N)
        low, high = x.amin(dim=1), x.amax(dim=1)
        out = []
        for _ in range(channels):
            most = self.blobs[1]
            count = int(torch.randint(self.blobs[0], most + 1, (), generator=generator))
            centre = _uniform(0.0, 1.0, (most, x.shape[0], 1), generator)
            centre = low.unsqueeze(1) + (high - low).unsqueeze(1) * centre
            width = _uniform(*self.width, (most, 1), generator)
            amplitude = _uniform(*self.amplitude, (most, 1), generator)
            held = _uniform(*self.obstacle, (), generator)
            distance = (x - centre).square().sum(dim=1)  # (blobs, N)
            bumps = amplitude * torch.exp(-distance / (2 * width.square()))
            u = self.inflow + bumps[:count].sum(dim=0)
            u = torch.where(domain.types == int(NodeType.INFLOW), self.inflow, u)
            out.append(torch.where(domain.types == int(NodeType.OBSTACLE), held, u))
        return torch.stack(out)


def random_temperature(mesh: Mesh, generator: torch.Generator) -> Tensor:
    """One initial temperature (1, N) of the heated cylinder: random blobs and obstacle temperature."""
    return RandomBlobs()(mesh, 1, generator)
