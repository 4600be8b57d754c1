"""The report of a map study: table, errors against the limits, pictures of three samples per split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402  the backend is chosen first
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from sciml.experiments.evaluate_map import MapEvaluation, load, summary  # noqa: E402
from sciml.experiments.report.figures import COLOURS  # noqa: E402
from sciml.experiments.report.html import Page, png, write, yaml_block  # noqa: E402
from sciml.experiments.wording import duration, number  # noqa: E402


def errors_figure(evaluation: MapEvaluation, limits: Mapping[str, float]) -> Figure:
    """Distribution of the relative L2 error over test samples, one panel per split."""
    splits = list(evaluation.scores[0].errors)
    figure, axes = plt.subplots(
        1, len(splits), figsize=(4.8 * len(splits), 3.6), layout="constrained", squeeze=False
    )
    for axis, split in zip(axes[0], splits, strict=True):
        for position, (name, group) in enumerate(evaluation.groups().items()):
            for index, s in enumerate(group):
                values = np.sort(s.errors[split])
                share = np.arange(1, len(values) + 1) / len(values)
                axis.step(
                    values, share, where="post", color=COLOURS[position % len(COLOURS)], alpha=0.8,
                    ls="-" if s.kind == "surrogate" else ":", label=name if index == 0 else None,
                )  # fmt: skip
        if split in limits:
            axis.axvline(limits[split], color="#888888", lw=0.9)
            axis.annotate(
                f"mean to reach {limits[split]}", (limits[split], 0.02), rotation=90, fontsize=7,
                color="#666666", xytext=(2, 0), textcoords="offset points",
            )  # fmt: skip
        axis.set(title=split, xlabel="relative L2 error", ylabel="fraction of samples", xlim=(0, None))
        axis.grid(alpha=0.25, lw=0.4)
        axis.legend(fontsize=8)
    return figure


def samples_figure(evaluation: MapEvaluation, split: str) -> Figure:
    """Input, truth, prediction and error of the best, median and worst sample of one split."""
    labels = [key for key in evaluation.pictures if key.split("/")[0] == split]
    names = [n for n in evaluation.pictures[labels[0]] if n not in ("input", "truth")]
    columns = ["input", "truth", *[c for n in names for c in (n, f"error of {n}")]]
    figure, axes = plt.subplots(
        len(labels),
        len(columns),
        figsize=(2.5 * len(columns), 2.3 * len(labels)),
        layout="constrained",
        squeeze=False,
    )
    for row, key in zip(axes, labels, strict=True):
        picture = evaluation.pictures[key]
        low, high = float(picture["truth"].min()), float(picture["truth"].max())
        gaps = {n: picture[n] - picture["truth"] for n in names}
        limit = max(float(np.abs(g).max()) for g in gaps.values()) or 1.0
        for axis, column in zip(row, columns, strict=True):
            if column.startswith("error of "):
                values, options = (
                    gaps[column.removeprefix("error of ")],
                    {"vmin": -limit, "vmax": limit, "cmap": "PuOr"},
                )
            elif column == "input":
                values, options = picture["input"], {"cmap": "gray"}
            else:
                values, options = picture[column], {"vmin": low, "vmax": high, "cmap": "viridis"}
            shown = np.atleast_2d(values if values.ndim <= 2 else values[..., values.shape[-1] // 2])
            image = axis.imshow(shown.T, origin="lower", **options)
            figure.colorbar(image, ax=axis, shrink=0.8)
            axis.set_xticks([])
            axis.set_yticks([])
            if key == labels[0]:
                axis.set_title(column, fontsize=8)
        row[0].set_ylabel(key.split("/")[1], fontsize=9)
    return figure


def write_map_report(
    folder: Path,
    *,
    title: str,
    lead: str = "",
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
) -> Path:
    """Write `report.html` and `figures/*.png` into a run folder from its stored map evaluation.

    Raises:
        UserError: the folder has no map evaluation.
    """
    evaluation, limits = load(folder)
    numbers = summary(evaluation, limits)
    page = Page(title, lead)
    page.heading("Verdict")
    for row in numbers["table"]:
        if row["kind"] != "surrogate":
            continue
        for split, limit in limits.items():
            worst = row[f"relative_l2 {split}_range"][1]
            page.verdict(
                f"{row['name']} on {split}: mean relative L2 {number(row[f'relative_l2 {split}'])} "
                f"(worst of {len(row['seeds'])} seeds {number(worst)}); the study asks for at most {number(limit)}.",
                worst <= limit,
            )
    if dataset:
        page.heading("What was run")
        page.table(["", ""], [[str(k), str(v)] for k, v in dataset.items()])
    page.heading("Table")
    splits = list(evaluation.scores[0].errors)
    rows = []
    for row in numbers["table"]:
        cells = [row["name"]]
        for split in splits:
            low, high = row[f"relative_l2 {split}_range"]
            spread = f" ({number(low)}–{number(high)})" if len(row["seeds"]) > 1 else ""
            cells.append(number(row[f"relative_l2 {split}"]) + spread)
        cells += [duration(row.get(f"cost_seconds {split}")) for split in splits]
        cells += [f"{row['parameters']:,}" if row["parameters"] else "—", str(len(row["seeds"]))]
        rows.append(cells)
    head = [
        "",
        *[f"relative L2, {s}" for s in splits],
        *[f"CPU / sample, {s}" for s in splits],
        "parameters",
        "seeds",
    ]
    page.table(head, rows, [row["kind"] for row in numbers["table"]])
    page.text(
        "Mean over test samples of the norm of the error over the norm of the truth; the median over seeds and, in "
        "brackets, their range."
    )
    page.heading("Pictures")
    store = folder / "figures"
    store.mkdir(exist_ok=True)
    drawn = [
        ("errors.png", errors_figure(evaluation, limits), "Distribution of the error over test samples.")
    ]
    for split in dict.fromkeys(key.split("/")[0] for key in evaluation.pictures):
        drawn.append(
            (
                f"samples-{split}.png",
                samples_figure(evaluation, split),
                f"Best, median and worst sample of {split}: input, truth, prediction and error.",
            )
        )
    for name, figure, caption in drawn:
        data = png(figure)
        (store / name).write_bytes(data)
        page.picture(data, caption)
    page.heading("Settings and provenance")
    if settings is not None:
        page.folded("resolved configuration", yaml_block(settings))
    if provenance is not None:
        page.folded("provenance", yaml_block(provenance))
    return write(page, folder / "report.html")
