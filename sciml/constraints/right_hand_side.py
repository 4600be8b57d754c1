"""Where the right-hand side of a constraint comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.constraints.base import Context, Exact
from sciml.constraints.given import given_tensor

Source = Literal["previous", "context"]


class RightHandSide(Exact):
    """Values that are held: those of the previous state, of the context, or given ones.

    Args:
        values: "previous"; "context", for `context.targets[target]`; or numbers or a file with them.
        target: that name.
        owner: for messages.
    """

    constant: Tensor | None

    def __init__(self, values: object, target: str, owner: str) -> None:
        super().__init__()
        self.owner = owner
        self.target = target
        self.source: Source | None = None
        constant = None
        if isinstance(values, str) and values in get_args(Source):
            self.source = "previous" if values == "previous" else "context"
        else:
            constant = given_tensor(values, "values", owner)
            constant = constant.to_dense() if constant.layout != torch.strided else constant
        self.register_buffer(
            "constant", None if constant is None else constant.to(torch.float64), persistent=False
        )

    def before(self, u: Tensor, previous: Tensor | None) -> Tensor:
        """The previous state in float64.

        Raises:
            ValueError: it is missing, or has another shape.
        """
        if previous is None:
            raise ValueError(f"{self.owner} holds the values of the previous state; pass it.")
        if previous.shape != u.shape:
            raise ValueError(
                f"{self.owner} got a state of shape {tuple(u.shape)} after one of shape {tuple(previous.shape)}; they "
                "must agree."
            )
        return previous.to(torch.float64)

    def given(self, u: Tensor, context: Context | None, shape: Sequence[int]) -> Tensor:
        """Constant values or those of the context, (B, *shape) in float64.

        Raises:
            ValueError: the context has none, or their shape is neither `shape` nor (B, *shape).
        """
        found = self.constant
        if self.source == "context":
            found = None if context is None else context.targets.get(self.target)
            if found is None:
                raise ValueError(
                    f"{self.owner} holds values of the context; pass Context(targets={{{self.target!r}: ...}})."
                )
            found = found.to(device=u.device, dtype=torch.float64)
        assert found is not None  # a source or a constant, by the constructor
        wanted = tuple(shape)
        try:
            if found.ndim <= len(wanted):
                return found.expand(wanted).expand(len(u), *wanted)
            return found.expand(len(u), *wanted)
        except RuntimeError as error:
            raise ValueError(
                f"{self.owner} got values of shape {tuple(found.shape)}; expected {wanted} or {(len(u), *wanted)}."
            ) from error
