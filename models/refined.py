"""A step that corrects its own prediction, scale by scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sciml.models.wrappers import Map


class Refined(nn.Module):
    """A network called K + 1 times a step: it predicts the change, then K times removes noise that is put on it.

    Noise of a small size drowns what is smaller still, so each further call attends to smaller amplitudes,
    which a mean square error does not see but long rollouts do. With y = (u' - u) / scale,

        y_0 = f([u, 0, 0]),    x = a_k y_{k-1} + s_k e,    y_k = a_k x - s_k f([u, x, k/K]),    u' = u + scale y_K

    where a_k^2 + s_k^2 = 1, a_k^2 = prod_{j >= k} (1 - b_j) and b_k = v^(k/K) falls to the smallest variance v.
    PDE-Refiner: Lippe et al., NeurIPS 2023, arXiv 2308.05732; levels and the target v = a_k e - s_k y as in the
    authors' code. Trained by `Refinement`, with an average of the weights (`ema`).

    The noise e is the same at every call unless a generator is given, so that the step is a function of the state.

    It adds the increment itself: no `Residual` goes around it.

    Args:
        f: map (B, 2 C + 1, *points) -> (B, C, *points) of the state, the disturbed change and k/K.
        refinements: K; 0 is a network that predicts the change.
        scale: typical size of the change in one step, in units of the state.
        min_variance: v, of the last noise, in units of `scale`. Noise larger than the smallest amplitudes that
            matter does nothing for them.
        seed: of the noise.

    Raises:
        ValueError: a number is out of range; or the states' precision rounds away the smallest noise.
    """

    signal: Tensor
    noise: Tensor

    def __init__(
        self,
        f: Map,
        refinements: int = 3,
        scale: float = 0.3,
        min_variance: float = 4e-7,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if refinements < 0 or not scale > 0 or not 0 < min_variance < 1:
            raise ValueError(
                f"Refined got refinements={refinements}, scale={scale}, min_variance={min_variance}; expected "
                "refinements of 0 or more, a positive scale and a variance between 0 and 1."
            )
        self.f = f
        self.refinements = int(refinements)
        self.scale = float(scale)
        self.seed = int(seed)
        levels = torch.arange(1, refinements + 1, dtype=torch.float64)
        # Logarithms, since 1 - v and v would round to 1 and 0 in the precision of the states.
        log_square = (
            torch.log1p(-(min_variance ** (levels / max(1, refinements)))).flip(0).cumsum(0).flip(0)
        )
        zero = torch.zeros(1, dtype=torch.float64)
        self.register_buffer("signal", torch.cat([zero, (0.5 * log_square).exp()]), persistent=False)
        self.register_buffer(
            "noise", torch.cat([zero + 1, (-torch.expm1(log_square)).sqrt()]), persistent=False
        )

    def check(self, u: Tensor) -> None:
        """Refuse a precision in which the changes are rounded by more than a tenth of the smallest noise."""
        rounding = torch.finfo(u.dtype).eps * float(u.detach().abs().mean()) / self.scale
        if self.refinements and rounding > 0.1 * float(self.noise[-1]):
            raise ValueError(
                f"Refined adds noise of {float(self.noise[-1]):.2g} times the scale of a change, but in {u.dtype} "
                f"changes are rounded by {rounding:.2g} of it; raise min_variance, or compute in a higher precision."
            )

    def denoise(self, u: Tensor, x: Tensor, level: Tensor) -> Tensor:
        """The network's answer for disturbed changes x (B, C, *points) at levels (B,)."""
        mark = (level.to(u) / max(1, self.refinements)).reshape(-1, *[1] * (u.ndim - 1))
        return self.f(torch.cat([u, x, mark.expand(len(u), 1, *u.shape[2:])], dim=1))

    def disturbed(self, y: Tensor, level: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given for the true change y at levels (B,), and what it should answer."""
        shape = (-1, *[1] * (y.ndim - 1))
        a, s = (values[level].to(y).reshape(shape) for values in (self.signal, self.noise))
        first = (level == 0).reshape(shape)
        return torch.where(first, 0.0, a * y + s * noise), torch.where(first, y, a * noise - s * y)

    def forward(self, u: Tensor, generator: torch.Generator | None = None) -> Tensor:
        y = self.denoise(u, torch.zeros_like(u), self._level(u, 0))
        fixed = torch.Generator().manual_seed(self.seed)
        for k in range(1, self.refinements + 1):
            if generator is None:
                noise = torch.randn(u.shape[1:], generator=fixed, dtype=torch.float64).to(u)
            else:
                noise = torch.randn(
                    u.shape, generator=generator, dtype=u.dtype, device=generator.device
                ).to(u)
            a, s = (values[k].to(u) for values in (self.signal, self.noise))
            x = a * y + s * noise
            y = a * x - s * self.denoise(u, x, self._level(u, k))
        return u + self.scale * y

    def _level(self, u: Tensor, k: int) -> Tensor:
        return torch.full((len(u),), k, device=u.device)
