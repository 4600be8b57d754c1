"""What a study says: data, variants, training, seeds, evaluation. One typed schema, read by jsonargparse."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from sciml.errors import UserError

Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]

OPTIMIZERS = {"adam": "torch.optim.Adam", "adamw": "torch.optim.AdamW", "lbfgs": "torch.optim.LBFGS"}
"""Plain names of optimisers; all others are components."""

CHOSEN = ("optimizer", "polisher")
"""Settings that name an optimiser."""


@dataclass(frozen=True)
class TrainingSettings:
    """How long and with what the weights are fitted.

    Args:
        updates: number of optimiser updates.
        epochs: passes over the training windows; if given, takes the place of `updates`.
        seconds: wall time of the updates, interruptions not counted; if given, takes the place of `updates` and
            `epochs`. How many updates fit into it depends on the machine, so that such a training does not come
            out with the same bits twice.
        batch_size: windows per update.
        learning_rate: its peak.
        warmup: updates in which the rate rises linearly from zero to its peak.
        schedule: "cosine" and "linear" fall to zero at the last update, or when the seconds are over; "constant"
            stays at the peak; "refined" follows the gradients of a pilot run.
        pilot: for "refined", the history (csv) of a training with the same number of updates or any other, without
            polish; the norms of its gradients, in l1 but for SGD, say where the rate has to be small.
        optimizer: "adam", "adamw" with decoupled weight decay, or the component of another one (`sciml.optimizers`,
            `torch.optim`, or a class of your own); parameters, rate and weight decay are filled in.
        weight_decay: decay factor of the optimiser.
        clip: largest norm of the gradient, none if left out.
        polish: iterations of a quasi-Newton method with a line search after the other updates, with the same random
            draws each time. They come on top of `seconds`.
        polisher: "lbfgs", or the component of another one, such as `QuasiNewton` with a dense inverse Hessian; small
            networks in float64 gain most.
        ema: decay of an exponential average of the weights, which is then what is evaluated.
        swa: last part of the training, such as 0.25, in which the rate is constant and the plain mean of the weights is
            taken, which is then what is evaluated.
        swa_rate: that rate as a part of the peak; the schedule before ends there.
        curvature_every: updates between measurements of the loss's curvature beside the rate, for the history; each
            costs as much as some two dozen updates.
        precision: of the training loop; weights and data are float32 unless it is "64-true".
        accelerator: "auto", "cpu", "gpu", ... as Lightning names them.
        threads: CPU threads of torch, its own choice if left out.
        checkpoint_every: updates between checkpoints.
        log_every: updates between lines of the history.

    Raises:
        ValueError: a number is out of its range.
    """

    updates: int = 2000
    epochs: int | None = None
    seconds: float | None = None
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 0
    schedule: Literal["cosine", "linear", "constant", "refined"] = "cosine"
    pilot: str | None = None
    optimizer: str | dict[str, Any] = "adam"
    weight_decay: float = 0.0
    clip: float | None = None
    polish: int = 0
    polisher: str | dict[str, Any] = "lbfgs"
    ema: float | None = None
    swa: float | None = None
    swa_rate: float = 0.1
    curvature_every: int | None = None
    precision: Precision = "32-true"
    accelerator: str = "auto"
    threads: int | None = None
    checkpoint_every: int = 500
    log_every: int = 50

    def __post_init__(self) -> None:
        for name in ("updates", "batch_size", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; expected at least 1.")
        for name in ("epochs", "threads", "curvature_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"training.{name} is {value}; expected at least 1, or leave it out.")
        for name in ("warmup", "polish", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"training.{name} is {getattr(self, name)}; expected 0 or more.")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(
                f"training.seconds is {self.seconds}; expected a positive time, or leave it out."
            )
        if not self.learning_rate > 0:
            raise ValueError(f"training.learning_rate is {self.learning_rate}; expected a positive number.")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(
                f"training.ema is {self.ema}; expected a decay between 0 and 1, such as 0.999."
            )
        if self.swa is not None and (not 0 < self.swa < 1 or not 0 < self.swa_rate <= 1):
            raise ValueError(
                f"training.swa is {self.swa} and training.swa_rate {self.swa_rate}; expected parts of the training and of "
                "the peak between 0 and 1, such as 0.25 and 0.1."
            )
        if self.swa is not None and (self.ema is not None or self.polish > 0):
            raise ValueError(
                "training.swa goes neither with training.ema nor with training.polish; choose one."
            )
        if (self.schedule == "refined") != (self.pilot is not None):
            raise ValueError(
                f"training.schedule is {self.schedule!r} and training.pilot {self.pilot!r}; the schedule 'refined' needs the "
                "history of a pilot run, and no other schedule reads one."
            )
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"training.clip is {self.clip}; expected a positive norm, or leave it out.")


@dataclass(frozen=True)
class Data:
    """Where the trajectories come from: a recipe that is generated when missing, or files that are there.

    Args:
        recipe: name of a recipe, or a Python file that exports RECIPE; generated into data/<name>.
        path: dataset to read, in this project's or a foreign layout; "$NAME/..." takes the folder from
            an environment variable.
        samples: samples per split that a recipe generates.
        train, test: names of the splits used.
        tests: further datasets to test on, label -> path, or name of a recipe that is then generated beside: maps at
            other resolutions, rollouts from initial states or parameters that no surrogate was trained on.
        stride: stored frames per step of the surrogate.
        noise: standard deviation of normal noise on what is trained on, in units of each channel's standard deviation:
            observations that are worse than the data. Always the same noise, and none on the test split.
        normalisation: what a channel is measured by where a variant is normalised: "z_score" takes its mean off and
            divides by its standard deviation, "rms" divides by its root mean square and leaves zero where it is.
        hint: what to tell the user when `path` is not there.
    """

    recipe: str | None = None
    path: str | None = None
    samples: dict[str, int] = field(default_factory=dict)
    train: str = "train"
    test: str = "test"
    tests: dict[str, str] = field(default_factory=dict)
    stride: int = 1
    noise: float = 0.0
    normalisation: Literal["z_score", "rms"] = "z_score"
    hint: str = ""

    def __post_init__(self) -> None:
        if self.recipe is None and self.path is None:
            raise ValueError("data has neither recipe nor path; give one (see `sciml list recipes`).")
        if self.stride < 1:
            raise ValueError(f"data.stride is {self.stride}; expected at least 1.")
        if not self.noise >= 0:
            raise ValueError(f"data.noise is {self.noise}; expected 0 or more.")
        wrong = {name: n for name, n in self.samples.items() if n < 0}
        if wrong:
            raise ValueError(f"data.samples has {wrong}; expected 0 or more samples per split.")


@dataclass(frozen=True)
class Variant:
    """One way of making a surrogate: network, what surrounds it, and the loss that fits it.

    Args:
        network: component; numbers of channels, dimension and domain come from the data unless given.
        objective: component of the training loss; a regulariser is `Regularized` around another one.
        constraint: component of the hard constraint in the loop, none if left out.
        constrained: "always"; "rollouts": trained as if there were no constraint, and held in rollouts; or the share
            of the training after which it is held there too, such as 0.5.
        residual: the network predicts the change of the state (in normalised units).
        normalized: network and loss see each channel with its mean taken off and divided by its standard
            deviation, both of the training split.
        delta: the network's output is the change in units of the mean and spread (or root mean square) of the changes
            between stored frames of the training split; only where `residual` is.
        hold: nodes of a mesh that keep their value: node types by name, such as [WALL_BOUNDARY].
        training: settings that differ from the study's.
    """

    network: str | dict[str, Any]
    objective: str | dict[str, Any] = "OneStep"
    constraint: str | dict[str, Any] | None = None
    constrained: Literal["always", "rollouts"] | float = "always"
    residual: bool = True
    normalized: bool = True
    delta: bool = False
    hold: list[str] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.constrained != "always" and self.constraint is None:
            raise ValueError(f"constrained is {self.constrained!r}, and there is no constraint; give one.")
        if isinstance(self.constrained, float) and not 0 < self.constrained < 1:
            raise ValueError(
                f"constrained is {self.constrained:g}; expected always, rollouts, or a share of the training between 0 and 1."
            )

    @property
    def begins(self) -> float:
        """The share of the training from which on the constraint is held in it."""
        named = {"always": 0.0, "rollouts": math.inf}
        return self.constrained if isinstance(self.constrained, float) else named[self.constrained]


@dataclass(frozen=True)
class EvaluationSettings:
    """How the surrogates are judged.

    Args:
        steps: rollout length in steps, as far as the test data reach if left out.
        samples: number of test trajectories, all if left out.
        solvers: resolutions of the classical solver to compare with, as factors of coarsening per axis.
        pictures: draw truth, prediction and error of the best, median and worst trajectory.
        metrics: functions of your own, `path/to/file.py:function` or a dotted name, (pred, ref) (B, T, C, *points)
            twice -> (B, T, C) or (B, T).
        violations: components of constraints by a name of your own: how far every state of every rollout is from
            them, the rollout's first state being the one before. They hold nothing.
        laboratory: true states at which Jacobians, Lyapunov exponents and responses are measured; 0 for none.
        chunk: test trajectories that are rolled out at the same time; fewer take less memory.
    """

    steps: int | None = None
    samples: int | None = None
    solvers: tuple[int, ...] = (2, 4, 8)
    pictures: bool = True
    metrics: tuple[str, ...] = ()
    violations: dict[str, Any] = field(default_factory=dict)
    laboratory: int = 9
    chunk: int = 64

    def __post_init__(self) -> None:
        for name in ("steps", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"evaluation.{name} is {value}; expected at least 1, or leave it out.")
        if any(factor < 1 for factor in self.solvers):
            raise ValueError(
                f"evaluation.solvers is {self.solvers}; expected coarsening factors of 1 or more."
            )
        if self.laboratory < 0 or self.chunk < 1:
            raise ValueError(
                f"evaluation.laboratory is {self.laboratory} and evaluation.chunk {self.chunk}; expected at least 0 "
                "and 1."
            )


@dataclass(frozen=True)
class Study:
    """What is run: steps x trajectories x metrics -> table.

    Args:
        name: folder of the run under runs/.
        title: one line for the report.
        data: trajectories, or pairs of input and target.
        variants: surrogates by name.
        training: settings shared by the variants.
        kind: "rollout" steps states forward; "map" takes an input field to a target field; "pinn" solves
            one initial state of the test split as a function of place and time.
        seeds: each variant is trained once with each.
        evaluation: how they are judged.
        references: errors printed elsewhere, variant -> rollout step -> nRMSE, shown beside ours.
        limits: largest relative L2 error that the study asks for, test set -> error (for maps).
        source: where the references are printed.
    """

    name: str
    title: str
    data: Data
    variants: dict[str, Variant]
    training: TrainingSettings = field(default_factory=TrainingSettings)
    kind: Literal["rollout", "map", "pinn"] = "rollout"
    seeds: list[int] = field(default_factory=lambda: [0])
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    references: dict[str, dict[int, float]] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        if not self.variants:
            raise ValueError("variants is empty; a study needs at least one.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; expected one or more different integers.")
        for name in (self.name, *self.variants):
            if not name or any(c in name for c in "/\\\0") or name.startswith("."):
                raise ValueError(f"{name!r} names a folder; leave out slashes and a leading dot.")

    def settings(self, variant: str) -> TrainingSettings:
        """Training settings of one variant: the study's with the variant's own on top."""
        own = self.variants[variant].training
        known = [f.name for f in fields(TrainingSettings)]
        for name in own:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                raise UserError(f"variants.{variant}.training has no setting {name!r}{hint}")
        merged = {**asdict(self.training), **own}
        return _settings(merged, f"variants.{variant}.training")


def study_names() -> list[str]:
    """Names of the studies that come with the package."""
    folder = resources.files("sciml.experiments.studies")
    return sorted(Path(item.name).stem for item in folder.iterdir() if item.name.endswith(".yaml"))


def study_file(name_or_path: str) -> Path:
    """The file of a study, named or given by its path.

    Raises:
        UserError: it is neither; the message lists the names.
    """
    path = Path(name_or_path).expanduser()
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise UserError(f"there is no file {name_or_path!r} (looked for {path.absolute()}).")
    if (path / "config.yaml").is_file():
        return path / "config.yaml"
    names = study_names()
    if name_or_path not in names:
        near = difflib.get_close_matches(name_or_path, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise UserError(
            f"there is no study {name_or_path!r}{hint} Expected one of {', '.join(names)}, or a YAML file."
        )
    return Path(str(resources.files("sciml.experiments.studies") / f"{name_or_path}.yaml"))


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file, read safely.

    Raises:
        UserError: the file is not YAML, or not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise UserError(f"{path} could not be read: {error.strerror}.") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds {type(content).__name__}; expected a mapping with name, data, variants."
        )
    return content


def override(tree: dict[str, Any], options: Sequence[tuple[str, Any]]) -> None:
    """Set dotted keys of a tree, in place: ("training.epochs", "3"), ("variants.fno.network.width", "32").

    Values that are text are read as YAML. A key inside a component goes to its init_args. That the key exists in the
    schema is checked when the tree is read; here, that it does not run through a plain value.

    Raises:
        UserError: a part of the key is a value, or a variant of that name does not exist.
    """
    for key, text in options:
        try:
            value = yaml.safe_load(text) if isinstance(text, str) else text
        except yaml.YAMLError as error:
            raise UserError(
                f"--{key} {text!r} is not a YAML value: {' '.join(str(error).split())}"
            ) from error
        node: Any = tree
        names = key.split(".")
        for depth, name in enumerate(names):
            if isinstance(node, dict) and "class_path" in node and name not in ("class_path", "init_args"):
                node = node.setdefault("init_args", {})
            if not isinstance(node, dict):
                parent = ".".join(names[:depth])
                raise UserError(f"--{key}: {parent} is the value {node!r} and has nothing called {name!r}.")
            if depth == 1 and names[0] == "variants" and name not in node:
                raise UserError(
                    f"--{key}: there is no variant {name!r}; expected one of {', '.join(node)}."
                )
            if depth == len(names) - 1:
                node[name] = value
            else:
                child = node.get(name)
                if isinstance(child, str) and child[:1].isupper():  # a bare class name
                    child = node[name] = {"class_path": child, "init_args": {}}
                node = node.setdefault(name, {}) if child is None else child


def _typed(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from plain values, through jsonargparse."""
    import jsonargparse

    from sciml.experiments.components import plain_message

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "of")
    try:
        return parser.instantiate(parser.parse_object({"of": dict(values)})).of
    except (jsonargparse.ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UserError(f"{where}: {_nearest(plain_message(error), cls)}.") from error


def _without_components(training: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in training.items() if name not in CHOSEN}


def _settings(values: Mapping[str, Any], where: str) -> TrainingSettings:
    """Training settings from plain values, with the optimisers checked against their classes."""
    from sciml.experiments import components

    components_of = {name: values[name] for name in CHOSEN if isinstance(values.get(name), Mapping)}
    plain = {name: value for name, value in values.items() if name not in components_of}
    settings: TrainingSettings = _typed(TrainingSettings, plain, where)
    made: dict[str, Any] = {name: dict(value) for name, value in components_of.items()}
    settings = replace(settings, **made)
    for name in CHOSEN:
        value = getattr(settings, name)
        if not isinstance(value, str) or value not in OPTIMIZERS:
            components.check(value, f"{where}.{name}", "optimizer")
    return settings


def _nearest(message: str, cls: type) -> str:
    """Add the nearest known name to a message about an unknown one."""
    quoted = [part for index, part in enumerate(message.split("'")) if index % 2]
    if "not accept" in message and quoted:
        wrong = quoted[-1].rpartition(".")[2]
        near = difflib.get_close_matches(wrong, _names(cls), n=1)
        if near:
            return f"{message}; did you mean {near[0]!r}?"
    return message


def _names(cls: type) -> list[str]:
    parts = (Data, Variant, TrainingSettings, EvaluationSettings) if cls is Study else ()
    return [f.name for c in (cls, *parts) if is_dataclass(c) for f in fields(c)]


PARTS = ("network", "objective", "constraint")


def read_study(tree: Mapping[str, Any], where: str) -> Study:
    """A study from plain values, with every component checked by name and type.

    Raises:
        UserError: a key, class or argument is unknown, a value has the wrong type, or one is missing.
    """
    from sciml.experiments import components

    missing = [name for name in ("name", "data", "variants") if name not in tree]
    if missing:
        raise UserError(f"{where} has no {', '.join(missing)}; a study needs name, data and variants.")
    known = [f.name for f in fields(Study)]
    for name in tree:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise UserError(f"{where} has an entry {name!r}{hint} A study has {', '.join(known)}.")
    # Components are checked against their classes below. To jsonargparse they are only names: it would
    # import and check every class_path it sees, without what the data fill in.
    plain, taken = dict(tree), {}
    if isinstance(tree["variants"], Mapping):
        plain["variants"] = {}
        for name, variant in tree["variants"].items():
            if isinstance(variant, Mapping):
                given = {part: variant[part] for part in PARTS if isinstance(variant.get(part), Mapping)}
                taken[name] = given
                names = {part: str(value.get("class_path", part)) for part, value in given.items()}
                variant = {**variant, **names}
                if isinstance(variant.get("training"), Mapping):
                    taken[name]["training"] = variant["training"]
                    variant["training"] = _without_components(variant["training"])
            plain["variants"][name] = variant
    training = tree.get("training")
    if isinstance(training, Mapping):
        plain["training"] = _without_components(training)
    violations = {}
    if isinstance(tree.get("evaluation"), Mapping):
        plain["evaluation"] = {k: v for k, v in tree["evaluation"].items() if k != "violations"}
        violations = _violations(tree["evaluation"].get("violations"), where)
    study: Study = _typed(Study, {"title": tree["name"], **plain}, where)
    if isinstance(training, Mapping):
        chosen = {**asdict(study.training), **{k: training[k] for k in CHOSEN if k in training}}
        study = replace(study, training=_settings(chosen, f"{where}: training"))
    variants = {}
    for name, variant in study.variants.items():
        parts: dict[str, Any] = {part: dict(value) for part, value in taken.get(name, {}).items()}
        variants[name] = replace(variant, **parts)
    evaluation = replace(study.evaluation, violations=violations)
    study = replace(study, variants=variants, evaluation=evaluation)
    for name, variant in study.variants.items():
        study.settings(name)
        for part in PARTS:
            value = getattr(variant, part)
            if value is not None:
                components.check(value, f"variants.{name}.{part}", part)
    for name in study.references:
        if name not in study.variants:
            raise UserError(
                f"{where}: references has {name!r}; expected variants, {', '.join(study.variants)}."
            )
    return study


def _violations(given: Any, where: str) -> dict[str, Any]:
    """Constraints to be measured by, checked against their classes."""
    from sciml.experiments import components

    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UserError(
            f"{where}: evaluation.violations is {given!r}; expected constraints by name, such as {{mass: ConservedMean}}."
        )
    for name, component in given.items():
        components.check(component, f"evaluation.violations.{name}", "constraint")
    return {str(name): component for name, component in given.items()}


def load_study(name_or_path: str, options: Sequence[tuple[str, Any]] = ()) -> Study:
    """Read a study by name, YAML file or run folder, with dotted overrides.

    Raises:
        UserError: see `study_file`, `override` and `read_study`.
    """
    path = study_file(name_or_path)
    tree = read_yaml(path)
    several = [n for n in ("axes", "matrix", "base", "model", "budget") if n in tree]
    if several:
        raise UserError(
            f"{name_or_path} has {', '.join(several)}: it is a study of several runs; give it to `sciml study`."
        )
    override(tree, options)
    return read_study(tree, str(name_or_path))


def as_tree(study: Study) -> dict[str, Any]:
    """The study as plain values, for config.yaml; `read_study` gives it back."""
    tree = asdict(study)
    for name in ("solvers", "metrics"):
        tree["evaluation"][name] = list(tree["evaluation"][name])
    # What says nothing is left out, so that runs from before there was such a setting stay what they were.
    if not tree["evaluation"]["violations"]:
        del tree["evaluation"]["violations"]
    for variant in tree["variants"].values():
        if variant["constrained"] == "always":
            del variant["constrained"]
    return tree


def with_name(study: Study, name: str) -> Study:
    """The same study under another name."""
    return replace(study, name=name)
