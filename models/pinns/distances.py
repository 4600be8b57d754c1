"""Smooth distances to the pieces of a boundary: zero there, with unit slope into the domain."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Distance = Callable[[Tensor], Tensor]
"""x (B, D, *points) -> (B, 1, *points), zero on a piece of the boundary and positive inside [length]."""


@dataclass(frozen=True)
class PlaneDistance:
    """Distance to a line (2D), a plane (3D) or a point (1D) with the domain on one side of it.

    Args:
        point: on it [length].
        normal: into the domain; its length does not matter.
    """

    point: Sequence[float]
    normal: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.point) != len(self.normal) or not any(self.normal):
            raise ValueError(
                f"PlaneDistance got point {tuple(self.point)} and normal {tuple(self.normal)}; expected as many numbers of "
                "each, and a normal that is not zero."
            )

    def __call__(self, x: Tensor) -> Tensor:
        size = math.sqrt(sum(n * n for n in self.normal))
        parts = [
            (x[:, i : i + 1] - p) * (n / size)
            for i, (p, n) in enumerate(zip(self.point, self.normal, strict=True))
        ]
        return torch.stack(parts).sum(dim=0)


@dataclass(frozen=True)
class BallDistance:
    """(radius^2 - r^2)/(2 radius) within a circle or sphere, the negative of it outside.

    Args:
        center: its coordinates [length].
        radius: positive [length].
        outside: whether the domain is.
    """

    center: Sequence[float]
    radius: float
    outside: bool = False

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ValueError(f"BallDistance got radius={self.radius}; expected a positive length.")

    def __call__(self, x: Tensor) -> Tensor:
        parts = [(x[:, i : i + 1] - c).square() for i, c in enumerate(self.center)]
        inner = (self.radius**2 - torch.stack(parts).sum(dim=0)) / (2 * self.radius)
        return -inner if self.outside else inner


@dataclass(frozen=True)
class SegmentDistance:
    """Distance to the line segment from `start` to `end` in 2D, the domain on its left at least near it.

        phi^2 = f^2 + ((sqrt(t^2 + f^4) - t)/2)^2

    with the signed distance f to the line and t = (L^2/4 - |x - middle|^2)/L, positive beside the segment. Zero on the
    segment only. Its second derivatives grow without bound at the two ends.

    Args:
        start, end: two coordinates each [length].

    Sukumar and Srivastava, Computer Methods in Applied Mechanics and Engineering 389 (2022) 114333.
    """

    start: Sequence[float]
    end: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.start) != 2 or len(self.end) != 2 or tuple(self.start) == tuple(self.end):
            raise ValueError(
                f"SegmentDistance got {tuple(self.start)} and {tuple(self.end)}; expected two different points of 2D."
            )

    def __call__(self, x: Tensor) -> Tensor:
        (ax, ay), (bx, by) = self.start, self.end
        length = math.hypot(bx - ax, by - ay)
        dx, dy = x[:, :1] - ax, x[:, 1:2] - ay
        f = ((bx - ax) * dy - (by - ay) * dx) / length
        away = (x[:, :1] - 0.5 * (ax + bx)).square() + (x[:, 1:2] - 0.5 * (ay + by)).square()
        t = length / 4 - away / length
        root = (t.square() + f**4 + torch.finfo(x.dtype).tiny).sqrt()
        beside = t > 0
        # Beside the segment in a form that keeps the slope at f = 0, where a plain root has none.
        small = f**3 / (2 * (root + torch.where(beside, t, 1.0)))
        near = torch.where(f >= 0, f, -f) * (1 + small.square()).sqrt()
        beyond = torch.where(beside, 1.0, f.square() + (0.5 * (root - t)).square())
        return torch.where(beside, near, (beyond + torch.finfo(x.dtype).tiny).sqrt())


@dataclass(frozen=True)
class JoinedDistance:
    """phi = (sum phi_i^-m)^(-1/m): zero on every piece, with unit slope away from where they meet.

    Args:
        pieces: distances to them.
        order: m; derivatives of phi normal to a piece vanish from the second to the m-th.

    Biswas and Shapiro, Graphical Models 66 (2004) 133, for joining by R-equivalence.
    """

    pieces: Sequence[Distance]
    order: int = 2

    def __post_init__(self) -> None:
        if not len(self.pieces) or self.order < 1:
            raise ValueError(
                f"JoinedDistance got {len(self.pieces)} pieces and order {self.order}; expected one or more of each."
            )

    def __call__(self, x: Tensor) -> Tensor:
        phi = [piece(x) for piece in self.pieces]
        product = torch.stack(phi).prod(dim=0)
        # Multiplied out, so that a zero distance is no division by zero.
        total = torch.stack([others.abs() ** self.order for others in products_of_others(phi)]).sum(dim=0)
        return product / (total + torch.finfo(x.dtype).tiny) ** (1 / self.order)


def products_of_others(factors: Sequence[Tensor]) -> list[Tensor]:
    """Of each factor the product of all the others."""
    out = []
    for i in range(len(factors)):
        others = [f for j, f in enumerate(factors) if j != i]
        out.append(torch.stack(others).prod(dim=0) if others else torch.ones_like(factors[i]))
    return out


def box_distances(low: Sequence[float], high: Sequence[float]) -> dict[str, PlaneDistance]:
    """Distances to the sides of a box by their names, "x-" for the low one of the first axis.

    Raises:
        ValueError: the second corner is not beyond the first on every axis.
    """
    if len(low) != len(high) or not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError(f"box_distances got corners {tuple(low)} and {tuple(high)}.")
    found = {}
    for axis, name in zip(range(len(low)), "xyz", strict=False):
        for end, corner in ((0, low), (1, high)):
            normal = [0.0] * len(low)
            normal[axis] = 1.0 - 2.0 * end
            found[name + "-+"[end]] = PlaneDistance(tuple(corner), tuple(normal))
    return found


def polygon_distances(corners: Sequence[Sequence[float]]) -> list[SegmentDistance]:
    """Distances to the edges of a polygon whose corners go round counterclockwise.

    Raises:
        ValueError: there are fewer than three corners, or they go round clockwise.
    """
    points = [tuple(map(float, c)) for c in corners]
    following = [*points[1:], *points[:1]]
    area = sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(points, following, strict=True))
    if len(points) < 3 or not area > 0:
        raise ValueError(
            f"polygon_distances got {len(points)} corners of signed area {area / 2:g}; expected three or more, "
            "counterclockwise."
        )
    return [SegmentDistance(a, b) for a, b in zip(points, following, strict=True)]
