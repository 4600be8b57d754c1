"""One part of a dataset: its trajectories, or its pairs of input and target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sciml.datasets.blocks import Block, Thinned, read
from sciml.datasets.schema import require_memory
from sciml.datasets.windows import LeadPairs, MeshWindows, Windows
from sciml.domains import Domain, Grid
from sciml.errors import UserError
from sciml.trajectory import Field, Trajectory, channel_names

if TYPE_CHECKING:
    import pandas
    import xarray

    from sciml.datasets.scaling import Scaling


@dataclass(frozen=True, eq=False)
class Split:
    """Trajectories (T, C, *points) with float32 states, read when asked for.

    Args:
        name: "train", "valid", "test" or what the source calls it.
        fields: the quantities behind the channels.
        blocks: where the trajectories lie, in order.
        domains: the domain of each block; one for all if there is only one.
        times: the times of each block (T,), float64; one for all if there is only one.
        parameters: numbers that differ between samples, name -> (N,) float64.
    """

    name: str
    fields: tuple[Field, ...]
    blocks: tuple[Block, ...]
    domains: tuple[Domain, ...]
    block_times: tuple[Tensor, ...]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        starts = np.cumsum([0, *(block.shape[0] for block in self.blocks)])
        object.__setattr__(self, "_starts", starts)

    def __len__(self) -> int:
        starts: np.ndarray = self._starts  # type: ignore[attr-defined]
        return int(starts[-1])

    def locate(self, sample: int) -> tuple[int, int]:
        """(block, place in the block) of a sample."""
        starts: np.ndarray = self._starts  # type: ignore[attr-defined]
        block = int(np.searchsorted(starts, sample, side="right")) - 1
        return block, sample - int(starts[block])

    @property
    def domain(self) -> Domain:
        """The domain that all samples share.

        Raises:
            UserError: each sample has its own mesh; ask `domain_of(sample)`.
        """
        if len(self.domains) != 1:
            raise UserError(
                f"The samples of split {self.name!r} lie on {len(self.domains)} different domains; "
                "use split.domain_of(sample)."
            )
        return self.domains[0]

    def domain_of(self, sample: int) -> Domain:
        """The domain of one sample."""
        return self.domains[0] if len(self.domains) == 1 else self.domains[self.locate(sample)[0]]

    @property
    def times(self) -> Tensor:
        """Times (T,) of the longest trajectories."""
        return max(self.block_times, key=len)

    def times_of(self, sample: int) -> Tensor:
        """Times (T,) of one sample."""
        few = len(self.block_times) == 1
        return self.block_times[0] if few else self.block_times[self.locate(sample)[0]]

    @property
    def frames(self) -> int:
        """Number of frames of the longest trajectories, the initial state included."""
        return len(self.times)

    @property
    def dimension(self) -> int:
        """Number of space axes."""
        return self.domains[0].dimension

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels (C,)."""
        return channel_names(self.fields, self.dimension)

    def __getitem__(self, sample: int) -> Trajectory:
        """One sample as a Trajectory with a batch of one."""
        if not -len(self) <= sample < len(self):
            raise IndexError(f"Split {self.name!r} has {len(self)} samples; got index {sample}.")
        return self.trajectories(slice(sample % len(self), sample % len(self) + 1))

    def trajectories(self, samples: slice | Sequence[int] = slice(None)) -> Trajectory:
        """Several samples as one Trajectory (B, T, C, *points), read into memory.

        Raises:
            UserError: they differ in length or lie on different domains, or there are none.
        """
        chosen = range(len(self))[samples] if isinstance(samples, slice) else list(samples)
        if not chosen:
            raise UserError(f"No samples chosen from split {self.name!r}, which has {len(self)}.")
        places = [self.locate(i) for i in chosen]
        shapes = {self.blocks[b].shape[1:] for b, _ in places}
        domains = {id(self.domain_of(i)) for i in chosen}
        if len(shapes) != 1 or len(domains) != 1:
            raise UserError(
                f"The chosen samples of split {self.name!r} have shapes (T, C, *points) {sorted(shapes)} on "
                f"{len(domains)} domains and do not fit into one batch; read them one at a time."
            )
        shape = (len(chosen), *shapes.pop())
        require_memory(4 * math.prod(shape), f"Reading {len(chosen)} samples of split {self.name!r}")
        out = np.empty(shape, dtype=np.float32)
        for row, (b, i) in enumerate(places):
            read(self.blocks[b], i, slice(None), out[row])
        index = torch.tensor(list(chosen))
        return Trajectory(
            torch.from_numpy(out),
            self.domain_of(chosen[0]),
            self.times_of(chosen[0]),
            self.fields,
            {name: values[index] for name, values in self.parameters.items()},
        )

    def pieces(self, budget: int = 1 << 26) -> Iterator[tuple[int, Trajectory]]:
        """All samples in order, as few Trajectories as fit: (first sample, samples of one domain and length).

        Args:
            budget: bytes of states in each; a single sample may be larger.
        """
        start, total = 0, len(self)
        while start < total:
            block, place = self.locate(start)
            shape, domain, times = self.blocks[block].shape[1:], self.domain_of(start), self.times_of(start)
            room = max(1, budget // (4 * math.prod(shape)))
            stop = start
            while stop < total and stop - start < room:
                block, place = self.locate(stop)
                known = self.times_of(stop)
                same = known is times or (len(known) == len(times) and bool((known == times).all()))
                if self.blocks[block].shape[1:] != shape or self.domain_of(stop) is not domain or not same:
                    break
                stop += min(self.blocks[block].shape[0] - place, room - (stop - start))
            yield start, self.trajectories(slice(start, stop))
            start = stop

    def windows(
        self, history: int = 1, horizon: int = 1, stride: int = 1, scaling: Scaling | None = None
    ) -> Windows:
        """Windows of history + horizon frames, `stride` frames apart, never across two trajectories."""
        return Windows(self, history, horizon, stride, scaling)

    def mesh_windows(
        self, history: int = 1, horizon: int = 1, stride: int = 1, scaling: Scaling | None = None
    ) -> MeshWindows:
        """Windows of trajectories on meshes that may differ, joined to one mesh per batch."""
        return MeshWindows(self, history, horizon, stride, scaling)

    def lead_pairs(
        self, most: int | None = None, least: int = 1, scaling: Scaling | None = None
    ) -> LeadPairs:
        """Pairs of states `least` to `most` frames apart with the time between them."""
        return LeadPairs(self, most, least, scaling)

    def thinned(self, points: int = 1, frames: int = 1) -> Split:
        """The same trajectories at fewer points and times.

        Args:
            points: every so-manieth node of a grid per axis, or the mean over so many cells.
            frames: every so-manieth frame, the first one kept.

        Raises:
            UserError: the numbers of points or cells are not divisible, or the samples do not lie on grids.
        """
        if points < 1 or frames < 1:
            raise UserError(f"thinned got points={points}, frames={frames}; each must be at least 1.")
        domains, blocks = self.domains, list[Block]()
        if points > 1:
            coarse = [_coarser(domain, points) for domain in domains]
            domains = tuple(coarse)
            for i, block in enumerate(self.blocks):
                grid = coarse[0 if len(coarse) == 1 else i]
                blocks.append(Thinned(block, grid.shape, points, frames, cells=grid.centering == "cell"))
        else:
            blocks = [Thinned(block, block.shape[3:], 1, frames) for block in self.blocks]
        times = tuple(known[::frames] for known in self.block_times)
        return replace(self, blocks=tuple(blocks), domains=domains, block_times=times)

    def to_xarray(self, samples: slice | Sequence[int] = slice(None)) -> xarray.Dataset:
        """Samples as labelled arrays; see `Trajectory.to_xarray`."""
        return self.trajectories(samples).to_xarray()

    def to_pandas(self) -> pandas.DataFrame:
        """The numbers of each sample, a row each: its parameters, its frames, its last time."""
        import pandas

        columns = {name: values.numpy() for name, values in self.parameters.items()}
        counts = [block.shape[0] for block in self.blocks]
        columns["frames"] = np.repeat([block.shape[1] for block in self.blocks], counts)
        few = len(self.block_times) == 1
        last = [float(self.block_times[0 if few else i][-1]) for i in range(len(counts))]
        columns["last_time"] = np.repeat(last, counts)
        return pandas.DataFrame(columns, index=pandas.RangeIndex(len(self), name="sample"))

    def limited(self, samples: int) -> Split:
        """The first samples only.

        Raises:
            UserError: there are fewer.
        """
        if not 1 <= samples <= len(self):
            raise UserError(f"Split {self.name!r} has {len(self)} samples; asked for the first {samples}.")
        blocks, left = [], samples
        for block in self.blocks:
            if left <= 0:
                break
            blocks.append(_First(block, min(left, block.shape[0])))
            left -= block.shape[0]
        count = len(blocks)
        return replace(
            self,
            blocks=tuple(blocks),
            domains=self.domains if len(self.domains) == 1 else self.domains[:count],
            block_times=self.block_times if len(self.block_times) == 1 else self.block_times[:count],
            parameters={name: values[:samples] for name, values in self.parameters.items()},
        )


class _First:
    """The first samples of a block."""

    def __init__(self, block: Block, count: int) -> None:
        self._block, self.shape = block, (count, *block.shape[1:])
        self.parts = block.parts


def _coarser(domain: Domain, factor: int) -> Grid:
    """A grid of every `factor`-th node, or of cells `factor` times as wide.

    Raises:
        UserError: it is no grid, or its points cannot be taken so.
    """
    if not isinstance(domain, Grid):
        raise UserError(
            f"Only points of a grid can be thinned out; these samples lie on a {type(domain).__name__}."
        )
    shape = []
    for n, periodic in zip(domain.shape, domain.periodic, strict=True):
        gaps = n if periodic or domain.centering == "cell" else n - 1
        if gaps % factor:
            what = "cells" if domain.centering == "cell" else "steps between nodes"
            raise UserError(
                f"A grid of {domain.shape} cannot be thinned {factor} times: {gaps} {what} are not a multiple of it."
            )
        shape.append(gaps // factor + n - gaps)
    return domain.resized(tuple(shape))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of static fields: coefficient or source -> solution, all on one grid.

    Args:
        name: "train", "valid", "test" or what the source calls it.
        input_fields: the quantities behind the A input channels.
        fields: the quantities behind the C target channels.
        input_blocks, target_blocks: where they lie, as blocks (n, 1, A or C, *points).
        domain: where the points lie.
        parameters: numbers that differ between samples, name -> (N,) float64.
    """

    name: str
    input_fields: tuple[Field, ...]
    fields: tuple[Field, ...]
    input_blocks: tuple[Block, ...]
    target_blocks: tuple[Block, ...]
    domain: Domain
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(block.shape[0] for block in self.target_blocks)

    @property
    def dimension(self) -> int:
        """Number of space axes."""
        return self.domain.dimension

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the target channels (C,)."""
        return channel_names(self.fields, self.domain.dimension)

    @property
    def input_channels(self) -> tuple[str, ...]:
        """Names of the input channels (A,)."""
        return channel_names(self.input_fields, self.domain.dimension)

    @property
    def inputs(self) -> Tensor:
        """All inputs (N, A, *points), float32, read into memory."""
        return _gather(self.input_blocks)

    @property
    def targets(self) -> Tensor:
        """All targets (N, C, *points), float32, read into memory."""
        return _gather(self.target_blocks)

    def to_xarray(self) -> xarray.Dataset:
        """All pairs as labelled arrays, inputs and targets by name; see `Trajectory.to_xarray`."""
        at = torch.zeros(1, dtype=torch.float64)
        parts = ((self.inputs, self.input_fields), (self.targets, self.fields))
        given, wanted = (
            Trajectory(values.unsqueeze(1), self.domain, at, fields, self.parameters)
            .to_xarray()
            .isel(time=0, drop=True)
            for values, fields in parts
        )
        return given.merge(wanted)

    def to_pandas(self) -> pandas.DataFrame:
        """The parameters of each sample, a row each."""
        import pandas

        columns = {name: values.numpy() for name, values in self.parameters.items()}
        return pandas.DataFrame(columns, index=pandas.RangeIndex(len(self), name="sample"))

    def __getitem__(self, sample: int) -> tuple[Tensor, Tensor]:
        """Input (A, *points) and target (C, *points) of one sample."""
        if not -len(self) <= sample < len(self):
            raise IndexError(f"Split {self.name!r} has {len(self)} samples; got index {sample}.")
        sample %= len(self)
        return _one(self.input_blocks, sample), _one(self.target_blocks, sample)


def _one(blocks: Sequence[Block], sample: int) -> Tensor:
    for block in blocks:
        if sample < block.shape[0]:
            out = np.empty((1, *block.shape[2:]), dtype=np.float32)
            read(block, sample, slice(0, 1), out)
            return torch.from_numpy(out[0])
        sample -= block.shape[0]
    raise IndexError(f"sample {sample} lies beyond the last block")


def _gather(blocks: Sequence[Block]) -> Tensor:
    total = sum(block.shape[0] for block in blocks)
    shape = (total, 1, *blocks[0].shape[2:])
    require_memory(4 * math.prod(shape), f"Reading {total} samples")
    out = np.empty(shape, dtype=np.float32)
    row = 0
    for block in blocks:
        for i in range(block.shape[0]):
            read(block, i, slice(0, 1), out[row])
            row += 1
    return torch.from_numpy(out[:, 0])
