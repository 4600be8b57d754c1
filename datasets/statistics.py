"""Normalisation statistics, from the training split only, in the form of The Well's stats.yaml."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from sciml.datasets.blocks import Block, hand_back, read
from sciml.datasets.guard import understood
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.writer import write_bytes
from sciml.errors import UserError
from sciml.trajectory import Field, channel_names

STATE_KEYS = ("mean", "std", "rms")
DELTA_KEYS = ("mean_delta", "std_delta", "rms_delta")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Per channel, over samples, times and points, (C,) float64 each, in the units of the channel.

    `mean`, `std` (of the population) and `rms` of the state; `*_delta` of the difference of neighbouring
    stored frames, zero where there is only one frame. `inputs` holds those of the input fields of pairs.
    """

    channels: tuple[str, ...]
    mean: Tensor
    std: Tensor
    rms: Tensor
    mean_delta: Tensor
    std_delta: Tensor
    rms_delta: Tensor
    inputs: Statistics | None = None


class _Moments:
    """Count, mean and sum of squared deviations per channel, combined without cancellation."""

    def __init__(self, channels: int) -> None:
        self.count, self.mean, self.squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, values: np.ndarray) -> None:
        """Take in float64 values (T, C, *points)."""
        flat = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        n, mean = flat.shape[1], flat.mean(axis=1)
        squares = ((flat - mean[:, None]) ** 2).sum(axis=1)
        total = self.count + n
        shift = mean - self.mean
        # The law of total variance (Chan, Golub and LeVeque 1983, equation 2.1).
        self.squares += squares + shift**2 * (self.count * n / total)
        self.mean += shift * (n / total)
        self.count = total

    @property
    def results(self) -> tuple[Tensor, Tensor, Tensor]:
        """mean, std, rms."""
        variance = self.squares / max(self.count, 1)
        return tuple(  # type: ignore[return-value]
            torch.from_numpy(x) for x in (self.mean, np.sqrt(variance), np.sqrt(variance + self.mean**2))
        )


PIECE = 1 << 21
"""Values that are measured at a time."""


def _measure(blocks: Sequence[Block], channels: tuple[str, ...]) -> Statistics:
    state, delta = _Moments(len(channels)), _Moments(len(channels))
    seen = 0
    for block in blocks:
        frames, rows = block.shape[1], max(1, PIECE // math.prod(block.shape[2:]))
        buffer = np.empty((min(frames, rows + 1), *block.shape[2:]), dtype=np.float64)
        for sample in range(block.shape[0]):
            for start in range(0, frames, rows):
                before = min(start, 1)  # the difference to the frame before counts as well
                chosen = slice(start - before, min(start + rows, frames))
                part = buffer[: chosen.stop - chosen.start]
                read(block, sample, chosen, part)
                state.add(part[before:])
                if len(part) > 1:
                    delta.add(np.diff(part, axis=0))
                seen += part.size
                if seen > 8 * PIECE:  # nothing is read twice
                    hand_back()
                    seen = 0
    return Statistics(channels, *state.results, *delta.results)


def measure(split: Split | Pairs) -> Statistics:
    """Statistics of one split, computed in float64."""
    if isinstance(split, Split):
        return _measure(split.blocks, split.channels)
    inputs = _measure(split.input_blocks, split.input_channels)
    found = _measure(split.target_blocks, split.channels)
    return replace(found, inputs=inputs)


def _nested(values: Tensor, fields: Sequence[Field], dimension: int) -> dict[str, Any]:
    out, start = {}, 0
    for f in fields:
        count = dimension**f.rank
        part = values[start : start + count].reshape([dimension] * f.rank)
        out[f.name] = part.tolist()
        start += count
    return out


def write_statistics(
    path: Path,
    statistics: Statistics,
    fields: Sequence[Field],
    dimension: int,
    input_fields: Sequence[Field] = (),
) -> None:
    """Write stats.yaml: per key and field a number, a list of D, or D lists of D."""
    content: dict[str, dict[str, Any]] = {}
    for key in STATE_KEYS + DELTA_KEYS:
        content[key] = _nested(getattr(statistics, key), fields, dimension)
        if statistics.inputs is not None and key in STATE_KEYS:
            content[key] |= _nested(getattr(statistics.inputs, key), input_fields, dimension)
    write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())


def read_statistics(
    path: Path, fields: Sequence[Field], dimension: int, input_fields: Sequence[Field] = ()
) -> Statistics:
    """Read stats.yaml for the channels of `fields`, and of `input_fields` where there are any.

    Raises:
        UserError: it is missing, is not YAML, or lacks a key or a field.
    """
    if not path.is_file():
        raise UserError(
            f"{path} is missing, so nothing is known about how to normalise this dataset. Make it from the "
            f"training split with: python -m sciml.datasets.statistics {path.parent}"
        )
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or not {"mean", "std"} <= set(content):
        there = [str(key) for key in content] if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} must have 'mean' and 'std'; it has {there}.")
    with understood(path):
        found = _from_content(path, content, fields, dimension)
        if input_fields:
            inputs = _from_content(path, content, input_fields, dimension, delta=False)
            found = replace(found, inputs=inputs)
    return found


def _from_content(
    path: Path, content: dict[str, Any], fields: Sequence[Field], dimension: int, delta: bool = True
) -> Statistics:
    channels = channel_names(fields, dimension)
    values: dict[str, Tensor] = {}
    for key in STATE_KEYS + (DELTA_KEYS if delta else ()):
        if key not in content:
            continue
        parts = []
        for f in fields:
            if f.name not in content[key]:
                raise UserError(
                    f"{path} has no field {f.name!r} under {key!r}; it has {sorted(content[key])}. "
                    "Make the file again from the training split."
                )
            part = torch.as_tensor(content[key][f.name], dtype=torch.float64).reshape(-1)
            if len(part) != dimension**f.rank:
                raise UserError(
                    f"{path} gives {len(part)} numbers for {key} of {f.name!r}; expected {dimension**f.rank}."
                )
            parts.append(part)
        values[key] = torch.cat(parts)
    zero = torch.zeros(len(channels), dtype=torch.float64)
    return Statistics(
        channels,
        values["mean"],
        values["std"],
        values.get("rms", (values["std"].square() + values["mean"].square()).sqrt()),
        values.get("mean_delta", zero),
        values.get("std_delta", zero),
        values.get("rms_delta", zero),
    )


def make_statistics(path: str | Path) -> Path:
    """Measure the training split of a dataset folder and write its stats.yaml.

    Raises:
        UserError: the folder has no training split.
    """
    from sciml.datasets.reader import open as open_dataset

    dataset = open_dataset(path)
    split = dataset["train"]
    fields = split.input_fields if isinstance(split, Pairs) else ()
    target = dataset.path / "stats.yaml"
    write_statistics(target, measure(split), split.fields, split.dimension, fields)
    return target


if __name__ == "__main__":
    import sys

    try:
        print(make_statistics(sys.argv[1] if len(sys.argv) > 1 else "."))
    except UserError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
