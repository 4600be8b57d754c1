"""What a check has to say, and how it is put together."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

Level = Literal["error", "warning", "note"]

Topic = Literal["files", "values", "time", "duplicates", "statistics", "equation", "resolution"]
"""What a finding is about; reports are grouped by it, in this order."""

TOPICS: tuple[Topic, ...] = (
    *("files", "values", "time", "duplicates"),
    *("statistics", "equation", "resolution"),
)

REPEATS = 10
"""Findings of one kind that are told one by one; more are counted."""


@dataclass(frozen=True)
class Finding:
    """Something that was noticed, and where."""

    level: Level
    where: str
    message: str
    topic: Topic = "files"


@dataclass(frozen=True)
class Report:
    """What a check found. `ok` without errors; warnings are for a person to judge.

    Args:
        path: of what.
        findings: what was noticed.
        measured: a few numbers and words for people, by name.
        audit: per split what was measured of its values, for files and pictures.
    """

    path: str
    findings: tuple[Finding, ...]
    measured: dict[str, Any] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(f.level != "error" for f in self.findings)

    def of(self, topic: Topic) -> tuple[Finding, ...]:
        """The findings about one thing, errors first."""
        levels = ("error", "warning", "note")
        return tuple(
            sorted((f for f in self.findings if f.topic == topic), key=lambda f: levels.index(f.level))
        )

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON, which knows no infinity and no NaN: they become null."""
        return {
            "path": self.path,
            "ok": self.ok,
            "findings": [vars(f) for f in self.findings],
            "measured": _finite(self.measured),
            "audit": _finite(self.audit),
        }

    def __str__(self) -> str:
        lines = [f"{self.path}: {'ok' if self.ok else 'not ok'}"]
        for topic in TOPICS:
            lines += [f"  {f.level}: {f.where}: {f.message}" for f in self.of(topic)]
        lines += [f"  {name}: {_plain(value)}" for name, value in self.measured.items()]
        return "\n".join(lines)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Collector:
    """Takes findings in; of a kind that comes again and again it keeps the first few and a count."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._last: dict[tuple[str, str], Finding] = {}

    def add(self, finding: Finding, kind: str = "", split: str = "") -> None:
        """One finding; those of equal `kind` and `split` are alike, all others stand alone."""
        key = (kind, split)
        self._seen[key] += 1
        if not kind or self._seen[key] <= REPEATS:
            self._kept.append(finding)
        else:
            self._last[key] = finding

    def results(self) -> list[Finding]:
        """All findings, with a line for what was only counted."""
        more = [
            Finding(last.level, split, f"{self._seen[kind, split] - REPEATS} more: {kind}", last.topic)
            for (kind, split), last in self._last.items()
        ]
        return [*self._kept, *more]
