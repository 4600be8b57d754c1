"""In which order windows are drawn: reproducible, shared out over processes, and able to go on anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from sciml.errors import UserError

_DRAWS = 4096
"""Members of a mixture are drawn for so many batches at a time."""


class Order(Sampler[list[int]]):
    """Batches of indices from an endless, reproducible stream; a `batch_sampler` for a DataLoader.

    Pass p over a set of windows is a permutation drawn from (seed, p), cut into whole batches; what is left over is
    dropped. Batch k depends on (seed, k) alone, so that a stream can go on anywhere. Process r of R takes batches
    r, r + R, ..., so that all of them together see what one would have seen. Of a mixture each batch comes from one
    member, drawn from (seed, k) with the members' weights; each member has its own passes.

    Args:
        counts: number of windows, or of each member of a mixture (`Mixture.counts`).
        batch_size: windows per batch, of this process.
        seed: of the order.
        weights: of the members, any positive numbers; proportional to their windows without.
        rank, world: this process and how many there are, as in torch.distributed.
        first, last: batches of this process to start at, and to end before; one pass over everything without.

    Raises:
        UserError: there are no windows, or a number is out of range.
    """

    def __init__(
        self,
        counts: int | Sequence[int],
        batch_size: int,
        seed: int = 0,
        *,
        weights: Sequence[float] | None = None,
        rank: int = 0,
        world: int = 1,
        first: int = 0,
        last: int | None = None,
    ) -> None:
        self.counts = (counts,) if isinstance(counts, int) else tuple(counts)
        if not self.counts or min(self.counts) < 1 or batch_size < 1:
            raise UserError(
                f"Order got {list(self.counts)} windows and batches of {batch_size}; expected at least one of each. A split "
                "shorter than the windows that are asked for has none."
            )
        if not 0 <= rank < world:
            raise UserError(f"Order got rank {rank} of {world} processes; expected 0 <= rank < world.")
        if weights is not None and (len(weights) != len(self.counts) or not min(weights) > 0):
            raise UserError(
                f"Order got weights {list(weights)} for {len(self.counts)} sets of windows; expected a positive number "
                "for each."
            )
        self.seed, self.rank, self.world, self.first = seed, rank, world, first
        self.sizes = tuple(min(batch_size, count) for count in self.counts)
        self.per_pass = tuple(count // size for count, size in zip(self.counts, self.sizes, strict=True))
        self.weights = torch.tensor(self.per_pass if weights is None else weights, dtype=torch.float64)
        self.last = max(1, sum(self.per_pass) // world) if last is None else last
        if not 0 <= first <= self.last:
            raise UserError(f"Order got first={first}, last={self.last}; expected 0 <= first <= last.")

    def __len__(self) -> int:
        return self.last - self.first

    def __iter__(self) -> Iterator[list[int]]:
        starts = [sum(self.counts[:member]) for member in range(len(self.counts))]
        passes: dict[int, tuple[int, torch.Tensor]] = {}
        for member, number in self._members():
            index, position = divmod(number, self.per_pass[member])
            if passes.get(member, (-1,))[0] != index:
                passes[member] = (index, self._permutation(member, index))
            size = self.sizes[member]
            chosen = passes[member][1][position * size : (position + 1) * size]
            yield (chosen + starts[member]).tolist()

    def _permutation(self, member: int, index: int) -> torch.Tensor:
        key = (self.seed + 1) * 1_000_003 + index + member * 7_368_787
        return torch.randperm(self.counts[member], generator=torch.Generator().manual_seed(key))

    def _members(self) -> Iterator[tuple[int, int]]:
        """(member, number of the batch within the member) of each batch of this process."""
        wanted = range(self.first * self.world + self.rank, self.last * self.world, self.world)
        if len(self.counts) == 1:
            yield from ((0, number) for number in wanted)
            return
        before = torch.zeros(len(self.counts), dtype=torch.int64)
        drawn, block = torch.empty(0, dtype=torch.int64), -1
        for number in wanted:
            while block < number // _DRAWS:
                before += torch.bincount(drawn, minlength=len(self.counts))
                block += 1
                generator = torch.Generator().manual_seed((self.seed + 1) * 2_000_003 + block)
                drawn = torch.multinomial(self.weights, _DRAWS, replacement=True, generator=generator)
            at = number % _DRAWS
            member = int(drawn[at])
            yield member, int(before[member]) + int((drawn[:at] == member).sum())
