"""What enters or moves at the sides of a grid."""

from __future__ import annotations

import pytest
import torch

from sciml.domains import Grid, Inflow, MovingWall, side_conditions

CHANNEL = Grid((8, 6), (2.0, 1.0), boundary=(("inflow", "outflow"), "wall"), centering="cell")


def test_values_become_fields_on_their_sides() -> None:
    profile = torch.linspace(0, 1, 6, dtype=torch.float64).expand(2, 6)
    found = side_conditions(CHANNEL, {"x-": Inflow(profile), "y+": MovingWall((1.0, 0.0))}, channels=2)
    assert set(found) == {(0, 0), (1, 1)}
    inflow, lid = found[0, 0], found[1, 1]
    assert isinstance(inflow, Inflow) and isinstance(lid, MovingWall)
    torch.testing.assert_close(inflow.value, profile)
    assert torch.as_tensor(lid.velocity).tolist() == [[1.0], [0.0]]


def test_numbers_serve_in_one_dimension_too() -> None:
    tube = Grid((8,), (1.0,), boundary=(("inflow", "wall"),), centering="cell")
    found = side_conditions(tube, {"x-": Inflow((1.0, 0.5, 2.0))}, channels=3)[0, 0]
    assert isinstance(found, Inflow) and torch.as_tensor(found.value).tolist() == [1.0, 0.5, 2.0]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "The side x- is an 'inflow' without a state"),
        ({"z-": Inflow(1.0)}, r"got sides \['z-'\]; this grid has \['x-', 'x\+', 'y-', 'y\+'\]"),
        ({"x-": MovingWall((0.0, 1.0))}, "without a state"),
        ({"x-": Inflow((1.0, 0.0)), "x+": Inflow((1.0, 0.0))}, "x\\+ is 'outflow'; Inflow is a condition"),
        ({"x-": Inflow((1.0, 0.0, 0.0))}, r"shape \(3,\); expected 2 components, \(2,\) or \(2, 6\)"),
        ({"x-": Inflow(torch.ones(2, 5))}, r"shape \(2, 5\); expected 2 components"),
        ({"x-": Inflow((float("nan"), 0.0))}, "not finite"),
        ({"x-": Inflow((1.0, 0.0)), "y-": MovingWall((1.0, 0.5))}, "through itself, 0.5"),
    ],
)
def test_what_does_not_fit_is_refused(conditions: dict[str, Inflow | MovingWall], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        side_conditions(CHANNEL, conditions, channels=2)
