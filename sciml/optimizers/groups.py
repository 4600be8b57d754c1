"""What the weights of a network are: matrices, convolutions, one matrix per Fourier mode, or something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["matrix", "convolution", "modes", "packed modes", "other"]

OUTER = ("lift", "projection", "encoder", "decoder", "embed", "lead")
"""Parts of names by which the layers between the fields and the hidden channels are known."""

_CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


def kind_of(owner: nn.Module, name: str, parameter: Tensor) -> Kind:
    """What one parameter of a module is.

    "matrix" (out, in); "convolution" (out, in, *kernel); "modes" (in, out, *modes), complex; "packed modes" the same as
    real numbers (in, out, *modes, 2), which a module says of itself in `packed_complex`, the names of such parameters.
    All else is "other": biases, scales, embeddings, and arrays that nobody here knows.
    """
    if name in getattr(owner, "packed_complex", ()):
        return "packed modes"
    if parameter.is_complex():
        return "modes" if parameter.ndim >= 2 else "other"
    if isinstance(owner, (nn.Embedding, nn.EmbeddingBag)):
        return "other"
    if parameter.ndim == 2:
        return "matrix"
    return "convolution" if isinstance(owner, _CONVOLUTIONS) and parameter.ndim > 2 else "other"


def parameter_groups(module: nn.Module, outer: Sequence[str] = OUTER) -> list[dict[str, Any]]:
    """The trained parameters of a network as optimisers' groups, each with its "kind" and whether it is "outer".

    Outer are the layers that lead from the fields to the hidden channels and back, which are not treated as matrices
    by optimisers that orthogonalise. They are known by a part of their names; in a network without such names, the
    first and the last matrix count as outer.
    """
    found: list[tuple[str, Kind, nn.Parameter]] = []
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                found.append((f"{prefix}.{name}", kind_of(owner, name, parameter), parameter))
    named = {name for name, _, _ in found if any(part in name for part in outer)}
    if not named:
        matrices = [name for name, kind, _ in found if kind != "other"]
        named = {*matrices[:1], *matrices[-1:]}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, kind, parameter in found:
        groups.setdefault((kind, name in named), []).append(parameter)
    return [{"params": p, "kind": kind, "outer": outside} for (kind, outside), p in groups.items()]


def as_matrices(x: Tensor, kind: Kind) -> Tensor:
    """A parameter of any kind but "other" as one matrix or a batch of them, (..., out, in).

    A Fourier weight is a complex matrix for each of its modes. The modes are never joined into one matrix, which
    would mix what the layer keeps apart.

    Raises:
        ValueError: the kind is "other".
    """
    if kind == "matrix":
        return x
    if kind == "convolution":
        return x.flatten(1)
    if kind == "packed modes":
        x = torch.view_as_complex(x.contiguous())
    elif kind != "modes":
        raise ValueError(f"as_matrices got a parameter of kind {kind!r}, which is no matrix.")
    return x.flatten(2).permute(2, 1, 0) if x.ndim > 2 else x.mT


def from_matrices(x: Tensor, kind: Kind, shape: torch.Size) -> Tensor:
    """Back from `as_matrices` to the shape of the parameter."""
    if kind in ("matrix", "convolution"):
        return x.reshape(shape)
    whole = (x.permute(2, 1, 0) if x.ndim > 2 else x.mT).resolve_conj()
    if kind == "packed modes":
        return torch.view_as_real(whole.reshape(shape[:-1]).contiguous())
    return whole.reshape(shape)
