"""Make arrays such as one may have: ten .npy files, ten tables, one MATLAB file. Then open them."""

from pathlib import Path

import numpy as np
import scipy.io

import sciml.datasets as datasets
from sciml import Field
from sciml.datasets import Hints

rng = np.random.default_rng(0)
for folder in ("waves", "tables"):
    Path(folder).mkdir(exist_ok=True)

t, x = np.arange(21) * 0.05, np.arange(64) / 64
many = []
for i in range(10):
    phase = rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * (x - t[:, None]) + phase)  # (time, x): moves to the right at speed 1
    pair = np.stack([wave, 2 * wave], axis=1)  # (time, channel, x)
    np.save(f"waves/run-{i}.npy", pair.astype(np.float32))
    names = ",".join(["t", *(f"x{j}" for j in range(64))])
    np.savetxt(f"tables/run-{i}.csv", np.column_stack([t, wave]), delimiter=",", header=names, comments="")
    many.append(wave)
scipy.io.savemat("waves.mat", {"u": np.stack(many), "t": t})  # (sample, time, x)

data = datasets.open(
    "waves/*.npy",
    Hints(
        axes="tcx",
        fields=(Field("height", "m"), Field("flow", "m^2/s")),
        lengths=(1.0,),
        boundary="periodic",
        centering="node",
        dt=0.05,
        split=(0.8, 0.1, 0.1),
    ),
)
print(data["train"][0].to_xarray())
