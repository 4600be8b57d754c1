from __future__ import annotations

import csv
import signal
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from sciml.errors import UserError
from sciml.experiments.config import TrainingSettings
from sciml.experiments.files import load_tensors
from sciml.experiments.surrogates import FORMAT
from sciml.experiments.training import Interrupted, Training, fit, make_optimizer


class Noisy(nn.Module):
    """A loss that draws from the generator it is given, owns a parameter, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, step, window, generator=None):
        self.calls += 1
        noise = 0.1 * torch.randn(window[:, 0].shape, generator=generator)
        loss = (step(window[:, 0] + noise) - window[:, 1]).square().mean() + (self.scale - 0.5).square()
        return loss, {"one": loss.detach()}


class Pairs(torch.utils.data.Dataset):
    """u -> -0.5 u + 0.1 on 8 points."""

    def __init__(self, count: int = 10) -> None:
        u = torch.randn(count, 1, 1, 8, generator=torch.Generator().manual_seed(0))
        self.data = torch.cat([u, -0.5 * u + 0.1], dim=1)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i]

    def __getitems__(self, indices):
        return self.data[indices]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.2), nn.Tanh(), nn.Linear(16, 8))


SETTINGS = TrainingSettings(
    updates=6, batch_size=4, learning_rate=1e-2, warmup=2, checkpoint_every=2, log_every=1,
    ema=0.9, accelerator="cpu", polish=40, clip=1.0,
)  # fmt: skip
HEADER = {"format": FORMAT, "seed": 3}


def train(path, settings=SETTINGS, stop_at: int | None = None, loss: nn.Module | None = None):
    stop = threading.Event()

    def tell(done: int, total: int, note: str) -> None:
        if done == stop_at:
            stop.set()

    return fit(
        network(), loss or Noisy(), Pairs(), settings, path, header=HEADER, seed=3, tell=tell, stop=stop,
        units=(torch.tensor([0.1]), torch.tensor([2.0])),
    )  # fmt: skip


@pytest.mark.parametrize("stops", [(3,), (1, 2, 5), (7,)])
def test_interrupting_and_resuming_gives_the_same_bits(tmp_path, stops):
    straight = train(tmp_path / "straight.pt")
    for stop_at in stops:  # 7 lies in the L-BFGS phase; dropout uses torch's own generator
        with pytest.raises(Interrupted, match=f"update {stop_at + 1} of 8|update {stop_at} of 8"):
            train(tmp_path / "resumed.pt", stop_at=stop_at)
    resumed = train(tmp_path / "resumed.pt")
    assert resumed.updates == straight.updates == 8
    for a, b in zip(straight.surrogate.parameters(), resumed.surrogate.parameters(), strict=True):
        assert torch.equal(a, b)
    first, second = (load_tensors(tmp_path / f"{n}.pt")["training"] for n in ("straight", "resumed"))
    for part in ("step", "objective"):
        assert all(torch.equal(first[part][k], second[part][k]) for k in first[part])
    history = [(tmp_path / f"{n}.csv").read_text().splitlines() for n in ("straight", "resumed")]
    assert len(history[0]) == len(history[1]) == 9  # a line each and the head: none twice


def test_a_finished_training_is_not_repeated(tmp_path):
    first = train(tmp_path / "a.pt")
    before = (tmp_path / "a.pt").stat().st_mtime_ns
    again = train(tmp_path / "a.pt")
    assert (tmp_path / "a.pt").stat().st_mtime_ns == before
    for a, b in zip(first.surrogate.parameters(), again.surrogate.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_global_generator_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tmp_path / "a.pt")
    assert torch.equal(torch.rand(3), expected)


def test_it_learns(tmp_path):
    class Plain(Noisy):
        def forward(self, step, window, generator=None):
            loss = (step(window[:, 0]) - window[:, 1]).square().mean()
            return loss, {}

    settings = TrainingSettings(updates=300, batch_size=10, learning_rate=1e-2, accelerator="cpu")
    model, loss = nn.Linear(8, 8), Plain()
    nn.init.zeros_(model.weight)
    out = fit(model, loss, Pairs(), settings, tmp_path / "a.pt", header=HEADER, seed=3)
    u = Pairs().data[:, 0]
    # 300 updates of a linear map on ten samples of which it has eight unknowns a row: well below the start of 0.3.
    with torch.no_grad():
        assert float((out.surrogate(u) - (-0.5 * u + 0.1)).square().mean()) < 5e-3


def test_rate_rises_and_falls_as_printed():
    module = Training(nn.Linear(1, 1), Noisy(), TrainingSettings(warmup=2000), 10_000)
    assert module.rate(0) == 0.0 and module.rate(1000) == 0.5 and module.rate(2000) == 1.0
    assert module.rate(6000) == pytest.approx(0.5) and module.rate(10_000) == pytest.approx(0.0, abs=1e-15)


def test_a_loss_that_is_not_finite_ends_with_advice(tmp_path):
    class Bad(Noisy):
        def forward(self, step, window, generator=None):
            total, parts = super().forward(step, window, generator)
            return total * float("nan"), parts

    with pytest.raises(UserError, match="lower training.learning_rate"):
        train(tmp_path / "a.pt", loss=Bad())
    assert not (tmp_path / "a.pt").exists()


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    train(tmp_path / "a.pt")
    with pytest.raises(UserError, match="another model"):
        fit(nn.Linear(8, 8), Noisy(), Pairs(), SETTINGS, tmp_path / "a.pt", header=HEADER, seed=3)
    with pytest.raises(UserError, match="training of 8 updates"):
        longer = TrainingSettings(updates=60, accelerator="cpu")
        fit(network(), Noisy(), Pairs(), longer, tmp_path / "a.pt", header=HEADER, seed=3)


def test_first_interrupt_asks_the_second_insists():
    from sciml.experiments.training import stop_on_interrupt

    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stop_on_interrupt(stop):
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    "optimizer",
    [
        *("adam", "adamw", "NAdam", "Lion", "Muon", "AuON", "ROOT"),
        {"class_path": "SOAP", "init_args": {"frequency": 2}},
        "pytorch_optimizer.DiffGrad",
    ],
)
def test_every_optimiser_goes_on_with_the_same_bits(tmp_path, optimizer):
    settings = replace(SETTINGS, optimizer=optimizer, polish=0, schedule="linear", weight_decay=0.1)
    straight = train(tmp_path / "straight.pt", settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "resumed.pt", settings, stop_at=3)
    resumed = train(tmp_path / "resumed.pt", settings)
    for a, b in zip(straight.surrogate.parameters(), resumed.surrogate.parameters(), strict=True):
        assert torch.equal(a, b)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(straight.surrogate.parameters(), network().parameters(), strict=True)
    )


VARIED = [
    {"swa": 0.5, "swa_rate": 0.2, "polish": 0, "ema": None},
    {"schedule": "linear", "ema": 0.5, "curvature_every": 2},
    {"polisher": {"class_path": "QuasiNewton", "init_args": {"scaling": "ssbfgs"}}, "precision": "64-true"},
    {"polisher": "QuasiNewton", "optimizer": "Muon", "schedule": "constant"},
]


@pytest.mark.parametrize(
    ("changes", "stop_at"),
    list(zip(VARIED, (4, 2, 7, 6), strict=True)),
    ids=["swa", "ema", "ssbfgs", "muon"],
)
def test_every_schedule_and_average_goes_on_with_the_same_bits(tmp_path, changes, stop_at):
    settings = replace(SETTINGS, **changes)
    straight = train(tmp_path / "straight.pt", settings)
    if stop_at < straight.updates:
        with pytest.raises(Interrupted):
            train(tmp_path / "resumed.pt", settings, stop_at=stop_at)
    resumed = train(tmp_path / "resumed.pt", settings)
    for a, b in zip(straight.surrogate.parameters(), resumed.surrogate.parameters(), strict=True):
        assert torch.equal(a, b)
    first, second = (load_tensors(tmp_path / f"{n}.pt")["training"] for n in ("straight", "resumed"))
    assert all(torch.equal(first["step"][k], second["step"][k]) for k in first["step"])
    assert torch.equal(first["generator"], second["generator"])


def history(path):
    with open(path, newline="") as stream:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(stream)]


def test_measuring_the_curvature_changes_nothing_else(tmp_path):
    settings = replace(SETTINGS, polish=0)
    plain = train(tmp_path / "plain.pt", settings)
    loss = Noisy()
    watched = train(tmp_path / "watched.pt", replace(settings, curvature_every=3), loss=loss)
    for a, b in zip(plain.surrogate.parameters(), watched.surrogate.parameters(), strict=True):
        assert torch.equal(a, b)
    assert int(loss.calls) == 6
    rows = history(tmp_path / "watched.csv")
    assert [row["update"] for row in rows if "curvature" in row] == [3, 6]
    for row in rows[2::3]:
        assert row["rate_times_curvature"] == pytest.approx(row["rate"] * row["curvature"])
        assert row["curvature"] > 0 and row["drift"] >= 0 and 0 < row["drift_adjusted_rate"] <= 5


def test_a_plain_mean_is_taken_over_the_last_part_at_a_constant_rate(tmp_path):
    settings = TrainingSettings(
        updates=40, batch_size=4, learning_rate=1e-2, swa=0.25, swa_rate=0.3, schedule="linear", log_every=1,
        accelerator="cpu", checkpoint_every=1,
    )  # fmt: skip
    states = []

    class Watched(Noisy):
        def forward(self, step, window, generator=None):
            inner = step.step
            states.append([p.detach().clone() for p in inner.parameters()])
            return super().forward(step, window, generator)

    out = train(tmp_path / "a.pt", settings, loss=Watched())
    rates = [row["rate"] for row in history(tmp_path / "a.csv")]
    assert rates[0] == pytest.approx(1e-2 * (1 - 1 / 30)) and rates[14] == pytest.approx(5e-3)
    assert rates[21:] == pytest.approx([3e-3] * 19)
    last = [p.detach() for p in load_tensors(tmp_path / "a.pt")["training"]["step"].values()]
    seen = [*states[31:], last]  # after updates 31 to 40
    for mean, *values in zip(out.surrogate.parameters(), *seen, strict=True):
        assert torch.allclose(mean, torch.stack(values).mean(0), rtol=0, atol=1e-6)


def test_the_refined_schedule_follows_the_pilots_gradients(tmp_path):
    with open(tmp_path / "pilot.csv", "w") as stream:
        stream.write("update,gradient_norm,gradient_l1\n")
        # Gradients twice as large in the second half.
        stream.writelines(f"{k},1,{1 if k <= 50 else 2}\n" for k in range(1, 101))
    settings = TrainingSettings(
        updates=20, batch_size=4, learning_rate=1e-2, schedule="refined", pilot=str(tmp_path / "pilot.csv"),
        log_every=1, accelerator="cpu",
    )  # fmt: skip
    train(tmp_path / "a.pt", settings)
    rates = [row["rate"] for row in history(tmp_path / "a.csv")]
    # weights 1 and 1/2: what is left falls from 0.75 to 0.25, then from 0.125 to 0.
    expected = [
        (0.75 - k / 20) / 0.75 if k < 10 else (0.5 - (k - 10) / 20) / 4 / 0.75 * 1.0 for k in range(1, 20)
    ]
    for k, (a, b) in enumerate(zip(rates, expected, strict=False), start=1):
        if abs(k - 10) > 1:  # the median smooths the jump
            assert a == pytest.approx(1e-2 * b, rel=0.05)
    (tmp_path / "pilot.csv").unlink()
    train(tmp_path / "a.pt", settings)  # the table is in the checkpoint
    with pytest.raises(UserError, match="pilot.*could not be read"):
        train(tmp_path / "b.pt", settings)
    (tmp_path / "pilot.csv").write_text("update,loss\n1,2\n")
    with pytest.raises(UserError, match="no history with the columns"):
        train(tmp_path / "b.pt", settings)


def test_rates_of_unlike_groups_are_all_told(tmp_path):
    settings = replace(
        SETTINGS, optimizer={"class_path": "Muon", "init_args": {"other_lr": 1e-3}}, polish=0
    )
    # Three matrices, so that one of them is neither first nor last.
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 8))
    fit(net, Noisy(), Pairs(), settings, tmp_path / "a.pt", header=HEADER, seed=3)
    row = history(tmp_path / "a.csv")[1]
    assert row["rate"] == row["rate matrix"] == pytest.approx(10 * row["rate outer matrix"])


def test_a_negative_loss_under_the_root_ends_with_advice(tmp_path):
    class Low(Noisy):
        def forward(self, step, window, generator=None):
            total, parts = super().forward(step, window, generator)
            return total - 100, parts

    settings = replace(SETTINGS, polisher="QuasiNewton")
    with pytest.raises(UserError, match="update 7.*root=False"):
        train(tmp_path / "a.pt", settings, loss=Low())


def test_what_the_objective_owns_is_not_decayed():
    given = TrainingSettings(
        optimizer={"class_path": "Lion", "init_args": {"weight_decay": 0.3}}, weight_decay=0.1
    )
    made = make_optimizer(nn.Linear(2, 2), Noisy(), given)
    assert [g["weight_decay"] for g in made.param_groups] == [0.3, 0.3, 0.0]
    assert [len(g["params"]) for g in made.param_groups] == [1, 1, 1]
    assert made.param_groups[0]["lr"] == given.learning_rate


def test_an_optimiser_that_is_none_is_refused():
    with pytest.raises(UserError, match="expected one of torch's optimisers"):
        make_optimizer(nn.Linear(2, 2), Noisy(), TrainingSettings(optimizer="torch.nn.Identity"))
    with pytest.raises(UserError, match="did you mean Lion"):
        make_optimizer(nn.Linear(2, 2), Noisy(), TrainingSettings(optimizer="Lions"))


def test_a_training_of_seconds_ends_in_time_and_is_not_repeated(tmp_path):
    budget = 2.0
    settings = replace(SETTINGS, seconds=budget, schedule="linear", polish=20)
    with pytest.raises(Interrupted):
        train(tmp_path / "a.pt", settings, stop_at=2)
    done = load_tensors(tmp_path / "a.pt")
    assert done["total"] > done["updates"] == 2 and done["training"]["first"] is None
    out = train(tmp_path / "a.pt", settings)
    content = load_tensors(tmp_path / "a.pt")
    first = content["training"]["first"]
    assert content["total"] == content["updates"] == out.updates == first + 1 > 5
    rows = [row for row in history(tmp_path / "a.csv") if row["update"] <= first]
    assert [row["update"] for row in rows] == list(range(1, first + 1))
    times, rates = [row["seconds"] for row in rows], [row["rate"] for row in rows]
    assert times == sorted(times) and times[-2] < budget <= times[-1]
    # The rate falls with the time that is left; it is set between two lines of the history.
    for k in range(3, first):
        low, high = (1e-2 * max(0.0, 1 - times[i] / budget) for i in (k, k - 1))
        assert low - 1e-9 <= rates[k] <= high + 1e-9
    assert train(tmp_path / "a.pt", settings).updates == out.updates


def test_the_history_holds_the_gradient_before_it_is_clipped(tmp_path):
    class Steep(Noisy):
        def forward(self, step, window, generator=None):
            return 1e3 * sum(p.sum() for p in step.parameters()), {}

    settings = TrainingSettings(updates=4, batch_size=4, clip=1e-3, log_every=2, accelerator="cpu")
    loss = Steep()
    loss.scale.requires_grad_(False)
    train(tmp_path / "a.pt", settings, loss=loss)
    with open(tmp_path / "a.csv") as stream:
        rows = list(csv.DictReader(stream))
    count = sum(p.numel() for p in network().parameters())
    assert len(rows) == 2
    for row in rows:
        assert float(row["gradient_norm"]) == pytest.approx(1e3 * count**0.5, rel=1e-5)
        assert float(row["gradient_l1"]) == pytest.approx(1e3 * count, rel=1e-5)
