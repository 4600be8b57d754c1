"""How fast nearby states of a step part from each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.jacobian.products import Jacobian, Mode, check_mode, like
from sciml.step import Step


@dataclass(frozen=True)
class LyapunovExponents:
    """The largest Lyapunov exponents of paths, and how they vary along them [1/time].

    Attributes:
        mean: over the whole path (B, K).
        standard_error: of the mean (B, K), from the scatter of the intervals; too small where these are not long
            beside the memory of the system. NaN for one interval.
        local: finite-time exponents of each interval (B, I, K).
        times: ends of the intervals, from the first call that counts (I,).
    """

    mean: Tensor
    standard_error: Tensor
    local: Tensor
    times: Tensor


def finite_time_exponents(
    step: Step,
    u: Tensor,
    steps: int,
    *,
    count: int | None = None,
    discard: int = 0,
    every: int = 1,
    intervals: int = 1,
    together: bool = True,
    mode: Mode = "vjp",
    generator: torch.Generator | None = None,
) -> Iterator[tuple[float, Tensor]]:
    """The exponents of one interval after another: its end [time] and (B, K) [1/time], in constant memory.

    Arguments as in `lyapunov_exponents`. A sample that blows up is NaN from there on.

    Raises:
        ValueError: a number out of range.
    """
    size = u[0].numel()
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(
            f"Lyapunov exponents got count={count}; a state of {tuple(u.shape[1:])} has 1 to {size}."
        )
    if steps < 1 or discard < 0 or every < 1 or not 1 <= intervals <= steps:
        raise ValueError(
            f"Lyapunov exponents got steps={steps}, discard={discard}, every={every}, intervals={intervals}; expected "
            "at least 1, 0 and 1, and 1 to `steps` intervals."
        )
    check_mode(mode)
    return _march(step, u, steps, count, discard, every, intervals, together, mode, generator)


def _march(
    step: Step,
    u: Tensor,
    steps: int,
    count: int,
    discard: int,
    every: int,
    intervals: int,
    together: bool,
    mode: Mode,
    generator: torch.Generator | None,
) -> Iterator[tuple[float, Tensor]]:
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    # As many vectors for each sample, the same ones: a sample's exponents do not depend on its neighbours.
    random = torch.randn(
        u[0].numel(), count, generator=generator, dtype=torch.float64, device=generator.device
    )
    frame = torch.linalg.qr(random.to(u)).Q.expand(u.shape[0], -1, -1)
    push = _together if together else _in_turn
    ends = [steps * (i + 1) // intervals for i in range(intervals)]
    begun, logs = 0, torch.zeros(u.shape[0], count, dtype=torch.float64, device=u.device)
    for index in range(-discard, steps):
        with torch.no_grad():  # entered per step: a generator must not leave grad mode off outside
            u, frame = push(step, u, frame, mode)
            ended = index + 1 in ends
            if index == -1 or ended or (index + discard) % every == every - 1:
                frame, r = torch.linalg.qr(frame)
                if index >= 0:
                    logs = logs + torch.diagonal(r, dim1=1, dim2=2).abs().to(torch.float64).log()
            if ended:
                alive = torch.isfinite(u).flatten(1).all(1, keepdim=True)
                found = torch.where(alive, logs / ((index + 1 - begun) * step.dt), torch.nan)
        if ended:
            yield (index + 1) * step.dt, found
            begun, logs = index + 1, torch.zeros_like(logs)


def lyapunov_exponents(
    step: Step,
    u: Tensor,
    steps: int,
    *,
    count: int | None = None,
    discard: int = 0,
    every: int = 1,
    intervals: int = 10,
    together: bool = True,
    mode: Mode = "vjp",
    generator: torch.Generator | None = None,
) -> LyapunovExponents:
    """The largest Lyapunov exponents of a step, solver or network alike, along its own path.

    K tangent vectors travel with the state, by directional derivatives of the step. Now and then a QR
    decomposition makes them orthonormal again; the exponents are the mean logarithms of the diagonal of R.
    They come out in falling order up to their error, which falls like the square root of the time for
    chaotic systems: it is the path that is sampled. Exponents of a batch differ by that error only, and their
    mean over the batch is the better estimate. NaN for a sample that blows up. Memory does not grow with time.

    Args:
        step: differentiable unless mode is "fd", each sample on its own.
        u: states to start from, (B, C, *points), in float64 if there is a choice.
        steps: calls of the step that count.
        count: K, the number of exponents; None for all, C times the number of points. A few do for fields.
        discard: calls before that, in which the state comes to the attractor and the vectors to their
            directions.
        every: calls between two decompositions. Vectors grow and align meanwhile; their growth should stay
            below about 1e6.
        intervals: equal stretches of time with finite-time exponents of their own, for the error and to see
            where a path is unstable; as many as `steps` give them step by step.
        together: push all vectors of a sample in one call, as a batch of B K. False pushes one after another,
            for steps with parameters of their own for each sample of the batch; in mode "vjp" they then share
            one pass of the step.
        mode: how J v is found, see `Jacobian`. The default serves solvers and whatever has reverse mode only;
            "jvp" is faster for networks, "fd" for compiled solvers, at a relative error of about 1e-7 in float64.
        generator: for the first vectors; None takes a fixed seed.

    Raises:
        ValueError: a number out of range.

    Benettin, Galgani, Giorgilli and Strelcyn, Meccanica 15 (1980) 9-20; Shimada and Nagashima, Progress of
    Theoretical Physics 61 (1979) 1605-1616.
    """
    stretches = list(
        finite_time_exponents(
            step,
            u,
            steps,
            count=count,
            discard=discard,
            every=every,
            intervals=min(intervals, steps),
            together=together,
            mode=mode,
            generator=generator,
        )
    )
    times = torch.tensor([time for time, _ in stretches], dtype=torch.float64, device=u.device)
    local = torch.stack([found for _, found in stretches], dim=1)
    lengths = torch.diff(times, prepend=times.new_zeros(1)).reshape(1, -1, 1)
    mean = (local * lengths).sum(dim=1) / times[-1]
    error = local.std(dim=1) / len(stretches) ** 0.5 if len(stretches) > 1 else mean * torch.nan
    return LyapunovExponents(mean, error, local, times)


def lyapunov_spectrum(
    step: Step,
    u: Tensor,
    steps: int,
    *,
    count: int | None = None,
    discard: int = 0,
    every: int = 1,
    together: bool = True,
    mode: Mode = "vjp",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The mean exponents of `lyapunov_exponents` alone, (B, K) [1/time]."""
    return lyapunov_exponents(
        step,
        u,
        steps,
        count=count,
        discard=discard,
        every=every,
        intervals=1,
        together=together,
        mode=mode,
        generator=generator,
    ).mean


def leading_exponent(
    step: Step,
    u: Tensor,
    steps: int,
    *,
    discard: int = 0,
    every: int = 1,
    mode: Mode = "vjp",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The largest Lyapunov exponent along each path, (B,) [1/time]; see `lyapunov_exponents`.

    Its inverse is the time in which errors grow by e, the unit in which forecasts of chaos are judged. Take that
    of the reference: a model's own exponent must not set its clock.
    """
    found = lyapunov_spectrum(
        step, u, steps, count=1, discard=discard, every=every, mode=mode, generator=generator
    )
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


def _together(step: Step, u: Tensor, frame: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    """The next states and the frame (B, N, K) carried along, in one call on a batch of B K."""
    batch, _, count = frame.shape
    tangents = frame.transpose(1, 2).reshape(batch * count, *u.shape[1:])
    if mode == "fd":
        # The undisturbed states are one batch more, not one for each vector.
        eps = torch.finfo(u.dtype).eps ** 0.5 * u.flatten(1).norm(dim=1)
        eps = torch.where(eps > 0, eps, torch.full_like(eps, torch.finfo(u.dtype).eps ** 0.5))
        spread = like(eps.repeat_interleave(count), u)
        all_new = step(torch.cat([u, u.repeat_interleave(count, dim=0) + spread * tangents]))
        new, moved = all_new[:batch], all_new[batch:]
        moved = (moved - new.repeat_interleave(count, dim=0)) / spread
        return new, moved.reshape(batch, count, -1).transpose(1, 2)
    jacobian = Jacobian(step, u.repeat_interleave(count, dim=0), mode=mode)
    moved = jacobian.push(tangents)
    return jacobian.value[::count].contiguous(), moved.reshape(batch, count, -1).transpose(1, 2)


def _in_turn(step: Step, u: Tensor, frame: Tensor, mode: Mode) -> tuple[Tensor, Tensor]:
    """The same, one vector of every sample at a time."""
    jacobian = Jacobian(step, u, mode=mode)
    moved = [jacobian.push(v.reshape(u.shape)).flatten(1) for v in frame.unbind(2)]
    return jacobian.value, torch.stack(moved, dim=2)
