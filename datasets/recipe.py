"""How a dataset is made: equation, parameter ranges, initial states, grid, solver, seed.

A recipe is a Python file that exports `RECIPE`, or a YAML file (`recipe_yaml`). Those that come with the package
are known by name, a user's own by the path of the file.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import json
import math
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor

from sciml.datasets.distributions import Constant, Distribution
from sciml.datasets.schema import describe_domain, sha256_file
from sciml.domains import Cloud, Domain, Grid, Mesh, Point
from sciml.errors import UserError
from sciml.odes.base import ODE
from sciml.pdes.base import PDE, Elliptic
from sciml.trajectory import Field, channel_names

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Initial(Protocol):
    """One random state (C, *points), float64, of a domain; the same function on finer domains."""

    def __call__(self, domain: Any, channels: int, generator: torch.Generator) -> Tensor: ...


class InitialOfParameters(Protocol):
    """An `Initial` that depends on the sample's parameters, which it is given by name."""

    def __call__(
        self, domain: Any, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor: ...


class Solver(Protocol):
    """Makes the map of one stored step, (B, C, *points) -> (B, C, *points)."""

    def __call__(
        self, pde: Any, domain: Any, dt: float, substeps: int | None
    ) -> Callable[[Tensor], Tensor]: ...


@dataclass(frozen=True)
class UsualStates:
    """Random states of the size that a system without space states itself (`ODE.initial`)."""

    system: ODE

    def __call__(self, domain: Point, channels: int, generator: torch.Generator) -> Tensor:
        return self.system.initial(1, generator)[0]


def default_solver(pde: Any, domain: Any, dt: float, substeps: int | None) -> Callable[[Tensor], Tensor]:
    """What `sciml.solvers.build` chooses."""
    from sciml.solvers import build

    return build(pde, domain, dt, substeps=substeps)


@dataclass(frozen=True)
class Recipe:
    """One dataset, reproducible from this alone.

    Sample i of a split depends on (name, seed, split, i): a generator seeded from their SHA-256 draws
    the parameters, in the order of their names, and then the initial state.

    Args:
        name: short, for the command line and folders.
        title: one line for people.
        citation: where the set-up or the equation comes from.
        pde: a PDE class, or a function, called with the parameters by name; each is a number, or a
            tensor (B, 1, ...) where it differs between samples. Called as well with `domain`, where it is
            solved, `stored`, the domain of what is stored, and `dt`, if it has arguments of these names. An
            `Elliptic` equation makes static pairs: `initial` draws its inputs, and the solver maps them to the
            solution. An `ODE` lives on a `Point`, and its parameters that differ are (B,).
        domain: what is stored; or a function of a refinement factor f, 1 for what is stored, 2 for
            twice as fine, where the domain is not a `Grid`.
        initial: draws one state. Given the sample's parameters by name if it has an argument `parameters`; what
            only the start depends on, such as a Mach number, is a parameter that `pde` takes and does not use.
        dt: time between stored frames [time].
        steps: stored steps after the initial state; one number, or one per split.
        parameters: what the equation takes, each with its distribution.
        solver: makes the step; `sciml.solvers.build` unless given.
        substeps: solver steps per stored step; None leaves it to the solver.
        resolution_factor: solve on a grid this many times finer per axis and store its Fourier
            truncation (periodic nodes), cell averages, or every so-manieth node.
        warmup: stored steps that are run and thrown away before the first stored frame.
        samples: trajectories per split unless asked otherwise.
        seed: of everything random.
        shard_size: trajectories per file and per batch of the solver. A shard is always computed as a
            whole batch, so that its samples do not depend on how many were asked for.
        dtype: of the solver; what is stored is float32.
        bounds: lowest and highest value that may be stored, both admitted, by name of field or channel, such
            as {"concentration": (0.0, 1.0)}. What the equation itself states, such as positive density and
            pressure, holds besides.
        rejection: what becomes of a sample that does not stay finite or within its bounds: "redraw" draws
            it again, with the next attempt of its generator, "leave_out" stores one sample less. Both are
            recorded.
        source: the file it was loaded from, filled in by `load_recipe`.
        parts: further files that it stands on, filled in likewise: the base of a YAML file, the user's classes.

    Raises:
        ValueError: a number is out of range or a split lacks its steps.
    """

    name: str
    title: str
    pde: Callable[..., PDE | Elliptic | ODE]
    domain: Domain | Callable[[int], Domain]
    initial: Initial | InitialOfParameters
    dt: float
    steps: int | Mapping[str, int]
    citation: str = ""
    parameters: Mapping[str, Distribution] = field(default_factory=dict)
    solver: Solver = default_solver
    substeps: int | None = None
    resolution_factor: int = 1
    warmup: int = 0
    samples: Mapping[str, int] = field(default_factory=lambda: {"train": 128, "valid": 16, "test": 16})
    seed: int = 0
    shard_size: int = 16
    dtype: str = "float64"
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    rejection: Literal["redraw", "leave_out"] = "redraw"
    source: str | None = field(default=None, compare=False)
    parts: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.samples or min(self.samples.values()) < 0:
            raise ValueError(
                f"Recipe {self.name!r} got samples {dict(self.samples)}; expected counts per split."
            )
        if self.shard_size < 1 or self.resolution_factor < 1 or self.warmup < 0:
            raise ValueError(
                f"Recipe {self.name!r} got shard_size={self.shard_size}, resolution_factor="
                f"{self.resolution_factor}, warmup={self.warmup}; expected at least 1, 1 and 0."
            )
        if self.dtype not in DTYPES:
            raise ValueError(
                f"Recipe {self.name!r} got dtype {self.dtype!r}; expected one of {list(DTYPES)}."
            )
        counts = self.steps.values() if isinstance(self.steps, Mapping) else (self.steps,)
        if not all(isinstance(n, int) for n in counts):
            raise ValueError(
                f"Recipe {self.name!r} got steps={self.steps!r}; expected a whole number, or one per split."
            )
        if self.rejection not in ("redraw", "leave_out"):
            raise ValueError(
                f"Recipe {self.name!r} got rejection {self.rejection!r}; expected 'redraw' or 'leave_out'."
            )
        for name, pair in self.bounds.items():
            if len(pair) != 2 or not pair[0] < pair[1]:
                raise ValueError(
                    f"Recipe {self.name!r} got bounds {tuple(pair)} of {name!r}; expected (low, high) with low < high."
                )
        known = isinstance(self.dt, (int, float)) and math.isfinite(self.dt)
        if not known or self.dt < 0 or (self.dt == 0 and any(counts)):
            raise ValueError(
                f"Recipe {self.name!r} got dt={self.dt!r}; expected a positive time, or 0 for pairs without steps."
            )
        for split in self.samples:
            if self.steps_of(split) < 0:
                raise ValueError(f"Recipe {self.name!r} got {self.steps_of(split)} steps for {split!r}.")

    def steps_of(self, split: str) -> int:
        """Stored steps of a split.

        Raises:
            ValueError: the recipe gives none for it.
        """
        if isinstance(self.steps, int):
            return self.steps
        if split not in self.steps:
            raise ValueError(
                f"Recipe {self.name!r} gives no steps for split {split!r}: {dict(self.steps)}."
            )
        return self.steps[split]

    def domain_at(self, factor: int = 1) -> Domain:
        """The domain, `factor` times finer per axis than what is stored."""
        if not isinstance(self.domain, Grid):
            if callable(self.domain):
                return self.domain(factor)
            if factor != 1:
                raise ValueError(
                    f"Recipe {self.name!r} cannot refine its {type(self.domain).__name__}; give `domain` as "
                    "a function of the refinement factor."
                )
            return self.domain
        return self.domain.refined(factor)

    def equation(
        self, parameters: Mapping[str, Tensor | float] | None = None, domain: Domain | None = None
    ) -> PDE | Elliptic | ODE:
        """The equation for given parameters; constants of the recipe are filled in.

        Args:
            parameters: name -> number, or (B,) for a batch of B.
            domain: what an equation that depends on it is made for; the stored domain unless given.
        """
        domain = self.domain_at(1) if domain is None else domain
        values: dict[str, Any] = {
            name: d.value for name, d in self.parameters.items() if isinstance(d, Constant)
        }
        for name, value in (parameters or {}).items():
            if isinstance(value, Tensor):
                ones = (1,) * (1 + domain.dimension) if domain.dimension else ()
                value = value.to(torch.float64).reshape(-1, *ones)
            values[name] = value
        takes = inspect.signature(self.pde).parameters
        if "domain" in takes:
            values["domain"] = domain
        if "stored" in takes:
            values["stored"] = self.domain_at(1)
        if "dt" in takes:
            values.setdefault("dt", self.dt)
        try:
            inspect.signature(self.pde).bind(**values)
        except TypeError as error:
            known = list(inspect.signature(self.pde).parameters)
            raise UserError(
                f"Recipe {self.name!r} gives its equation the parameters {sorted(values)}: {error}. It takes {known}."
            ) from None
        return self.pde(**values)

    @property
    def constants(self) -> dict[str, float]:
        """Parameters that all samples share."""
        return {n: d.value for n, d in self.parameters.items() if isinstance(d, Constant)}

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the parameters that differ between samples, sorted."""
        return tuple(sorted(n for n, d in self.parameters.items() if not isinstance(d, Constant)))

    def generator(self, split: str, index: int, attempt: int = 0) -> torch.Generator:
        """The generator of one sample; `attempt` counts redraws after samples that blew up."""
        key = json.dumps([self.name, self.seed, split, index, attempt]).encode()
        seed = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1
        return torch.Generator().manual_seed(seed)

    def draw(
        self, split: str, index: int, domain: Domain, channels: int, attempt: int = 0
    ) -> tuple[dict[str, float], Tensor]:
        """Parameters and initial state (C, *points) of one sample."""
        generator = self.generator(split, index, attempt)
        parameters = {name: self.parameters[name](generator) for name in self.varying}
        if "parameters" in inspect.signature(self.initial).parameters:
            known = self.constants | parameters
            depending = cast(InitialOfParameters, self.initial)
            return parameters, depending(domain, channels, generator, known)
        return parameters, cast(Initial, self.initial)(domain, channels, generator)

    def specification(self) -> dict[str, Any]:
        """Everything that the numbers depend on, in plain words and numbers."""
        optional: dict[str, Any] = {}  # what a recipe does not use does not change its hash
        if self.bounds:
            optional["bounds"] = {name: list(pair) for name, pair in sorted(self.bounds.items())}
        if self.rejection != "redraw":
            optional["rejection"] = self.rejection
        if self.parts:
            optional["parts_sha256"] = [sha256_file(Path(part)) for part in self.parts]
        return optional | {
            "name": self.name,
            "pde": _describe(self.pde),
            "domain": _describe(self.domain),
            "initial": _describe(self.initial),
            "dt": self.dt,
            "steps": self.steps if isinstance(self.steps, int) else dict(self.steps),
            "parameters": {name: repr(d) for name, d in sorted(self.parameters.items())},
            "solver": _describe(self.solver),
            "substeps": self.substeps,
            "resolution_factor": self.resolution_factor,
            "warmup": self.warmup,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "dtype": self.dtype,
            "file_sha256": None if self.source is None else sha256_file(Path(self.source)),
        }


def fields_of(equation: PDE | Elliptic | ODE) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """(state or target fields, input fields); an evolution equation has no inputs."""
    return equation.fields, equation.inputs if isinstance(equation, Elliptic) else ()


def channels_of(fields: tuple[Field, ...], domain: Domain) -> int:
    """Number of channels of the fields on a domain."""
    return len(channel_names(fields, domain.dimension))


def _describe(thing: Any) -> Any:
    if hasattr(thing, "__qualname__"):  # a class, a function, or one with a cache around it
        return thing.__qualname__  # the module's name depends on how the file was found
    if isinstance(thing, Grid):
        return describe_domain(thing)
    if isinstance(thing, (Mesh, Cloud)):
        return describe_domain(thing)
    # A repr with an address in it would make every run another dataset.
    return type(thing).__qualname__ if " at 0x" in repr(thing) else repr(thing)


def specification_sha256(specification: Mapping[str, Any]) -> str:
    """SHA-256 of a specification."""
    return hashlib.sha256(json.dumps(specification, sort_keys=True).encode()).hexdigest()


def known_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the package."""
    from sciml.datasets import recipes

    return tuple(
        sorted(m.name for m in pkgutil.iter_modules(recipes.__path__) if not m.name.startswith("_"))
    )


def load_recipe(name: str | Path) -> Recipe:
    """A recipe by name, or by the path of a Python file that exports `RECIPE` or of a YAML file.

    Raises:
        UserError: there is no such recipe, or the file does not export one.
    """
    text, known = str(name), known_recipes()
    path = Path(text)
    if (
        path.suffix == ".py"
        and path.stem in known
        and path.resolve().parent == Path(__file__).parent / "recipes"
    ):
        text = path.stem
    if text in known:
        module = importlib.import_module(f"sciml.datasets.recipes.{text}")
        path = Path(cast(str, module.__file__))
    elif path.suffix in (".yaml", ".yml"):
        from sciml.datasets.recipe_yaml import read_recipe

        return read_recipe(path)
    elif path.suffix == ".py":
        if not path.is_file():
            raise UserError(f"The recipe file {path} does not exist.")
        spec = importlib.util.spec_from_file_location(f"sciml_recipe_{path.stem}", path)
        assert spec is not None and spec.loader is not None  # a .py file always has a loader
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except SyntaxError as error:
            raise UserError(f"The recipe file {path} is not valid Python: {error}.") from error
    else:
        near = difflib.get_close_matches(text, known, n=3)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UserError(
            f"There is no recipe {text!r}.{hint} `sciml list recipes` names all {len(known)}. Your own one works by "
            "the path of its .py or .yaml file."
        )
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise UserError(
            f"{path} does not export RECIPE, a sciml.datasets.Recipe; it has {type(recipe).__name__}."
        )
    return replace(recipe, source=str(path.resolve()))


def with_source(recipe: Recipe) -> Recipe:
    """The recipe with its file, where it is one of those that come with the package."""
    if recipe.source is None and recipe.name in known_recipes():
        shipped = load_recipe(recipe.name)
        if shipped == recipe:
            return shipped
    return recipe


def recipe_of(manifest: Mapping[str, Any]) -> Recipe | None:
    """The recipe behind a manifest, if it can be loaded and still says the same; else None."""
    stored = manifest.get("recipe")
    if not stored:
        return None
    for place in (stored["name"], stored.get("source")):
        if place is None or (place not in known_recipes() and not Path(place).is_file()):
            continue
        recipe = load_recipe(place)
        if specification_sha256(recipe.specification()) == stored["sha256"]:
            return recipe
    return None
