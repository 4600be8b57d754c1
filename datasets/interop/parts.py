"""Some samples or frames of a block, and splits cut from one list of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from sciml.datasets.blocks import Block
from sciml.datasets.schema import SPLITS
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Domain
from sciml.errors import UserError


class Selected:
    """Some samples of a block, in that order, and its first frames.

    Args:
        block: what they are taken from.
        rows: places in the block.
        frames: how many frames are kept, all by default.
    """

    def __init__(self, block: Block, rows: Sequence[int], frames: int | None = None) -> None:
        self.block, self.rows = block, rows
        self.shape = (len(rows), block.shape[1] if frames is None else frames, *block.shape[2:])

    def parts(self) -> Sequence[tuple[slice, Any]]:
        found: list[tuple[slice, Any]] = []
        for channels, source in self.block.parts():
            if isinstance(self.rows, range) and self.rows.step == 1 and isinstance(source, np.ndarray):
                found.append((channels, source[self.rows.start : self.rows.stop, : self.shape[1]]))
            else:
                found.append((channels, _Rows(source, self.rows, self.shape[1])))
        return found


@dataclass(frozen=True)
class _Rows:
    source: Any
    rows: Sequence[int]
    frames: int

    def __getitem__(self, index: tuple[int, slice]) -> np.ndarray:
        sample, frames = index
        return self.source[self.rows[sample], slice(*frames.indices(self.frames))]


class Together:
    """The channels of several blocks of the same samples, frames and points, one block after the other."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)
        shape = self.blocks[0].shape
        self.shape = (*shape[:2], sum(b.shape[2] for b in self.blocks), *shape[3:])

    def parts(self) -> Sequence[tuple[slice, Any]]:
        found, start = [], 0
        for block in self.blocks:
            for channels, source in block.parts():
                found.append((slice(start + channels.start, start + channels.stop), source))
            start += block.shape[2]
        return found


def select(blocks: Sequence[Block], rows: Sequence[int]) -> tuple[tuple[Block, ...], list[int]]:
    """The given samples of a list of blocks, and of each kept block its place in the list.

    Args:
        blocks: one after the other.
        rows: rising places among all their samples.
    """
    kept: list[Block] = []
    places: list[int] = []
    start, wanted = 0, np.asarray(rows, dtype=np.int64)
    for place, block in enumerate(blocks):
        stop = start + block.shape[0]
        inside = (wanted[np.searchsorted(wanted, start) : np.searchsorted(wanted, stop)] - start).tolist()
        if inside:
            whole = len(inside) == block.shape[0]
            together = inside[-1] - inside[0] + 1 == len(inside)
            chosen = range(inside[0], inside[-1] + 1) if together else inside
            kept.append(block if whole else Selected(block, chosen))
            places.append(place)
        start = stop
    return tuple(kept), places


def take(split: Split | Pairs, name: str, rows: Sequence[int]) -> Split | Pairs:
    """Some samples of a split, at rising places, under a name of their own."""
    index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
    parameters = {key: values[index] for key, values in split.parameters.items()}
    if isinstance(split, Pairs):
        return replace(
            split,
            name=name,
            input_blocks=select(split.input_blocks, rows)[0],
            target_blocks=select(split.target_blocks, rows)[0],
            parameters=parameters,
        )
    blocks, places = select(split.blocks, rows)
    one_domain, one_time = len(split.domains) == 1, len(split.block_times) == 1
    domains: tuple[Domain, ...] = split.domains if one_domain else tuple(split.domains[p] for p in places)
    times = split.block_times if one_time else tuple(split.block_times[p] for p in places)
    return replace(
        split, name=name, blocks=blocks, domains=domains, block_times=times, parameters=parameters
    )


def divide(
    whole: Split | Pairs, parts: Sequence[float], *, positional: bool = False
) -> Mapping[str, Split | Pairs]:
    """Train, valid and test of one list of samples; a part of nothing is left out.

    Whole trajectories are drawn without order and always the same ones, so that no part knows another;
    positionally, the first are for training and the last for the test.

    Args:
        whole: all samples.
        parts: three fractions that sum to one, or three numbers of samples, as in `Hints.split`.
        positional: keep the order.

    Raises:
        UserError: there are fewer samples than asked for, or none would be left for training.
    """
    total = len(whole)
    if abs(sum(parts) - 1) < 1e-6:
        valid, test = (int(total * part + 1e-9) for part in parts[1:])
        # A part that was asked for is not rounded to nothing while there are samples for it.
        valid, test = (max(n, 1) if p > 0 else 0 for n, p in zip((valid, test), parts[1:], strict=True))
        train = total - valid - test
    else:
        train, valid, test = (int(n) for n in parts)
    if train + valid + test > total or (train < 1 and parts[0] > 0) or train < 0:
        raise UserError(
            f"{total} samples cannot be divided into split={tuple(parts)}: that is {train} for training, {valid} for "
            f"validation and {test} for the test. Give other numbers."
        )
    if positional:
        bounds = (0, train), (total - test - valid, total - test), (total - test, total)
        rows: list[Sequence[int]] = [range(a, b) for a, b in bounds]
    else:
        order = np.random.default_rng(0).permutation(total).tolist()
        ends = np.cumsum([0, train, valid, test]).tolist()
        rows = [sorted(order[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
    return {name: take(whole, name, part) for name, part in zip(SPLITS, rows, strict=True) if len(part)}
