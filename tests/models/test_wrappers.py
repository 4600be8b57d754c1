import math

import pytest
import torch
from torch import nn

import sciml
from sciml import Grid, rollout
from sciml.constraints import ConservedMean
from sciml.models import (
    Constrained,
    ConvNet,
    Corrected,
    HoldNodes,
    Normalized,
    NormalizedMap,
    Residual,
    Surrogate,
)

torch.set_num_threads(1)
GRID = Grid((16,), (1.0,))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def surrogate(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ConvNet(2, 2, width=4, hidden_layers=2, activation="gelu")
    normalised = Normalized(Residual(net), [1.0, -3.0], [0.5, 20.0])
    return Surrogate(Constrained(normalised, ConservedMean(GRID)), 0.1, GRID, ("a", "b")).double()


def test_residual_adds_its_input():
    u = noise(2, 1, 8)
    torch.testing.assert_close(Residual(lambda v: 3 * v)(u), 4 * u, rtol=1e-15, atol=0)


def test_normalised_affine_map_in_physical_units():
    u, mean, std = noise(3, 2, 8), [1.0, -3.0], [0.5, 20.0]
    torch.testing.assert_close(Normalized(lambda v: v, mean, std)(u), u, rtol=1e-14, atol=1e-14)
    shifted = Normalized(lambda v: v + 1.0, mean, std)(u)  # one standard deviation up
    torch.testing.assert_close(shifted - u, torch.tensor(std).reshape(1, 2, 1).expand_as(u).double())


def test_with_the_increment_inside_the_mean_drops_out():
    u = noise(3, 2, 8)
    zero = Normalized(Residual(torch.zeros_like), [100.0, -7.0], [2.0, 3.0])
    torch.testing.assert_close(zero(u), u, rtol=0, atol=1e-13)  # rounding at the size of the mean


def test_normalised_map_has_a_scale_on_each_side():
    a = noise(2, 1, 6)
    f = NormalizedMap(lambda v: torch.cat((v, 2 * v), dim=1), 4.0, 2.0, [0.0, 10.0], [1.0, 5.0])
    z = (a - 4.0) / 2.0
    torch.testing.assert_close(f(a), torch.cat((z, 10.0 + 10.0 * z), dim=1), rtol=1e-14, atol=1e-14)


def test_held_nodes_keep_their_values_through_a_rollout():
    mask = torch.zeros(8, dtype=torch.bool)
    mask[[0, 5]] = True
    u = noise(2, 1, 8)
    states = rollout(HoldNodes(lambda v: 0.5 * v, mask), 3)(u)
    assert torch.equal(states[..., mask], u[..., mask].unsqueeze(1).expand(-1, 4, -1, -1))
    torch.testing.assert_close(states[:, -1][..., ~mask], u[..., ~mask] / 8)


@pytest.mark.parametrize(
    ("mode", "expected"), [("parallel", 2 + 10), ("sequential", 2 * 10), ("bypass", 2 + 2 * 10)]
)
def test_corrections_of_a_solver(mode, expected):
    u = noise(1, 1, 4)
    step = Corrected(lambda v: 10 * v, lambda v: 2 * v, mode)
    torch.testing.assert_close(step(u), expected * u)


def test_a_surrogate_is_a_step_and_conserves_through_training_and_rollout():
    step = surrogate()
    assert isinstance(step, sciml.Step)
    assert (step.dt, step.domain, step.channels) == (0.1, GRID, ("a", "b"))
    u = noise(2, 2, 16)
    with torch.no_grad():
        states = rollout(step, 20)(u)
    drift = states.mean(dim=3) - u.mean(dim=2).unsqueeze(1)
    # The untrained states grow; each of 20 steps may lose a rounding at their present size.
    assert float(drift.abs().max()) < 20 * 2.2e-16 * float(states.abs().max())
    free = Surrogate(step.f.f, 0.1, GRID, ("a", "b"))
    assert float((rollout(free, 20)(u).mean(dim=3)[:, -1] - u.mean(dim=2)).abs().max().detach()) > 1e-3


def test_wrapped_steps_differentiate_forward_and_backward_and_batch():
    step, u = surrogate(), noise(1, 2, 16)  # a batch of one
    v = noise(3, 1, 2, 16, seed=1)
    directional = torch.func.vmap(lambda w: torch.func.jvp(step, (u,), (w,))[1])(v)
    jacobian = torch.func.jacrev(step)(u).reshape(32, 32)
    expected = (v.reshape(3, 32) @ jacobian.T).reshape_as(v)
    torch.testing.assert_close(directional, expected, rtol=1e-10, atol=1e-10)  # two ways of one derivative


def test_gradients_of_the_wrappers():
    torch.autograd.gradcheck(surrogate(), noise(2, 2, 16).requires_grad_(True))


def test_float32_state_stays_float32():
    step = surrogate().float()
    assert step(noise(1, 2, 16).float()).dtype == torch.float32


def test_another_resolution_shares_the_parameters():
    step = surrogate()
    with pytest.raises(ValueError, match="another resolution"):
        step(noise(1, 2, 32))
    plain = Surrogate(step.f.f, 0.1, GRID, ("a", "b"))
    assert plain.on(GRID.resized((32,)))(noise(1, 2, 32)).shape == (1, 2, 32)
    assert plain.on(GRID.resized((32,))).f is plain.f


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Normalized(torch.sin, [0.0], [0.0]), ValueError, "never varies"),
        (lambda: Normalized(torch.sin, [0.0, 1.0], [1.0]), ValueError, "one of each per channel"),
        (lambda: Normalized(torch.sin, float("nan"), 1.0), ValueError, "finite"),
        (
            lambda: Normalized(torch.sin, [0.0] * 3, [1.0] * 3)(torch.zeros(1, 2, 4)),
            ValueError,
            "2 channels",
        ),
        (lambda: HoldNodes(torch.sin, torch.ones(3)), ValueError, "booleans"),
        (lambda: HoldNodes(torch.sin, [True, False])(torch.zeros(1, 1, 3)), ValueError, "shape"),
        (lambda: Corrected(torch.sin, torch.sin, "both"), ValueError, "bypass"),
        (lambda: Constrained(torch.sin, nn.Identity()), TypeError, "Constraint"),
        (lambda: Surrogate(torch.sin, 0.0, GRID, ("u",)), ValueError, "positive"),
        (lambda: Surrogate(torch.sin, 0.1, GRID, ("u",))(torch.zeros(1, 2, 16)), ValueError, "channels"),
    ],
)
def test_refusals_say_what_was_expected(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_coordinates_are_further_channels_centred_and_of_unit_size():
    from sciml import Cloud, Grid
    from sciml.models.wrappers import WithCoordinates

    seen = []
    wrapped = WithCoordinates(lambda u: (seen.append(u), u[:, :1])[1], Grid((8, 4), (2.0, 3.0)))
    u = torch.zeros(3, 1, 8, 4)
    assert torch.equal(wrapped(u), u)
    x = seen[0][:, 1:].double()
    assert x.shape == (3, 2, 8, 4)
    assert x.mean(dim=(2, 3)).abs().max() < 1e-7 and x.square().mean() == pytest.approx(1.0, abs=1e-6)
    # One scale for both axes: the spacings keep their ratio, 0.25 to 0.75.
    ratio = (x[0, 0, 1, 0] - x[0, 0, 0, 0]) / (x[0, 1, 0, 1] - x[0, 1, 0, 0])
    assert ratio == pytest.approx(1 / 3, abs=1e-5)
    with pytest.raises(TypeError, match="whose points stay"):
        WithCoordinates(lambda u: u, Cloud(((0.0, 1.0),)))


def test_a_constraint_of_rollouts_alone_is_not_seen_in_training():
    u = noise(3, 1, 16)
    step = Constrained(torch.nn.Conv1d(1, 1, 1).double(), ConservedMean(GRID), begins=math.inf)
    assert torch.equal(step.train()(u), step.f(u)) and torch.equal(step.ahead(u)[:, 0], step.f(u))
    held = step.eval()(u)
    torch.testing.assert_close(held.mean(-1), u.mean(-1), rtol=0, atol=1e-15)
    assert not torch.equal(held, step.f(u)) and torch.equal(step.ahead(u)[:, 0], held)


def test_a_constraint_may_come_late_in_a_training():
    u = noise(3, 1, 16)
    step = Constrained(torch.nn.Conv1d(1, 1, 1).double(), ConservedMean(GRID), begins=0.5)
    held = step.eval()(u)
    step.train()
    step.progress = 0.49
    assert torch.equal(step(u), step.f(u))
    step.progress = 0.5
    assert torch.equal(step(u), held)
