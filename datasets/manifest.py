"""What a dataset folder says of itself: manifest.json, and the journal of a generation under way.

The manifest is written when a generation starts and when it ends. In between, each finished shard is one
line at the end of `journal.jsonl`, flushed to the disk, so that the cost of a shard does not grow with
their number and a kill loses at most the line that was being written. Reading takes both.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedRandom
from pathlib import Path
from typing import Any

from sciml.datasets.writer import PART, whole_file
from sciml.errors import UserError

NAME = "manifest.json"
JOURNAL = "journal.jsonl"
LOG = "generate.log"
VERSION = 2
"""Of the manifest. Version 1 has no parameters of the samples, so its files have to be opened one by one."""


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """While many small objects are made that all stay, looking for garbage costs as much as making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder with the shards of its journal; empty where there is none.

    Raises:
        UserError: it is damaged, or made by a later release.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        with without_collection():
            content = json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            f"{path} is not valid JSON: {error}. Restore it or generate the dataset again."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__}; expected a JSON object.")
    version = content.get("format_version", 1)
    if content.get("format") == "sciml" and (not isinstance(version, int) or version > VERSION):
        raise UserError(
            f"{path} has format version {version!r}; this release reads up to {VERSION}. Update sciml."
        )
    found = _journal_lines(folder / JOURNAL)
    if found and isinstance(content.get("shards"), list):
        listed = {entry["file"]: entry for entry in content["shards"]}
        content["shards"] = list((listed | found).values())
    return content


def _journal_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Entries of a journal by file, up to the first line that was not finished."""
    if not path.is_file():
        return {}
    lines = path.read_bytes().split(b"\n")[:-1]
    with without_collection():
        try:
            entries = json.loads(b"[" + b",".join(lines) + b"]")  # far faster than line by line
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            entries = list(_entries(lines))
        return {e["file"]: e for e in entries if isinstance(e, dict) and isinstance(e.get("file"), str)}


def _entries(lines: Sequence[bytes]) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            return


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write manifest.json, whole or not at all: one line a shard, so that it stays readable."""
    head = {name: value for name, value in content.items() if name != "shards"}
    lines = json.dumps(head, indent=2).rstrip("}").rstrip()
    encode = json.JSONEncoder(separators=(", ", ": ")).encode
    shards = ",\n".join(encode(entry) for entry in content["shards"])
    with whole_file(folder / NAME) as part:
        part.write_text(f'{lines},\n  "shards": [\n{shards}\n]\n}}\n')


class Journal:
    """The journal of one generation, which keeps others out of the folder meanwhile."""

    def __init__(self, file: BufferedRandom) -> None:
        self._file = file

    def add(self, entry: Mapping[str, Any]) -> None:
        """Note a shard that stands; once this returns, a crash does not lose it."""
        self._file.write(json.dumps(entry).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def clear(self) -> None:
        """Forget all lines: the manifest has them."""
        self._file.seek(0)
        self._file.truncate()


@contextlib.contextmanager
def locked_journal(folder: Path) -> Iterator[Journal]:
    """The journal of a folder, held by this process alone; a journal without lines is removed at the end.

    Raises:
        UserError: another process generates into the folder.
    """
    path = folder / JOURNAL
    with path.open("a+b") as file:
        _lock(file, folder)
        try:
            yield Journal(file)
        finally:
            if file.seek(0, os.SEEK_END) == 0:
                path.unlink(missing_ok=True)


def _lock(file: BufferedRandom, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"Another process is generating into {folder}. Wait for it, end it, or choose another folder."
        ) from error
    except OSError:  # a file system without locks
        return


def strangers(folder: Path) -> list[str]:
    """Names in a folder that no generation puts there."""
    own = (NAME, JOURNAL, LOG, "data")
    return sorted(p.name for p in folder.iterdir() if p.name not in own and not p.name.endswith(PART))


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of a run that was killed."""
    for place in (folder, *(p for p in folder.glob("data/*") if p.is_dir())):
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(PART)]
        for name in names:
            (place / name).unlink(missing_ok=True)
