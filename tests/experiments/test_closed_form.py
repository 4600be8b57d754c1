"""Forecasters and latent maps as variants of a study: fitted or trained, stored, begun from history, judged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sciml.datasets as datasets
from sciml.domains import Point
from sciml.errors import UserError
from sciml.experiments import data, jobs, surrogates
from sciml.experiments.closed_form import fit_at_once, is_fitted_at_once
from sciml.experiments.config import read_study
from sciml.experiments.progress import Reporter
from sciml.experiments.reference import from_split
from sciml.experiments.run import RunFolder, evaluate
from sciml.experiments.training import NormalisedView
from sciml.models import PLRNN, ForecastSurrogate
from sciml.models.wrappers import Normalized, Surrogate

FILE = """
from dataclasses import replace
from sciml.datasets.recipes.lorenz63 import RECIPE as SHIPPED

RECIPE = replace(
    SHIPPED, dt=0.025, warmup=200, steps=400, samples={"train": 4, "valid": 0, "test": 3}, shard_size=4, substeps=2
)
"""
FORCED = {"class_path": "GeneralizedTeacherForcing", "init_args": {"steps": 10, "alpha": 0.2}}
PARTIAL = {
    "class_path": "Observed",
    "init_args": {
        "f": {"class_path": "PLRNN", "init_args": {"in_channels": 5, "hidden": 8}},
        "latent": 5,
        "view": "partial",
    },
}
TREE = {
    "name": "few",
    "data": {"recipe": "few.py"},
    "variants": {
        "nvar": {"network": {"class_path": "NVAR", "init_args": {"delays": 2}}},
        "analog": {"network": {"class_path": "Analog", "init_args": {"delays": 3, "library": 500}}},
        "edmd": {
            "network": {
                "class_path": "EDMD",
                "init_args": {"dictionary": {"class_path": "Monomials", "init_args": {"degree": 2}}},
            }
        },
        "plrnn": {
            "network": {"class_path": "PLRNN", "init_args": {"hidden": 8}},
            "objective": {
                "class_path": "GeneralizedTeacherForcing",
                "init_args": {"steps": 10, "alpha": {"class_path": "AdaptiveAlpha", "init_args": {}}},
            },
            "residual": False,
        },
        "partial": {"network": PARTIAL, "objective": FORCED},
    },
    "training": {
        "updates": 6,
        "batch_size": 4,
        "checkpoint_every": 3,
        "log_every": 1,
        "accelerator": "cpu",
    },
    "evaluation": {"steps": 60, "samples": 2, "solvers": [], "laboratory": 0, "pictures": False},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    (folder / "few.py").write_text(FILE)
    datasets.generate(folder / "few.py", folder / "data" / "few")
    return folder


def study_of(place: Path, **changes):
    tree = json.loads(json.dumps(TREE))
    tree["data"] = {"path": str(place / "data" / "few"), **changes}
    return read_study(tree, "few")


class Quiet(Reporter):
    """Says nothing."""

    def say(self, text: str) -> None:
        return None


@pytest.fixture(scope="module")
def made(place: Path) -> RunFolder:
    folder, study = RunFolder(place / "run"), study_of(place)
    path = data.prepare(study.data, place, Quiet())
    folder.open(study)
    for variant in study.variants:
        jobs.train(jobs.job(study, variant, 0, path, folder.checkpoint(variant, 0)))
    folder.add_provenance(data=str(path))
    return folder


def test_what_is_fitted_counts_as_one_complete_training(place: Path, made: RunFolder) -> None:
    study = study_of(place)
    for variant, updates in (("nvar", 1), ("plrnn", 6), ("partial", 6)):
        path = made.checkpoint(variant, 0)
        assert jobs.is_done(jobs.job(study, variant, 0, Path(study.data.path), path))
        assert jobs.spent(path)["updates"] == updates
        assert path.with_suffix(".csv").read_text().startswith("update,")
    # Noise changes what is trained on, and with it what a checkpoint is of.
    noisy = study_of(place, noise=0.1)
    with pytest.raises(UserError, match="other data"):
        jobs.is_done(jobs.job(noisy, "nvar", 0, Path(study.data.path), made.checkpoint("nvar", 0)))


def test_a_fitted_surrogate_comes_back_from_its_checkpoint(place: Path, made: RunFolder) -> None:
    step = surrogates.load_surrogate(made.checkpoint("nvar", 0))
    assert isinstance(step, ForecastSurrogate) and step.history == 2 and step.domain == Point()
    true = datasets.open(place / "data" / "few")["test"].trajectories().data
    found = step.forecast(true[:, :50], 20)
    # Quadratic in two states of one system: 20 steps, half a Lyapunov time, within a percent of the spread.
    assert float((found - true[:, 50:70]).abs().max()) < 0.3


def test_all_begin_where_the_longest_memory_does(place: Path, made: RunFolder) -> None:
    evaluate(made, Quiet())
    summary = json.loads((made.path / "summary.json").read_text())
    rows = {row["name"]: row for row in summary["table"]}
    assert set(TREE["variants"]) < set(rows)
    step = surrogates.load_surrogate(made.checkpoint("nvar", 0))
    true = datasets.open(place / "data" / "few")["test"].trajectories().data[:2].double()
    # The analog remembers three states, so the initial state is the third frame for everybody.
    first = step.forecast(true[:, :3], 1)[:, 0]
    expected = (first - true[:, 3]).norm(dim=1) / true[:, 3].norm(dim=1)
    assert rows["nvar"]["nrmse_1"] == pytest.approx(float(expected.mean()), rel=1e-3)  # of two
    kept = (true[:, 2] - true[:, 3]).norm(dim=1) / true[:, 3].norm(dim=1)
    assert rows["persistence"]["nrmse_1"] == pytest.approx(float(kept.mean()), rel=1e-3)


def test_a_truth_begun_later_is_the_same_truth(place: Path) -> None:
    split = datasets.open(place / "data" / "few")["test"]
    whole = from_split(split, 3, dt=0.025)
    later = whole.after(5)
    assert later.reach == whole.reach - 5
    assert torch.equal(later.frames(slice(0, 2), 0, 4), whole.frames(slice(0, 2), 5, 9))
    with pytest.raises(UserError, match="needed as history"):
        whole.after(whole.reach)


def test_noise_is_part_of_the_data_and_leaves_the_test_split_alone(place: Path) -> None:
    study = study_of(place, noise=0.1)
    dataset = data.open_dataset(study.data, Path(study.data.path))
    clean = dataset["train"].trajectories().data
    noisy = data.training_states(study, dataset)
    again = data.training_states(study, dataset)
    assert torch.equal(noisy, again)
    measured = (noisy - clean).std(dim=(0, 1)) / dataset.stats.std.float()
    assert measured.tolist() == pytest.approx(
        [0.1] * 3, rel=0.1
    )  # 1604 numbers a channel: 2 % is one deviation
    windows = data.windows(study, dataset, 7)
    assert len(windows) == 4 * (401 - 7)
    assert torch.equal(windows.__getitems__([0, 400])[1], noisy[1, 6:14])
    assert torch.equal(windows[400], noisy[1, 6:14])
    strided = replace(study, data=replace(study.data, stride=2))
    assert torch.equal(data.training_states(strided, dataset)[4:], noisy[:, 1:400:2])
    with pytest.raises(UserError, match="shorten the horizon"):
        data.windows(study, dataset, 500)
    with pytest.raises(UserError, match="data.noise"):
        study_of(place, noise=-0.1)


def test_an_objective_sees_the_network_itself_where_units_are_the_same() -> None:
    network, one = PLRNN(3, hidden=5), torch.ones(3)
    step = Surrogate(Normalized(network, one, 2 * one), 0.1, Point(), ("x", "y", "z"))
    view = NormalisedView(step, one, 2 * one)
    assert view.inner is network
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(view(z), network(z), rtol=1e-5, atol=1e-6)
    plain = Surrogate(Normalized(torch.nn.Linear(3, 3), one, one), 0.1, Point(), ("x", "y", "z"))
    other = NormalisedView(plain, one, one)
    assert other.inner is other


def test_what_a_forecaster_cannot_have_is_refused(place: Path, tmp_path: Path) -> None:
    tree = json.loads(json.dumps(TREE))
    tree["data"] = {"path": str(place / "data" / "few")}
    tree["variants"] = {"nvar": {"network": "NVAR", "constraint": "ConservedMean"}}
    study = read_study(tree, "few")
    with pytest.raises(UserError, match="carries more than that"):
        jobs.train(jobs.job(study, "nvar", 0, place / "data" / "few", tmp_path / "a.pt"))
    dataset = data.open_dataset(study.data, place / "data" / "few")
    surrogate = surrogates.build(study_of(place).variants["nvar"], data.facts(study, dataset), seed=0)
    assert is_fitted_at_once(surrogate)
    with pytest.raises(UserError, match="T >= 3"):
        fit_at_once(surrogate, torch.zeros(1, 2, 3), tmp_path / "b.pt", header={}, seed=0)


def test_the_documented_forecaster_of_ones_own_is_fitted_and_stored(place: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "extend" / "model.md").read_text()
    code = page.split("# my_forecast.py\n")[1].split("```")[0]
    (tmp_path / "my_forecast.py").write_text(code)
    tree = json.loads(json.dumps(TREE))
    tree["data"] = {"path": str(place / "data" / "few")}
    tree["variants"] = {"mine": {"network": f"{tmp_path / 'my_forecast.py'}:Straight"}}
    study = read_study(tree, "few")
    jobs.train(jobs.job(study, "mine", 0, place / "data" / "few", tmp_path / "a.pt"))
    step = surrogates.load_surrogate(tmp_path / "a.pt")
    true = datasets.open(place / "data" / "few")["test"].trajectories().data
    error = (step.forecast(true[:, :2], 1)[:, 0] - true[:, 2]).norm()
    assert float(error) < 0.5 * float((true[:, 1] - true[:, 2]).norm())
