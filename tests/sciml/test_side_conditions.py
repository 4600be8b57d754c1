import copy

import pytest
import torch

from sciml import Grid
from sciml.constraints import ConservedMean, Context, SideCondition, SideConditions, Stack
from sciml.experiments import components

torch.set_num_threads(1)
KINDS = {"value": (1.0, 0.0), "slope": (0.0, 1.0), "both": (2.0, 0.5)}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["x-", "x+"])
def test_rows_are_exact_for_parabolas(centering, kind, side):
    """Both stencils are those of a parabola, so a state that is one meets its own conditions."""
    grid = Grid((7,), (3.0,), boundary="wall", centering=centering, origin=-1.0)
    (x,) = grid.axes()
    u = (0.3 * x.square() - 2.0 * x + 1.0).reshape(1, 1, -1)
    at, outward = (-1.0, -1.0) if side == "x-" else (2.0, 1.0)
    value, slope = KINDS[kind]
    data = value * (0.3 * at**2 - 2 * at + 1) + slope * outward * (0.6 * at - 2.0)
    held = SideConditions(grid, {side: SideCondition(data, value, slope)})
    assert float(held.violation(u)) < 1e-14
    off = u.clone()
    off[..., 0 if side == "x-" else -1] += 0.25
    assert float(held.violation(off)) == pytest.approx(0.25)  # in units of the point next to the side
    torch.testing.assert_close(held.project(off), u, rtol=0, atol=1e-14)


def test_slopes_converge_at_second_order():
    errors = []
    for n in (20, 40):
        grid = Grid((n,), (1.0,), boundary="wall", centering="cell")
        u = torch.sin(grid.axes()[0]).reshape(1, 1, -1)
        held = SideConditions(
            grid, {"x+": SideCondition(float(torch.cos(torch.tensor(1.0).double())), 0.0, 1.0)}
        )
        errors.append(float((held.project(u) - u).abs().max()))
    # The last value moves by the error h^2 of the slope times h/2: third order.
    assert errors[0] / errors[1] == pytest.approx(8.0, rel=0.15)


def test_interior_points_are_kept_to_the_last_bit():
    grid = Grid((6, 5), (1.0, 1.0), boundary=("wall", "periodic"), centering="cell")
    held = SideConditions(grid, {"x-": SideCondition([1.0, 2.0]), "x+": SideCondition(0.0, 0.0, 1.0)})
    u = noise(2, 2, 6, 5)
    new = held.project(u)
    assert torch.equal(new[:, :, 1:-1], u[:, :, 1:-1])
    assert float(held.violation(new).max()) < 1e-14


def test_a_corner_belongs_to_one_side_and_values_come_first():
    grid = Grid((5, 6), (1.0, 1.0), boundary="wall")
    held = SideConditions(
        grid, {"x-": SideCondition(7.0), "y-": SideCondition(0.0, 0.0, 1.0), "y+": SideCondition(-1.0)}
    )
    u = held.project(noise(1, 1, 5, 6))[0, 0]
    assert bool((u[0, :-1] == 7.0).all()) and bool((u[:, -1] == -1.0).all())
    torch.testing.assert_close(
        3 * u[1:, 0] - 4 * u[1:, 1] + u[1:, 2], torch.zeros(4).double(), rtol=0, atol=1e-13
    )
    assert held.count(1) == 5 + 5 + 4  # x- less its corner with y+, y+ whole, y- less its corner with x-
    assert "side y- of channel 0 at point (1,)" in held.row_name(0, 1)


def test_data_of_the_previous_state_and_of_the_context():
    grid = Grid((5, 4), (1.0, 1.0), boundary=("wall", "periodic"))
    u, before = noise(2, 1, 5, 4), noise(2, 1, 5, 4, seed=1)
    held = SideConditions(grid, {"x-": SideCondition("previous"), "x+": SideCondition("context")})
    wanted = noise(2, 1, 4, seed=2)
    new = held.project(u, before, Context(targets={"x+": wanted}))
    assert torch.equal(new[:, :, 0], before[:, :, 0])
    torch.testing.assert_close(new[:, :, -1], wanted, rtol=0, atol=0)
    with pytest.raises(ValueError, match="'x[+]'"):
        held.project(u, before)
    with pytest.raises(ValueError, match="previous state; pass it"):
        held.project(u, None, Context(targets={"x+": wanted}))


def test_the_nearest_state_joins_a_stack_with_the_mean():
    grid = Grid((6, 5), (1.0, 2.0), boundary="wall")
    given = {"x-": SideCondition(0.5, 0.0, 1.0), "y+": SideCondition(1.0, 1.0, 0.3)}
    held = SideConditions(grid, given, interior="moved")
    u, before = noise(2, 1, 6, 5), noise(2, 1, 6, 5, seed=1)
    stack = Stack([ConservedMean(grid), held])
    assert float(stack.violation(stack.project(u, before), before).max()) < 1e-13
    # Nearest: the change is a combination of the rows (dense least squares on all unknowns alike).
    rows = held.multiply(torch.eye(30, dtype=torch.float64).reshape(30, 1, 6, 5)).T
    change = torch.linalg.pinv(rows) @ -held.residual(u).T
    torch.testing.assert_close(held.project(u), u + change.T.reshape(2, 1, 6, 5), rtol=0, atol=1e-12)
    spread = held.transpose(torch.eye(held.count(1), dtype=torch.float64), 1).flatten(1)
    torch.testing.assert_close(spread, rows, rtol=0, atol=0)
    squares = held.squares(before[0].square())
    torch.testing.assert_close(squares, rows.square() @ before[0].square().flatten())
    with pytest.raises(TypeError, match="put it into a Chain"):
        Stack([SideConditions(grid, given)])


def test_wrong_arguments_are_refused():
    grid = Grid((6, 3), (1.0, 1.0), boundary=("wall", "wall"))
    with pytest.raises(ValueError, match="expected one or more bounded ones"):
        SideConditions(grid, {"z-": SideCondition()})
    with pytest.raises(ValueError, match="this grid is periodic along every axis"):
        SideConditions(Grid((6,), (1.0,)), {"x-": SideCondition()})
    with pytest.raises(ValueError, match="3 points along axis 1 for the side y-"):
        SideConditions(grid, {"y-": SideCondition()})
    with pytest.raises(ValueError, match="both of one sign"):
        SideConditions(grid, {"x-": SideCondition(0.0, 0.0, 0.0)})
    with pytest.raises(ValueError, match="both of one sign"):
        SideConditions(grid, {"x-": SideCondition(0.0, -1.5, 0.2)})  # spacing 0.2: cancels the factor
    with pytest.raises(ValueError, match="expected .2, 3."):
        SideConditions(grid, {"x-": SideCondition([1.0, 2.0, 3.0])}).project(noise(1, 2, 6, 3))
    with pytest.raises(ValueError, match="interior='both'"):
        SideConditions(grid, {"x-": SideCondition()}, interior="both")


def test_a_study_names_it():
    grid = Grid((6,), (1.0,), boundary="wall")
    conditions = {"x-": {"data": 1.0}, "x+": {"data": "previous", "value": 0.0, "slope": 1.0}}
    component = {"class_path": "SideConditions", "init_args": {"conditions": conditions}}
    as_written = copy.deepcopy(component)
    components.check(component, "constraint", "constraint")
    held = components.build(component, "constraint", "constraint", {"grid": grid, "domain": grid})
    assert component == as_written  # it is stored beside the weights, where plain values alone can be read
    u, before = noise(1, 1, 6), noise(1, 1, 6, seed=1)
    assert float(held.violation(held.project(u, before), before)) < 1e-14
    assert float(held.project(u, before)[0, 0, 0]) == 1.0
