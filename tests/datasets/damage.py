"""Damage files and look at what becomes of them; run in a process of its own, since a library might crash.

python damage.py FOLDER SEED COUNT: mutates each file under FOLDER/<case>/ COUNT times and prints a line of JSON for each.
A case is a folder that `open` knows; one of its files is damaged at a time.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

FLIPS = 8

CHECKSUMS = ("native", "meshgraphnets")
"""Layouts that carry checksums."""


def mutate(data: bytes, generator: np.random.Generator) -> tuple[str, bytes]:
    """One kind of damage and the damaged bytes."""
    size = len(data)
    kind = str(generator.choice(["cut", "flip", "head", "zero", "noise", "grow", "swap", "numbers"]))
    out = bytearray(data)
    at = int(generator.integers(size))
    length = int(generator.integers(1, max(2, min(512, size // 2))))
    if kind == "cut":
        return kind, data[:at]
    if kind == "flip":
        for place in generator.integers(size, size=int(generator.integers(1, FLIPS))):
            out[int(place)] ^= 1 << int(generator.integers(8))
    elif kind == "head":  # where formats keep what they say about themselves
        for place in generator.integers(min(size, 4096), size=int(generator.integers(1, FLIPS))):
            out[int(place)] = int(generator.integers(256))
    elif kind == "zero":
        out[at : at + length] = bytes(len(out[at : at + length]))
    elif kind == "noise":
        out[at : at + length] = generator.bytes(len(out[at : at + length]))
    elif kind == "grow":
        out[at:at] = generator.bytes(length)
    elif kind == "swap":
        other = int(generator.integers(size))
        a, b = bytes(out[at : at + length]), bytes(out[other : other + length])
        if len(a) == len(b):
            out[at : at + length], out[other : other + length] = b, a
    else:  # a length or offset that is as large as can be
        width = int(generator.choice([4, 8]))
        at = min(at, size - width)
        out[at : at + width] = b"\xff" * width if generator.integers(2) else b"\x7f" + b"\xff" * (width - 1)
    return kind, bytes(out)


def values(path: Path, hints: object) -> list[np.ndarray]:
    """All values of a dataset, split by split, sample by sample."""
    import sciml.datasets as datasets

    found = []
    dataset = datasets.open(path, hints)  # type: ignore[arg-type]
    for split in dataset.splits.values():
        for sample in range(len(split)):
            item = split[sample]
            parts = [item.data] if isinstance(split, datasets.Split) else item
            found += [part.numpy() for part in parts]
    return found


def outcome(path: Path, hints: object, original: list[np.ndarray] | None = None) -> tuple[str, str]:
    """What opening, looking, reading and checking give, and the words.

    "refused" by an error, "complained" by the check, "read" in silence; "wrong" if what was read in silence is not what
    was stored, where the layout has checksums to tell.
    """
    import sciml.datasets as datasets
    from sciml.errors import UserError

    try:
        datasets.describe(path, hints)  # type: ignore[arg-type]
        found = values(path, hints)
        report = datasets.check(path, hints)  # type: ignore[arg-type]
    except UserError as fault:
        return "refused", str(fault)
    if not report.ok:
        return "complained", str(report)
    if original is not None and not (
        len(found) == len(original)
        and all(np.array_equal(a, b) for a, b in zip(found, original, strict=True))
    ):
        return "wrong", ""
    return "read", ""


def main(folder: Path, seed: int, count: int, hints: dict[str, dict[str, Any]]) -> None:
    """Print a line for each damaged file: case, number, kind, file, outcome, words, seconds, growth in bytes."""
    import sciml.datasets as datasets
    from sciml import Field
    from sciml.datasets import guard

    guard.PATIENCE = 3.0
    generator = np.random.default_rng(seed)
    for case in sorted(p for p in folder.iterdir() if p.is_dir()):
        said = dict(hints.get(case.name, {}))
        if "fields" in said:
            said["fields"] = tuple(Field(name) for name in said["fields"])
        given = datasets.Hints(**said)
        files = sorted(p for p in case.rglob("*") if p.is_file() and p.suffix not in (".png", ".md"))
        original = values(case, given) if case.name in CHECKSUMS else None
        whole, words = outcome(case, given, original)  # and what is loaded on first use is no file's fault
        assert whole == "read", f"{case.name}, undamaged: {words}"
        work = folder.parent / f"{folder.name}-work"
        for number in range(count):
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(case, work)
            chosen = files[int(generator.integers(len(files)))].relative_to(case)
            kind, damaged = mutate((case / chosen).read_bytes(), generator)
            (work / chosen).write_bytes(damaged)
            line = {"case": case.name, "number": number, "kind": kind, "file": str(chosen)}
            print(json.dumps(line | {"outcome": "begun"}), flush=True)
            began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            try:
                found, words = outcome(work, given, original)
            except BaseException as error:
                import traceback

                found, words = "raised", "".join(traceback.format_exception(error)[-3:])
            growth = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
            seconds = time.perf_counter() - began
            line |= {"outcome": found, "words": words, "seconds": seconds, "growth": growth}
            print(json.dumps(line), flush=True)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4]))
