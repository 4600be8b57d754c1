"""Fitting the weights of a step to an objective, with Lightning's loop; interrupted and resumed bit for bit."""

from __future__ import annotations

import csv
import io
import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sciml.datasets.order import Order
from sciml.errors import UserError
from sciml.experiments.config import OPTIMIZERS, TrainingSettings
from sciml.experiments.files import save_tensors, write_text
from sciml.experiments.meter import Meter
from sciml.experiments.surrogates import load_weights, read_header
from sciml.models.wrappers import Constrained, Normalized
from sciml.objectives.forced import Latent
from sciml.optimizers import SCHEDULES, WeightAverage, curvature, parameter_groups, refined, tabulated
from sciml.optimizers.schedules import Schedule
from sciml.step import ahead

# More batches than any time will do.
ENDLESS = 2**40

# L-BFGS iterations inside one update of the polishing phase.
POLISH_ITERATIONS = 20


Tell = Callable[[int, int, str], None]
"""(updates done, updates in all, remark)"""


class Interrupted(Exception):
    """The user stopped the training; a checkpoint was written."""


class NormalisedView(nn.Module):
    """A step between states in units of the channels' mean and standard deviation.

    The objective sees this view, so that losses and Jacobians weigh unlike channels alike, while
    constraints inside the step act in physical units.
    """

    def __init__(self, step: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("mean", mean.detach().clone(), persistent=False)
        self.register_buffer("std", std.detach().clone(), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    @property
    def inner(self) -> nn.Module:
        """What an objective sees: the view, or the network inside where that is the same and knows more of itself.

        Such as its exact Jacobian, or an observation of latent numbers; nothing then goes into changing units.
        """
        step: Any = self.step
        network = getattr(step, "forecaster", None)
        if network is None and isinstance(getattr(step, "f", None), Normalized):
            network = step.f.f
        direct = hasattr(network, "jacobian") or isinstance(network, Latent)
        return network if isinstance(network, nn.Module) and direct else self

    def _shaped(self, values: Tensor, u: Tensor, axis: int) -> Tensor:
        return values.to(u).reshape(-1, *[1] * (u.ndim - 1 - axis))

    def normalise(self, u: Tensor, axis: int = 1) -> Tensor:
        """Physical to normalised units; the channels are on `axis`."""
        return (u - self._shaped(self.mean, u, axis)) / self._shaped(self.std, u, axis)

    def _physical(self, u: Tensor) -> Tensor:
        return u * self._shaped(self.std, u, 1) + self._shaped(self.mean, u, 1)

    @property
    def bundle(self) -> int:
        """States that one call gives, see `sciml.step.ahead`."""
        return int(getattr(self.step, "bundle", 1))

    def ahead(self, u: Tensor) -> Tensor:
        """The next states, (B, m, C, *points)."""
        return self.normalise(ahead(self.step, self._physical(u)), axis=2)

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        physical = self._physical(u)
        return self.normalise(self.step(physical) if lead is None else self.step(physical, lead))


class Training(lightning.LightningModule):
    """What Lightning trains: it knows a step and an objective, and nothing else.

    Args:
        step: what is fitted.
        objective: (step, window, generator) -> (total, parts).
        settings: of the optimiser.
        updates: updates of this phase in all, for the schedule.
        polishing: L-BFGS instead of the optimiser that is set.
        seed: of the objective's random draws.
        units: (mean, std) per channel in which the objective sees states; physical units without.
        schedule: progress -> part of the peak, from the settings if left out.
        clock: how much of its time has gone, 0 to 1, where the training is measured in time and not in updates.
    """

    def __init__(
        self,
        step: nn.Module,
        objective: nn.Module,
        settings: TrainingSettings,
        updates: int,
        *,
        polishing: bool = False,
        seed: int = 0,
        units: tuple[Tensor, Tensor] | None = None,
        schedule: Schedule | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__()
        self.step = step
        self.objective = objective
        self.schedule = schedule or SCHEDULES[settings.schedule]
        self.clock = clock
        self.settings = settings
        self.updates = updates
        self.polishing = polishing
        self.seed = seed
        self.view = None if units is None else NormalisedView(step, *units)
        self.generator: torch.Generator | None = None
        self.resumed: Mapping[str, Any] | None = None
        self.loss = torch.tensor(math.nan)
        self.parts: dict[str, Tensor] = {}

    def state(self) -> dict[str, Any]:
        """Weights of step and objective, by name."""
        return {
            "step": {k: v.detach().clone() for k, v in self.step.state_dict().items()},
            "objective": {k: v.detach().clone() for k, v in self.objective.state_dict().items()},
        }

    def on_fit_start(self) -> None:
        if self.generator is None:
            self.generator = torch.Generator(device=self.device).manual_seed(self.seed)
        if self.resumed is not None:
            self.generator.set_state(self.resumed["generator"])

    def training_step(self, batch: Any, index: int) -> Tensor:
        if self.polishing:  # a line search needs the same function each time it asks
            assert self.generator is not None
            self.generator.manual_seed(self.seed)
        total, self.parts = self.evaluated(batch, self.generator)
        self.loss = total.detach()
        return total

    def evaluated(self, batch: Any, generator: torch.Generator | None) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective and its parts on a batch."""
        step: nn.Module = self.step
        if self.view is not None:
            step, batch = self.view.inner, self.view.normalise(batch, axis=2)
        return self.objective(step, batch, generator)

    def curvature(self, batch: Any) -> dict[str, float]:
        """What the loss's curvature on a batch says of the rate; draws and buffers are left as they were."""
        assert self.generator is not None
        generator = torch.Generator(device=self.device)
        generator.set_state(self.generator.get_state())
        buffers = [(b, b.detach().clone()) for b in self.buffers()]
        with torch.random.fork_rng(devices=list(range(torch.cuda.device_count()))):
            found = curvature(
                lambda: self.evaluated(batch, generator)[0],
                list(self.parameters()),
                generator=torch.Generator(device=self.device).manual_seed(self.seed),
            )
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        rate = peak_rate(self.trainer.optimizers[0])
        return {
            "curvature": found.largest,
            "rate_times_curvature": rate * found.largest,
            "drift": found.drift(rate),
            "drift_adjusted_rate": found.adaptive_rate(),
        }

    def configure_optimizers(self) -> Any:
        s = self.settings
        if self.polishing:
            polisher = make_polisher(self.step, self.objective, s)
            if self.resumed is not None:
                polisher.load_state_dict(self.resumed["optimizer"])
            return polisher
        optimizer = make_optimizer(self.step, self.objective, s)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        if self.resumed is not None:
            scheduler.load_state_dict(self.resumed["scheduler"])
            optimizer.load_state_dict(self.resumed["optimizer"])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def rate(self, update: int) -> float:
        """Learning rate of an update as a part of its peak: linear rise from zero, then as the schedule says.

        In a training that is measured in time the schedule runs from the start, beside the rise.
        """
        s = self.settings
        rise = update / s.warmup if update < s.warmup else 1.0
        if self.clock is not None:
            return rise * self._fallen(self.clock())
        if update < s.warmup:
            return rise
        return self._fallen((update - s.warmup) / max(1, self.updates - s.warmup))

    def _fallen(self, progress: float) -> float:
        """The schedule, ended early where the last part of the training has a constant rate."""
        swa = self.settings.swa
        if swa is None:
            return self.schedule(min(1.0, progress))
        early = progress / (1 - swa)
        return self.settings.swa_rate if early >= 1 else max(self.settings.swa_rate, self.schedule(early))


def peak_rate(optimizer: torch.optim.Optimizer) -> float:
    """The present rate of the weights that the optimiser is named for."""
    groups = optimizer.param_groups
    main = [g for g in groups if g.get("kind", "other") != "other" and not g.get("outer")]
    return float((main or groups)[0]["lr"])


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """The present rate, and those of each kind of weights where they are not all the same."""
    found = {"rate": peak_rate(optimizer)}
    if len({g["lr"] for g in optimizer.param_groups}) > 1:
        for group in optimizer.param_groups:
            name = ("outer " if group.get("outer") else "") + str(group.get("kind", "other"))
            found[f"rate {name}"] = float(group["lr"])
    return found


def refined_rates(settings: TrainingSettings) -> list[float]:
    """The table of a refined schedule from the history of its pilot run.

    Raises:
        UserError: there is no such file, or it holds no norms of gradients.
    """
    assert settings.pilot is not None  # the settings saw to it
    path = Path(settings.pilot)
    plain = settings.optimizer in ("SGD", "torch.optim.SGD") or (
        isinstance(settings.optimizer, Mapping) and str(settings.optimizer["class_path"]).endswith("SGD")
    )
    column, power = ("gradient_norm", 2.0) if plain else ("gradient_l1", 1.0)
    try:
        with open(path, newline="") as stream:
            rows = [(float(r["update"]), float(r[column])) for r in csv.DictReader(stream) if r.get(column)]
        updates, norms = zip(*sorted(dict(rows).items()), strict=True)
        # At equal distances, since lines of interruptions may lie between.
        places = np.linspace(updates[0], updates[-1], min(1000, max(2, int(updates[-1]))))
        return list(refined(np.interp(places, updates, norms).tolist(), power))
    except OSError as error:
        raise UserError(f"training.pilot: {path} could not be read: {error.strerror}.") from error
    except (ValueError, KeyError) as error:
        raise UserError(
            f"training.pilot: {path} holds no history with the columns update and {column} ({error}); give the .csv beside "
            "the checkpoint of a finished training."
        ) from error


def make_polisher(
    step: nn.Module, objective: nn.Module, settings: TrainingSettings
) -> torch.optim.Optimizer:
    """The quasi-Newton method that ends a training.

    Raises:
        UserError: the component refuses its arguments or the parameters.
    """
    from sciml.experiments import components

    parameters = [p for p in (*step.parameters(), *objective.parameters()) if p.requires_grad]
    if settings.polisher == "lbfgs":
        return torch.optim.LBFGS(
            parameters,
            max_iter=POLISH_ITERATIONS,
            history_size=50,
            tolerance_grad=1e-12,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )
    facts = {"params": parameters, "max_iter": POLISH_ITERATIONS}
    made = components.build(settings.polisher, "training.polisher", "optimizer", facts)
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(
            f"training.polisher is a {type(made).__name__}; expected one of torch's optimisers."
        )
    return made


def make_optimizer(
    step: nn.Module, objective: nn.Module, settings: TrainingSettings
) -> torch.optim.Optimizer:
    """The optimiser of the settings for the parameters of a step and of its objective.

    Raises:
        UserError: the component refuses its arguments or the parameters.
    """
    from sciml.experiments import components

    chosen = settings.optimizer
    component = OPTIMIZERS.get(chosen, chosen) if isinstance(chosen, str) else chosen
    _, given = components.split(component, "training.optimizer")
    weight_decay = float(given.get("weight_decay", settings.weight_decay))
    # What regularisers learn beside the step (an adaptive weight) must not be pulled to zero.
    own = [p for p in objective.parameters() if p.requires_grad]
    groups = [{**group, "weight_decay": weight_decay} for group in parameter_groups(step)]
    if own:
        groups.append({"params": own, "kind": "other", "outer": True, "weight_decay": 0.0})
    facts = {
        "params": groups,
        "lr": settings.learning_rate,
        "weight_decay": weight_decay,
    }
    made = components.build(component, "training.optimizer", "optimizer", facts)
    if not isinstance(made, torch.optim.Optimizer):
        raise UserError(
            f"training.optimizer is a {type(made).__name__}; expected one of torch's optimisers, or a class that "
            "inherits from torch.optim.Optimizer."
        )
    return made


@dataclass
class Outcome:
    """How a training ended.

    Args:
        surrogate: the trained step, with averaged weights where the settings ask for them.
        updates: how many updates were done in all.
        loss: the last total loss.
        seconds: wall time of this and earlier sessions.
    """

    surrogate: nn.Module
    updates: int
    loss: float
    seconds: float


class _Keeper(lightning.Callback):
    """Counts, averages weights, writes history and checkpoints, and stops on request."""

    def __init__(
        self,
        path: Path,
        header: Mapping[str, Any],
        settings: TrainingSettings,
        session: _Session,
        tell: Tell | None,
        draws: Mapping[str, Any] | None,
    ) -> None:
        self.path, self.header, self.settings, self.session, self.tell = (
            path,
            header,
            settings,
            session,
            tell,
        )

        self.norms: dict[str, float] = {}
        # States of torch's own generators, which go on from one phase to the next.
        self.draws = draws

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.session.start()

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        # Before clipping, which would hide how the gradient grows.
        self.norms = {}
        if self.noted(module, self.session.done + 1):
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            self.norms = {
                "gradient_norm": float(torch.nn.utils.get_total_norm(gradients)),
                "gradient_l1": float(torch.nn.utils.get_total_norm(gradients, norm_type=1.0)),
            }

    def noted(self, module: Any, update: int) -> bool:
        """Whether an update has a line in the history."""
        s = self.settings
        every = [s.log_every, s.checkpoint_every, s.curvature_every or s.log_every]
        return module.polishing or any(update % n == 0 for n in every)

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        module.resumed = None
        for part in module.step.modules():
            if isinstance(part, Constrained):
                part.progress = self.session.share(self.settings)
        if self.draws is not None:
            torch.set_rng_state(self.draws["rng"])
            if torch.cuda.is_available() and self.draws["cuda_rng"]:
                torch.cuda.set_rng_state_all(self.draws["cuda_rng"])
            self.draws = None

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        session, s = self.session, self.settings
        session.done += 1
        if s.ema is not None:
            session.average.add_exponentially(module.step, s.ema)
        elif s.swa is not None and session.share(s) > 1 - s.swa:
            session.average.add_equally(module.step)
        due = session.done % s.checkpoint_every == 0
        if not module.polishing and s.seconds is not None and session.seconds() >= s.seconds:
            session.first = session.done
            trainer.should_stop = True
        if self.noted(module, session.done) or session.stop.is_set():
            loss = float(module.loss)
            if not math.isfinite(loss):
                raise UserError(
                    f"the training loss became {loss} at update {session.done}; lower training.learning_rate, "
                    "set training.clip, or look for faults in the data with `sciml check`."
                )
            told = {**rates(trainer.optimizers[0]), **self.norms}
            if s.curvature_every and session.done % s.curvature_every == 0 and not module.polishing:
                told |= module.curvature(batch)
            session.record(session.done, loss, {**told, **{k: float(v) for k, v in module.parts.items()}})
            if self.tell is not None:
                self.tell(session.done, session.total, f"loss {loss:.3g}")
        if session.stop.is_set():
            trainer.should_stop = True
        if due or session.stop.is_set():
            self.save(trainer, module)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.session.pause()
        self.save(trainer, module)

    def save(self, trainer: Any, module: Any) -> None:
        """Write everything that is needed to use the model, and to go on as if nothing had happened."""
        session = self.session
        if session.saved == (session.phase, session.done):
            return
        average = session.average.weights
        weights = average if average is not None else module.state()["step"]
        schedulers = trainer.lr_scheduler_configs
        content = {
            **self.header,
            "weights": _on_cpu(weights),
            "updates": session.done,
            "total": session.total,
            "training": _on_cpu(
                {
                    **module.state(),
                    "phase": session.phase,
                    "first": session.first,
                    "average": session.average.state_dict(),
                    "rates": session.rates,
                    "optimizer": trainer.optimizers[0].state_dict(),
                    "scheduler": schedulers[0].scheduler.state_dict() if schedulers else {},
                    "generator": module.generator.get_state(),
                    "rng": torch.get_rng_state(),
                    "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                    "seconds": session.seconds(),
                    "spent": session.meter.read(),
                }
            ),
        }
        save_tensors(self.path, content)
        session.write_history(self.path.with_suffix(".csv"))
        session.saved = (session.phase, session.done)


class _Session:
    """Counters of one training across phases and interruptions.

    Attributes:
        first: updates of the first phase, None as long as only its time is known.
        done: updates of both phases so far.
    """

    def __init__(self, first: int | None, polish: int, limit: float | None, stop: threading.Event) -> None:
        self.first, self.polish, self.limit, self.stop = first, polish, limit, stop
        self.done, self.phase = 0, 0
        self.average = WeightAverage()
        self.rates: list[float] | None = None
        self.saved: tuple[int, int] | None = None
        self.since: float | None = None
        self.before = 0.0
        self.meter = Meter()
        self.rows: list[dict[str, float]] = []

    @property
    def total(self) -> int:
        """Updates of both phases; guessed from the time gone until those of the first are known."""
        if self.first is not None:
            return self.first + self.polish
        assert self.limit is not None
        share = self.seconds() / self.limit
        return max(self.done + 1, round(self.done / max(share, 1e-3))) + self.polish

    def start(self) -> None:
        """Let the clock run."""
        self.meter.start()
        self.since = time.monotonic()

    def pause(self) -> None:
        """Stop the clock."""
        self.meter.pause()
        self.before, self.since = self.seconds(), None

    def seconds(self) -> float:
        """Wall time of the training so far, without that between sessions."""
        return self.before + (0.0 if self.since is None else time.monotonic() - self.since)

    def share(self, settings: TrainingSettings) -> float:
        """How much of the first phase is done, 0 to 1."""
        if settings.seconds is not None:
            return self.seconds() / settings.seconds
        assert self.first is not None
        return self.done / self.first

    def record(self, update: int, loss: float, parts: Mapping[str, float]) -> None:
        self.rows.append({"update": update, "seconds": self.seconds(), "loss": loss, **parts})

    def write_history(self, path: Path) -> None:
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        stream = io.StringIO()
        writer = csv.DictWriter(stream, names or ["update"], restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(path, stream.getvalue())

    def read_history(self, path: Path) -> None:
        """Take over the lines of earlier sessions up to the checkpoint's update."""
        if not path.is_file():
            return
        with open(path, newline="") as stream:
            for row in csv.DictReader(stream):
                try:
                    numbers = {k: float(v) for k, v in row.items() if v}
                except ValueError:
                    continue
                if numbers.get("update", math.inf) <= self.done:
                    self.rows.append(numbers)


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        return {k: _on_cpu(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_on_cpu(v) for v in value]
    return value


@contextmanager
def stop_on_interrupt(stop: threading.Event) -> Iterator[None]:
    """The first Ctrl-C sets `stop`, the second interrupts at once. Elsewhere than in the main thread, nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advertisements and its advice on workers out of our output."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*(num_workers|many workers|LeafSpec|_pytree).*")
            yield
    finally:
        logger.setLevel(level)


def total_updates(settings: TrainingSettings, windows: int) -> int:
    """Updates of the first phase: as set, or passes times whole batches per pass."""
    if settings.epochs is None:
        return settings.updates
    return settings.epochs * max(1, windows // min(settings.batch_size, max(1, windows)))


def fit(
    step: nn.Module,
    objective: nn.Module,
    windows: Dataset[Any],
    settings: TrainingSettings,
    path: Path,
    *,
    header: Mapping[str, Any],
    seed: int = 0,
    units: tuple[Tensor, Tensor] | None = None,
    tell: Tell | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Train `step` on `windows`, or go on from the checkpoint at `path`, and leave a checkpoint there.

    On one machine, a training that was stopped and resumed ends with the same bits as one that ran
    through. Checkpoints are written every `settings.checkpoint_every` updates and when stopped.

    Args:
        step: what is fitted, in place.
        objective: its loss; parameters that it owns are fitted too.
        windows: `windows[i]`, or `__getitems__` returning a batch at once, as the objective wants them.
        settings: how long and with what.
        path: checkpoint file.
        header: what the checkpoint holds beside weights and states (`surrogates.header`).
        seed: of the order of batches and of the objective's draws.
        units: see `Training`.
        tell: called with (updates done, updates in all, remark).
        stop: set it to stop after the current update; Ctrl-C does.

    Raises:
        Interrupted: stopped before the end.
        UserError: the checkpoint is of another model or another training, the loss is not finite, or the
            disk is full.
    """
    count = len(windows)  # type: ignore[arg-type]
    planned = None if settings.seconds is not None else total_updates(settings, count)
    polish = math.ceil(settings.polish / POLISH_ITERATIONS)
    session = _Session(planned, polish, settings.seconds, stop or threading.Event())
    resumed: Mapping[str, Any] | None = None
    if path.is_file():
        resumed = _resume(path, header, step, objective, session)
    elif settings.schedule == "refined":
        session.rates = refined_rates(settings)
    if settings.precision == "64-true":
        step.double(), objective.double()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    loss = math.nan
    devices = list(range(torch.cuda.device_count()))
    clock = None if settings.seconds is None else lambda: session.seconds() / float(settings.seconds or 1)
    with stop_on_interrupt(session.stop), torch.random.fork_rng(devices=devices), _quiet_lightning():
        torch.manual_seed(seed)
        for phase, polishing in enumerate((False, True)):
            first = 0 if phase == 0 or session.first is None else session.first
            last = session.first if phase == 0 else session.total
            if last is None:  # how many fit into the time, time will tell
                last = ENDLESS
            if session.done >= last:
                continue
            keeper = _Keeper(path, header, settings, session, tell, resumed)
            module = Training(
                step,
                objective,
                settings,
                planned or 0,
                polishing=polishing,
                seed=seed,
                units=units,
                schedule=None if session.rates is None else tabulated(session.rates),
                clock=clock,
            )
            # A state of the finished phase before says nothing to this phase's optimiser.
            module.resumed = resumed if resumed is not None and resumed["phase"] == phase else None
            resumed = None
            session.phase = phase
            batches = Order(count, settings.batch_size, seed, first=session.done - first, last=last - first)
            trainer = lightning.Trainer(
                accelerator=settings.accelerator,
                devices=1,
                precision=settings.precision,
                max_steps=last - session.done,
                max_epochs=-1,
                gradient_clip_val=None if polishing else settings.clip,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[keeper],
                default_root_dir=path.parent,
            )
            # A generator of its own: making an iterator would otherwise draw from torch's global one.
            loader = DataLoader(
                windows, batch_sampler=batches, collate_fn=_collate(windows), generator=torch.Generator()
            )
            module.train()
            try:
                trainer.fit(module, loader)
            except ArithmeticError as error:
                raise UserError(f"training at update {session.done + 1}: {error}") from error
            loss = float(module.loss)
            step.cpu(), objective.cpu()
            if session.stop.is_set():
                break
    if session.first is None or session.done < session.total:
        raise Interrupted(
            f"stopped at update {session.done} of {session.total}; the checkpoint {path} is complete, and the "
            "same command goes on from there."
        )
    if session.average.weights is not None:
        step.load_state_dict(_on_cpu(session.average.weights))
    return Outcome(step.eval(), session.done, loss, session.seconds())


def _collate(windows: Dataset[Any]) -> Callable[[Any], Any]:
    """Batches that come whole are passed on; single windows are stacked."""
    if hasattr(windows, "__getitems__"):
        return _as_it_is
    return torch.utils.data.default_collate


def _as_it_is(batch: Any) -> Any:
    return batch


def _resume(
    path: Path, header: Mapping[str, Any], step: nn.Module, objective: nn.Module, session: _Session
) -> Mapping[str, Any]:
    """Put the weights of a checkpoint back and say what else the loop has to restore."""
    content = read_header(path)
    training = content["training"]
    same = session.limit is not None or content.get("total") == session.total
    if not same or content["seed"] != header["seed"]:
        expected = f"{session.total} updates" if session.limit is None else f"{session.limit} seconds"
        raise UserError(
            f"{path} belongs to a training of {content.get('total')} updates with seed {content['seed']}; this one "
            f"has {expected} with seed {header['seed']}. Remove the checkpoint to train anew, or give the run another "
            "folder with --out."
        )
    session.first = training["first"]
    load_weights(step, training["step"], path)
    load_weights(objective, training["objective"], path)
    session.done, session.rates = content["updates"], training["rates"]
    session.average.load_state_dict(training["average"])
    session.before, session.phase = training["seconds"], training["phase"]
    session.meter.go_on(training.get("spent", {}))
    session.saved = (session.phase, session.done)
    session.read_history(path.with_suffix(".csv"))
    return training
