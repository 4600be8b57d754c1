"""Short pieces of trajectories for training, a whole batch at a time.

The way through Python per sample is what costs, so a batch is gathered into one buffer:
`DataLoader(windows, batch_sampler=Order(len(windows), 64), collate_fn=Windows.collate)` calls `__getitems__`, and
`batches` does the same without a loader.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from sciml.datasets.blocks import read, touch
from sciml.datasets.scaling import Scaling
from sciml.errors import UserError

if TYPE_CHECKING:
    from sciml.datasets.splits import Split

FEW = 48
"""Windows that are found one by one faster than all at once by numpy."""

VIEWS = 4096
"""Blocks of which a process keeps the view of all windows."""


class Windows(TorchDataset[Tensor]):
    """All windows of history + horizon frames of a split, (history + horizon, C, *points), float32.

    Neighbouring frames of a window lie `stride` stored frames apart; windows start at every frame and
    never cross from one trajectory into the next. A trajectory of T frames gives
    T - stride * (history + horizon - 1) windows, and none if it is too short.

    Batches have the axes (B, history + horizon, C, *points). Where the file keeps the components of a vector side by
    side, so does the batch (torch's channels-last order of memory), since turning them would cost as much as reading;
    `.contiguous()` turns them.

    Args:
        split: where the trajectories lie.
        history: frames that are given.
        horizon: frames that follow.
        stride: stored frames from one to the next.
        scaling: applied to what is read; physical units without.

    Raises:
        UserError: an argument is below 1, no trajectory is long enough, or the samples lie on meshes of
            different sizes, which do not stack: see `MeshWindows`.
    """

    def __init__(
        self,
        split: Split,
        history: int = 1,
        horizon: int = 1,
        stride: int = 1,
        scaling: Scaling | None = None,
    ) -> None:
        if min(history, horizon, stride) < 1:
            raise UserError(
                f"windows got history={history}, horizon={horizon}, stride={stride}; each must be at least 1."
            )
        shapes = {block.shape[2:] for block in split.blocks}
        if len(shapes) != 1:
            raise UserError(
                f"The samples of split {split.name!r} have different points {sorted(s[1:] for s in shapes)}; "
                "windows of different meshes do not stack. Take split.mesh_windows(), which joins them to one mesh."
            )
        self.split, self.history, self.horizon, self.stride = split, history, horizon, stride
        self.scaling = scaling
        self.length = history + horizon
        self.shape = (self.length, *shapes.pop())
        self._index = _Index(split, self.length, stride)
        self._views: tuple[int, list[dict[int, Any]]] = (-1, [])
        self._shape, self._turn, self._bytes = tuple[int, ...](), tuple[int, ...](), 0
        self._channels: list[slice] = []

    def __len__(self) -> int:
        return self._index.total

    def locate(self, index: int) -> tuple[int, int, int]:
        """(block, sample in the block, first frame) of a window.

        Raises:
            IndexError: there is no such window.
        """
        return self._index.locate(index)

    def __getitem__(self, index: int) -> Tensor:
        self.locate(index)  # a message about this index, not about a batch
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """A batch (B, history + horizon, C, *points) of windows, filled in one buffer."""
        places = self._index.places(indices)
        self._look()
        out, shared = _memory((len(places), *self._shape))
        # Shown with the axes of a batch, whatever its order in memory, and cut into what the files keep apart.
        turned = out.transpose(self._turn)
        for part, chosen in enumerate(self._channels):
            target = turned[:, :, chosen] if len(self._channels) > 1 else turned
            sources = self._known(part)
            for row, (block, sample, frame) in enumerate(places):
                source = sources.get(block)
                if source is None:
                    source = self._source(block, part)
                target[row] = source[sample, frame]
        touch(len(places), self._bytes)
        batch = torch.from_numpy(turned) if shared is None else shared.permute(self._turn)
        return batch if self.scaling is None else self.scaling(batch, axis=2)

    def _look(self) -> None:
        """Learn from the first block how files keep the channels, and with that the order of a batch in memory."""
        if self._channels:
            return
        parts = self.split.blocks[0].parts()
        array = parts[0][1]
        rank, (length, channels, *points) = len(self.shape) + 1, self.shape
        # A block's components lie side by side if the step along their axis is one number.
        if (
            len(parts) == 1
            and isinstance(array, np.ndarray)
            and channels > 1
            and array.strides[2] == array.itemsize
        ):
            self._shape, self._turn = (length, *points, channels), (0, 1, rank - 1, *range(2, rank - 1))
        else:
            self._shape, self._turn = (length, channels, *points), tuple(range(rank))
        self._channels = [chosen for chosen, _ in parts]
        self._bytes = 4 * math.prod(self.shape)

    def _known(self, part: int) -> dict[int, Any]:
        """What this process knows of where windows come from, for one of the arrays of each block."""
        if self._views[0] != os.getpid():
            self._views = (os.getpid(), [{} for _ in self._channels])
        return self._views[1][part]

    def _source(self, block: int, part: int) -> Any:
        """Where the windows of one of a block's arrays come from, indexed [sample, first frame].

        Of a plain array this is a view of all its windows. Making it costs as much as copying a short window, so it
        is made once per process.
        """
        parts = self.split.blocks[block].parts()
        if [channels for channels, _ in parts] != self._channels:
            raise UserError(
                f"The files of split {self.split.name!r} keep their fields differently; convert the dataset to 'native'."
            )
        known, source = self._known(part), parts[part][1]
        if len(known) >= VIEWS:
            known.clear()
        if isinstance(source, np.ndarray):
            known[block] = _windows(source, self.length, self.stride)
        else:
            known[block] = _Reader(source, self.length, self.stride)
        return known[block]

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_views": (-1, [])}

    @staticmethod
    def collate(batch: Any) -> Any:
        """For a DataLoader: `__getitems__` already gives the batch."""
        return batch


def _memory(shape: tuple[int, ...]) -> tuple[np.ndarray, Tensor | None]:
    """Uninitialised float32 memory; in a DataLoader's worker such that the other process need not copy it."""
    if get_worker_info() is None:  # numpy's memory: torch's alignment keeps the allocator from reusing it
        return np.empty(shape, dtype=np.float32), None
    storage = torch.UntypedStorage._new_shared(4 * math.prod(shape))
    shared = torch.empty(0).set_(storage, 0, shape)  # type: ignore[call-overload]
    return shared.numpy(), shared


class _Index:
    """Which window is where: `length` frames `stride` apart, block by block, sample by sample, frame by frame."""

    def __init__(self, split: Split, length: int, stride: int) -> None:
        span = stride * (length - 1)
        per_block = [max(0, block.shape[1] - span) for block in split.blocks]
        counts = np.array([block.shape[0] for block in split.blocks], dtype=np.int64) * per_block
        if not counts.sum():
            longest = max(block.shape[1] for block in split.blocks)
            raise UserError(
                f"Split {split.name!r} has at most {longest} frames per trajectory; windows of {length} frames "
                f"{stride} apart need {span + 1}. Shorten history, horizon or stride."
            )
        self.per_block = np.array(per_block)
        self.ends = np.cumsum(counts)
        self.starts = self.ends - counts
        self.total = int(self.ends[-1])
        # The same as lists, for few indices at a time.
        self._ends, self._starts, self._per_block = self.ends.tolist(), self.starts.tolist(), per_block

    def locate(self, index: int) -> tuple[int, int, int]:
        if not -self.total <= index < self.total:
            raise IndexError(f"There are {self.total} windows; got index {index}.")
        return self.places([index])[0]

    def _place(self, index: int) -> tuple[int, int, int]:
        if not -self.total <= index < self.total:
            raise IndexError(f"There are {self.total} windows; got indices up to {index}.")
        index %= self.total
        block = bisect_right(self._ends, index)
        sample, frame = divmod(index - self._starts[block], self._per_block[block])
        return block, sample, frame

    def places(self, indices: Sequence[int]) -> list[tuple[int, int, int]]:
        """(block, sample, first frame) of each window.

        Raises:
            IndexError: there is no such window.
        """
        if len(indices) <= FEW:
            return [self._place(int(i)) for i in indices]
        index = np.asarray(indices, dtype=np.int64)
        if index.size and not (-self.total <= int(index.min()) and int(index.max()) < self.total):
            raise IndexError(f"There are {self.total} windows; got indices up to {int(index.max())}.")
        index = index % self.total
        blocks = np.searchsorted(self.ends, index, side="right")
        samples, frames = np.divmod(index - self.starts[blocks], self.per_block[blocks])
        return list(zip(blocks.tolist(), samples.tolist(), frames.tolist(), strict=True))


class _Reader:
    """Windows of what cannot be mapped."""

    def __init__(self, source: Any, length: int, stride: int) -> None:
        self._source, self._span, self._stride = source, stride * (length - 1) + 1, stride

    def __getitem__(self, place: tuple[int, int]) -> np.ndarray:
        sample, frame = place
        found: np.ndarray = self._source[sample, slice(frame, frame + self._span, self._stride)]
        return found


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


class LeadPairs(TorchDataset[Any]):
    """Pairs of states any number of frames apart, with the time between them: (u_i, u_j, t_j - t_i).

    What models conditioned on a lead time learn from (Herde et al., Poseidon, 2024, take all pairs). Every pair with
    `least` <= j - i <= `most` counts once. A batch is (B, C, *points), (B, C, *points), (B,) [time].

    Args:
        split: where the trajectories lie; evenly spaced in time.
        most: frames between the two, at most; the longest trajectories' length without.
        least: frames between the two, at least; 0 includes the identity.
        scaling: applied to both states.

    Raises:
        UserError: there is no such pair, or the samples do not stack.
    """

    def __init__(
        self, split: Split, most: int | None = None, least: int = 1, scaling: Scaling | None = None
    ) -> None:
        most = split.frames - 1 if most is None else most
        if not 0 <= least <= most or most >= split.frames:
            raise UserError(
                f"lead times from {least} to {most} frames do not fit into trajectories of {split.frames} frames."
            )
        self.split, self.scaling = split, scaling
        self.windows = Windows(split, 1, 1)
        self.leads = range(least, most + 1)
        self._indices = [_Index(split, 2, lead) for lead in self.leads]
        self._ends = np.cumsum([index.total for index in self._indices])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        given, wanted, lead = self.__getitems__([index])
        return given[0], wanted[0], lead[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Given and wanted states (B, C, *points) and the times between them (B,), float32."""
        if any(not -len(self) <= i < len(self) for i in indices):
            raise IndexError(f"There are {len(self)} pairs; got indices up to {max(indices)}.")
        count, leads = len(indices), []
        out = np.empty((2, count, *self.windows.shape[1:]), dtype=np.float32)
        for row, wanted in enumerate(indices):
            wanted %= len(self)
            which = int(np.searchsorted(self._ends, wanted, side="right"))
            before = int(self._ends[which - 1]) if which else 0
            block, sample, frame = self._indices[which].locate(wanted - before)
            lead = self.leads[which]
            for end, at in enumerate((frame, frame + lead)):
                for channels, source in self.split.blocks[block].parts():
                    out[end, row, channels] = source[sample, slice(at, at + 1)][0]
            few = len(self.split.block_times) == 1
            times = self.split.block_times[0 if few else block]
            leads.append(float(times[frame + lead] - times[frame]))
        touch(2 * count, out[0, 0].nbytes)
        both = torch.from_numpy(out)
        if self.scaling is not None:
            both = self.scaling(both, axis=2)
        return both[0], both[1], torch.tensor(leads, dtype=torch.float32)

    collate = staticmethod(Windows.collate)


class Mixture(TorchDataset[Any]):
    """Several sets of windows one after the other: datasets, splits, or resolutions of one problem.

    A batch comes from one of them, since states of different shapes do not stack; `Order(mixture.counts, weights=...)`
    draws such batches, each set as often as its weight says.

    Args:
        members: windows or pairs, each with `__getitems__`.

    Raises:
        UserError: there are none.
    """

    def __init__(self, members: Sequence[Windows | LeadPairs | MeshWindows]) -> None:
        if not members:
            raise UserError("A mixture needs at least one set of windows.")
        self.members = tuple(members)
        self._ends = np.cumsum([len(member) for member in self.members]).tolist()

    @property
    def counts(self) -> tuple[int, ...]:
        """Windows of each member."""
        return tuple(len(member) for member in self.members)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def member_of(self, index: int) -> int:
        """Which member an index belongs to."""
        return bisect_right(self._ends, index)

    def __getitem__(self, index: int) -> Any:
        member = self.member_of(index)
        return self.members[member][index - (self._ends[member - 1] if member else 0)]

    def __getitems__(self, indices: Sequence[int]) -> Any:
        """One batch of one member.

        Raises:
            UserError: the indices belong to several.
        """
        chosen = {self.member_of(i) for i in indices}
        if len(chosen) != 1:
            raise UserError(
                f"A batch of a mixture got windows of members {sorted(chosen)}; each batch comes from one of them, as "
                "Order(mixture.counts, ...) draws them."
            )
        member = chosen.pop()
        before = self._ends[member - 1] if member else 0
        return self.members[member].__getitems__([i - before for i in indices])

    collate = staticmethod(Windows.collate)


class MeshWindows(TorchDataset[Any]):
    """Windows of trajectories on meshes of different sizes, joined to one mesh of separate parts.

    A batch is (1, history + horizon, C, N) with N nodes in all, the mesh of the parts side by side, and the number of
    nodes (B,) of each: message passing on the joined mesh is message passing on each part. The arguments are those of
    `Windows`.

    Raises:
        UserError: the samples lie on something else than meshes, or no trajectory is long enough.
    """

    def __init__(
        self,
        split: Split,
        history: int = 1,
        horizon: int = 1,
        stride: int = 1,
        scaling: Scaling | None = None,
    ) -> None:
        from sciml.domains import Mesh

        if not all(isinstance(domain, Mesh) for domain in split.domains):
            kind = type(split.domains[0]).__name__
            raise UserError(
                f"The samples of split {split.name!r} lie on a {kind}; mesh windows need meshes."
            )
        if min(history, horizon, stride) < 1:
            raise UserError(
                f"windows got history={history}, horizon={horizon}, stride={stride}; each must be at least 1."
            )
        self.split, self.length, self.stride, self.scaling = split, history + horizon, stride, scaling
        self._index = _Index(split, self.length, stride)

    def __len__(self) -> int:
        return self._index.total

    def __getitem__(self, index: int) -> tuple[Tensor, Any, Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, Any, Tensor]:
        """States (1, history + horizon, C, N), the joined mesh, and the nodes (B,) of each part."""
        from sciml.domains import join

        places = self._index.places(indices)
        domains: list[Any] = [
            self.split.domains[0 if len(self.split.domains) == 1 else block] for block, _, _ in places
        ]
        nodes = [domain.shape[0] for domain in domains]
        out = np.empty((1, self.length, self.split.blocks[0].shape[2], sum(nodes)), dtype=np.float32)
        span, start = self.stride * (self.length - 1) + 1, 0
        for (block, sample, frame), count in zip(places, nodes, strict=True):
            frames = slice(frame, frame + span, self.stride)
            read(self.split.blocks[block], sample, frames, out[0, :, :, start : start + count])
            start += count
        states = torch.from_numpy(out)
        if self.scaling is not None:
            states = self.scaling(states, axis=2)
        return states, join(domains), torch.tensor(nodes)

    collate = staticmethod(Windows.collate)


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
