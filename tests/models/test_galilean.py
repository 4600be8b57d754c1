import pytest
import torch

from sciml import Grid, repeat
from sciml.models import ConvNet, Galilean
from sciml.pdes import Burgers
from sciml.solvers import build

torch.set_num_threads(1)
GRIDS = [Grid((9,), (2.0,)), Grid((7, 8), (1.0, 2.0))]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(channels, dimension):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConvNet(channels, channels, dimension, 5, 1, activation="gelu").double()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_a_moving_frame_gives_the_same_answer_in_that_frame(grid):
    d = grid.dimension
    f = network(d + 1, d)
    step = Galilean(f, grid, 0.3, channels=range(1, d + 1))
    u, c = noise(2, d + 1, *grid.shape), noise(2, d, seed=1)
    boost = torch.cat([torch.zeros(2, 1).double(), c], dim=1).reshape(2, d + 1, *[1] * d)
    with torch.no_grad():
        expected = step.shift(step(u), 0.3 * c) + boost
        torch.testing.assert_close(step(u + boost), expected, rtol=0, atol=1e-12)
        plain = step.shift(f(u), 0.3 * c) + boost
        assert float((f(u + boost) - plain).abs().max()) > 1e-2


def test_a_shift_moves_along_the_flow():
    grid = GRIDS[1]
    x, y = grid.coordinates()
    wave = lambda x, y: torch.sin(2 * torch.pi * x) * torch.cos(torch.pi * y)  # noqa: E731
    moved = Galilean(torch.nn.Identity(), grid, 1.0).shift(
        wave(x, y)[None, None], torch.tensor([[0.1, -0.3]])
    )
    torch.testing.assert_close(moved[0, 0], wave(x - 0.1, y + 0.3).double(), rtol=0, atol=1e-7)


def test_an_equation_without_a_frame_has_the_same_law():
    """Burgers' equation in a frame that moves with c, stepped by a solver: signs and distances are right."""
    grid, dt = Grid((33,), (1.0,)), 0.01
    solver = repeat(build(Burgers(viscosity=0.02), grid, dt=dt / 4), 4)
    step = Galilean(solver, grid, dt)
    x = grid.coordinates()[0]
    u = (torch.sin(2 * torch.pi * x) + 0.7).reshape(1, 1, -1)
    # What is left is the solver's own error in time, 1.2e-6 with one step in the place of four.
    torch.testing.assert_close(step(u), solver(u), rtol=0, atol=1e-7)
    assert float((solver(u) - u).abs().max()) > 1e-2


def test_leads_and_precision():
    grid = GRIDS[0]
    step = Galilean(lambda u, lead=None: u, grid, 0.1)
    u = noise(2, 1, 9) + 1.0
    lead = torch.tensor([1.0, 3.0])
    far = step(u, lead)
    torch.testing.assert_close(far[:1], step(u)[:1])
    three = step(step(step(u)))
    torch.testing.assert_close(far[1:], three[1:], rtol=0, atol=1e-12)
    with torch.autocast("cpu", torch.bfloat16):
        assert Galilean(network(1, 1).float(), grid, 0.1)(u.float()).dtype == torch.float32


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="periodic along all axes"):
        Galilean(torch.nn.Identity(), Grid((4,), (1.0,), boundary="wall"), 0.1)
    with pytest.raises(ValueError, match="dt=0"):
        Galilean(torch.nn.Identity(), GRIDS[0], 0.0)
    with pytest.raises(ValueError, match="one per axis"):
        Galilean(torch.nn.Identity(), GRIDS[1], 0.1, channels=[1])
    with pytest.raises(ValueError, match="velocity in channels .0, 1."):
        Galilean(torch.nn.Identity(), GRIDS[1], 0.1)(noise(1, 1, 7, 8))
