"""Measured numbers beside the levels they have to reach."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from sciml.odes.base import ODE
from sciml.pdes.base import PDE, Elliptic


@dataclass(frozen=True)
class Check:
    """One measured number and the level it has to reach.

    Args:
        name: what was measured.
        value: the number.
        level: what it is held against.
        sense: "at most" or "at least".
        setting: the set-up in words.
    """

    name: str
    value: float
    level: float
    sense: Literal["at most", "at least"]
    setting: str

    @property
    def passed(self) -> bool:
        """Whether the level is reached; never where the number is not finite."""
        if not math.isfinite(self.value):
            return False
        return self.value <= self.level if self.sense == "at most" else self.value >= self.level


@dataclass(frozen=True)
class Certificate:
    """What was measured of one equation's solvers.

    Args:
        pde: name of the equation.
        checks: the measured numbers.
        seconds: CPU time of the measurement [s].
    """

    pde: str
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check reached its level."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words, as `write` stores them; numbers that are not finite as words."""
        checks = []
        for check in self.checks:
            entry = {**asdict(check), "passed": check.passed}
            entry["value"] = check.value if math.isfinite(check.value) else str(check.value)
            checks.append(entry)
        return {"pde": self.pde, "passed": self.passed, "seconds": self.seconds, "checks": checks}

    def write(self, path: Path | str) -> None:
        """Store the certificate as JSON, under its name only when complete."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def table(certificates: Sequence[Certificate]) -> list[list[str]]:
    """Rows of text, the first one the header: equation, check, setting, measured, level, verdict."""
    rows = [["equation", "check", "setting", "measured", "level", "verdict"]]
    for certificate in certificates:
        for check in certificate.checks:
            # Orders read as 3.98, errors as 1.2e-09.
            form = ".2f" if 0.1 <= abs(check.value) < 100 else ".1e"
            rows.append(
                [
                    certificate.pde,
                    check.name,
                    check.setting,
                    format(check.value, form),
                    f"{check.sense} {check.level:g}",
                    "passed" if check.passed else "FAILED",
                ]
            )
    return rows


def at_most(name: str, value: float | Tensor, level: float, setting: str) -> Check:
    """A check of an error or a drift."""
    return Check(name, float(value), level, "at most", setting)


def at_least(name: str, value: float | Tensor, level: float, setting: str) -> Check:
    """A check of an order."""
    return Check(name, float(value), level, "at least", setting)


Suites = dict[type[PDE] | type[Elliptic] | type[ODE], Callable[[Any], list[Check]]]
"""What is measured of each equation, given its class; subclasses are measured like the equation they change."""
