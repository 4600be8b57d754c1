"""Certificates of equations."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sciml.errors import UserError
from sciml.odes import ODES
from sciml.odes.base import ODE
from sciml.pdes import ELLIPTIC, PDES
from sciml.pdes.base import PDE, Elliptic, SemiLinear
from sciml.solvers.verify.certificate import Certificate
from sciml.solvers.verify.suites import LONG, SUITES
from sciml.solvers.verify.suites.general import semi_linear


def verify(pde: type[PDE] | type[Elliptic] | type[ODE], *, long: bool = False) -> Certificate:
    """Measure the solvers that `build` gives for an equation.

    Args:
        pde: one of `PDES`, `ELLIPTIC` or `ODES`, or a subclass, whose coefficients are then held against the exact solutions
            of the equation it derives from; or any `SemiLinear` of one's own with defaults for its parameters.
        long: measure what takes minutes too, where there is such a thing for the equation: published flows, fine
            references, ten thousand steps.

    Raises:
        UserError: nothing is known to measure of this equation.
    """
    suite = next((SUITES[base] for base in pde.__mro__ if base in SUITES), None)
    if suite is None and issubclass(pde, SemiLinear):
        suite = semi_linear
    if suite is None:
        raise UserError(
            f"verify got {pde.__name__}; it knows {[known.__name__ for known in SUITES]}, their subclasses and any "
            "SemiLinear."
        )
    start = time.process_time()
    checks = tuple(suite(pde))
    more = next((LONG[base] for base in pde.__mro__ if base in LONG), None)
    if long and more is not None:
        checks += tuple(more(pde))
    return Certificate(pde.__name__, checks, time.process_time() - start)


def equations_of(path: Path) -> list[type[PDE]]:
    """The equations that a Python file states: subclasses of `PDE` defined there.

    The file is run: take files that you trust.

    Raises:
        UserError: there is no such file, it is not Python, or it states none.
    """
    if not path.is_file():
        raise UserError(f"verify got {path}, which does not exist.")
    spec = importlib.util.spec_from_file_location(f"sciml_equations_{path.stem}", path)
    assert spec is not None and spec.loader is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise UserError(f"verify got {path}, which is not valid Python: {error}.") from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, PDE) and value.__module__ == spec.name
    ]
    if not found:
        raise UserError(f"verify got {path}, which defines no equation: no subclass of sciml.pdes.PDE.")
    return found


def verify_all(
    names: Sequence[str] | None = None, progress: Callable[[str], None] | None = None
) -> list[Certificate]:
    """Certificates of several equations, by class name in any case; of all of `PDES`, `ELLIPTIC` and `ODES` where left
    out.

    Args:
        names: which ones.
        progress: called with the name of each equation before it is measured.

    Raises:
        UserError: an unknown name; the message lists the known ones.
    """
    every: tuple[type[PDE] | type[Elliptic] | type[ODE], ...] = (*PDES, *ELLIPTIC, *ODES)
    known = {cls.__name__.lower(): cls for cls in every}
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
