"""Measure what the solvers do against exact solutions, and say so in a certificate.

Every check is a number beside the level it has to reach. Exact solutions and rates worked out by hand
catch a wrong coefficient; refinement gives the orders; invariants and translations the structure.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.errors import UserError
from sciml.fields import RandomFourier
from sciml.pdes import (
    PDES,
    Advection,
    AdvectionDiffusion,
    Burgers,
    CompressibleEuler,
    Heat,
    KuramotoSivashinsky,
    NavierStokesVorticity,
)
from sciml.pdes.base import PDE, HasExact
from sciml.resample import resample
from sciml.solvers.build import build
from sciml.solvers.finite_volume import SOD
from sciml.step import Step, rollout


@dataclass(frozen=True)
class Check:
    """One measured number and the level it has to reach.

    Args:
        name: what was measured.
        value: the number.
        level: what it is held against.
        sense: "at most" or "at least".
        setting: the set-up in words.
    """

    name: str
    value: float
    level: float
    sense: Literal["at most", "at least"]
    setting: str

    @property
    def passed(self) -> bool:
        """Whether the level is reached; never where the number is not finite."""
        if not math.isfinite(self.value):
            return False
        return self.value <= self.level if self.sense == "at most" else self.value >= self.level


@dataclass(frozen=True)
class Certificate:
    """What was measured of one equation's solvers.

    Args:
        pde: name of the equation.
        checks: the measured numbers.
        seconds: CPU time of the measurement [s].
    """

    pde: str
    checks: tuple[Check, ...]
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether every check reached its level."""
        return all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and words, as `write` stores them; numbers that are not finite as words."""
        checks = []
        for check in self.checks:
            entry = {**asdict(check), "passed": check.passed}
            entry["value"] = check.value if math.isfinite(check.value) else str(check.value)
            checks.append(entry)
        return {"pde": self.pde, "passed": self.passed, "seconds": self.seconds, "checks": checks}

    def write(self, path: Path | str) -> None:
        """Store the certificate as JSON, under its name only when complete."""
        path = Path(path)
        partial = path.with_name(path.name + ".partial")
        partial.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)


def table(certificates: Sequence[Certificate]) -> list[list[str]]:
    """Rows of text, the first one the header: equation, check, setting, measured, level, verdict."""
    rows = [["equation", "check", "setting", "measured", "level", "verdict"]]
    for certificate in certificates:
        for check in certificate.checks:
            # Orders read as 3.98, errors as 1.2e-09.
            form = ".2f" if 0.1 <= abs(check.value) < 100 else ".1e"
            rows.append(
                [
                    certificate.pde,
                    check.name,
                    check.setting,
                    format(check.value, form),
                    f"{check.sense} {check.level:g}",
                    "passed" if check.passed else "FAILED",
                ]
            )
    return rows


def at_most(name: str, value: float | Tensor, level: float, setting: str) -> Check:
    """A check of an error or a drift."""
    return Check(name, float(value), level, "at most", setting)


def at_least(name: str, value: float | Tensor, level: float, setting: str) -> Check:
    """A check of an order."""
    return Check(name, float(value), level, "at least", setting)


def self_convergence(
    make: Callable[[Grid, int], Callable[[Tensor], Tensor]],
    grid: Grid,
    substeps: int,
    u0: Tensor,
    steps: int,
) -> Tensor:
    """Error of a solver's own output, measured against twice the grid and half the substep.

    Args:
        make: the step of one output time on a grid with a number of substeps.
        grid: the production grid.
        substeps: the production substeps.
        u0: initial states (B, C, *points) on that grid.
        steps: output times after the initial one.

    Returns relative L2 errors (B, steps + 1, C): the floor below which nobody should be credited or
    blamed. Where both runs blow up the entry is NaN.
    """
    fine = grid.resized([_doubled(grid, axis) for axis in range(grid.dimension)])
    production, reference = make(grid, substeps), make(fine, 2 * substeps)
    u, v = u0, resample(u0, grid, fine)
    errors = []
    with torch.no_grad():
        for index in range(steps + 1):
            if index:
                u, v = production(u), reference(v)
            errors.append(relative_error(u, resample(v, fine, grid)))
    return torch.stack(errors, dim=1)


def _doubled(grid: Grid, axis: int) -> int:
    """Points of an axis of half the spacing that keeps the old points among the new."""
    n = grid.shape[axis]
    return 2 * n if grid.centering == "cell" or grid.periodic[axis] else 2 * n - 1


def relative_error(u: Tensor, reference: Tensor) -> Tensor:
    """Relative L2 distance per sample and channel, (B, C); absolute where the reference vanishes."""
    size = reference.flatten(2).norm(dim=2)
    return (u - reference).flatten(2).norm(dim=2) / torch.where(size > 0, size, torch.ones_like(size))


def _order(errors: Sequence[float]) -> float:
    """Order seen between the last two of a series of errors under halving."""
    coarse, fine = errors[-2:]
    return math.log2(coarse / fine) if coarse > 0 and fine > 0 else math.inf


def _points(grid: Grid) -> Tensor:
    return grid.coordinates().unsqueeze(0)


def _exact_error(pde: Any, step: Step, grid: Grid, steps: int) -> float:
    """Largest relative L2 error per channel after some steps from the exact solution at time 0."""
    x = _points(grid)
    u = pde.exact(x, 0.0).contiguous()
    with torch.no_grad():
        u = rollout(step, steps)(u)[:, -1]
    return float(relative_error(u, pde.exact(x, step.dt * steps)).max())


def _box(pde: Any, n: int, dimension: int, boundary: str = "periodic", centering: str = "node") -> Grid:
    lengths = pde.exact_lengths(dimension)
    return Grid((n,) * dimension, lengths, boundary=boundary, centering=centering)  # type: ignore[arg-type]


def _random(grid: Grid, channels: int, samples: int = 2) -> Tensor:
    """Smooth random states (B, C, *points) of at most 3 modes, seed 0."""
    generator = torch.Generator().manual_seed(0)
    draw = RandomFourier(modes=3)
    return torch.stack([draw(grid, channels, generator) for _ in range(samples)])


def _time_order(pde: PDE, grid: Grid, dt: float, counts: Sequence[int], u: Tensor) -> float:
    """Order in time between the last two numbers of substeps, against eight times the last."""

    def run(substeps: int) -> Tensor:
        with torch.no_grad():
            return build(pde, grid, dt, substeps=substeps)(u)

    reference = run(8 * counts[-1])
    return _order([float((run(n) - reference).norm()) for n in counts])


def _structure(pde: PDE, grid: Grid, dt: float, steps: int, u: Tensor, drift: float = 1e-12) -> list[Check]:
    """Invariants along a rollout, and translation by whole cells."""
    step = build(pde, grid, dt)
    with torch.no_grad():
        path = rollout(step, steps)(u)
        shift = tuple(n // 3 for n in grid.shape)
        axes = tuple(range(2, u.ndim))
        there = step(u.roll(shift, axes)).roll(tuple(-s for s in shift), axes)
        kept = pde.invariants(u, grid)
        last = pde.invariants(path[:, -1], grid)
    setting = f"{'x'.join(map(str, grid.shape))}, {steps} steps of {dt:g}, random states"
    scale = float(u.abs().mean()) * grid.volume
    checks = [
        at_most(
            f"drift of {name}",
            ((last[name] - kept[name]).abs() / kept[name].abs().clamp(min=scale)).max(),
            drift,
            setting,
        )
        for name in kept
    ]
    # Transforms of shifted data round otherwise: a hundred roundings.
    moved = (there - path[:, 1]).abs().max() / path[:, 1].abs().max()
    return [*checks, at_most("translation by whole cells", moved, 1e-12, setting)]


def _rate_error(pde: PDE, grid: Grid, u: Tensor, rate: Tensor, h: float = 1e-3) -> float:
    """Relative error of du/dt at time 0, from two steps, against a rate worked out by hand."""
    with torch.no_grad():
        whole, half = (build(pde, grid, t, substeps=1)(u) for t in (h, h / 2))
    # Richardson: the error is a multiple of h^2 u_ttt/12.
    found = (4 * half - whole - 3 * u) / h
    return float((found - rate).norm() / rate.norm())


def _linear(make: Callable[[int], PDE], names: str) -> list[Check]:
    """Equations that Fourier space solves exactly."""
    checks = []
    for dimension, n in ((1, 64), (2, 32), (3, 16)):
        pde = make(dimension)
        assert isinstance(pde, HasExact)
        grid = _box(pde, n, dimension)
        error = _exact_error(pde, build(pde, grid, 0.3), grid, 10)
        checks.append(
            at_most(f"error in {dimension}D", error, 1e-12, f"{names}, {n}^{dimension} periodic, t = 3")
        )
    pde = make(2)
    grid = _box(pde, 32, 2)
    return checks + _structure(pde, grid, 0.1, 50, _random(grid, 1))


def _advection(cls: type[Advection]) -> list[Check]:
    return _linear(lambda d: cls(velocity=(1.0, -0.5, 0.3)[:d]), "Fourier modes")


def _advection_diffusion(cls: type[AdvectionDiffusion]) -> list[Check]:
    return _linear(lambda d: cls(velocity=(1.0, -0.5, 0.3)[:d], diffusivity=0.05), "decaying Fourier modes")


def _heat(cls: type[Heat]) -> list[Check]:
    checks = _linear(lambda d: cls(diffusivity=0.1), "decaying Fourier modes")
    pde = cls(diffusivity=0.1)
    for order, level in ((2, 1.9), (4, 3.7)):
        errors = []
        for n in (17, 33):
            grid = _box(pde, n, 2, boundary="neumann")
            errors.append(_exact_error(pde, build(pde, grid, 0.25, order=order), grid, 2))
        checks.append(
            at_least(
                f"order in space, differences of order {order}",
                _order(errors),
                level,
                "17^2 to 33^2, Neumann sides, t = 0.5",
            )
        )
    return checks + _elements(pde)


def _elements(pde: PDE) -> list[Check]:
    """Order in space of finite elements, where scikit-fem is installed."""
    if find_spec("skfem") is None:
        return []
    from sciml.solvers.finite_element import rectangle

    assert isinstance(pde, HasExact)
    errors, sizes = [], []
    for spacing in (0.5, 0.25):
        mesh = rectangle(pde.exact_lengths(2), spacing)  # type: ignore[arg-type]
        x = mesh.coordinates().unsqueeze(0)
        # Substeps of 0.02: an error in time far below that of the mesh.
        u = build(pde, mesh, 0.5, substeps=25)(pde.exact(x, 0.0).contiguous())
        weights = mesh.weights()
        errors.append(float(((u - pde.exact(x, 0.5)).square() * weights).sum().sqrt()))
        sizes.append(len(mesh.points) ** -0.5)
    order = math.log(errors[0] / errors[1]) / math.log(sizes[0] / sizes[1])
    return [at_least("order in space, finite elements", order, 1.8, "triangles of 0.5 to 0.25, t = 0.5")]


def _burgers(cls: type[Burgers]) -> list[Check]:
    pde = cls(viscosity=0.1)
    grid = _box(pde, 128, 1)
    times = [_exact_error(pde, build(pde, grid, 0.2, substeps=n), grid, 5) for n in (4, 8, 16)]
    space = []
    for n in (16, 32, 64):
        coarse = _box(pde, n, 1)
        space.append(_exact_error(pde, build(pde, coarse, 0.2, substeps=32), coarse, 5))
    thick = cls(viscosity=0.3)
    plane = _box(thick, 48, 2)
    flat = _exact_error(thick, build(thick, plane, 0.1, substeps=16), plane, 4)
    walls = []
    for n in (65, 129):
        bounded = _box(pde, n, 1, boundary="dirichlet")
        walls.append(_exact_error(pde, build(pde, bounded, 0.25), bounded, 2))
    states = _random(_box(pde, 128, 1), 1)
    return [
        at_most("error against Cole-Hopf", times[-1], 2e-8, "nu = 0.1, 128 points, substep 0.0125, t = 1"),
        at_least("order in time against Cole-Hopf", _order(times), 3.7, "substeps 0.025 to 0.0125"),
        at_least(
            "order in space against Cole-Hopf", _order(space), 6.0, "32 to 64 points, substep 0.00625"
        ),
        at_most("error in 2D against Cole-Hopf", flat, 1e-6, "nu = 0.3, 48^2, t = 0.4"),
        at_least("order in space between walls", _order(walls), 3.5, "65 to 129 nodes, Dirichlet, t = 0.5"),
        *_structure(pde, grid, 0.05, 50, states),
    ]


def _kuramoto_sivashinsky(cls: type[KuramotoSivashinsky]) -> list[Check]:
    pde, length = cls(), 22.0
    grid = Grid((64,), (length,))
    k = 2 * 2 * math.pi / length
    x = _points(grid)
    wave = torch.sin(k * x)
    rate = (k**2 - k**4) * wave - 0.5 * k * torch.sin(2 * k * x)
    u = _random(grid, 1)
    with torch.no_grad():
        u = rollout(build(pde, grid, 0.5, max_speed=3.0), 40)(u)[:, -1]
        small = 1e-7 * wave
        grown = build(pde, grid, 10.0, substeps=40)(small)
        exact = small * math.exp((k**2 - k**4) * 10.0)
    floor = self_convergence(lambda g, n: build(pde, g, 0.5, substeps=n), grid, 16, u, 10)
    return [
        at_most("initial rate of a sine", _rate_error(pde, grid, wave, rate), 1e-5, "64 points, L = 22"),
        at_most(
            "growth of a small mode", relative_error(grown, exact).max(), 1e-6, "amplitude 1e-7, t = 10"
        ),
        at_least("order in time", _time_order(pde, grid, 1.0, (20, 40), u), 3.0, "substeps 0.05 to 0.025"),
        at_most("self-convergence error", floor.max(), 1e-5, "64 points, substep 1/32, t = 5"),
        *_structure(pde, grid, 0.1, 50, u),
    ]


def _vorticity(cls: type[NavierStokesVorticity]) -> list[Check]:
    pde = cls(viscosity=0.05, drag=0.1)
    grid = _box(pde, 32, 2)
    x, y = (_points(grid)[:, i : i + 1] for i in (0, 1))
    forced = cls(viscosity=0.05, drag=0.1, forcing=(3.0, 1.0))
    # v = (-sin(2 y)/2, sin x) carries w = cos x + cos 2y: -v.grad(w) = 3/2 sin x sin 2y, by hand.
    w = torch.cos(x) + torch.cos(2 * y)
    rate = 1.5 * torch.sin(x) * torch.sin(2 * y) - 0.15 * torch.cos(x) - 0.3 * torch.cos(2 * y)
    fine = grid.resized((64, 64))
    u = 4 * _random(fine, 1)
    ideal = cls(viscosity=0.0)
    with torch.no_grad():
        path = rollout(build(ideal, fine, 0.1, substeps=8), 10)(u)
        first, last = ideal.invariants(path[:, 0], fine), ideal.invariants(path[:, -1], fine)
    checks = [
        at_most(
            "error against Taylor-Green",
            _exact_error(pde, build(pde, grid, 0.2), grid, 10),
            1e-12,
            "32^2, t = 2",
        ),
        at_most(
            "error against laminar Kolmogorov flow",
            _exact_error(forced, build(forced, grid, 0.2), grid, 10),
            1e-10,
            "32^2, forcing sin(3 y), t = 2",
        ),
        at_most("initial rate of two waves", _rate_error(pde, grid, w, rate), 1e-5, "32^2"),
        at_least(
            "order in time", _time_order(pde, fine, 0.5, (10, 20), u), 3.7, "64^2, substeps 0.05 to 0.025"
        ),
    ]
    for name in ("energy", "enstrophy"):
        change = ((last[name] - first[name]) / first[name]).abs().max()
        checks.append(
            at_most(f"drift of {name} without viscosity", change, 1e-6, "64^2, t = 1, substep 0.0125")
        )
    return checks + _structure(cls(viscosity=0.01), fine, 0.05, 20, u)


def _euler(cls: type[CompressibleEuler]) -> list[Check]:
    pde = cls()
    waves = []
    for n in (64, 128):
        grid = _box(pde, n, 1, centering="cell")
        x = _points(grid)
        # Averages over cells, exact for the sine but for the common factor sinc.
        damp = math.sin(math.pi / n) / (math.pi / n)
        u = _average(pde.exact(x, 0.0), damp)
        with torch.no_grad():
            u = build(pde, grid, 0.25)(u)
        waves.append(float((u - _average(pde.exact(x, 0.25), damp))[:, 0].abs().mean()))
    tube = Grid((400,), (1.0,), boundary="outflow", centering="cell")
    line = tube.axes()[0]
    start, end = (
        pde.conservative(SOD.exact(line, t, gamma=float(pde.gamma))[None]) for t in (0.0, SOD.time)
    )
    with torch.no_grad():
        shocked = build(pde, tube, SOD.time)(start)
    plane = _box(pde, 24, 2, centering="cell")
    random = _random(plane, 4)
    primitive = torch.cat([1 + 0.2 * random[:, :1], 0.3 * random[:, 1:3], 1 + 0.2 * random[:, 3:]], dim=1)
    return [
        at_least("order in space on a density wave", _order(waves), 1.8, "64 to 128 cells, L1, t = 0.25"),
        at_most(
            "L1 error of Sod's density", (shocked - end)[:, 0].abs().mean(), 1.6e-3, "400 cells, t = 0.2"
        ),
        *_structure(pde, plane, 0.02, 10, pde.conservative(primitive)),
    ]


def _average(u: Tensor, damp: float) -> Tensor:
    """Cell averages of a state whose first harmonic is all that varies."""
    mean = u.mean(dim=2, keepdim=True)
    return mean + damp * (u - mean)


# What is measured of each equation; subclasses are measured like the equation they change.
_SUITES: dict[type[PDE], Callable[[Any], list[Check]]] = {
    Advection: _advection,
    Heat: _heat,
    AdvectionDiffusion: _advection_diffusion,
    Burgers: _burgers,
    KuramotoSivashinsky: _kuramoto_sivashinsky,
    NavierStokesVorticity: _vorticity,
    CompressibleEuler: _euler,
}


def verify(pde: type[PDE]) -> Certificate:
    """Measure the solvers that `build` gives for an equation.

    Args:
        pde: one of `PDES`, or a subclass, whose coefficients are then held against the exact solutions
            of the equation it derives from.

    Raises:
        UserError: nothing is known to measure of this equation.
    """
    suite = next((_SUITES[base] for base in pde.__mro__ if base in _SUITES), None)
    if suite is None:
        raise UserError(
            f"verify got {pde.__name__}; it knows {[known.__name__ for known in _SUITES]} and their subclasses."
        )
    start = time.process_time()
    checks = tuple(suite(pde))
    return Certificate(pde.__name__, checks, time.process_time() - start)


def verify_all(
    names: Sequence[str] | None = None, progress: Callable[[str], None] | None = None
) -> list[Certificate]:
    """Certificates of several equations, by class name in any case; of all of `PDES` where left out.

    Args:
        names: which ones.
        progress: called with the name of each equation before it is measured.

    Raises:
        UserError: an unknown name; the message lists the known ones.
    """
    known = {cls.__name__.lower(): cls for cls in PDES}
    unknown = [name for name in names or () if name.lower() not in known]
    if unknown:
        raise UserError(f"verify got {unknown}; expected some of {[cls.__name__ for cls in PDES]}.")
    chosen = list(PDES) if not names else [known[name.lower()] for name in names]
    certificates = []
    for cls in chosen:
        if progress is not None:
            progress(cls.__name__)
        certificates.append(verify(cls))
    return certificates
