"""The certificates of the dispersive and convective equations see a wrong sign and a wrong coefficient."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import Tensor

from sciml.calculus import Calculus
from sciml.pdes import (
    PDE,
    Burgers,
    ConservativeBurgers,
    GrossPitaevskii,
    KortewegDeVries,
    KuramotoSivashinsky,
    ScalarBurgers,
    Schroedinger,
)
from sciml.solvers.verify import verify


@dataclass(frozen=True)
class StrongKortewegDeVries(KortewegDeVries):
    """The dispersion one in a thousand too strong."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return 1.001 * KortewegDeVries.linear(self, u, calc)


@dataclass(frozen=True)
class RepelledSchroedinger(Schroedinger):
    """The wrong sign of the cubic term."""

    def potential(self, u: Tensor, calc: Calculus) -> Tensor:
        return -Schroedinger.potential(self, u, calc)


@dataclass(frozen=True)
class BackwardSchroedinger(Schroedinger):
    """i with the wrong sign in the linear part: mass is kept all the same."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -Schroedinger.linear(self, u, calc)


@dataclass(frozen=True)
class TightGrossPitaevskii(GrossPitaevskii):
    """The trap one per cent too strong, the interaction twice what the energy has.

    The centre of a swinging cloud notices the trap alone; the energy, which uses the same trap, notices
    the interaction alone.
    """

    def trap(self, u: Tensor, calc: Calculus) -> Tensor:
        return 1.01 * GrossPitaevskii.trap(self, u, calc)

    def potential(self, u: Tensor, calc: Calculus) -> Tensor:
        return 2 * GrossPitaevskii.potential(self, u, calc) - self.trap(u, calc)


@dataclass(frozen=True)
class CarriedBurgers(ConservativeBurgers):
    """(u . grad) u in the place of div(u u)/2."""

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return Burgers.nonlinear(self, u, calc)  # type: ignore[arg-type]


@dataclass(frozen=True)
class OneWayBurgers(ScalarBurgers):
    """Carried along x alone."""

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -0.5 * self.convection * calc.derivative(u.square(), 0)


@dataclass(frozen=True)
class SteepKuramotoSivashinsky(KuramotoSivashinsky):
    """|grad u|^2 in the place of |grad u|^2/2, in the form for the height alone."""

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        slope_form = calc.dimension == 1 and not self.integrated
        return (1.0 if slope_form else 2.0) * KuramotoSivashinsky.nonlinear(self, u, calc)


@pytest.mark.parametrize(
    ("pde", "checks"),
    [
        (
            StrongKortewegDeVries,
            {"error against a soliton", "error in 2D", "error after two solitons have met"},
        ),
        (RepelledSchroedinger, {"error against a soliton", "initial rate of a cosine"}),
        (BackwardSchroedinger, {"error against a plane wave in 3D", "difference to Yoshida's split-step"}),
        (
            TightGrossPitaevskii,
            {
                "error against a coherent state in 1D",
                "centre of a displaced cloud",
                "drift of energy",
                "breathing at twice the trap's frequency",
            },
        ),
        (CarriedBurgers, {"initial rate of two shear flows", "drift of momentum_x"}),
        (OneWayBurgers, {"error in 2D against Cole-Hopf", "initial rate of two waves"}),
        (
            SteepKuramotoSivashinsky,
            {"slope of the height against the derivative form", "initial rate of the height in 2D"},
        ),
    ],
)
def test_a_wrong_term_fails(pde: type[PDE], checks: set[str]) -> None:
    certificate = verify(pde)
    assert checks <= {c.name for c in certificate.checks if not c.passed}
