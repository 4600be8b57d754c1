from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sciml.experiments.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(smoke, monkeypatch):
    monkeypatch.chdir(smoke)
    return smoke


def output(capsys, *words: str, status: int = 0) -> str:
    assert main(list(words)) == status
    return capsys.readouterr().out


def test_a_run_leaves_what_was_promised(here):
    run = here / "runs" / "smoke"
    for name in ("config.yaml", "metrics.csv", "summary.json", "report.html", "provenance.json"):
        assert (run / name).stat().st_size > 0
    assert {p.name for p in (run / "figures").iterdir()} >= {"error.png"}
    known = json.loads((run / "provenance.json").read_text())
    assert known["trainings"]["conv, seed 0"]["updates"] == 20
    assert known["versions"]["torch"] and known["machine"]["cores"] >= 1 and known["seconds"]["run"] > 0
    with open(run / "metrics.csv") as stream:
        rows = list(csv.DictReader(stream))
    kept = [float(r["value"]) for r in rows if r["step"] == "kept" and r["metric"] == "drift content"]
    free = [float(r["value"]) for r in rows if r["step"] == "conv" and r["metric"] == "drift content"]
    # The constrained one keeps its mean to the rounding of float32 sums of 160 numbers.
    assert max(v for v in kept if v == v) < 1e-5 < max(v for v in free if v == v)
    assert "http" not in (run / "report.html").read_text().split("<body")[0]  # one self-contained file


def test_a_second_run_does_nothing_again(here, capsys):
    files = [here / "runs/smoke/checkpoints/conv/seed-0.pt", here / "runs/smoke/summary.json"]
    before = [f.stat().st_mtime_ns for f in files]
    text = output(capsys, "run", "smoke", "--workers", "1")
    assert [f.stat().st_mtime_ns for f in files] == before
    assert "report: runs/smoke/report.html" in text and "persistence" in text


def test_evaluate_and_report_take_the_run_folder(here, capsys, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(here / "runs" / "smoke", copy)
    found = json.loads(output(capsys, "evaluate", str(copy), "--steps", "5", "--samples", "1", "--json"))
    assert found["summary"]["steps"] == 5 and found["summary"]["samples"] == 1
    output(capsys, "report", str(copy))
    page = tmp_path / "both.html"
    output(capsys, "report", str(copy), "runs/smoke", "--out", str(page))
    assert page.read_text().count("<h2>") >= 2


def test_a_matrix_is_run_cell_by_cell(here, capsys, tmp_path):
    file = tmp_path / "m.yaml"
    content = {"base": "smoke", "name": "two", "matrix": {"training.updates": [1, 2]}}
    content["variants"] = {"conv": {"network": {"class_path": "ConvNet", "init_args": {"width": 2}}}}
    content["evaluation"] = {"steps": 2, "solvers": [], "pictures": False}
    file.write_text(yaml.safe_dump(content))
    text = output(capsys, "study", str(file), "--workers", "1", "--out", str(tmp_path / "two"))
    assert "leaderboard:" in text and (tmp_path / "two" / "leaderboard.html").is_file()
    lines = (tmp_path / "two" / "summary.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["updates", "1", "2"]
    assert (tmp_path / "two/updates=2/checkpoints/conv/seed-0.pt").is_file()


def test_print_config_gives_a_study_that_can_be_run(capsys, tmp_path):
    words = (
        "run",
        "smoke",
        "--training.updates",
        "3",
        "--variants.conv.network.width",
        "5",
        "--seeds",
        "[4,5]",
    )
    text = output(capsys, *words, "--print_config")
    tree = yaml.safe_load(text)
    assert tree["training"]["updates"] == 3 and tree["seeds"] == [4, 5]
    assert tree["variants"]["conv"]["network"]["init_args"]["width"] == 5
    (tmp_path / "again.yaml").write_text(text)
    assert output(capsys, "run", str(tmp_path / "again.yaml"), "--print_config") == text


def test_inspect_says_what_each_thing_is(here, capsys):
    data = json.loads(output(capsys, "inspect", "data/advection", "--json"))
    assert data["splits"]["train"]["samples"] == 4
    run = json.loads(output(capsys, "inspect", "runs/smoke", "--json"))
    assert run["checkpoints"] == ["conv, seed 0", "kept, seed 0"]
    checkpoint = output(capsys, "inspect", "runs/smoke/checkpoints/kept/seed-0.pt")
    assert "updates: 20 of 20" in checkpoint and "constraint: ConservedMean" in checkpoint


def test_list_names_what_there_is(capsys):
    found = json.loads(output(capsys, "list", "--json"))
    assert {"burgers", "cylinder", "burgers-pinn", "darcy-external", "advection"} <= set(found["studies"])
    assert "Burgers" in found["pdes"] and "FNO" in found["models"] and "JAWS" in found["regularizers"]
    assert all(line for entries in found.values() for line in entries.values())


def test_list_names_every_class_that_pages_and_studies_use(capsys):
    """All that YAML names without a file or a dotted path is somewhere in the list."""
    found = json.loads(output(capsys, "list", "--json"))
    listed = {name for entries in found.values() for name in entries} | {"Uniform", "LogUniform"}
    texts = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("experiments/studies/*.yaml")]
    named = {
        match
        for path in texts
        for match in re.findall(r"class_path: *\"?([\w.:/]+)", path.read_text(encoding="utf-8"))
        if "." not in match
    }
    assert len(named) > 40 and sorted(named - listed) == []


def test_generate_counts_samples_and_says_where(capsys, tmp_path):
    words = ("generate", "advection", "--out", str(tmp_path / "a"), "--samples", "train=2,valid=0,test=1")
    found = json.loads(output(capsys, *words, "--workers", "1", "--json"))
    assert found["splits"]["train"]["samples"] == 2 and found["mebibytes"] > 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert exit_.value.code == 0 and "examples:" in text and f"sciml {command}" in text and "--json" in text


def test_the_command_line_and_the_language_start_without_heavy_imports():
    code = (
        "import sys\n"
        "from sciml.experiments.cli import main\n"
        "main(['--help'])\n"
        "light = {'torch', 'numpy', 'h5py', 'matplotlib', 'lightning', 'jsonargparse'} & set(sys.modules)\n"
        "import sciml; sciml.Grid\n"
        "print(sorted(light), 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] False"
