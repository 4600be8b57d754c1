"""What a distance of statistics would be if the model were perfect."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class AgainstFloor(NamedTuple):
    """A distance of the generated data and the distance of two pieces of the reference, shaped alike."""

    value: Tensor
    floor: Tensor

    @property
    def excess(self) -> Tensor:
        """Value over floor: about one is as good as so many points can tell."""
        return self.value / self.floor


def against_floor(
    distance: Callable[[Tensor, Tensor], Tensor], generated: Tensor, reference: Tensor, disjoint: Tensor
) -> AgainstFloor:
    """A distance with the floor that the finite number of points sets.

    Both are taken to the same reference: the generated series, and another piece of the reference that shares no time
    with the first and is as long. Below the floor nothing is learnt about the model.

    Args:
        distance: (series, reference) -> value, such as `state_space_divergence`.
        generated: (T, N) or (B, T, N).
        reference: as long.
        disjoint: another piece of the reference, as long.

    Raises:
        ValueError: the shapes differ.
    """
    if not generated.shape == reference.shape == disjoint.shape:
        raise ValueError(
            f"against_floor got a generated series of shape {tuple(generated.shape)}, a reference of "
            f"{tuple(reference.shape)} and another of {tuple(disjoint.shape)}; a floor holds for one length only, so "
            "all three have to be alike."
        )
    return AgainstFloor(distance(generated, reference), distance(disjoint, reference))
