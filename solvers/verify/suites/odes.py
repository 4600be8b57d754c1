"""Systems without space: chaotic ones against scipy and published exponents, Hamiltonian ones for their structure.

The references state each system a second time, number by number, for scipy's DOP853 at a tolerance of 1e-12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.special import lambertw
from torch import Tensor

from sciml.domains import Point
from sciml.jacobian import leading_exponent, lyapunov_spectrum
from sciml.odes import (
    ODE,
    DoublePendulum,
    Hamiltonian,
    HenonHeiles,
    Lorenz63,
    Lorenz96,
    MackeyGlass,
    Roessler,
)
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import observed_order
from sciml.step import rollout

Rates = Callable[[float, np.ndarray], Sequence[float]]


def _state(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def _reference(rates: Rates, u: Tensor, t: float) -> Tensor:
    """The state (1, C) after a time, by scipy."""
    found = solve_ivp(rates, (0.0, t), u[0].numpy(), method="DOP853", rtol=1e-12, atol=1e-12)
    return torch.as_tensor(found.y[:, -1]).unsqueeze(0)


def _distance(u: Tensor, reference: Tensor) -> float:
    return float((u - reference).abs().max() / reference.abs().max())


def _rate(ode: ODE, u: Tensor, rate: Tensor) -> Check:
    error = _distance(ode.rhs(u), rate)
    return at_most("rate worked out by hand", error, 1e-13, f"at {u[0].tolist()}")


def _order(ode: ODE, u: Tensor, dt: float, counts: tuple[int, int], order: int = 4) -> Check:
    def run(substeps: int, order: int = order) -> Tensor:
        return build(ode, Point(), dt, order=order, substeps=substeps)(u)

    with torch.no_grad():
        # Eight times the steps: the reference's own error is then below a thousandth at order 4.
        best = run(8 * counts[1])
        errors = [float((run(n) - best).norm()) for n in counts]
    setting = f"{counts[0]} to {counts[1]} substeps of {dt:g}"
    return at_least(f"order in time, method of order {order}", observed_order(errors), order - 0.2, setting)


def _against_scipy(ode: ODE, rates: Rates, u: Tensor, t: float, level: float, order: int = 4) -> Check:
    with torch.no_grad():
        found = build(ode, Point(), t, order=order)(u)
    return at_most("distance to DOP853", _distance(found, _reference(rates, u, t)), level, f"t = {t:g}")


def _exponent(
    ode: ODE,
    dt: float,
    substeps: int,
    samples: int,
    steps: int,
    published: float,
    level: float,
    discard: int = 100,
) -> Check:
    step = build(ode, Point(), dt, substeps=substeps)
    u = ode.initial(samples, torch.Generator().manual_seed(0))
    found = leading_exponent(step, u, steps, discard=discard, every=2, mode="fd").mean()
    name = f"leading exponent over {published:g}, less 1"
    return at_most(name, abs(float(found) / published - 1), level, f"{samples} paths of {steps * dt:g}")


def _lorenz63(cls: type[Lorenz63]) -> list[Check]:
    ode = cls()
    root = math.sqrt(8 / 3 * 27)
    rest = torch.cat([_state(root, root, 27.0), _state(-root, -root, 27.0), _state(0.0, 0.0, 0.0)])

    def rates(t: float, u: np.ndarray) -> Sequence[float]:
        return (
            10.0 * (u[1] - u[0]),
            28.0 * u[0] - u[1] - u[0] * u[2],
            u[0] * u[1] - 8.0 / 3.0 * u[2],
        )

    u = _state(1.0, 2.0, 20.0)
    mirror = u.new_tensor([-1.0, -1.0, 1.0])
    step = build(ode, Point(), 0.1, substeps=10)
    shrinking = lyapunov_spectrum(step, u, 20).sum()
    symmetry = _distance(step(u * mirror) * mirror, step(u))
    return [
        _rate(ode, _state(1.0, 2.0, 3.0), _state(10.0, 23.0, -6.0)),
        at_most("rate at the states of rest", ode.rhs(rest).abs().max(), 1e-12, "three states"),
        _against_scipy(ode, rates, u, 5.0, 1e-7),
        _order(ode, u, 0.5, (20, 40)),
        at_most("shrinking of volumes", abs(float(shrinking) / (-41 / 3) - 1), 1e-3, "41/3, by exponents"),
        at_most("symmetry (x, y) -> (-x, -y)", symmetry, 1e-14, "one step"),
        _exponent(ode, 0.1, 5, 512, 100, 0.9056, 0.05),
    ]


def _lorenz96(cls: type[Lorenz96]) -> list[Check]:
    ode, small = cls(), cls(sites=5)

    def rates(t: float, u: np.ndarray) -> Sequence[float]:
        n = len(u)
        return [(u[(i + 1) % n] - u[i - 2]) * u[i - 1] - u[i] + 8.0 for i in range(n)]

    generator = torch.Generator().manual_seed(0)
    u = ode.initial(2, generator)
    power = (u * ode.rhs(u)).sum(1)
    balance = _distance(power, 8.0 * u.sum(1) - u.square().sum(1))
    # A wave e^{ikj} on the steady state grows like exp(F (e^{ik} - e^{-2ik}) - 1).
    k = 2 * math.pi * 8 / 40
    growth = 0.5 * complex(8 * (math.cos(k) - math.cos(2 * k)) - 1, 8 * (math.sin(k) + math.sin(2 * k)))
    site = torch.arange(40, dtype=torch.float64)
    wave = torch.exp(1j * k * site).unsqueeze(0)
    start, end = 8.0 + 1e-7 * wave.real, 8.0 + 1e-7 * (wave * np.exp(growth)).real
    with torch.no_grad():
        found = build(ode, Point(), 0.5, substeps=100)(start)
        step = build(ode, Point(), 0.05, substeps=5)
        turned = _distance(step(u.roll(7, 1)).roll(-7, 1), step(u))
    counted = _state(1.0, 2.0, 3.0, 4.0, 5.0)
    return [
        _rate(small, counted, _state(-3.0, 4.0, 11.0, 13.0, -5.0)),
        at_most("balance of sum u^2", balance, 1e-13, "random states"),
        at_most(
            "growth of a small wave", _distance(found - 8.0, end - 8.0), 1e-5, "amplitude 1e-7, t = 0.5"
        ),
        _against_scipy(ode, rates, u[:1], 2.0, 1e-7),
        _order(ode, u, 0.2, (5, 10)),
        at_most("turning the ring", turned, 1e-14, "7 of 40 sites"),
        _exponent(ode, 0.1, 3, 32, 150, 1.68, 0.06),
    ]


def _roessler(cls: type[Roessler]) -> list[Check]:
    ode = cls()
    x = (5.7 - math.sqrt(5.7**2 - 4 * 0.2 * 0.2)) / 2

    def rates(t: float, u: np.ndarray) -> Sequence[float]:
        return (-u[1] - u[2], u[0] + 0.2 * u[1], 0.2 + u[2] * u[0] - 5.7 * u[2])

    u = _state(1.0, -4.0, 0.1)
    still = ode.rhs(_state(x, -x / 0.2, x / 0.2)).abs().max()
    return [
        _rate(ode, _state(1.0, 2.0, 3.0), _state(-5.0, 1.4, -13.9)),
        at_most("rate at the state of rest", still, 1e-13, "the inner one"),
        _against_scipy(ode, rates, u, 30.0, 1e-7),
        _order(ode, u, 3.0, (40, 80)),
        _exponent(ode, 0.5, 8, 128, 100, 0.0714, 0.1),
    ]


def _structure(ode: Hamiltonian, u: Tensor, dt: float, steps: int, order: int, level: float) -> list[Check]:
    """Energy over a long time, symplecticity and reversal of the steps that `build` gives."""
    step = build(ode, Point(), dt, order=order, substeps=1)
    with torch.no_grad():
        error = (ode.invariants(rollout(step, steps)(u).flatten(0, 1))["energy"]).reshape(len(u), -1)
        error = (error - error[:, :1]).abs()
        flip = torch.ones(u.shape[1], dtype=u.dtype)
        flip[u.shape[1] // 2 :] = -1.0
        back = step(step(u) * flip) * flip
    early, late = error[:, : steps // 4].amax(1), error[:, 3 * steps // 4 :].amax(1)
    scale = ode.invariants(u)["energy"].abs()
    matrix = torch.autograd.functional.jacobian(lambda v: step(v.unsqueeze(0))[0], u[0])
    half = u.shape[1] // 2
    form = torch.zeros_like(matrix)
    form[:half, half:] = torch.eye(half, dtype=u.dtype)
    form[half:, :half] = -torch.eye(half, dtype=u.dtype)
    twisted = (matrix.mT @ form @ matrix - form).abs().max()
    setting = f"{steps} steps of {dt:g}, order {order}"
    return [
        at_most("energy error", (error.amax(1) / scale).max(), level, setting),
        at_most("energy error, last quarter over first", (late / early).max(), 1.5, setting),
        at_most("symplecticity of a step", twisted, 1e-12, f"step of {dt:g}"),
        at_most("forth and back", _distance(back, u), 1e-12, f"step of {dt:g}"),
    ]


def _double_pendulum(cls: type[DoublePendulum]) -> list[Check]:
    m, n, a, b, g = 1.3, 0.7, 0.8, 1.1, 9.81
    ode = cls((m, n), (a, b), g)

    def rates(t: float, u: np.ndarray) -> Sequence[float]:
        """Newton's form: angles and their speeds, from the forces in the rods."""
        p, q, v, w = u
        sin, cos = math.sin(p - q), math.cos(p - q)
        below = 2 * m + n - n * math.cos(2 * (p - q))
        first = -g * (2 * m + n) * math.sin(p) - n * g * math.sin(p - 2 * q)
        first -= 2 * sin * n * (w**2 * b + v**2 * a * cos)
        second = 2 * sin * ((m + n) * (v**2 * a + g * math.cos(p)) + w**2 * b * n * cos)
        return (v, w, first / (a * below), second / (b * below))

    def momenta(u: Tensor) -> Tensor:
        p, q, v, w = u.unbind(1)
        cos = torch.cos(p - q)
        first = (m + n) * a**2 * v + n * a * b * w * cos
        return torch.stack([p, q, first, n * b**2 * w + n * a * b * v * cos], dim=1)

    u = _state(1.2, -0.5, 0.3, 1.0)
    reference = momenta(_reference(rates, u, 2.0))
    with torch.no_grad():
        found = build(ode, Point(), 2.0, tolerance=1e-11)(momenta(u))
        kept = build(ode, Point(), 2.0, order=6, substeps=60)(momenta(u))
    plain, size = cls(), 1e-5
    # Rods and masses alike swing in the mode (1, sqrt 2) with omega^2 = (2 - sqrt 2) g/l; Landau and Lifshitz.
    slow = math.sqrt((2 - math.sqrt(2)) * 9.81)
    shape = _state(1.0, math.sqrt(2))
    with torch.no_grad():
        start = torch.cat([size * shape, torch.zeros_like(shape)], dim=1)
        swung = build(plain, Point(), 1.0, order=6, substeps=20)(start)[:, :2]
    swing = _distance(swung, size * math.cos(slow) * shape)
    calm = torch.cat([_state(0.5, -0.3, 0.0, 0.0), _state(0.2, 0.6, 0.1, 0.0)])
    return [
        at_most("distance to Newton's form", _distance(found, reference), 1e-9, "t = 2, adaptive"),
        at_most("distance, implicit midpoint", _distance(kept, reference), 1e-5, "t = 2, order 6"),
        at_most("small swing", swing, 1e-7, "slow mode, amplitude 1e-5, t = 1"),
        _order(ode, momenta(u), 0.1, (2, 4)),
        *_structure(ode, calm, 0.04, 500, 2, 1e-3),
    ]


def _henon_heiles(cls: type[HenonHeiles]) -> list[Check]:
    ode = cls()

    def rates(t: float, u: np.ndarray) -> Sequence[float]:
        return (u[2], u[3], -u[0] - 2 * u[0] * u[1], -u[1] - u[0] ** 2 + u[1] ** 2)

    u = torch.cat([_state(0.1, 0.2, 0.3, 0.1), _state(0.0, -0.15, 0.35, 0.2)])
    sin, cos = math.sqrt(3) / 2, -0.5
    turn = torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)
    both = torch.block_diag(turn, turn)
    with torch.no_grad():
        step = build(ode, Point(), 1.0)
        turned = _distance(step(u @ both), step(u) @ both)
    return [
        _rate(ode, _state(0.1, 0.2, 0.3, 0.4), _state(0.3, 0.4, -0.14, -0.17)),
        _against_scipy(ode, rates, u[:1], 20.0, 1e-5, order=6),
        *[_order(ode, u, 2.0, (8, 16), order) for order in (2, 4, 6)],
        at_most("turning by 120 degrees", turned, 1e-14, "one step of 1"),
        *_structure(ode, u, 0.1, 5000, 4, 1e-5),
    ]


def _first(solution: Callable[[float], np.ndarray]) -> Callable[[float], float]:
    return lambda t: float(solution(t)[0])


def _by_steps(
    rate: Callable[[float, float], float], delay: float, first: Callable[[float], float], count: int
) -> Callable[[float], float]:
    """u' = rate(u(t), u(t - delay)) of one unknown, one delay after the other: each is an ordinary equation.

    What came before is read off scipy's polynomials, of order 7 within its steps.
    """
    pieces: list[Callable[[float], float]] = [first]

    def rates(t: float, u: np.ndarray) -> Sequence[float]:
        return (rate(u[0], pieces[-1](t - delay)),)

    now = first(0.0)
    for k in range(count):
        span = (k * delay, (k + 1) * delay)
        found = solve_ivp(rates, span, [now], method="DOP853", rtol=1e-11, atol=1e-12, dense_output=True)
        now = float(found.y[0, -1])
        pieces.append(_first(found.sol))
    return lambda t: pieces[min(max(math.floor(t / delay) + 1, 0), count)](t)


def _mackey_glass(cls: type[MackeyGlass]) -> list[Check]:
    beta, gamma, delay = 0.2, 0.1, 17.0

    def rate(now: float, then: float) -> float:
        return beta * then / (1 + then**10) - gamma * now

    burnt, ahead = 6, 4
    truth = _by_steps(rate, delay, lambda t: 0.5, burnt + ahead)
    start = burnt * delay  # the kink of the first history is by then one of the seventh derivative

    def distance(nodes: int) -> float:
        ode = cls(nodes=nodes)
        ages = ode.ages.tolist()
        u = _state(*(truth(start - age) for age in ages))
        with torch.no_grad():
            path = rollout(build(ode, Point(), delay, substeps=8 * nodes), ahead)(u)[0, 1:]
        times = [[truth(start + (k + 1) * delay - age) for age in ages] for k in range(ahead)]
        return _distance(path, torch.tensor(times, dtype=torch.float64))

    errors = [distance(nodes) for nodes in (9, 13, 17)]
    gain = min(a / b for a, b in zip(errors, errors[1:], strict=False))
    ode = cls()
    rest = torch.ones(1, ode.nodes, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda v: ode.rhs(v.unsqueeze(0))[0], rest[0])
    values = torch.linalg.eigvals(matrix)
    # Small waves at rest obey z = -gamma + b e^{-z tau} with b = beta (2 - n) / 4.
    exact = lambertw(-0.4 * delay * math.exp(gamma * delay)) / delay - gamma
    wave = float((values - exact).abs().min() / abs(exact))
    few = cls(delay=2.0, nodes=3)
    return [
        _rate(few, _state(3.0, 2.5, 1.0), _state(-0.2, 1.0, 2.0)),
        at_most("rate at the state of rest", ode.rhs(rest).abs().max(), 1e-13, "u = 1"),
        at_most(
            "growth of a small wave", wave, 1e-12, "leading root of z = -0.1 - 0.4 exp(-17 z), 19 points"
        ),
        at_most("distance to the method of steps", distance(19), 1e-5, "19 points, 4 delays of 17"),
        at_least("gain of four points more", gain, 5.0, "9, 13 and 17 points, 4 delays of 17"),
        _order(ode, ode.initial(1, torch.Generator().manual_seed(1)), 4.0, (8, 16)),
        _exponent(ode, 1.0, 2, 24, 2000, 0.0056, 0.2, 500),
    ]


SUITES: Suites = {
    Lorenz63: _lorenz63,
    Lorenz96: _lorenz96,
    Roessler: _roessler,
    DoublePendulum: _double_pendulum,
    HenonHeiles: _henon_heiles,
    MackeyGlass: _mackey_glass,
}
