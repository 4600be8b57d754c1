"""What suites measure: errors, orders, drifts, symmetries."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.domains import Cloud, Domain, Grid, Point
from sciml.fields import RandomFourier
from sciml.pdes.base import PDE
from sciml.resample import resample
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, at_most
from sciml.step import Step, rollout
from sciml.trajectory import Field


def self_convergence(
    make: Callable[[Grid, int], Callable[[Tensor], Tensor]],
    grid: Grid,
    substeps: int,
    u0: Tensor,
    steps: int,
) -> Tensor:
    """Error of a solver's own output, measured against twice the grid and half the substep.

    Args:
        make: the step of one output time on a grid with a number of substeps.
        grid: the production grid.
        substeps: the production substeps.
        u0: initial states (B, C, *points) on that grid.
        steps: output times after the initial one.

    Returns relative L2 errors (B, steps + 1, C), see `relative_errors`: the floor below which nobody should
    be credited or blamed. Where a run blows up the entry is not finite.
    """
    fine = grid.refined(2)
    production, reference = make(grid, substeps), make(fine, 2 * substeps)
    u, v = u0, resample(u0, grid, fine)
    states, references = [u], [resample(v, fine, grid)]
    with torch.no_grad():
        for _ in range(steps):
            u, v = production(u), reference(v)
            states.append(u)
            references.append(resample(v, fine, grid))
    channels = tuple(Field(str(i)) for i in range(u0.shape[1]))  # each on its own
    return relative_errors(torch.stack(states, dim=1), torch.stack(references, dim=1), channels, grid)


def relative_errors(
    data: Tensor,
    reference: Tensor,
    fields: tuple[Field, ...],
    domain: Domain,
    scales: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """||data - reference|| / ||reference|| per sample, time and field, (B, T, F), over the domain.

    Where the reference vanishes at some time, a thousandth of its largest norm over time is the measure; where the
    field's entry in `scales`, a norm (B,), is larger, that one (see `PDE.scales`).
    Without space, where a norm is that of one number on its way through zero, it is the root mean square
    over time. What blew up is not finite.

    Raises:
        TypeError: a cloud has no weights.
    """
    if isinstance(domain, Cloud):
        raise TypeError(
            "relative_errors got a Cloud, whose points have no weights; expected another domain."
        )
    weights, out, start = domain.weights(), [], 0
    for f in fields:
        count = domain.dimension**f.rank
        a, b = (x[:, :, start : start + count].to(torch.float64) for x in (data, reference))
        start += count
        gap = ((a - b).square() * weights).flatten(2).sum(dim=2).sqrt()
        size = (b.square() * weights).flatten(2).sum(dim=2).sqrt()
        if isinstance(domain, Point):
            size = size.square().nan_to_num(0.0, posinf=0.0).mean(dim=1, keepdim=True).sqrt()
        floor = 1e-3 * size.nan_to_num(0.0).amax(dim=1, keepdim=True).clamp(min=1e-300)
        if scales and f.name in scales:
            floor = torch.maximum(floor, scales[f.name].to(torch.float64).reshape(-1, 1))
        out.append(gap / torch.maximum(size, floor))
    return torch.stack(out, dim=2)


def relative_error(u: Tensor, reference: Tensor) -> Tensor:
    """Relative L2 distance per sample and channel, (B, C); absolute where the reference vanishes."""
    size = reference.flatten(2).norm(dim=2)
    return (u - reference).flatten(2).norm(dim=2) / torch.where(size > 0, size, torch.ones_like(size))


def observed_order(errors: Sequence[float]) -> float:
    """Order seen between the last two of a series of errors under halving."""
    coarse, fine = errors[-2:]
    return math.log2(coarse / fine) if coarse > 0 and fine > 0 else math.inf


def points(grid: Grid) -> Tensor:
    return grid.coordinates().unsqueeze(0)


def exact_error(pde: Any, step: Step, grid: Grid, steps: int) -> float:
    """Largest relative L2 error per channel after some steps from the exact solution at time 0."""
    x = points(grid)
    u = pde.exact(x, 0.0).contiguous()
    with torch.no_grad():
        u = rollout(step, steps)(u)[:, -1]
    return float(relative_error(u, pde.exact(x, step.dt * steps)).max())


def box(pde: Any, n: int, dimension: int, boundary: str = "periodic", centering: str = "node") -> Grid:
    lengths = pde.exact_lengths(dimension)
    return Grid((n,) * dimension, lengths, boundary=boundary, centering=centering)  # type: ignore[arg-type]


def random_states(grid: Grid, channels: int, samples: int = 2) -> Tensor:
    """Smooth random states (B, C, *points) of at most 3 modes, seed 0."""
    generator = torch.Generator().manual_seed(0)
    draw = RandomFourier(modes=3)
    return torch.stack([draw(grid, channels, generator) for _ in range(samples)])


def time_order(pde: PDE, grid: Grid, dt: float, counts: Sequence[int], u: Tensor) -> float:
    """Order in time between the last two numbers of substeps, against eight times the last."""

    def run(substeps: int) -> Tensor:
        with torch.no_grad():
            return build(pde, grid, dt, substeps=substeps)(u)

    reference = run(8 * counts[-1])
    return observed_order([float((run(n) - reference).norm()) for n in counts])


def structure(pde: PDE, grid: Grid, dt: float, steps: int, u: Tensor, drift: float = 1e-12) -> list[Check]:
    """Invariants along a rollout, and translation by whole cells."""
    step = build(pde, grid, dt)
    with torch.no_grad():
        path = rollout(step, steps)(u)
        shift = tuple(n // 3 for n in grid.shape)
        axes = tuple(range(2, u.ndim))
        there = step(u.roll(shift, axes)).roll(tuple(-s for s in shift), axes)
        kept = pde.invariants(u, grid)
        last = pde.invariants(path[:, -1], grid)
    setting = f"{'x'.join(map(str, grid.shape))}, {steps} steps of {dt:g}, random states"
    scale = float(u.abs().mean()) * grid.volume
    checks = [
        at_most(
            f"drift of {name}",
            ((last[name] - kept[name]).abs() / kept[name].abs().clamp(min=scale)).max(),
            drift,
            setting,
        )
        for name in kept
    ]
    # Transforms of shifted data round otherwise: a hundred roundings.
    moved = (there - path[:, 1]).abs().max() / path[:, 1].abs().max()
    return [*checks, at_most("translation by whole cells", moved, 1e-12, setting)]


def rate_error(pde: PDE, grid: Grid, u: Tensor, rate: Tensor, h: float = 1e-3) -> float:
    """Relative error of du/dt at time 0, from two steps, against a rate worked out by hand."""
    with torch.no_grad():
        whole, half = (build(pde, grid, t, substeps=1)(u) for t in (h, h / 2))
    # Richardson: the error is a multiple of h^2 u_ttt/12.
    found = (4 * half - whole - 3 * u) / h
    return float((found - rate).norm() / rate.norm())
