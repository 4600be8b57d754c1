"""2D Gray-Scott patterns that grow from one patch: unit box, feed 0.04, kill 0.06, 10 between frames; 64 x 64 points."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._apebench import CITATION, SAMPLES_2D, SQUARE, STEPS
from sciml.domains import Grid
from sciml.pdes import GrayScott


@dataclass(frozen=True)
class Patch:
    """A Gaussian hole in a = 1 and a Gaussian patch of b on b = 0, each with its own place and widths, (2, *points).

    Args:
        centre: range of each coordinate of the centre, as a part of the side.
        variance: range of the variance along each axis, as a part of the squared side.
    """

    centre: tuple[float, float] = (0.4, 0.6)
    variance: tuple[float, float] = (0.005, 0.01)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        draws = torch.rand(2, 2, domain.dimension, dtype=torch.float64, generator=generator)
        lengths = torch.tensor(domain.lengths, dtype=torch.float64)
        axes = [1] * domain.dimension
        place = (self.centre[0] + (self.centre[1] - self.centre[0]) * draws[0]) * lengths
        width = (self.variance[0] + (self.variance[1] - self.variance[0]) * draws[1]) * lengths.square()
        away = (domain.coordinates() - place.reshape(2, -1, *axes)).abs()
        away = torch.minimum(away, lengths.reshape(-1, *axes) - away)  # the nearest copy
        blobs = torch.exp(-0.5 * (away.square() / width.reshape(2, -1, *axes)).sum(dim=1))
        return torch.stack([1 - blobs[0], blobs[1]])


RECIPE = Recipe(
    name="apebench_2d_gs",
    title="2D Gray-Scott patterns (APEBench: 160^2 points, 50 and 30 trajectories)",
    citation=f"{CITATION}, scenario 2d_phy_gs.",
    pde=GrayScott,
    parameters={
        "feed": Constant(0.04),
        "kill": Constant(0.06),
        "diffusivity_a": Constant(2e-5),
        "diffusivity_b": Constant(1e-5),
    },
    domain=SQUARE,
    initial=Patch(),
    dt=10.0,
    steps=STEPS,
    resolution_factor=2,
    substeps=10,
    samples=SAMPLES_2D,
    shard_size=4,
)
