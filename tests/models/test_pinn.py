import math

import pytest
import torch

from sciml import Grid
from sciml.models import PINN
from sciml.models.pinns import FourierSeries, trajectory
from sciml.objectives import Collocation, Residual
from sciml.pdes import Burgers, Heat

torch.set_num_threads(1)
TURN = 2 * math.pi


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(9,), (16,), (6, 8), (5, 7), (4, 5, 6)])
def test_fourier_series_gives_grid_values_back(shape):
    lengths, origin = (2.0, 3.0, 0.5)[: len(shape)], (-1.0, 0.3, 2.0)[: len(shape)]
    grid = Grid(shape, lengths, origin=origin)
    values = noise(2, *shape)
    series = FourierSeries(values, lengths, origin, tolerance=0.0)
    torch.testing.assert_close(series(grid.coordinates().unsqueeze(0))[0], values, rtol=0, atol=1e-13)


def test_fourier_series_is_exact_between_the_points_with_its_derivative():
    grid = Grid((16,), (2.0,), origin=0.5)

    def f(x):
        return torch.sin(math.pi * x) + 0.3 * torch.cos(3 * math.pi * x)

    series = FourierSeries(f(grid.coordinates()), (2.0,), 0.5)
    assert series.wavenumbers.shape == (1, 2)  # only the two waves there are
    x = noise(1, 1, 7).requires_grad_(True)
    torch.testing.assert_close(series(x), f(x), rtol=0, atol=1e-13)
    (slope,) = torch.autograd.grad(series(x).sum(), x)
    exact = math.pi * torch.cos(math.pi * x) - 0.9 * math.pi * torch.sin(3 * math.pi * x)
    torch.testing.assert_close(slope, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_initial_state_and_periodicity_hold_for_any_weights(dimension):
    shape, lengths = (8, 6, 5)[:dimension], (2.0, 3.0, 1.0)[:dimension]
    grid = Grid(shape, lengths, origin=-0.5)
    values = noise(2, *shape)
    net = seeded(
        lambda: PINN(dimension, 2, 8, 2, lengths=lengths, horizon=1.5, initial=values, origin=-0.5)
    ).double()
    start = trajectory(net, grid, [0.0, 1.0])
    # Modes below 1e-7 of the largest would be left out; white noise has none.
    torch.testing.assert_close(start[0, 0], values, rtol=0, atol=1e-13)
    assert float((start[0, 1] - values).abs().max()) > 1e-2
    x, t = (
        noise(1, dimension, 20, seed=1),
        torch.rand(1, 1, 20, generator=generator(2), dtype=torch.float64),
    )
    for axis in range(dimension):
        shifted = x.clone()
        shifted[:, axis] += lengths[axis]
        torch.testing.assert_close(net(shifted, t), net(x, t), rtol=0, atol=1e-12)


def test_walls_keep_the_values_of_the_initial_state():
    net = seeded(
        lambda: PINN(
            2, 1, 8, 2, lengths=(2.0, 1.0), periodic=(False, True), initial=lambda x: x[:, :1] ** 2
        )
    ).double()
    y = torch.rand(1, 1, 9, generator=generator(), dtype=torch.float64)
    for wall in (0.0, 2.0):
        x = torch.cat((torch.full_like(y, wall), y), dim=1)
        torch.testing.assert_close(net(x, y), torch.full_like(y, wall**2), rtol=0, atol=1e-14)
    inside = torch.cat((torch.full_like(y, 1.0), y), dim=1)
    assert float((net(inside, y) - 1.0).abs().max()) > 1e-3


@pytest.mark.parametrize("pde", [Burgers(0.2), Heat(0.3)])
@pytest.mark.parametrize("dimension", [1, 2])
def test_exact_solution_has_no_residual_and_a_wrong_coefficient_has(pde, dimension):
    sampler = Collocation((TURN,) * dimension, 1.0, 50)
    x, t = sampler(generator())
    t = t + 0.05  # the Cole-Hopf formula is not differentiable at t = 0
    exact = pde.exact
    assert (
        float(Residual(pde, sampler).residual(exact, x, t).abs().max()) < 1e-9
    )  # rounding, twice differentiated
    wrong = type(pde)(0.25)
    assert float(Residual(wrong, sampler).residual(exact, x, t).abs().max()) > 1e-3


def test_collocation_fills_the_box_and_the_time_and_repeats_with_its_generator():
    sampler = Collocation((2.0, 3.0), 4.0, 500, origin=(-1.0, 5.0))
    x, t = sampler(generator(3))
    assert x.shape == (1, 2, 500) and t.shape == (1, 1, 500)
    assert float(x[0, 0].min()) >= -1.0 and float(x[0, 0].max()) <= 1.0
    assert float(x[0, 1].min()) >= 5.0 and float(x[0, 1].max()) <= 8.0
    part = 4.0 / 500
    assert torch.equal(torch.floor(t[0, 0] / part).long(), torch.arange(500))  # one time in each part
    assert torch.equal(x, sampler(generator(3))[0]) and not torch.equal(x, sampler(generator(4))[0])


def test_gradients_of_the_loss_are_right():
    net = seeded(
        lambda: PINN(
            1, 1, 4, 2, lengths=(TURN,), initial=torch.sin(torch.arange(8) * TURN / 8).reshape(1, 8)
        )
    ).double()
    objective = Residual(Burgers(0.1), Collocation((TURN,), 1.0, 5))
    names = [name for name, _ in net.named_parameters()]

    def loss(*values):
        def u(x, t):
            return torch.func.functional_call(net, dict(zip(names, values, strict=True)), (x, t))

        return objective(u, None, generator(1))[0]

    # Without parameters to read a precision from, points stay in float64.
    assert torch.autograd.gradcheck(
        loss, tuple(p.detach().clone().requires_grad_(True) for p in net.parameters())
    )


def test_training_lowers_the_residual_and_the_error():
    pde, grid = Burgers(0.3), Grid((32,), (TURN,))
    x = grid.coordinates().unsqueeze(0)
    net = seeded(lambda: PINN(1, 1, 12, 2, lengths=(TURN,), initial=torch.sin(x)[0]))
    objective = Residual(pde, Collocation((TURN,), 1.0, 200))
    rng = generator(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)

    def error():
        exact = pde.exact(x, 1.0)
        return float((trajectory(net, grid, [1.0])[:, 0] - exact).norm() / exact.norm())

    first, start = float(objective(net, None, generator(9))[1]["residual"]), error()
    for _ in range(150):
        loss, _ = objective(net, None, rng)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    last = float(objective(net, None, generator(9))[1]["residual"])
    assert last < first / 30 and error() < min(0.05, start / 5)


def test_the_loss_can_be_evaluated_where_gradients_are_off():
    net = seeded(lambda: PINN(1, 1, 4, 1, initial=[[0.0, 1.0, 0.0, -1.0]]))
    objective = Residual(Heat(0.1), Collocation((1.0,), 1.0, 20))
    value = objective(net, None, generator())[0].detach()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            assert torch.equal(objective(net, None, generator())[1]["residual"], value)


def test_channel_scale_divides_the_residual():
    net = seeded(lambda: PINN(1, 1, 4, 1, initial=[[0.0, 1.0, 0.0, -1.0]])).double()
    sampler = Collocation((1.0,), 1.0, 20)
    plain = Residual(Heat(0.1), sampler)(net, None, generator())[0]
    scaled = Residual(Heat(0.1), sampler, channel_scale=[10.0])(net, None, generator())[0]
    torch.testing.assert_close(scaled, plain / 100)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PINN(1, 1, 4, 1), "initial"),
        (lambda: PINN(1, 1, 4, 1, activation="relu", initial=torch.sin), "second derivative"),
        (lambda: PINN(2, 1, 4, 1, initial=torch.sin), "per axis"),
        (lambda: PINN(1, 1, 0, 1, initial=torch.sin), "at least 1"),
        (lambda: PINN(1, 1, 4, 1, horizon=-1.0, initial=torch.sin), "positive"),
        (lambda: PINN(1, 1, 4, 1, periodic=False, initial=[[0.0, 1.0]]), "not periodic"),
        (lambda: PINN(1, 2, 4, 1, initial=[[0.0, 1.0]]), "expected 2"),
        (lambda: PINN(1, 1, 4, 1, initial=[[0.0, float("nan")]]), "not finite"),
        (lambda: PINN(1, 1, 4, 1, initial=torch.zeros(3, 1, 8)), "one sample"),
        (lambda: PINN(1, 1, 4, 1, initial=torch.sin)(torch.zeros(1, 2, 5), torch.zeros(1, 1, 5)), "points"),
        (
            lambda: trajectory(PINN(1, 1, 4, 1, initial=torch.sin), Grid((4,), (1.0,)), [0.0, 2.0]),
            "covers 0",
        ),
        (lambda: Collocation((1.0,), 0.0), "positive"),
        (lambda: Residual(Heat(1.0), Collocation((1.0,), 1.0), channel_scale=[0.0]), "positive"),
    ],
)
def test_refusals_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()
