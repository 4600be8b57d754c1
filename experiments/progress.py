"""Progress for people: a bar on a terminal, plain lines in a log, silence for machines. All on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """`done` units are finished; `note` is a short remark such as the loss; `total` corrects the sum."""


class _Quiet:
    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        pass


class _Lines:
    """A line at the start, every half minute, and at the end."""

    def __init__(self, title: str, total: int, every: float = 30.0) -> None:
        self.title, self.total, self.every = title, total, every
        self.began = self.last = time.monotonic()
        self.done, self.note = 0, ""
        print(f"{title}: {total} to do", file=sys.stderr, flush=True)

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        self.done, self.note, self.total = done, note or self.note, total or self.total
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            print(f"{self.title}: {done}/{self.total} {self.note}".rstrip(), file=sys.stderr, flush=True)

    def close(self) -> None:
        spent = time.monotonic() - self.began
        print(
            f"{self.title}: {self.done}/{self.total} in {spent:.1f} s {self.note}".rstrip(),
            file=sys.stderr,
            flush=True,
        )


class Reporter:
    """Says what is going on.

    Args:
        quiet: say nothing (for `--json`).
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Follow `total` units of work."""
        if self.quiet:
            yield _Quiet()
        elif not sys.stderr.isatty():
            lines = _Lines(title, total)
            yield lines
            lines.close()
        else:
            yield from _bar(title, total)


def _bar(title: str, total: int) -> Iterator[Task]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="")

        class Bar:
            def update(self, done: int, note: str = "", total: int | None = None) -> None:
                progress.update(task, completed=done, total=total)
                if note:
                    progress.update(task, note=note)

        yield Bar()
