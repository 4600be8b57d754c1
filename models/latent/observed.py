"""A latent map that is seen through an observation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.regularizers.base import Regularizer, parts_of

View = Literal["affine", "partial"]


class Observed(nn.Module):
    """Latent dynamics z' = F(z) of M numbers, of which C observed ones x are known.

        affine    x = B z with a learned B, z = B^+ x;  M at most C, and every z is seen
        partial   x are the first C of M numbers; the others start from a learned linear map of x and are carried on

    Teacher forcing holds what is seen (`infer`, `held`) and compares what is observed. In a rollout the latent state
    is carried along, `begin`, `advance`, `show`, so that nothing unseen is lost.

    Args:
        f: F, (B, M) to itself, such as a `PLRNN`.
        in_channels: C.
        latent: M.
        view: which observation.

    Raises:
        ValueError: the view is unknown, or the sizes do not suit it.

    Brenner et al., ICML 2022; Hess et al., ICML 2023, arXiv 2306.04406, section 3.
    """

    history = 1

    def __init__(self, f: nn.Module, in_channels: int, latent: int, view: View = "affine") -> None:
        super().__init__()
        if view not in get_args(View):
            raise ValueError(f"Observed got view={view!r}; expected one of {list(get_args(View))}.")
        if view == "affine" and not 1 <= latent <= in_channels:
            raise ValueError(
                f"Observed got latent={latent} for {in_channels} channels; an affine view sees at most as many numbers "
                "as there are channels. Use view='partial' for more."
            )
        if view == "partial" and not latent > in_channels >= 1:
            raise ValueError(
                f"Observed got latent={latent} for {in_channels} channels; a partial view needs more latent numbers."
            )
        self.f, self.size, self.latent, self.view = f, in_channels, latent, view
        if view == "affine":
            # Orthonormal columns: as well conditioned as can be, and no direction is preferred.
            drawn = torch.linalg.qr(torch.randn(in_channels, latent)).Q
            self.matrix = nn.Parameter(drawn.contiguous())
            held = torch.ones(latent)
        else:
            hidden = latent - in_channels
            bound = 1 / math.sqrt(in_channels)
            self.guess = nn.Parameter((2 * torch.rand(hidden, in_channels) - 1) * bound)
            held = torch.cat([torch.ones(in_channels), torch.zeros(hidden)])
        self.register_buffer("held", held, persistent=False)
        self.held: Tensor

    def observe(self, z: Tensor) -> Tensor:
        """Latent states (..., M) to observed ones (..., C)."""
        return z @ self.matrix.T if self.view == "affine" else z[..., : self.size]

    def infer(self, x: Tensor) -> Tensor:
        """Observed states (..., C) to latent ones (..., M), of which those that `held` names are known."""
        if self.view == "affine":
            return x @ torch.linalg.pinv(self.matrix).T
        return torch.cat([x, x @ self.guess.T], dim=-1)

    def advance(self, z: Tensor) -> Tensor:
        """Latent states (B, M), one step later."""
        found: Tensor = self.f(z)
        return found

    def begin(self, history: Tensor) -> Tensor:
        """The last observed states (B, T, C) to the latent one, (B, M)."""
        return self.infer(history[:, -1].to(next(self.parameters()).dtype))

    def show(self, carried: Tensor) -> Tensor:
        """`observe`, for rollouts."""
        return self.observe(carried)

    def forward(self, x: Tensor) -> Tensor:
        """One step of observed states (B, C); what is not seen is guessed anew."""
        return self.observe(self.advance(self.infer(x)))


class ObservationPrior(Regularizer):
    """How unevenly the affine observations in a step see, (1 - s_1 / s_M)^2 with extreme singular values of B.

    An observation with nearly dependent columns enlarges noise when it is inverted. Plus `size` |B|^2.

    Args:
        size: weight of |B|^2.
    """

    def __init__(self, size: float = 0.0) -> None:
        super().__init__()
        self.size = float(size)

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        parts = [m for m in parts_of(step) if isinstance(m, Observed) and m.view == "affine"]
        if not parts:
            raise ValueError(
                f"ObservationPrior found no affine Observed in the step, a {type(step).__name__}; use it with one."
            )
        total = u.new_zeros(())
        for part in parts:
            values = torch.linalg.svdvals(part.matrix)
            total = total + (1 - values[0] / values[-1]).square() + self.size * values.square().sum()
        return total.expand(len(u))
