"""Where a training rollout starts: at the data, at a state the model reached, at a disturbed state, or off the data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.objectives.base import ChannelScale, Parts
from sciml.objectives.schedules import Schedule, counted
from sciml.step import ahead

Draw = Literal["fixed", "batch", "sample"]
"""A number of steps: as it is, drawn uniformly up to it for each batch, or for each sample of a batch."""


@dataclass(frozen=True)
class Span:
    """Frames of a window: how many are given to the step, and how many follow that it is compared with.

    Args:
        history: frames that the step is given, oldest first, side by side as channels.
        bundle: frames that one call gives.
        targets: frames that follow the given ones.
    """

    history: int = 1
    bundle: int = 1
    targets: int = 1

    @property
    def frames(self) -> int:
        """Of the window in all."""
        return self.history + self.targets


def given_state(window: Tensor, history: int) -> Tensor:
    """The first `history` frames as one state, (B, T, C, *points) -> (B, history C, *points)."""
    return window[:, 0] if history == 1 else window[:, :history].flatten(1, 2)


def check_draw(draw: str, owner: str) -> None:
    """Refuse an unknown way of drawing numbers of steps."""
    if draw not in get_args(Draw):
        raise ValueError(f"{owner} got draw={draw!r}; expected one of {list(get_args(Draw))}.")


def drawn(
    low: int, high: int, draw: Draw, batch: int, generator: torch.Generator | None
) -> tuple[int, Tensor | None]:
    """The largest number of steps of a batch and, where samples differ, that of each, (B,) on the CPU."""
    if draw == "fixed":
        return high, None
    device = "cpu" if generator is None else generator.device
    shape = (batch,) if draw == "sample" else ()
    found = torch.randint(low, high + 1, shape, generator=generator, device=device)
    if draw == "batch":
        return int(found), None
    found = found.cpu()
    return int(found.max()), found


class Start(nn.Module, ABC):
    """What happens to a window before a training rollout begins at its first frames.

    Starts compose: each takes the window that the one before it left, so that free steps, then noise, then
    targets from a solver are three values in a list.
    """

    def needs(self, span: Span) -> Span:
        """What its window must span for what it leaves to span `span`."""
        return span

    @abstractmethod
    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        span: Span,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        """The window (B, T, C, *points), or another one, whose first frames are the start of the rollout.

        Args:
            step: the step that is trained.
            window: frames in a row, T at least as `needs` says.
            span: what it has to leave.
            generator: of whatever is random.

        Returns:
            A window of at least `span.frames` frames, perhaps of fewer samples, and parts for the log.
        """


class FreeSteps(Start):
    """Let the step run freely first, without gradient: F^r(u_0) held fixed, then the data from frame r on.

    With it the step meets its own errors and is asked to undo them at once, since the targets remain the
    data (pushforward; Brandstetter, Worrall and Welling, ICLR 2022, arXiv 2202.03376). More than a step or
    two before the model is any good teaches it about states that never occur: raise r by a schedule.

    Args:
        steps: r, the calls of the step, 0 or more; rounded where a schedule gives it.
        draw: r as it is ("fixed"), or uniform from 0 to r for each "batch" or each "sample". Where samples
            differ the step is called on fewer of them.

    Raises:
        ValueError: `steps` is negative or the draw unknown.
    """

    def __init__(self, steps: int | Schedule = 1, draw: Draw = "fixed") -> None:
        super().__init__()
        check_draw(draw, "FreeSteps")
        self.steps = counted(steps, "FreeSteps.steps", 0, whole=True)
        self.draw: Draw = draw
        self.logged = draw != "fixed" or isinstance(steps, Schedule)

    def needs(self, span: Span) -> Span:
        if span.targets == 0:  # nothing after the start is compared with the data
            return span
        return replace(span, targets=span.targets + round(self.steps.limits[1]) * span.bundle)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        span: Span,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        n, batch, channels = span.history, len(window), window.shape[2]
        most, each = drawn(0, round(self.steps()), self.draw, batch, generator)
        parts: Parts = {}
        if self.logged:
            mean = float(most) if each is None else float(each.double().mean())
            parts["free_steps"] = torch.tensor(mean)
        if most == 0:
            return window, parts
        u = given_state(window, n)
        with torch.no_grad():
            if each is None:
                for _ in range(most):
                    u = ahead(step, u)[:, -1]
            else:
                u = u.clone()
                for j in range(most):
                    rows = (each > j).nonzero().squeeze(1).to(u.device)
                    u[rows] = ahead(step, u[rows])[:, -1]
        given = u.unflatten(1, (n, channels))
        if each is None:
            return torch.cat([given, window[:, n + most * span.bundle :]], dim=1), parts
        follow = torch.arange(n, n + span.targets)
        frames = each.unsqueeze(1) * span.bundle + follow
        rows = torch.arange(batch).unsqueeze(1).expand_as(frames)
        rest = window[rows.to(window.device), frames.to(window.device)]
        return torch.cat([given, rest], dim=1), parts


class Noise(Start):
    """Normal noise on the given frames, and the part (1 - gamma) of it on the next frame.

    With gamma = 1 the step has to remove the noise, with 0 to carry it along (Pfaff et al. 2021,
    arXiv 2010.03409, appendix A.2); the k-th frame after the start carries (1 - gamma)^k of it. To second
    order in the noise, one step from a disturbed state is one step from the clean one plus a uniform penalty
    on the Jacobian, so noise much above the one-step error makes smooth, dissipative problems worse.

    Args:
        std: standard deviation, in units of `channel_scale` where that is given, else of the state.
        gamma: the part of the noise that one step should remove.
        nodes: True (*points) where noise is added, everywhere if left out: leave out nodes whose values
            are prescribed.
        channel_scale: a typical size of each channel (C,).

    Raises:
        ValueError: `std` is negative or gamma not between 0 and 1.
    """

    nodes: Tensor | None

    def __init__(
        self,
        std: float | Schedule,
        gamma: float = 1.0,
        nodes: Tensor | None = None,
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        self.std = counted(std, "Noise.std", 0.0)
        if not 0 <= gamma <= 1:
            raise ValueError(f"Noise got gamma={gamma}; expected a number from 0 to 1.")
        self.gamma = float(gamma)
        self.logged = isinstance(std, Schedule)
        self.register_buffer("nodes", None if nodes is None else nodes.bool(), persistent=False)
        self.scale = ChannelScale(channel_scale)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        span: Span,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        std = self.std()
        parts: Parts = {"noise_std": torch.tensor(std)} if self.logged else {}
        if std == 0:
            return window, parts
        n = span.history
        noise = self.scale(_normal(window[:, :n], generator) * std, axis=2)
        if self.nodes is not None:
            noise = torch.where(self.nodes, noise, 0.0)
        frames = [window[:, :n] + noise]
        carried = noise[:, -1:]
        for k in range(n, window.shape[1]):
            carried = (1 - self.gamma) * carried
            frames.append(window[:, k : k + 1] + carried)
        return torch.cat(frames, dim=1), parts


class RandomWalkNoise(Start):
    """Noise for steps that see several frames of positions: a random walk in the velocities between them.

    Each velocity takes a step of std / sqrt(history - 1) from the one before, so that the last velocity has
    the standard deviation `std`; the first frame stays. What follows is shifted by the offset of the last
    given position, so that the step has to undo the error of the velocity but not that of the position.
    Sanchez-Gonzalez et al., ICML 2020, arXiv 2002.09405, appendix B.3.

    Args:
        std: of the last velocity [length per step], in units of `channel_scale` where that is given.
        nodes: True (*points) where noise is added, everywhere if left out: leave out what moves as prescribed.
        channel_scale: a typical size of each channel (C,).

    Raises:
        ValueError: `std` is negative, or the step is given fewer than two frames.
    """

    nodes: Tensor | None

    def __init__(
        self,
        std: float | Schedule,
        nodes: Tensor | None = None,
        channel_scale: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__()
        self.std = counted(std, "RandomWalkNoise.std", 0.0)
        self.logged = isinstance(std, Schedule)
        self.register_buffer("nodes", None if nodes is None else nodes.bool(), persistent=False)
        self.scale = ChannelScale(channel_scale)

    def needs(self, span: Span) -> Span:
        if span.history < 2:
            raise ValueError(
                f"RandomWalkNoise needs a step that is given two frames or more, not {span.history}; set "
                "`history` of the objective."
            )
        return span

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        span: Span,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        std = self.std()
        parts: Parts = {"noise_std": torch.tensor(std)} if self.logged else {}
        if std == 0:
            return window, parts
        n = span.history
        kicks = self.scale(_normal(window[:, 1:n], generator) * (std / (n - 1) ** 0.5), axis=2)
        if self.nodes is not None:
            kicks = torch.where(self.nodes, kicks, 0.0)
        offset = kicks.cumsum(dim=1).cumsum(dim=1)  # of velocities, of positions
        later = window[:, n:] + offset[:, -1:]
        return torch.cat([window[:, :1], window[:, 1:n] + offset, later], dim=1), parts


class Diverted(Start):
    """Forget the data after the start: a solver says what should follow from the state that was reached.

    After `FreeSteps` this asks the step to imitate the solver at its own states, not to return to the data;
    with the mere data at the start, targets are the solver's. One branch of the diverted chain of Koehler et
    al., APEBench (NeurIPS 2024, arXiv 2411.00180); all branches of a rollout together are `DivertedChain`.

    Samples for which the solver leaves the finite numbers, or whose start is larger than `limit`, are
    dropped and counted.

    Args:
        solver: one step of the reference, (B, C, *points) -> (B, C, *points), in the objective's units.
        limit: largest absolute value that the solver is asked about.

    Raises:
        ValueError: the limit is not positive.
    """

    def __init__(self, solver: Callable[[Tensor], Tensor], limit: float = float("inf")) -> None:
        super().__init__()
        if not limit > 0:
            raise ValueError(f"Diverted got limit={limit}; expected a positive number.")
        self.solver = solver
        self.limit = float(limit)

    def needs(self, span: Span) -> Span:
        return replace(span, targets=0)

    def forward(
        self,
        step: Callable[[Tensor], Tensor],
        window: Tensor,
        span: Span,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Parts]:
        n = span.history
        given = window[:, :n]
        good = (given.abs() <= self.limit).flatten(1).all(dim=1)  # not where it is NaN
        rows = good.nonzero().squeeze(1)
        given = given[rows]
        frames = list(given.unbind(1))
        with torch.no_grad():
            for _ in range(span.targets if len(rows) else 0):
                frames.append(self.solver(frames[-1]))
        if not len(rows):
            return window.new_zeros((0, span.frames, *window.shape[2:])), {"dropped": _count(good)}
        branch = torch.stack(frames, dim=1)
        finite = torch.isfinite(branch).flatten(1).all(dim=1)
        dropped = len(window) - finite.sum()
        return branch[finite], {"dropped": dropped.to(window.dtype)}


def _count(good: Tensor) -> Tensor:
    return (~good).sum().to(torch.get_default_dtype())


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like.device)
