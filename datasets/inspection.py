"""Look at a dataset: what is in it, in words and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.defect import stored_frame
from sciml.datasets.reader import Source, read_json
from sciml.datasets.reader import open as open_dataset
from sciml.datasets.schema import describe_domain
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.volume import draw_volumes
from sciml.datasets.writer import whole_file, write_bytes
from sciml.domains import Domain, Grid, Mesh, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRAMES = 5
"""Frames of a 2D sample that are drawn."""

CHANNELS_3D = 5
"""Channels of a 3D sample that are drawn by pyvista."""

CURVES = 6
"""Unknowns of a system without space that are drawn."""


def describe(path: Source, hints: Hints | None = None) -> dict[str, Any]:
    """What is in a dataset, ready for JSON; fields are not read.

    Raises:
        UserError: it cannot be opened.
    """
    dataset = open_dataset(path, hints)
    splits: dict[str, Any] = {}
    for name, split in dataset.splits.items():
        if isinstance(split, Pairs):
            shape = list(split.target_blocks[0].shape[2:])
            splits[name] = {
                "samples": len(split),
                "input": [len(split.input_channels), *shape[1:]],
                "target": shape,
            }
        else:
            frames = sorted({block.shape[1] for block in split.blocks})
            splits[name] = {
                "samples": len(split),
                "frames": frames[0] if len(frames) == 1 else [frames[0], frames[-1]],
                "state": list(split.blocks[0].shape[2:]),
                "domains": len(split.domains),
            }
    first = dataset.first
    domain = first.domain if isinstance(first, Pairs) else first.domain_of(0)
    found: dict[str, Any] = {
        "path": str(dataset.path),
        "name": dataset.name,
        "layout": dataset.kind,
        "fields": [{"name": f.name, "unit": f.unit, "rank": f.rank} for f in dataset.fields],
        "channels": list(dataset.channels),
        "domain": describe_domain(domain),
        "dt": dataset.dt,
        "splits": splits,
        "parameters": {name: list(pair) for name, pair in dataset.parameters.items()},
        "notes": list(dataset.notes),
    }
    if isinstance(first, Pairs):
        found["input_fields"] = [
            {"name": f.name, "unit": f.unit, "rank": f.rank} for f in first.input_fields
        ]
    if dataset.manifest:
        found["title"] = dataset.manifest.get("title", "")
        found["complete"] = dataset.manifest.get("complete", False)
        found["recipe"] = dataset.manifest.get("recipe", {}).get("name")
    if dataset.certificate:
        found["error"] = worst_error(dataset)
    return found


def worst_error(dataset: Dataset) -> dict[str, float]:
    """Largest relative error of the data per field, over samples and times; empty without certificate."""
    errors = (dataset.certificate or {}).get("error", {})
    return {
        name: max((v for v in e["max"] if v is not None), default=math.nan) for name, e in errors.items()
    }


def plot(path: Source, out: str | Path, hints: Hints | None = None) -> Path:
    """Draw a few samples: space against time in 1D, frames in 2D, slices and surfaces of 3D (where pyvista is there and
    can draw, else middle slices), triangles of a mesh, and curves over time where there is no space.

    Returns the picture's path.

    Raises:
        UserError: the dataset cannot be opened, or it holds what cannot be drawn.
    """
    from matplotlib.figure import Figure

    dataset, out = open_dataset(path, hints), Path(out)
    split = dataset.first
    if isinstance(split, Split) and out.suffix == ".png" and _plot_volumes(split, out):
        return out
    figure = Figure(layout="constrained")
    if isinstance(split, Pairs):
        _plot_pairs(figure, split)
    elif isinstance(split.domain_of(0), Grid) and split.dimension == 1:
        _plot_lines(figure, split)
    elif isinstance(split.domain_of(0), Point):
        _plot_curves(figure, split)
    else:
        _plot_frames(figure, split)
    figure.suptitle(dataset.manifest.get("title") or f"{dataset.name} ({dataset.kind})")
    with whole_file(out) as part:
        figure.savefig(part, format=out.suffix.lstrip(".") or "png", dpi=110)
    return out


def _plot_volumes(split: Split, out: Path) -> bool:
    """Three frames of the first sample of a 3D grid by pyvista, or False where it cannot be."""
    domain = split.domain_of(0)
    if not isinstance(domain, Grid) or domain.dimension != 3:
        return False
    last = len(split.times_of(0)) - 1
    frames = sorted({0, last // 2, last})
    states = _read_frames(split, frames)[:, :CHANNELS_3D]
    if not np.isfinite(states).all():
        return False
    titles = tuple(f"t = {float(split.times_of(0)[t]):.4g}" for t in frames)
    return draw_volumes(states, domain, titles, split.channels[:CHANNELS_3D], out)


def _read_frames(split: Split, frames: Sequence[int]) -> np.ndarray:
    """Some frames of the first sample, (frames, C, *points); no others are read."""
    return np.concatenate([stored_frame(split, 0, t).to(torch.float32).numpy() for t in frames])


def _style(values: np.ndarray) -> dict[str, Any]:
    """Symmetric red-blue for values of both signs, else a sequential map."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low < 0 < high and min(-low, high) > 0.05 * max(-low, high):
        reach = max(-low, high)
        return {"cmap": "RdBu_r", "vmin": -reach, "vmax": reach}
    return {"cmap": "viridis", "vmin": low, "vmax": high}


def _plot_lines(figure: Any, split: Split) -> None:
    """Space against time of up to three samples, a row per channel."""
    count = min(3, len(split))
    channels = split.channels
    figure.set_size_inches(3.6 * count + 1, 2.8 * len(channels) + 0.5)
    axes = figure.subplots(len(channels), count, squeeze=False, sharex=True)
    grid = split.domain_of(0)
    assert isinstance(grid, Grid)  # chosen by the caller
    x = grid.axes()[0].numpy()
    for column in range(count):
        trajectory = split[column]
        data, times = trajectory.data[0].numpy(), trajectory.times.numpy()
        for row, name in enumerate(channels):
            ax: Axes = axes[row, column]
            values = data[:, row]
            image = ax.pcolormesh(x, times, values, shading="nearest", rasterized=True, **_style(values))
            figure.colorbar(image, ax=ax)
            ax.set_title(f"{name}, sample {column}")
            if column == 0:
                ax.set_ylabel("time")
            if row == len(channels) - 1:
                ax.set_xlabel("x")


def _plot_curves(figure: Any, split: Split) -> None:
    """Values over time of up to three samples, a row for each of the first unknowns."""
    channels = split.channels[:CURVES]
    figure.set_size_inches(7.5, 1.6 * len(channels) + 0.9)
    axes = figure.subplots(len(channels), 1, squeeze=False, sharex=True)[:, 0]
    for sample in range(min(3, len(split))):
        trajectory = split[sample]
        for row, ax in enumerate(axes):
            values = trajectory.data[0, :, row].numpy()
            ax.plot(trajectory.times.numpy(), values, linewidth=1, label=f"sample {sample}")
    for ax, name in zip(axes, channels, strict=True):
        ax.set_ylabel(name)
    axes[0].legend(loc="upper right")
    axes[-1].set_xlabel("time")


def _plot_frames(figure: Any, split: Split) -> None:
    """Frames of the first sample, a row per channel."""
    domain, channels, times = split.domain_of(0), split.channels, split.times_of(0)
    frames = np.unique(np.linspace(0, len(times) - 1, FRAMES).round().astype(int))
    height = min(max(2.6 * _proportion(domain), 0.9), 4.0)
    figure.set_size_inches(2.9 * len(frames) + 1, (height + 0.3) * len(channels) + 0.6)
    axes = figure.subplots(len(channels), len(frames), squeeze=False, sharex=True, sharey=True)
    data = _read_frames(split, frames.tolist())
    for row, name in enumerate(channels):
        style = _style(data[:, row])
        for column, frame in enumerate(frames):
            ax: Axes = axes[row, column]
            image = _draw(ax, domain, data[column, row], data[column], style)
            if row == 0:
                ax.set_title(f"t = {float(times[frame]):.4g}")
            if column == 0:
                ax.set_ylabel(name)
        if image is not None:
            figure.colorbar(image, ax=list(axes[row]))


def _proportion(domain: Domain) -> float:
    """Height of the plane that is drawn over its width."""
    if isinstance(domain, Mesh):
        width, height = (domain.points.amax(dim=0) - domain.points.amin(dim=0)).tolist()[:2]
    else:
        width, height = domain.lengths[:2]
    return height / width


def _draw(ax: Axes, domain: Domain, values: np.ndarray, state: np.ndarray, style: dict[str, Any]) -> Any:
    """One frame of one channel; of a 3D grid its middle slice, of a 3D mesh or particles the points."""
    from matplotlib.tri import Triangulation

    ax.set_aspect("equal")
    if isinstance(domain, Grid):
        if domain.dimension == 3:
            values = values[:, :, values.shape[2] // 2]
        x, y = (axis.numpy() for axis in domain.axes()[:2])
        return ax.pcolormesh(x, y, values.T, shading="nearest", rasterized=True, **style)
    if isinstance(domain, Mesh) and domain.dimension == 2:
        x, y = domain.points.numpy().T
        triangles = Triangulation(x, y, domain.cells.numpy())
        return ax.tripcolor(triangles, values, shading="gouraud", rasterized=True, **style)
    if isinstance(domain, Mesh):
        x, y = domain.points.numpy().T[:2]
        return ax.scatter(x, y, c=values, s=4, **style)
    return ax.scatter(state[0], state[1], c=values, s=6, **style)


def _plot_pairs(figure: Any, split: Pairs) -> None:
    """Inputs and targets of three samples, a row each."""
    names: Sequence[str] = [*split.input_channels, *split.channels]
    count = min(3, len(split))
    figure.set_size_inches(2.9 * len(names) + 1, 2.5 * count + 0.6)
    axes = figure.subplots(count, len(names), squeeze=False)
    for row in range(count):
        given, wanted = split[row]
        state = np.concatenate([given.numpy(), wanted.numpy()])
        for column, name in enumerate(names):
            ax: Axes = axes[row, column]
            if split.dimension == 1:
                ax.plot(split.domain.axes()[0].numpy(), state[column])  # type: ignore[union-attr]
            else:
                image = _draw(ax, split.domain, state[column], state, _style(state[column]))
                figure.colorbar(image, ax=ax)
            if row == 0:
                ax.set_title(name)


def write_card(folder: str | Path) -> Path:
    """Write card.md: what the dataset is, how it was made, and how good it is."""
    dataset = open_dataset(folder)
    path = dataset.path / "card.md"
    write_bytes(path, card(dataset).encode())
    return path


def card(dataset: Dataset) -> str:
    """The text of card.md for a generated dataset."""
    manifest, specification = dataset.manifest, dataset.manifest["recipe"]["specification"]
    domain = manifest["domain"]
    if domain["kind"] == "grid":
        box = " x ".join(f"{length:g}" for length in domain["lengths"])
        points = " x ".join(str(n) for n in domain["shape"])
        sides = "; ".join("/".join(pair) for pair in domain["sides"])
        where = f"{points} {domain['centering']}s on a box of {box}, sides {sides}"
    elif domain["kind"] == "point":
        where = "no space, a system of ordinary differential equations"
    else:
        where = f"a mesh of {domain['nodes']} nodes and {domain['cells']} cells in {domain['dimension']}D"
    lines = [
        f"# {manifest['name']}",
        "",
        manifest["title"],
        "",
        f"- Equation: {specification['pde']}, parameters {_parameters(specification, dataset)}",
        f"- Domain: {where}",
        f"- Fields: {', '.join(_field(f) for f in manifest['fields'])}",
    ]
    if faces := manifest["shards"][0].get("low_faces"):
        where = ", ".join(f"{name} along {axes}" for name, axes in faces.items())
        lines.append(
            f"- Staggered: values on the low faces of the cells, {where}; the others at the centres"
        )
    if manifest["input_fields"]:
        lines.append(f"- Inputs: {', '.join(_field(f) for f in manifest['input_fields'])}")
    else:
        lines.append(f"- Time between stored frames: {manifest['dt']:g}")
    if manifest["citation"]:
        lines.append(f"- Source: {manifest['citation']}")
    lines += ["", "| split | samples | frames | bytes |", "|---|---|---|---|"]
    for name, split in manifest["splits"].items():
        size = sum(s["bytes"] for s in manifest["shards"] if s["file"].startswith(f"data/{name}/"))
        frames = 1 if manifest["input_fields"] else split["steps"] + 1
        lines.append(f"| {name} | {split['samples']} | {frames} | {size} |")
    first = manifest["shards"][0]
    count = first["substeps"]
    substeps = f", {count} substep{'s' * (count > 1)} per stored step" if count else ""
    rejected = sum(len(s["rejected"]) for s in manifest["shards"])
    factor = specification["resolution_factor"]
    fineness = "" if factor == 1 else f", with {factor} times the points per axis"
    if factor == 1 and domain["kind"] != "point":
        fineness = ", on the stored points"
    lines += [
        "",
        "## How it was made",
        "",
        f"Solver: {first['solver']}{substeps}, in {manifest['dtype_solver']}{fineness}; stored in float32. "
        f"Initial states: {specification['initial']}. Seed {manifest['seed']}. Samples that blew up and were "
        f"drawn again: {rejected}.",
    ]
    if dataset.certificate:
        lines += ["", "## How good it is", "", *_certificate(dataset.certificate)]
        kinds = {side for pair in domain.get("sides", []) for side in pair}
        if kinds & {"outflow", "inflow"} and any("displacement" in line for line in lines):
            lines.append(
                "Nothing holds a flow between open sides: what waves leave wrong in it as they go out, an error of first "
                "order in the spacing, moves it on and on."
            )
    if (dataset.path / "audit.json").is_file():
        lines += ["", "## What its values show", "", *_audit(read_json(dataset.path / "audit.json"))]
    return "\n".join(lines) + "\n"


def _parameters(specification: dict[str, Any], dataset: Dataset) -> str:
    if not specification["parameters"]:
        return "none"
    ranges = dataset.parameters
    return ", ".join(
        f"{name} = {text}"
        + (f" (found {ranges[name][0]:.4g} to {ranges[name][1]:.4g})" if name in ranges else "")
        for name, text in specification["parameters"].items()
    )


def _field(f: dict[str, Any]) -> str:
    kind = ("scalar", "vector", "tensor")[f["rank"]]
    return f"{f['name']} [{f['unit']}] ({kind})"


def _certificate(certificate: Mapping[str, Any]) -> list[str]:
    """The certificate in a few lines and a table."""
    lines = [
        f"{certificate['samples']} samples of {certificate['split']!r} solved again with "
        f"{certificate['reference']}. Relative L2 difference, the largest of them:",
        "",
        "| field | first frame | a tenth of the time | half | last frame | largest |",
        "|---|---|---|---|---|---|",
    ]
    last = len(certificate["times"]) - 1
    for name, error in certificate["error"].items():
        shown = [error["max"][i] for i in (0, last // 10, last // 2, last)]
        shown.append(None if None in error["max"] else max(error["max"]))
        lines.append(
            f"| {name} | " + " | ".join("not finite" if v is None else f"{v:.2e}" for v in shown) + " |"
        )
    for name, until in certificate["within_one_percent_until"].items():
        if until != certificate["times"][-1]:
            reach = "nowhere" if until is None else f"up to t = {until:g}"
            lines += ["", f"{name} is known to within one percent {reach}."]
    for name, size in certificate.get("scales", {}).items():
        lines += [
            "",
            f"{name} vanishes in the exact solution; its error is measured by {size:.3g} instead of itself.",
        ]
    lines += _reasons(certificate)
    rounding = ", ".join(f"{name} {value:.1e}" for name, value in certificate["rounding"].items())
    lines += ["", f"Lost by storing float32, at most: {rounding}."]
    for name, drift in certificate["invariants"].items():
        lines.append(
            f"Drift of the invariant {name!r}: {drift['absolute']:.1e} absolute, {drift['relative']:.1e} relative."
        )
    return lines


def _reasons(certificate: Mapping[str, Any]) -> list[str]:
    """Where the error comes from: grid or substeps, and whether it is one of place."""

    def largest(errors: Mapping[str, Any]) -> str:
        return ", ".join(
            f"{name} {max((v for v in e['max'] if v is not None), default=math.nan):.1e}"
            for name, e in errors.items()
        )

    lines = []
    if parts := certificate.get("parts"):
        lines += [
            "",
            f"Of the grid alone, the largest: {largest(parts['space'])}; of the substeps alone: {largest(parts['time'])}.",
        ]
    if single := certificate.get("float32"):
        lines += ["", f"The same solver in float32 differs by, the largest: {largest(single)}."]
    for name, found in certificate.get("displacement", {}).items():
        last = certificate["error"][name]["max"][-1]
        if last is not None and last > 1e-3 and found["share"] > 0.5:
            lines += [
                "",
                f"{100 * found['share']:.0f} % of the mean square error of {name} in the last frame is a displacement of the "
                f"pattern, by up to {found['points']:.2g} points.",
            ]
    return lines


def _audit(audit: Mapping[str, Any]) -> list[str]:
    """The audit in a few lines and a table; audit.png draws it."""
    counts = {level: sum(f["level"] == level for f in audit["findings"]) for level in ("error", "warning")}
    lines = [
        f"{counts['error']} errors and {counts['warning']} warnings; audit.png has histograms and spectra, audit.json all "
        "of it. From stored frame to stored frame the solver was followed again; a gap is an error if it is larger than "
        "what the solver's own errors explain.",
        "",
        "| split | channel | smallest | largest | drift of the mean |",
        "|---|---|---|---|---|",
    ]
    for name, entry in audit["audit"].items():
        drift = entry.get("drift_of_means", {})
        for channel, found in entry["values"].items():
            numbers = (found["smallest"], found["largest"], drift.get(channel))
            shown = " | ".join("" if v is None else f"{v:.3g}" for v in numbers)
            lines.append(f"| {name} | {channel} | {shown} |")
    measured = audit["measured"]
    for name in audit["audit"]:
        if found := measured.get(f"judgement of {name}"):
            explained = (
                "" if found["allowed"] is None else f", of which {found['allowed']:.2g} would be explained"
            )
            lines += [
                "",
                f"Gap to the equation in {name!r}, the most remarkable of {found['tests']}: {found['gap']:.2g} of the "
                f"change{explained}.",
            ]
    for finding in audit["findings"]:
        if finding["level"] != "note":
            lines += ["", f"{finding['level']}: {finding['where']}: {finding['message']}."]
    return lines
