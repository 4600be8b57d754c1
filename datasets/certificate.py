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
from sciml.pdes.base import PDE, Elliptic
from sciml.resample import resample
from sciml.solvers import build
from sciml.solvers.verify.measure import relative_errors
from sciml.trajectory import Field

TIGHT = 1e-13
"""Tolerance of the steps that data of a system without space are held against, where those have one too."""


def certify(recipe: Recipe, out: Path | None = None, samples: int = 2) -> dict[str, Any]:
    """Measure the error of `samples` samples of the recipe's longest split.

    Args:
        recipe: how the data are made.
        out: the dataset, whose manifest says how much was lost by storing float32.
        samples: how many to solve again.

    Returns what certificate.json holds: per field and time the relative L2 error (mean and largest over
    the samples), its parts from the grid alone and from the substeps alone where the solver takes a number of
    them, how much of it is a displacement of the pattern, the same solver in float32, the largest rounding error of
    storage, and the drift of the invariants.
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
    equation = recipe.equation(parameters, stored)
    scales = equation.scales(data.states[:, 0].double(), stored) if isinstance(equation, PDE) else {}

    def compare(states: Tensor, with_: Tensor) -> dict[str, dict[str, list[float | None]]]:
        errors = relative_errors(
            states, with_, fields, stored, {n: v[: len(states)] for n, v in scales.items()}
        )
        return {
            f.name: {
                "mean": _finite(errors[:, :, i].mean(dim=0)),
                "max": _finite(errors[:, :, i].amax(dim=0)),
            }
            for i, f in enumerate(fields)
        }

    error = compare(data.states, reference)
    return {
        "recipe": recipe.name,
        "split": split,
        "samples": samples,
        "method": data.method,
        "reference": how,
        "times": times,
        "error": error,
        "within_one_percent_until": {name: _reliable(e["max"], times) for name, e in error.items()},
        "parts": _parts(recipe, parameters, initial, own, steps, stored, data, reference, compare),
        "displacement": _displacement(data.states[:, -1], reference[:, -1], fields, stored)
        if steps
        else {},
        "float32": _single(recipe, parameters, initial, own, steps, stored, data, compare),
        "scales": {name: float(value.max()) for name, value in scales.items()},
        "rounding": _rounding(out, data, recipe, stored),
        "invariants": _drift(recipe, parameters, data.states, stored),
    }


Errors = dict[str, dict[str, list[float | None]]]
Compare = Callable[[Tensor, Tensor], Errors]


def _parts(
    recipe: Recipe,
    parameters: dict[str, Tensor],
    initial: Tensor,
    own: Domain,
    steps: int,
    stored: Domain,
    data: Solved,
    reference: Tensor,
    compare: Compare,
) -> dict[str, Errors]:
    """The error of time alone and of space alone, by a third run: the data's grid with the reference's substeps.

    Empty where the solver chooses its substeps by the state, since those follow the grid.
    """
    if not data.substeps or not steps or isinstance(own, Point):
        return {}
    between = solve(
        recipe, parameters, initial, own, steps, 2 * data.substeps, stored, torch.float64
    ).states
    return {"time": compare(data.states, between), "space": compare(between, reference)}


def _single(
    recipe: Recipe,
    parameters: dict[str, Tensor],
    initial: Tensor,
    own: Domain,
    steps: int,
    stored: Domain,
    data: Solved,
    compare: Compare,
) -> Errors:
    """The first sample by the same solver in float32, against what it gave before; empty if it knows no float32."""
    if recipe.dtype != "float64" or isinstance(own, Mesh):
        return {}
    first = {name: values[:1] for name, values in parameters.items()}
    try:
        # Substeps as they were, where they have a number, so that rounding is the only difference.
        single = replace(recipe, dtype="float32")
        substeps = data.substeps if recipe.substeps is None else recipe.substeps
        states = solve(single, first, initial[:1], own, steps, substeps, stored, torch.float64).states
    except (RuntimeError, TypeError, ValueError, NotImplementedError):
        return {}
    return compare(states, data.states[:1])


def _displacement(
    data: Tensor, reference: Tensor, fields: tuple[Field, ...], stored: Domain
) -> dict[str, dict[str, float]]:
    """How much of the error of a state (B, C, *points) is that of a pattern in another place.

    The shift d that makes d . grad(reference) most like the error, by least squares: its largest size over samples in
    points, and the part of the mean square error that it explains.
    """
    if not isinstance(stored, Grid) or min(stored.shape) < 3:
        return {}
    out, start, axes = {}, 0, tuple(range(-stored.dimension, 0))
    for f in fields:
        count = stored.dimension**f.rank
        a, b = (x[:, start : start + count].double() for x in (data, reference))
        start += count
        slopes = torch.gradient(b, dim=axes)  # per point
        points, explained, whole = 0.0, 0.0, 0.0
        for i in range(len(a)):
            matrix = torch.stack([s[i].flatten() for s in slopes], dim=1)
            error = (b[i] - a[i]).flatten()
            if not bool(torch.isfinite(matrix).all() and torch.isfinite(error).all()):
                continue
            shift = torch.linalg.lstsq(matrix, error.unsqueeze(1), driver="gelsd").solution
            points = max(points, float(shift.norm()))
            explained += float((matrix @ shift).square().sum())
            whole += float(error.square().sum())
        if whole > 0:
            out[f.name] = {"points": points, "share": explained / whole}
    return out


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


def _reliable(errors: list[float | None], times: list[float]) -> float | None:
    """The last time up to which no error reaches one percent; None if the first frame does."""
    for i, error in enumerate(errors):
        if error is None or not error < 0.01:
            return times[i - 1] if i else None
    return times[-1]


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
