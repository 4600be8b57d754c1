"""Vector fields of place: free, conservative, or conservative with a remainder that has no divergence."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn

from sciml.models.pinns.slopes import Field, gradient
from sciml.models.pinns.solenoidal_net import solenoidal

Kind = Literal["free", "potential", "helmholtz"]


class HelmholtzNet(nn.Module):
    """F = -grad E ("potential"), -grad E + a field without divergence ("helmholtz"), or anything ("free").

    A potential field has a symmetric Jacobian and does no work along closed loops, for any weights: right for forces
    that must not create energy, wrong for friction, transport and rotation, which the remainder of "helmholtz" can
    express (the parts are not unique: a gradient of a harmonic function is both). `sciml.jacobian.asymmetry` tells how
    far a learned field is from conservative; being so is neither needed for a good model nor a proof of one.

    Args:
        f: field (B, D, *points) -> (B, K, *points), each point by itself: K = D components ("free"), K = 1, the
            energy ("potential"), or K = 1 + D (D - 1)/2, the energy and the potential of `SolenoidalNet` ("helmholtz").
        dimension: D, any from 1 ("helmholtz" from 2).
        kind: see above.

    Raises:
        ValueError: the kind is unknown, or f gives another number of channels.

    Helmholtz's decomposition; Chao et al., On investigating the conservative property of score-based generative
    models (ICML 2023), for fields that are or are not conservative.
    """

    def __init__(self, f: Field, dimension: int, kind: Kind = "helmholtz") -> None:
        super().__init__()
        if kind not in get_args(Kind) or dimension < 1 + (kind == "helmholtz"):
            raise ValueError(
                f"HelmholtzNet got kind={kind!r} in {dimension} dimensions; expected one of {list(get_args(Kind))}, "
                "'helmholtz' in two or more."
            )
        self.f, self.dimension, self.kind = f, dimension, kind

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """F at points x (B, D, *points), and times t (B, 1, *points), (B, D, *points)."""
        given = () if t is None else (t,)
        if x.ndim < 3 or x.shape[1] != self.dimension:
            raise ValueError(
                f"HelmholtzNet got points of shape {tuple(x.shape)}; expected (B, {self.dimension}, *points)."
            )
        if self.kind == "free":
            found = self.f(x, *given)
            self._check(found, self.dimension)
            return found
        expected = 1 if self.kind == "potential" else 1 + self.dimension * (self.dimension - 1) // 2

        def energy(z: Tensor) -> Tensor:
            value = self.f(z, *given)
            self._check(value, expected)
            return value[:, :1]

        force = -gradient(energy, x)
        return force if self.kind == "potential" else force + self.remainder(x, t)

    def remainder(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """The part of "helmholtz" without divergence, (B, D, *points)."""
        given = () if t is None else (t,)
        return solenoidal(lambda z: self.f(z, *given)[:, 1:], x)

    def _check(self, found: Tensor, expected: int) -> None:
        if found.shape[1] != expected:
            raise ValueError(
                f"HelmholtzNet of kind {self.kind!r} in {self.dimension} dimensions needs out_channels: {expected}; its "
                f"network gives {found.shape[1]}."
            )
