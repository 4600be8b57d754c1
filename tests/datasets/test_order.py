"""The order of windows: every window once a pass, the same from any start, shared out over processes."""

from __future__ import annotations

import pytest
import torch

from sciml.datasets import Order
from sciml.errors import UserError


def test_an_order_goes_on_where_it_stopped_and_covers_each_pass() -> None:
    whole = list(Order(10, 3, seed=4, last=9))
    assert whole[4:] == list(Order(10, 3, seed=4, first=4, last=9))
    for start in (0, 3, 6):
        seen = [i for batch in whole[start : start + 3] for i in batch]
        assert len(set(seen)) == 9 and max(seen) < 10
    assert whole != list(Order(10, 3, seed=5, last=9))
    assert len(list(Order(10, 3))) == 3  # one pass unless asked otherwise


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_together_see_what_one_would_see(world: int) -> None:
    together = [list(Order(100, 5, seed=1, rank=r, world=world, last=12 // world)) for r in range(world)]
    alternating = [batch for turn in zip(*together, strict=True) for batch in turn]
    assert alternating == list(Order(100, 5, seed=1, last=12))
    mixed = [
        list(Order((40, 60), 5, seed=1, weights=(1, 3), rank=r, world=world, last=12 // world))
        for r in range(world)
    ]
    alternating = [batch for turn in zip(*mixed, strict=True) for batch in turn]
    assert alternating == list(Order((40, 60), 5, seed=1, weights=(1, 3), last=12))


def test_a_mixture_follows_its_weights_and_goes_on_anywhere() -> None:
    counts, last = (30, 1000, 7), 9000  # beyond the block in which members are drawn
    whole = list(Order(counts, 4, seed=2, weights=(1.0, 2.0, 1.0), last=last))
    assert whole[5000:] == list(Order(counts, 4, seed=2, weights=(1.0, 2.0, 1.0), first=5000, last=last))
    members = torch.tensor([0 if b[0] < 30 else 1 if b[0] < 1030 else 2 for b in whole])
    share = torch.bincount(members).double() / last
    # A share p of n draws is off by sqrt(p (1 - p) / n) = 0.005 at most; four of them.
    assert (share - torch.tensor([0.25, 0.5, 0.25])).abs().max() < 0.02
    for low, high in ((0, 30), (30, 1030), (1030, 1037)):
        own = [b for b in whole if low <= b[0] < high]
        assert all(low <= i < high for b in own for i in b)
        per_pass = (high - low) // 4
        seen = [i for b in own[:per_pass] for i in b]
        assert len(set(seen)) == 4 * per_pass


def test_what_cannot_be_ordered_is_refused() -> None:
    with pytest.raises(UserError, match=r"\[0\] windows and batches of 4"):
        Order(0, 4)
    with pytest.raises(UserError, match="rank 2 of 2"):
        Order(8, 4, rank=2, world=2)
    with pytest.raises(UserError, match="positive number"):
        Order((8, 8), 4, weights=(1.0, 0.0))
