"""A bounded state whose gradient passes its bounds."""

from __future__ import annotations

from torch import Tensor, nn

from sciml.models.wrappers import Map


class Clipped(nn.Module):
    """What a map gives, cut off at bounds, with a gradient beyond them.

        u' = min(max(z, lower), upper),    du'/dz = 1 inside, `leak` outside

    A plain clip has no gradient where it acts: what is out of bounds never learns to come back. With leak 1 (straight
    through) the gradient is that of no clip, with a smaller one it is weakened. The value is exact to the last bit; the
    gradient is deliberately none of it, and nothing is conserved: `Bounds`, `Simplex`, `LimitedTransport` keep sums as well.
    Bounds are meant in physical units: in a study set residual: false and normalized: false.

    Args:
        f: map (B, C, *points) -> (B, C', *points).
        lower, upper: None for no such bound [unit of u].
        leak: between 0, a plain clip, and 1.

    Raises:
        ValueError: there is no bound, they are not in order, or the leak is outside.

    Bengio, Léonard and Courville, Estimating or propagating gradients through stochastic neurons, arXiv 1308.3432.
    """

    physical = True

    def __init__(
        self, f: Map, lower: float | None = 0.0, upper: float | None = None, leak: float = 1.0
    ) -> None:
        super().__init__()
        if (lower is None and upper is None) or (
            lower is not None and upper is not None and not lower < upper
        ):
            raise ValueError(
                f"Clipped got lower {lower} and upper {upper}; expected lower < upper, or one."
            )
        if not 0 <= leak <= 1:
            raise ValueError(f"Clipped got leak={leak}; expected a number from 0 to 1.")
        self.f, self.lower, self.upper, self.leak = f, lower, upper, float(leak)

    def forward(self, u: Tensor) -> Tensor:
        z: Tensor = self.f(u)
        held = z.clamp(self.lower, self.upper)
        beyond = z - held
        # Zero to the last bit, with a derivative.
        return held + self.leak * (beyond - beyond.detach())
