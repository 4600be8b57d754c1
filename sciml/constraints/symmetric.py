"""States that have a symmetry."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sciml.constraints.base import Constraint, Context, at_least_single
from sciml.domains import Grid
from sciml.symmetries import GridSymmetries, PointGroup


class Symmetric(Constraint):
    """Make a state symmetric by the mean of its images under reflections, quarter turns and translations.

        u = 1/|G| sum over g of g z

    The nearest state that no element of the group changes; vectors are turned along. Right where the exact flow keeps
    the symmetry of the state that it starts from, such as a vortex pair and its mirror image, which rounding and
    networks break. A step that treats all orientations alike without symmetric states: `GroupAverage`.

    Args:
        grid: where the states live.
        point_group: "reflections", "rotations", "all" or "none" (translations only).
        axes: those that are reflected and exchanged, all where left out.
        translations: per axis the number of equal shifts that make up a period.
        vectors: of each vector its D channels.
        pseudoscalars: channels that change sign in a mirror.
        tensors: of each tensor of second order its D*D channels.
        staggered: vectors lie on the low faces of cells.

    Raises:
        TypeError: the domain is no grid.
        ValueError: the grid has not the symmetry, or channels do not fit; see `sciml.symmetries.GridSymmetries`.
    """

    def __init__(
        self,
        grid: Grid,
        point_group: PointGroup = "reflections",
        axes: Sequence[int] | None = None,
        translations: Sequence[int] | None = None,
        vectors: Sequence[Sequence[int]] = (),
        pseudoscalars: Sequence[int] = (),
        tensors: Sequence[Sequence[int]] = (),
        staggered: bool = False,
    ) -> None:
        super().__init__()
        self.symmetries = GridSymmetries(
            grid, point_group, axes, translations, vectors, pseudoscalars, tensors, staggered
        )

    @property
    def nonexpansive(self) -> bool:
        return True

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        return self.symmetries.average(at_least_single(u))

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest difference from the symmetric state, (B,) [unit of u]."""
        u = at_least_single(u)
        return (u - self.project(u)).abs().flatten(1).amax(dim=1)
