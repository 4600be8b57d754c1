"""How fast nearby states of a step part from each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.step import Step

Mode = Literal["reverse", "forward"]


def lyapunov_spectrum(
    step: Step,
    u: Tensor,
    steps: int,
    *,
    count: int | None = None,
    discard: int = 0,
    every: int = 1,
    together: bool = True,
    mode: Mode = "reverse",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The largest Lyapunov exponents of a step, solver or network alike, along its own path, (B, K) [1/time].

    K tangent vectors travel with the state, by directional derivatives of the step. Now and then a QR
    decomposition makes them orthonormal again; the exponents are the mean logarithms of the diagonal of R.
    They come out in falling order up to their error, which falls like the square root of the time for
    chaotic systems: it is the path that is sampled. Exponents of a batch differ by that error only, and their
    mean over the batch is the better estimate. NaN for a sample that blows up.

    Args:
        step: differentiable, each sample on its own.
        u: states to start from, (B, C, *points), in float64 if there is a choice.
        steps: calls of the step that count.
        count: K, the number of exponents; None for all, C times the number of points.
        discard: calls before that, in which the state comes to the attractor and the vectors to their
            directions.
        every: calls between two decompositions. Vectors grow and align meanwhile; their growth should stay
            below about 1e6.
        together: push all vectors of a sample in one call, as a batch of B K. False pushes one after another,
            for steps with parameters of their own for each sample of the batch.
        mode: how J v is found. "reverse" differentiates J^T w by w, which needs the backward pass of the step to
            be differentiable itself; "forward" asks for forward mode and is some four times slower here, as
            operations with one constant operand are slow in it (torch 2.13, on the CPU).
        generator: for the first vectors; None takes a fixed seed.

    Raises:
        ValueError: a number out of range.

    Benettin, Galgani, Giorgilli and Strelcyn, Meccanica 15 (1980) 9-20; Shimada and Nagashima, Progress of
    Theoretical Physics 61 (1979) 1605-1616.
    """
    size = u[0].numel()
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(
            f"lyapunov_spectrum got count={count}; a state of {tuple(u.shape[1:])} has 1 to {size}."
        )
    if steps < 1 or discard < 0 or every < 1:
        raise ValueError(
            f"lyapunov_spectrum got steps={steps}, discard={discard}, every={every}; expected at least 1, 0 and 1."
        )
    if mode not in get_args(Mode):
        raise ValueError(f"lyapunov_spectrum got mode={mode!r}; expected one of {list(get_args(Mode))}.")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    # As many vectors for each sample, the same ones: a sample's exponents do not depend on its neighbours.
    random = torch.randn(size, count, generator=generator, dtype=torch.float64).to(u)
    frame = torch.linalg.qr(random).Q.expand(u.shape[0], -1, -1)
    logs = u.new_zeros(u.shape[0], count)
    push = _together if together else _in_turn
    with torch.no_grad():
        for index in range(-discard, steps):
            u, frame = push(step, u, frame, mode)
            if index == -1 or index == steps - 1 or (index + discard) % every == every - 1:
                frame, r = torch.linalg.qr(frame)
                if index >= 0:
                    logs = logs + torch.diagonal(r, dim1=1, dim2=2).abs().log()
    finite = torch.isfinite(u).flatten(1).all(1, keepdim=True)
    return torch.where(finite, logs / (steps * step.dt), torch.full_like(logs, torch.nan))


def leading_exponent(
    step: Step,
    u: Tensor,
    steps: int,
    *,
    discard: int = 0,
    every: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The largest Lyapunov exponent along each path, (B,) [1/time]; see `lyapunov_spectrum`.

    Its inverse is the time in which errors grow by e, the unit in which forecasts of chaos are judged.
    """
    found = lyapunov_spectrum(step, u, steps, count=1, discard=discard, every=every, generator=generator)
    return found[:, 0]


def kaplan_yorke_dimension(spectrum: Tensor) -> Tensor:
    """Dimension of the attractor by the formula of Kaplan and Yorke, exponents (B, K) -> (B,).

    j + (lambda_1 + ... + lambda_j)/|lambda_{j+1}| with the largest j whose sum is not negative. 0 where
    already the first is negative, K where all sums are positive: then more exponents are needed.

    Kaplan and Yorke, Lecture Notes in Mathematics 730 (1979) 204-227.
    """
    ordered = spectrum.sort(dim=1, descending=True).values
    sums = ordered.cumsum(dim=1)
    whole = (sums >= 0).to(torch.int64).cumprod(dim=1).sum(dim=1)
    last = spectrum.shape[1] - 1
    before = sums.gather(1, (whole - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
    after = ordered.gather(1, whole.clamp(max=last).unsqueeze(1)).squeeze(1)
    part = torch.where((whole > 0) & (whole <= last), before / after.abs(), torch.zeros_like(before))
    dimension = whole.to(spectrum.dtype) + part
    return torch.where(
        torch.isfinite(spectrum).all(dim=1), dimension, torch.full_like(dimension, torch.nan)
    )


def _push(
    step: Callable[[Tensor], Tensor], u: Tensor, tangents: Sequence[Tensor], mode: Mode
) -> tuple[Tensor, list[Tensor]]:
    """step(u) and the derivative of the step along each of some tangents, all of the shape of u."""
    if mode == "forward":
        pushed = [torch.func.jvp(step, (u,), (v,)) for v in tangents]
        return pushed[0][0], [pair[1] for pair in pushed]
    # J^T w is linear in w, and its derivative by w along v is J v.
    with torch.enable_grad():
        u = u.detach().requires_grad_()
        new = step(u)
        w = torch.zeros_like(new, requires_grad=True)
        (pulled,) = torch.autograd.grad(new, u, w, create_graph=True)
        moved = [torch.autograd.grad(pulled, w, v, retain_graph=True)[0] for v in tangents]
    return new.detach(), moved


def _together(
    step: Callable[[Tensor], Tensor], u: Tensor, frame: Tensor, mode: Mode
) -> tuple[Tensor, Tensor]:
    """The next states and the frame (B, N, K) carried along, by one derivative of a batch of B K."""
    batch, _, count = frame.shape
    tangents = frame.transpose(1, 2).reshape(batch * count, *u.shape[1:])
    new, (moved,) = _push(step, u.repeat_interleave(count, dim=0), [tangents], mode)
    return new[::count].contiguous(), moved.reshape(batch, count, -1).transpose(1, 2)


def _in_turn(
    step: Callable[[Tensor], Tensor], u: Tensor, frame: Tensor, mode: Mode
) -> tuple[Tensor, Tensor]:
    """The same, one vector of every sample at a time."""
    tangents = [frame[:, :, index].reshape(u.shape) for index in range(frame.shape[2])]
    new, moved = _push(step, u, tangents, mode)
    return new, torch.stack([v.flatten(1) for v in moved], dim=2)
