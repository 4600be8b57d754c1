"""Progress for people: a bar on a terminal, plain lines in a log, silence for machines. All on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """`done` units are finished; `note` is a short remark such as the loss; `total` corrects the sum."""


def duration(seconds: float) -> str:
    """A time as people say it: 0.4 s, 75 s, 12 min, 5 h 20 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class _Pace:
    """How fast it goes and how long it still takes; what stood before the start counts for neither."""

    def __init__(self, share: bool = False) -> None:
        self._share = share
        self._first: tuple[float, int] | None = None

    def text(self, done: int, total: int) -> str:
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = (now, done)
        began, before = self._first
        if done <= before or now <= began:
            return ""
        rate = (done - before) / (now - began)
        left = f"{duration((total - done) / rate)} left" if done < total else ""
        return ", ".join(part for part in ("" if self._share else f"{rate:.3g}/s", left) if part)


class _Lines:
    """A line at the start, every half minute, and at the end."""

    def __init__(
        self, title: str, total: int, say: Callable[[str], None], every: float = 30.0, share: bool = False
    ) -> None:
        self.title, self.total, self.every, self._say, self.share = title, total, every, say, share
        self.began = self.last = time.monotonic()
        self.done, self.note = 0, ""
        self._pace, self._how_fast = _Pace(share), ""
        say(title if share else f"{title}: {total} to do")

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        self.done, self.note, self.total = done, note or self.note, total or self.total
        self._how_fast = self._pace.text(done, self.total)
        if time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self._tell(self._how_far())

    def _how_far(self) -> str:
        return f"{100 * self.done / self.total:.0f} %" if self.share else f"{self.done}/{self.total}"

    def _tell(self, how_far: str) -> None:
        rest = ", ".join(part for part in (self._how_fast, self.note) if part)
        self._say(f"{self.title}: {how_far}" + (f", {rest}" if rest else ""))

    def close(self) -> None:
        self._tell(f"{self._how_far()} in {duration(time.monotonic() - self.began)}")


class _All:
    """Several followers of one piece of work."""

    def __init__(self, parts: Sequence[Task]) -> None:
        self._parts = parts

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        for part in self._parts:
            part.update(done, note, total)


class _Log:
    """Lines with the time of day at the end of a file, which is made when the first one comes into its folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: list[str] = []

    def say(self, text: str) -> None:
        self._waiting.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        if self._path.parent.is_dir():
            # A log that cannot be written must not end the work that it tells of.
            with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                file.writelines(self._waiting)
            self._waiting = []


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
    def task(self, title: str, total: int, log: Path | None = None, share: bool = False) -> Iterator[Task]:
        """Follow `total` units of work.

        Args:
            title: what is done.
            total: units of it.
            log: a file that gets the same as plain lines, also when nothing else is said.
            share: the units are nothing that people would count; tell them as a percentage.
        """
        with contextlib.ExitStack() as stack:
            parts: list[Task] = []
            if not self.quiet and sys.stderr.isatty():
                parts.append(stack.enter_context(_bar(title, total, share)))
            elif not self.quiet:
                lines = _Lines(title, total, self.say, share=share)
                parts.append(stack.enter_context(contextlib.closing(lines)))
            if log is not None:
                lines = _Lines(title, total, _Log(log).say, share=share)
                parts.append(stack.enter_context(contextlib.closing(lines)))
            yield _All(parts)


@contextmanager
def _bar(title: str, total: int, share: bool) -> Iterator[Task]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn() if share else MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total, note="", pace="")
        pace = _Pace(share)

        class Bar:
            def update(self, done: int, note: str = "", total: int | None = None) -> None:
                how_fast = pace.text(done, total or int(progress.tasks[0].total or 0))
                progress.update(task, completed=done, total=total, pace=how_fast)
                if note:
                    progress.update(task, note=note)

        yield Bar()
