"""Geometric multigrid for diffusion operators, batched over coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.elliptic.diffusion import Diffusion, padded

# Below this many unknowns the inverse matrix of each sample is kept and applied.
DENSE = 64


@dataclass(frozen=True)
class _Halving:
    """Transfer between a line of points and the pairs they form along one axis.

    A value at the middle of the pair is carried to its members along the line of constant flux: the
    weight of the pair beyond is the share of resistance. With a constant coefficient these are 3/4
    and 1/4; at a jump they follow the kink of the solution.
    """

    dim: int
    points: int
    wraps: bool
    lower: Tensor
    upper: Tensor

    def prolong(self, coarse: Tensor) -> Tensor:
        m = coarse.shape[self.dim]
        jump = torch.diff(padded(coarse, self.dim, self.wraps), dim=self.dim)
        first = torch.addcmul(coarse, self.lower, jump.narrow(self.dim, 0, m), value=-1)
        second = torch.addcmul(coarse, self.upper, jump.narrow(self.dim, 1, m))
        both = torch.stack((first, second), dim=self.dim + 1).flatten(self.dim, self.dim + 1)
        return both.narrow(self.dim, 0, self.points)

    def restrict(self, fine: Tensor) -> Tensor:
        """The transpose of `prolong`."""
        dim, m = self.dim, (self.points + 1) // 2
        if self.points % 2:
            fine = torch.cat((fine, torch.zeros_like(fine.narrow(dim, 0, 1))), dim=dim)
        pairs = fine.unflatten(dim, (m, 2))
        first, second = pairs.select(dim + 1, 0), pairs.select(dim + 1, 1)
        down, up = self.lower * first, self.upper * second
        coarse = first + second - down - up
        coarse.narrow(dim, 0, m - 1).add_(down.narrow(dim, 1, m - 1))
        coarse.narrow(dim, 1, m - 1).add_(up.narrow(dim, 0, m - 1))
        if self.wraps:
            coarse.narrow(dim, m - 1, 1).add_(down.narrow(dim, 0, 1))
            coarse.narrow(dim, 0, 1).add_(up.narrow(dim, m - 1, 1))
        return coarse


def _halve(operator: Diffusion, axis: int) -> tuple[Diffusion, _Halving]:
    """Join points to pairs along one axis: resistances in series along it, in parallel across it."""
    dim, n = axis + 1, operator.shape[axis]
    m, wraps = (n + 1) // 2, operator.periodic[axis]
    k = operator.faces[axis]
    half = 0.5 / k.narrow(dim, 1, n - 1)[(slice(None),) * dim + (slice(0, None, 2),)]
    if n % 2:
        # The last pair has one member, at its middle.
        half = torch.cat((half, torch.zeros_like(k.narrow(dim, 0, 1))), dim=dim)
    outer = torch.cat((k[(slice(None),) * dim + (slice(0, n, 2),)], k.narrow(dim, n, 1)), dim=dim)
    sides = padded(half, dim, wraps)
    # Resistances in series, written for conductances, which may be zero.
    between = outer / (1.0 + outer * (sides.narrow(dim, 0, m + 1) + sides.narrow(dim, 1, m + 1)))
    faces = [
        between if other == axis else _pairs(conductance, dim, n)
        for other, conductance in enumerate(operator.faces)
    ]
    lower, upper = half * between.narrow(dim, 0, m), half * between.narrow(dim, 1, m)
    reaction = None if operator.reaction is None else _pairs(operator.reaction, dim, n)
    return Diffusion(tuple(faces), operator.periodic, reaction), _Halving(dim, n, wraps, lower, upper)


def _pairs(values: Tensor, dim: int, n: int) -> Tensor:
    """Sums of the members of each pair."""
    if n % 2:
        values = torch.cat((values, torch.zeros_like(values.narrow(dim, 0, 1))), dim=dim)
    return values.unflatten(dim, ((n + 1) // 2, 2)).sum(dim=dim + 1)


@dataclass(frozen=True)
class _Level:
    operator: Diffusion
    inverse_diagonal: Tensor
    weights: tuple[float, ...]
    transfers: tuple[_Halving, ...]


class Multigrid:
    """One V-cycle z = M r near the inverse of a diffusion operator, (B, *points) -> (B, *points).

    Linear, symmetric and positive, as conjugate gradients need it. Any number of points per axis;
    axes are joined only while their coupling is as strong as that of the others, so that stretched
    cells do no harm. Takes no gradients.

    Args:
        operator: A; conductances may be one sample for a whole batch. A reaction counts where it is real and
            nowhere negative, else the cycle is one for the rest of A.
        singular: A has the constants as null space; the cycle then works on zero means.
        sweeps: damped Jacobi sweeps before and after each correction, with the weights of the
            Chebyshev polynomial for the upper part of the spectrum.
        weights: of the sweeps before each correction, instead.

    Briggs, Henson and McCormick, A Multigrid Tutorial (2000); Alcouffe, Brandt, Dendy and Painter
    (1981) for transfers that follow the coefficient.
    """

    def __init__(
        self,
        operator: Diffusion,
        *,
        singular: bool = False,
        sweeps: int = 3,
        weights: tuple[float, ...] | None = None,
    ) -> None:
        if sweeps < 1:
            raise ValueError(f"Multigrid got sweeps={sweeps}; expected at least 1.")
        self.singular = singular
        self._levels: list[_Level] = []
        with torch.no_grad():
            operator = _definite(operator.detached())
            for axes in plan(operator):
                # Frequencies that the coarser level cannot see start at this share of the diagonal.
                low = {1: 1.0, 2: 0.5, 3: 0.33}[operator.dimension]
                level, transfers = operator, []
                for axis in axes:
                    level, transfer = _halve(level, axis)
                    transfers.append(transfer)
                self._levels.append(
                    _Level(
                        operator,
                        1.0 / operator.diagonal,
                        weights or smoothing_weights(sweeps, low),
                        tuple(transfers),
                    )
                )
                operator = level
            self._coarsest = operator
            self._inverse = _inverse(operator, singular)

    def __call__(self, r: Tensor) -> Tensor:
        with torch.no_grad():
            if not self.singular:
                return self._cycle(r, 0)
            axes = tuple(range(1, r.ndim))
            z = self._cycle(r - r.mean(dim=axes, keepdim=True), 0)
            return z - z.mean(dim=axes, keepdim=True)

    def _cycle(self, b: Tensor, depth: int) -> Tensor:
        if depth == len(self._levels):
            return (self._inverse @ b.flatten(1).unsqueeze(2)).reshape(b.shape)
        level = self._levels[depth]
        u = level.weights[0] * level.inverse_diagonal * b
        for weight in level.weights[1:]:
            u.addcmul_(level.inverse_diagonal, level.operator.residual(u, b), value=weight)
        r = level.operator.residual(u, b)
        for transfer in level.transfers:
            r = transfer.restrict(r)
        e = self._cycle(r, depth + 1)
        for transfer in reversed(level.transfers):
            e = transfer.prolong(e)
        u += e
        for weight in reversed(level.weights):
            u.addcmul_(level.inverse_diagonal, level.operator.residual(u, b), value=weight)
        return u


def _definite(operator: Diffusion) -> Diffusion:
    """Without a reaction that could take its sign away; one value for each point."""
    lost = operator.reaction
    if lost is None:
        return operator
    if lost.is_complex() or bool((lost < 0).any()):
        return Diffusion(operator.faces, operator.periodic)
    return Diffusion(operator.faces, operator.periodic, lost.expand(-1, *operator.shape))


def plan(operator: Diffusion) -> list[list[int]]:
    """Axes along which points are joined to pairs, from each level to the next.

    Those that are long enough and coupled at least a quarter as strongly as the best; pairs couple half as
    strongly along the axis of joining and twice as strongly across it.
    """
    shape = list(operator.shape)
    strengths = [
        float(k.detach().narrow(axis + 1, 1, n - 1).abs().mean()) if n > 1 else 0.0
        for axis, (k, n) in enumerate(zip(operator.faces, operator.shape, strict=True))
    ]
    levels: list[list[int]] = []
    while math.prod(shape) > DENSE:
        long = [axis for axis, n in enumerate(shape) if n > 2]
        strongest = max(strengths[axis] for axis in long)
        levels.append([axis for axis in long if strengths[axis] >= 0.25 * strongest])
        for joined in levels[-1]:
            shape[joined] = (shape[joined] + 1) // 2
            strengths = [s * (0.5 if axis == joined else 2.0) for axis, s in enumerate(strengths)]
    return levels


def smoothing_weights(degree: int, low: float, high: float = 2.0) -> tuple[float, ...]:
    """Inverse roots of the polynomial that is smallest on [low, high] and one at zero."""
    roots = [math.cos(math.pi * (i + 0.5) / degree) for i in range(degree)]
    return tuple(1.0 / (0.5 * (high + low) + 0.5 * (high - low) * root) for root in roots)


def _inverse(operator: Diffusion, singular: bool) -> Tensor:
    """Inverse matrices (B or 1, N, N); on zero means where A is singular."""
    points = math.prod(operator.shape)
    like = operator.faces[0]
    identity = torch.eye(points, dtype=like.dtype, device=like.device).reshape(points, *operator.shape)
    columns = [
        operator.with_parameters([p[min(i, len(p) - 1)].unsqueeze(0) for p in operator.parameters])(
            identity
        )
        for i in range(operator.samples)
    ]
    # Rows and columns may be exchanged: the operator is symmetric.
    matrices = torch.stack(columns).reshape(operator.samples, points, points)
    if singular:
        # Gives the constants an eigenvalue like the others; the result is used on zero means alone.
        matrices = matrices + matrices.diagonal(dim1=1, dim2=2).mean(dim=1).reshape(-1, 1, 1) / points
    return torch.linalg.inv(matrices)
