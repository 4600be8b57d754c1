"""Time of an ETDRK4 step beside the time of its Fourier transforms alone.

    python -m sciml.experiments.benchmarks.bench_etdrk [--seconds 10] [--json FILE]

Two problems: 1D Burgers, 1024 points, 64 samples; 2D vorticity, 256^2 points, 4 samples; in double and single
precision. Ten steps make one call, and the transforms at its two ends are counted on both sides. All variants
take turns within one process and one thread, and CPU seconds are counted: on a machine that others use too the
least of many samples says most, the median says what to expect there.

The transforms alone are the same calls on arrays of the same shape, type and number, one after another: the
packed complex ones of the fast form, and the real ones that the same products would need without packing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.fields import RandomFourier
from sciml.pdes import Burgers, NavierStokesVorticity, SemiLinear
from sciml.solvers.spectral import pseudo_spectral

SUBSTEPS = 10
TAU = 6.283185307179586

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


def interleaved(variants: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[float]]:
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


def transforms(
    grid: Grid, samples: int, dtype: torch.dtype, back: int, forth: int
) -> dict[str, Callable[[], None]]:
    """The transforms of `SUBSTEPS` ETDRK4 steps, packed and real."""
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


def peer(grid: Grid, samples: int, dtype: torch.dtype, h: float) -> dict[str, Callable[[], Any]]:
    """The same 1D Burgers steps by exponax, where it is installed."""
    if grid.dimension != 1 or find_spec("exponax") is None:
        return {}
    import exponax
    import jax

    jax.config.update("jax_enable_x64", dtype == torch.float64)
    stepper = exponax.stepper.Burgers(
        1, grid.lengths[0], grid.shape[0], h, diffusivity=0.02, convection_scale=1.0, order=4
    )
    many = jax.jit(jax.vmap(exponax.repeat(stepper, SUBSTEPS)))
    u = jax.numpy.asarray(_states(grid, samples, dtype).numpy())
    return {"exponax": lambda: many(u).block_until_ready()}


def _states(grid: Grid, samples: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    draw = RandomFourier(modes=4)
    return torch.stack([draw(grid, 1, generator) for _ in range(samples)]).to(dtype)


def measure(seconds: float) -> list[dict[str, Any]]:
    """One row per problem and precision: microseconds per step and ratios to the transforms."""
    rows = []
    for name, pde, grid, samples, h, back, forth in CASES:
        for dtype in (torch.float64, torch.float32):
            u = _states(grid, samples, dtype)
            fast = pseudo_spectral(pde, grid, SUBSTEPS * h, substeps=SUBSTEPS)
            plain = pseudo_spectral(pde, grid, SUBSTEPS * h, substeps=SUBSTEPS, packed=False)
            assert fast.packed is not None

            def run_fast(step: Any = fast, state: Tensor = u) -> Tensor:
                return step(state)

            def run_plain(step: Any = plain, state: Tensor = u) -> Tensor:
                return step(state)

            variants: dict[str, Callable[[], Any]] = {
                "fast": run_fast,
                "generic": run_plain,
                **transforms(grid, samples, dtype, back, forth),
                **peer(grid, samples, dtype, h),
            }
            with torch.no_grad():
                taken = interleaved(variants, seconds)
            row: dict[str, Any] = {"problem": name, "dtype": str(dtype)[6:], "samples": len(taken["fast"])}
            for variant, values in taken.items():
                row[variant] = {
                    "min_us": 1e6 * min(values) / SUBSTEPS,
                    "median_us": 1e6 * statistics.median(values) / SUBSTEPS,
                }
            for kind in ("min_us", "median_us"):
                for base in ("packed transforms", "real transforms"):
                    row[f"fast / {base} ({kind[:-3]})"] = row["fast"][kind] / row[base][kind]
            rows.append(row)
    return rows


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
    names = [key for key, value in rows[0].items() if isinstance(value, dict)]
    print("CPU microseconds per ETDRK4 step, least (median) of interleaved samples, one thread")
    print(
        f"{'problem':22s}{'dtype':9s}"
        + "".join(f"{name:>22s}" for name in names)
        + f"{'/ packed':>16s}{'/ real':>16s}"
    )
    for row in rows:
        cells = [f"{row[n]['min_us']:.0f} ({row[n]['median_us']:.0f})" if n in row else "-" for n in names]
        for base in ("packed transforms", "real transforms"):
            cells.append(f"{row[f'fast / {base} (min)']:.2f} ({row[f'fast / {base} (median)']:.2f})")
        widths = [22] * len(names) + [16, 16]
        print(
            f"{row['problem']:22s}{row['dtype']:9s}"
            + "".join(f"{cell:>{width}s}" for cell, width in zip(cells, widths, strict=True))
        )
    if arguments.json is not None:
        report = {"benchmark": "etdrk", "torch": torch.__version__, "substeps": SUBSTEPS, "rows": rows}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
