"""The Jacobian penalty that adapts to the state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sciml.jacobian.energy import Kind, per_sample
from sciml.jacobian.probes import Distribution
from sciml.jacobian.products import Mode, per_channel
from sciml.jacobian.singular import spectral_norm
from sciml.regularizers.base import Regularizer
from sciml.regularizers.energy import Energy, Target

Points = Literal["grid", "mesh"]
Padding = Literal["circular", "replicate", "zeros"]


class _Clamp(torch.autograd.Function):
    """Clamp whose gradient is stopped only where it points further out.

    A plain clamp has no gradient outside its limits, so a scale that once overshot would stay there.
    """

    @staticmethod
    def forward(ctx: Any, s: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(s)
        ctx.limits = (low, high)
        return s.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (s,) = ctx.saved_tensors
        low, high = ctx.limits
        (grad,) = grads
        outward = ((s < low) & (grad > 0)) | ((s > high) & (grad < 0))
        return torch.where(outward, 0.0, grad), None, None


class JAWS(Regularizer):
    """Jacobian penalty with a learned, local strength: mean over points of exp(-s) q + s.

    q is the estimated row energy of the Jacobian (`jacobian_energy`) and s = s_phi(u) a field that a
    small network reads off the state. At its optimum s = log E[q]: the penalty presses where the step
    is insensitive anyway (smooth regions) and gives way where it has to be sensitive (fronts and
    shocks). s does not see the random probe; if it did, it would learn log E[q] - 1.27.

    Jacobian-adaptive weighting for stability, Nie and Suzuki, arXiv 2603.05538; the head, the clamp and
    the estimator follow from its abstract (a Gaussian prior of variance exp(s) on the local Jacobian).
    The value has no sign and no natural scale: use it with the logarithm of the loss
    (`Regularized(..., scale_free=True)`), or it outweighs a small loss. `Regularized` logs "clamped", the fraction of
    points where s sits on a limit: above one fifth the limits decide, and `hyperprior` or `StudentT` serve better. The
    weight 1 is that of the prior itself. On Burgers' equation with fronts (ConvNet, 800 updates, one seed) s correlates
    with compression to 0.43, 0.66 and 0.95 at weights 0.01, 0.3 and 1, with one-step losses of 9.1e-7, 8.9e-7 and
    1.0e-6.

    Args:
        channels: C of the state.
        dimension: number of space axes; 0 for systems without space, (B, C), where s is one number a state.
        points: "grid" reads a neighbourhood by convolution; "mesh" reads each node alone, for states
            (B, C, N) of any mesh, and so does not see gradients.
        padding: what lies beyond the edge of a grid: "circular" for periodic axes.
        width: hidden channels of the head.
        kernel: odd width of its convolutions.
        limits: smallest and largest s.
        probes: random directions per state; None takes all unit vectors.
        scale: a typical size of each channel (C,); divides the state that the head reads, and the
            Jacobian where channels have unlike units.
        target: "identity" penalises J - I, "solver" J - J_ref of the solver at the same states.
        distribution: of the directions.
        mode: how the Jacobian is multiplied, see `sciml.jacobian.Jacobian`.
        kind: "row", by which fronts are where errors grow; "column" is displaced by what flows in a step.
        hyperprior: shape a and scale b of an inverse-gamma prior of exp(s), which keeps s from running off where
            the step becomes insensitive: mean of exp(-s) (q + 2 b) + (1 + 2 a) s, with its optimum at
            s = log((E[q] + 2 b) / (1 + 2 a)). `StudentT` is what remains without a head.
        solver: for the target of that name.

    Raises:
        ValueError: an option is unknown, or a state does not have the promised axes and channels.
    """

    def __init__(
        self,
        channels: int,
        dimension: int,
        points: Points = "grid",
        padding: Padding = "circular",
        width: int = 16,
        kernel: int = 7,
        limits: tuple[float, float] = (-6.0, 4.0),
        probes: int | None = 1,
        scale: Sequence[float] | Tensor | None = None,
        target: Target | None = None,
        distribution: Distribution = "rademacher",
        mode: Mode = "auto",
        kind: Kind = "row",
        hyperprior: tuple[float, float] | None = None,
        solver: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        if dimension not in (0, 1, 2, 3) or channels < 1 or width < 1:
            raise ValueError(
                f"JAWS got channels={channels}, dimension={dimension}, width={width}; expected positive "
                "numbers and at most three axes."
            )
        if points not in get_args(Points) or padding not in get_args(Padding):
            raise ValueError(
                f"JAWS got points={points!r}, padding={padding!r}; expected one of {list(get_args(Points))} "
                f"and one of {list(get_args(Padding))}."
            )
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"JAWS got kernel={kernel}; expected an odd number.")
        if not limits[0] < 0 < limits[1]:
            raise ValueError(f"JAWS got limits {limits}; expected low < 0 < high, since s starts at 0.")
        if hyperprior is not None and not (len(hyperprior) == 2 and min(hyperprior) > 0):
            raise ValueError(f"JAWS got hyperprior={hyperprior}; expected two positive numbers (a, b).")
        self.energy = Energy(kind, probes, target, solver, scale, distribution, mode, "JAWS")
        if self.energy.scale is not None and len(self.energy.scale) != channels:
            raise ValueError(f"JAWS got {len(self.energy.scale)} channel scales for {channels} channels.")
        self.channels = channels
        self.axes = min(dimension, 1) if points == "mesh" else dimension
        self.limits = (float(limits[0]), float(limits[1]))
        self.hyperprior = (0.0, 0.0) if hyperprior is None else (float(hyperprior[0]), float(hyperprior[1]))
        self._clamped = torch.zeros(())
        convolution = (nn.Conv1d, nn.Conv1d, nn.Conv2d, nn.Conv3d)[self.axes]
        k = kernel if points == "grid" and self.axes > 0 else 1
        last = convolution(width, 1, k, padding=k // 2, padding_mode=padding)
        self.head = nn.Sequential(
            convolution(channels, width, k, padding=k // 2, padding_mode=padding), nn.GELU(), last
        )
        # s = 0 at first: training starts from the uniform penalty.
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)

    def _raw(self, u: Tensor) -> Tensor:
        if u.ndim != self.axes + 2 or u.shape[1] != self.channels:
            raise ValueError(
                f"JAWS got a state of shape {tuple(u.shape)}; expected (B, {self.channels}, ...) with "
                f"{self.axes} axes of points. For nodes of a mesh, (B, C, N), use points='mesh'."
            )
        size = per_channel(self.energy.scale, u)
        scaled = u if size is None else u / size
        if self.axes == 0:  # a system without space has one point
            return self.head(scaled.unsqueeze(2))[:, 0, 0]
        return self.head(scaled)[:, 0]

    def _outside(self, raw: Tensor) -> Tensor:
        """Fraction of points (B,) where s sits on a limit."""
        outside = (raw <= self.limits[0]) | (raw >= self.limits[1])
        return outside.to(raw.dtype).reshape(len(raw), -1).mean(dim=1)

    def log_variance(self, u: Tensor) -> Tensor:
        """The field s, (B, C, *points) -> (B, *points)."""
        return _Clamp.apply(self._raw(u), *self.limits)

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        raw = self._raw(u)
        s = _Clamp.apply(raw, *self.limits)
        self._clamped = self._outside(raw.detach()).mean()
        q = self.energy(step, u, generator)
        a, b = self.hyperprior
        return per_sample(torch.exp(-s) * (q + 2 * b) + (1 + 2 * a) * s) / s[0].numel()

    def told(self) -> dict[str, Tensor]:
        return {"clamped": self._clamped}

    def diagnostics(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """What the head has learnt, without gradients.

        Returns:
            "log_variance" s (B, *points), "row_energy" q (B, *points), "spectral_norm" of the step's Jacobian (B,),
            from below, and "clamped", the fraction of points (B,) where s sits on a limit; above one fifth the
            limits decide, not the data.
        """
        with torch.no_grad():
            raw = self._raw(u)
            return {
                "log_variance": raw.clamp(*self.limits),
                "row_energy": self.energy(step, u, generator),
                "spectral_norm": spectral_norm(step, u, scale=self.energy.scale, generator=generator),
                "clamped": self._outside(raw),
            }
