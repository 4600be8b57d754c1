"""The picture of an audit: histograms, spectra, the gap to the equation, and the error bar of the certificate."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciml.datasets.findings import Report
from sciml.datasets.writer import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 5
"""Channels that are drawn."""


def draw_audit(report: Report, certificate: Mapping[str, Any] | None, out: Path) -> Path:
    """Draw what a check measured; returns the picture's path."""
    from matplotlib.figure import Figure

    first = "train" if "train" in report.audit else next(iter(report.audit))
    channels = list(report.audit[first]["values"])[:SHOWN]
    columns = max(2, len(channels))
    figure = Figure(layout="constrained")
    figure.set_size_inches(3.1 * columns + 0.6, 8.2)
    axes = figure.subplots(3, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_visible(False)
    for column, channel in enumerate(channels):
        _histogram(axes[0, column], report.audit, channel)
        if "spectra" in report.audit[first]:
            _spectra(axes[1, column], report.audit[first]["spectra"], channel, first)
    _gaps(axes[2, 0], report.audit)
    if certificate:
        _errors(axes[2, 1], certificate)
    errors = sum(f.level == "error" for f in report.findings)
    warnings = sum(f.level == "warning" for f in report.findings)
    title = f"{Path(report.path).name}: {errors} errors, {warnings} warnings"
    figure.suptitle(title)
    with whole_file(out) as part:
        figure.savefig(part, format=out.suffix.lstrip(".") or "png", dpi=110)
    return out


def _histogram(ax: Axes, audit: Mapping[str, Any], channel: str) -> None:
    """Density of the values of one channel in each split."""
    for name, entry in audit.items():
        found = entry["values"].get(channel)
        if not found or not found["counts"]:
            continue
        counts, edges = np.array(found["counts"], dtype=float), np.array(found["edges"])
        ax.stairs(counts / counts.sum() / np.diff(edges), edges, label=name)
    ax.set_visible(True)
    ax.set_yscale("log")
    ax.set_title(channel)
    ax.set_xlabel("value")
    ax.set_ylabel("density")
    ax.legend(fontsize="small")


def _spectra(ax: Axes, spectra: Mapping[str, Any], channel: str, split: str) -> None:
    """Energy by wavenumber of one channel at the first, middle and last frame."""
    if channel not in spectra["power"]:
        return
    for frame, power in zip(spectra["frames"], spectra["power"][channel], strict=True):
        k = 1 + np.arange(len(power))
        values = np.array(power)
        ax.plot(k[values > 0], values[values > 0], label=f"frame {frame}")
    ax.set_visible(True)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("wavenumber")
    ax.set_ylabel(f"spectrum, {split}")
    ax.legend(fontsize="small")


def _gaps(ax: Axes, audit: Mapping[str, Any]) -> None:
    """Gap to the equation against what its own errors explain; points above the line are unexplained."""
    reach: list[float] = []
    for name, entry in audit.items():
        gaps = [g for g in entry.get("gaps", []) if g["change"] > 0]
        if not gaps:
            continue
        floor = 1e-9
        allowed = [max(g["allowed"] / g["change"], floor) for g in gaps]
        found = [max(g["gap"] / g["change"], floor) for g in gaps]
        ax.plot(allowed, found, ".", label=name)
        reach += [*allowed, *found]
    if not reach:
        return
    low, high = min(reach) / 2, max(reach) * 2
    ax.plot([low, high], [low, high], "k-", linewidth=0.8)
    ax.set_visible(True)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("explained by the solver's own errors")
    ax.set_ylabel("gap to the equation / change")
    ax.legend(fontsize="small")


def _errors(ax: Axes, certificate: Mapping[str, Any]) -> None:
    """Relative error of each field over time."""
    times = np.array(certificate["times"], dtype=float)
    for name, error in certificate["error"].items():
        values = np.array([np.nan if v is None else v for v in error["max"]], dtype=float)
        ax.plot(
            times, np.where(values > 0, values, np.nan), label=name, marker="." if len(times) == 1 else ""
        )
    ax.set_visible(True)
    ax.set_yscale("log")
    ax.set_xlabel("time")
    ax.set_ylabel("error against a finer solution")
    ax.legend(fontsize="small")
