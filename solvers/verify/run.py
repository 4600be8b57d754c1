"""Certificates of equations."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sciml.errors import UserError
from sciml.odes import ODES
from sciml.odes.base import ODE
from sciml.pdes import PDES
from sciml.pdes.base import PDE
from sciml.solvers.verify.certificate import Certificate
from sciml.solvers.verify.suites import SUITES


def verify(pde: type[PDE] | type[ODE]) -> Certificate:
    """Measure the solvers that `build` gives for an equation.

    Args:
        pde: one of `PDES` or `ODES`, or a subclass, whose coefficients are then held against the exact solutions
            of the equation it derives from.

    Raises:
        UserError: nothing is known to measure of this equation.
    """
    suite = next((SUITES[base] for base in pde.__mro__ if base in SUITES), None)
    if suite is None:
        raise UserError(
            f"verify got {pde.__name__}; it knows {[known.__name__ for known in SUITES]} and their subclasses."
        )
    start = time.process_time()
    checks = tuple(suite(pde))
    return Certificate(pde.__name__, checks, time.process_time() - start)


def verify_all(
    names: Sequence[str] | None = None, progress: Callable[[str], None] | None = None
) -> list[Certificate]:
    """Certificates of several equations, by class name in any case; of all of `PDES` and `ODES` where left out.

    Args:
        names: which ones.
        progress: called with the name of each equation before it is measured.

    Raises:
        UserError: an unknown name; the message lists the known ones.
    """
    known: dict[str, type[PDE] | type[ODE]] = {cls.__name__.lower(): cls for cls in (*PDES, *ODES)}
    unknown = [name for name in names or () if name.lower() not in known]
    if unknown:
        raise UserError(
            f"verify got {unknown}; expected some of {[cls.__name__ for cls in known.values()]}."
        )
    chosen = list(known.values()) if not names else [known[name.lower()] for name in names]
    certificates = []
    for cls in chosen:
        if progress is not None:
            progress(cls.__name__)
        certificates.append(verify(cls))
    return certificates
