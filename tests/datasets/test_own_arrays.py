"""Users' own arrays: what hints make of them, what is asked for, and what is refused."""

from __future__ import annotations

import contextlib
import glob
import io
import runpy
import shlex
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

import sciml.datasets as datasets
from sciml import Field, Grid
from sciml.datasets import Dataset, Hints, Pairs
from sciml.domains import Point
from sciml.errors import UserError
from sciml.experiments.cli import main
from sciml.experiments.commands.hints import parse_fields

RNG = np.random.default_rng(0)
ROOT = Path(__file__).parents[2]
BOX: dict[str, Any] = {"lengths": (2.0, 3.0), "boundary": "periodic", "centering": "node", "dt": 0.1}


def values(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def states(found: Dataset, split: str = "train") -> np.ndarray:
    return found[split].trajectories().data.numpy()


def test_the_page_on_own_data_works_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "docs/examples/own_data.py"))
    page = (ROOT / "docs/own_data.md").read_text()
    commands = [line.strip() for line in page.splitlines() if line.startswith("    sciml ")]
    assert len(commands) >= 4
    for command in commands:
        words = [w for word in shlex.split(command)[1:] for w in (sorted(glob.glob(word)) or [word])]
        assert main(words) == 0, (command, capsys.readouterr())
    for name, files in (("waves", "waves/*.npy"), ("tables", "tables/*.csv"), ("waves-mat", None)):
        found = datasets.open(tmp_path / "data" / name)
        assert {n: len(s) for n, s in found.splits.items()} == {"train": 8, "valid": 1, "test": 1}
        assert datasets.check(tmp_path / "data" / name).ok and found.dt == pytest.approx(0.05)
        data = np.concatenate([states(found, n)[:, :, 0] for n in found.splits])
        assert data.shape == (10, 21, 64)
        if files == "waves/*.npy":
            mine = np.stack([np.load(f)[:, 0] for f in sorted(glob.glob(files))])
        elif files is not None:
            read = [np.loadtxt(f, delimiter=",", skiprows=1)[:, 1:] for f in sorted(glob.glob(files))]
            mine = np.stack(read).astype(np.float32)
        else:
            mine = scipy.io.loadmat("waves.mat")["u"].astype(np.float32)
        assert np.array_equal(np.sort(data, axis=0), np.sort(mine, axis=0))
    assert [(f.name, f.unit) for f in datasets.open("data/waves").fields] == [
        ("height", "m"),
        ("flow", "m^2/s"),
    ]


@pytest.mark.parametrize("axes", ["tcxy", "yxct", "xtyc", "ctyx"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_order_of_axes(tmp_path: Path, axes: str, order: str) -> None:
    data = values(3, 4, 3, 6, 5)  # n t c x y
    for i, sample in enumerate(data):
        turned = sample.transpose(["tcxy".index(a) for a in axes])
        np.save(tmp_path / f"u{i}.npy", np.asarray(turned, order=order))  # type: ignore[call-overload]
    fields = (Field("velocity", "m/s", 1), Field("p"))
    found = datasets.open(tmp_path, Hints(axes=axes, fields=fields, **BOX))
    assert np.array_equal(states(found), data) and found.domain == Grid((6, 5), (2.0, 3.0))
    assert found.channels == ("velocity_x", "velocity_y", "p") and found.dt == pytest.approx(0.1)


def test_samples_in_one_array_and_other_types(tmp_path: Path) -> None:
    data = (values(4, 3, 6, 5) * 50).astype(">i2")
    np.save(tmp_path / "all.npy", data)
    hints = Hints(axes="ntxy", fields=(Field("q"),), split=(2, 1, 1), **BOX)
    found = datasets.open(tmp_path / "all.npy", hints)
    drawn = np.concatenate([states(found, n) for n in ("train", "valid", "test")])[:, :, 0]
    assert np.array_equal(np.sort(drawn, axis=0), np.sort(data.astype("f4"), axis=0))
    assert {n: len(s) for n, s in found.splits.items()} == {"train": 2, "valid": 1, "test": 1}


def test_files_come_in_natural_order_and_may_differ_in_length(tmp_path: Path) -> None:
    arrays = [values(3 + i % 2, 6, 5) for i in range(12)]
    for i, array in enumerate(arrays):
        np.save(tmp_path / f"u{i}.npy", array)
    hints = Hints(axes="txy", fields=(Field("q"),), **BOX)
    listed = [tmp_path / f"u{i}.npy" for i in reversed(range(12))]
    for source in (tmp_path, str(tmp_path / "*.npy"), listed):
        split = datasets.open(source, hints)["train"]
        assert all(np.array_equal(split[i].data[0, :, 0].numpy(), arrays[i]) for i in range(12))
    assert len(split.times_of(1)) == 4 and len(split.times_of(2)) == 3
    (tmp_path / "valid").mkdir()
    (tmp_path / "train").mkdir()
    for i in range(12):
        (tmp_path / f"u{i}.npy").rename(tmp_path / ("valid" if i > 9 else "train") / f"u{i}.npy")
    assert {n: len(s) for n, s in datasets.open(tmp_path, hints).splits.items()} == {
        "train": 10,
        "valid": 2,
    }


@pytest.mark.parametrize("pack", [np.savez, np.savez_compressed])
def test_arrays_by_name(tmp_path: Path, pack: Any) -> None:
    v, p = values(4, 6, 5, 2), values(4, 6, 5)
    x, y, t = np.arange(6) * 0.5 + 1, np.arange(5) * 0.2, np.arange(4) * 0.3 + 7
    pack(
        tmp_path / "one.npz",
        velocity=v,
        p=np.asfortranarray(p),
        x=x,
        y=y,
        time=t,
        label=np.array("no"[0:0] or 3),
    )
    hints = Hints(
        axes="txyc",
        fields=(Field("p", "Pa"), Field("velocity", "m/s", 1)),
        boundary=("periodic", "wall"),
        centering="node",
    )
    found = datasets.open(tmp_path / "one.npz", hints)
    assert np.array_equal(states(found)[0, :, 0], p) and np.array_equal(states(found)[0, :, 2], v[..., 1])
    grid = found.domain
    assert isinstance(grid, Grid) and grid.lengths == pytest.approx((3.0, 0.8))
    assert grid.origin == pytest.approx((1.0, 0.0)) and found.times.tolist() == pytest.approx(t.tolist())


def test_matlab_files_of_both_kinds(tmp_path: Path) -> None:
    u = values(3, 4, 6, 5)
    scipy.io.savemat(
        tmp_path / "old.mat", {"u": u, "t": np.arange(4) * 0.2, "about": "words"}, do_compression=True
    )
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["u"], file["t"] = u.transpose(3, 2, 1, 0), (np.arange(4) * 0.2)[:, None]  # reversed axes
        file["about"] = np.frombuffer("words".encode("utf-16-le"), "u2")[:, None]
    with (tmp_path / "new.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    hints = Hints(axes="ntxy", fields=(Field("u"),), lengths=(1.0, 2.0), boundary="wall", centering="cell")
    for name in ("old.mat", "new.mat"):
        found = datasets.open(tmp_path / name, hints)
        assert np.array_equal(states(found)[:, :, 0], u) and found.dt == pytest.approx(0.2)


def test_files_of_the_fourier_operators_paper_open_without_hints(tmp_path: Path) -> None:
    a, u = values(4, 16), values(4, 16)
    scipy.io.savemat(tmp_path / "burgers.mat", {"a": a, "u": u, "a_smooth": a})
    burgers = datasets.open(tmp_path / "burgers.mat")["train"]
    assert isinstance(burgers, Pairs) and burgers.domain == Grid((16,), (1.0,))
    assert np.array_equal(burgers.inputs[:, 0].numpy(), a) and np.array_equal(
        burgers.targets[:, 0].numpy(), u
    )
    scipy.io.savemat(
        tmp_path / "darcy.mat", {"coeff": values(2, 7, 7), "sol": (s := values(2, 7, 7)), "Kcoeff": s}
    )
    darcy = datasets.open(tmp_path / "darcy.mat")
    assert np.array_equal(darcy["train"].targets[:, 0].numpy(), s)
    assert isinstance(darcy.domain, Grid) and darcy.domain.sides[0] == ("dirichlet", "dirichlet")
    w = values(2, 6, 6, 5)
    with h5py.File(tmp_path / "ns.mat", "w", userblock_size=512) as file:
        file["u"], file["a"] = w.transpose(3, 2, 1, 0), values(6, 6, 2)
        file["t"] = np.arange(1.0, 6)[:, None]
    with (tmp_path / "ns.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    flow = datasets.open(tmp_path / "ns.mat")
    assert np.array_equal(states(flow)[:, :, 0], w.transpose(0, 3, 1, 2)) and flow.times.tolist() == [
        1,
        2,
        3,
        4,
        5,
    ]


def test_tables(tmp_path: Path) -> None:
    rows = values(7, 3)
    t = np.arange(7) * 0.25 + 1
    path = tmp_path / "orbit.csv"
    np.savetxt(
        path, np.column_stack([t, rows]), delimiter=";", header="# a remark\ntime;a;b;c", comments=""
    )
    found = datasets.open(path, Hints(axes="tc"))
    assert isinstance(found.domain, Point) and found.channels == ("a", "b", "c")
    assert np.allclose(states(found)[0], rows) and found.times.tolist() == pytest.approx(t.tolist())
    np.savetxt(tmp_path / "plain.txt", rows)
    hints = Hints(
        axes="xt", fields=(Field("h"),), lengths=(1.0,), boundary="wall", centering="cell", dt=0.5
    )
    assert np.allclose(states(datasets.open(tmp_path / "plain.txt", hints))[0, :, 0], rows.T)
    path.write_text("t,a\n0,1\n1,two\n")
    with pytest.raises(UserError, match="holds nothing that is known|holds more than numbers"):
        datasets.open(path, Hints(axes="tc"))
    path.write_text("t,a\n0,1\n1\n")
    with pytest.raises(UserError, match="more than numbers"):
        datasets.open(path, Hints(axes="tc"))
    path.write_text("t,a\n0,1\n0,2\n")
    with pytest.raises(UserError, match="no 2 rising times"):
        datasets.open(path, Hints(axes="tc"))


def test_a_wide_table_is_told_from_its_first_line(tmp_path: Path) -> None:
    rows = values(3, 900)
    np.savetxt(tmp_path / "wide.csv", rows, delimiter=",")
    hints = Hints(
        axes="tx", fields=(Field("u"),), lengths=(1.0,), boundary="periodic", centering="node", dt=1
    )
    assert np.allclose(states(datasets.open(tmp_path / "wide.csv", hints))[0, :, 0], rows)


def test_all_that_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", values(2, 3, 6, 5))
    with pytest.raises(UserError) as asked:
        datasets.open(tmp_path / "u.npy")
    said = str(asked.value)
    for name in ("axes", "lengths", "boundary", "centering", "dt", "fields"):
        assert f"({name})" in said and f"--hints.{name} " in said
    assert "u.npy holds the array (2, 3, 6, 5)" in said and "hints=Hints(axes='tcxy'" in said
    hints = Hints(axes="ntxy", fields=(Field("u"),), lengths=(1.0, 2.0))
    with pytest.raises(
        UserError, match=r"\(boundary\), .*\(centering\) and the time between its frames \(dt\); pass"
    ):
        datasets.open(tmp_path / "u.npy", hints)


def test_hints_that_do_not_fit_are_told(tmp_path: Path) -> None:
    np.save(tmp_path / "u.npy", values(2, 3, 6, 5))
    u = (Field("u"),)
    for hints, match in (
        (Hints(axes="txy", fields=u, **BOX), "has shape .2, 3, 6, 5., and hints.axes 'txy' name 3 axes"),
        (Hints(axes="tcxy", fields=u, **BOX), "has 3 channels, and the fields u fill 1"),
        (Hints(axes="ntxy", fields=u, **{**BOX, "lengths": (1.0,)}), "2 sizes .6, 5. but 1 lengths"),
        (Hints(axes="ntxy", fields=u, **{**BOX, "boundary": "soft"}), "boundary 'soft'"),
        (Hints(axes="ntyz", fields=u, **BOX), "begin with x"),
        (Hints(axes="nxyc", fields=u, **BOX), "name no time 't'"),
    ):
        with pytest.raises(UserError, match=match):
            datasets.open(tmp_path / "u.npy", hints)
    for bad in (
        {"axes": "ttx"},
        {"axes": "abc"},
        {"axes": ""},
        {"dt": -1.0},
        {"lengths": (0.0,)},
        {"dt": float("nan")},
    ):
        with pytest.raises(UserError, match="Hints got"):
            Hints(**bad)  # type: ignore[arg-type]
    np.save(tmp_path / "v.npy", values(2, 3, 5, 6))
    with pytest.raises(UserError, match="all need the same"):
        datasets.open(tmp_path, Hints(axes="ntxy", fields=u, **BOX))


def test_files_that_are_damaged_or_hostile_are_refused(tmp_path: Path) -> None:
    hints = Hints(axes="txy", fields=(Field("u"),), **BOX)
    whole = io.BytesIO()
    np.save(whole, values(4, 6, 5))
    content = whole.getvalue()
    path = tmp_path / "u.npy"
    for broken, match in (
        (content[:-1], "is cut off"),
        (content[:40], "is damaged"),
        (content.replace(b"(4, 6, 5)", b"(9**9,6,5"), "damaged"),
        (content.replace(b"(4, 6, 5), ", b"(-4, 6, 5),"), "has shape|damaged"),
        (content.replace(b"'<f4'", b"'<c8'"), "not unpickled|real numbers"),
    ):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=match):
            datasets.open(path, hints)
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="Objects are not unpickled"):
        datasets.open(path, hints)

    packed = tmp_path / "a.npz"
    np.savez_compressed(packed, u=values(4, 6, 5))
    good = packed.read_bytes()
    for place in range(60, len(good) - 30, 37):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        packed.write_bytes(damaged)
        with contextlib.suppress(UserError):
            states(datasets.open(packed, hints))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:  # a gigabyte of nothing
        header = content[:128].replace(b"(4, 6, 5), ", b"(99999999,)")
        archive.writestr("u.npy", header + bytes(1 << 20))
    with pytest.raises(UserError, match="is cut off"):
        datasets.open(packed, hints)

    old = tmp_path / "a.mat"
    scipy.io.savemat(old, {"u": values(4, 6, 5)}, do_compression=True)
    good = old.read_bytes()
    for place in range(0, len(good), 11):
        damaged = bytearray(good)
        damaged[place] ^= 0x55
        old.write_bytes(damaged)
        with contextlib.suppress(UserError):
            states(datasets.open(old, hints))


def test_fields_on_the_command_line() -> None:
    assert parse_fields("velocity:m/s:vector, p:Pa,stress::tensor,u,flow:vector") == (
        Field("velocity", "m/s", 1),
        Field("p", "Pa"),
        Field("stress", "1", 2),
        Field("u"),
        Field("flow", "1", 1),
    )
    for words in ("a:b:c", "", "a:m:vector:x"):
        with pytest.raises(UserError, match="expected name"):
            parse_fields(words)


def test_blocks_go_to_workers(tmp_path: Path) -> None:
    """Handles do not cross to another process; blocks of all kinds are pickled."""
    np.save(tmp_path / "u.npy", values(6, 4, 6, 5))
    hints = Hints(axes="ntxy", fields=(Field("u"),), split=(0.5, 0.25, 0.25), **BOX)
    split = datasets.open(tmp_path / "u.npy", hints)["train"]
    loader = torch.utils.data.DataLoader(
        split.windows(1, 1), batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    assert np.array_equal(
        torch.stack(list(loader)).numpy(), np.stack([split.windows(1, 1)[i] for i in range(12)])
    )
