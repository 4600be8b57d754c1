"""What the six Gray-Scott recipes after The Well share: one file per pattern, as there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import GrayScott
from sciml.pdes.gray_scott import REGIMES, Regime


@dataclass(frozen=True)
class WavesOrClusters:
    """Substrate and catalyst, both between 0 and 1, (2, *points): waves or clusters of Gaussians, each as likely.

    Waves: s = ((1 + w)/2)^sharpness of catalyst, w a random Fourier series of largest value 1, in 1 - s of substrate.
    Clusters: bumps exp(-|x|^2/(2 width^2)) of catalyst, joined as 1 - (1 - b_1) (1 - b_2) ..., and as many of missing
    substrate close to them. Much catalyst all over the box would use up the substrate and die out; from these sparse
    patches each of the six patterns grows.

    Args:
        modes: largest number of waves per side.
        sharpness: power that leaves the crests of the waves; its product with `modes` is what a grid has to carry.
        bumps: smallest and largest number of bumps.
        width: of a bump [length].
        apart: largest distance along each axis of a bump and that of missing substrate [length].
    """

    modes: int = 8
    sharpness: int = 6
    bumps: tuple[int, int] = (10, 100)
    width: float = 0.05
    apart: float = 0.05

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        if float(torch.rand((), generator=generator)) < 0.5:
            waves = RandomFourier(modes=self.modes)(domain, 1, generator)[0]
            patches = (0.5 * (1 + waves)) ** self.sharpness
            return torch.stack([1 - patches, patches])
        count = int(torch.randint(self.bumps[0], self.bumps[1] + 1, (), generator=generator))
        draws = torch.rand(2, count, domain.dimension, generator=generator, dtype=torch.float64)
        lengths = torch.tensor(domain.lengths, dtype=torch.float64)
        catalyst = draws[0] * lengths
        return torch.stack(
            [
                self._without(domain, catalyst + self.apart * (2 * draws[1] - 1)),
                1 - self._without(domain, catalyst),
            ]
        )

    def _without(self, domain: Grid, places: Tensor) -> Tensor:
        """1 less the joined bumps (*points); a bump is a product of one factor per axis."""
        left = torch.ones(domain.shape, dtype=torch.float64)
        copies = torch.arange(-1, 2, dtype=torch.float64)  # of the periodic box; those beyond add nothing
        for place in places:
            bump = torch.ones((), dtype=torch.float64)
            lows = cast("tuple[float, ...]", domain.origin)
            for x, low, length, at in zip(domain.axes(), lows, domain.lengths, place.tolist(), strict=True):
                away = (x - low).unsqueeze(1) - at + length * copies
                factor = torch.exp(-0.5 * (away / self.width).square()).sum(dim=1)
                bump = bump.unsqueeze(-1) * factor
            left = left * (1 - bump.clamp(max=1.0))
        return left


def pattern(name: Regime) -> Recipe:
    """The recipe of one pattern."""
    feed, kill = REGIMES[name]
    return Recipe(
        name=f"gray_scott_{name}",
        title=f"2D Gray-Scott reaction and diffusion, {name} (The Well: 200 samples)",
        citation="The Well, Ohana et al. (2024), gray_scott_reaction_diffusion: equation, coefficients, box, times "
        "and kinds of start; the numbers of the starts are ours.",
        pde=GrayScott,
        parameters={
            "feed": Constant(feed),
            "kill": Constant(kill),
            "diffusivity_a": Constant(2e-5),
            "diffusivity_b": Constant(1e-5),
        },
        domain=Grid((128, 128), (2.0, 2.0), origin=-1.0),
        initial=WavesOrClusters(),
        # Fronts are a spacing of 128 points wide: there the catalyst is off by 40 % after t = 200, on twice the points
        # by 1 %.
        resolution_factor=2,
        substeps=10,
        dt=10.0,
        steps=1000,
        samples={"train": 8, "valid": 2, "test": 2},
        shard_size=2,
        # What is kept of steep fronts rings a little, see `GrayScott`.
        bounds={"a": (-0.1, 1.1), "b": (-0.1, 1.1)},
    )
