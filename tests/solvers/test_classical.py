"""Textbook schemes: conservation to rounding, order, shocks, what each is known for."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch

from sciml.datasets.recipes import advection_step, burgers_ramp
from sciml.datasets.recipes.advection_step import Carried
from sciml.domains import Grid, Inflow
from sciml.pdes import InviscidBurgers
from sciml.solvers.finite_volume import Classical
from sciml.solvers.finite_volume.classical import ClassicalName
from sciml.step import Step, rollout

SCHEMES = get_args(ClassicalName)
LINE = advection_step.RECIPE.domain_at(1).resized((100,))  # type: ignore[union-attr]


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_total_changes_by_what_enters(scheme: ClassicalName) -> None:
    """The mass error is rounding for the step of advection and for the ramp of Burgers' equation."""
    speed = column(1.0, 3.0)
    step = Classical(Carried(direction=speed), LINE, 0.1, scheme, conditions={"x-": Inflow(1.0)})
    described: Step = step
    assert described.channels == ("concentration",)
    u = advection_step.exact(LINE, speed, 0.0)
    v = step(u)
    content = (v - u).sum(dim=2) / 100
    torch.testing.assert_close(content, step.entered, rtol=0, atol=1e-13)
    if scheme != "lax-friedrichs":  # the tail of which leaves through the right side already
        error = v.sum(dim=2) / 100 - advection_step.mass(speed, 0.1)[:, :, 0]
        assert float(error[:1].abs().max()) < 1e-13
    line = burgers_ramp.RECIPE.domain_at(1).resized((100,))  # type: ignore[union-attr]
    ramp = Classical(InviscidBurgers(), line, 0.4, scheme)
    u = burgers_ramp.exact(line, column(1.0, 3.0), 0.0)
    total = torch.zeros(2, 1, dtype=torch.float64)
    v = u
    for _ in range(3):  # shocks and, for the larger one, out at the right
        v = ramp(v)
        assert ramp.entered is not None
        total += ramp.entered
    torch.testing.assert_close((v - u).sum(dim=2) * 0.02, total, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "scheme, order", [("upwind", 0.85), ("lax-friedrichs", 0.85), ("lax-wendroff", 1.9), ("minmod", 1.6)]
)
def test_order_on_a_smooth_wave(scheme: ClassicalName, order: float) -> None:
    errors = []
    for n in (100, 200):
        ring = Grid((n,), (1.0,), centering="cell")
        x = 2 * math.pi * ring.coordinates()[0]
        u = torch.sin(x).reshape(1, 1, -1)
        v = Classical(Carried(direction=1.0), ring, 0.25, scheme, cfl=0.6)(u)
        errors.append(float((v - torch.sin(x - 0.5 * math.pi)).abs().mean()))
    assert math.log2(errors[0] / errors[1]) > order


@pytest.mark.parametrize("scheme", SCHEMES)
def test_shocks_run_at_their_speed_and_extremes(scheme: ClassicalName) -> None:
    line = Grid((200,), (4.0,), boundary="outflow", origin=-2.0, centering="cell")
    u = torch.where(line.coordinates() < 0, 2.0, 0.0).double().unsqueeze(0)
    v = Classical(InviscidBurgers(), line, 0.8, scheme)(u)
    place = float((v.sum() - 200) * 0.02 / 2.0)
    half = float((v[0, 0] > 1.0).sum()) * 0.02 - 2.0
    assert place == pytest.approx(0.8, abs=1e-9) and half == pytest.approx(0.8, abs=0.05)
    over = float(torch.maximum(v.max() - 2, -v.min()))
    # Only one of them rings.
    assert (over > 0.1) if scheme == "lax-wendroff" else (over < 1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_axes_in_turn(scheme: ClassicalName) -> None:
    square = Grid((24, 24), (1.0, 1.0), centering="cell")
    x, y = 2 * math.pi * square.coordinates()
    u = (torch.sin(x) * torch.cos(y)).unsqueeze(0).unsqueeze(0)
    v = rollout(Classical(Carried(direction=(1.0, 0.5)), square, 0.05, scheme), 2)(u)[:, -1]
    exact = torch.sin(x - 0.2 * math.pi) * torch.cos(y - 0.1 * math.pi)
    assert float(v.sum().abs()) < 1e-12
    level = {"upwind": 0.1, "lax-friedrichs": 0.3, "lax-wendroff": 0.01, "minmod": 0.05}[scheme]
    assert float((v[0, 0] - exact).abs().mean()) < level
    single = Classical(Carried(), square, 0.05, scheme)(u.float())
    assert single.dtype == torch.float32


def test_wrong_input_is_refused_by_message() -> None:
    cases: list[tuple[Any, str]] = [
        (lambda: Classical(Carried(), LINE, 0.1, "godunov"), "scheme='godunov'; expected one of"),  # type: ignore[arg-type]
        (lambda: Classical(Carried(), LINE, 0.1), "'inflow' without a state"),
        (lambda: Classical(Carried(), LINE, -0.1), "dt=-0.1"),
        (lambda: Classical(Carried(), Grid((8,), (1.0,)), 0.1), "Carried on nodes"),
        (
            lambda: Classical(Carried(), Grid((8,), (1.0,), "wall", centering="cell"), 0.1),
            r"sides \['wall'\]",
        ),
        (
            lambda: Classical(Carried(), Grid((8,), (1.0,), centering="cell"), 0.1)(torch.ones(1, 8)),
            r"shape \(1, 8\)",
        ),
    ]
    for make, message in cases:
        with pytest.raises(ValueError, match=message):
            make()
