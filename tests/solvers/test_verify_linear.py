"""Certificates of linear equations fail for every wrong term, not only for a wrong total."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from torch import Tensor, cat

from sciml.calculus import Calculus
from sciml.pdes import PDE, AnisotropicDiffusion, Dispersion, HyperDiffusion, LinearEquation, Wave
from sciml.pdes.linear_equation import along
from sciml.solvers.verify.suites import SUITES


def _scaled(order: int, factor: float) -> type[LinearEquation]:
    @dataclass(frozen=True)
    class Wrong(LinearEquation):
        """One order with another coefficient than stated."""

        def linear(self, u: Tensor, calc: Calculus) -> Tensor:
            a = self.coefficients[order] if order < len(self.coefficients) else 0.0
            terms = [calc.derivative(u, axis, order) for axis in range(calc.dimension if order else 1)]
            values = [along(a, axis, calc.dimension) for axis in range(len(terms))]
            excess = sum((factor - 1) * v * term for v, term in zip(values, terms, strict=True))
            return LinearEquation.linear(self, u, calc) + excess

    return Wrong


@dataclass(frozen=True)
class SwappedAxes(LinearEquation):
    """Coefficients of the axes in the opposite order."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        turned = tuple(a[::-1] if isinstance(a, tuple) else a for a in self.coefficients)
        return LinearEquation(turned).linear(u, calc)


@dataclass(frozen=True)
class HalfMixed(AnisotropicDiffusion):
    """Each mixed derivative counted once, where the tensor has it twice."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        full, diagonal = AnisotropicDiffusion.linear(self, u, calc), 0 * u
        for axis in range(calc.dimension):
            diagonal = diagonal + self.entry(axis, axis, calc.dimension) * calc.derivative(u, axis, 2)
        return 0.5 * (full + diagonal)


@dataclass(frozen=True)
class WrongSign(AnisotropicDiffusion):
    """Mixed derivatives of the opposite sign."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        plain = AnisotropicDiffusion.linear(self, u, calc)
        # plain = diagonal + mixed, and half = diagonal + mixed/2.
        return 4 * HalfMixed.linear(self, u, calc) - 3 * plain  # type: ignore[arg-type]


@dataclass(frozen=True)
class PureDispersion(Dispersion):
    """Third derivatives alone, without the mixed ones."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return LinearEquation((0.0, 0.0, 0.0, self.dispersivity)).linear(u, calc)


@dataclass(frozen=True)
class BackwardDispersion(Dispersion):
    """Waves travel the other way."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return -Dispersion.linear(self, u, calc)


@dataclass(frozen=True)
class PureHyperDiffusion(HyperDiffusion):
    """Fourth derivatives alone, without the mixed one."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        assert isinstance(self.hyper_diffusivity, float)
        return LinearEquation((0.0, 0.0, 0.0, 0.0, -self.hyper_diffusivity)).linear(u, calc)


@dataclass(frozen=True)
class UnsquaredSpeed(Wave):
    """c in place of c^2."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return Wave(self.speed**0.5, self.damping).linear(u, calc)


@dataclass(frozen=True)
class HalfDamping(Wave):
    """Half of the stated damping, as if it were that of the amplitude."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        return replace(Wave(self.speed, self.damping), damping=0.5 * self.damping).linear(u, calc)


@dataclass(frozen=True)
class StiffMean(Wave):
    """A weak spring that holds the mean, which then no longer drifts."""

    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        rate = Wave.linear(self, u, calc)
        return cat([rate[:, :1], rate[:, 1:] - 1e-6 * u[:, :1]], dim=1)


@pytest.mark.parametrize(
    ("pde", "check"),
    [
        *[(_scaled(order, 1.001), "error in 3D") for order in range(5)],
        *[(_scaled(order, -1.0), "error in 1D") for order in (1, 3)],
        (SwappedAxes, "error in 2D"),
        (HalfMixed, "error in 2D"),
        (WrongSign, "initial rate of two waves"),
        (PureDispersion, "error in 2D"),
        (BackwardDispersion, "error in 1D"),
        (PureHyperDiffusion, "error in 2D"),
        (UnsquaredSpeed, "error against d'Alembert's halves"),
        (HalfDamping, "error of damped waves in 1D"),
        (StiffMean, "error of the drifting mean"),
    ],
)
def test_a_wrong_term_fails(pde: type[PDE], check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Differences in space take most of the time of a certificate and do not judge coefficients alone.
    for suite in ("linear", "waves"):
        monkeypatch.setattr(f"sciml.solvers.verify.suites.{suite}.differences", _no_differences)
    suite_of = next(SUITES[base] for base in pde.__mro__ if base in SUITES)
    failed = {c.name for c in suite_of(pde) if not c.passed}
    assert check in failed


def _no_differences(*_: object) -> object:
    from sciml.solvers.verify import at_most

    return at_most("left out", 0.0, 1.0, "")


@pytest.mark.parametrize("pde", [LinearEquation, AnisotropicDiffusion, Dispersion, HyperDiffusion, Wave])
def test_the_right_terms_pass(pde: type[PDE], monkeypatch: pytest.MonkeyPatch) -> None:
    for suite in ("linear", "waves"):
        monkeypatch.setattr(f"sciml.solvers.verify.suites.{suite}.differences", _no_differences)
    assert not [c for c in SUITES[pde](pde) if not c.passed]
