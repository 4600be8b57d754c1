"""An attentive neural process: a field from some of its values, with a deviation at each point."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sciml.constraints.gaussian import Gaussian

_LEAST_DEVIATION = 1e-3  # in units of `scale`


class AttentiveProcess(nn.Module):
    """A map from values at context points to a normal distribution at each target point.

    What is common to a whole function comes through a latent variable, drawn from a distribution that the context
    (in training, the targets) gives; what is local comes by attention from each target to the context. Points and
    values may come in any order and number. Given the latent variable, target points are independent.

    Args:
        dimension: D of a point, such as 2 for (t, x).
        width: of hidden layers and of the latent variable.
        heads: of attention, dividing the width.
        dropout: share of hidden numbers that training leaves out.
        scale: a typical size of the values [unit of u]; deviations are at least a thousandth of it.

    Kim et al., Attentive Neural Processes, ICLR 2019 (arXiv 1901.05761).
    """

    def __init__(
        self, dimension: int, width: int = 128, heads: int = 4, dropout: float = 0.0, scale: float = 1.0
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"AttentiveProcess got width={width} and heads={heads}; expected heads that divide it."
            )
        if not scale > 0:
            raise ValueError(f"AttentiveProcess got scale={scale}; expected a positive size.")
        self.dimension, self.scale = dimension, scale
        self.latent_in = _Embedding(dimension + 1, width)
        self.latent_blocks = nn.ModuleList(_Attention(width, heads, dropout) for _ in range(2))
        self.latent_out = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2 * width))
        self.local_in = _Embedding(dimension + 1, width)
        self.local_blocks = nn.ModuleList(_Attention(width, heads, dropout) for _ in range(2))
        self.query, self.key = _Embedding(dimension, width), _Embedding(dimension, width)
        self.cross_blocks = nn.ModuleList(_Attention(width, heads, dropout) for _ in range(2))
        self.decoder = nn.Sequential(
            nn.Linear(3 * width, 3 * width), nn.ReLU(),
            nn.Linear(3 * width, 3 * width), nn.ReLU(),
            nn.Linear(3 * width, 3 * width), nn.ReLU(),
            nn.Linear(3 * width, 2),
        )  # fmt: skip

    def latent(self, x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the latent variable, (B, width) each, from points (B, N, D) and values (B, N)."""
        h = self.latent_in(torch.cat((x, u.unsqueeze(-1) / self.scale), dim=-1))
        for block in self.latent_blocks:
            h = block(h, h, h)
        mean, raw = self.latent_out(h.mean(dim=1)).chunk(2, dim=-1)
        return mean, 0.1 + 0.9 * torch.sigmoid(raw)

    def local(self, x: Tensor, u: Tensor, at: Tensor) -> Tensor:
        """What points `at` (B, M, D) hear from the context, points (B, N, D) with values (B, N): (B, M, width)."""
        h = self.local_in(torch.cat((x, u.unsqueeze(-1) / self.scale), dim=-1))
        for block in self.local_blocks:
            h = block(h, h, h)
        query, key = self.query(at), self.key(x)
        for block in self.cross_blocks:
            query = block(query, key, h)
        return query

    def decode(self, z: Tensor, local: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation at points `at` (B, M, D), (B, M) each [unit of u], for a latent variable (B, width) and what
        `local` says of these points."""
        each = z.unsqueeze(1).expand(-1, at.shape[1], -1)
        mean, raw = self.decoder(torch.cat((local, each, self.query(at)), dim=-1)).unbind(-1)
        return mean * self.scale, (nn.functional.softplus(raw) + _LEAST_DEVIATION) * self.scale

    def loss(self, x: Tensor, u: Tensor, at: Tensor, truth: Tensor) -> Tensor:
        """What training makes small, per target point: minus the log likelihood of the truth (B, M) at points `at`, and the
        divergence of the latent variable seen by the targets from that seen by the context (x, u)."""
        _checked(x, u, at, self.dimension)
        mean_c, sd_c = self.latent(x, u)
        mean_t, sd_t = self.latent(at, truth)
        z = mean_t + sd_t * torch.randn_like(sd_t)
        mean, sd = self.decode(z, self.local(x, u, at), at)
        likelihood = -0.5 * (((truth - mean) / sd).square() + 2 * sd.log() + math.log(2 * math.pi))
        divergence = (
            (sd_c / sd_t).log() + (sd_t.square() + (mean_t - mean_c).square()) / (2 * sd_c.square()) - 0.5
        )
        return (divergence.sum(dim=-1) - likelihood.sum(dim=-1)).mean() / truth.shape[1]

    def forward(
        self, x: Tensor, u: Tensor, at: Tensor, samples: int = 1, generator: torch.Generator | None = None
    ) -> Gaussian:
        """The field at points `at` (B, M, D), given values u (B, N) at x (B, N, D), for draws of the latent variable.

        Returns independent numbers (samples, B, M); `sciml.constraints.gaussian.mixture` makes one belief of the draws, best
        after what is known was imposed on each.

        Raises:
            ValueError: shapes do not fit.
        """
        _checked(x, u, at, self.dimension)
        mean, sd = self.latent(x, u)
        local = self.local(x, u, at)
        drawn = []
        for _ in range(samples):
            noise = torch.randn(mean.shape, dtype=mean.dtype, device=mean.device, generator=generator)
            drawn.append(self.decode(mean + sd * noise, local, at))
        means, deviations = (torch.stack(part) for part in zip(*drawn, strict=True))
        return Gaussian(means, deviations.square())


class _Embedding(nn.Sequential):
    """Points, with or without values, as vectors."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width))


class _Attention(nn.Module):
    """Attention with a residual and a layer behind it, normalised."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.layer = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found, _ = self.attention(query, key, value, need_weights=False)
        h = self.first(query + found)
        out: Tensor = self.second(h + self.layer(h))
        return out


def _checked(x: Tensor, u: Tensor, at: Tensor, dimension: int) -> None:
    if x.ndim != 3 or x.shape[-1] != dimension or u.shape != x.shape[:2] or at.shape[::2] != x.shape[::2]:
        raise ValueError(
            f"AttentiveProcess got points {tuple(x.shape)}, values {tuple(u.shape)} and targets {tuple(at.shape)}; expected "
            f"(B, N, {dimension}), (B, N) and (B, M, {dimension})."
        )
