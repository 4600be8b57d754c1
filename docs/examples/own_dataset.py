"""A small dataset from a recipe that ships with the package: generate, open, window, label."""

import tempfile
from pathlib import Path

import sciml.datasets as datasets

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "advection"
    datasets.generate("advection", path, samples={"train": 6, "valid": 2, "test": 2})
    data = datasets.open(path)
    print(data.fields, data.domain)

    windows = data["train"].windows(history=1, horizon=2)
    batch = windows.__getitems__([0, 5, 11])
    assert tuple(batch.shape) == (3, 3, 1, 160)

    trajectory = data["test"][0]
    labelled = trajectory.to_xarray()
    print(labelled)
    # Each step moves the field by four cells exactly.
    first, second = trajectory.data[0, 0, 0], trajectory.data[0, 1, 0]
    assert (first.roll(4) - second).abs().max() < 1e-6
