"""Tensors that are symmetric, antisymmetric or without trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from sciml.constraints.base import Constraint, Context, at_least_single
from sciml.domains import Grid, Mesh

Form = Literal["symmetric", "antisymmetric", "traceless", "deviatoric"]


class TensorForm(Constraint):
    """Make tensor fields symmetric, antisymmetric, traceless, or both symmetric and traceless ("deviatoric").

        (S + S')/2,    (S - S')/2,    S - tr(S)/D 1,    (S + S')/2 - tr(S)/D 1

    at each point: the nearest tensors of the form. Stresses, strains and order parameters have one, and components that
    are predicted apart lose it. For positive tensors let a network give factors: `PositiveTensors`.

    Args:
        domain: where the points lie, in D dimensions.
        tensors: of each tensor its D*D channels, row by row.
        form: see above.

    Raises:
        ValueError: the form is unknown, or channels do not fit.
    """

    def __init__(
        self, domain: Grid | Mesh, tensors: Sequence[Sequence[int]], form: Form = "symmetric"
    ) -> None:
        super().__init__()
        if form not in get_args(Form):
            raise ValueError(f"TensorForm got form={form!r}; expected one of {list(get_args(Form))}.")
        self.domain, self.form = domain, form
        self.tensors = checked_tensors(tensors, domain.dimension, "TensorForm")

    def _parts(self, u: Tensor) -> Tensor:
        """The tensors, (B, K, D, D, *points)."""
        d = self.domain.dimension
        highest = max(c for group in self.tensors for c in group)
        if u.shape[2:] != self.domain.shape or u.shape[1] <= highest:
            raise ValueError(
                f"TensorForm got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{self.domain.shape} and channels up to {highest}."
            )
        return torch.stack([u[:, list(group)] for group in self.tensors], dim=1).unflatten(2, (d, d))

    @property
    def nonexpansive(self) -> bool:
        return True

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        s = self._parts(u)
        d = self.domain.dimension
        turned = s.transpose(2, 3)
        new = s
        if self.form in ("symmetric", "deviatoric"):
            new = 0.5 * (s + turned)
        elif self.form == "antisymmetric":
            new = 0.5 * (s - turned)
        if self.form in ("traceless", "deviatoric"):
            trace = s.diagonal(dim1=2, dim2=3).sum(dim=-1)
            one = torch.eye(d, dtype=u.dtype, device=u.device).reshape(1, 1, d, d, *[1] * (u.ndim - 2))
            new = new - one * (trace / d).unsqueeze(2).unsqueeze(3)
        index = torch.tensor([c for group in self.tensors for c in group], device=u.device)
        return u.index_copy(1, index, new.flatten(1, 3))

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest difference from tensors of the form, (B,) [unit of u]."""
        u = at_least_single(u)
        return (u - self.project(u)).abs().flatten(1).amax(dim=1)


def checked_tensors(
    tensors: Sequence[Sequence[int]], dimension: int, owner: str
) -> tuple[tuple[int, ...], ...]:
    """Channels of tensors as tuples.

    Raises:
        ValueError: there is none, one has not D*D channels, or a channel is negative or comes twice.
    """
    groups = tuple(tuple(int(c) for c in group) for group in tensors)
    named = [c for group in groups for c in group]
    wrong = any(len(group) != dimension**2 for group in groups)
    if not groups or wrong or min(named) < 0 or len(set(named)) != len(named):
        raise ValueError(
            f"{owner} got tensors {groups}; expected one or more of {dimension**2} different channels each, row by row."
        )
    return groups
