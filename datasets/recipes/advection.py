"""Advection by exactly four cells per step: data without any error but that of float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe
from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import Advection

CELLS_PER_STEP = 4
GRID = Grid((160,), (1.0,))


@dataclass(frozen=True)
class Shift:
    """Move all values by whole cells."""

    cells: int
    method: str = "shift by whole cells, exact"

    def __call__(self, u: Tensor) -> Tensor:
        return torch.roll(u, self.cells, dims=-1)


def shift(pde: Advection, domain: Grid, dt: float, substeps: int | None) -> Callable[[Tensor], Tensor]:
    """The exact solution where the flow moves by whole cells per step: values change places.

    Raises:
        ValueError: it does not move by whole cells.
    """
    assert isinstance(pde.velocity, float)  # a constant of the recipe
    cells = pde.velocity * dt / domain.spacing[0]
    if abs(cells - round(cells)) > 1e-9:
        raise ValueError(f"shift got a flow of {cells} cells per step; expected a whole number.")
    whole = round(cells)
    return Shift(whole)


RECIPE = Recipe(
    name="advection",
    title="1D advection by four cells per step of five Fourier modes",
    citation="Koehler et al., APEBench (2024), the default difficulty of linear advection.",
    pde=Advection,
    parameters={"velocity": Constant(CELLS_PER_STEP / 160)},
    domain=GRID,
    initial=RandomFourier(modes=5, zero_mean=True, max_one=True),
    solver=shift,
    dt=1.0,
    steps={"train": 50, "valid": 50, "test": 200},
    samples={"train": 50, "valid": 10, "test": 30},
    shard_size=10,
)
