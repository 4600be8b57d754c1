"""Measure what the solvers promise: orders in time and space, drift of the invariants, and the error against exact
solutions. Every number is held against the level it has to reach; the exit status is 1 if one does not.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from sciml.errors import UserError
from sciml.experiments.cli import Result
from sciml.experiments.commands.tables import columns

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.experiments.progress import Reporter

EXAMPLES = ("sciml verify", "sciml verify Burgers Heat", "sciml verify --out certificates --json")


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "pdes",
        type=str,
        nargs="*",
        help="equations (default: all, see `sciml list pdes` and `sciml list odes`)",
    )
    parser.add_argument("--out", type=str, help="folder that receives a certificate of each as JSON")


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.odes import ODES
    from sciml.pdes import PDES
    from sciml.solvers.verify import table, verify

    known = {cls.__name__: cls for cls in (*PDES, *ODES)}
    names = arguments.get("pdes") or list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(f"there is no equation {name!r}{hint} Expected some of {', '.join(known)}.")
    out = arguments.get("out")
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
    found = []
    with reporter.task("verify", len(names)) as task:
        for count, name in enumerate(names, start=1):
            certificate = verify(known[name])
            if out:
                certificate.write(Path(out) / f"{name}.json")
            found.append(certificate)
            task.update(count, name)
    failed = sum(not check.passed for c in found for check in c.checks)
    text = columns(table(found)) + f"\n\n{sum(len(c.checks) for c in found)} checks, {failed} failed"
    return Result([c.to_dict() for c in found], text, status=1 if failed else 0)
