"""An equation of one's own gets a certificate; a wrong one fails it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor

from sciml.calculus import Calculus
from sciml.errors import UserError
from sciml.pdes import AllenCahn, Burgers, Heat, KortewegDeVries, SemiLinear, Wave
from sciml.solvers.verify import equations_of, verify
from sciml.solvers.verify.suites.general import semi_linear

FILE = Path(__file__).parents[2] / "docs" / "examples" / "own_equation.py"


@dataclass(frozen=True)
class Line(Burgers):
    """In one dimension only, to be quick."""

    dimensions = (1,)


@dataclass(frozen=True)
class Plane(Wave):
    dimensions = (2,)


@dataclass(frozen=True)
class Phase(AllenCahn):
    diffusivity: float = 0.1
    dimensions = (1,)


@pytest.mark.parametrize("cls", [Line, Plane, Phase])
def test_known_equations_pass_as_if_they_were_unknown(cls: type[SemiLinear]) -> None:
    failed = [check for check in semi_linear(cls) if not check.passed]
    assert not failed, failed


@dataclass(frozen=True)
class Stronger(Heat):
    """A coefficient that is not that of its exact solution."""

    dimensions = (1,)

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return 1.01 * Heat.linear(self, u, calc)


@dataclass(frozen=True)
class Turned(KortewegDeVries):
    """The wrong sign of the nonlinear term."""

    dimensions = (1,)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -KortewegDeVries.nonlinear(self, u, calc)


@dataclass(frozen=True)
class Aliased(Burgers):
    """A product of three factors that says it has two."""

    dimensions = (1,)

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return Burgers.nonlinear(self, u, calc) + calc.coordinates(u).sin()


@pytest.mark.parametrize("cls", [Stronger, Turned, Aliased])
def test_wrong_equations_fail(cls: type[SemiLinear]) -> None:
    assert not all(check.passed for check in semi_linear(cls))


def test_a_file_of_ones_own() -> None:
    (cls,) = equations_of(FILE)
    assert cls.__name__ == "DampedBurgers"
    certificate = verify(cls)
    assert certificate.passed and len(certificate.checks) == 3


def test_files_without_equations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        equations_of(tmp_path / "none.py")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(UserError, match="defines no equation"):
        equations_of(empty)
    empty.write_text("def\n")
    with pytest.raises(UserError, match="not valid Python"):
        equations_of(empty)
