"""The pictures of a report, each a matplotlib figure made from an `Evaluation`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402  the backend is chosen first
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from sciml.domains import Cloud, Domain, Grid, Mesh, Point  # noqa: E402
from sciml.experiments.evaluate import FEWEST_SAMPLES  # noqa: E402
from sciml.experiments.scores import Evaluation, Scores  # noqa: E402
from sciml.experiments.verdict import survival_band  # noqa: E402

# Colours that stay apart for colour-blind readers (Okabe and Ito), surrogates first.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
GREYS = ("#222222", "#666666", "#999999", "#BBBBBB", "#444444", "#888888")
METRIC_LABELS = {
    "nrmse": "nRMSE  ||prediction - truth|| / ||truth||",
    "vrmse": "VRMSE (1 = predicting the spatial mean)",
    "correlation": "Pearson correlation",
    "spectral_distance": "log-spectral distance",
}


def styles(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """A line style per contestant: surrogates solid and coloured, solvers dashed, baselines dotted."""
    out: dict[str, dict[str, Any]] = {}
    counts = {"surrogate": 0, "solver": 0, "baseline": 0}
    for name, group in evaluation.groups().items():
        kind = group[0].kind
        k = counts[kind]
        counts[kind] += 1
        if kind == "surrogate":
            out[name] = {"color": COLOURS[k % len(COLOURS)], "lw": 2.0, "ls": "-", "zorder": 4}
        elif kind == "solver":
            out[name] = {"color": GREYS[k % len(GREYS)], "lw": 1.1, "ls": ("--", "-.")[k % 2], "zorder": 3}
        else:
            out[name] = {"color": GREYS[(k + 1) % len(GREYS)], "lw": 1.2, "ls": ":", "zorder": 2}
    return out


def _quantiles(group: Sequence[Scores], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median and quartiles over samples and seeds at each lead time; nan where most have blown up."""
    values = np.concatenate([s.values[metric] for s in group], axis=1)
    values = np.where(np.isfinite(values), values, np.inf if metric != "correlation" else -1.0)
    with np.errstate(invalid="ignore"):
        low, mid, high = np.quantile(values, [0.25, 0.5, 0.75], axis=1, method="nearest")
    return tuple(np.where(np.isfinite(q), q, np.nan) for q in (low, mid, high))  # type: ignore[return-value]


def error_against_lead_time(evaluation: Evaluation, metric: str = "nrmse") -> Figure:
    """Error of every contestant over lead time, with quartile bands and the data's own error as a floor."""
    figure, axis = plt.subplots(figsize=(9.8, 4.6), layout="constrained")
    style = styles(evaluation)
    for name, group in evaluation.groups().items():
        lead = evaluation.steps_of(group[0], metric) * evaluation.dt
        low, mid, high = _quantiles(group, metric)
        axis.plot(lead, mid, label=name, **style[name])
        if group[0].kind == "surrogate":
            axis.fill_between(lead, low, high, color=style[name]["color"], alpha=0.18, lw=0)
    if metric == "nrmse" and evaluation.floor is not None:
        floor = np.maximum(evaluation.floor[1 : evaluation.steps + 1], 1e-12)
        when = np.arange(1, len(floor) + 1) * evaluation.dt
        bottom = max(float(floor.min()) / 3, 1e-12)
        axis.fill_between(
            when, bottom, floor, color="#c8b560", alpha=0.45, lw=0, label="error of the data itself"
        )
    axis.axvline(evaluation.trained_steps * evaluation.dt, color="#aaaaaa", lw=0.8)
    axis.annotate(
        "training horizon",
        (evaluation.trained_steps * evaluation.dt, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(3, -11),
        textcoords="offset points",
        fontsize=8,
        color="#777777",
    )
    if metric in ("nrmse", "vrmse"):
        axis.set_yscale("log")
        drawn = np.concatenate([np.ravel(line.get_ydata()) for line in axis.get_lines()[:-1]])
        drawn = drawn[np.isfinite(drawn) & (drawn > 0)]
        if drawn.size:
            axis.set_ylim(max(float(drawn.min()) / 3, 1e-10), min(float(drawn.max()) * 3, 30.0))
    axis.set_xscale("log")
    axis.set(xlabel="lead time", ylabel=METRIC_LABELS.get(metric, metric))
    axis.grid(alpha=0.25, which="both", lw=0.4)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def survival(evaluation: Evaluation) -> Figure | None:
    """Fraction of the surrogates' rollouts that have not blown up, with the band that so many rollouts allow."""
    groups = {n: g for n, g in evaluation.groups().items() if g[0].kind == "surrogate"}
    if not groups:
        return None
    figure, axis = plt.subplots(figsize=(8.4, 2.8), layout="constrained")
    style = styles(evaluation)
    for name, group in groups.items():
        when, alive, low, high = survival_band(evaluation, group)
        look = {"step": "post", "color": style[name]["color"], "lw": 0}
        axis.fill_between(when * evaluation.dt, low, high, alpha=0.16, **look)
        axis.step(when * evaluation.dt, alive, where="post", label=name, **style[name])
    axis.set(xlabel="lead time", ylabel="fraction alive", ylim=(-0.03, 1.05))
    axis.grid(alpha=0.25, lw=0.4)
    axis.legend(fontsize=8, ncols=2, loc="lower left")
    return figure


def climate(evaluation: Evaluation, channels: Sequence[str]) -> Figure | None:
    """Time-mean spectra and distributions of point values, the truth with the band between halves of itself."""
    truth = evaluation.reference.statistics
    if not truth or not truth["count"].any():
        return None
    groups = {n: g for n, g in evaluation.groups().items() if g[0].kind == "surrogate"}
    style = styles(evaluation)
    count = min(2 if "spectrum" in truth else 3, truth["histogram"].shape[2])
    panels = count + ("spectrum" in truth)
    figure, axes = plt.subplots(
        1, panels, figsize=(4.2 * panels + 1.6, 3.6), layout="constrained", squeeze=False
    )
    places = list(axes[0])
    if "spectrum" in truth:
        axis = places.pop(0)
        low, middle, high = _halves(truth, "spectrum")
        k = np.arange(middle.shape[-1])[1:]
        floor = [q.sum(axis=0)[1:] for q in (low, high)]
        axis.fill_between(k, *floor, color="black", alpha=0.22, lw=0, label="truth, halves of itself")
        axis.loglog(k, middle.sum(axis=0)[1:], color="black", lw=1.4, label="truth")
        for name, group in groups.items():
            found = _middle([_mean(s.statistics, "spectrum").sum(axis=0) for s in group])
            axis.loglog(k, np.maximum(found[1:], 1e-30), label=name, **style[name])
        top = float(middle.sum(axis=0)[1:].max())
        least = float(middle.sum(axis=0)[1:].min())
        axis.set_ylim(max(least / 30, top * 1e-16), top * 10)
        axis.set(xlabel="wavenumber", ylabel="energy", title="mean spectrum")
    for channel in range(count):
        axis = places[channel]
        low, middle, high = (
            q[channel][1:-1] / truth["width"][channel] for q in _halves(truth, "histogram")
        )
        at = truth["low"][channel] + (np.arange(len(middle)) + 0.5) * truth["width"][channel]
        axis.fill_between(at, low, high, color="black", alpha=0.22, lw=0, label="truth, halves of itself")
        axis.plot(at, middle, color="black", lw=1.4, label="truth")
        for name, group in groups.items():
            found = _middle([_mean(s.statistics, "histogram")[channel] for s in group])
            axis.plot(at, found[1:-1] / truth["width"][channel], label=name, **style[name])
        seen = at[high > 0]
        axis.set_xlim(seen[0] - 0.7, seen[-1] + 0.7)
        peak = float(middle.max())
        axis.set(xlabel="standard deviations from the mean", yscale="log", ylim=(peak * 1e-4, peak * 4))
        axis.set_title(f"density of values{': ' + channels[channel] if len(channels) > 1 else ''}")
    for axis in axes[0]:
        axis.title.set_fontsize(10)
        axis.grid(alpha=0.25, which="both", lw=0.4)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def _mean(statistics: dict[str, np.ndarray], name: str, chosen: np.ndarray | None = None) -> np.ndarray:
    """What was gathered, per state: over everything, or over some samples."""
    total, count = statistics[name].sum(axis=0), statistics["count"].sum(axis=0)
    if chosen is not None:
        total, count = total[chosen], count[chosen]
    seen = float(count.sum())
    found: np.ndarray = total.sum(axis=0) / (seen if seen > 0 else np.nan)
    return found


def _middle(seeds: Sequence[np.ndarray]) -> np.ndarray:
    """Median over the seeds that left something."""
    there = [values for values in seeds if np.isfinite(values).any()]
    found: np.ndarray = np.median(there or [seeds[0]], axis=0)
    return found


def _halves(truth: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least, mean and largest over random halves of the samples, or over pieces of time where there are few."""
    samples = truth["count"].shape[1]
    mean = _mean(truth, name)
    if samples >= FEWEST_SAMPLES:
        random = np.random.default_rng(0)
        parts = [_mean(truth, name, random.permutation(samples)[: samples // 2]) for _ in range(32)]
    else:
        blocks = len(truth["count"])
        pieces = [slice(0, blocks // 2), slice(blocks // 2, blocks)]
        parts = [_mean({name: truth[name][p], "count": truth["count"][p]}, name) for p in pieces]
    return np.nanmin(parts, axis=0), mean, np.nanmax(parts, axis=0)


def spectra(evaluation: Evaluation) -> Figure | None:
    """Energy spectra of truth and contestants at a few lead times."""
    truths = evaluation.reference.spectra
    leads = sorted(truths)
    if not leads:
        return None
    figure, axes = plt.subplots(
        1,
        len(leads),
        figsize=(3.0 * len(leads) + 1.8, 3.6),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    style = styles(evaluation)
    top = max(truths[lead][1:].max() for lead in leads)
    axes[0][0].set_ylim(top * 1e-14, top * 10)
    for axis, lead in zip(axes[0], leads, strict=True):
        truth = truths[lead]
        k = np.arange(len(truth))
        axis.loglog(k[1:], truth[1:], color="black", lw=3.0, alpha=0.35, label="truth")
        for name, group in evaluation.groups().items():
            found = [s.spectra[lead] for s in group if len(s.spectra.get(lead, ())) == len(truth)]
            if found and group[0].kind != "baseline":
                axis.loglog(
                    k[1:], np.maximum(np.median(found, axis=0)[1:], 1e-30), label=name, **style[name]
                )
        axis.set(title=f"t = {lead * evaluation.dt:.3g} (step {lead})", xlabel="wavenumber")
        axis.grid(alpha=0.25, which="both", lw=0.4)
    axes[0][0].set_ylabel("energy")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    return figure


def invariants(evaluation: Evaluation) -> Figure | None:
    """Relative drift of each invariant for each contestant and for the reference itself."""
    names = [m for m in evaluation.scores[0].values if m.startswith("drift ")] if evaluation.scores else []
    if not names:
        return None
    figure, axes = plt.subplots(
        len(names),
        1,
        figsize=(9.8, 0.8 + 2.6 * len(names)),
        sharex=True,
        layout="constrained",
        squeeze=False,
    )
    style = styles(evaluation)
    tiny = 1e-17
    for axis, metric in zip(axes[:, 0], names, strict=True):
        for name, group in evaluation.groups().items():
            if group[0].kind == "baseline":
                continue
            _, mid, _ = _quantiles(group, metric)
            lead = evaluation.steps_of(group[0], metric) * evaluation.dt
            axis.semilogy(lead, np.maximum(mid, tiny), label=name, **style[name])
        if metric in evaluation.reference.values:
            axis.semilogy(
                evaluation.steps_of(evaluation.reference, metric) * evaluation.dt,
                np.maximum(evaluation.reference.median(metric), tiny),
                color="black",
                lw=3,
                alpha=0.3,
                label="data",
            )
        axis.set_ylabel(metric.removeprefix("drift "))
        axis.grid(alpha=0.25, which="both", lw=0.4)
    axes[0, 0].set_title("relative drift of what the equation conserves (median over samples)", fontsize=10)
    axes[-1, 0].set_xlabel("lead time")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def costs(evaluation: Evaluation) -> Figure | None:
    """Error at the end of the rollout against cost per step, surrogates beside classical solvers."""
    points = [(n, g) for n, g in evaluation.groups().items() if g[0].cost > 0 and g[0].kind != "baseline"]
    if not points:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(11.0, 4.4), sharey=True, layout="constrained")
    style = styles(evaluation)
    leads = (evaluation.horizons[0], evaluation.horizons[-1])
    for axis, lead in zip(axes, leads, strict=True):
        row = evaluation.place(lead)
        for name, group in points:
            cost = 1e3 * float(np.median([s.cost for s in group]))
            error = float(np.median([s.median("nrmse")[row] for s in group]))
            gone = not np.isfinite(error)
            trained = group[0].kind == "surrogate"
            height = 10.0 if gone else max(error, 1e-14)
            axis.scatter(
                cost,
                height,
                s=70 if trained else 34,
                marker="x" if gone else "o" if trained else "s",
                color=style[name]["color"],
                label=name + (" (blew up)" if gone else ""),
                zorder=3,
            )
            if not trained:
                text = {"xytext": (0, 6), "textcoords": "offset points", "fontsize": 6, "rotation": 35}
                axis.annotate(name.removeprefix("solver "), (cost, height), color="#555555", **text)
        axis.set(xscale="log", yscale="log", xlabel="CPU milliseconds per step and trajectory")
        axis.set_title(f"lead time {lead * evaluation.dt:.3g} (step {lead})", fontsize=10)
        axis.grid(alpha=0.25, which="both", lw=0.4)
        axis.margins(0.18)
    axes[0].set_ylabel("median nRMSE")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    return figure


def trajectory_picture(
    evaluation: Evaluation, label: str, domain: Domain, channel: int = 0, name: str = ""
) -> Figure:
    """Truth, predictions and errors of one trajectory: space-time in 1D, frames on grids and meshes beyond."""
    picture = {k: v[:, channel] for k, v in evaluation.pictures[label].items()}
    times = evaluation.picture_times
    assert times is not None  # pictures and their times are stored together
    if isinstance(domain, Point):
        figure = _series(evaluation.pictures[label], times)
    elif isinstance(domain, Grid) and domain.dimension == 1:
        figure = _space_time(picture, times, domain)
    else:
        figure = _frames(picture, times, domain)
    figure.suptitle(
        f"{evaluation.picture_labels.get(label, label)}{': ' + name if name else ''}", fontsize=10
    )
    return figure


def _series(pictures: dict[str, np.ndarray], times: np.ndarray) -> Figure:
    """Unknowns of a system without space over time, and its path in the plane of the first and the last."""
    channels = pictures["truth"].shape[1]
    rows = min(channels, 3)
    figure = plt.figure(figsize=(10.5, 1.5 * rows + 1.0), layout="constrained")
    cells = figure.add_gridspec(rows, 3)
    plane = figure.add_subplot(cells[:, 2])
    names = [n for n in pictures if n != "truth"]
    looks: dict[str, dict[str, Any]] = {"truth": {"color": "black", "lw": 2.4, "alpha": 0.35}}
    looks |= {n: {"color": COLOURS[i % len(COLOURS)], "lw": 1.1} for i, n in enumerate(names)}
    for row in range(rows):
        axis = figure.add_subplot(cells[row, :2])
        for name, look in looks.items():
            axis.plot(times, pictures[name][:, row], label=name, **look)
        truth = pictures["truth"][:, row]
        margin = 0.3 * float(np.ptp(truth)) or 1.0
        axis.set_ylim(truth.min() - margin, truth.max() + margin)
        axis.grid(alpha=0.25, lw=0.4)
        if row == 0:
            axis.legend(fontsize=7, ncols=4)
    axis.set_xlabel("time")
    for name, look in looks.items():
        plane.plot(pictures[name][:, 0], pictures[name][:, -1], **look)
    plane.set(xlim=_span(pictures["truth"][:, 0]), ylim=_span(pictures["truth"][:, -1]))
    return figure


def _span(values: np.ndarray) -> tuple[float, float]:
    margin = 0.3 * float(np.ptp(values)) or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def _limits(truth: np.ndarray) -> tuple[float, float, str]:
    low, high = float(np.nanmin(truth)), float(np.nanmax(truth))
    if low < 0 < high and min(-low, high) > 0.2 * max(-low, high):
        bound = max(-low, high)
        return -bound, bound, "RdBu_r"
    return low, high if high > low else low + 1.0, "viridis"


def _error_limit(picture: dict[str, np.ndarray]) -> float:
    truth = picture["truth"]
    gaps = [np.abs(v - truth) for k, v in picture.items() if k != "truth"]
    finite = np.concatenate([g[np.isfinite(g)].ravel() for g in gaps]) if gaps else np.ones(1)
    spread = float(np.ptp(truth[np.isfinite(truth)])) or 1.0
    limit = float(np.quantile(finite, 0.995)) if finite.size else spread
    return min(max(limit, 1e-12), spread)


def _space_time(picture: dict[str, np.ndarray], times: np.ndarray, domain: Grid) -> Figure:
    names = [n for n in picture if n != "truth"]
    columns = 1 + 2 * len(names)
    figure, axes = plt.subplots(
        1,
        columns,
        figsize=(2.5 * columns + 0.8, 3.8),
        sharex=True,
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    low, high, colours = _limits(picture["truth"])
    limit = _error_limit(picture)
    x0 = float(domain.axes()[0][0])
    extent = (x0, x0 + domain.lengths[0], float(times[0]), float(times[-1]))
    options = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "nearest"}
    image = axes[0][0].imshow(picture["truth"], vmin=low, vmax=high, cmap=colours, **options)
    axes[0][0].set(title="truth", xlabel="x", ylabel="time")
    gap = None
    for position, name in enumerate(names):
        axis = axes[0][1 + 2 * position]
        axis.imshow(picture[name], vmin=low, vmax=high, cmap=colours, **options)
        axis.set(title=name, xlabel="x")
        axis = axes[0][2 + 2 * position]
        gap = axis.imshow(picture[name] - picture["truth"], vmin=-limit, vmax=limit, cmap="PuOr", **options)
        axis.set(title="error", xlabel="x")
    figure.colorbar(image, ax=axes[0][:1], shrink=0.85, location="left", pad=0.02)
    if gap is not None:
        figure.colorbar(gap, ax=axes[0][-1:], shrink=0.85)
    for axis in axes[0]:
        axis.title.set_fontsize(8)
    return figure


def _frames(picture: dict[str, np.ndarray], times: np.ndarray, domain: Domain, count: int = 5) -> Figure:
    names = [n for n in picture if n != "truth"]
    chosen = sorted(set(np.linspace(0, len(times) - 1, count).round().astype(int).tolist()))
    rows = [("truth", picture["truth"], False)]
    for name in names:
        rows += [(name, picture[name], False), (f"error of {name}", picture[name] - picture["truth"], True)]
    draw, aspect = _painter(domain)
    width = 2.6
    figure, axes = plt.subplots(
        len(rows),
        len(chosen),
        figsize=(width * len(chosen) + 1.0, (width * aspect + 0.35) * len(rows) + 0.4),
        layout="constrained",
        squeeze=False,
    )
    low, high, colours = _limits(picture["truth"])
    limit = _error_limit(picture)
    for r, (title, values, is_error) in enumerate(rows):
        bounds = (-limit, limit, "PuOr") if is_error else (low, high, colours)
        image = None
        for c, frame in enumerate(chosen):
            axis = axes[r][c]
            image = draw(axis, values[frame], *bounds)
            axis.set_xticks([])
            axis.set_yticks([])
            if r == 0:
                axis.set_title(f"t = {times[frame]:.3g}", fontsize=8)
        axes[r][0].set_ylabel(title, fontsize=8)
        if image is not None:
            figure.colorbar(image, ax=axes[r].tolist(), shrink=0.9, pad=0.01, aspect=15)
    return figure


def _painter(domain: Domain) -> tuple[Callable[..., Any], float]:
    """How to draw one frame on this domain, and its height over its width."""
    if isinstance(domain, Mesh):
        points, cells = domain.points.numpy(), domain.cells.numpy()
        size = np.ptp(points, axis=0)
        if domain.dimension == 3:
            facets = domain.boundary_facets.numpy()

            def surface(axis: Any, values: np.ndarray, low: float, high: float, colours: str) -> Any:
                return axis.tripcolor(
                    points[:, 0],
                    points[:, 1],
                    facets,
                    values,
                    vmin=low,
                    vmax=high,
                    cmap=colours,
                    shading="gouraud",
                )

            return surface, float(size[1] / size[0])

        def mesh(axis: Any, values: np.ndarray, low: float, high: float, colours: str) -> Any:
            axis.set_aspect("equal")
            shown = np.nan_to_num(values, nan=low)
            return axis.tripcolor(
                points[:, 0],
                points[:, 1],
                cells,
                shown,
                vmin=low,
                vmax=high,
                cmap=colours,
                shading="gouraud",
            )

        return mesh, float(size[1] / size[0])
    if not isinstance(domain, Grid):
        raise TypeError("pictures need a Grid or a Mesh")
    lengths = domain.lengths

    def image(axis: Any, values: np.ndarray, low: float, high: float, colours: str) -> Any:
        # A volume is shown by its middle slice in z.
        shown = values if values.ndim == 2 else values[..., values.shape[-1] // 2]
        return axis.imshow(
            shown.T,
            origin="lower",
            vmin=low,
            vmax=high,
            cmap=colours,
            extent=(0, lengths[0], 0, lengths[1]),
        )

    return image, lengths[1] / lengths[0]


def _lines(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Line styles of what was measured in the laboratory, the reference solver broad and grey."""
    known = styles(evaluation)
    solver = {"color": "black", "lw": 3.2, "alpha": 0.35}
    return {name: known.get(name, solver) for name in evaluation.laboratory}


def growth(evaluation: Evaluation) -> Figure | None:
    """How errors grow along the truth: in one step, over several, per wavenumber, and for ever."""
    found = evaluation.laboratory
    if not found:
        return None
    lines = _lines(evaluation)
    shells = any("shell_gain" in entry for entry in found.values())
    panels = 3 + shells
    figure, axes = plt.subplots(1, panels, figsize=(3.6 * panels + 0.6, 3.5), layout="constrained")
    for name, entry in found.items():
        line = lines[name]
        axes[0].plot(entry["times"], entry["spectral_norm"], marker="o", ms=3, label=name, **line)
        axes[0].plot(entry["times"], entry["frobenius"], **{**line, "ls": ":", "lw": 1.2})
    axes[0].axhline(1.0, color="#aaaaaa", lw=0.8)
    axes[0].set(xlabel="time of the true state", title="growth in one step: worst, mean (dotted)")
    place = 1
    if shells:
        for name, entry in found.items():
            k = np.arange(len(entry["shell_gain"]))
            axes[1].plot(k, entry["shell_gain"], **lines[name])
            axes[1].plot(
                k, np.maximum(entry["shell_growth"], 1e-8), **{**lines[name], "ls": ":", "lw": 1.2}
            )
        steps = int(next(iter(found.values()))["shell_steps"])
        axes[1].axhline(1.0, color="#aaaaaa", lw=0.8)
        axes[1].set(xlabel="wavenumber of the error", yscale="log")
        axes[1].set_title(f"growth by wavenumber: 1 step, {steps} (dotted)")
        top = max(
            float(np.nanmax(e[key])) for e in found.values() for key in ("shell_gain", "shell_growth")
        )
        axes[1].set_ylim(1e-4, max(3.0, 3 * top))
        place = 2
    names = list(found)
    steps = int(next(iter(found.values()))["growth_steps"])
    keys = ("spectral_radius", "spectral_norm", "transient_growth")
    for name in names:
        medians = [float(np.median(found[name][key])) for key in keys]
        axes[place].plot(range(3), medians, marker="o", ms=5, **lines[name])
    axes[place].axhline(1.0, color="#aaaaaa", lw=0.8)
    axes[place].set_xticks(
        range(3), ["spectral\nradius", "worst in\n1 step", f"worst in\n{steps} steps"], fontsize=8
    )
    axes[place].set(title="eigenvalues against norms")
    drawn = [float(np.median(entry[key])) for entry in found.values() for key in keys]
    if max(drawn) > 10 * min(drawn):
        axes[place].set_yscale("log")
    axis = axes[place + 1]
    for row, name in enumerate(names):
        if "exponents" not in found[name]:
            continue
        values = found[name]["exponents"]
        shift = 0.12 * (row - (len(names) - 1) / 2)
        look = {"color": lines[name]["color"], "alpha": lines[name].get("alpha", 1.0)}
        axis.errorbar(
            np.arange(1, len(values) + 1) + shift,
            values,
            yerr=2 * found[name]["exponents_error"],
            fmt="o",
            ms=4,
            **look,
        )
    axis.axhline(0.0, color="#aaaaaa", lw=0.8)
    axis.set(xlabel="number", title="Lyapunov exponents [1/time], own rollout")
    most = max((len(entry["exponents"]) for entry in found.values() if "exponents" in entry), default=1)
    axis.set_xticks(range(1, most + 1, -(-most // 8)))  # they are numbered: no ticks between
    for axis in axes:
        axis.title.set_fontsize(9)
        axis.grid(alpha=0.25, which="both", lw=0.4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    return figure


def sensitivity(evaluation: Evaluation, domain: Domain) -> Figure | None:
    """Where a step enlarges errors, at the last true state of the laboratory, and the disturbance that grows most."""
    found = evaluation.laboratory
    if not found or isinstance(domain, Cloud | Point):
        return None
    lines = _lines(evaluation)
    if isinstance(domain, Grid) and domain.dimension == 1:
        figure, axes = plt.subplots(1, 2, figsize=(10.5, 3.2), layout="constrained")
        x = domain.axes()[0].numpy()
        for name, entry in found.items():
            axes[0].semilogy(x, entry["row_energy"][-1], label=name, **lines[name])
            axes[1].plot(x, entry["worst"][0] * np.sign(entry["worst"][0].sum() or 1.0), **lines[name])
        axes[0].set(xlabel="x", title="sensitivity: sum over x' of (du(x) / du0(x'))^2")
        axes[1].set(xlabel="x", title="the disturbance that grows most in one step")
        for axis in axes:
            axis.title.set_fontsize(9)
            axis.grid(alpha=0.25, which="both", lw=0.4)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
        return figure
    draw, aspect = _painter(domain)
    maps = {name: np.log10(np.maximum(entry["row_energy"][-1], 1e-12)) for name, entry in found.items()}
    finite = np.concatenate([m.ravel() for m in maps.values()])
    low, high = (float(q) for q in np.quantile(finite, [0.01, 0.99]))
    figure, axes = plt.subplots(
        2,
        len(maps),
        figsize=(3.1 * len(maps) + 1.0, 2 * (2.7 * aspect + 0.5)),
        layout="constrained",
        squeeze=False,
    )
    for column, (name, values) in enumerate(maps.items()):
        shown = draw(axes[0][column], values, low, high, "magma")
        worst = found[name]["worst"]
        size = np.sqrt((worst**2).sum(axis=0))
        draw(axes[1][column], size, 0.0, float(size.max()), "magma")
        axes[0][column].set_title(name, fontsize=9)
        for axis in axes[:, column]:
            axis.set_xticks([])
            axis.set_yticks([])
    figure.colorbar(shown, ax=axes[0].tolist(), shrink=0.9, pad=0.01, aspect=15)
    axes[0][0].set_ylabel("sensitivity, log10", fontsize=8)
    axes[1][0].set_ylabel("worst disturbance", fontsize=8)
    return figure


def published(table: dict[str, dict[int, tuple[float, float]]]) -> Figure:
    """Own against published errors, name -> lead step -> (own, published)."""
    figure, axis = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
    for position, (name, entries) in enumerate(table.items()):
        leads = sorted(entries)
        colour = COLOURS[position % len(COLOURS)]
        axis.loglog(leads, [entries[k][0] for k in leads], "o-", color=colour, label=f"{name}, here")
        reference = np.array([entries[k][1] for k in leads])
        axis.loglog(
            leads, reference, "s--", color=colour, alpha=0.6, mfc="none", label=f"{name}, published"
        )
        axis.fill_between(leads, reference / 2, reference * 2, color=colour, alpha=0.1, lw=0)
    axis.set(xlabel="rollout step", ylabel="nRMSE (band: factor two)")
    axis.grid(alpha=0.25, which="both", lw=0.4)
    axis.legend(fontsize=8)
    return figure
