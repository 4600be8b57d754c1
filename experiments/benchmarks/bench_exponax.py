"""The periodic solvers beside exponax: the same equation, grid, step and initial states in one run.

    python -m sciml.experiments.benchmarks.bench_exponax [--seconds 2] [--dtype float64] [--only NAME...]

For each equation: the largest difference of the two results, beside our own error in time (against half the step),
both relative to the largest value; and CPU time per step of one thread, least of interleaved samples. Two codes
that solve the same discrete equations differ by rounding, two methods of the same order by their errors in time.

exponax 0.2.0 keeps only the real part of its ETDRK coefficients, which makes its steps of equations with odd
derivatives in their linear part (Korteweg-de Vries) first order: there the exact soliton decides, and both errors
against it are printed.

exponax is no dependency of this package: install it beside it (`pip install exponax==0.2.0`) to run this.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import (
    Advection,
    AdvectionDiffusion,
    AllenCahn,
    Burgers,
    CahnHilliard,
    Dispersion,
    FisherKPP,
    GrayScott,
    Heat,
    HyperDiffusion,
    KortewegDeVries,
    KuramotoSivashinsky,
    NavierStokes,
    NavierStokesVorticity,
    ScalarBurgers,
    SwiftHohenberg,
    Wave,
)
from sciml.pdes.base import SemiLinear
from sciml.solvers.spectral import pseudo_spectral

TAU = 2 * math.pi


@dataclass(frozen=True)
class Case:
    """One equation in both codes.

    Args:
        name: what the table calls it.
        pde: ours.
        theirs: (module of steppers, side of the box, points, step) -> their stepper.
        shape, side: the grid, a cube of this side.
        dt: time of a step.
        samples: initial states at once.
        steps: how many steps.
        mean, size: initial states are mean + size * (random waves of at most 1).
        modes: the highest of these waves; few, so that both codes resolve all: how they treat what is cut off
            differs.
    """

    name: str
    pde: SemiLinear
    theirs: Callable[[Any, float, int, float], Any]
    shape: tuple[int, ...]
    side: float
    dt: float
    samples: int = 4
    steps: int = 20
    mean: float | tuple[float, ...] = 0.0
    size: float | tuple[float, ...] = 1.0
    modes: int = 2


CASES: tuple[Case, ...] = (
    Case(
        "advection",
        Advection(0.7),
        lambda m, L, n, h: m.Advection(1, L, n, h, velocity=0.7),
        (160,),
        1.0,
        0.1,
    ),
    Case(
        "diffusion 2D",
        Heat(0.02),
        lambda m, L, n, h: m.Diffusion(2, L, n, h, diffusivity=0.02),
        (64, 64),
        TAU,
        0.1,
    ),
    Case(
        "advection-diffusion",
        AdvectionDiffusion(1.3, 0.05),
        lambda m, L, n, h: m.AdvectionDiffusion(1, L, n, h, velocity=1.3, diffusivity=0.05),
        (128,),
        TAU,
        0.1,
    ),
    Case(
        "dispersion",
        Dispersion(0.3),
        lambda m, L, n, h: m.Dispersion(1, L, n, h, dispersivity=0.3),
        (128,),
        TAU,
        0.1,
    ),
    Case(
        "hyper-diffusion",
        HyperDiffusion(1e-3),
        lambda m, L, n, h: m.HyperDiffusion(1, L, n, h, hyper_diffusivity=1e-3),
        (128,),
        TAU,
        0.1,
    ),
    Case(
        "wave 2D", Wave(1.5), lambda m, L, n, h: m.Wave(2, L, n, h, speed_of_sound=1.5), (64, 64), TAU, 0.1
    ),
    Case(
        "Burgers",
        Burgers(0.02),
        lambda m, L, n, h: m.Burgers(1, L, n, h, diffusivity=0.02, order=4),
        (1024,),
        TAU,
        2e-3,
        samples=64,
    ),
    Case(
        "Burgers 2D",
        Burgers(0.2),
        lambda m, L, n, h: m.Burgers(2, L, n, h, diffusivity=0.2, convection_scale=1.0, order=4),
        (64, 64),
        TAU,
        1e-2,
    ),
    Case(
        "scalar Burgers 2D",
        ScalarBurgers(0.2, 0.5),
        lambda m, L, n, h: m.Burgers(
            2,
            L,
            n,
            h,
            diffusivity=0.2,
            convection_scale=0.5,
            single_channel=True,
            conservative=True,
            order=4,
        ),
        (64, 64),
        TAU,
        1e-2,
    ),
    Case(
        "Kuramoto-Sivashinsky",
        KuramotoSivashinsky(),
        lambda m, L, n, h: m.KuramotoSivashinskyConservative(1, L, n, h, order=4),
        (256,),
        64.0,
        0.1,
        samples=64,
    ),
    Case(
        "Kuramoto-Sivashinsky height",
        KuramotoSivashinsky(integrated=True),
        lambda m, L, n, h: m.KuramotoSivashinsky(1, L, n, h, order=4),
        (256,),
        64.0,
        0.1,
        samples=64,
    ),
    Case(
        "Fisher-KPP 2D",
        FisherKPP(0.01, 1.0),
        lambda m, L, n, h: m.reaction.FisherKPP(2, L, n, h, diffusivity=0.01, reactivity=1.0, order=4),
        (64, 64),
        TAU,
        0.05,
        mean=0.5,
        size=0.4,
    ),
    Case(
        "Allen-Cahn 2D",
        AllenCahn(5e-3),
        lambda m, L, n, h: m.reaction.AllenCahn(2, L, n, h, diffusivity=5e-3, order=4),
        (64, 64),
        TAU,
        0.05,
    ),
    Case(
        "Cahn-Hilliard 2D",
        CahnHilliard(0.01, 1e-2),
        lambda m, L, n, h: m.reaction.CahnHilliard(2, L, n, h, diffusivity=0.01, gamma=1e-2, order=4),
        (64, 64),
        TAU,
        0.01,
        size=0.5,
    ),
    Case(
        "Swift-Hohenberg 2D",
        SwiftHohenberg(0.7),
        lambda m, L, n, h: m.reaction.SwiftHohenberg(2, L, n, h, order=4),
        (64, 64),
        10 * math.pi,
        0.05,
        size=0.5,
    ),
    Case(
        "Gray-Scott 2D",
        GrayScott(0.04, 0.06),
        lambda m, L, n, h: m.reaction.GrayScott(2, L, n, h, feed_rate=0.04, kill_rate=0.06, order=4),
        (128, 128),
        1.0,
        1.0,
        mean=(0.8, 0.2),
        size=(0.15, 0.15),
    ),
    Case(
        "vorticity 64^2",
        NavierStokesVorticity(1e-3, drag=0.1, forcing=(4.0, 1.0)),
        lambda m, L, n, h: m.KolmogorovFlowVorticity(
            2,
            L,
            n,
            h,
            diffusivity=1e-3,
            drag=-0.1,
            injection_mode=4,
            injection_scale=1.0,
            convection_scale=-1.0,  # its vorticity turns the other way
            order=4,
        ),
        (64, 64),
        TAU,
        1e-2,
    ),
    Case(
        "vorticity 256^2",
        NavierStokesVorticity(1e-3, drag=0.1, forcing=(4.0, 1.0)),
        lambda m, L, n, h: m.KolmogorovFlowVorticity(
            2,
            L,
            n,
            h,
            diffusivity=1e-3,
            drag=-0.1,
            injection_mode=4,
            injection_scale=1.0,
            convection_scale=-1.0,
            order=4,
        ),
        (256, 256),
        TAU,
        2.5e-3,
    ),
    Case(
        "Navier-Stokes 3D",
        NavierStokes(0.02),
        lambda m, L, n, h: m.NavierStokesVelocity(3, L, n, h, diffusivity=0.02, order=4),
        (64, 64, 64),
        TAU,
        1e-2,
        samples=1,
        steps=4,
    ),
)


def states(case: Case, grid: Grid) -> Tensor:
    """Smooth random states (B, C, *points), seed 0; velocities of incompressible flow without divergence."""
    generator = torch.Generator().manual_seed(0)
    channels = len(case.pde.channels(grid.dimension))
    draw = RandomFourier(modes=case.modes)
    u = torch.stack([draw(grid, channels, generator) for _ in range(case.samples)])
    shape = (1, -1, *[1] * grid.dimension)

    def per_channel(value: float | tuple[float, ...]) -> Tensor:
        values = value if isinstance(value, tuple) else (value,) * channels
        return torch.tensor(values, dtype=torch.float64).reshape(shape)

    u = per_channel(case.mean) + per_channel(case.size) * u
    if isinstance(case.pde, NavierStokes):
        from sciml.constraints import DivergenceFree

        u = DivergenceFree(grid).project(u)
    return u


def least(samples: list[float]) -> float:
    """Their fifth percentile: of CPU times that others disturb the least say most, but a clock may slip once."""
    return sorted(samples)[len(samples) // 20]


def run(case: Case, dtype: torch.dtype, seconds: float) -> dict[str, Any]:
    """Difference, error in time and CPU time per step of both."""
    import exponax
    import jax

    jax.config.update("jax_enable_x64", dtype == torch.float64)
    grid = Grid(case.shape, (case.side,) * len(case.shape))
    u = states(case, grid).to(dtype)
    stepper = case.theirs(exponax.stepper, case.side, case.shape[0], case.dt)
    many = jax.jit(jax.vmap(exponax.repeat(stepper, case.steps)))
    given = jax.numpy.asarray(u.numpy())
    theirs = torch.from_numpy(numpy.array(many(given)))
    heights = isinstance(case.pde, KuramotoSivashinsky) and case.pde.integrated

    def compared(v: Tensor) -> Tensor:
        """Theirs lets the mean of a height grow, ours holds it: it acts back on nothing."""
        return v.double() - v.double().mean(dim=2, keepdim=True) if heights else v.double()

    step = pseudo_spectral(case.pde, grid, case.dt * case.steps, substeps=case.steps)
    fine = pseudo_spectral(case.pde, grid, case.dt * case.steps, substeps=2 * case.steps)
    with torch.no_grad():
        ours, better, theirs = compared(step(u)), compared(fine(u)), compared(theirs)
        scale = float(ours.abs().max())
        taken: tuple[list[float], list[float]] = ([], [])
        runs: tuple[Callable[[], Any], ...] = (lambda: step(u), lambda: many(given).block_until_ready())
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(taken[0]) < 3:
            for one, spent in zip(runs, taken, strict=True):
                began = time.process_time()
                one()
                spent.append(time.process_time() - began)
    count = 1 if step.linear else case.steps  # a linear equation takes one multiplication for any time
    return {
        "difference": float((ours - theirs).abs().max()) / scale,
        "time error": float((ours - better).abs().max()) / scale,
        "form": "exact" if step.linear else step.form,
        "ours us": 1e6 * least(taken[0]) / case.steps,
        "theirs us": 1e6 * least(taken[1]) / case.steps,
        "ratio": least(taken[1]) / least(taken[0]),
        "transforms": count,
    }


def soliton(
    dt: float = 4e-3, points: int = 256, side: float = 40.0, speed: float = 4.0
) -> tuple[float, float]:
    """Errors at t = 1 of both codes against the exact soliton of u_t + 6 u u_x + u_xxx = 0 (largest, absolute)."""
    import exponax
    import jax

    jax.config.update("jax_enable_x64", True)
    grid = Grid((points,), (side,))
    x = grid.axes()[0]

    def exact(t: float) -> Tensor:
        place = torch.remainder(x - side / 4 - speed * t + side / 2, side) - side / 2
        return (speed / 2) / torch.cosh(math.sqrt(speed) / 2 * place).square()

    u = exact(0.0)[None, None]
    steps = round(1 / dt)
    ours = pseudo_spectral(KortewegDeVries(), grid, 1.0, substeps=steps)(u)
    stepper = exponax.stepper.KortewegDeVries(
        1, side, points, dt, convection_scale=6.0, dispersivity=1.0, hyper_diffusivity=0.0, order=4
    )
    theirs = torch.from_numpy(numpy.array(exponax.repeat(stepper, steps)(jax.numpy.asarray(u[0].numpy()))))
    return float((ours[0, 0] - exact(1.0)).abs().max()), float((theirs[0] - exact(1.0)).abs().max())


def main() -> int:
    """Print the table; 2 where exponax is missing or a name is unknown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each equation")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument("--only", nargs="+", default=None, help="names of the table's first column")
    arguments = parser.parse_args()
    if find_spec("exponax") is None:
        print(
            "exponax is not installed, so there is nothing to compare with; pip install exponax==0.2.0.",
            file=sys.stderr,
        )
        return 2
    known = {case.name: case for case in CASES}
    unknown = [name for name in arguments.only or () if name not in known]
    if unknown:
        print(f"unknown equation {unknown[0]!r}; expected some of: {', '.join(known)}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    dtype = getattr(torch, arguments.dtype)
    print(f"{arguments.dtype}, one thread; differences and errors relative to the largest value")
    print(
        f"{'equation':28s}{'points x samples':>18s}{'difference':>12s}{'time error':>12s}{'form':>9s}"
        f"{'ours us':>10s}{'exponax us':>12s}{'exponax / ours':>16s}"
    )
    for name in arguments.only or known:
        case = known[name]
        row = run(case, dtype, arguments.seconds)
        size = "x".join(map(str, case.shape)) + f" x {case.samples}"
        print(
            f"{name:28s}{size:>18s}{row['difference']:12.1e}{row['time error']:12.1e}{row['form']:>9s}"
            f"{row['ours us']:10.0f}{row['theirs us']:12.0f}{row['ratio']:16.2f}",
            flush=True,
        )
    if arguments.only is None and dtype == torch.float64:
        print(
            "Korteweg-de Vries soliton, 256 points, side 40, speed 4, t = 1: error of ours, error of exponax"
        )
        for dt in (4e-3, 2e-3):
            ours, theirs = soliton(dt)
            print(f"  dt {dt:g}: {ours:.1e} {theirs:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
