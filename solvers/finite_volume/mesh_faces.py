"""A law as seen across faces of any direction."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sciml.pdes.base import ConservationLaw
from sciml.pdes.parameters import component
from sciml.pdes.scalar_law import ScalarLaw
from sciml.trajectory import Field


class Faces:
    """Turns states so that the normal of each face is axis 0, in which Riemann solvers then work.

    The vectors of isotropic laws are turned, and the law is as it was. Of scalar laws it is the direction that is
    turned. For others the flux is projected on the normal, and speeds are bounded by those along the axes.

    Args:
        pde: the law in two space axes.
        normal: unit normals (2, F).
    """

    def __init__(self, pde: ConservationLaw, normal: Tensor) -> None:
        self.normal = normal
        self.vectors = vector_channels(pde)
        self.turns = pde.isotropic
        self.law: ConservationLaw
        if pde.isotropic:
            self.law = pde
        elif isinstance(pde, ScalarLaw):
            self.law = _turned(pde, normal)
        else:
            self.law = _Projected(pde, normal)

    def turned(self, u: Tensor, faces: slice = slice(None)) -> Tensor:
        """Vectors as their components along the normal and to its left, (B, C, F) -> the same shape."""
        return self._rotated(u, self.normal[0, faces], self.normal[1, faces]) if self.turns else u

    def restored(self, flux: Tensor) -> Tensor:
        """Back from there."""
        return self._rotated(flux, self.normal[0], -self.normal[1]) if self.turns else flux

    def mirrored(self, u: Tensor, faces: slice = slice(None)) -> Tensor:
        """What a wall shows: turned states with the vectors' normal components reversed."""
        parts, done = [], 0
        for start in self.vectors:
            a, b = u[:, start : start + 1], u[:, start + 1 : start + 2]
            if self.turns:
                a = -a
            else:
                n, m = self.normal[0, faces], self.normal[1, faces]
                twice = 2.0 * (a * n + b * m)
                a, b = a - twice * n, b - twice * m
            parts += [u[:, done:start], a, b]
            done = start + 2
        return torch.cat((*parts, u[:, done:]), dim=1)

    def _rotated(self, u: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        parts, done = [], 0
        for start in self.vectors:
            a, b = u[:, start : start + 1], u[:, start + 1 : start + 2]
            parts += [u[:, done:start], a * cosine + b * sine, b * cosine - a * sine]
            done = start + 2
        return torch.cat((*parts, u[:, done:]), dim=1)


def vector_channels(pde: ConservationLaw) -> tuple[int, ...]:
    """The first of the two channels of each vector field, in 2D.

    Raises:
        ValueError: a field is of higher rank.
    """
    found, channel = [], 0
    for field in pde.fields:
        if field.rank > 1:
            raise ValueError(
                f"finite_volume_on_mesh got {type(pde).__name__} with the field {field.name!r} of rank {field.rank}; it "
                "turns scalars and vectors."
            )
        if field.rank == 1:
            found.append(channel)
        channel += 2**field.rank
    return tuple(found)


def _turned(law: ScalarLaw, normal: Tensor) -> ScalarLaw:
    """A scalar law along one axis, that of the normals."""
    one = torch.ones(1, 1, 1, dtype=normal.dtype, device=normal.device)
    direction = sum(component(law.direction, axis, 2, one) * normal[axis] for axis in range(2))
    # The constructor refuses directions that differ from place to place, of which the flux would have sources; across a
    # face there is one.
    turned = copy.copy(law)
    object.__setattr__(turned, "direction", torch.as_tensor(direction).reshape(-1, 1, normal.shape[1]))
    return turned


@dataclass(frozen=True, eq=False)
class _Projected(ConservationLaw):
    """The flux of a law along normals (2, F), as that of a law in one axis."""

    law: ConservationLaw
    normal: Tensor

    fields: ClassVar[tuple[Field, ...]] = ()

    def flux(self, u: Tensor) -> Tensor:
        return (self.law.flux(u.unsqueeze(-1)).squeeze(-1) * self.normal).sum(dim=2, keepdim=True)

    def max_speed(self, u: Tensor) -> Tensor:
        return (self.law.max_speed(u.unsqueeze(-1)).squeeze(-1) * self.normal.abs()).sum(
            dim=1, keepdim=True
        )
