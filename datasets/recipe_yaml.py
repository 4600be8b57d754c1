"""Recipes as YAML: from a recipe that is there, or from nothing.

    base: burgers                       # a recipe by name or path; what follows takes its place
    domain: {shape: [512]}              # arguments of the base's grid that differ
    parameters: {viscosity: {class_path: LogUniform, init_args: {low: 1e-3, high: 1e-2}}}
    solver: {substeps: 10, order: 4}    # arguments of sciml.solvers.build

Without `base`, all that a Recipe needs is stated: pde, domain, initial, dt, steps. Classes are written as
class_path and init_args or as the bare class, by their name in the package, a dotted path, or a file of the
user's, `my_states.py:Bumps`, which may also name a function.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import yaml
from torch import Tensor

from sciml.datasets.distributions import Constant
from sciml.datasets.recipe import Recipe, load_recipe
from sciml.domains import Grid
from sciml.errors import UserError

_MODULES: Mapping[str, tuple[str, ...]] = {
    "pde": ("sciml.pdes", "sciml.odes"),
    "domain": ("sciml.domains",),
    "initial": ("sciml.fields", "sciml.datasets"),
    "parameters": ("sciml.datasets",),
    "solver": ("sciml.solvers",),
}
"""Where bare names are looked up."""

_DEEPEST = 8  # recipes that stand on each other


class _Loader(yaml.SafeLoader):
    """Safe, and reads 1e-3 as the number that it is."""


_Loader.yaml_implicit_resolvers = {k: list(v) for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


@dataclass(frozen=True)
class BuiltWith:
    """The solver that `sciml.solvers.build` makes with some of its arguments."""

    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(
        self, pde: Any, domain: Any, dt: float, substeps: int | None
    ) -> Callable[[Tensor], Tensor]:
        from sciml.solvers import build

        return build(pde, domain, dt, substeps=substeps, **self.arguments)


def read_recipe(path: Path, depth: int = 0) -> Recipe:
    """A recipe from a YAML file.

    Raises:
        UserError: it is not YAML, an entry is unknown or missing or has the wrong type, or its base cannot be
            loaded.
    """
    tree = _tree(path)
    if depth >= _DEEPEST:
        raise UserError(f"{path}: recipes stand on each other more than {_DEEPEST} deep, or in a circle.")
    reader = _Reader(path)
    base = None
    if "base" in tree:
        base = _base(path, str(tree.pop("base")), depth)
    plain = [f.name for f in fields(Recipe) if f.name not in ("source", "parts")]
    for name in tree:
        if name not in plain:
            near = difflib.get_close_matches(str(name), plain, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"{path} has an entry {name!r}.{hint} A recipe has base, {', '.join(plain)}.")
    tree.setdefault("name", path.stem)
    if base is None:
        missing = [name for name in ("pde", "domain", "initial", "dt", "steps") if name not in tree]
        if missing:
            raise UserError(
                f"{path} has no {', '.join(missing)}; give them, or start from a recipe with base."
            )
        tree.setdefault("title", tree["name"])
    given = {name: reader.entry(name, value, base) for name, value in tree.items()}
    if reader.substeps is not None:
        given.setdefault("substeps", reader.substeps)
    parts = tuple(dict.fromkeys([*((base.source, *base.parts) if base else ()), *reader.files]))
    try:
        recipe = Recipe(**given) if base is None else replace(base, **given)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: {error}") from error
    return replace(recipe, source=str(path.resolve()), parts=tuple(p for p in parts if p is not None))


def _tree(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"The recipe file {path} does not exist.")
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UserError(
            f"{path} holds {type(tree).__name__}; expected a mapping with base, or with pde, domain, initial, ..."
        )
    return tree


def _base(path: Path, name: str, depth: int) -> Recipe:
    """The recipe that another one starts from; paths are relative to the file that names it."""
    beside = path.parent / Path(name).expanduser()
    if Path(name).suffix in (".yaml", ".yml"):
        return read_recipe(beside, depth + 1)
    return load_recipe(beside if Path(name).suffix == ".py" else name)


class _Reader:
    """Turns the entries of one file into arguments of a Recipe, and notes the files that they come from."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.files: list[str] = []
        self.substeps: int | None = None

    def entry(self, name: str, value: Any, base: Recipe | None) -> Any:
        """One argument of the recipe."""
        if name == "pde":
            return self._callable(name, value)
        if name == "initial":
            return self._object(name, value)
        if name == "domain":
            return self._domain(value, base)
        if name == "solver":
            return self._solver(value)
        if name == "parameters":
            if not isinstance(value, Mapping):
                raise self._wrong(name, value, "a mapping of names to numbers or distributions")
            own = {str(p): self._distribution(f"parameters.{p}", v) for p, v in value.items()}
            return (dict(base.parameters) if base else {}) | own
        return self._plain(name, value)

    def _wrong(self, where: str, value: Any, expected: str) -> UserError:
        return UserError(f"{self._path}: {where} is {value!r}; expected {expected}.")

    def _plain(self, name: str, value: Any) -> Any:
        """A number, text or mapping of them, checked against the type in the Recipe's signature."""
        import jsonargparse

        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        parser.add_argument(f"--{name}", type=get_type_hints(Recipe)[name])
        try:
            return parser.parse_object({name: value})[name]
        except (jsonargparse.ArgumentError, TypeError, ValueError, KeyError) as error:
            raise UserError(f"{self._path}: {_first_line(error)}") from error

    def _distribution(self, where: str, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return Constant(float(value))
        return self._object(where, value, "parameters")

    def _domain(self, value: Any, base: Recipe | None) -> Any:
        if isinstance(value, Mapping) and "class_path" not in value:
            if base is None or not isinstance(base.domain, Grid):
                raise self._wrong(
                    "domain", value, "class_path and init_args, such as {class_path: Grid, init_args: "
                    "{shape: [256], lengths: [1.0]}}; its arguments alone change the Grid of a base"
                )  # fmt: skip
            before = {f.name: getattr(base.domain, f.name) for f in fields(base.domain) if f.init}
            return self._made(Grid, before | dict(value), "domain")
        return self._object("domain", value)

    def _solver(self, value: Any) -> Any:
        if isinstance(value, Mapping) and "class_path" not in value:
            from sciml.solvers import build

            arguments = dict(value)
            known = [n for n, p in inspect.signature(build).parameters.items() if p.kind is p.KEYWORD_ONLY]
            for name in arguments:
                if name not in known:
                    raise UserError(
                        f"{self._path}: solver has {name!r}; `sciml.solvers.build` takes {', '.join(known)}."
                    )
            self.substeps = arguments.pop("substeps", None)
            return BuiltWith(arguments)
        return self._callable("solver", value)

    def _object(self, where: str, value: Any, part: str | None = None) -> Any:
        """An instance of the class that a component names, or the function that it names."""
        found, arguments = self._found(where, value, part or where)
        if inspect.isclass(found):
            return self._made(found, arguments, where)
        return functools.partial(found, **arguments) if arguments else found

    def _callable(self, where: str, value: Any) -> Any:
        """The class or function that a component names, with the arguments that are fixed."""
        found, arguments = self._found(where, value, where)
        if not arguments:
            return found
        known = inspect.signature(found).parameters
        unknown = [name for name in arguments if name not in known]
        if unknown:
            raise UserError(
                f"{self._path}: {where} has init_args {', '.join(unknown)}; {found.__name__} takes {', '.join(known)}."
            )
        return functools.partial(found, **{n: _tuples(v) for n, v in arguments.items()})

    def _found(self, where: str, value: Any, part: str) -> tuple[Any, dict[str, Any]]:
        if isinstance(value, str):
            value = {"class_path": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
            raise self._wrong(where, value, "a class name, or class_path with init_args")
        unknown = set(value) - {"class_path", "init_args"}
        arguments = value.get("init_args") or {}
        if unknown or not isinstance(arguments, Mapping):
            raise self._wrong(where, dict(value), "class_path and a mapping init_args, and nothing else")
        return self._named(value["class_path"], where, part), dict(arguments)

    def _named(self, text: str, where: str, part: str) -> Any:
        """The class or function behind a name."""
        file, colon, name = text.rpartition(":")
        if colon:
            module = self._module(file, where)
            return self._attribute(module, name, text, where)
        module_name, dot, name = text.rpartition(".")
        if dot:
            try:
                module = importlib.import_module(module_name)
            except ImportError as error:
                raise UserError(
                    f"{self._path}: {where}: {module_name!r} cannot be imported: {error}. Something in a file of your "
                    "own is written as path/to/file.py:Name."
                ) from error
            return self._attribute(module, name, text, where)
        known: list[str] = []
        for home in _MODULES[part]:
            module = importlib.import_module(home)
            exported = list(getattr(module, "__all__", ()))
            known += exported
            if text in exported:
                return self._attribute(module, text, text, where)
        near = difflib.get_close_matches(text, known, n=3)
        hint = f" did you mean {' or '.join(near)}?" if near else ""
        raise UserError(
            f"{self._path}: {where}: {' and '.join(_MODULES[part])} have no {text!r};{hint} One of your own is "
            "written as path/to/file.py:Name."
        )

    def _attribute(self, module: ModuleType, name: str, text: str, where: str) -> Any:
        found = getattr(module, name, None)
        if not callable(found):
            names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
            near = difflib.get_close_matches(name, names, n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else "."
            raise UserError(f"{self._path}: {where}: {text!r} is neither a class nor a function{hint}")
        return found

    def _module(self, file: str, where: str) -> ModuleType:
        """A Python file of the user's, relative to the recipe, loaded once per content."""
        path = (self._path.parent / Path(file).expanduser()).resolve()
        if not path.is_file():
            raise UserError(f"{self._path}: {where}: there is no file {file!r} (looked for {path}).")
        self.files.append(str(path))
        digest = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()
        name = f"sciml_recipe_{path.stem}_{digest[:12]}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_file_location(name, path)
            if spec is None or spec.loader is None:
                raise UserError(f"{self._path}: {where}: {file!r} is not a Python file.")
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except SyntaxError as error:
                del sys.modules[name]
                raise UserError(f"{self._path}: {where}: {file} is not valid Python: {error}.") from error
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def _made(self, cls: type, arguments: Mapping[str, Any], where: str) -> Any:
        """An instance, its arguments checked and converted by the types in the signature."""
        import jsonargparse

        parser = jsonargparse.ArgumentParser(exit_on_error=False)
        try:
            parser.add_class_arguments(cls, "of", fail_untyped=False)
            return parser.instantiate(parser.parse_object({"of": dict(arguments)})).of
        except (jsonargparse.ArgumentError, TypeError, ValueError, KeyError) as error:
            raise UserError(f"{self._path}: {where}, {cls.__name__}: {_first_line(error)}") from error


def _tuples(value: Any) -> Any:
    """Lists as tuples, as the constructors of equations take them."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _first_line(error: Exception) -> str:
    """What jsonargparse found, without its usage text and the name that it was parsed under."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines).replace("'of.", "'").replace('"of.', '"') if lines else repr(error)
