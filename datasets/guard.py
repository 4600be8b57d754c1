"""Let a process that may be lost look at a file first.

The HDF5 library has been known to hang or crash on damaged or hostile files. Files are therefore walked once by
`walker.py` in a process of its own, and opened here only when that came through.
"""

from __future__ import annotations

import atexit
import json
import os
import selectors
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciml.errors import UserError

PATIENCE = 10.0
"""Seconds without a sign of life after which a walk is given up."""

_WALKER = Path(__file__).with_name("walker.py")

_safe: set[tuple[str, int, int, int]] = set()
"""Files that were walked: path, inode, size, time of change."""

_lock = threading.Lock()


class _Process:
    """A running walker of this process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, str(_WALKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def ask(self, path: str) -> str | None:
        """What is wrong with a file, or None."""
        assert self.process.stdin is not None and self.process.stdout is not None  # both are pipes
        try:
            self.process.stdin.write(json.dumps(path) + "\n")
        except BrokenPipeError:
            return "the process that walks through it ended"
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(PATIENCE):
                    self.end()
                    return f"HDF5 made no progress for {PATIENCE:g} s"
                line = self.process.stdout.readline()
                if not line:
                    self.end()
                    return "HDF5 crashed on it"
                answer = json.loads(line)
                if "ok" in answer:
                    return None
                if "error" in answer:
                    return str(answer["error"])

    def end(self) -> None:
        """Stop it at once."""
        self.process.kill()
        self.process.communicate()


_walker: _Process | None = None


def _end() -> None:
    if _walker is not None and _walker.owner == os.getpid():
        _walker.end()


atexit.register(_end)


def examine(path: Path) -> None:
    """See that HDF5 comes through a file, once for each state of it.

    Raises:
        UserError: it does not: the file is cut off, damaged, or made to do harm.
    """
    global _walker
    status = path.stat()
    key = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
    if key in _safe:
        return
    with _lock:
        if _walker is None or _walker.owner != os.getpid() or _walker.process.poll() is not None:
            _walker = _Process()
        fault = _walker.ask(str(path.resolve()))
    if fault is not None:
        cut = "truncated" in fault
        what = f"is cut off: {status.st_size} bytes are there" if cut else "cannot be read as HDF5"
        raise UserError(
            f"{path} {what} ({fault}). Expected a complete HDF5 file; copy or generate it again."
        )
    _safe.add(key)


@contextmanager
def understood(path: object) -> Iterator[None]:
    """Turn what goes wrong while a file is taken apart into words about the file; the cause stays attached.

    Raises:
        UserError: something went wrong.
    """
    try:
        yield
    except UserError:
        raise
    except (
        OSError,
        RuntimeError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        raise UserError(
            f"{path} is damaged or not what it looks like: {type(error).__name__}: {error}. Copy it again from where it "
            "came, or say what it lacks with hints."
        ) from error
