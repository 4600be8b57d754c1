"""Short pieces of trajectories for training, a whole batch at a time.

The way through Python per sample is what costs, so a batch is gathered into one buffer:
`DataLoader(windows, batch_size=64, shuffle=True, collate_fn=Windows.collate)` calls `__getitems__`, and
`batches` does the same without a loader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from sciml.datasets.blocks import read
from sciml.errors import UserError

if TYPE_CHECKING:
    from sciml.datasets.splits import Split


class Windows(TorchDataset[Tensor]):
    """All windows of history + horizon frames of a split, (history + horizon, C, *points), float32.

    Neighbouring frames of a window lie `stride` stored frames apart; windows start at every frame and
    never cross from one trajectory into the next. A trajectory of T frames gives
    T - stride * (history + horizon - 1) windows, and none if it is too short.

    Raises:
        UserError: an argument is below 1, no trajectory is long enough, or the samples lie on meshes of
            different sizes, which do not stack.
    """

    def __init__(self, split: Split, history: int = 1, horizon: int = 1, stride: int = 1) -> None:
        if min(history, horizon, stride) < 1:
            raise UserError(
                f"windows got history={history}, horizon={horizon}, stride={stride}; each must be at least 1."
            )
        shapes = {block.shape[2:] for block in split.blocks}
        if len(shapes) != 1:
            raise UserError(
                f"The samples of split {split.name!r} have different points {sorted(s[1:] for s in shapes)}; "
                "windows of different meshes do not stack. Read trajectories one at a time."
            )
        self.split, self.history, self.horizon, self.stride = split, history, horizon, stride
        self.length = history + horizon
        self.shape = (self.length, *shapes.pop())
        span = stride * (self.length - 1)
        per_block = [max(0, block.shape[1] - span) for block in split.blocks]
        counts = [block.shape[0] * n for block, n in zip(split.blocks, per_block, strict=True)]
        if not sum(counts):
            longest = max(block.shape[1] for block in split.blocks)
            raise UserError(
                f"Split {split.name!r} has at most {longest} frames per trajectory; windows of {self.length} "
                f"frames {stride} apart need {span + 1}. Shorten history, horizon or stride."
            )
        self._span = span + 1
        self._mapped: tuple[int, list[np.ndarray] | None] = (-1, None)
        self._per_block = np.array(per_block)
        self._ends = np.cumsum(counts)
        self._starts = self._ends - np.array(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int, int]:
        """(block, sample in the block, first frame) of a window.

        Raises:
            IndexError: there is no such window.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"There are {len(self)} windows; got index {index}.")
        index %= len(self)
        block = int(np.searchsorted(self._ends, index, side="right"))
        sample, frame = divmod(index - int(self._starts[block]), int(self._per_block[block]))
        return block, sample, frame

    def __getitem__(self, index: int) -> Tensor:
        block, sample, frame = self.locate(index)
        out = np.empty(self.shape, dtype=np.float32)
        read(self.split.blocks[block], sample, slice(frame, frame + self._span, self.stride), out)
        return torch.from_numpy(out)

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """A batch (B, history + horizon, C, *points) of windows, filled in one buffer."""
        index = np.asarray(indices, dtype=np.int64)
        if index.size and not (-len(self) <= int(index.min()) and int(index.max()) < len(self)):
            raise IndexError(f"There are {len(self)} windows; got indices up to {int(index.max())}.")
        index = index % len(self)
        out = np.empty((len(index), *self.shape), dtype=np.float32)
        blocks = np.searchsorted(self._ends, index, side="right")
        within = index - self._starts[blocks]
        samples, frames = np.divmod(within, self._per_block[blocks])
        rows = zip(out, blocks.tolist(), samples.tolist(), frames.tolist(), strict=True)
        views = self._views()
        if views is not None:
            for row, b, i, t in rows:
                row[...] = views[b][i, t]
        else:
            parts = {b: self.split.blocks[b].parts() for b in set(blocks.tolist())}
            for row, b, i, t in rows:
                for channels, source in parts[b]:
                    row[:, channels] = source[i, t : t + self._span : self.stride]
        return torch.from_numpy(out)

    def _views(self) -> list[np.ndarray] | None:
        """Of each block all its windows at once, [sample, first frame], where each is one plain array.

        Making such a view costs as much as copying a short window, so it is made once per process.
        """
        if self._mapped[0] != os.getpid():
            parts = [block.parts() for block in self.split.blocks]
            plain = [p[0][1] for p in parts if len(p) == 1 and isinstance(p[0][1], np.ndarray)]
            views = [_windows(array, self.length, self.stride) for array in plain]
            self._mapped = (os.getpid(), views if len(plain) == len(parts) else None)
        return self._mapped[1]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_mapped": (-1, None)}

    @staticmethod
    def collate(batch: Tensor) -> Tensor:
        """For a DataLoader: `__getitems__` already gives the batch."""
        return batch


def _windows(array: np.ndarray, length: int, stride: int) -> np.ndarray:
    """(n, T, ...) as overlapping windows (n, T - stride (length - 1), length, ...), without a copy."""
    frames = array.shape[1] - stride * (length - 1)
    n, t, *rest = array.strides
    return np.lib.stride_tricks.as_strided(
        array,
        (array.shape[0], max(0, frames), length, *array.shape[2:]),
        (n, t, stride * t, *rest),
        writeable=False,
    )


def batches(
    windows: Windows,
    batch_size: int,
    *,
    shuffle: bool = True,
    generator: torch.Generator | None = None,
    drop_last: bool = False,
) -> Iterator[Tensor]:
    """One pass over the windows in batches (B, T, C, *points), without a loader's overhead.

    Raises:
        UserError: batch_size is below 1.
    """
    if batch_size < 1:
        raise UserError(f"batches got batch_size={batch_size}; expected at least 1.")
    total = len(windows)
    order = torch.randperm(total, generator=generator) if shuffle else torch.arange(total)
    for start in range(0, total, batch_size):
        chosen = order[start : start + batch_size]
        if drop_last and len(chosen) < batch_size:
            return
        yield windows.__getitems__(chosen.tolist())
