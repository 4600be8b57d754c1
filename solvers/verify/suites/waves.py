"""Waves: in uniform media solved exactly in Fourier space, in varying ones on staggered cells and volumes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sciml.calculus import Autograd
from sciml.domains import Grid, Sides
from sciml.pdes import Acoustics, AcousticScattering, Wave
from sciml.pdes.maxwell import MaxwellEquations
from sciml.solvers.build import build
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import (
    box,
    exact_error,
    observed_order,
    points,
    random_states,
    rate_error,
    relative_error,
    structure,
)
from sciml.solvers.verify.suites.linear import differences, linear_checks
from sciml.solvers.waves import PML, Leapfrog, Sponge, acoustic, numerical_frequency, yee
from sciml.step import Step, rollout


def _alembert(pde: Wave) -> Check:
    """Any displacement at rest parts into two halves that travel unchanged."""
    grid = box(pde, 60, 1)
    u = random_states(grid, 2)
    u[:, 1] = 0.0
    cells = 7
    with torch.no_grad():
        new = build(pde, grid, cells * grid.spacing[0] / 1.5)(u)[:, :1]
    halves = 0.5 * (u[:, :1].roll(cells, 2) + u[:, :1].roll(-cells, 2))
    return at_most(
        "error against d'Alembert's halves", relative_error(new, halves).max(), 1e-12, "60 points, 7 cells"
    )


def _drift(pde: Wave) -> Check:
    """The mean displacement, which nothing restores, moves by the mean rate."""
    grid = box(pde, 16, 2)
    u = random_states(grid, 2) + torch.tensor([0.4, -0.7], dtype=torch.float64).reshape(1, 2, 1, 1)
    mean = u.mean(dim=(2, 3))
    with torch.no_grad():
        path = rollout(build(pde, grid, 0.5), 40)(u)
    last = path[:, -1].mean(dim=(2, 3))
    expected = torch.stack([mean[:, 0] + 20.0 * mean[:, 1], mean[:, 1]], dim=1)
    return at_most(
        "error of the drifting mean", (last - expected).abs().max() / 20.0, 1e-12, "16^2, 40 steps of 0.5"
    )


def _return(pde: Wave) -> Check:
    """With the rate turned round the way leads back."""
    grid = box(pde, 32, 2)
    u, mirror = random_states(grid, 2), torch.tensor([1.0, -1.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    step = build(pde, grid, 0.37)
    with torch.no_grad():
        there = rollout(step, 20)(u)[:, -1]
        back = mirror * rollout(step, 20)(mirror * there)[:, -1]
    return at_most("way there and back", relative_error(back, u).max(), 1e-11, "32^2, 20 steps of 0.37")


def _wave(cls: type[Wave]) -> list[Check]:
    pde = cls(speed=1.5)
    damped, creeping = cls(speed=1.5, damping=0.4), cls(speed=0.5, damping=3.0)
    line, plane = box(pde, 64, 1), box(pde, 32, 2)
    x, y = points(plane).split(1, dim=1)
    u = torch.cat([torch.sin(x + 2 * y), torch.cos(2 * x)], dim=1)
    # v_t = 1.5^2 lap(u) - 0.4 v, with lap(u) = -5 u.
    rate = torch.cat([torch.cos(2 * x), -11.25 * u[:, :1] - 0.4 * u[:, 1:]], dim=1)
    checks = [
        *linear_checks(lambda d: pde, "standing and travelling waves"),
        at_most("initial rate of two waves", rate_error(damped, plane, u, rate, 1e-4), 1e-6, "32^2"),
        _alembert(pde),
        _drift(pde),
        _return(pde),
        differences(damped, 1, (32, 64), 0.5, 50),
    ]
    for name, one in (("damped", damped), ("overdamped", creeping)):
        for grid in (line, plane):
            checks.append(
                at_most(
                    f"error of {name} waves in {grid.dimension}D",
                    exact_error(one, build(one, grid, 0.3), grid, 10),
                    1e-12,
                    "t = 3",
                )
            )
    walls = []
    for n in (17, 33):
        bounded = box(pde, n, 2, boundary="neumann")
        x, y = points(bounded).split(1, dim=1)
        shape = torch.cos(x) * torch.cos(2 * y)
        angle = 1.5 * math.sqrt(5) * 0.4
        with torch.no_grad():
            new = build(pde, bounded, 0.4)(torch.cat([shape, 0 * shape], dim=1))[:, :1]
        walls.append(float(relative_error(new, math.cos(angle) * shape).max()))
    checks.append(
        at_least(
            "order in space between walls", observed_order(walls), 3.5, "17^2 to 33^2, Neumann, t = 0.4"
        )
    )
    return checks + structure(damped, plane, 0.1, 50, random_states(plane, 2))


Make = Callable[[Any, Grid, float], Any]
"""A step of an equation on a grid for a time."""


def _staggered(cfl: float = 0.5, layer: PML | Sponge | None = None) -> Make:
    """Leapfrog at a fixed part of the limit, so that space and time are refined alike."""

    def make(pde: Any, grid: Grid, dt: float) -> Leapfrog:
        if isinstance(pde, Acoustics):
            return acoustic(pde, grid, dt, layer=layer, cfl=cfl)  # type: ignore[return-value]
        return yee(pde, grid, dt, layer=layer, cfl=cfl)

    return make


def _volumes(pde: Any, grid: Grid, dt: float) -> Step:
    return acoustic(pde, grid, dt, scheme="volumes", reconstruction="fromm")


def _places(step: Step, grid: Grid, channels: int) -> Tensor:
    """Where the channels lie, (C, D, *cells)."""
    if isinstance(step, Leapfrog):
        return step.coordinates()
    return grid.coordinates().expand(channels, *[-1] * (1 + grid.dimension))


def _sampled(places: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([function(places[c : c + 1])[:, c : c + 1] for c in range(len(places))], dim=1)


def _order(pde: Any, make: Make, dimension: int, counts: tuple[int, int], t: float) -> float:
    """Order in space and time together, against the exact solution."""
    errors = []
    for n in counts:
        grid = box(pde, n, dimension, centering="cell")
        step = make(pde, grid, t)
        places = _places(step, grid, len(pde.channels(dimension)))
        with torch.no_grad():
            u = step(_sampled(places, lambda x: pde.exact(x, 0.0)))
        gap = u - _sampled(places, lambda x: pde.exact(x, t))
        errors.append(float(gap.square().mean().sqrt()))
    return observed_order(errors)


def _smooth(x: Tensor, count: int, *, mean: float = 0.0, turn: float = 0.0) -> Tensor:
    """Smooth fields on a box of side 2 pi, (B, D, *points) -> (B, count, *points)."""
    out = []
    for i in range(count):
        f = torch.full_like(x[:, :1], mean)
        for axis in range(x.shape[1]):
            f = f + 0.3 * torch.sin(x[:, axis : axis + 1] * (1 + (i + axis) % 2) + i + 2.0 * axis + turn)
        out.append(f)
    return torch.cat(out, dim=1)


def _rate_order(cls: type[Any], make: Make, dimension: int, counts: tuple[int, int]) -> float:
    """Order of the solver's rate of change towards the equation's own, in a medium that varies smoothly."""
    names = {"Acoustics": 2, "AcousticScattering": 1}
    parameters = next((names[c.__name__] for c in cls.__mro__ if c.__name__ in names), 3)

    def medium(x: Tensor) -> Any:
        return cls(*[_smooth(x, 1, mean=1.5, turn=float(i)) for i in range(parameters)])

    def state(x: Tensor) -> Tensor:
        return _smooth(x, channels, mean=2.0)

    errors, channels = [], len(cls.channels(dimension))
    for n in counts:
        grid = Grid((n,) * dimension, (2 * math.pi,) * dimension, centering="cell")
        pde, h = medium(points(grid)), 1e-5
        step = make(pde, grid, h)
        places = _places(step, grid, channels)
        u = _sampled(places, state)
        with torch.no_grad():
            found = (step(u) - u) / h
        gap = torch.zeros((), dtype=torch.float64)
        for c in range(channels):
            x = places[c : c + 1].flatten(2).requires_grad_()
            exact = medium(x).rhs(state(x), Autograd(x))[:, c]
            gap = gap + (found[:, c].flatten() - exact.detach().flatten()).square().sum()
        errors.append(float(gap.sqrt()) / n ** (dimension / 2))
    return observed_order(errors)


def _random(grid: Grid, low: float, high: float, seed: int) -> Tensor:
    """A medium without any smoothness, (1, 1, *cells)."""
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(1, 1, *grid.shape, generator=generator, dtype=torch.float64)


def _noise(step: Leapfrog, seed: int = 0) -> Tensor:
    """White noise as a state, zero where walls hold it."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, len(step.offsets), *step.domain.shape)  # type: ignore[attr-defined]
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    return step.from_centres(noise)


def _kept(step: Leapfrog, u: Tensor, calls: int, measure: Callable[[Tensor], Tensor]) -> float:
    """Largest change of a measure along a rollout, over its size or that of the state."""
    with torch.no_grad():
        first, worst = measure(u), 0.0
        scale = max(float(first.abs().max()), 1.0)
        for _ in range(calls):
            u = step(u)
            worst = max(worst, float((measure(u) - first).abs().max()) / scale)
    return worst


def _dispersion(pde: Any, dimension: int, speed: float, *, channel: int, wave: tuple[float, ...]) -> float:
    """Error of a standing wave of the grid, which swings at the numerical frequency exactly."""
    grid = box(pde, 12, dimension, centering="cell")
    step = _staggered(0.8)(pde, grid, 0.7)
    h = step.dt / step.substeps
    frequency = numerical_frequency(speed, wave, grid.spacing, h)
    places = step.coordinates()
    phase = sum(k * places[channel, axis] for axis, k in enumerate(wave))
    u = torch.zeros(1, len(step.offsets), *grid.shape, dtype=torch.float64)
    u[0, channel] = torch.cos(phase)
    with torch.no_grad():
        last = rollout(step, 10)(u)[:, -1]
    return float((last[0, channel] - math.cos(frequency * 10 * step.dt) * u[0, channel]).abs().max())


def _leaving(make: Make, far: Make, pde: Any, channel: int, dimension: int = 2, margin: int = 10) -> float:
    """What returns from open sides of a pulse let go in the middle, over what reaches them.

    Against a box so large that nothing returns in time, on the cells outside of any layer.
    """
    n = 40 if dimension == 2 else 24
    finals = []
    for size, step_of, side in ((n + 2 * margin, make, "outflow"), (3 * n, far, "wall")):
        grid = Grid(
            (size,) * dimension, (float(size),) * dimension, side, origin=-size / 2, centering="cell"
        )
        step = step_of(pde, grid, n / 8)

        def pulse(x: Tensor) -> Tensor:
            shape = torch.exp(-x.square().sum(1, keepdim=True) / 16.0)
            return torch.cat(
                [shape if c == channel else 0 * shape for c in range(len(pde.channels(dimension)))], dim=1
            )

        u = _sampled(_places(step, grid, len(pde.channels(dimension))), pulse)
        u = step.start(u) if isinstance(step, Leapfrog) else u
        with torch.no_grad():
            seen = rollout(step, 8)(u)[0, :, channel]
        for axis in range(1, 1 + dimension):
            seen = seen.narrow(axis, (size - n) // 2, n)
        finals.append(seen)
    reach = finals[1].select(-1, -1).abs().max()
    return float((finals[0] - finals[1]).abs().max() / reach)


def interface(make: Make, n: int) -> tuple[float, float]:
    """Errors of the pulses that an interface sends back and lets through, over the pulse that came.

    From c = 1, Z = 1 into c = 1/2, Z = 2 (density 4): exact pressures 1/3 back and 4/3 through.
    """
    grid = Grid((n,), (4.0,), boundary="outflow", origin=-2.0, centering="cell")
    density = torch.where(points(grid) < 0, 1.0, 4.0)
    pde = Acoustics(density, 1.0)
    step = make(pde, grid, 1.5)

    def pulse(x: Tensor, centre: float, width: float, height: float) -> Tensor:
        return height * torch.exp(-(((x - centre) / width) ** 2))

    def start(x: Tensor) -> Tensor:
        p = pulse(x, -0.75, 0.15, 1.0)
        return torch.cat([p, p], dim=1)

    with torch.no_grad():
        u = step(_sampled(_places(step, grid, 2), start))[:, :1]
    x = points(grid)
    # After 1.5 the pulse has been at the interface for 0.75: as far back as it came, and half as far beyond.
    back, through = pulse(x, -0.75, 0.15, 1 / 3), pulse(x, 0.375, 0.075, 4 / 3)
    left = x < 0
    return float((u - back)[left].abs().max()), float((u - through)[~left].abs().max())


def _spherical(make: Make, counts: tuple[int, int]) -> float:
    """Order on a spherical pulse in space: r p travels unchanged both ways."""

    def exact(x: Tensor, t: float) -> Tensor:
        r = x.square().sum(1, keepdim=True).sqrt().clamp(min=1e-9)
        p = sum((r + s * t) * torch.exp(-(((r + s * t) / 0.35) ** 2)) for s in (1.0, -1.0)) / (2 * r)
        return torch.cat([p, 0 * p, 0 * p, 0 * p], dim=1)  # type: ignore[list-item, operator]

    errors = []
    for n in counts:
        grid = Grid((n,) * 3, (3.0,) * 3, boundary="wall", origin=-1.5, centering="cell")
        step = make(Acoustics(), grid, 0.7)
        places = _places(step, grid, 4)
        with torch.no_grad():
            u = step(_sampled(places, lambda x: exact(x, 0.0)))[:, :1]
        errors.append(float((u - exact(places[:1], 0.7)[:, :1]).norm()) / n**1.5)
    return observed_order(errors)


def _acoustics(cls: type[Acoustics]) -> list[Check]:
    pde = cls(1.3, 2.0)
    checks = [
        at_least(
            f"order in space and time in {d}D, {name}",
            _order(pde, make, d, counts, 0.5),
            1.9,
            f"{counts[0]}^{d} to {counts[1]}^{d}, t = 0.5",
        )
        for name, make, d, counts in (
            ("staggered", _staggered(), 1, (32, 64)),
            ("staggered", _staggered(), 2, (32, 64)),
            ("staggered", _staggered(), 3, (12, 24)),
            ("volumes", _volumes, 1, (32, 64)),
            ("volumes", _volumes, 2, (32, 64)),
        )
    ]
    checks += [
        at_least(
            f"order of the rate of change in a varying medium, {name}",
            _rate_order(cls, make, 2, (48, 96)),
            1.9,
            "48^2 to 96^2",
        )
        for name, make in (("staggered", _staggered()), ("volumes", _volumes))
    ]
    checks.append(
        at_most(
            "error against the dispersion of the grid",
            _dispersion(pde, 3, math.sqrt(2.0 / 1.3), channel=0, wave=(1.0, 2.0, 1.0)),
            1e-12,
            "12^3, 10 steps of 0.7",
        )
    )
    for name, make, level in (("staggered", _staggered(0.9), 0.02), ("volumes", _volumes, 0.06)):
        coarse, fine = interface(make, 200), interface(make, 400)
        checks.append(
            at_most(f"error behind an interface, {name}", max(fine), level, "Z from 1 to 2, 400 cells")
        )
        checks.append(
            at_least(
                f"order behind an interface, {name}",
                observed_order([max(coarse), max(fine)]),
                1.6,
                "200 to 400 cells",
            )
        )
    rough = Grid(
        (12, 10), (1.0, 1.3), boundary=(("wall", "wall"), ("periodic", "periodic")), centering="cell"
    )
    closed = _staggered(0.99)(cls(_random(rough, 0.2, 5.0, 1), _random(rough, 0.5, 2.0, 2)), rough, 1.0)
    noise = _noise(closed)
    checks += [
        at_most(
            "drift of the energy at staggered times",
            _kept(closed, noise, 50, closed.energy),
            1e-12,
            f"random medium, wall and periodic, {50 * closed.substeps} substeps at 0.99 of the limit",
        ),
        at_most(
            "drift of the compression",
            _kept(closed, noise, 50, lambda u: (u[:, :1] / closed.medium.bulk_modulus).sum((1, 2, 3))),
            1e-12,
            "the same",
        ),
        at_most("error of reciprocity", _reciprocity(closed), 1e-12, "two places in a random medium"),
        at_least("order on a spherical pulse", _spherical(_staggered(), (20, 40)), 1.8, "20^3 to 40^3"),
        at_most(
            "what a PML of 10 cells returns",
            _leaving(_staggered(0.9, PML(10)), _staggered(0.9), pde, 0),
            2e-4,
            "pulse in 2D",
        ),
        at_most(
            "what a characteristic side returns",
            _leaving(_staggered(0.9), _staggered(0.9), pde, 0),
            0.1,
            "pulse in 2D, all angles to 45 degrees",
        ),
    ]
    return checks


def _reciprocity(step: Leapfrog) -> float:
    """A source at one place seen at another is what the other would show here, over the moduli."""
    modulus = step.pde.bulk_modulus[0, 0]  # type: ignore[attr-defined]
    u = torch.zeros(2, len(step.offsets), *step.domain.shape, dtype=torch.float64)  # type: ignore[attr-defined]
    here, there = (2, 3), (9, 7)
    u[0, 0][here] = u[1, 0][there] = 1.0
    with torch.no_grad():
        u = rollout(step, 3)(u)[:, -1]
    one, other = float(u[0, 0][there] / modulus[there]), float(u[1, 0][here] / modulus[here])
    return abs(one - other) / abs(one)


def _scattering(cls: type[AcousticScattering]) -> list[Check]:
    pde = cls(2.0)
    grid = Grid(
        (24, 20), (1.0, 1.0), boundary=(("wall", "wall"), ("periodic", "periodic")), centering="cell"
    )
    waves = random_states(grid, 3)
    density = _random(grid, 0.3, 6.0, 3).expand(2, -1, -1, -1)
    u = torch.cat([waves, density], dim=1)
    step, same = build(pde, grid, 0.5), build(Acoustics(density, 2.0), grid, 0.5)
    with torch.no_grad():
        path = rollout(step, 10)(u)
        last = path[:, -1]
        gap = (last[:, :-1] - rollout(same, 10)(waves)[:, -1]).abs().max()
        first, kept = pde.invariants(u, grid), pde.invariants(last, grid)
    scale = float((waves[:, :1] / 2.0).abs().mean()) * grid.volume
    return [
        at_least(
            "order in space and time in 2D",
            _order(pde, _volumes, 2, (32, 64), 0.5),
            1.9,
            "32^2 to 64^2, t = 0.5",
        ),
        at_least(
            "order of the rate of change in a varying medium",
            _rate_order(cls, _volumes, 2, (48, 96)),
            1.9,
            "48^2 to 96^2",
        ),
        at_most("distance from Acoustics in the same medium", gap, 1e-12, "random medium, 10 steps of 0.5"),
        at_most("change of the medium", (last[:, -1] - u[:, -1]).abs().max(), 0.0, "the same"),
        at_most(
            "drift of the compression",
            (kept["compression"] - first["compression"]).abs().max() / scale,
            1e-12,
            "the same",
        ),
        at_most(
            "energy gained", ((kept["energy"] - first["energy"]) / first["energy"]).max(), 0.0, "the same"
        ),
        at_most(
            "what a characteristic side returns",
            _leaving(_volumes, _volumes, Acoustics(1.0, 2.0), 0),
            0.1,
            "pulse in 2D, all angles to 45 degrees",
        ),
    ]


def _maxwell(cls: type[MaxwellEquations]) -> list[Check]:
    dimension = cls.dimensions[0]
    lossless, lossy = cls(1.3, 2.0), cls(1.3, 2.0, 0.4)
    counts = (12, 24) if dimension == 3 else (32, 64)
    grid = f"{counts[0]}^{dimension} to {counts[1]}^{dimension}"
    checks = [
        at_least(
            f"order in space and time, {name}",
            _order(pde, _staggered(), dimension, counts, 0.5),
            1.9,
            f"{grid}, t = 0.5",
        )
        for name, pde in (("transparent", lossless), ("conducting", lossy))
    ]
    checks.append(
        at_least(
            "order of the rate of change in a varying medium",
            _rate_order(cls, _staggered(), dimension, (20, 40) if dimension == 3 else (48, 96)),
            1.9,
            "20^3 to 40^3" if dimension == 3 else "48^2 to 96^2",
        )
    )
    # Waves that vary across the polarisation of one component alone.
    channel, wave = {"MaxwellTM": (0, (1.0, 2.0)), "MaxwellTE": (1, (2.0, 0.0))}.get(
        next(c.__name__ for c in cls.__mro__ if c.__name__.startswith("Maxwell")), (2, (1.0, 2.0, 0.0))
    )
    checks.append(
        at_most(
            "error against the dispersion of the grid",
            _dispersion(lossless, dimension, 1 / math.sqrt(2.6), channel=channel, wave=wave),
            1e-12,
            f"12^{dimension}, 10 steps of 0.7",
        )
    )
    sides: tuple[Sides, ...] = (("wall", "wall"), ("periodic", "periodic"), ("wall", "wall"))
    rough = Grid(
        (6, 7, 5)[:dimension], (1.0, 1.2, 0.9)[:dimension], boundary=sides[:dimension], centering="cell"
    )
    random = cls(_random(rough, 1.0, 4.0, 1), _random(rough, 1.0, 2.0, 2))
    probe = yee(random, rough, 1.0)
    step = yee(random, rough, 0.99 * probe.limit * 500, substeps=500)
    noise = _noise(step)
    setting = "random medium, walls and periodic, 10,000 substeps at 0.99 of the limit"
    # Both along one run: charges first, as energies are sums of squares of what they measure.
    charges, energies = [], []
    with torch.no_grad():
        u = noise
        for call in range(21):
            charges.append((step.magnetic_charge(u), step.electric_charge(u)))
            energies.append(step.energy(u))
            u = u if call == 20 else step(u)
    size = float(noise.abs().max()) / min(rough.spacing)
    for i, name, components in ((0, "div(mu H)", cls.magnetic), (1, "div(eps E)", cls.electric)):
        if 0 not in components:
            continue  # one component across the plane has no divergence
        worst = max(float((c[i] - charges[0][i]).abs().max()) for c in charges) / size
        checks.append(at_most(f"drift of {name}", worst, 1e-12, setting))
    worst = max(float((e - energies[0]).abs().max() / energies[0].abs().max()) for e in energies)
    checks.append(at_most("drift of the energy at staggered times", worst, 1e-12, setting))
    pulsed = {2: len(cls.electric) - 1, 3: 2}[dimension] if cls.electric != (0, 1) else 2
    checks.append(
        at_most(
            "what a PML of 8 cells returns",
            _leaving(
                _staggered(0.9, PML(8)), _staggered(0.9), lossless, pulsed, dimension=dimension, margin=8
            ),
            5e-4,
            f"pulse in {dimension}D",
        )
    )
    return checks


SUITES: Suites = {
    Wave: _wave,
    Acoustics: _acoustics,
    AcousticScattering: _scattering,
    MaxwellEquations: _maxwell,
}
