"""Tables and mappings as plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length with aligned columns, the first row underlined."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def outline(value: Mapping[str, Any], indent: int = 0) -> str:
    """A nested mapping, an entry a line; what is empty is left out."""
    lines = []
    for key, entry in value.items():
        if entry is None or entry == "" or entry == [] or entry == {}:
            continue
        start = f"{'  ' * indent}{key}:"
        if isinstance(entry, Mapping):
            lines += [start, outline(entry, indent + 1)]
        elif isinstance(entry, (list, tuple)) and any(isinstance(e, Mapping) for e in entry):
            lines += [start, *[f"{'  ' * (indent + 1)}{_inline(e)}" for e in entry]]
        else:
            lines.append(f"{start} {_inline(entry)}")
    return "\n".join(lines)


def _inline(entry: Any) -> str:
    if isinstance(entry, Mapping):
        return ", ".join(f"{k} {_inline(v)}" for k, v in entry.items())
    if isinstance(entry, (list, tuple)):
        return ", ".join(_inline(e) for e in entry)
    return f"{entry:.4g}" if isinstance(entry, float) else str(entry)
