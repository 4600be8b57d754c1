from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from sciml.errors import UserError
from sciml.experiments.cli import main
from sciml.experiments.config import as_tree, load_study
from sciml.experiments.files import load_tensors, save_tensors, write_bytes


def refusal(capsys, *words: str) -> str:
    """The message of a command that has to end with status 2 and without a traceback."""
    assert main(list(words)) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


@pytest.fixture
def copy(smoke, tmp_path, monkeypatch):
    """A copy of the smoke run and its data, to be spoiled."""
    shutil.copytree(smoke, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    provenance = Path("runs/smoke/provenance.json")
    known = json.loads(provenance.read_text())
    known["data"] = str(Path("data/advection").resolve())
    provenance.write_text(json.dumps(known))
    return tmp_path / "work"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu", "burgers"], "no command 'rnu'; did you mean 'run'"),
        (["run", "burgesr"], "no study 'burgesr'; did you mean 'burgers'"),
        (["run", "nothing.yaml"], "no file 'nothing.yaml'"),
        (["run"], "study"),
        (["run", "smoke", "--trainig.epochs", "3"], "did you mean --training.epochs"),
        (["run", "smoke", "--training.epochs", "soon"], "training.epochs"),
        (
            ["run", "smoke", "--variants.conv.network.widht", "3"],
            "no argument 'widht'; did you mean 'width'",
        ),
        (["run", "smoke", "--variants.conv.network.width"], "needs a value"),
        (["run", "smoke", "--workers", "0"], "--workers is 0"),
        (["run", "smoke", "--data.recipe", "advectoin"], "advectoin"),
        (["generate", "burgesr"], "burgers"),
        (["generate", "advection", "--samples", "train:3"], "such as train=800"),
        (["generate", "advection", "--samples", "trian=3"], "trian"),
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["evaluate", "."], "is no run folder"),
        (["report", "nowhere"], "is no run folder"),
        (["verify", "Burger"], "did you mean 'Burgers'"),
        (["list", "recipe"], "recipes"),
        (["run", "smoke", "--jsn"], "did you mean --json"),
    ],
)
def test_a_mistake_ends_with_status_2_and_a_message(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(capsys, *words)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_with_json_the_message_is_json_too(capsys):
    assert main(["run", "burgesr", "--json"]) == 2
    assert "burgesr" in json.loads(capsys.readouterr().out)["error"]


def test_external_data_that_are_missing_are_asked_for(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCIML_EXTERNAL_DATA", raising=False)
    said = refusal(capsys, "run", "darcy-external")
    assert "SCIML_EXTERNAL_DATA" in said and "https://github.com/neuraloperator" in said


def test_a_checkpoint_of_another_model_or_study_is_refused(copy, capsys):
    said = refusal(capsys, "run", "smoke", "--variants.conv.network.width", "6", "--workers", "1")
    assert "trained with other settings" in said and "--out" in said
    checkpoint = Path("runs/smoke/checkpoints/conv/seed-0.pt")
    content = load_tensors(checkpoint)
    content["weights"] = {"other": torch.zeros(3)}
    save_tensors(checkpoint, content)
    assert "the checkpoint of another model" in refusal(capsys, "evaluate", "runs/smoke")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    assert "cut short" in refusal(capsys, "evaluate", "runs/smoke")
    checkpoint.unlink()
    assert "1 of 2 trainings are missing" in refusal(capsys, "evaluate", "runs/smoke")


def test_a_checkpoint_with_code_in_it_is_not_run(copy, capsys):
    class Harm:
        def __reduce__(self):
            return os.mkdir, ("harm",)

    torch.save({"format": Harm()}, "runs/smoke/checkpoints/conv/seed-0.pt")
    assert "read safely" in refusal(capsys, "evaluate", "runs/smoke")
    assert not Path("harm").exists()


def test_a_dataset_of_another_resolution_is_refused(copy, capsys, tmp_path):
    recipe = tmp_path / "coarse.py"
    recipe.write_text(
        "from dataclasses import replace\n"
        "from sciml import Grid\n"
        "from sciml.datasets.recipes.advection import RECIPE as fine\n"
        "RECIPE = replace(fine, name='coarse', domain=Grid((40,), (1.0,)))\n"
    )
    words = ["generate", str(recipe), "--out", "data/coarse", "--samples", "train=1,valid=0,test=2"]
    assert main([*words, "--workers", "1"]) == 0
    said = refusal(capsys, "evaluate", "runs/smoke", "--data", "data/coarse")
    assert "40" in said and "160" in said


def test_more_samples_than_the_data_have_are_refused(copy, capsys):
    assert "evaluation.samples is 9" in refusal(capsys, "evaluate", "runs/smoke", "--samples", "9")


def test_truncated_data_are_refused(copy, capsys):
    shard = next(Path("data/advection/data/test").glob("*.hdf5"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    assert str(shard.name) in refusal(capsys, "evaluate", "runs/smoke")


def test_numbers_that_are_not_finite_are_refused(copy, capsys):
    import h5py

    shard = next(Path("data/advection/data/test").glob("*.hdf5"))
    with h5py.File(shard, "r+") as file:
        file["t0_fields/concentration"][0, 3] = float("nan")
    assert "NaN" in refusal(capsys, "evaluate", "runs/smoke")


def test_a_file_under_the_run_folders_name_is_refused(capsys, tmp_path, monkeypatch, smoke):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("mine")
    words = ("run", "smoke", "--workers", "1", "--data-root", str(smoke / "data"), "--out", "taken")
    assert "taken" in refusal(capsys, *words)
    assert Path("taken").read_text() == "mine"


def _wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_ctrl_c_leaves_a_whole_checkpoint_and_the_same_command_goes_on(smoke, tmp_path):
    study = load_study("smoke", [("training.updates", 100_000), ("training.checkpoint_every", 5)])
    tree = as_tree(study)
    del tree["variants"]["kept"]
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(tree))
    words = ["train", "long.yaml", "--workers", "1", "--data-root", str(smoke / "data")]
    process = subprocess.Popen(
        [sys.executable, "-m", "sciml.experiments", *words],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    checkpoint = tmp_path / "runs/smoke/checkpoints/conv/seed-0.pt"
    _wait_for(checkpoint, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "the same command goes on" in said and "Traceback" not in said
    content = load_tensors(checkpoint)
    assert 0 < content["updates"] < 100_000
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    "words",
    [
        ["run", "smoke", "--workers", "1"],
        ["generate", "advection", "--out", "data/new", "--samples", "train=1,valid=0,test=1"],
        ["evaluate", "runs/smoke"],
        ["report", "runs/smoke"],
        ["study", "smoke", "--workers", "1"],
        ["verify", "Heat"],
        ["inspect", "data/advection", "--plot"],
        ["check", "data/advection"],
        ["convert", "data/advection", "data/other", "--to", "pdebench"],
    ],
    ids=lambda words: words[0],
)
def test_ctrl_c_in_any_command_is_told_and_changes_nothing(words, copy, capsys, monkeypatch):
    def interrupted(self, title, total, log=None):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("sciml.experiments.progress.Reporter.task", interrupted)
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    assert "interrupted; nothing half-written" in refusal(capsys, *words)
    after = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    rewritten = {p.name for p in after if after[p] != before.get(p)}
    # A run writes its configuration again before it goes on, a study its plan; everything else is as it was.
    known = {"study.yaml", "failures.json", ".lock"} if words[0] == "study" else set()
    assert rewritten <= {"config.yaml", "provenance.json"} | known


def test_a_full_disk_is_told_and_leaves_nothing_half_written(tmp_path, smoke, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = tmp_path / "small"
    small.mkdir()
    mount = shutil.which("mount")
    done = None
    if mount is not None:
        words = [mount, "-t", "tmpfs", "-o", "size=28k", "tmpfs", str(small)]
        done = subprocess.run(words, capture_output=True)
    if done is None or done.returncode != 0:
        pytest.skip("a small tmpfs cannot be mounted here (it takes the rights of root)")
    try:
        with pytest.raises(UserError, match="the disk is full"):
            write_bytes(small / "big.bin", bytes(2**20))
        with pytest.raises(UserError, match="the disk is full"):
            save_tensors(small / "big.pt", {"weights": torch.zeros(2**18)})
        assert not list(small.iterdir())
        save_tensors(small / "fits.pt", {"weights": torch.zeros(8)})
        assert torch.equal(load_tensors(small / "fits.pt")["weights"], torch.zeros(8))
        words = (
            "train",
            "smoke",
            "--workers",
            "1",
            "--data-root",
            str(smoke / "data"),
            "--out",
            "small/run",
        )
        assert "the disk is full" in refusal(capsys, *words)
        left = {p.name for p in small.rglob("*") if p.is_file()}
        assert left <= {"fits.pt", "config.yaml", "provenance.json", "seed-0.pt"}
        checkpoint = small / "run/checkpoints/conv/seed-0.pt"
        assert not checkpoint.exists() or load_tensors(checkpoint)["updates"] < 20
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_system_without_space_takes_no_network_of_fields(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("short.py").write_text(
        "from dataclasses import replace\n"
        "from sciml.datasets.recipes.lorenz63 import RECIPE as long\n"
        "RECIPE = replace(long, name='short', warmup=0, steps=10)\n"
    )
    words = ["run", "smoke", "--data.recipe", "short.py", "--workers", "1"]
    said = refusal(capsys, *words)
    assert "hold a system without space" in said and "take PLRNN" in said


def test_cells_are_refused_where_a_network_starts_from_nodes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gas.py").write_text(
        "from dataclasses import replace\n"
        "from sciml import Grid\n"
        "from sciml.datasets.recipes.euler_2d import RECIPE as fine, SmoothGas\n"
        "RECIPE = replace(fine, name='gas', steps=50, dt=0.001, resolution_factor=1,\n"
        "    domain=Grid((8, 8), (1.0, 1.0), centering='cell'))\n"
    )
    words = ["run", "burgers-pinn", "--data.recipe", "gas.py", "--workers", "1"]
    samples = [word for s in ("train", "valid", "test") for word in (f"--data.samples.{s}", "1")]
    said = refusal(capsys, *words, *samples)
    assert "averages over cells" in said and "centering='node'" in said
