"""Certificates of systems without space: every one passes, and a wrong term does not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sciml.odes import ODE, ODES, DoublePendulum, HenonHeiles, Lorenz63, Lorenz96, MackeyGlass, Roessler
from sciml.solvers.verify import verify, verify_all
from sciml.solvers.verify.suites import odes


def test_certificates_of_systems_are_asked_for_by_name() -> None:
    (found,) = verify_all(["henonheiles"])
    assert found.passed and found.pde == "HenonHeiles" and len(found.checks) >= 8


@pytest.mark.parametrize("cls", [c for c in ODES if c is not HenonHeiles], ids=lambda c: c.__name__)
def test_every_system_earns_its_certificate(cls: type) -> None:
    assert not [check for check in verify(cls).checks if not check.passed]


@dataclass(frozen=True)
class WrongLorenz63(Lorenz63):
    """y' one in a thousand too strongly damped."""

    def rhs(self, u: Tensor) -> Tensor:
        return Lorenz63.rhs(self, u) - 1e-3 * u * u.new_tensor([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class WrongLorenz96(Lorenz96):
    """Carried the other way round the ring, which keeps sum u^2 as well."""

    def rhs(self, u: Tensor) -> Tensor:
        return Lorenz96.rhs(self, u.flip(1)).flip(1)


@dataclass(frozen=True)
class WrongRoessler(Roessler):
    """The growth a of y one per cent too strong."""

    def rhs(self, u: Tensor) -> Tensor:
        return Roessler.rhs(self, u) + 0.002 * u * u.new_tensor([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class WrongDoublePendulum(DoublePendulum):
    """Gravity of the second mass one per cent too strong, in energy and rates alike: still Hamiltonian."""

    def hamiltonian(self, u: Tensor) -> Tensor:
        extra = 0.01 * self.masses[1] * self.gravity * self.lengths[1]
        return DoublePendulum.hamiltonian(self, u) - extra * torch.cos(u[:, 1])

    def rhs(self, u: Tensor) -> Tensor:
        extra = 0.01 * self.masses[1] * self.gravity * self.lengths[1]
        pull = extra * torch.sin(u[:, 1:2]) * u.new_tensor([0.0, 0.0, 0.0, 1.0])
        return DoublePendulum.rhs(self, u) - pull


@dataclass(frozen=True)
class WrongHenonHeiles(HenonHeiles):
    """The wrong sign of the cubic term in y."""

    def potential(self, q: Tensor) -> Tensor:
        return HenonHeiles.potential(self, q) + 2 / 3 * q[:, 1] ** 3

    def force(self, q: Tensor) -> Tensor:
        return HenonHeiles.force(self, q) - 2 * q[:, 1:] ** 2 * q.new_tensor([0.0, 1.0])


@dataclass(frozen=True)
class WrongMackeyGlass(MackeyGlass):
    """The history carried along one in a thousand too slowly."""

    def rhs(self, u: Tensor) -> Tensor:
        rate = MackeyGlass.rhs(self, u)
        return torch.cat([rate[:, :1], 0.999 * rate[:, 1:]], dim=1)


@pytest.mark.parametrize(
    ("cls", "check"),
    [
        (WrongLorenz63, "distance to DOP853"),
        (WrongLorenz96, "growth of a small wave"),
        (WrongRoessler, "distance to DOP853"),
        (WrongDoublePendulum, "distance to Newton's form"),
        (WrongHenonHeiles, "turning by 120 degrees"),
        (WrongMackeyGlass, "distance to the method of steps"),
    ],
)
def test_a_wrong_term_fails(cls: type[ODE], check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The long measurements say nothing new here.
    monkeypatch.setattr(odes, "_exponent", lambda *_: odes.at_most("exponent left out", 0.0, 1.0, ""))
    monkeypatch.setattr(odes, "_structure", lambda *_: [])
    assert check in {c.name for c in verify(cls).checks if not c.passed}
