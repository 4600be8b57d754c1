"""Time of an ETDRK4 step beside the time of its Fourier transforms alone, and beside exponax.

    python -m sciml.experiments.benchmarks.bench_etdrk [--seconds 10] [--json FILE]

Two problems: 1D Burgers, 1024 points, 64 samples; 2D vorticity, 256^2 points, 4 samples; in double and single
precision. Ten steps make one call, and the transforms at its two ends are counted on both sides. All variants
take turns within one process and one thread, and CPU seconds are counted: on a machine that others use too the
least of many samples says most, the median says what to expect there.

The forms of the step are the compiled one (`lanes`, where numba is installed), that of packed tensors and the
differentiable one (`generic`). The transforms alone are those of the library (torch), on arrays of the same
shape, type and number, one after another: the packed complex ones of two samples at once, and the real ones
that the same products would need without packing; and the compiled ones of the lanes, which the compiled form
itself uses. exponax takes part where it is installed.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import Burgers, NavierStokesVorticity, SemiLinear
from sciml.solvers.lanes import available
from sciml.solvers.spectral import Form, pseudo_spectral

SUBSTEPS = 10
TAU = 6.283185307179586
BASES = ("packed transforms", "real transforms", "lane transforms")

Variants = dict[str, Callable[[], Any]]

# name, equation, grid, samples, time of one substep, real fields (to points, to modes) per stage
CASES: tuple[tuple[str, SemiLinear, Grid, int, float, int, int], ...] = (
    ("burgers 1024 x 64", Burgers(0.02), Grid((1024,), (TAU,)), 64, 2e-3, 1, 1),
    (
        "vorticity 256^2 x 4",
        NavierStokesVorticity(1e-3, drag=0.1, forcing=(4.0, 1.0)),
        Grid((256, 256), (TAU, TAU)),
        4,
        2.5e-3,
        2,
        2,
    ),
)


def interleaved(variants: Variants, seconds: float) -> dict[str, list[float]]:
    """CPU seconds of single calls of each variant, taken in turn until the time is over."""
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for run in variants.values():
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(samples.values()))) < 5:
        for name, run in variants.items():
            run()  # fills the caches after the others
            start = time.process_time()
            run()
            samples[name].append(time.process_time() - start)
    return samples


def lane_transforms(grid: Grid, samples: int, dtype: torch.dtype, back: int, forth: int) -> Variants:
    """The transforms of `SUBSTEPS` ETDRK4 steps as the compiled form makes them: of the band's columns only."""
    if not available():
        return {}
    from sciml.solvers.lanes import fourier
    from sciml.solvers.lanes.vector import kernel

    width = 64 // (torch.finfo(dtype).bits // 8)
    scalar = str(dtype)[6:]
    plans = [fourier.plan(n, scalar) for n in grid.shape]

    @kernel
    def blocks(x, count, n, width, passes, roots, forward):  # type: ignore[no-untyped-def]
        for block in range(count):
            if forward:
                fourier.to_modes(x, 2 * width * n * block, n, width, passes, roots, 0)
            else:
                fourier.to_points(x, 2 * width * n * block, n, width, passes, roots, 0)

    pairs = (samples + 1) // 2
    last = grid.shape[-1]
    columns = 2 * ((last + 2) // 3) - 1
    # (plan, blocks per field): the columns of the band, then all rows; in 1D the lanes are the pairs.
    sweeps = [(plans[-1], -(-pairs // width))]
    if grid.dimension == 2:
        sweeps = [(plans[0], pairs * -(-columns // width)), (plans[1], pairs * -(-grid.shape[0] // width))]
    arrays = [torch.zeros(count * 2 * width * p.n, dtype=dtype).numpy() for p, count in sweeps if p]

    def run() -> None:
        for stage in range(4 * SUBSTEPS + 1):
            for forward, number in ((False, back), (True, forth)):
                for _ in range(number if stage else 1):
                    for (p, count), x in zip(sweeps, arrays, strict=True):
                        assert p is not None
                        blocks(x, count, p.n, width, p.passes, p.roots, forward)

    return {"lane transforms": run}


def transforms(grid: Grid, samples: int, dtype: torch.dtype, back: int, forth: int) -> Variants:
    """The transforms of `SUBSTEPS` ETDRK4 steps by the library, packed and real."""
    axes = tuple(range(-grid.dimension, 0))
    generator = torch.Generator().manual_seed(0)

    def random(count: int, number: int) -> Tensor:
        return torch.randn(count, number, *grid.shape, generator=generator, dtype=torch.float64).to(dtype)

    pairs = (samples + 1) // 2
    packed = torch.complex(random(back, pairs), random(back, pairs))
    real, modes = random(forth, samples), torch.fft.rfftn(random(back, samples), dim=axes)

    def complex_() -> None:
        for _ in range(4 * SUBSTEPS):
            fields = torch.fft.ifftn(packed, dim=axes, norm="forward")
            for number in range(forth):
                torch.fft.fftn(fields[number % back], dim=axes)
        torch.fft.ifftn(torch.fft.fftn(packed[0], dim=axes, norm="forward"), dim=axes, norm="forward")

    def real_() -> None:
        for _ in range(4 * SUBSTEPS):
            torch.fft.irfftn(modes, s=grid.shape, dim=axes)
            torch.fft.rfftn(real, dim=axes)
        torch.fft.irfftn(torch.fft.rfftn(real[0], dim=axes), s=grid.shape, dim=axes)

    return {"packed transforms": complex_, "real transforms": real_}


def peer(
    pde: SemiLinear, grid: Grid, u: Tensor, h: float, expected: Tensor
) -> tuple[Variants, dict[str, float]]:
    """The same steps by exponax, where it is installed, and how far its result is from ours (relative)."""
    if find_spec("exponax") is None:
        return {}, {}
    import exponax
    import jax

    jax.config.update("jax_enable_x64", u.dtype == torch.float64)
    if isinstance(pde, Burgers):
        stepper = exponax.stepper.Burgers(
            1, grid.lengths[0], grid.shape[0], h, diffusivity=float(pde.viscosity), order=4
        )
    else:
        assert isinstance(pde, NavierStokesVorticity) and isinstance(pde.forcing, tuple)
        stepper = exponax.stepper.KolmogorovFlowVorticity(
            2,
            grid.lengths[0],
            grid.shape[0],
            h,
            diffusivity=float(pde.viscosity),
            drag=-float(pde.drag),
            injection_mode=int(pde.forcing[0]),
            injection_scale=float(pde.forcing[1]),
            convection_scale=-1.0,  # its vorticity turns the other way
            order=4,
        )
    many = jax.jit(jax.vmap(exponax.repeat(stepper, SUBSTEPS)))
    state = jax.numpy.asarray(u.numpy())
    result = torch.from_numpy(numpy.array(many(state)))
    difference = float((result - expected).abs().max() / expected.abs().max())
    return {"exponax": lambda: many(state).block_until_ready()}, {"exponax": difference}


def _states(grid: Grid, samples: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    draw = RandomFourier(modes=4)
    return torch.stack([draw(grid, 1, generator) for _ in range(samples)]).to(dtype)


def measure(seconds: float) -> list[dict[str, Any]]:
    """One row per problem and precision: microseconds per step, ratios, and the difference from the peer."""
    rows = []
    for name, pde, grid, samples, h, back, forth in CASES:
        for dtype in (torch.float64, torch.float32):
            u = _states(grid, samples, dtype)
            forms: tuple[Form, ...] = (
                ("lanes", "packed", "generic") if available() else ("packed", "generic")
            )
            steps = {
                form: pseudo_spectral(pde, grid, SUBSTEPS * h, substeps=SUBSTEPS, form=form)
                for form in forms
            }
            peers, difference = peer(pde, grid, u, h, steps["generic"](u))
            variants: Variants = {
                **{form: functools.partial(step, u) for form, step in steps.items()},
                **transforms(grid, samples, dtype, back, forth),
                **lane_transforms(grid, samples, dtype, back, forth),
                **peers,
            }
            with torch.no_grad():
                taken = interleaved(variants, seconds)
            row: dict[str, Any] = {
                "problem": name,
                "dtype": str(dtype)[6:],
                "samples": len(taken["packed"]),
            }
            for variant, values in taken.items():
                row[variant] = {
                    "min_us": 1e6 * min(values) / SUBSTEPS,
                    "median_us": 1e6 * statistics.median(values) / SUBSTEPS,
                }
            row["difference from"] = difference
            for form in forms:
                for base in [*BASES, *peers]:
                    if base in row:
                        row[f"{form} / {base}"] = {
                            kind: row[form][f"{kind}_us"] / row[base][f"{kind}_us"]
                            for kind in ("min", "median")
                        }
            rows.append(row)
    return rows


SIZES: tuple[tuple[str, SemiLinear, tuple[tuple[int, ...], ...], int], ...] = (
    ("burgers x 64", Burgers(0.02), tuple((2**k,) for k in range(8, 14)), 64),
    ("vorticity x 4", NavierStokesVorticity(1e-3), tuple((2**k, 2**k) for k in range(5, 10)), 4),
)


def scaling(seconds: float) -> list[dict[str, Any]]:
    """Microseconds per step of the fastest form by size, and the power p of time ~ (N log N)^p that fits them."""
    found = []
    for name, pde, shapes, samples in SIZES:
        steps = {}
        for shape in shapes:
            grid = Grid(shape, (TAU,) * len(shape))
            step = pseudo_spectral(pde, grid, SUBSTEPS * 1e-4, substeps=SUBSTEPS)
            steps[shape] = functools.partial(step, _states(grid, samples, torch.float64))
        with torch.no_grad():
            taken = interleaved({"x".join(map(str, k)): v for k, v in steps.items()}, seconds)
        times = [1e6 * min(values) / SUBSTEPS for values in taken.values()]
        work = [math.prod(shape) * math.log(math.prod(shape)) for shape in shapes]
        power = float(numpy.polyfit(numpy.log(work), numpy.log(times), 1)[0])
        found.append({"problem": name, "us": dict(zip(taken, times, strict=True)), "power": power})
    return found


def table(rows: list[dict[str, Any]], names: list[str], cell: Callable[[dict[str, Any], str], str]) -> None:
    """Print one line per row."""
    widths = [max(len(name), 15) + 2 for name in names]
    print(
        f"{'problem':21s}{'dtype':8s}" + "".join(f"{n:>{w}s}" for n, w in zip(names, widths, strict=True))
    )
    for row in rows:
        cells = [cell(row, name) for name in names]
        print(
            f"{row['problem']:21s}{row['dtype']:8s}"
            + "".join(f"{c:>{w}s}" for c, w in zip(cells, widths, strict=True))
        )


def main() -> None:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each of the four cases")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(arguments.seconds)
    print("CPU microseconds per ETDRK4 step, least (median) of interleaved samples, one thread")
    names = [key for key, value in rows[0].items() if isinstance(value, dict) and "min_us" in value]
    table(rows, names, lambda row, name: f"{row[name]['min_us']:.0f} ({row[name]['median_us']:.0f})")
    print("\nratios: the time of a form of the step over that of transforms alone, or of a peer")
    names = [key for key in rows[0] if key.startswith(("lanes /", "packed /"))]
    table(rows, names, lambda row, name: f"{row[name]['min']:.2f} ({row[name]['median']:.2f})")
    for row in rows:
        for name, value in row["difference from"].items():
            print(
                f"largest difference from {name}, {row['problem']} {row['dtype']}: {value:.1e} of the largest value"
            )
    print("\nmicroseconds per step by size, float64, and the power p of time ~ (N log N)^p")
    sizes = scaling(arguments.seconds)
    for row in sizes:
        cells = "  ".join(f"{size}: {value:.0f}" for size, value in row["us"].items())
        print(f"{row['problem']:15s}{cells}   p = {row['power']:.2f}")
    if arguments.json is not None:
        report = {
            "benchmark": "etdrk",
            "torch": torch.__version__,
            "substeps": SUBSTEPS,
            "rows": rows,
            "sizes": sizes,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
