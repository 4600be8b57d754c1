"""Waves in a medium of wavy layers: Wave-Layer of Poseidon's downstream tasks.

Theirs: as Wave-Gauss, but c is constant, 2000 to 5000, in each of 3 to 6 layers over each other whose borders are sums of
10 sines, scaled so that they do not cross; 10,512 samples (10,212/60/240). Ours: layers of equal mean width whose
borders swing by up to 0.4 of it; units, times and sides as in `poseidon_wave_gauss`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.recipe import Recipe
from sciml.datasets.recipes._poseidon import CITATION, SUBCELLS, uniform, whole
from sciml.datasets.recipes.poseidon_wave_gauss import OPEN_CELLS, Bursts, WavesInMedium, at_rest, volumes
from sciml.domains import Grid


@dataclass(frozen=True)
class Layers:
    """Bursts at rest in layers of even speed of sound, (4, *cells).

    Border k of n layers is y = k/n + swing/n times a mean of sin(2 pi (j x + b_j)), j = 1..waves, of random weights.
    """

    bursts: Bursts = Bursts()
    count: tuple[int, int] = (3, 6)
    waves: int = 10
    swing: float = 0.4
    speed: tuple[float, float] = (2.0, 5.0)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        x = domain.refined(SUBCELLS).coordinates()
        pressure = self.bursts(x, generator)
        n = whole(generator, *self.count)
        speeds = uniform(generator, *self.speed, n)
        weight = uniform(generator, 0, 1, n - 1, self.waves, 1)
        weight = weight / weight.sum(dim=1, keepdim=True)
        phase = uniform(generator, 0, 1, n - 1, self.waves, 1)
        j = torch.arange(1, self.waves + 1, dtype=torch.float64).reshape(-1, 1)
        wavy = (weight * torch.sin(2 * math.pi * (j * x[0, :, 0] + phase))).sum(dim=1)
        layer = torch.zeros_like(x[0], dtype=torch.long)
        for k in range(n - 1):
            layer += x[1] > ((k + 1 + self.swing * wavy[k]) / n).unsqueeze(1)
        return at_rest(pressure, speeds[layer].unsqueeze(0))


RECIPE = Recipe(
    name="poseidon_wave_layer",
    title="2D waves in a medium of wavy layers (Poseidon Wave-Layer: 10,512 samples)",
    citation=f"{CITATION}, Wave-Layer.",
    pde=WavesInMedium,
    domain=OPEN_CELLS,
    initial=Layers(),
    solver=volumes,
    dt=0.02,
    steps=14,
    samples={"train": 64, "valid": 16, "test": 16},
    shard_size=8,
)
