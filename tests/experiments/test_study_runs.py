"""Studies of several runs: failures that hold up nothing, stops and kills after which the same table comes out."""

from __future__ import annotations

import importlib
import json
import multiprocessing.forkserver
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from sciml.experiments.cli import main
from sciml.experiments.pool import Done, Failed, Processes, Told
from sciml.experiments.progress import Reporter
from sciml.experiments.study.conduct import conduct
from sciml.experiments.study.plan import read_plan
from sciml.experiments.study.results import rows_of
from sciml.experiments.study.tables import summary, write_scores

# An objective of a user's that fails on demand.
MINE = """
    import os, signal, time
    from pathlib import Path

    import torch
    from sciml.objectives import Objective, OneStep


    class Moody(Objective):
        '''One step, as long as there is no file that says otherwise.'''

        def __init__(self, way: str) -> None:
            super().__init__()
            self.way, self.inner = way, OneStep()
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

        def forward(self, step, window, generator=None):
            self.calls += 1
            loss, parts = self.inner(step, window, generator)
            if self.calls == 7 and Path(self.way).exists():
                if self.way == "dies":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.way == "raises":
                    raise KeyError("no such thing")
                loss = loss * float("nan")
            return loss, parts
"""

TREE = {
    "name": "tiny",
    "title": "Whether it holds together",
    "data": {"recipe": "advection", "samples": {"train": 4, "valid": 0, "test": 3}},
    "model": {"class_path": "ConvNet", "init_args": {"width": 4, "hidden_layers": 1}},
    "training": {
        "batch_size": 4, "learning_rate": 0.01, "checkpoint_every": 5, "log_every": 1, "accelerator": "cpu",
    },
    "seeds": [0],
    "evaluation": {"steps": 3, "samples": 3, "solvers": [], "pictures": False, "laboratory": 0},
}  # fmt: skip


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a file of the user's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    return tmp_path


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Do a study on data that are made once."""
    data = tmp_path_factory.mktemp("data")

    def run(file, workers=2):
        return main(["study", file, "--workers", str(workers), "--data-root", str(data)])

    run.data = data
    return run


def write(name="s.yaml", **entries):
    Path(name).write_text(yaml.safe_dump({**TREE, **entries}, sort_keys=False))
    return name


def stamps(folder="runs/tiny", *patterns):
    patterns = patterns or ("**/seed-*.pt", "**/summary.json")
    found = {p for pattern in patterns for p in Path(folder).glob(pattern)}
    return {str(p): p.stat().st_mtime_ns for p in sorted(found)}


def test_what_fails_is_told_and_tried_again_and_holds_up_nothing(here, study, capsys):
    axes = {"objective": {"plain": "OneStep"}}
    for way in ("diverges", "dies", "raises"):
        axes["objective"][way] = {"class_path": "mine.py:Moody", "init_args": {"way": way}}
        Path(way).touch()
    file = write(axes=axes, budget={"updates": 10}, baseline={"objective": "plain"})
    assert study(file) == 1
    said = capsys.readouterr().out
    failures = {
        f["cell"].removeprefix("objective="): f
        for f in json.loads(Path("runs/tiny/failures.json").read_text())
    }
    assert set(failures) == {"diverges", "dies", "raises"}
    assert "loss became nan at update 7" in failures["diverges"]["message"]
    assert "SIGKILL" in failures["dies"]["message"]
    assert (
        failures["raises"]["message"] == "KeyError: 'no such thing'"
        and "mine.py" in failures["raises"]["details"]
    )
    assert "3 failed" in said and "training of objective=dies, dies, seed 0: its process" in said

    tidy = pd.read_csv("runs/tiny/study.csv")
    assert set(tidy[tidy.metric == "failed"].objective) == {"diverges", "dies", "raises"}
    assert set(tidy[tidy.metric == "nrmse"].objective) == {"plain"}
    wide = pd.read_csv("runs/tiny/summary.csv").set_index("objective")
    assert wide.status.to_dict() == {"plain": "complete"} | dict.fromkeys(
        ("diverges", "dies", "raises"), "failed"
    )
    assert wide.updates.to_dict() == {"plain": 10, "diverges": 5, "dies": 5, "raises": 5}
    assert "nan at update 7" in wide.failure["diverges"]
    paired = pd.read_csv("runs/tiny/comparisons.csv")
    own = paired[(paired.baseline == 1) & (paired.lead == "last")].set_index("row")
    # A failed training counts as the cap for each of its rollouts.
    errors = tidy[(tidy.metric == "nrmse") & (tidy.lead_step == 3)].value
    assert own.ratio["dies"] == pytest.approx(float(np.exp(np.mean(np.log(10 / errors)))), rel=1e-6)
    page = Path("runs/tiny/leaderboard.html").read_text()
    assert "no such thing" in page and 'href="objective%3Dplain/report.html"' in page
    assert "equal updates: 10" in page

    before = stamps()
    for way in ("diverges", "dies", "raises"):
        Path(way).unlink()
    assert study(file) == 0
    after = stamps()
    assert {p for p in after if after[p] == before.get(p)} == {p for p in after if "objective=plain" in p}
    assert json.loads(Path("runs/tiny/failures.json").read_text()) == []
    # All four did the same training in the end, three of them from a checkpoint on.
    tidy = pd.read_csv("runs/tiny/study.csv")
    by = {name: list(part.value) for name, part in tidy.groupby("objective")}
    assert by["plain"] == by["dies"] == by["diverges"] == by["raises"]

    before, table = stamps(), Path("runs/tiny/study.csv").read_bytes()
    capsys.readouterr()
    runs = conduct(read_plan(file), Path("runs/tiny"), study.data, Reporter())
    assert "all trainings and evaluations are complete" in capsys.readouterr().err
    assert stamps() == before
    write_scores(Path("again.csv"), read_plan(file), rows_of(read_plan(file), runs))
    assert Path("again.csv").read_bytes() == table


def test_what_trainings_take_is_measured_each_in_its_own_process(here, study):
    entry = {"class_path": "hungry.py:Hungry", "init_args": {"mib": 150}}
    Path("hungry.py").write_text(
        "import torch\n"
        "from sciml.objectives import OneStep\n"
        "class Hungry(OneStep):\n"
        "    '''One step beside a heap of memory.'''\n"
        "    def __init__(self, mib: int) -> None:\n"
        "        super().__init__()\n"
        "        self.mib, self.heap = mib, []\n"
        "    def forward(self, step, window, generator=None):\n"
        "        if not self.heap:  # one heap, not one an update, of which two may be held for a moment\n"
        "            self.heap.append(torch.ones(self.mib * 2**18))\n"
        "        return super().forward(step, window, generator)\n"
    )
    axes = {"objective": {"hungry": entry, "plain": "OneStep"}}
    plan = read_plan(write(axes=axes, budget={"updates": 3}))
    runs = conduct(plan, Path("out"), study.data, Reporter(quiet=True), workers=1)
    lines = summary(plan, [], rows_of(plan, runs), Path("out"))
    wide = pd.DataFrame(lines).set_index("objective")
    # One after the other on one worker, the hungry one first: the plain one does not inherit its peak.
    more = wide.own_memory_mib["hungry"] - wide.own_memory_mib["plain"]
    assert 140 < more < 170 and wide.peak_memory_mib["hungry"] > wide.peak_memory_mib["plain"] + 130
    assert (wide.cpu_seconds > 0).all() and (wide.seconds > 0).all() and (wide.updates == 3).all()


WORK = """
    import os, time

    def ok(tell, stop, value):
        tell(1, 2, "half")
        return value, os.getpid()

    def waits(tell, stop):
        tell(1, 2, "begun")
        assert stop.wait(60)
        return "stopped in order"

    def hangs(tell, stop):
        tell(1, 1, "begun")
        time.sleep(600)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Functions in a module that other processes find as well."""
    (tmp_path / "work_of_a_pool.py").write_text(textwrap.dedent(WORK))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "work_of_a_pool", raising=False)
    return importlib.import_module("work_of_a_pool")


def drain(pool, count, seconds=60.0):
    outcomes, told, end = {}, [], time.monotonic() + seconds
    while len(outcomes) < count:
        assert time.monotonic() < end
        for name, event in pool.events(0.2):
            if isinstance(event, Told):
                told.append((name, event.note))
            else:
                outcomes[name] = event
    return outcomes, told


def test_a_pool_runs_jobs_in_processes_of_their_own(work):
    pool = Processes(2)
    try:
        for k in range(3):
            pool.submit(f"ok {k}", work.ok, (k,))
        outcomes, told = drain(pool, 3)
        assert {name: o.result[0] for name, o in outcomes.items()} == {"ok 0": 0, "ok 1": 1, "ok 2": 2}
        assert len({o.result[1] for o in outcomes.values()}) == 3 and ("ok 1", "half") in told
        pool.submit("first", work.waits, ())
        pool.submit("second", work.waits, ())
        pool.submit("never", work.ok, (1,))
        begun = set()
        while len(begun) < 2:
            begun |= {name for name, _ in pool.events(0.2)}
        pool.stop()
        outcomes, _ = drain(pool, 3)
        assert outcomes["never"] == Failed("not begun", stopped=True)
        assert outcomes["first"] == outcomes["second"] == Done("stopped in order")
    finally:
        pool.close()


def test_shares_are_told_as_percentages_and_counts_as_counts(tmp_path, capsys):
    """What nobody counts has no "to do" that would be taken for trainings or updates."""
    reporter = Reporter()
    with reporter.task("two trainings", 2000, log=tmp_path / "log", share=True) as task:
        task.update(600, "one is under way", total=2400)
    with reporter.task("three files", 3) as task:
        task.update(3)
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "two trainings" and told[1].startswith("two trainings: 25 % in ")
    assert told[1].endswith("one is under way")
    assert told[2] == "three files: 3 to do" and told[3].startswith("three files: 3/3 in ")
    assert "25 %" in (tmp_path / "log").read_text()


def test_closing_a_pool_leaves_no_process(work):
    pool = Processes(1)
    pool.submit("hangs", work.hangs, ())
    assert next(pool.events(30))[0] == "hangs"
    (child,) = pool._children.values()
    pool.close()
    assert not child.process.is_alive()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked on Linux only")
def test_an_interrupt_does_not_reach_the_process_that_jobs_are_forked_from(work):
    """Also not while it loads its modules: the block is there from its first moment."""
    pool = Processes(1)
    pool.submit("ok", work.ok, (0,))
    outcomes, _ = drain(pool, 1)
    assert isinstance(outcomes["ok"], Done)
    status = Path(f"/proc/{multiprocessing.forkserver._forkserver._forkserver_pid}/status").read_text()
    blocked = int(re.search(r"SigBlk:\s*([0-9a-f]+)", status)[1], 16)
    assert blocked & 1 << signal.SIGINT - 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    pool.close()


def test_two_studies_do_not_share_a_folder(here, capsys):
    from sciml.experiments.study.conduct import alone

    Path("runs/tiny").mkdir(parents=True)
    file = write(axes={"objective": {"plain": "OneStep"}})
    with alone(Path("runs/tiny")):
        assert main(["study", file]) == 2
    assert "another `sciml study` works in runs/tiny" in capsys.readouterr().err


def test_one_recipe_with_two_sizes_needs_two_folders(here, capsys):
    sizes = {
        f"n{n}": {"recipe": "advection", "samples": {"train": n, "valid": 0, "test": 3}} for n in (2, 4)
    }
    assert main(["study", write(axes={"dataset": sizes})]) == 2
    assert "a folder of its own by data.path" in capsys.readouterr().err


def command(file, *more):
    return [sys.executable, "-m", "sciml.experiments", "study", file, "--workers", "2", *more]


def masked(folder):
    """The tables without what was measured by a clock or in bytes."""
    wide = pd.read_csv(Path(folder) / "summary.csv")
    times = [c for c in wide.columns if c.endswith(("seconds", "_mib"))]
    return wide.drop(columns=times).to_csv(), (Path(folder) / "comparisons.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_random_moments_a_study_ends_with_the_same_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    axes = {
        "objective": {"one": "OneStep", "k2": {"class_path": "Unrolled", "init_args": {"steps": 2}}},
        "regularizer": {"none": None, "jaws": {"regularizer": "JAWS", "weight": 0.01}},
    }
    file = write(
        axes=axes,
        only=[{"regularizer": "none"}, {"objective": "one"}],
        budget={"updates": 200},
        seeds=[0, 1],
        training={**TREE["training"], "checkpoint_every": 20},
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    assert subprocess.run(command(file, "--out", "straight"), **quiet).returncode == 0
    generator, kills, known = random.Random(int(os.environ.get("SEED", "0"))), 0, {}
    for attempt in range(60):  # a complete study writes its tables again, and may be killed in that, too
        process = subprocess.Popen(command(file, "--out", "killed"), start_new_session=True, **quiet)
        # By what it has written and not by the clock, so that a loaded machine is as good as an idle one.
        if _runs_until_it_has_written(process, "killed", generator.randint(1, 25)):
            time.sleep(generator.uniform(0, 0.2))
            kills += 1
            if attempt % 3 == 0:
                os.killpg(process.pid, signal.SIGKILL)
            elif attempt % 3 == 1:
                process.kill()  # the others see that they are alone
            else:
                os.killpg(process.pid, signal.SIGINT)
        status = process.wait(300)
        _gone(process.pid)
        done = complete("killed")
        # What was complete stays as it is, to the time of writing.
        assert all(done[name] == stamp for name, stamp in known.items())
        known = done
        if status == 0:
            break
    assert status == 0 and kills >= 3
    assert Path("killed/study.csv").read_bytes() == Path("straight/study.csv").read_bytes()
    assert masked("killed") == masked("straight")
    assert not list(Path("killed").rglob("*.part"))


def complete(folder):
    """Times of writing of the trainings that are complete, and of the evaluations."""
    from sciml.experiments.jobs import spent

    trained = {
        str(p): p.stat().st_mtime_ns for p in Path(folder).rglob("seed-*.pt") if spent(p)["updates"] == 200
    }
    evaluated = {}
    for p in Path(folder).rglob("provenance.json"):
        if json.loads(p.read_text()).get("evaluated"):
            evaluated[str(p)] = (p.parent / "summary.json").stat().st_mtime_ns
    return trained | evaluated


def _runs_until_it_has_written(process, folder, count):
    """Whether a process still runs when it has written so many files, the same one again counting again."""
    before = {p: p.stat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file()}
    seen = set()
    while process.poll() is None:
        for path in Path(folder).rglob("*"):
            try:
                stamp = path.stat().st_mtime_ns
            except FileNotFoundError:  # a temporary name
                continue
            if path.is_file() and before.get(path) != stamp:
                seen.add((path, stamp))
        if len(seen) >= count:
            return True
        time.sleep(0.02)
    return False


def _gone(group, seconds=30.0):
    """Wait until no process of a session is left."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError(f"processes of {group} outlive the command by {seconds} s")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_study_runs_on_a_dask_cluster_and_goes_on_there(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(textwrap.dedent(MINE))
    Path("dies").touch()
    moody = {"class_path": "mine.py:Moody", "init_args": {"way": "dies"}}
    file = write(
        axes={"objective": {"one": "OneStep", "moody": moody}}, budget={"updates": 400}, seeds=[0, 1]
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        there = [*command(file), "--out", "there", "--scheduler", cluster.scheduler_address]
        process = subprocess.Popen(there, start_new_session=True, **quiet)
        end = time.monotonic() + 300
        while not list(Path("there").rglob("seed-*.pt")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.1)
        process.kill()
        process.wait()
        # The workers see that nobody waits: soon no checkpoint changes any more.
        last, since = {}, time.monotonic()
        while time.monotonic() - since < 8:
            found = stamps("there", "**/seed-*.pt")
            if found != last:
                last, since = found, time.monotonic()
            assert time.monotonic() < end + 120
            time.sleep(0.2)
        assert subprocess.run(there, **quiet).returncode == 1
        failures = json.loads(Path("there/failures.json").read_text())
        assert {(f["cell"], f["seed"]) for f in failures} == {
            ("objective=moody", 0),
            ("objective=moody", 1),
        }
        assert all("SIGKILL" in f["message"] for f in failures)
        Path("dies").unlink()
        assert subprocess.run(there, **quiet).returncode == 0
    assert subprocess.run([*command(file), "--out", "here"], **quiet).returncode == 0
    assert Path("there/study.csv").read_bytes() == Path("here/study.csv").read_bytes()
