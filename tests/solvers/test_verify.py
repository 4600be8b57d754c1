"""Certificates: every solver passes, and a wrong one does not."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from sciml.calculus import Calculus
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.pdes import PDE, PDES, Burgers, Heat, KuramotoSivashinsky, NavierStokesVorticity
from sciml.solvers.spectral import pseudo_spectral
from sciml.solvers.verify import Check, self_convergence, table, verify, verify_all
from sciml.solvers.verify.suites import LONG


@pytest.mark.parametrize("pde", PDES, ids=lambda c: c.__name__)
def test_every_equation_earns_its_certificate(pde: type[PDE]) -> None:
    certificate = verify(pde)
    failed = [check for check in certificate.checks if not check.passed]
    assert not failed
    assert len(certificate.checks) >= 5


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pde", LONG, ids=lambda c: c.__name__)
def test_what_takes_minutes_passes_too(pde: type[PDE]) -> None:
    short, certificate = verify(pde), verify(pde, long=True)
    failed = [check for check in certificate.checks if not check.passed]
    assert not failed
    assert len(certificate.checks) > len(short.checks)


@dataclass(frozen=True)
class WrongBurgers(Burgers):
    """The nonlinear term one per cent too strong."""

    def nonlinear(self, u: torch.Tensor, calc: Calculus) -> torch.Tensor:
        return 1.01 * Burgers.nonlinear(self, u, calc)


@dataclass(frozen=True)
class WrongHeat(Heat):
    """The diffusivity one in a thousand too large."""

    def linear(self, u: torch.Tensor, calc: Calculus) -> torch.Tensor:
        return 1.001 * Heat.linear(self, u, calc)


@dataclass(frozen=True)
class WrongKuramotoSivashinsky(KuramotoSivashinsky):
    """The wrong sign of the second derivative."""

    def linear(self, u: torch.Tensor, calc: Calculus) -> torch.Tensor:
        return calc.derivative(u, 0, 2) - calc.derivative(u, 0, 4)


@dataclass(frozen=True)
class WrongVorticity(NavierStokesVorticity):
    """Vorticity carried the wrong way: Taylor-Green vortices do not notice."""

    def nonlinear(self, u: torch.Tensor, calc: Calculus) -> torch.Tensor:
        return -NavierStokesVorticity.nonlinear(self, u, calc)


@pytest.mark.parametrize(
    ("pde", "check"),
    [
        (WrongBurgers, "error against Cole-Hopf"),
        (WrongHeat, "error in 1D"),
        (WrongKuramotoSivashinsky, "initial rate of a sine"),
        (WrongVorticity, "initial rate of two waves"),
    ],
)
def test_a_wrong_coefficient_fails(pde: type[PDE], check: str) -> None:
    certificate = verify(pde)
    assert not certificate.passed
    assert check in {c.name for c in certificate.checks if not c.passed}


def test_certificates_are_files_and_tables(tmp_path: Path) -> None:
    seen: list[str] = []
    (certificate,) = verify_all(["heat"], progress=seen.append)
    assert seen == ["Heat"]
    certificate.write(tmp_path / "certificate.json")
    stored = json.loads((tmp_path / "certificate.json").read_text())
    assert stored["pde"] == "Heat" and stored["passed"] is True
    assert len(stored["checks"]) == len(certificate.checks)
    assert [p.name for p in tmp_path.iterdir()] == ["certificate.json"]
    rows = table([certificate])
    assert rows[0][-1] == "verdict" and {row[-1] for row in rows[1:]} == {"passed"}
    assert all(len(row) == len(rows[0]) for row in rows)


def test_what_is_not_a_number_never_passes() -> None:
    for sense in ("at most", "at least"):
        for value in (math.nan, math.inf, -math.inf):
            check = Check("x", value, 1.0, sense, "")  # type: ignore[arg-type]
            assert not check.passed


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"\['burger'\]; expected some of \['Advection'"):
        verify_all(["heat", "burger"])
    with pytest.raises(UserError, match="PDE"):
        verify(PDE)


def test_self_convergence_is_the_error_of_the_coarse_solver() -> None:
    """Against Cole-Hopf the estimate has to be the true error, as the reference is far better."""
    pde = Burgers(0.1)
    grid = Grid((32,), (2 * math.pi,))
    x = grid.coordinates()[None]
    u0 = pde.exact(x, 0.0).contiguous()
    found = self_convergence(lambda g, n: pseudo_spectral(pde, g, 0.25, substeps=n), grid, 8, u0, 4)
    assert found.shape == (1, 5, 1) and float(found[0, 0, 0]) < 1e-14
    u = u0
    step = pseudo_spectral(pde, grid, 0.25, substeps=8)
    for index in range(1, 5):
        u = step(u)
        exact = pde.exact(x, 0.25 * index)
        truth = float((u - exact).norm() / exact.norm())
        # 32 points see the front poorly, 64 points ten times better.
        assert float(found[0, index, 0]) == pytest.approx(truth, rel=0.2)
