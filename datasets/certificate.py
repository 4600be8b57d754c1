"""The error bar of a dataset: how far its numbers are from those of a finer solution.

A few samples are solved again on a domain twice as fine with at least twice the substeps. The difference,
per field and output time, is the data's own error floor: no surrogate can be credited or blamed below it.
For chaotic equations it grows until the two solutions are unrelated, which is a fact about the data too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.datasets.generate import Solved, draw_batch, layout, solve
from sciml.datasets.recipe import Recipe
from sciml.domains import Cloud, Domain, Grid, Mesh, Point
from sciml.odes.base import ODE
from sciml.pdes.base import Elliptic
from sciml.resample import resample
from sciml.solvers import build
from sciml.solvers.verify.measure import relative_errors

TIGHT = 1e-13
"""Tolerance of the steps that data of a system without space are held against, where those have one too."""


def certify(recipe: Recipe, out: Path | None = None, samples: int = 2) -> dict[str, Any]:
    """Measure the error of `samples` samples of the recipe's longest split.

    Args:
        recipe: how the data are made.
        out: the dataset, whose manifest says how much was lost by storing float32.
        samples: how many to solve again.

    Returns what certificate.json holds: per field and time the relative L2 error (mean and largest over
    the samples), the largest rounding error of storage, and the drift of the invariants.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _certify(recipe, out, samples)
    finally:
        torch.set_num_threads(threads)


def _certify(recipe: Recipe, out: Path | None, samples: int) -> dict[str, Any]:
    stored, fields, inputs = layout(recipe)
    split = max(recipe.samples, key=recipe.steps_of)
    steps = 0 if inputs else recipe.steps_of(split)
    factor = recipe.resolution_factor
    own = recipe.domain_at(factor)
    keys = [(i, 0) for i in range(samples)]
    parameters, initial = draw_batch(recipe, split, keys, own)
    data = solve(recipe, parameters, initial, own, steps, recipe.substeps, stored, torch.float64)
    reference, how = _reference(recipe, split, keys, parameters, initial, own, steps, stored, data)
    times = [recipe.dt * t for t in range(data.states.shape[1])]
    errors = relative_errors(data.states, reference, fields, stored)
    names = [f.name for f in fields]
    return {
        "recipe": recipe.name,
        "split": split,
        "samples": samples,
        "method": data.method,
        "reference": how,
        "times": times,
        "error": {
            name: {
                "mean": _finite(errors[:, :, i].mean(dim=0)),
                "max": _finite(errors[:, :, i].amax(dim=0)),
            }
            for i, name in enumerate(names)
        },
        "within_one_percent_until": {
            name: _reliable(errors[:, :, i].amax(dim=0), times) for i, name in enumerate(names)
        },
        "rounding": _rounding(out, data, recipe, stored),
        "invariants": _drift(recipe, parameters, data.states, stored),
    }


def _reference(
    recipe: Recipe,
    split: str,
    keys: list[tuple[int, int]],
    parameters: dict[str, Tensor],
    initial: Tensor,
    own: Domain,
    steps: int,
    stored: Domain,
    data: Solved,
) -> tuple[Tensor, str]:
    """The same samples on twice the grid with at least twice the substeps, on the stored points."""
    can_refine = isinstance(own, Grid) or callable(recipe.domain)
    fine = recipe.domain_at(2 * recipe.resolution_factor) if can_refine else own
    periodic_nodes = isinstance(own, Grid) and own.centering == "node" and all(own.periodic)
    if fine is own:
        start = initial
    elif periodic_nodes and isinstance(own, Grid) and isinstance(fine, Grid) and not _is_elliptic(recipe):
        # The very state that the data started from, which the finer grid holds exactly.
        start = resample(initial, own, fine)
    else:
        _, start = draw_batch(recipe, split, keys, fine)
    substeps = 2 * data.substeps if data.substeps else None
    if isinstance(own, Point) and substeps is None:
        tight = replace(recipe, solver=_tight)
        found = solve(tight, parameters, start, own, steps, None, stored, torch.float64)
        return found.states, f"steps of an error of {TIGHT:g}"
    target = stored if isinstance(fine, Grid) else fine
    solved = solve(recipe, parameters, start, fine, steps, substeps, target, torch.float64)
    states = solved.states
    if isinstance(fine, Mesh) and fine is not own and isinstance(stored, Mesh):
        states = _interpolated(states, fine, stored)
    space = "twice the points per axis" if fine is not own else "the same domain"
    how = [space]
    if substeps:
        how.append(f"{substeps} substeps in place of {data.substeps}")
    elif not _is_elliptic(recipe):
        how.append("substeps of its own choice")
    if states is not solved.states:
        how.append("interpolated linearly to the stored nodes, which is part of the difference")
    return states, ", ".join(how)


def _tight(pde: Any, domain: Domain, dt: float, substeps: int | None) -> Callable[[Tensor], Tensor]:
    """Steps that follow a tolerance below that of any data, for systems without space."""
    return build(pde, domain, dt, tolerance=TIGHT)


def _is_elliptic(recipe: Recipe) -> bool:
    return bool(layout(recipe)[2])


def _interpolated(states: Tensor, source: Mesh, target: Mesh) -> Tensor:
    """Nodal values (B, T, C, N) of one mesh at the nodes of another, linear on triangles."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    values = states.flatten(0, 2).T.numpy()
    at = target.points.numpy()
    found = LinearNDInterpolator(source.points.numpy(), values)(at)
    outside = np.isnan(found).any(axis=1)
    if outside.any():
        found[outside] = NearestNDInterpolator(source.points.numpy(), values)(at[outside])
    return torch.from_numpy(found.T).reshape(*states.shape[:3], -1)


def _reliable(errors: Tensor, times: list[float]) -> float | None:
    """The last time up to which no error reaches one percent; None if the first frame does."""
    bad = torch.nonzero(~(errors < 0.01)).flatten()
    if not len(bad):
        return times[-1]
    return times[int(bad[0]) - 1] if int(bad[0]) else None


def _finite(values: Tensor) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [float(v) if np.isfinite(v) else None for v in values.tolist()]


def _rounding(out: Path | None, data: Solved, recipe: Recipe, stored: Domain) -> dict[str, float]:
    """Largest |float64 - float32| per channel over all shards, or of these samples without a dataset."""
    from sciml.trajectory import channel_names

    names = channel_names(layout(recipe)[1], stored.dimension)
    largest = dict(zip(names, data.rounding.tolist(), strict=True))
    if out is not None and (out / "manifest.json").is_file():
        from sciml.datasets.reader import read_json

        for shard in read_json(out / "manifest.json")["shards"]:
            for name, value in shard["rounding"].items():
                largest[name] = max(largest[name], value)
    return largest


def _drift(
    recipe: Recipe, parameters: dict[str, Tensor], states: Tensor, stored: Domain
) -> dict[str, dict[str, float]]:
    """Largest change of each invariant over time and samples, absolute and relative.

    The relative one is measured by the invariant itself, or where that is smaller by the integral of the
    state's modulus, since the invariant of a zero-mean state is zero.
    """
    equation = recipe.equation(parameters, stored)
    if isinstance(equation, Elliptic):
        return {}
    assert not isinstance(stored, Cloud)

    def invariants(u: Tensor) -> Mapping[str, Tensor]:
        if isinstance(equation, ODE):
            return equation.invariants(u.double())
        return equation.invariants(u.double(), stored)

    start = {k: v.to(torch.float64) for k, v in invariants(states[:, 0]).items()}
    size = (states[:, 0].double().abs() * stored.weights()).flatten(1).sum(dim=1)
    drift = {name: torch.zeros(len(states), dtype=torch.float64) for name in start}
    for t in range(states.shape[1]):
        for name, value in invariants(states[:, t]).items():
            drift[name] = torch.maximum(drift[name], (value - start[name]).abs())
    return {
        name: {
            "absolute": float(drift[name].max()),
            "relative": float((drift[name] / torch.maximum(start[name].abs(), size)).max()),
        }
        for name in start
    }
