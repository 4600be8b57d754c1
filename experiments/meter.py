"""What a training takes besides time: processor seconds and memory of the process that does it."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def peak_memory() -> int:
    """The most memory in bytes that this process held at once, since it began."""
    found = _status("VmHWM")  # of this program alone, where getrusage remembers the one that started it
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory() -> int:
    """The memory in bytes that this process holds now; its peak where the system does not say."""
    found = _status("VmRSS")
    return peak_memory() if found is None else found


def _status(name: str) -> int | None:
    """An entry of Linux's status of this process, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


class Meter:
    """Counts what a training takes, over all its sessions.

    The memory is that of the whole process, so it says something about the training where the process does
    nothing else. `own_memory` leaves out what was held before the first update: the program, the data, the
    weights.
    """

    def __init__(self) -> None:
        self._seconds, self._since = 0.0, None  # type: float, float | None
        self._floor: int | None = None
        self._before: dict[str, int] = {}

    def start(self) -> None:
        """The training begins or goes on."""
        self._since = time.process_time()
        if self._floor is None:
            self._floor = memory()

    def pause(self) -> None:
        """The training rests."""
        self._seconds, self._since = self._cpu(), None

    def _cpu(self) -> float:
        return self._seconds + (0.0 if self._since is None else time.process_time() - self._since)

    def read(self) -> dict[str, Any]:
        """cpu_seconds; peak_memory, own_memory and, with a GPU, device_memory in bytes."""
        peak = peak_memory()
        found = {
            "peak_memory": peak,
            "own_memory": max(0, peak - (peak if self._floor is None else self._floor)),
        }
        if torch.cuda.is_available():
            found["device_memory"] = torch.cuda.max_memory_allocated()
        most = {name: max(value, self._before.get(name, 0)) for name, value in found.items()}
        return {"cpu_seconds": self._cpu(), **most}

    def go_on(self, earlier: Mapping[str, Any]) -> None:
        """Take over what `read` gave in an earlier session."""
        self._seconds = float(earlier.get("cpu_seconds", 0.0))
        self._before = {name: int(value) for name, value in earlier.items() if name.endswith("memory")}
