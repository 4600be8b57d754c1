"""The truth that contestants are held against: stored frames, and a solver that goes on where they end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.datasets.blocks import read
from sciml.datasets.splits import Split
from sciml.domains import Domain
from sciml.errors import UserError
from sciml.experiments.contestants import Course
from sciml.trajectory import Field, Trajectory

# Stored frames are read ahead up to this many bytes at a time.
SLAB = 1 << 26


@dataclass(frozen=True)
class Reference:
    """True states of some samples, frame by frame.

    Args:
        domain: where the points lie.
        fields: the quantities behind the channels.
        dt: time between frames.
        samples: how many trajectories there are.
        reach: the last stored frame, with the initial state as frame 0.
        frames: (samples, first frame, one past the last) -> states (b, n, C, *points).
        onward: samples -> how the truth goes on from the last stored frame; None where nobody knows.
    """

    domain: Domain
    fields: tuple[Field, ...]
    dt: float
    samples: int
    reach: int
    frames: Callable[[slice, int, int], Tensor]
    onward: Callable[[slice], Course] | None = None

    def initial(self, samples: slice) -> Tensor:
        """States (b, C, *points) at time zero.

        Raises:
            UserError: they are not finite.
        """
        u0 = self.frames(samples, 0, 1)[:, 0]
        _require_finite(u0)
        return u0

    def after(self, frames: int) -> Reference:
        """The same truth, begun so many stored frames later; those before are history for who needs it.

        Raises:
            UserError: hardly a step would be left.
        """
        if frames >= self.reach:
            raise UserError(
                f"the test trajectories reach {self.reach} steps, and {frames} of them are needed as history."
            )
        return replace(
            self,
            reach=self.reach - frames,
            frames=lambda samples, first, last: self.frames(samples, first + frames, last + frames),
        )

    def known(self, steps: int) -> int:
        """How many of `steps` steps have a truth."""
        return steps if self.onward is not None else min(steps, self.reach)


def _require_finite(u: Tensor) -> None:
    if not bool(torch.isfinite(u).all()):
        raise UserError("evaluate got reference data with NaN or Inf; run `sciml check` on the dataset.")


def from_trajectory(true: Trajectory, onward: Callable[[slice], Course] | None = None) -> Reference:
    """The truth from frames in memory.

    Raises:
        UserError: there is but one frame and nothing to go on with.
    """
    if true.data.shape[1] < 2:
        raise UserError("evaluate got reference trajectories of one frame; expected at least two.")
    return Reference(
        true.domain,
        true.fields,
        float(true.times[1] - true.times[0]),
        len(true),
        true.data.shape[1] - 1,
        lambda samples, first, last: true.data[samples, first:last],
        onward,
    )


def from_split(
    split: Split,
    samples: int,
    *,
    dt: float,
    stride: int = 1,
    onward: Callable[[slice], Course] | None = None,
) -> Reference:
    """The truth from the first samples of a stored split, read as it is needed.

    Args:
        split: stored trajectories.
        samples: how many of them take part.
        dt: time between the frames given out.
        stride: stored frames between two that are given out.
        onward: see `Reference`.

    Raises:
        UserError: there is but one frame.
    """
    reach = (split.frames - 1) // stride
    if reach < 1:
        raise UserError("evaluate got reference trajectories of one frame; expected at least two.")

    def frames(chosen: slice, first: int, last: int) -> Tensor:
        indices = range(samples)[chosen]
        rows: list[Any] = []
        for index in indices:
            block, place = split.locate(index)
            shape = split.blocks[block].shape[2:]
            row = np.empty(((last - 1 - first) * stride + 1, *shape), dtype=np.float32)
            read(split.blocks[block], place, slice(first * stride, (last - 1) * stride + 1), row)
            rows.append(row[::stride])
        return torch.from_numpy(np.stack(rows))

    return Reference(split.domain, split.fields, dt, samples, reach, frames, onward)


class Stream:
    """The true states of some samples one after another, in the memory of a few frames.

    It can be stopped and gone on with: `carried` is what has to be kept once the stored frames are used up.
    """

    def __init__(self, reference: Reference, samples: slice) -> None:
        self.reference, self.samples = reference, samples
        self.course = None if reference.onward is None else reference.onward(samples)
        self.carried: Tensor | None = None
        self._slab: Tensor | None = None
        self._first = 0

    def at(self, step: int) -> Tensor | None:
        """The state at a step, the next one after that of the call before; None beyond what is known."""
        if step <= self.reference.reach:
            return self._stored(step)
        if self.course is None:
            return None
        if self.carried is None:
            self.carried = self.course.begin(self._stored(self.reference.reach))
            self._slab = None
        self.carried = self.course.advance(self.carried)
        return self.course.show(self.carried)

    def _stored(self, step: int) -> Tensor:
        if self._slab is None or not self._first <= step < self._first + self._slab.shape[1]:
            one = self.reference.frames(self.samples, step, step + 1)
            ahead = max(1, SLAB // max(1, one.numel() * one.element_size()))
            last = min(step + ahead, self.reference.reach + 1)
            self._first = step
            self._slab = one if last == step + 1 else self.reference.frames(self.samples, step, last)
            _require_finite(self._slab)
        return self._slab[:, step - self._first]
