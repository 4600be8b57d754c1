"""What `build` chooses for a system without space, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from sciml import Grid, Point, Step, rollout
from sciml.errors import UserError
from sciml.odes import ODES, DoublePendulum, HenonHeiles, Lorenz63
from sciml.pdes import Heat
from sciml.solvers import build
from sciml.solvers.ode import AdaptiveStep, fastest_rate


@pytest.mark.parametrize("cls", ODES, ids=lambda c: c.__name__)
def test_every_system_has_a_step_that_says_what_it_is(cls: type) -> None:
    ode = cls()
    solver = build(ode, Point(), 0.1)
    assert isinstance(solver, Step) and solver.domain == Point() and solver.channels == ode.channels()
    assert cls.__name__ in solver.reason and solver.method
    u = ode.initial(2, torch.Generator().manual_seed(0))
    path = rollout(solver, 3)(u)
    assert path.shape == (2, 4, len(solver.channels)) and torch.isfinite(path).all()
    assert solver(u.float()).dtype == torch.float32
    other = build(ode, Point(), 0.1, tolerance=1e-12)(u)
    assert (path[:, 1] - other).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("ode", "options", "method", "substeps"),
    [
        (Lorenz63(), {}, "Dormand-Prince 5(4), tolerance 1e-10", None),
        (Lorenz63(), {"tolerance": 1e-5}, "Dormand-Prince 5(4), tolerance 1e-05", None),
        (Lorenz63(), {"substeps": 7}, "RK4, equal steps", 7),
        (Lorenz63(), {"substeps": 7, "order": 5}, "Dormand-Prince 5, equal steps", 7),
        (HenonHeiles(), {"order": 1}, "velocity Verlet", 3),
        (HenonHeiles(), {"order": 6, "substeps": 2}, "velocity Verlet, Yoshida's order 6", 2),
        (HenonHeiles(), {"tolerance": 1e-9}, "Dormand-Prince 5(4), tolerance 1e-09", None),
        (DoublePendulum(), {}, "implicit midpoint, Suzuki's order 4", 5),
    ],
)
def test_choices(ode: object, options: dict[str, float], method: str, substeps: int | None) -> None:
    solver = build(ode, Point(), 0.1, **options)  # type: ignore[arg-type]
    assert (solver.method, solver.substeps) == (method, substeps)


def test_a_record_in_one_go_is_the_rollout() -> None:
    ode = Lorenz63()
    solver = build(ode, Point(), 0.2)
    assert isinstance(solver.step, AdaptiveStep)
    u = ode.initial(2, torch.Generator().manual_seed(0))
    record = solver.step.solve(u, [0.2 * i for i in range(6)])
    # Both are within the tolerance 1e-10 of each step, which chaos magnifies a little in a time of 1.
    assert (record.states - rollout(solver, 5)(u)).abs().max() < 1e-6


def test_the_fastest_rate_is_that_of_the_oscillator() -> None:
    """Without coupling the star swings at rate 1 everywhere."""
    assert fastest_rate(HenonHeiles(0.0)) == pytest.approx(1.0, rel=1e-12)


def test_a_step_beyond_the_limit_is_told() -> None:
    solver = build(HenonHeiles(0.0), Point(), 10.0, order=2, substeps=2)
    assert "beyond the limit 2: it blows up" in solver.reason
    u = torch.full((1, 4), 0.1, dtype=torch.float64)
    assert rollout(solver, 20)(u).abs().max() > 1e3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build(Lorenz63(), Grid((4,), (1.0,)), 0.1), "Lorenz63 on a Grid.*Use Point"),
        (lambda: build(Heat(), Point(), 0.1), "Heat on a Point"),
        (lambda: build(Lorenz63(), Point(), 0.0), "dt=0"),
        (lambda: build(Lorenz63(), Point(), 0.1, substeps=0), "substeps=0"),
        (lambda: build(Lorenz63(), Point(), 0.1, tolerance=-1.0), "tolerance=-1"),
        (lambda: build(Lorenz63(), Point(), 0.1, tolerance=1e-3, substeps=2), "exclude each other"),
        (lambda: build(Lorenz63(), Point(), 0.1, order=6, substeps=2), "order=6.*1, 2, 3, 4, 5"),
        (lambda: build(HenonHeiles(), Point(), 0.1, order=7), "order=7"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()  # type: ignore[operator]


def test_states_of_another_shape_are_refused() -> None:
    step = build(Lorenz63(), Point(), 0.1)
    for bad in (
        torch.zeros(3),
        torch.zeros(1, 4),
        torch.zeros(1, 3, 1),
        torch.zeros(1, 3, dtype=torch.int64),
    ):
        with pytest.raises(ValueError, match=r"expected real \(B, 3\)"):
            step(bad)
