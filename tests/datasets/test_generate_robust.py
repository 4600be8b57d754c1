"""Generation under adversity: processes that die, samples that leave their bounds, very many shards."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml import Grid
from sciml.datasets import manifest as manifests
from sciml.datasets.generate import estimate, make_shard
from sciml.datasets.workers import Failure, run_in_processes
from sciml.errors import UserError
from sciml.experiments.cli import main
from sciml.fields import RandomFourier
from sciml.pdes import CompressibleEuler, Heat

RECIPE = datasets.Recipe(
    name="tiny",
    title="Heat for the tests",
    pde=Heat,
    parameters={"diffusivity": datasets.LogUniform(1e-3, 1e-2)},
    domain=Grid((16,), (1.0,)),
    initial=RandomFourier(modes=3),
    dt=0.1,
    steps=4,
    samples={"train": 16, "test": 4},
    shard_size=2,
)

TINY = """
import os, signal, time
from pathlib import Path
import torch
from sciml import Grid
from sciml.datasets import LogUniform, Recipe
from sciml.fields import RandomFourier
from sciml.pdes import Heat

HERE = Path(__file__).parent


def initial(domain, channels, generator):
    u = RandomFourier(modes=3)(domain, channels, generator)
    BEFORE
    return u


RECIPE = Recipe(
    name="tiny", title="Heat for the tests", pde=Heat, parameters={"diffusivity": LogUniform(1e-3, 1e-2)},
    domain=Grid((16,), (1.0,)), initial=initial, dt=0.1, steps=4,
    samples={"train": 16, "test": 4}, shard_size=2,
)
"""


def recipe_file(folder: Path, before: str = "pass") -> Path:
    """A recipe that does something odd before each start; always the same file name, so the same seeds."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "tiny.py"
    file.write_text(TINY.replace("BEFORE", before.replace("\n", "\n    ")))
    return file


def digests(folder: Path) -> dict[str, str]:
    files = sorted((folder / "data").rglob("*.hdf5"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def states(folder: Path) -> Tensor:
    return datasets.open(folder)["train"].trajectories().data


# Processes that die


ONCE = """
flag = HERE / "died"
if not flag.exists() and float(u[0, 0]) == float(u[0, 0]):
    flag.write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_is_killed_is_replaced_and_its_shard_made(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe", ONCE)
    out = datasets.generate(file, tmp_path / "out", workers=2, certificate=False)
    assert (file.parent / "died").exists()
    assert datasets.open(out).manifest["complete"] and len(digests(out)) == 10
    fine = datasets.generate(file, tmp_path / "fine", certificate=False)
    assert digests(out) == digests(fine)


def dies(number: int) -> int:
    """A job that never comes back, among others that do."""
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 3:
        raise ZeroDivisionError("three")
    return number


def test_a_job_that_always_kills_its_worker_is_given_up_and_the_others_are_done() -> None:
    found = dict(run_in_processes(dies, [(n,) for n in range(6)], 2))
    assert {n: found[n] for n in (0, 1, 4, 5)} == {0: 0, 1: 1, 4: 4, 5: 5}
    lost, wrong = found[2], found[3]
    assert (
        isinstance(lost, Failure)
        and "SIGKILL, as the system does where memory runs out, 3 times" in lost.message
    )
    assert isinstance(wrong, Failure) and wrong.message == "ZeroDivisionError: three"
    assert "in dies" in wrong.details


THIRD = """
if torch.rand((), generator=generator) < 0:
    pass
if generator.initial_seed() in SEEDS:
    raise RuntimeError("a fault of the recipe's own")
"""


def test_a_shard_that_fails_does_not_keep_the_others_from_being_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [RECIPE.generator("train", i).initial_seed() for i in (4, 5)]
    file = recipe_file(tmp_path / "recipe", THIRD.replace("SEEDS", str(bad)))
    out = tmp_path / "out"
    assert main(["generate", str(file), "--out", str(out), "--workers", "1"]) == 2
    said = capsys.readouterr().err
    assert "1 of 10 shards failed; 9 were made and are kept" in said
    assert "data/train/shard-00002.hdf5: RuntimeError: a fault of the recipe's own" in said
    assert "Traceback" not in said and "in initial" in (out / "generate.log").read_text()
    assert len(digests(out)) == 9 and not datasets.open(out).manifest["complete"]
    assert len(datasets.open(out)["train"]) == 14
    with pytest.raises(UserError, match="1 of 1 shards failed"):  # and it is tried again
        datasets.generate(file, out)


def test_where_every_shard_fails_it_does_not_go_on_for_long(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe", "raise RuntimeError('always')")
    with pytest.raises(UserError, match="8 of 10 shards failed, 2 were not tried; 0 were made"):
        datasets.generate(file, tmp_path / "out")


def test_a_recipe_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe")
    recipe = datasets.load_recipe(file)
    with pytest.raises(UserError, match="was changed while its shards were being made"):
        make_shard(str(file), tmp_path, "train", 0, 2, sha256="0" * 64)
    assert recipe.source == str(file.resolve())


def test_two_generations_into_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        manifests.locked_journal(tmp_path),
        pytest.raises(UserError, match="Another process is generating"),
    ):
        datasets.generate(RECIPE, tmp_path, certificate=False)
    assert not (tmp_path / manifests.JOURNAL).exists()


# Runs that are killed


def _whole(recipe: Path, out: Path) -> None:
    datasets.generate(recipe, out)


def check_whole(out: Path, whole: Path) -> None:
    """The folder is as an uninterrupted run leaves it."""
    expected = digests(whole)
    assert digests(out) == expected
    assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}
    assert {"manifest.json", "certificate.json", "stats.yaml"} < {p.name for p in out.iterdir()}
    assert not list(out.rglob("*.part"))
    found = datasets.open(out)
    assert found.manifest["complete"] and found.notes == ()
    assert {s["file"]: s["sha256"] for s in found.manifest["shards"]} == expected
    assert found.stats.mean.isfinite().all() and found.certificate is not None


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that has torch loaded")
def test_kills_at_three_moments_are_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe")
    began = time.monotonic()
    whole = datasets.generate(file, tmp_path / "whole")
    duration = time.monotonic() - began
    context, out = multiprocessing.get_context("fork"), tmp_path / "out"
    for share in (
        0.1,
        0.4,
        0.8,
    ):  # among the shards, later ones, and in statistics, certificate and pictures
        process = context.Process(target=_whole, args=(file, out))
        process.start()
        time.sleep(share * duration)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    datasets.generate(file, out)
    check_whole(out, whole)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fifty_kills_of_two_workers_are_resumed_to_the_same_bytes(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe", "time.sleep(0.02)")
    code = "import sys, sciml.datasets as d\nif __name__ == '__main__': d.generate(sys.argv[1], sys.argv[2], workers=2)"

    def start(out: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", code, str(file), str(out)],
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    began = time.monotonic()
    whole = tmp_path / "whole"
    assert start(whole).wait(300) == 0
    duration = time.monotonic() - began
    dice, kills, folders = random.Random(0), 0, 0
    while kills < 50:
        out = tmp_path / f"out{folders}"
        folders += 1
        for _ in range(10):
            process = start(out)
            try:
                process.wait(dice.uniform(0, duration))
                assert process.returncode == 0, process.stderr.read().decode() if process.stderr else ""
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        process = start(out)
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said.decode()
        check_whole(out, whole)
        shutil.rmtree(out)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe", "(HERE / f'pid-{os.getpid()}').touch(); time.sleep(0.2)")
    code = "import sys, sciml.datasets as d\nif __name__ == '__main__': d.generate(sys.argv[1], sys.argv[2], workers=2)"
    process = subprocess.Popen([sys.executable, "-c", code, str(file), str(tmp_path / "out")])
    for _ in range(600):
        pids = [int(p.name[4:]) for p in file.parent.glob("pid-*")]
        if len(pids) == 2:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    living = pids
    for _ in range(100):
        living = [pid for pid in living if Path(f"/proc/{pid}").exists()]
        if not living:
            break
        time.sleep(0.1)
    assert len(pids) == 2 and not living


# Clusters


@contextmanager
def cluster(processes: bool) -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=None
    ) as found:
        yield found.scheduler_address


def test_a_cluster_gives_the_same_bytes_and_tells_what_failed(tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe")
    one = datasets.generate(file, tmp_path / "one", certificate=False)
    with cluster(processes=False) as address:
        remote = datasets.generate(file, tmp_path / "remote", scheduler=address, certificate=False)
        assert digests(remote) == digests(one)
        bad = [RECIPE.generator("train", 4).initial_seed()]
        wrong = recipe_file(tmp_path / "wrong", THIRD.replace("SEEDS", str(bad)))
        with pytest.raises(
            UserError, match="1 of 10 shards failed; 9 were made.*shard-00002.hdf5: RuntimeError"
        ):
            datasets.generate(wrong, tmp_path / "out", scheduler=address, certificate=False)
    with pytest.raises(UserError, match="No Dask scheduler answers at 'nonsense"):
        datasets.generate(file, tmp_path / "none", scheduler="nonsense://127.0.0.1:1", certificate=False)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_worker_two_and_the_processes_of_a_cluster_give_the_same_bytes(tmp_path: Path) -> None:
    made = {}
    for name in ("burgers", "heat"):
        samples = {s: 12 for s in datasets.load_recipe(name).samples}
        for workers in (1, 2):
            out = datasets.generate(
                name, tmp_path / f"{name}{workers}", samples, workers=workers, certificate=False
            )
            made[name, workers] = digests(out)
        assert made[name, 1] == made[name, 2]
    dying = recipe_file(tmp_path / "recipe", ONCE)
    with cluster(processes=True) as address:
        for name in ("burgers", "heat"):
            samples = {s: 12 for s in datasets.load_recipe(name).samples}
            out = datasets.generate(
                name, tmp_path / f"{name}-dask", samples, scheduler=address, certificate=False
            )
            assert digests(out) == made[name, 1]
        out = datasets.generate(dying, tmp_path / "dying", scheduler=address, certificate=False)
    assert (dying.parent / "died").exists() and datasets.open(out).manifest["complete"]
    assert digests(out) == digests(datasets.generate(dying, tmp_path / "again", certificate=False))


# Samples that may not be stored


@dataclass(frozen=True)
class SometimesHigh:
    """Beyond one for about half of the draws."""

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        size = 3.0 if float(torch.rand((), generator=generator)) < 0.5 else 0.5
        return size * RandomFourier(modes=3)(domain, channels, generator)


HIGH = replace(
    RECIPE,
    name="high",
    initial=SometimesHigh(),
    bounds={"temperature": (-1.0, 1.0)},
    samples={"train": 9, "test": 3},
    shard_size=3,
)


def test_samples_out_of_bounds_are_drawn_again_and_recorded_with_their_parameters(tmp_path: Path) -> None:
    found = datasets.open(datasets.generate(HIGH, tmp_path / "a"))
    u = found["train"].trajectories().data
    assert len(u) == 9 and float(u.abs().max()) <= 1.0
    free = replace(HIGH, bounds={})
    all_ = datasets.open(datasets.generate(free, tmp_path / "b", certificate=False))["train"].trajectories()
    high = [i for i in range(9) if float(all_.data[i].abs().max()) > 1.0]
    rejected = [r for s in found.manifest["shards"] if "train" in s["file"] for r in s["rejected"]]
    first = {r["index"]: r for r in rejected if r["attempt"] == 0}
    assert sorted(first) == high and 0 < len(high) < 9
    for i in range(9):  # samples that were good are those that would have come anyway
        assert torch.equal(u[i], all_.data[i]) == (i not in high)
    for i, record in first.items():
        assert record["frame"] == 0 and "temperature reaches from" in record["reason"]
        assert record["parameters"]["diffusivity"] == float(all_.parameters["diffusivity"][i])


def test_samples_out_of_bounds_are_left_out_where_the_recipe_says_so(tmp_path: Path) -> None:
    recipe = replace(HIGH, rejection="leave_out")
    folder = datasets.generate(recipe, tmp_path / "a")
    found = datasets.open(folder)
    free = datasets.generate(replace(HIGH, bounds={}), tmp_path / "b", certificate=False)
    all_ = datasets.open(free)["train"].trajectories()
    good = [i for i in range(9) if float(all_.data[i].abs().max()) <= 1.0]
    split = found["train"]
    assert 0 < len(split) == len(good) < 9
    assert torch.equal(split.trajectories().data, all_.data[good])
    assert torch.equal(split.parameters["diffusivity"], all_.parameters["diffusivity"][good])
    assert len(split.windows(1, 1)) == 4 * len(good)
    described = found.manifest["splits"]["train"]
    assert described["samples"] == len(good) and described["asked"] == 9
    recorded = {r["index"] for s in found.manifest["shards"] if "train" in s["file"] for r in s["rejected"]}
    assert recorded == set(range(9)) - set(good)
    assert not [f for f in datasets.check(folder).findings if f.level == "error"]
    before = digests(folder)
    datasets.generate(recipe, folder)  # nothing to do
    two = datasets.generate(recipe, tmp_path / "c", {"train": 12}, certificate=False)
    assert digests(folder) == before
    assert all(digests(two)[name] == sha for name, sha in before.items())


@dataclass(frozen=True)
class Vacuum:
    """A gas at rest whose pressure is negative for about half of the draws."""

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        u = torch.ones(channels, *domain.shape, dtype=torch.float64)
        u[1:-1] = 0.0
        u[-1] = 1.0 if float(torch.rand((), generator=generator)) < 0.5 else -1.0
        return u


@pytest.mark.parametrize("rejection", ["redraw", "leave_out"])
def test_what_the_equation_itself_forbids_is_not_stored(rejection: str, tmp_path: Path) -> None:
    recipe = datasets.Recipe(
        name="gas",
        title="A gas",
        pde=CompressibleEuler,
        domain=Grid((16,), (1.0,), centering="cell"),
        initial=Vacuum(),
        dt=0.01,
        steps=2,
        samples={"train": 6},
        shard_size=3,
        rejection=rejection,  # type: ignore[arg-type]
    )
    found = datasets.open(datasets.generate(recipe, tmp_path / "a", certificate=False))
    u = found["train"].trajectories().data
    assert (len(u) == 6) == (rejection == "redraw") and len(u) > 0
    assert float(u[:, :, -1].min()) == 1.0
    reasons = {r["reason"] for s in found.manifest["shards"] for r in s["rejected"]}
    assert reasons == {"pressure is -0.4, outside 0 to inf"}


def test_impossible_bounds_are_told(tmp_path: Path) -> None:
    never = replace(HIGH, bounds={"temperature": (5.0, 6.0)})
    with pytest.raises(
        UserError, match="left its bounds in 20 draws, last at frame 0. The last time, temperature"
    ):
        datasets.generate(never, tmp_path / "a")
    with pytest.raises(UserError, match="every sample of 'train' left its bounds and was left out"):
        datasets.generate(replace(never, rejection="leave_out"), tmp_path / "b")
    with pytest.raises(UserError, match="gives bounds of 'density'; it has temperature"):
        datasets.generate(replace(HIGH, bounds={"density": (0.0, 1.0)}), tmp_path / "c")
    with pytest.raises(ValueError, match="bounds .1.0, 0.0. of 'temperature'; expected .low, high."):
        replace(HIGH, bounds={"temperature": (1.0, 0.0)})
    with pytest.raises(ValueError, match="rejection 'ignore'; expected"):
        replace(HIGH, rejection="ignore")  # type: ignore[arg-type]


# The manifest and its journal


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datasets.generate(RECIPE, tmp_path_factory.mktemp("made") / "tiny")


def test_a_journal_is_read_up_to_its_torn_line(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    content = manifests.read_manifest(folder)
    entries, content["shards"], content["complete"] = content["shards"], [], False
    manifests.write_manifest(folder, content)
    lines = "".join(json.dumps(entry) + "\n" for entry in entries[:4])
    (folder / manifests.JOURNAL).write_text(lines + json.dumps(entries[4])[:50])
    found = datasets.open(folder)
    assert len(found["train"]) == 8 and "did not finish" in found.notes[-1]
    told: list[int] = []
    datasets.generate(RECIPE, folder, progress=lambda done, total: told.append(done))
    assert told[0] == 8 and told[-1] == 20 and digests(folder) == digests(made)
    assert not (folder / manifests.JOURNAL).exists()
    (folder / manifests.JOURNAL).write_text("{nonsense\n" + lines)
    assert len(datasets.open(folder)["train"]) == 16  # what follows a damaged line is not believed


def test_folders_of_the_first_version_open_and_go_on(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    shutil.copytree(made, folder)
    content = manifests.read_manifest(folder)
    content["format_version"] = 1
    for name in ("constants", "codec", "certified"):
        del content[name]
    for described in content["splits"].values():
        del described["asked"]
    for entry in content["shards"]:
        for name in ("parameters", "asked", "modified"):
            del entry[name]
    (folder / "manifest.json").write_text(json.dumps(content, indent=2))
    old, new = datasets.open(folder), datasets.open(made)
    assert old.kind == new.kind == "native" and torch.equal(states(folder), states(made))
    before = digests(folder)
    stamps = {p: p.stat().st_mtime_ns for p in folder.rglob("*.hdf5")}
    datasets.generate(RECIPE, folder, {"train": 18})
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    assert all(digests(folder)[name] == sha for name, sha in before.items())
    again = datasets.open(folder)
    assert again.manifest["format_version"] == 2 and len(again["train"]) == 18
    assert torch.equal(
        again["train"].parameters["diffusivity"][:16], new["train"].parameters["diffusivity"]
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("shards", 0, "file"), "data/train/../../secret.hdf5"),
        (("shards", 0, "file"), "/etc/passwd"),
        (("shards", 0, "samples"), -1),
        (("shards", 0, "samples"), 3),
        (("shards", 0, "samples"), "2"),
        (("shards", 0, "parameters"), {"diffusivity": ["x", 1]}),
        (("splits", "train", "steps"), 10**18),
        (("splits", "train", "steps"), -1),
        (("splits",), []),
        (("domain",), {"kind": "grid"}),
        (("domain", "shape"), [0]),
        (("fields", 0, "rank"), 7),
        (("dt",), "soon"),
        (("shards",), {"a": 1}),
        (("format_version",), 99),
    ],
)
def test_a_damaged_manifest_is_told(
    path: tuple[str | int, ...], value: object, made: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    content = json.loads((folder / "manifest.json").read_text())
    node = content
    for step in path[:-1]:
        node = node[step]
    node[path[-1]] = value
    (folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="manifest.json"):
        datasets.open(folder)


def test_files_that_the_manifest_lists_and_are_gone_are_noted(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    (folder / "data/train/shard-00001.hdf5").unlink()
    found = datasets.open(folder)
    assert len(found["train"]) == 14 and "1 files of the manifest are missing" in found.notes[0]
    shutil.rmtree(folder / "data")
    with pytest.raises(UserError, match="has a manifest and none of its files"):
        datasets.open(folder)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_hundred_thousand_shards_open_and_resume_within_seconds(tmp_path: Path) -> None:
    count, few = 100_000, 20
    recipe = replace(RECIPE, samples={"train": 2 * count})
    out = datasets.generate(recipe, tmp_path / "many", {"train": 2 * few}, certificate=False)
    content = manifests.read_manifest(out)
    real, content["shards"] = content["shards"], []
    for i in range(count):
        name = f"data/train/shard-{i:05d}.hdf5"
        if i >= few:
            os.link(out / real[i % few]["file"], out / name)
        content["shards"].append(real[i % few] | {"file": name, "first_sample": 2 * i})
    content["splits"]["train"] |= {"samples": 2 * count, "asked": 2 * count}
    manifests.write_manifest(out, content)
    # Seconds of this process, which those of other work on the machine do not add to.
    began = time.process_time()
    found = datasets.open(out)
    opened = time.process_time() - began
    assert len(found["train"]) == 2 * count
    assert torch.equal(found["train"][2 * count - 1].data, found["train"][2 * few - 1].data)
    began = time.process_time()
    datasets.generate(recipe, out, certificate=False)
    resumed = time.process_time() - began
    print(
        f"open {opened:.2f} s, resume {resumed:.2f} s, manifest {(out / 'manifest.json').stat().st_size} bytes"
    )
    assert opened < 5 and resumed < 5


# Before it starts


def test_an_estimate_is_given_and_a_dry_run_makes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = estimate(RECIPE, tmp_path / "out")
    assert found.samples == 20 and found.shards == 10 and found.seconds is not None and found.seconds > 0
    assert found.bytes < found.free and not (tmp_path / "out").exists()
    said = []
    datasets.generate(RECIPE, tmp_path / "out", certificate=False, announce=said.append)
    assert said[0].seconds is None and said[0].shards == 10
    assert said[1].seconds is not None and said[1].shards == 9 and len(said) == 2
    size = sum(f.stat().st_size for f in (tmp_path / "out").rglob("*.hdf5"))
    assert size <= said[0].bytes
    more = estimate(RECIPE, tmp_path / "out", {"train": 20})  # by what was timed before
    assert more.shards == 2 and more.seconds is not None
    file = recipe_file(tmp_path / "recipe")
    assert main(["generate", str(file), "--out", str(tmp_path / "dry"), "--dry-run", "--workers", "1"]) == 0
    assert "20 samples in 10 shards to make" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()


def test_progress_is_kept_in_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = recipe_file(tmp_path / "recipe"), tmp_path / "out"
    assert main(["generate", str(file), "--out", str(out), "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["train"]["samples"] == 16
    log = (out / "generate.log").read_text().splitlines()
    assert log[0].endswith(": 20 to do") and "20/20 in" in log[-1] and "/s" in log[-1]


# Archives


def test_compressed_shards_hold_the_same_numbers(made: Path, tmp_path: Path) -> None:
    file = recipe_file(tmp_path / "recipe")
    archives = [
        datasets.generate(file, tmp_path / str(n), codec="lzf", workers=n, certificate=False)
        for n in (1, 2)
    ]
    assert digests(archives[0]) == digests(archives[1])
    plain = datasets.generate(file, tmp_path / "plain", certificate=False)
    assert torch.equal(states(archives[0]), states(plain))
    windows = [datasets.open(f)["train"].windows(2, 1) for f in (archives[0], plain)]
    assert torch.equal(windows[0].__getitems__([0, 7, 25]), windows[1].__getitems__([0, 7, 25]))
    with pytest.raises(UserError, match="written with codec 'lzf' and 'none' is asked for"):
        datasets.generate(file, archives[0], certificate=False)
