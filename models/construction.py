"""Constructors as plain data: what a checkpoint needs to build a model again without pickle."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Spec = dict[str, Any]
"""{"class_path": "package.module.Class", "init_args": {...}}, as in configuration files."""


def describe(built: Any) -> Spec:
    """The class path and the constructor's arguments of a model, wrapper, constraint or domain.

    Arguments are read from attributes of the constructor's parameter names; modules and dataclasses
    among them are described in turn, tensors become lists. The result is JSON-able.

    Raises:
        TypeError: an argument is not kept as an attribute, or is not plain data (a function, say).
    """
    kind = type(built)
    if kind.__qualname__ != kind.__name__ or kind.__module__ == "__main__":
        raise TypeError(
            f"{kind.__module__}.{kind.__qualname__} cannot be found again by an import; define it at the top "
            "of a module."
        )
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(
                f"{kind.__name__} takes *{name}; only constructors with named arguments can be described."
            )
        try:
            value = getattr(built, name)
        except AttributeError:
            raise TypeError(
                f"{kind.__name__} does not keep its argument {name!r}; assign it to self.{name} in the constructor."
            ) from None
        arguments[name] = _plain(value, f"{kind.__name__}.{name}")
    return {"class_path": f"{kind.__module__}.{kind.__name__}", "init_args": arguments}


def build(spec: Mapping[str, Any], seed: int | None = None) -> Any:
    """Build what `describe` described, or what a configuration file names.

    Only modules and dataclasses are built, so that data from a checkpoint cannot call anything else.

    Args:
        spec: "class_path" and "init_args".
        seed: draws the first weights from this seed and leaves the global generator as it was.

    Raises:
        ValueError: the class cannot be found or is of another kind, or its arguments do not fit.
    """
    if seed is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(spec)
    unknown = set(spec) - {"class_path", "init_args"}
    if "class_path" not in spec or unknown:
        raise ValueError(f"Got the keys {sorted(spec)}; expected 'class_path' and 'init_args'.")
    path = spec["class_path"]
    kind = _find(path)
    arguments = {name: _built(value) for name, value in (spec.get("init_args") or {}).items()}
    try:
        inspect.signature(kind).bind(**arguments)
    except TypeError as error:
        known = list(inspect.signature(kind).parameters)
        raise ValueError(
            f"{path} got the arguments {sorted(arguments)}: {error}; it takes {known}."
        ) from None
    return kind(**arguments)


def _find(path: Any) -> Any:
    if not isinstance(path, str) or "." not in path:
        raise ValueError(f"Got class_path {path!r}; expected 'package.module.Class'.")
    module, name = path.rsplit(".", 1)
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"Cannot find class_path {path!r}: {error}.") from error
    if not isinstance(kind, type) or not (issubclass(kind, nn.Module) or dataclasses.is_dataclass(kind)):
        raise ValueError(f"class_path {path!r} is no torch.nn.Module and no dataclass.")
    return kind


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{where} is {value}, which plain data cannot hold.")
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, nn.Module) or (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        return describe(value)
    raise TypeError(
        f"{where} is a {type(value).__name__}, which is not plain data; give a module or a dataclass."
    )


def _built(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "class_path" in value:
            return build(value)
        return {key: _built(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_built(item) for item in value]
    return value
