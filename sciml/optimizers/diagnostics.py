"""What the loss's curvature says of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Curvature:
    """The loss around the weights, of one batch.

    Attributes:
        largest: Hessian's eigenvalue of largest modulus, by power iteration, which meets it from below.
        along: ||H g|| / ||g|| along the gradient g.
        gradient: ||g||.
    """

    largest: float
    along: float
    gradient: float

    def drift(self, rate: float) -> float:
        """What a step of gradient descent leaves the gradient flow by, to leading order: rate^2 ||H g|| / 2."""
        return 0.5 * rate**2 * self.along * self.gradient

    def adaptive_rate(self, power: float = 1.0, cap: float = 5.0) -> float:
        """The rate 2 / (||H g|| / ||g||)^power that bounds the drift, at most `cap` (arXiv 2302.01952, section 7)."""
        return cap if self.along == 0 else min(cap, 2.0 / self.along**power)


def curvature(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    iterations: int = 10,
    generator: torch.Generator | None = None,
) -> Curvature:
    """Measure the Hessian of a loss by products with vectors, two gradients each.

    Gradient descent is stable while rate times the largest eigenvalue stays below 2. For Adam and its like the bound
    holds for the preconditioned Hessian, and the number is to be compared between updates rather than with 2. Explicit
    penalties on smoothness (Jacobian, spectral norm) raise the curvature: tune their weight and the rate together.

    Args:
        loss: the same scalar at every call.
        parameters: real or complex.
        iterations: of the power iteration.
        generator: of its first vector.

    Rosca, Wu, Qin and Dherin, On a Continuous Time Model of Gradient Descent Dynamics and Instability in Deep Learning,
    arXiv 2302.01952.
    """
    parameters = [p for p in parameters if p.requires_grad]
    with torch.enable_grad():
        gradients = torch.autograd.grad(loss(), parameters, create_graph=True, allow_unused=True)
        used = [
            (p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None and g.requires_grad
        ]
    steady = [g for g in gradients if g is not None]
    norm = float(_norm([g.detach() for g in steady])) if steady else 0.0
    if not used or norm == 0.0:
        return Curvature(0.0, 0.0, norm)
    weights, slopes = [p for p, _ in used], [g for _, g in used]

    def product(vector: list[Tensor]) -> list[Tensor]:
        # Complex gradients pair with vectors by the real part of the inner product, as real ones do.
        found = torch.autograd.grad(slopes, weights, vector, retain_graph=True, allow_unused=True)
        return [
            torch.zeros_like(w) if h is None else h.detach() for w, h in zip(weights, found, strict=True)
        ]

    along = float(_norm(product([g.detach() for g in slopes]))) / norm
    vector = [torch.randn(w.shape, generator=generator, device=w.device, dtype=w.dtype) for w in weights]
    value = 0.0
    for _ in range(iterations):
        size = _norm(vector)
        vector = [v / size for v in vector]
        image = product(vector)
        value = sum(float((v.conj() * h).real.sum()) for v, h in zip(vector, image, strict=True))
        if not float(_norm(image)) > 0:
            break
        vector = image
    return Curvature(value, along, norm)


def alignment(gradients: Sequence[Tensor]) -> float:
    """How far the gradients (N,) of several losses agree: 2 ||mean of the unit vectors||^2 - 1, from -1 to 1.

    Wang, Bhartari, Li and Perdikaris, Gradient Alignment in Physics-informed Neural Networks, arXiv 2502.00604.
    """
    unit = torch.stack([g / g.norm().clamp(min=torch.finfo(g.real.dtype).tiny) for g in gradients])
    return float(2 * unit.mean(dim=0).norm() ** 2 - 1)


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(t) for t in tensors]).norm()
