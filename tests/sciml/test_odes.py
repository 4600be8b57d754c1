"""Systems without space: what every one promises, their structure, and the domain they live on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sciml import Field, FunctionStep, Grid, Point, Step, Trajectory, iterate, rollout
from sciml.odes import (
    ODE,
    ODES,
    Delay,
    DoublePendulum,
    FunctionODE,
    Hamiltonian,
    HenonHeiles,
    Lorenz63,
    Lorenz96,
    MackeyGlass,
    Roessler,
    Separable,
)
from sciml.solvers import build


def _states(ode: ODE, samples: int = 3) -> Tensor:
    return ode.initial(samples, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cls", ODES, ids=lambda c: c.__name__)
def test_every_system_keeps_shape_type_and_samples(cls: type[ODE]) -> None:
    ode = cls()
    u = _states(ode)
    rate = ode.rhs(u)
    assert u.dtype == torch.float64 and u.shape == rate.shape == (3, len(ode.channels()))
    assert ode.channels() == tuple(f.name for f in ode.fields)
    single = ode.rhs(u.float())
    assert single.dtype == torch.float32
    # Rounding of single precision through sums of terms some ten times their result.
    assert (single - rate).abs().max() < 1e-5 * rate.abs().max()
    assert torch.equal(ode.rhs(u[1:2]), rate[1:2])
    assert torch.autograd.gradcheck(ode.rhs, (u.requires_grad_(),), check_forward_ad=True)


@pytest.mark.parametrize(
    ("make", "values"),
    [
        (lambda p: Lorenz63(rho=p), (20.0, 28.0, 35.0)),
        (lambda p: Lorenz96(6, p), (2.0, 8.0, 10.0)),
        (lambda p: Roessler(c=p), (4.0, 5.7, 9.0)),
        (lambda p: DoublePendulum((1.0, p), (p, 1.0)), (0.5, 1.0, 2.0)),
        (lambda p: HenonHeiles(p), (0.0, 0.5, 1.0)),
        (lambda p: MackeyGlass(delay=p, power=p), (8.0, 17.0, 30.0)),
    ],
)
def test_each_sample_may_have_its_own_parameter(make: object, values: tuple[float, ...]) -> None:
    own = make(torch.tensor(values, dtype=torch.float64))  # type: ignore[operator]
    u = _states(own)
    alone = [make(v).rhs(u[i : i + 1]) for i, v in enumerate(values)]  # type: ignore[operator]
    assert torch.allclose(own.rhs(u), torch.cat(alone), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("ode", [DoublePendulum((1.3, 0.7), (0.8, 1.1), 9.0), HenonHeiles(0.9)])
def test_rates_are_the_symplectic_gradient_of_the_energy(ode: Hamiltonian) -> None:
    u = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert (ode.rhs(u) - Hamiltonian.rhs(ode, u)).abs().max() < 1e-13
    # The exact flow keeps H: grad H . rhs = 0.
    moved = torch.func.jvp(ode.hamiltonian, (u,), (ode.rhs(u),))[1]
    assert moved.abs().max() < 1e-12
    assert torch.equal(ode.invariants(u)["energy"], ode.hamiltonian(u))


def test_an_own_separable_system_needs_two_energies_only() -> None:
    @dataclass(frozen=True)
    class Quartic(Separable):
        @property
        def fields(self) -> tuple[Field, ...]:
            return (Field("q"), Field("p"))

        def kinetic(self, p: Tensor) -> Tensor:
            return 0.5 * p.square().sum(1)

        def potential(self, q: Tensor) -> Tensor:
            return 0.25 * q.pow(4).sum(1)

    ode = Quartic()
    u = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    assert torch.equal(ode.rhs(u), torch.tensor([[3.0, -8.0]], dtype=torch.float64))
    step = build(ode, Point(), 0.1)
    drift = (ode.hamiltonian(rollout(step, 100)(u)[:, -1]) / ode.hamiltonian(u) - 1).abs()
    assert float(drift) < 1e-5


def test_an_own_function_in_one_line() -> None:
    ode = FunctionODE(lambda u: torch.stack([u[:, 1], -u[:, 0]], 1), ("x", Field("v", "m/s")))
    assert ode.channels() == ("x", "v") and ode.fields[1].unit == "m/s"
    u = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    end = build(ode, Point(), 1.0)(u)
    assert end[0].tolist() == pytest.approx([math.cos(1.0), -math.sin(1.0)], abs=1e-8)
    energy = FunctionODE(ode.function, ("x", "v"), {"energy": lambda u: u.square().sum(1)})
    assert energy.invariants(u)["energy"].tolist() == [1.0]
    for bad in ((), ("x", "x"), (Field("v", rank=1),)):
        with pytest.raises(ValueError, match="one or more scalars"):
            FunctionODE(ode.function, bad)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lorenz96(3), "sites=3; expected a whole number of at least 4"),
        (lambda: Lorenz63(rho=float("nan")), "rho=nan"),
        (lambda: DoublePendulum(masses=(1.0, 0.0)), "masses=.* positive"),
        (lambda: DoublePendulum(lengths=(1.0,)), "lengths=.1.0,.; expected two"),
        (lambda: MackeyGlass(delay=0.0), "delay=0.0; expected a positive time"),
        (lambda: MackeyGlass(nodes=2), "nodes=2; expected a whole number of at least 3"),
    ],
)
def test_refusals(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


@dataclass(frozen=True)
class Pursuit(Delay):
    """Two unknowns, each driven by what the other was."""

    delay: float | Tensor = 2.0
    nodes: int = 6

    @property
    def unknowns(self) -> tuple[Field, ...]:
        return (Field("a", "m"), Field("b", "m"))

    def rate(self, now: Tensor, then: Tensor) -> Tensor:
        return then.flip(1) * now.new_tensor([1.0, -2.0])


def test_a_history_is_carried_exactly_where_it_is_a_polynomial_of_its_points() -> None:
    delay = torch.tensor([0.5, 3.0], dtype=torch.float64)
    ode = Pursuit(delay)
    age = ode.ages
    assert age.shape == (2, 6) and torch.equal(age[:, 0], torch.zeros_like(delay))
    assert torch.allclose(age[:, -1], delay, rtol=1e-15)
    assert ode.channels()[4:8] == ("a_4", "a_5", "b_0", "b_1") and ode.fields[0].unit == "m"
    # a = t^5 - t and b = 3 t^2 until now, t = -age.
    u = torch.cat([-(age**5) + age, 3 * age**2], dim=1)
    exact = torch.stack([5 * age**4 - 1, -6 * age], dim=1)
    exact[:, 0, 0] = 3 * delay**2
    exact[:, 1, 0] = -2 * (-(delay**5) + delay)
    assert torch.allclose(ode.rhs(u), exact.flatten(1), rtol=1e-12, atol=1e-11)


def test_a_delay_of_a_wave_is_met_by_its_exact_rotation() -> None:
    """a' = b(t - tau), b' = -a(t - tau) turns at the rate 1 for tau = 2 pi: the history is one whole turn."""

    class Turning(Pursuit):
        def rate(self, now: Tensor, then: Tensor) -> Tensor:
            return then.flip(1) * now.new_tensor([1.0, -1.0])

    ode = Turning(2 * math.pi, nodes=25)
    wave = torch.stack([torch.sin(-ode.ages), torch.cos(ode.ages)]).flatten().unsqueeze(0)
    u = build(ode, Point(), 1.0, substeps=60)(wave)
    later = torch.stack([torch.sin(1 - ode.ages), torch.cos(1 - ode.ages)]).flatten()
    # 25 points leave 1e-13 of the wave, steps of 1/60 in a system of rate 20 about 1e-8.
    assert (u[0] - later).abs().max() < 1e-6


def test_a_point_carries_steps_and_trajectories() -> None:
    point, ode = Point(), Lorenz63()
    assert (point.dimension, point.shape, float(point.weights())) == (0, (), 1.0)
    step = FunctionStep(lambda u: u + 0.01 * ode.rhs(u), 0.01, point, ode.channels())
    assert isinstance(step, Step)
    u0 = _states(ode)
    path = rollout(step, 5)(u0)
    assert path.shape == (3, 6, 3)
    assert torch.equal(torch.stack(list(iterate(step, u0, 5)), 1), path)
    times = 0.01 * torch.arange(6, dtype=torch.float64)
    trajectory = Trajectory(path, point, times, ode.fields, {"rho": torch.full((3,), 28.0)})
    labelled = trajectory.to_xarray()
    assert labelled["z"].dims == ("sample", "time")
    assert (labelled["z"].values == path[:, :, 2].numpy()).all()
    assert torch.equal(trajectory[1].data, path[1:2])
    with pytest.raises(TypeError, match="without space"):
        trajectory.to_pyvista()
    with pytest.raises(ValueError, match="C = 3"):
        Trajectory(path[:, :, :2], point, times, ode.fields)
    with pytest.raises(ValueError, match="points"):
        Trajectory(path.unsqueeze(-1), point, times, ode.fields)
    with pytest.raises(ValueError, match=r"expected \(B, T, C"):
        Trajectory(path, Grid((4,), (1.0,)), times, ode.fields)
