"""What the recipes after PDEBench's 1D scalars have in common: their start and where its values lie.

Takamoto et al., PDEBench: An Extensive Benchmark for Scientific Machine Learning (2022), appendix D.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Grid

CITATION = "PDEBench, Takamoto et al. (2022), appendix D"


def line(points: int) -> Grid:
    """Periodic points in the middles of equal parts of the unit interval, where PDEBench's coordinates lie.

    Values are those at the points: averages over cells, which its finite volumes keep, differ from them by dx^2/24
    times the curvature.
    """
    return Grid((points,), (1.0,), origin=0.5 / points)


@dataclass(frozen=True)
class TwoWaves:
    """Two sine waves, at times their modulus and at times in a window only, (1, points).

    Two wave numbers are drawn from 1..`modes`; one that is drawn twice is doubled. Each of the `modes` terms
    A sin(2 pi k x/L + phi) has its A in (0, 1) and its phi, and those that were not drawn have k = 0: the mean is not
    zero. With probability `rare` the modulus is taken, then the sign is drawn, and with probability `rare` the result is
    multiplied by a window with ends in (0.1, 0.45) and (0.55, 0.9) and edges of a hundredth of the side.

    PDEBench divides x by L less one cell, so that its waves do not close; here they do.

    Args:
        modes: largest wave number before doubling.
        rare: of modulus and window.
        unit: scale and shift the result to range from 0 to 1 instead of drawing its sign.
    """

    modes: int = 4
    rare: float = 0.1
    unit: bool = False

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        numbers = torch.randint(1, self.modes + 1, (2,), generator=generator)
        terms = torch.arange(1, self.modes + 1)
        waves = terms * (terms == numbers.unsqueeze(1)).sum(dim=0)
        amplitude, phase = torch.rand(2, self.modes, 1, dtype=torch.float64, generator=generator)
        modulus, sign, window, left, right = torch.rand(5, dtype=torch.float64, generator=generator)

        def function(x: Tensor) -> Tensor:
            u = (amplitude * torch.sin(2 * math.pi * (waves.unsqueeze(1) * x + phase))).sum(dim=0)
            if modulus < self.rare:
                u = u.abs()
            if sign < 0.5 and not self.unit:
                u = -u
            if window < self.rare:
                ends = 0.1 + 0.35 * left, 0.55 + 0.35 * right
                u = u * 0.5 * (torch.tanh((x - ends[0]) / 0.01) - torch.tanh((x - ends[1]) / 0.01))
            return u

        u = function(domain.axes()[0] / domain.lengths[0])
        if self.unit:
            many = function(torch.arange(4096, dtype=torch.float64) / 4096)
            u = (u - many.min()) / (many.max() - many.min())
        return u.unsqueeze(0)
