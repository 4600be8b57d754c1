"""Certificates of the stationary equations, and that they catch a wrong one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Spectral
from sciml.pdes import ELLIPTIC, Darcy, Helmholtz, Poisson
from sciml.solvers.verify import verify


class ForwardPoisson(Poisson):
    """lap(u) = f: a wrong sign."""

    def residual(self, u: Tensor, a: Tensor, calc: Spectral) -> Tensor:
        return calc.laplacian(u) - a


class FrozenDarcy(Darcy):
    """-a lap(u) = f, the gradient of a forgotten."""

    def residual(self, u: Tensor, a: Tensor, calc: Spectral) -> Tensor:
        return -a[:, :1] * calc.laplacian(u) - a[:, 1:]


class Damped(Helmholtz):
    """-lap(u) + k^2 u = f: no waves."""

    def residual(self, u: Tensor, a: Tensor, calc: Spectral) -> Tensor:
        return -calc.laplacian(u) + a[:, :1].square() * u - a[:, 1:]


@pytest.mark.parametrize("pde", ELLIPTIC)
def test_certificate_passes(pde):
    failed = [check for check in verify(pde).checks if not check.passed]
    assert not failed


@pytest.mark.parametrize("pde", [ForwardPoisson, FrozenDarcy, Damped])
def test_a_wrong_equation_fails(pde, monkeypatch):
    from sciml.solvers.verify.suites import elliptic

    # What does not look at the class is left out to save time.
    monkeypatch.setattr(elliptic, "orders", lambda a: [])
    monkeypatch.setattr(elliptic, "elements", lambda a: [])
    monkeypatch.setattr(elliptic, "_point_source", list)
    failed = [check.name for check in verify(pde).checks if not check.passed]
    assert failed == ["residual of a solution worked out by hand"]


def test_helmholtz_wants_both_inputs():
    one = torch.ones(1, 1, 8, 8, dtype=torch.float64)
    with pytest.raises(ValueError, match="1 input channels; expected 2"):
        Helmholtz().residual(one, one, Spectral(Grid((8, 8), (1.0, 1.0))))
