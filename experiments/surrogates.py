"""Surrogates from a study's variants, and the checkpoints that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sciml.domains import Domain, Grid, Mesh, NodeType, Point
from sciml.errors import UserError
from sciml.experiments import components
from sciml.experiments.config import Variant
from sciml.experiments.files import load_tensors
from sciml.trajectory import Field, channel_names

FORMAT = "sciml surrogate 1"


@dataclass(frozen=True, eq=False)
class Facts:
    """What the data say to the parts of a surrogate, and what a checkpoint remembers of the data.

    Args:
        domain: where the points lie.
        fields: quantities that are predicted.
        dt: time between stored states, 0 for maps.
        mean, std: per output channel (C,), of the training split.
        inputs: quantities of the input of a map; none where the state itself goes in.
        input_mean, input_std: per input channel, for maps.
        delta_mean, delta_std: per channel (C,), of the change from one stored frame to the next; those of a checkpoint
            that does not know them are none.
        initial: the state (C, *points) at time 0 that a function of place and time starts from.
        horizon: last time that such a function covers.
        recipe: what made the data, a recipe's name or file; none where that is not known.
    """

    domain: Domain
    fields: tuple[Field, ...]
    dt: float
    mean: Tensor
    std: Tensor
    inputs: tuple[Field, ...] = ()
    input_mean: Tensor | None = None
    input_std: Tensor | None = None
    initial: Tensor | None = None
    horizon: float = 0.0
    delta_mean: Tensor | None = None
    delta_std: Tensor | None = None
    recipe: str | None = None

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the predicted channels (C,)."""
        return channel_names(self.fields, self.domain.dimension)

    def arguments(self, part: str) -> dict[str, Any]:
        """Constructor arguments of "network", "constraint" or "objective" that the data decide, by name."""
        count = len(self.channels)
        given: dict[str, Any] = {
            **of_domain(self.domain),
            "in_channels": len(channel_names(self.inputs, self.domain.dimension)) or count,
            "out_channels": count,
            "channels": count,
            "mean": self.mean,
            "std": self.std,
            "dt": self.dt,
        }
        if self.recipe is not None:
            given["recipe"] = self.recipe
        if isinstance(self.domain, Grid):
            given |= {"lengths": self.domain.lengths, "origin": self.domain.origin}
            given["periodic"] = self.domain.periodic
        if self.initial is not None:
            given |= {"initial": self.initial, "horizon": self.horizon}
        return {name: value for name, value in given.items() if name in components.FILLED[part]}

    def to_plain(self) -> dict[str, Any]:
        """As tensors and plain values, for a checkpoint."""
        return {
            "domain": domain_to_plain(self.domain),
            "fields": [asdict(f) for f in self.fields],
            "inputs": [asdict(f) for f in self.inputs],
            "dt": self.dt,
            "mean": self.mean,
            "std": self.std,
            "input_mean": self.input_mean,
            "input_std": self.input_std,
            "initial": self.initial,
            "horizon": self.horizon,
            "delta_mean": self.delta_mean,
            "delta_std": self.delta_std,
            "recipe": self.recipe,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Facts:
        """Read what `to_plain` wrote."""
        return cls(
            domain_from_plain(plain["domain"]),
            tuple(Field(**f) for f in plain["fields"]),
            plain["dt"],
            plain["mean"],
            plain["std"],
            tuple(Field(**f) for f in plain["inputs"]),
            plain["input_mean"],
            plain["input_std"],
            plain["initial"],
            plain["horizon"],
            plain.get("delta_mean"),
            plain.get("delta_std"),
            plain.get("recipe"),
        )


def of_domain(domain: Domain) -> dict[str, Any]:
    """Constructor arguments that the domain decides, all that constraints are told, by name."""
    given: dict[str, Any] = {"dimension": domain.dimension, "domain": domain}
    if isinstance(domain, Grid):
        given["grid"] = domain
    if isinstance(domain, Mesh):
        given["mesh"] = domain
    return given


def _increment(variant: Variant, facts: Facts, name: str) -> tuple[Tensor | None, Tensor | None]:
    """Mean and scale of the increments that a network gives, in units of the state that it sees."""
    if not variant.delta:
        return None, None
    if facts.delta_mean is None or facts.delta_std is None:
        raise UserError(f"variants.{name}.delta needs the statistics of increments; make stats.yaml again.")
    unit = facts.std if variant.normalized else torch.ones_like(facts.std)
    return facts.delta_mean / unit, facts.delta_std / unit


def domain_to_plain(domain: Domain) -> dict[str, Any]:
    """A grid, a mesh or no space as tensors and plain values."""
    if isinstance(domain, Grid):
        return {
            "kind": "grid",
            "shape": list(domain.shape),
            "lengths": list(domain.lengths),
            "boundary": [list(pair) for pair in domain.sides],
            "origin": list(domain.origin) if isinstance(domain.origin, tuple) else domain.origin,
            "centering": domain.centering,
        }
    if isinstance(domain, Mesh):
        return {"kind": "mesh", "points": domain.points, "cells": domain.cells, "node_type": domain.types}
    if isinstance(domain, Point):
        return {"kind": "point"}
    raise UserError(
        f"surrogates live on grids, meshes and points without space; the data are on a {type(domain).__name__}."
    )


def domain_from_plain(plain: Mapping[str, Any]) -> Domain:
    """Read what `domain_to_plain` wrote."""
    if plain["kind"] == "grid":
        return Grid(
            tuple(plain["shape"]),
            tuple(plain["lengths"]),
            tuple((low, high) for low, high in plain["boundary"]),
            tuple(plain["origin"]),
            plain["centering"],
        )
    if plain["kind"] == "point":
        return Point()
    return Mesh(plain["points"], plain["cells"], plain["node_type"])


def describe_domain(domain: Domain) -> str:
    """A domain in a few words, for messages."""
    if isinstance(domain, Grid):
        return f"grid of {'x'.join(map(str, domain.shape))} points, sides {domain.lengths}"
    if isinstance(domain, Mesh):
        return f"mesh of {domain.shape[0]} nodes and {len(domain.cells)} cells in {domain.dimension}D"
    if isinstance(domain, Point):
        return "a system without space"
    return f"box of sides {domain.lengths}"


def same_domain(a: Domain, b: Domain) -> bool:
    """Whether two domains have the same points."""
    if isinstance(a, Mesh) and isinstance(b, Mesh):
        same = a.points.shape == b.points.shape and a.cells.shape == b.cells.shape
        return same and torch.equal(a.points, b.points) and torch.equal(a.cells, b.cells)
    return a == b


def build(variant: Variant, facts: Facts, *, seed: int, name: str = "variant") -> nn.Module:
    """The surrogate of a variant, freshly initialised.

    A Step; for facts with inputs, a map from input to target; for facts with an initial state, the
    network itself as a function of place and time.

    Weights come from `seed` alone; the state of torch's global generator is left as it was.

    Raises:
        UserError: a component refuses its arguments, or does not suit the data.
    """
    from sciml.models import wrappers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            f: nn.Module = components.build(
                variant.network, f"variants.{name}.network", "network", facts.arguments("network")
            )
        except UserError as error:
            if isinstance(facts.domain, Point):
                raise UserError(
                    f"{error} The data hold a system without space, whose states are numbers and no fields: take PLRNN, "
                    "NeuralODE or a forecaster (`sciml list models`)."
                ) from error
            raise
    if not isinstance(f, nn.Module):
        raise UserError(f"variants.{name}.network is a {type(f).__name__}; expected a torch module.")
    if facts.initial is not None:
        return f
    if facts.inputs:
        assert facts.input_mean is not None and facts.input_std is not None  # they come with the inputs
        if variant.constraint is not None or variant.hold:
            raise UserError(
                f"variants.{name}: constraint and hold act on a state that is stepped forward; leave them out "
                "for maps."
            )
        if variant.normalized:
            f = wrappers.NormalizedMap(f, facts.input_mean, facts.input_std, facts.mean, facts.std)
        return f
    if is_carried(f):
        return _carried(f, variant, facts, name)
    if isinstance(f, wrappers.Corrected) and (variant.residual or variant.normalized):
        raise UserError(
            f"variants.{name}.network is a Corrected, whose solver gives states in physical units; set residual: false and "
            "normalized: false, and put Normalized and Residual around the network inside."
        )
    if getattr(f, "physical", False) and (variant.residual or variant.normalized):
        raise UserError(
            f"variants.{name}.network is a {type(f).__name__}, which gives whole states in physical units and scales what "
            "its network sees by itself; set residual: false and normalized: false."
        )
    if getattr(f, "whole", False) and variant.residual:
        raise UserError(
            f"variants.{name}.network is a {type(f).__name__}, which gives whole states and keeps nothing where the state "
            "before is added; set residual: false."
        )
    if variant.residual:
        f = wrappers.Residual(f, *_increment(variant, facts, name))
    if variant.normalized:
        f = wrappers.Normalized(f, facts.mean, facts.std)
    if variant.constraint is not None:
        where = f"variants.{name}.constraint"
        constraint = components.build(
            variant.constraint, where, "constraint", facts.arguments("constraint")
        )
        try:
            f = wrappers.Constrained(f, constraint, begins=variant.begins)
            constraint.prepare(len(facts.channels))
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: {error}") from error
    if variant.hold:
        f = wrappers.HoldNodes(f, held_nodes(facts.domain, variant.hold, name))
    return wrappers.Surrogate(f, facts.dt, facts.domain, facts.channels)


def is_carried(f: nn.Module) -> bool:
    """Whether a network carries numbers of its own along: a forecaster, or latent dynamics behind an observation."""
    return all(hasattr(f, name) for name in ("history", "begin", "advance", "show"))


def _carried(f: nn.Module, variant: Variant, facts: Facts, name: str) -> nn.Module:
    """The surrogate around such a network; what increments are is its own business."""
    from sciml.models import ForecastSurrogate

    if variant.constraint is not None or variant.hold or variant.delta:
        raise UserError(
            f"variants.{name}: constraint, hold and delta act on a state that is stepped forward; a "
            f"{type(f).__name__} carries more than that along. Leave them out."
        )
    mean, std = facts.mean, facts.std
    if not variant.normalized:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    # Whatever has these members will do; the two kinds that the package knows say what they are.
    return ForecastSurrogate(cast(Any, f), mean, std, facts.dt, facts.domain, facts.channels)


def held_nodes(domain: Domain, types: Sequence[str], name: str = "variant") -> Tensor:
    """Mask (N,) of the nodes whose type is in `types`.

    Raises:
        UserError: the domain is no mesh, or a type is unknown.
    """
    if not isinstance(domain, Mesh):
        raise UserError(
            f"variants.{name}.hold needs data on a mesh; these are on a {type(domain).__name__}."
        )
    unknown = [t for t in types if t not in NodeType.__members__]
    if unknown:
        raise UserError(
            f"variants.{name}.hold has {unknown}; expected node types out of {list(NodeType.__members__)}."
        )
    wanted = torch.tensor([int(NodeType[t]) for t in types])
    return torch.isin(domain.types, wanted)


def parameter_count(module: nn.Module) -> int:
    """Number of trained real numbers; a complex weight counts twice."""
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in module.parameters() if p.requires_grad)


def header(variant: Variant, name: str, facts: Facts, seed: int) -> dict[str, Any]:
    """What a checkpoint holds beside weights: constructor arguments and facts of the data."""
    return {
        "format": FORMAT,
        "name": name,
        "variant": asdict(variant),
        "facts": facts.to_plain(),
        "seed": seed,
    }


def read_header(path: Path) -> dict[str, Any]:
    """A checkpoint's content, after checking that it is one of ours.

    Raises:
        UserError: it is not.
    """
    content = load_tensors(path)
    if content.get("format") != FORMAT:
        raise UserError(
            f"{path} is not a checkpoint of this version (format {content.get('format')!r}, expected {FORMAT!r})."
        )
    return content


def load_surrogate(path: Path | str) -> nn.Module:
    """The trained surrogate in a checkpoint, in evaluation mode; it needs neither dataset nor study.

    Raises:
        UserError: the file is missing, damaged, of another format, or of another model.
    """
    content = read_header(Path(path))
    variant = Variant(**content["variant"])
    surrogate = build(
        variant, Facts.from_plain(content["facts"]), seed=content["seed"], name=content["name"]
    )
    load_weights(surrogate, content["weights"], path)
    return surrogate.eval()


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], path: Path | str) -> None:
    """Put weights into a module.

    Raises:
        UserError: names or shapes do not fit: the checkpoint is of another model.
    """
    own = module.state_dict()
    missing, extra = sorted(set(own) - set(weights)), sorted(set(weights) - set(own))
    shapes = [n for n in own if n in weights and own[n].shape != weights[n].shape]
    if missing or extra or shapes:
        parts = []
        if missing:
            parts.append(f"it lacks {len(missing)} weights such as {missing[0]!r}")
        if extra:
            parts.append(f"it has {len(extra)} unknown ones such as {extra[0]!r}")
        if shapes:
            n = shapes[0]
            parts.append(f"{n!r} has shape {tuple(weights[n].shape)}, expected {tuple(own[n].shape)}")
        raise UserError(
            f"{path} is the checkpoint of another model: {'; '.join(parts)}. Give the configuration it was "
            "trained with, or remove it to train anew."
        )
    dtypes = {tuple(sorted({str(w.dtype) for w in weights.values() if w.is_floating_point()}))}
    if dtypes == {("torch.float64",)}:
        module.double()
    module.load_state_dict(dict(weights))
