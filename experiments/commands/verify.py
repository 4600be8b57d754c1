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

EXAMPLES = (
    "sciml verify --all",
    "sciml verify Burgers Heat",
    "sciml verify my_equation.py",
    "sciml verify NavierStokes --long",
    "sciml verify --out certificates --json",
)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "pdes",
        type=str,
        nargs="*",
        help="equations (default: all, see `sciml list pdes` and `sciml list odes`), or a file of your own ones",
    )
    parser.add_argument("--all", action="store_true", help="all equations, as without names")
    parser.add_argument(
        "--long",
        action="store_true",
        help="with what takes minutes: published flows, fine references, ten thousand steps",
    )
    parser.add_argument("--out", type=str, help="folder that receives a certificate of each as JSON")


def execute(arguments: Namespace, reporter: Reporter) -> Result:
    from sciml.odes import ODE, ODES
    from sciml.pdes import ELLIPTIC, PDE, PDES, Elliptic
    from sciml.solvers.verify import equations_of, table, verify

    every: tuple[type[PDE] | type[Elliptic] | type[ODE], ...] = (*PDES, *ELLIPTIC, *ODES)
    known = {cls.__name__: cls for cls in every}
    names = arguments.get("pdes") or list(known)
    if arguments.get("all") and arguments.get("pdes"):
        raise UserError(f"verify got --all and the names {', '.join(names)}; give one of the two.")
    chosen: list[type[PDE] | type[Elliptic] | type[ODE]] = []
    for name in names:
        if name.endswith(".py"):
            chosen += equations_of(Path(name))
        elif name in known:
            chosen.append(known[name])
        else:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(
                f"there is no equation {name!r}{hint} Expected some of {', '.join(known)}, or the path of a .py file."
            )
    out = arguments.get("out")
    if out:
        Path(out).mkdir(parents=True, exist_ok=True)
    found = []
    with reporter.task("verify", len(chosen)) as task:
        for count, cls in enumerate(chosen, start=1):
            certificate = verify(cls, long=bool(arguments.get("long")))
            if out:
                certificate.write(Path(out) / f"{cls.__name__}.json")
            found.append(certificate)
            task.update(count, cls.__name__)
    failed = sum(not check.passed for c in found for check in c.checks)
    text = columns(table(found)) + f"\n\n{sum(len(c.checks) for c in found)} checks, {failed} failed"
    return Result([c.to_dict() for c in found], text, status=1 if failed else 0)
