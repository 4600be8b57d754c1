"""Pictures of 3D fields by pyvista, drawn off-screen in a process of their own.

Whether a machine can draw without a display is known only when it tries: graphics libraries that find no screen may end
the process. So another one tries, and whoever asks gets a picture or nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from sciml.datasets.writer import write_bytes
from sciml.domains import Grid

SECONDS = 120.0
"""Time for one picture."""

SIZE = (460, 420)
"""Pixels of each view."""


def draw_volumes(
    states: np.ndarray, grid: Grid, frames: tuple[str, ...], channels: tuple[str, ...], out: Path
) -> bool:
    """Draw slices through the middle and the surface of the mean for each frame and channel of a 3D field.

    Args:
        states: (frames, channels, *points), finite.
        grid: where they lie, in 3D.
        frames, channels: titles.
        out: the picture, PNG.

    Returns whether it could be drawn: False without pyvista (extra `report3d`) or without any way to draw.
    """
    if grid.dimension != 3 or find_spec("pyvista") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "states.npz", Path(folder) / "picture.png"
        np.savez(
            given,
            states=states.astype(np.float32),
            spacing=np.array(grid.spacing),
            origin=np.array(grid.origin),
            frames=np.array(frames),
            channels=np.array(channels),
        )
        words = [sys.executable, "-m", "sciml.datasets.volume", str(given), str(made)]
        settings = {**os.environ, "PYVISTA_OFF_SCREEN": "true"}
        settings.pop("DISPLAY", None)  # a screen that is named and not there is waited for
        try:
            done = subprocess.run(words, capture_output=True, timeout=SECONDS, env=settings, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode != 0 or not made.is_file():
            return False
        write_bytes(out, made.read_bytes())
    return True


def _draw(given: Path, out: Path) -> None:
    """What the other process does."""
    import pyvista

    with np.load(given, allow_pickle=False) as content:
        states, spacing, origin = content["states"], content["spacing"], content["origin"]
        frames, channels = content["frames"], content["channels"]
    rows, columns = len(channels), len(frames)
    plotter = pyvista.Plotter(
        off_screen=True,
        shape=(rows, columns),
        window_size=[SIZE[0] * columns, SIZE[1] * rows],
        border=False,
    )
    for row in range(rows):
        low, high = float(states[:, row].min()), float(states[:, row].max())
        both = low < 0 < high
        limits = [-max(-low, high), max(-low, high)] if both else [low, high]
        for column in range(columns):
            plotter.subplot(row, column)
            values = states[column, row]
            box = pyvista.ImageData(dimensions=values.shape, spacing=spacing, origin=origin)
            box.point_data["value"] = values.ravel(order="F")
            # Without light, which would darken slices that face away from it.
            colours: dict[str, Any] = {
                "cmap": "RdBu_r" if both else "viridis",
                "clim": limits,
                "lighting": False,
            }
            plotter.add_mesh(
                box.slice_orthogonal(),
                scalars="value",
                show_scalar_bar=column == columns - 1,
                scalar_bar_args={
                    "title": str(channels[row]),
                    "vertical": True,
                    "label_font_size": 11,
                    "title_font_size": 12,
                },
                **colours,
            )
            middle = 0.5 * (limits[0] + limits[1])
            level = middle if not both else 0.5 * limits[1]
            surface = box.contour([level], scalars="value") if low < level < high else None
            if surface is not None and surface.n_points:
                plotter.add_mesh(surface, scalars="value", opacity=0.35, show_scalar_bar=False, **colours)
            plotter.add_mesh(box.outline(), color="black")
            plotter.add_text(f"{channels[row]}, {frames[column]}", font_size=8)
            plotter.camera_position = "iso"
    plotter.screenshot(str(out))
    plotter.close()


if __name__ == "__main__":
    _draw(Path(sys.argv[1]), Path(sys.argv[2]))
