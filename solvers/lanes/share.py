"""Threads for compiled loops that leave the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def share(units: int, run: Callable[[int, int], None]) -> None:
    """run(first, end) over all units, by as many threads as torch may use."""
    threads = min(torch.get_num_threads(), units)
    if threads <= 1:
        run(0, units)
        return
    bounds = [units * t // threads for t in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run, a, b) for a, b in zip(bounds, bounds[1:], strict=False)]:
            done.result()
