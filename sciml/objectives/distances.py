"""Distances of two states that weigh scales of space differently, and terms made of them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.metrics.spectral import resolved_shells, spectrum
from sciml.objectives.base import Discrepancy, Distance, Norm
from sciml.objectives.schedules import Schedule
from sciml.objectives.terms import Term

Weighing = Literal["full", "seminorm"]


def _continued(u: Tensor, grid: Grid) -> tuple[Tensor, list[float]]:
    """u continued evenly along bounded axes, (B, C, *points), and the lengths of what is then periodic."""
    if tuple(u.shape[2:]) != grid.shape:
        raise ValueError(f"Got a state of points {tuple(u.shape[2:])} on a grid of {grid.shape}.")
    lengths = list(grid.lengths)
    for axis, periodic in enumerate(grid.periodic):
        if not periodic:
            d = axis + 2
            mirror = u.narrow(d, 1, u.shape[d] - 2) if grid.centering == "node" else u
            u, lengths[axis] = torch.cat([u, mirror.flip(d)], dim=d), 2 * lengths[axis]
    return u, lengths


class Sobolev(Distance):
    """Mean square of the difference with each wavenumber weighed by (1 + |k|^2)^order: steep errors cost more.

    With order 1 that of the difference and its gradient (H^1), as the Markov neural operator is trained (Li et al.,
    NeurIPS 2022, arXiv 2106.06898); order 0 is the plain mean square. Wavenumbers are integers, in units of the
    lowest of the longest side. Bounded axes are continued evenly.

    Args:
        grid: where the points lie.
        order: 0 or more.
        kind: "full", or "seminorm" with weights |k|^(2 order) alone, which leave the mean free.
        relative: divide by the target's and take the root.

    Raises:
        ValueError: the order is negative or the kind unknown.
    """

    def __init__(
        self, grid: Grid, order: float = 1.0, kind: Weighing = "full", relative: bool = False
    ) -> None:
        super().__init__()
        if not order >= 0 or kind not in get_args(Weighing):
            raise ValueError(
                f"Sobolev got order={order}, kind={kind!r}; expected an order of 0 or more and one of "
                f"{list(get_args(Weighing))}."
            )
        self.grid, self.order, self.kind, self.relative = grid, float(order), kind, relative

    def _size(self, u: Tensor) -> Tensor:
        channels = u.shape[1]
        u, lengths = _continued(u, self.grid)
        axes = tuple(range(2, u.ndim))
        modes = torch.fft.rfftn(u, dim=axes, norm="forward")
        power = modes.real.square() + modes.imag.square()
        n = u.shape[-1]
        k_squared: Tensor | None = None
        for axis, length in enumerate(lengths):
            frequencies = torch.fft.rfftfreq if axis == len(lengths) - 1 else torch.fft.fftfreq
            k = frequencies(u.shape[axis + 2], d=1 / u.shape[axis + 2], dtype=power.dtype, device=u.device)
            square = (k * (max(self.grid.lengths) / length)).square()
            square = square.reshape(-1, *[1] * (len(lengths) - 1 - axis))
            k_squared = square if k_squared is None else k_squared + square
        assert k_squared is not None
        weight = (k_squared + (1 if self.kind == "full" else 0)) ** self.order
        # rfftn keeps one of each pair of opposite wavenumbers: all but the mean and an even Nyquist mode count twice.
        twice = torch.ones(power.shape[-1], dtype=power.dtype, device=u.device)
        twice[1 : (n + 1) // 2] = 2
        return (power * (weight * twice)).flatten(1).sum(dim=1) / channels

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        error = self._size(pred - target)
        if not self.relative:
            return error
        tiny = torch.finfo(error.dtype).tiny
        return (error.clamp_min(tiny) / self._size(target).clamp_min(tiny)).sqrt()


class LogSpectrum(Distance):
    """Mean over shells of wavenumbers and channels of |ln E_pred - ln E_ref|: every scale counts alike.

    Sees neither phases nor the mean. E is the energy of a shell, `sciml.metrics.spectral.spectrum`.

    Args:
        grid: where the points lie.
        lowest: first shell that counts.
        highest: last one; two thirds of the last that every axis resolves if left out, since what lies above is
            shaped by the cut of the products.
        floor: added to the energies, as a part of the target's in all shells: below it, rounding is compared.

    Raises:
        ValueError: there is no shell from `lowest` to `highest`, or the floor is not positive.
    """

    def __init__(
        self, grid: Grid, lowest: int = 1, highest: int | None = None, floor: float = 1e-8
    ) -> None:
        super().__init__()
        last = max(1, 2 * resolved_shells(grid) // 3) if highest is None else highest
        if not 1 <= lowest <= last <= resolved_shells(grid) or not floor > 0:
            raise ValueError(
                f"LogSpectrum got shells {lowest} to {last} and floor={floor}; expected 1 <= lowest <= highest <= "
                f"{resolved_shells(grid)}, the last that the grid resolves, and a positive floor."
            )
        self.grid, self.lowest, self.highest, self.floor = grid, lowest, last, float(floor)

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        ours, theirs = (
            spectrum(u.unsqueeze(1), self.grid)[:, 0, :, self.lowest : self.highest + 1]
            for u in (pred, target)
        )
        floor = self.floor * theirs.sum(dim=2, keepdim=True) + torch.finfo(theirs.dtype).tiny
        return ((ours + floor).log() - (theirs + floor).log()).abs().flatten(1).mean(dim=1)


class PerState(Term):
    """Another distance of the states of a rollout from the data, beside the objective's own norm.

    Args:
        distance: a `Distance`, or a norm by name.
        weight: what it is multiplied by, a number or a schedule.
    """

    def __init__(self, distance: Distance | Norm, weight: float | Schedule = 1.0) -> None:
        compared = Discrepancy(distance)
        super().__init__(weight, compared.name)
        self.distance = compared

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        steps = range(1, pred.shape[1])
        return torch.stack([self.distance(pred[:, k], target[:, k]) for k in steps]).mean(dim=0)
