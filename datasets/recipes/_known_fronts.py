"""What the recipes with known fronts and masses share: states from an exact solution.

Hansen, Maddix, Alizadeh, Gupta and Mahoney, Learning physical models that can respect conservation laws, ICML 2023
(arXiv 2302.11002), section 4 and appendix: families of one parameter, whose mass at any time follows from what enters
through the left side. Each recipe has its range of training; test values come from a recipe of one's own,

    base: stefan
    parameters: {threshold: {class_path: Choice, init_args: {values: [0.5, 0.6]}}}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Grid

CITATION = "Hansen et al., ICML 2023, arXiv 2302.11002: the family and its range of training."

# (domain, parameter (B, 1, 1), time) -> cell averages (B, 1, n) of the exact solution.
Exact = Callable[[Grid, Tensor, float], Tensor]


@dataclass(frozen=True)
class Known:
    """The exact solution at time zero, for the sample's parameter, (1, n).

    Args:
        exact: the solution of the family.
        parameter: name of the one parameter.
    """

    exact: Exact
    parameter: str

    def __call__(
        self, domain: Grid, channels: int, generator: torch.Generator, parameters: Mapping[str, float]
    ) -> Tensor:
        value = torch.tensor(parameters[self.parameter], dtype=torch.float64).reshape(1, 1, 1)
        return self.exact(domain, value, 0.0)[0]

    def __repr__(self) -> str:
        return f"Known({self.exact.__module__.rpartition('.')[2]}, {self.parameter!r})"


def faces(domain: Grid) -> Tensor:
    """Faces of the cells of a line, (1, 1, n + 1)."""
    low = domain.axes()[0][0] - 0.5 * domain.spacing[0]
    return (low + domain.spacing[0] * torch.arange(domain.shape[0] + 1, dtype=torch.float64)).reshape(
        1, 1, -1
    )


def averages(antiderivative: Callable[[Tensor], Tensor], domain: Grid) -> Tensor:
    """Cell averages (B, 1, n) of a function of place by its antiderivative, (1, 1, k) -> (B, 1, k)."""
    return antiderivative(faces(domain)).diff(dim=-1) / domain.spacing[0]
