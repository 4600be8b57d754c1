"""Damaged and hostile files: each a clear refusal, a complaint, or what is truly in it; never a crash or a hang."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Field, Grid, Mesh, Trajectory
from sciml.domains import Cloud
from sciml.errors import UserError

HERE = Path(__file__).parent
_OWN = {"boundary": "periodic", "lengths": [1.0], "dt": 0.1, "centering": "node", "fields": ["u"]}
HINTS: dict[str, dict[str, Any]] = {
    "grouped": {"boundary": "neumann"},
    "own_arrays": _OWN | {"axes": "ntcx"},
    "own_text": _OWN | {"axes": "tx"},
}


def _write(path: Path, attributes: dict[str, Any] | None = None, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("__", "/")] = values
        file.attrs.update(attributes or {})


def _line(n: int) -> np.ndarray:
    return (np.arange(n) + 0.5) / n


def build(base: Path) -> None:
    """A small dataset of each layout, a folder each."""
    numbers = np.random.default_rng(0)
    heat = datasets.load_recipe("heat")
    heat = replace(
        heat, samples={"train": 4, "valid": 2}, steps=3, shard_size=2, domain=Grid((16,), (1.0,))
    )
    datasets.generate(heat, base / "native", certificate=False)
    for layout in ("the_well", "pdebench", "apebench", "zarr"):
        datasets.convert(base / "native", base / layout, layout)  # type: ignore[arg-type]
    square = replace(heat, samples={"train": 2, "valid": 1, "test": 1}, domain=Grid((16, 12), (1.0, 1.0)))
    datasets.generate(square, base / "square", certificate=False)
    datasets.convert(base / "square", base / "poseidon", "poseidon")
    _write(
        base / "chunked" / "a.hdf5",
        {"beta": 0.4},
        **{"x-coordinate": _line(64), "t-coordinate": np.arange(5.0)},
    )
    with h5py.File(base / "chunked" / "a.hdf5", "r+") as file:
        data = numbers.random((3, 4, 64), dtype=np.float32)
        file.create_dataset("tensor", data=data, chunks=(1, 1, 64), compression="gzip", shuffle=True)
    groups: dict[str, np.ndarray] = {}
    for i in range(3):
        groups[f"{i:04d}__data"] = numbers.random((3, 4, 5, 2), dtype=np.float32)
        groups |= {
            f"{i:04d}__grid__x": _line(5),
            f"{i:04d}__grid__y": _line(4),
            f"{i:04d}__grid__t": np.arange(3.0),
        }
    _write(base / "grouped" / "a.h5", **groups)
    smoke = {f"train__{name}": numbers.random((2, 3, 6, 5)) for name in ("u", "vx", "vy")}
    sides = {
        "train__x": np.tile(np.linspace(0, 3, 6), (2, 1)),
        "train__y": np.tile(np.linspace(0, 2, 5), (2, 1)),
    }
    steps = {
        f"train__{name}": np.full(2, value)
        for name, value in (("dt", 6.0), ("dx", 0.5), ("dy", 0.4), ("buo_y", 0.5))
    }
    _write(
        base / "pdearena" / "NavierStokes2D_train_1.h5",
        **smoke,
        **sides,
        **steps,
        train__t=np.tile([18.0, 60.0, 102.0], (2, 1)),
    )
    generator = torch.Generator().manual_seed(0)
    mesh = Mesh(
        torch.rand(5, 2, dtype=torch.float64, generator=generator),
        torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4]]),
    )
    times = torch.arange(4, dtype=torch.float64)
    fields = (Field("pressure"), Field("velocity", rank=1))
    flow = Trajectory(torch.rand(2, 4, 3, 5, generator=generator), mesh, times, fields)
    datasets.write_shard(base / "mesh/data/train/a.hdf5", flow, name="mesh")
    datasets.convert(base / "mesh", base / "meshgraphnets", "meshgraphnets")
    box = Cloud(((0.0, 1.0), (0.0, 1.0)), (True, True))
    drops = Trajectory(
        torch.rand(2, 4, 2, 6, generator=generator), box, times, (Field("position", rank=1),)
    )
    datasets.write_shard(base / "cloud/data/train/a.hdf5", drops, name="cloud")
    datasets.convert(base / "cloud", base / "lagrangebench", "lagrangebench")
    (base / "torch").mkdir()
    pair = {
        "x": torch.rand(4, 8, 8, generator=generator) > 0.5,
        "y": torch.rand(4, 8, 8, generator=generator),
    }
    torch.save(pair, base / "torch" / "darcy_train_8.pt")
    for name in ("own_arrays", "own_text"):
        (base / name).mkdir()
    np.save(base / "own_arrays" / "a.npy", numbers.random((2, 3, 1, 8), dtype=np.float32))
    np.savetxt(base / "own_text" / "a.csv", numbers.random((3, 8)), delimiter=",")


def mutants(base: Path, work: Path, seed: int, count: int, timeout: float) -> list[dict[str, Any]]:
    """What became of `count` damaged copies of each case, looked at in another process."""
    log = work / "log.jsonl"
    with log.open("w") as out:
        done = subprocess.run(
            [sys.executable, str(HERE / "damage.py"), str(base), str(seed), str(count), json.dumps(HINTS)],
            stdout=out,
            stderr=subprocess.PIPE,
            timeout=timeout,
            text=True,
        )
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert done.returncode == 0, f"lost at {lines[-1:]}: {done.stderr[-2000:]}"
    return [line for line in lines if line["outcome"] != "begun"]


def judge(found: list[dict[str, Any]]) -> None:
    raised = [line for line in found if line["outcome"] == "raised"]
    assert not raised, f"{len(raised)} raised, the first: {raised[0]}"
    wrong = [line for line in found if line["outcome"] == "wrong"]
    assert not wrong, f"{len(wrong)} gave wrong values without a complaint, the first: {wrong[0]}"
    # The files have kilobytes; what reading takes beyond that is the reader's own.
    assert max(line["growth"] for line in found) < 200e6
    # A library that hangs is given up after the patience of the guard, once for each way in.
    assert max(line["seconds"] for line in found) < 60
    assert {line["outcome"] for line in found} >= {"refused", "read", "complained"}


def test_damage_is_refused_or_told(tmp_path: Path) -> None:
    build(tmp_path / "cases")
    judge(mutants(tmp_path / "cases", tmp_path, seed=1, count=4, timeout=250))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_damaged_files_are_refused_or_told(tmp_path: Path) -> None:
    build(tmp_path / "cases")
    found = mutants(tmp_path / "cases", tmp_path, seed=0, count=80, timeout=3500)
    assert len(found) >= 1000
    judge(found)


def _well(path: Path) -> None:
    grid, times = Grid((8, 4), (1.0, 2.0)), torch.arange(3, dtype=torch.float64)
    data = torch.rand(2, 3, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    fields = (Field("density"), Field("velocity", rank=1))
    datasets.write_shard(path / "data/train/a.hdf5", Trajectory(data, grid, times, fields), name="hostile")


def _replace(file: h5py.File, name: str, value: Any, **how: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    made = (
        file.create_dataset(name, data=value, **how)
        if value is not None
        else file.create_dataset(name, **how)
    )
    for key, kept in attributes.items():
        made.attrs[key] = kept


def _deep(file: h5py.File) -> None:
    group = file
    for _ in range(200):
        group = group.create_group("g")


def _many_links(file: h5py.File) -> None:
    for i in range(50):
        file[f"t0_fields/loop{i}"] = h5py.SoftLink("/t0_fields")


def _elsewhere(file: h5py.File) -> None:
    """The values of a field in some other file of the machine."""
    del file["t0_fields/density"]
    layout = [("/etc/hostname", 0, 2 * 3 * 8 * 4 * 4)]
    file.create_dataset("t0_fields/density", shape=(2, 3, 8, 4), dtype="f4", external=layout)


def _virtual(file: h5py.File) -> None:
    del file["t0_fields/density"]
    layout = h5py.VirtualLayout(shape=(2, 3, 8, 4), dtype="f4")
    layout[:] = h5py.VirtualSource("other.hdf5", "x", shape=(2, 3, 8, 4))
    file.create_virtual_dataset("t0_fields/density", layout)


def _huge(file: h5py.File) -> None:
    """A field of 4 EB in chunks that were never written, said to be so by the attributes too."""
    _replace(
        file,
        "t0_fields/density",
        None,
        shape=(2, 3, 1 << 30, 1 << 30),
        dtype="f4",
        chunks=(1, 1, 1 << 10, 1 << 10),
    )


def _own(file: h5py.File, **changes: Any) -> None:
    """What our own writer says of the domain, changed."""
    known = json.loads(file["provenance"].attrs["domain"])
    file["provenance"].attrs["domain"] = json.dumps(known | changes)


def _foreign(file: h5py.File) -> None:
    del file["provenance"]


HOSTILE: dict[str, Callable[[h5py.File], object]] = {
    "external link": lambda f: f.__setitem__("t0_fields/secret", h5py.ExternalLink("/etc/passwd", "/")),
    "values in another file": _elsewhere,
    "virtual dataset": _virtual,
    "groups 200 deep": _deep,
    "huge chunked field": _huge,
    "object dtype": lambda f: _replace(f, "t0_fields/density", np.full((2, 3, 8, 4), "x", dtype=object), dtype=h5py.string_dtype()),
    "compound dtype": lambda f: _replace(f, "t0_fields/density", np.zeros((2, 3, 8, 4), dtype=[("a", "f4"), ("b", "f4")])),
    "complex dtype": lambda f: _replace(f, "t0_fields/density", np.zeros((2, 3, 8, 4), dtype="c8")),
    "references": lambda f: _replace(f, "t0_fields/density", np.full((2, 3, 8, 4), f.ref, dtype=h5py.ref_dtype)),
    "null dataspace": lambda f: _replace(f, "t0_fields/density", h5py.Empty("f4")),
    "scalar field": lambda f: _replace(f, "t0_fields/density", np.float32(1.0)),
    "other rank": lambda f: _replace(f, "t0_fields/density", np.zeros((2, 3, 8), "f4")),
    "transposed": lambda f: _replace(f, "t0_fields/density", np.zeros((2, 3, 4, 8), "f4")),
    "empty field": lambda f: _replace(f, "t0_fields/density", np.zeros((0, 3, 8, 4), "f4")),
    "group for a field": lambda f: (f.__delitem__("t0_fields/density"), f.create_group("t0_fields/density")),
    "missing field": lambda f: f.__delitem__("t0_fields/density"),
    "field is a loop": lambda f: (f.__delitem__("t0_fields/density"), f.__setitem__("t0_fields/density", h5py.SoftLink("/t0_fields/density"))),
    "minus one sample": lambda f: f.attrs.__setitem__("n_trajectories", -1),
    "10^18 samples": lambda f: f.attrs.__setitem__("n_trajectories", 10**18),
    "samples in words": lambda f: f.attrs.__setitem__("n_trajectories", "many"),
    "axes that are numbers": lambda f: f["dimensions"].attrs.__setitem__("spatial_dims", 7),
    "a thousand axes": lambda f: f["dimensions"].attrs.__setitem__("spatial_dims", ["x"] * 1000),
    "no time": lambda f: (_foreign(f), f["dimensions"].__delitem__("time")),
    "infinite times": lambda f: (_foreign(f), f["dimensions/time"].__setitem__(slice(None), np.inf)),
    "time of 2^40 entries": lambda f: (_foreign(f), _replace(f, "dimensions/time", None, shape=(1 << 40,), dtype="f4", chunks=(1 << 10,))),
    "axis of 2^40 entries": lambda f: (_foreign(f), _replace(f, "dimensions/x", None, shape=(1 << 40,), dtype="f4", chunks=(1 << 10,))),
    "decreasing axis": lambda f: (_foreign(f), f["dimensions/x"].__setitem__(slice(None), np.arange(8)[::-1])),
    "unknown boundary": lambda f: (_foreign(f), f["boundary_conditions/x_periodic"].attrs.__setitem__("bc_type", "magic")),
    "boundary without mask": lambda f: (_foreign(f), f["boundary_conditions/x_periodic"].__delitem__("mask")),
    "boundary of an unknown axis": lambda f: (_foreign(f), f["boundary_conditions/x_periodic"].attrs.__setitem__("associated_dims", ["q"])),
    "dim_varying in words": lambda f: (_foreign(f), f["t0_fields/density"].attrs.__setitem__("dim_varying", "yes")),
    "domain is no JSON": lambda f: f["provenance"].attrs.__setitem__("domain", "{" * 100000),
    "domain of 2^62 points": lambda f: _own(f, shape=[1 << 31, 1 << 31]),
    "domain of minus points": lambda f: _own(f, shape=[-8, 4]),
    "domain without sides": lambda f: _own(f, sides=None),
    "domain of another kind": lambda f: _own(f, kind="sphere"),
    "lengths not a number": lambda f: _own(f, lengths=["a", float("nan")]),
    "later version": lambda f: f["provenance"].attrs.__setitem__("format_version", 99),
    "fields are no list": lambda f: f["provenance"].attrs.__setitem__("fields", "7"),
    "rank 2000": lambda f: f["provenance"].attrs.__setitem__("fields", json.dumps([{"name": "density", "unit": "1", "rank": 2000}])),
}  # fmt: skip
# ruff: noqa: E501


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused(tmp_path: Path, case: str) -> None:
    _well(tmp_path)
    with h5py.File(tmp_path / "data/train/a.hdf5", "r+") as file:
        HOSTILE[case](file)
    with pytest.raises(UserError):
        dataset = datasets.open(tmp_path)
        for split in dataset.splits.values():
            split.windows().__getitems__([0])
            split[0]


def test_links_inside_a_file_do_no_harm(tmp_path: Path) -> None:
    _well(tmp_path)
    with h5py.File(tmp_path / "data/train/a.hdf5", "r+") as file:
        _many_links(file)
    assert datasets.open(tmp_path)["train"][0].data.shape == (1, 3, 3, 8, 4)
