"""Generation: reproducible to the byte, resumable, and honest about its own error."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml import Grid
from sciml.calculus import Spectral
from sciml.datasets import writer
from sciml.datasets.certificate import certify
from sciml.datasets.generate import draw_batch, make_shard
from sciml.datasets.recipe import recipe_of
from sciml.errors import UserError
from sciml.experiments.cli import main
from sciml.fields import RandomFourier
from sciml.pdes import Advection, Heat, NavierStokes
from sciml.resample import resample
from sciml.solvers import build
from sciml.step import rollout

RECIPE = datasets.Recipe(
    name="warm",
    title="Heat for the tests",
    pde=Heat,
    parameters={"diffusivity": datasets.LogUniform(1e-3, 1e-2)},
    domain=Grid((16,), (1.0,)),
    initial=RandomFourier(modes=3),
    dt=0.1,
    steps={"train": 4, "test": 6},
    samples={"train": 7, "test": 2},
    shard_size=3,
)

SLOW = """
import time
from dataclasses import dataclass
import torch
from sciml import Grid
from sciml.datasets import LogUniform, Recipe
from sciml.fields import RandomFourier
from sciml.pdes import Heat
from sciml.solvers import build


def solver(pde, domain, dt, substeps):
    step = build(pde, domain, dt)
    def slow(u):
        time.sleep(DELAY)
        return step(u)
    return slow


RECIPE = Recipe(
    name="slow", title="Heat, slowly", pde=Heat, parameters={"diffusivity": LogUniform(1e-3, 1e-2)},
    domain=Grid((16,), (1.0,)), initial=RandomFourier(modes=3), solver=solver, dt=0.1, steps=4,
    samples={"train": 12}, shard_size=2,
)
"""


def digests(folder: Path) -> dict[str, str]:
    files = sorted((folder / "data").rglob("*.hdf5"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return datasets.generate(RECIPE, tmp_path_factory.mktemp("made") / "warm")


def test_a_generated_folder_is_complete_and_described(made: Path) -> None:
    names = {p.name for p in made.iterdir()}
    described = {"manifest.json", "certificate.json", "stats.yaml", "card.md", "preview.png"}
    assert names == {"data", "audit.json", "audit.png", *described}
    found = datasets.open(made)
    assert found.kind == "native" and found.manifest["complete"] is True
    assert len(found["train"]) == 7 and found["train"].frames == 5 and found["test"].frames == 7
    low, high = found.parameters["diffusivity"]
    assert 1e-3 <= low < high <= 1e-2
    for shard in found.manifest["shards"]:
        assert hashlib.sha256((made / shard["file"]).read_bytes()).hexdigest() == shard["sha256"]
        assert shard["wall_time"] > 0 and shard["dtype"] == "float32"
    card = (made / "card.md").read_text()
    assert "Heat for the tests" in card and "| train | 7 | 5 |" in card and "temperature" in card
    assert (made / "preview.png").read_bytes()[:4] == b"\x89PNG"


def test_samples_solve_the_equation_with_their_own_parameters(made: Path) -> None:
    split = datasets.open(made)["train"]
    for i in (0, 6):
        trajectory = split[i]
        k = torch.fft.rfftfreq(16, 1 / 16, dtype=torch.float64) * 2 * torch.pi
        decay = torch.exp(-trajectory.parameters["diffusivity"] * k.square() * 0.1)
        state = torch.fft.rfft(trajectory.data[0, :, 0].double())
        expected = torch.fft.irfft(state[:-1] * decay, n=16)
        # Stored in float32.
        assert torch.allclose(trajectory.data[0, 1:, 0].double(), expected, atol=3e-7)


def test_a_sample_depends_on_its_own_key_only(made: Path, tmp_path: Path) -> None:
    more = datasets.generate(RECIPE, tmp_path / "more", {"train": 8, "test": 1}, certificate=False)
    a, b = datasets.open(made)["train"], datasets.open(more)["train"]
    assert len(b) == 8 and torch.equal(a.trajectories().data, b.trajectories(slice(0, 7)).data)
    seeds = {
        RECIPE.generator(s, i, t).initial_seed()
        for s in ("train", "test")
        for i in range(5)
        for t in (0, 1)
    }
    assert len(seeds) == 20
    other = replace(RECIPE, seed=1)
    assert other.generator("train", 0).initial_seed() not in seeds


def test_two_workers_give_the_bytes_of_one(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text(SLOW.replace("DELAY", "0.0"))
    for workers in (1, 2):
        datasets.generate(file, tmp_path / str(workers), workers=workers, certificate=False)
    one = digests(tmp_path / "1")
    assert len(one) == 6 and one == digests(tmp_path / "2")


def test_deleted_and_damaged_shards_are_made_again_and_others_kept(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(made, folder)
    before = digests(folder)
    shards = sorted((folder / "data/train").iterdir())
    shards[0].unlink()
    damaged = bytearray(shards[1].read_bytes())
    damaged[-1] ^= 1
    shards[1].write_bytes(damaged)
    kept = shards[2].stat().st_mtime_ns
    left = folder / "data/train/shard-00009.hdf5.part"
    left.write_bytes(b"half")
    told: list[tuple[int, int]] = []
    datasets.generate(RECIPE, folder, progress=lambda done, total: told.append((done, total)))
    assert digests(folder) == before and shards[2].stat().st_mtime_ns == kept and not left.exists()
    assert told[0] == (3, 9) and told[-1] == (9, 9)


def start(file: Path, out: Path) -> subprocess.Popen[bytes]:
    code = f"import sciml.datasets as d; d.generate({str(file)!r}, {str(out)!r}, certificate=False)"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)


def wait_for_shards(out: Path, process: subprocess.Popen[bytes], count: int) -> None:
    for _ in range(1200):
        if len(list(out.glob("data/train/*.hdf5"))) >= count:
            return
        assert process.poll() is None, process.stderr.read().decode() if process.stderr else ""
        time.sleep(0.05)
    raise AssertionError("no shard was written within a minute")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_is_resumed_to_the_same_bytes(tmp_path: Path, how: signal.Signals) -> None:
    file, out = tmp_path / "slow.py", tmp_path / "out"
    file.write_text(SLOW.replace("DELAY", "0.1"))
    process = start(file, out)
    wait_for_shards(out, process, 2)
    os.kill(process.pid, how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    before = len(digests(out))
    assert 2 <= before < 6
    for shard in out.glob("data/train/*.hdf5"):
        datasets.open(shard)["train"].trajectories()  # whatever has a final name is whole
    if how is signal.SIGINT:
        assert not list(out.rglob("*.part"))
    assert "generation did not finish" in " ".join(datasets.open(out).notes)
    datasets.generate(file, out, certificate=False)
    fresh = datasets.generate(file, tmp_path / "fresh", certificate=False)
    assert digests(out) == digests(fresh) and not list(out.rglob("*.part"))


@dataclass(frozen=True)
class SometimesHuge:
    """Overflows float32 on its way for about half of the draws."""

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        size = 1e39 if float(torch.rand((), generator=generator)) < 0.5 else 1.0
        return size * RandomFourier(modes=3)(domain, channels, generator)


def test_samples_that_blow_up_are_drawn_again_and_recorded(tmp_path: Path) -> None:
    recipe = replace(RECIPE, name="huge", initial=SometimesHuge(), samples={"train": 9}, steps=2)
    folder = datasets.generate(recipe, tmp_path / "a", certificate=False)
    again = datasets.generate(recipe, tmp_path / "b", certificate=False)
    assert digests(folder) == digests(again)
    rejected = [r for s in datasets.open(folder).manifest["shards"] for r in s["rejected"]]
    expected = [
        i for i in range(9) if float(torch.rand((), generator=skip(recipe.generator("train", i)))) < 0.5
    ]
    assert sorted(r["index"] for r in rejected if r["attempt"] == 0) == expected and len(expected) > 1
    assert float(datasets.open(folder)["train"].trajectories().data.abs().max()) < 2.0


def skip(generator: torch.Generator) -> torch.Generator:
    """Past the draw of the diffusivity."""
    torch.rand((), dtype=torch.float64, generator=generator)
    return generator


@dataclass(frozen=True)
class AlwaysHuge:
    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        return torch.full((channels, *domain.shape), 1e39, dtype=torch.float64)


def test_an_unstable_recipe_is_told(tmp_path: Path) -> None:
    recipe = replace(RECIPE, name="huge", initial=AlwaysHuge())
    with pytest.raises(UserError, match="sample 0 of 'train' blew up in 20 draws, last at frame 0"):
        datasets.generate(recipe, tmp_path / "a")


def test_refusals(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="has no split validation; it has train, test"):
        datasets.generate(RECIPE, tmp_path / "a", {"validation": 3})
    with pytest.raises(UserError, match="holds a dataset of recipe 'warm' as it was then"):
        datasets.generate(replace(RECIPE, dt=0.2), made)
    with pytest.raises(UserError, match="made for 7 samples of 'train' and 6 are asked for"):
        datasets.generate(RECIPE, made, {"train": 6})
    stranger = tmp_path / "b"
    stranger.mkdir()
    (stranger / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="not empty .thesis.tex. and holds no dataset"):
        datasets.generate(RECIPE, stranger)
    with pytest.raises(UserError, match="workers=0"):
        datasets.generate(RECIPE, tmp_path / "a", workers=0)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(UserError, match="The disk is full: .* needs about"):
        datasets.generate(RECIPE, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_functions_of_a_session_cannot_be_sent_to_workers(tmp_path: Path) -> None:
    recipe = replace(RECIPE, pde=lambda diffusivity: Heat(diffusivity))
    with pytest.raises(UserError, match="cannot be sent to worker processes.*Put it into a .py file"):
        datasets.generate(recipe, tmp_path / "a", workers=2)


def test_finer_generation_is_stored_by_truncation_and_starts_from_the_same_function(tmp_path: Path) -> None:
    fine = replace(RECIPE, resolution_factor=4, name="warm")
    a = datasets.generate(fine, tmp_path / "a", certificate=False)
    b = datasets.generate(RECIPE, tmp_path / "b", certificate=False)
    states = [datasets.open(p)["train"].trajectories().data for p in (a, b)]
    # Band-limited states of a linear equation: both grids hold the very same functions.
    assert torch.allclose(states[0], states[1], atol=2e-7)


def wrong_speed(pde: Advection, domain: Grid, dt: float, substeps: int | None) -> object:
    """Off by an error of first order in the spacing, which the certificate has to find."""
    from sciml.solvers import build

    return build(Advection(1.0 + domain.spacing[0]), domain, dt)


def test_the_certificate_measures_a_known_error(tmp_path: Path) -> None:
    wave = datasets.Recipe(
        name="wave",
        title="A wave at a slightly wrong speed",
        pde=Advection,
        domain=Grid((64,), (1.0,)),
        initial=RandomFourier(modes=1),
        solver=wrong_speed,  # type: ignore[arg-type]
        dt=0.05,
        steps=10,
        samples={"test": 2},
    )
    found = certify(wave)
    # Two sines shifted against each other by (dx - dx/2) t differ by 2 sin(pi shift).
    expected = [2 * abs(torch.sin(torch.tensor(torch.pi * t / 128)).item()) for t in found["times"]]
    assert found["error"]["concentration"]["max"] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    last = max(t for t, e in zip(found["times"], expected, strict=True) if e < 0.01)
    assert found["within_one_percent_until"]["concentration"] == pytest.approx(last)
    assert found["invariants"]["content"]["relative"] < 1e-13


def test_an_exact_recipe_has_no_error(made: Path) -> None:
    found = datasets.open(made).certificate
    assert found is not None and max(found["error"]["temperature"]["max"]) < 1e-12
    # Half a unit in the last place of float32 for values up to one.
    assert 0 < found["rounding"]["temperature"] <= 2**-25
    json.dumps(found, allow_nan=False)


def test_recipe_of_a_manifest_is_found_only_while_it_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(SLOW.replace("DELAY", "0.0"))
    folder = datasets.generate(file, tmp_path / "a", {"train": 2}, certificate=False)
    found = datasets.open(folder)
    assert found.recipe is not None and found.recipe.name == "slow"
    file.write_text(file.read_text().replace("modes=3", "modes=2"))
    assert recipe_of(found.manifest) is None


def test_one_thread_is_used_and_put_back(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        make_shard(RECIPE, tmp_path, "train", 0, 3)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("factor", [1, 2])
def test_drawn_states_are_projected_before_they_are_stored(factor: int, tmp_path: Path) -> None:
    """Random velocities have divergence; what is stored at time 0 is the flow that the solver starts from."""
    grid = Grid((12, 16), (1.0, 2.0))
    recipe = datasets.Recipe(
        name="flow",
        title="Flow for the tests",
        pde=NavierStokes,
        parameters={"viscosity": datasets.LogUniform(1e-2, 1e-1)},
        domain=grid,
        initial=RandomFourier(modes=3),
        dt=0.05,
        steps=3,
        samples={"train": 2},
        shard_size=2,
        resolution_factor=factor,
    )
    fine = recipe.domain_at(factor)
    assert isinstance(fine, Grid)
    parameters, start = draw_batch(recipe, "train", [(0, 0), (1, 0)], fine)
    drawn = torch.stack([recipe.draw("train", i, fine, 2)[1] for i in (0, 1)])
    calculus = Spectral(fine)
    # The derivative of the shortest wave multiplies rounding by some tens.
    assert float(calculus.div(start.unsqueeze(1)).abs().max()) < 1e-12
    assert float(calculus.div(drawn.unsqueeze(1)).abs().max()) > 1.0
    assert torch.equal(start, NavierStokes().project(drawn, calculus))
    split = datasets.open(datasets.generate(recipe, tmp_path / "flow", certificate=False))["train"]
    stored = split.trajectories()
    solver = build(recipe.equation(parameters, fine), fine, recipe.dt)
    path = rollout(solver, 3)(start)
    expected = path if factor == 1 else torch.stack([resample(u, fine, grid) for u in path.unbind(1)], 1)
    # One unit in the last place of float32 for values up to two: threads may round otherwise.
    assert float((stored.data - expected.float()).abs().max()) <= 2**-23
    # Nor does it go through the drawn state: the solver's own projection changes nothing but rounding.
    again = rollout(solver, 3)(drawn)
    assert float((again[:, 1:] - path[:, 1:]).abs().max()) < 1e-13


WILD = """
from sciml import Grid
from sciml.datasets import Constant, Recipe
from sciml.fields import RandomFourier
from sciml.pdes import Burgers

RECIPE = Recipe(
    name="wild", title="Burgers, too fast", pde=Burgers, parameters={"viscosity": Constant(1e-4)},
    domain=Grid((128,), (1.0,)), initial=RandomFourier(modes=3, amplitude=30.0), dt=0.05, steps=3,
    substeps=8, samples={"train": 4}, shard_size=2,
)
"""


@pytest.mark.parametrize("warmup", [0, 3])
def test_a_blow_up_says_when_where_and_why_and_a_mended_recipe_goes_on(warmup: int, tmp_path: Path) -> None:
    file, out = tmp_path / "wild.py", tmp_path / "out"
    text = WILD.replace("shard_size=2", f"shard_size=2, warmup={warmup}")
    file.write_text(text)
    when = "during the warm-up" if warmup else "at frame 1"
    with pytest.raises(UserError, match=f"sample 0 of 'train' blew up in 20 draws, last {when}") as fault:
        datasets.generate(file, out)
    said = str(fault.value)
    assert (
        "sample 0 is not finite from step 1 (t = 0.05) on; before it |velocity_x| reached 30 at (0." in said
    )
    assert "The substep 0.00625 is too long for it" in said and "Take 24 times as many substeps" in said
    file.write_text(text.replace("amplitude=30.0", "amplitude=0.3"))
    assert len(datasets.open(datasets.generate(file, out, certificate=False))["train"]) == 4


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "Constant(1e-4)",
            "Constant(-1e-4)",
            "Burgers got viscosity=-0.0001; expected finite values of at least 0",
        ),
        ("Constant(1e-4)", "Constant('1e-4')", "viscosity='1e-4'; expected a number"),
        ('"viscosity"', '"viscosty"', "unexpected keyword argument 'viscosty'. It takes .'viscosity'."),
        ("dt=0.05", "dt=-0.05", "dt=-0.05; expected a positive time"),
        ("steps=3", "steps='3'", "steps='3'; expected a whole number"),
        ("(1.0,))", "(1.0,), centering='cell')", "grid of cells; it is solved at nodes"),
        ("(1.0,))", "(1.0,), centering='nodes')", "centering 'nodes'; expected one of"),
        ("(128,)", "(1,)", "sizes must be at least 2"),
        ("(128,)", "(6,)", "3 modes on a grid of .6,.; it needs more than 6 points"),
        ("substeps=8", "substeps=1", "The limit is about 0.00781: use at least 7 substeps"),
    ],
)
def test_a_recipe_with_a_mistake_is_refused_by_the_command(
    old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert WILD.count(old) == 1
    (tmp_path / "wild.py").write_text(WILD.replace(old, new))
    assert (
        main(["generate", str(tmp_path / "wild.py"), "--out", str(tmp_path / "out"), "--workers", "1"]) == 2
    )
    said = capsys.readouterr().err
    assert re.search(message, said) and "Traceback" not in said
