"""Ways to read a dataset: windows, lead times, coarser grids, mixtures, scaling, an order that can go on, tables."""

import tempfile
from pathlib import Path

import torch
from torch.utils.data import DataLoader

import sciml.datasets as datasets

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "advection"
    datasets.generate("advection", path, samples={"train": 6, "valid": 2, "test": 2}, certificate=False)
    data = datasets.open(path)
    train = data["train"]

    # Two frames given, three to predict, in units of the training split.
    windows = train.windows(history=2, horizon=3, scaling=datasets.Scaling.z_score(data.stats))
    # Every window once a pass; the second of two processes, from its third batch on.
    order = datasets.Order(len(windows), batch_size=8, seed=0, rank=1, world=2, first=2)
    loader = DataLoader(windows, batch_sampler=order, collate_fn=windows.collate)
    batch = next(iter(loader))
    assert batch.shape == (8, 5, 1, 160)

    # All pairs of states up to ten frames apart, with the time between them.
    given, wanted, lead = train.lead_pairs(most=10).__getitems__([0, 100, 1000])
    assert given.shape == wanted.shape == (3, 1, 160) and lead.shape == (3,)

    # Two resolutions of one problem, the fine one three times as often.
    coarse = train.thinned(points=2, frames=5)
    mixture = datasets.Mixture([train.windows(), coarse.windows()])
    order = datasets.Order(mixture.counts, batch_size=4, seed=0, weights=(3, 1), last=20)
    sizes = [
        batch.shape[-1] for batch in DataLoader(mixture, batch_sampler=order, collate_fn=mixture.collate)
    ]
    assert set(sizes) == {160, 80}

    # Increments in units of their own statistics, which some networks predict.
    delta = datasets.Scaling.delta(data.stats)
    frames = train.windows().__getitems__([0, 1, 2])
    target = delta(frames[:, 1] - frames[:, 0])
    assert torch.allclose(delta.inverse(target), frames[:, 1] - frames[:, 0], atol=1e-5)

    print(train.to_pandas())
    print(train.to_xarray(slice(0, 2)))
