"""Time of an ETDRK4 step beside the time of its Fourier transforms alone, and beside exponax.

    python -m sciml.experiments.benchmarks.bench_etdrk [--seconds 10] [--json FILE]

Problems from one to three dimensions, those of `bench_exponax`, in double and single precision. Ten steps make
one call, and the transforms at its two ends are counted on both sides. All variants
take turns within one process and one thread, and CPU seconds are counted: on a machine that others use too the
least of many samples says most, the median says what to expect there.

The forms of the step are the compiled one (`lanes`, where numba is installed), that of packed tensors and the
differentiable one (`generic`). The transforms alone are those of the library (torch), on arrays of the same
shape, type and number, one after another: the packed complex ones of two real fields at once, and the real ones
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
from sciml.experiments.benchmarks.bench_exponax import CASES, Case, least, states
from sciml.pdes import Burgers, NavierStokesVorticity, SemiLinear
from sciml.solvers.lanes import available
from sciml.solvers.spectral import Form, pseudo_spectral

SUBSTEPS = 10
TAU = 6.283185307179586
BASES = ("packed transforms", "real transforms", "lane transforms")

Variants = dict[str, Callable[[], Any]]

# Of each case of `bench_exponax` the real fields of one sample that a stage takes to points, and to modes.
FIELDS: dict[str, tuple[int, int]] = {
    "Burgers": (1, 1),
    "Kuramoto-Sivashinsky": (1, 1),
    "vorticity 64^2": (2, 2),
    "vorticity 256^2": (2, 2),
    "Gray-Scott 2D": (2, 1),
    "Navier-Stokes 3D": (6, 3),
}


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

    half, band = -(-grid.shape[-1] // 3), [2 * -(-n // 3) - 1 for n in grid.shape]

    def sweeps(fields: int) -> list[tuple[Any, int]]:
        """(plan, blocks) along each axis for so many real fields of all samples."""
        lines = (fields + 1) // 2
        if grid.dimension == 1:  # the lanes are the pairs
            return [(plans[0], -(-lines // width))]
        if grid.dimension == 2:  # the columns of the band of each pair, then all rows
            return [
                (plans[0], lines * -(-band[1] // width)),
                (plans[1], lines * -(-grid.shape[0] // width)),
            ]
        columns = -(-half // width)  # half spectra of each field, then the lines of each pair
        return [
            (plans[0], fields * band[1] * columns),
            (plans[1], fields * grid.shape[0] * columns),
            (plans[2], lines * grid.shape[0] * -(-grid.shape[1] // width)),
        ]

    ways = [
        (
            forward,
            [(p, count, torch.zeros(count * 2 * width * p.n, dtype=dtype).numpy()) for p, count in found],
        )
        for forward, found in ((False, sweeps(back * samples)), (True, sweeps(forth * samples)))
    ]

    def run() -> None:
        for _ in range(4 * SUBSTEPS):
            for forward, found in ways:
                for p, count, x in found:
                    blocks(x, count, p.n, width, p.passes, p.roots, forward)

    return {"lane transforms": run}


def transforms(grid: Grid, samples: int, dtype: torch.dtype, back: int, forth: int) -> Variants:
    """The transforms of `SUBSTEPS` ETDRK4 steps by the library, packed and real."""
    axes = tuple(range(-grid.dimension, 0))
    generator = torch.Generator().manual_seed(0)

    def random(number: int) -> Tensor:
        return torch.randn(number, *grid.shape, generator=generator, dtype=torch.float64).to(dtype)

    to_points, to_modes = ((samples * number + 1) // 2 for number in (back, forth))
    spectra = torch.complex(random(to_points), random(to_points))
    fields = torch.complex(random(to_modes), random(to_modes))
    real, modes = random(forth * samples), torch.fft.rfftn(random(back * samples), dim=axes)

    def complex_() -> None:
        for _ in range(4 * SUBSTEPS):
            torch.fft.ifftn(spectra, dim=axes, norm="forward")
            torch.fft.fftn(fields, dim=axes)

    def real_() -> None:
        for _ in range(4 * SUBSTEPS):
            torch.fft.irfftn(modes, s=grid.shape, dim=axes)
            torch.fft.rfftn(real, dim=axes)

    return {"packed transforms": complex_, "real transforms": real_}


def peer(case: Case, u: Tensor, expected: Tensor) -> tuple[Variants, dict[str, float]]:
    """The same steps by exponax, where it is installed, and how far its result is from ours (relative)."""
    if find_spec("exponax") is None:
        return {}, {}
    import exponax
    import jax

    jax.config.update("jax_enable_x64", u.dtype == torch.float64)
    stepper = case.theirs(exponax.stepper, case.side, case.shape[0], case.dt)
    many = jax.jit(jax.vmap(exponax.repeat(stepper, SUBSTEPS)))
    state = jax.numpy.asarray(u.numpy())
    result = torch.from_numpy(numpy.array(many(state)))
    difference = float((result - expected).abs().max() / expected.abs().max())
    return {"exponax": lambda: many(state).block_until_ready()}, {"exponax": difference}


def measure(seconds: float) -> list[dict[str, Any]]:
    """One row per problem and precision: microseconds per step, ratios, and the difference from the peer."""
    rows = []
    cases = {case.name: case for case in CASES}
    for name, (back, forth) in FIELDS.items():
        case = cases[name]
        grid, samples = Grid(case.shape, (case.side,) * len(case.shape)), case.samples
        for dtype in (torch.float64, torch.float32):
            u = states(case, grid).to(dtype)
            steps = {
                "generic": pseudo_spectral(
                    case.pde, grid, SUBSTEPS * case.dt, substeps=SUBSTEPS, form="generic"
                )
            }
            forms: tuple[Form, ...] = ("lanes", "packed") if available() else ("packed",)
            for form in forms:
                try:
                    steps[form] = pseudo_spectral(
                        case.pde, grid, SUBSTEPS * case.dt, substeps=SUBSTEPS, form=form
                    )
                except ValueError:  # not every equation has both
                    continue
            peers, difference = peer(case, u, steps["generic"](u))
            variants: Variants = {
                **{form: functools.partial(step, u) for form, step in steps.items()},
                **transforms(grid, samples, dtype, back, forth),
                **lane_transforms(grid, samples, dtype, back, forth),
                **peers,
            }
            with torch.no_grad():
                taken = interleaved(variants, seconds)
            size = "x".join(map(str, case.shape))
            row: dict[str, Any] = {
                "problem": f"{name.split(' ')[0]} {size} x {samples}",
                "dtype": str(dtype)[6:],
                "samples": len(taken["generic"]),
            }
            for variant, values in taken.items():
                row[variant] = {
                    "min_us": 1e6 * least(values) / SUBSTEPS,
                    "median_us": 1e6 * statistics.median(values) / SUBSTEPS,
                }
            row["difference from"] = difference
            for kind_of_step in steps:
                for base in [*BASES, *peers]:
                    if base in row:
                        row[f"{kind_of_step} / {base}"] = {
                            kind: row[kind_of_step][f"{kind}_us"] / row[base][f"{kind}_us"]
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
            case = Case("", pde, lambda *_: None, shape, TAU, 1e-4, samples=samples)
            steps[shape] = functools.partial(step, states(case, grid))
        with torch.no_grad():
            taken = interleaved({"x".join(map(str, k)): v for k, v in steps.items()}, seconds)
        times = [1e6 * least(values) / SUBSTEPS for values in taken.values()]
        work = [math.prod(shape) * math.log(math.prod(shape)) for shape in shapes]
        power = float(numpy.polyfit(numpy.log(work), numpy.log(times), 1)[0])
        found.append({"problem": name, "us": dict(zip(taken, times, strict=True)), "power": power})
    return found


def table(rows: list[dict[str, Any]], names: list[str], cell: Callable[[dict[str, Any], str], str]) -> None:
    """Print one line per row."""
    widths = [max(len(name), 15) + 2 for name in names]
    print(
        f"{'problem':32s}{'dtype':8s}" + "".join(f"{n:>{w}s}" for n, w in zip(names, widths, strict=True))
    )
    for row in rows:
        cells = [cell(row, name) if name in row else "-" for name in names]
        print(
            f"{row['problem']:32s}{row['dtype']:8s}"
            + "".join(f"{c:>{w}s}" for c, w in zip(cells, widths, strict=True))
        )


def main() -> None:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each problem and precision")
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
