"""Values that are prescribed at some points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.constraints.base import (
    Context,
    at_least_single,
    checked_channels,
    replace_channels,
    select,
)
from sciml.constraints.given import called, given_tensor
from sciml.constraints.linear import Linear
from sciml.constraints.right_hand_side import RightHandSide
from sciml.domains import Cloud, Domain


class FixedValues(Linear):
    """Prescribed values at some points, such as those of Dirichlet sides, written to the last bit.

    The next step sees them, since they are a part of the state. Alone it is an overwrite; in a `Stack` or beside other
    linear constraints in a `Chain` the others are met by the points that are free.

    Args:
        domain: where the points lie.
        mask: where values are held, booleans of the shape of the points, or (K, *points) where channels differ: a tensor,
            nested lists, a file `.npy` or `.npz` (with an array "mask"), or a function of the domain.
        values: "previous" for those of the state before, "context" for `context.targets[target]`, or numbers or a
            file with an array "values", one for all or of a shape that fits (K, *points) [unit of u].
        channels: numbers of the K channels that are held, all where left out.
        target: under which name the context holds the values.

    Raises:
        ValueError: the mask does not fit, or holds no point.
        UserError: a file is missing or cannot be read safely.
    """

    disjoint = True
    mask: Tensor
    place: Tensor

    def __init__(
        self,
        domain: Domain,
        mask: Tensor | Sequence[Any] | str | Callable[..., Any],
        values: Tensor | Sequence[Any] | float | str = "previous",
        channels: Sequence[int] | None = None,
        target: str = "values",
    ) -> None:
        super().__init__()
        held = given_tensor(called(mask, domain, "mask", "FixedValues"), "mask", "FixedValues")
        if held.dtype != torch.bool:
            raise ValueError(
                f"FixedValues got a mask of {held.dtype}; expected booleans, True where u is held."
            )
        self.channels = checked_channels(channels, "FixedValues")
        axes = held.ndim if isinstance(domain, Cloud) else len(domain.shape)
        points = tuple(held.shape[held.ndim - axes :])
        apart = held.ndim == axes + 1
        fits = isinstance(domain, Cloud) or points == tuple(domain.shape)
        if not fits or held.ndim > axes + 1 or not bool(held.any()):
            raise ValueError(
                f"FixedValues got a mask of shape {tuple(held.shape)} that is true at {int(held.sum())} points; expected "
                f"{None if isinstance(domain, Cloud) else tuple(domain.shape)}, perhaps behind an axis of channels, "
                "and one point or more."
            )
        if apart and self.channels is not None and len(held) != len(self.channels):
            raise ValueError(
                f"FixedValues got a mask for {len(held)} channels that acts on channels {self.channels}."
            )
        self._points = points
        self.apart = apart
        self.register_buffer("mask", held, persistent=False)
        # Numbers of the held unknowns: of points where all channels hold the same, else of channels and points.
        self.register_buffer("place", held.flatten().nonzero().flatten(), persistent=False)
        self.right = RightHandSide(values, target, "FixedValues")

    @property
    def points(self) -> tuple[int, ...]:
        return self._points

    @property
    def volumes(self) -> None:
        return None

    def _held(self, channels: int) -> Tensor:
        """Mask of the chosen channels, (K, *points)."""
        count = channels if self.channels is None else len(self.channels)
        if self.apart and len(self.mask) != count:
            raise ValueError(
                f"FixedValues got a mask for {len(self.mask)} channels; the state has {channels}."
            )
        return self.mask.expand(count, *self._points)

    def fixed(self, channels: int) -> Tensor:
        held = self._held(channels)
        if self.channels is None:
            return held
        whole = torch.zeros(channels, *self._points, dtype=torch.bool, device=held.device)
        return whole.index_copy(0, torch.tensor(self.channels, device=held.device), held)

    def count(self, channels: int) -> int:
        held = channels if self.channels is None else len(self.channels)
        return len(self.place) if self.apart else held * len(self.place)

    def _gathered(self, v: Tensor) -> Tensor:
        """The held values of the chosen channels, (B, K, *points) -> (B, q)."""
        self._held(
            v.shape[1] if self.channels is None else 1 + max(self.channels)
        )  # refuses other channels
        if self.apart:
            return v.flatten(1)[:, self.place]
        return v.flatten(2)[..., self.place].flatten(1)

    def _selected(self, u: Tensor) -> Tensor:
        v = select(u, self.channels, "FixedValues")
        if u.shape[2:] != self._points:
            raise ValueError(
                f"FixedValues got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{self._points}."
            )
        return v

    def _values(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        """What is held, (B, K, *points) in float64, of meaning where the mask is true."""
        if self.right.source == "previous":
            return self._selected(self.right.before(u, previous))
        return self.right.given(u, context, self._selected(u).shape[1:])

    def multiply(self, u: Tensor) -> Tensor:
        return self._gathered(self._selected(u)).to(torch.float64)

    def transpose(self, y: Tensor, channels: int) -> Tensor:
        held = self._held(channels)
        if self.apart:
            flat = y.new_zeros(len(y), held.numel()).index_copy(1, self.place, y)
        else:
            each = y.unflatten(1, (len(held), -1))
            flat = y.new_zeros(*each.shape[:2], held[0].numel()).index_copy(2, self.place, each).flatten(1)
        v = flat.unflatten(1, held.shape)
        if self.channels is None:
            return v
        return replace_channels(v.new_zeros(len(v), channels, *self._points), self.channels, v)

    def squares(self, diagonal: Tensor) -> Tensor:
        return self._gathered(select(diagonal.unsqueeze(0), self.channels, "FixedValues"))[0]

    def target(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        return self._gathered(self._values(u, previous, context))

    def row_name(self, row: int, channels: int) -> str:
        k, *point = self._held(channels).nonzero()[row].tolist()
        channel = k if self.channels is None else self.channels[k]
        return f"channel {channel} at point {tuple(point)}"

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        v = self._selected(u)
        values = self._values(u, previous, context).to(u.dtype)
        return replace_channels(u, self.channels, torch.where(self._held(u.shape[1]), values, v))
