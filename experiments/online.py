"""A dataset's solver inside a training: for targets that no file holds, and for networks that correct a coarse one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sciml.datasets.recipe import DTYPES, Recipe, known_recipes, load_recipe
from sciml.domains import Domain, Grid
from sciml.errors import UserError
from sciml.resample import resample
from sciml.step import low_faces_of

__all__ = ["OnlineSolver"]


class OnlineSolver(nn.Module):
    """The solver of a dataset's recipe as a map between stored states, differentiable and in the recipe's precision.

    Alone it solves as the data were made, on the recipe's own finer points where it has such. With `coarsening` it is
    the same method on fewer points and in as few steps as its stability allows: what `Corrected` corrects. States are
    carried between the points by `sciml.resample`. The equation has the recipe's constants; parameters that differ
    between samples are not known to a training.

    In a study the data fill in `recipe`, `domain` and `dt`; for objectives, `units` as well.

    Args:
        recipe: name of the recipe, or its file.
        domain: where the points of the data lie.
        dt: time of one call, a multiple of the stored step.
        coarsening: divide the points per axis of a grid by this.
        units: mean and scale of each channel (C,) in which states come and go; none for physical units.

    Raises:
        UserError: at the first call, where the recipe cannot be solved like this.
    """

    def __init__(
        self,
        recipe: str,
        domain: Domain,
        dt: float,
        coarsening: int = 1,
        units: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if coarsening < 1 or not dt > 0:
            raise ValueError(
                f"OnlineSolver got coarsening={coarsening}, dt={dt}; expected at least 1 and a positive time."
            )
        self.recipe, self.domain, self.dt, self.coarsening = recipe, domain, float(dt), int(coarsening)
        mean, scale = (None, None) if units is None else (value.detach().clone() for value in units)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.mean: Tensor | None
        self.scale: Tensor | None
        # Made when first asked: most trainings that could have a solver never ask.
        self._advance: Callable[[Tensor], Tensor] | None = None

    def _made(self) -> Callable[[Tensor], Tensor]:
        found = load_recipe(self.recipe)
        if found.varying:
            raise UserError(
                f"the parameters {', '.join(found.varying)} of recipe {self.recipe!r} differ between samples, which a "
                "solver inside a training is not told; use a recipe in which they are constant."
            )
        stored, dtype = self.domain, DTYPES[found.dtype]
        times = round(self.dt / found.dt)
        if abs(times * found.dt - self.dt) > 1e-6 * self.dt:
            raise UserError(
                f"steps of {self.dt:g} are no multiple of the stored {found.dt:g} of {self.recipe!r}."
            )
        if self.coarsening == 1:
            own = found.domain_at(found.resolution_factor) if found.resolution_factor > 1 else stored
            dt, substeps = found.dt, found.substeps
        else:
            if not isinstance(stored, Grid) or any(n % self.coarsening for n in stored.shape):
                raise UserError(
                    f"coarsening by {self.coarsening} needs a grid whose points divide by it; the data are on {stored}."
                )
            own = stored.resized([n // self.coarsening for n in stored.shape])
            dt, substeps, times = self.dt, None, 1
        step = found.solver(found.equation(None, own), own, dt, substeps)
        faces = low_faces_of(step)

        def carried(u: Tensor, source: Domain, target: Domain) -> Tensor:
            both = isinstance(source, Grid) and isinstance(target, Grid)
            return resample(u, source, target, faces) if both else u  # type: ignore[arg-type]

        def advance(u: Tensor) -> Tensor:
            v = carried(u.to(dtype), stored, own)
            for _ in range(times):
                v = step(v)
            return carried(v, own, stored).to(u.dtype)

        return advance

    def forward(self, u: Tensor) -> Tensor:
        if self._advance is None:
            self._advance = self._made()
        if self.mean is None or self.scale is None:
            return self._advance(u)
        # Changed in double precision: a small mean error of the units would be taken for one of the network.
        shape = (-1, *[1] * (u.ndim - 2))
        mean, scale = (
            value.to(u.device, torch.float64).reshape(shape) for value in (self.mean, self.scale)
        )
        return ((self._advance(u * scale + mean) - mean) / scale).to(u.dtype)

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_advance": None}


def recipe_place(recipe: Recipe | None) -> str | None:
    """What `load_recipe` finds a recipe by, on any machine where that is possible; None without a recipe."""
    if recipe is None:
        return None
    return recipe.name if recipe.source is None or recipe.name in known_recipes() else recipe.source
