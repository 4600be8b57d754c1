"""The promise that every way of differentiating keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Calculus(nn.Module, ABC):
    """Derivatives of fields (B, C, *points) on a domain of `dimension` space axes.

    Subclasses give `derivative`; what follows from it is stated here once, and overridden only where
    a domain has a better form (compact Laplacian, Fourier multiplier, weak form).
    """

    dimension: int

    @abstractmethod
    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        """d^order u / dx_axis^order, (B, C, *points) -> (B, C, *points) [u / length^order]."""

    def coordinates(self, u: Tensor) -> Tensor:
        """Where the points of u lie, (1 or B, D, *points) in its dtype [length], for forcing terms.

        Raises:
            TypeError: this calculus knows no points.
        """
        raise TypeError(
            f"{type(self).__name__} knows no points, so it takes no forcing that depends on them."
        )

    def gradient(self, u: Tensor) -> Tensor:
        """(B, C, *points) -> (B, C, D, *points) [u / length]."""
        return torch.stack([self.derivative(u, axis) for axis in range(self.dimension)], dim=2)

    def div(self, flux: Tensor) -> Tensor:
        """(B, C, D, *points) -> (B, C, *points) [flux / length]."""
        parts = [self.derivative(flux[:, :, axis], axis) for axis in range(self.dimension)]
        return torch.stack(parts).sum(dim=0)

    def laplacian(self, u: Tensor) -> Tensor:
        """Sum of second derivatives, (B, C, *points) -> (B, C, *points) [u / length^2]."""
        return torch.stack([self.derivative(u, axis, 2) for axis in range(self.dimension)]).sum(dim=0)

    def inverse_laplacian(self, u: Tensor) -> Tensor:
        """The zero-mean p with laplacian(p) = u - mean(u), where the calculus has one.

        Raises:
            TypeError: this calculus has no inverse Laplacian.
        """
        raise TypeError(f"{type(self).__name__} has no inverse Laplacian; use Spectral on a periodic grid.")

    def curl(self, u: Tensor) -> Tensor:
        """Curl of a vector, (B, 2, *points) -> (B, 1, *points) or (B, 3, *points) -> (B, 3, *points)
        [u / length].

        Raises:
            ValueError: there is one space axis, or not one component per axis.
        """
        if self.dimension == 1 or u.shape[1] != self.dimension:
            raise ValueError(
                f"curl got {u.shape[1]} components in {self.dimension} space axes; expected one per axis, "
                "two or three."
            )
        if self.dimension == 2:
            return self.derivative(u[:, 1:], 0) - self.derivative(u[:, :1], 1)
        # The components that a direction needs travel together: three passes, not six.
        x = self.derivative(u[:, 1:], 0)
        y = self.derivative(u[:, ::2], 1)
        z = self.derivative(u[:, :2], 2)
        return torch.stack([y[:, 1] - z[:, 1], z[:, 0] - x[:, 1], x[:, 0] - y[:, 0]], dim=1)

    def solenoidal(self, f: Tensor) -> Tensor:
        """The part of a vector without divergence, f - grad(inverse_laplacian(div f)), mean included.

        (B, D, *points) -> (B, D, *points) [f]. As stated here the divergence that is left falls with the
        error of the derivatives; `Spectral` has an exact form.

        Raises:
            TypeError: this calculus has no inverse Laplacian.
        """
        pressure = self.inverse_laplacian(self.div(f.unsqueeze(1)))
        return f - self.gradient(pressure)[:, 0]
