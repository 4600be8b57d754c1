"""Gaussian process regression of a field from some of its values."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.constraints.gaussian import Gaussian

Kernel = Literal["squared exponential", "matern 3/2", "matern 1/2"]
_KERNELS: tuple[str, ...] = ("squared exponential", "matern 3/2", "matern 1/2")


class GaussianProcess(nn.Module):
    """A field with a stationary covariance in all coordinates, a length for each, and values with noise.

    `fit` finds lengths, variance and noise that make given values most likely; `forward` conditions on values. The
    belief is sure near the values and unsure between them, and its numbers are correlated.

    Args:
        dimension: D of a point, such as 2 for (t, x).
        kernel: how the covariance falls with distance: smooth fields, once differentiable ones, or kinks and jumps.
        length, deviation, noise: to begin with, or to keep: length [unit of x], standard deviations [unit of u].

    Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1 and equation 5.8.
    """

    def __init__(
        self,
        dimension: int,
        kernel: Kernel = "matern 3/2",
        length: float = 0.3,
        deviation: float = 1.0,
        noise: float = 1e-2,
    ) -> None:
        super().__init__()
        if kernel not in _KERNELS:
            raise ValueError(f"GaussianProcess got kernel={kernel!r}; expected one of {list(_KERNELS)}.")
        if min(length, deviation, noise) <= 0:
            raise ValueError(
                f"GaussianProcess got length={length}, deviation={deviation}, noise={noise}; expected positive numbers."
            )
        self.kernel: Kernel = kernel
        double = torch.float64
        self.log_length = nn.Parameter(torch.full((dimension,), math.log(length), dtype=double))
        self.log_deviation = nn.Parameter(torch.tensor(math.log(deviation), dtype=double))
        self.log_noise = nn.Parameter(torch.tensor(math.log(noise), dtype=double))

    def prior(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariance between points a (..., N, D) and b (..., M, D), (..., N, M)."""
        scale = self.log_length.exp()
        gap = (a / scale).unsqueeze(-2) - (b / scale).unsqueeze(-3)
        square = gap.square().sum(dim=-1)
        if self.kernel == "squared exponential":
            shape = (-0.5 * square).exp()
        else:
            r = (square + 1e-30).sqrt()  # with a slope at zero
            shape = (
                (-r).exp()
                if self.kernel == "matern 1/2"
                else (1 + math.sqrt(3) * r) * (-math.sqrt(3) * r).exp()
            )
        return (2 * self.log_deviation).exp() * shape

    def log_likelihood(self, x: Tensor, u: Tensor) -> Tensor:
        """Of values u (..., N) at points x (..., N, D), (...,)."""
        factor, white = self._factor(x, u)
        return (
            -0.5 * white.square().sum(dim=-1)
            - factor.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
            - 0.5 * u.shape[-1] * math.log(2 * math.pi)
        )

    def fit(self, x: Tensor, u: Tensor, iterations: int = 50) -> GaussianProcess:
        """Make values u (B, N) at x (B, N, D), functions of one kind, most likely; itself, changed in place."""
        optimizer = torch.optim.LBFGS(self.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            # A weak pull towards sizes of order one keeps what the values do not decide from running away.
            pull = 1e-3 * sum(p.square().sum() for p in self.parameters())
            value = -self.log_likelihood(x, u).mean() / u.shape[-1] + pull
            value.backward()
            return value

        optimizer.step(loss)
        return self

    def forward(self, x: Tensor, u: Tensor, at: Tensor) -> Gaussian:
        """The field at points `at` (..., M, D), given values u (..., N) at x (..., N, D), as M correlated numbers."""
        factor, white = self._factor(x, u)
        across = torch.linalg.solve_triangular(factor, self.prior(x.double(), at.double()), upper=False)
        mean = (across.mT @ white.unsqueeze(-1)).squeeze(-1)
        own = self.prior(at.double(), at.double())
        found = Gaussian.dense(mean, own, jitter=1e-9 * float((2 * self.log_deviation).exp()))
        kept = Gaussian(found.mean, found.spread, found.added, across.mT)
        return Gaussian(*(None if part is None else part.to(u.dtype) for part in _parts(kept)))  # type: ignore[arg-type]

    def _factor(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky factor L of the values' covariance, and L^-1 u."""
        x, u = x.double(), u.double()
        eye = torch.eye(u.shape[-1], dtype=u.dtype, device=u.device)
        covariance = self.prior(x, x) + ((2 * self.log_noise).exp() + 1e-10) * eye
        factor = torch.linalg.cholesky(covariance)
        return factor, torch.linalg.solve_triangular(factor, u.unsqueeze(-1), upper=False).squeeze(-1)


def _parts(belief: Gaussian) -> tuple[Tensor | None, ...]:
    return belief.mean, belief.spread, belief.added, belief.removed
