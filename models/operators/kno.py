"""The Koopman neural operator: one linear map of Fourier modes, applied again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.regularizers.base import Regularizer, parts_of


class KNO(nn.Module):
    """Koopman neural operator: encode, apply one map of Fourier modes several times, decode.

        h = tanh(E u),   x_0 = h,   x_{j+1} = x_j + K x_j   (r times, the same K),   out = D tanh(S h + x_r)

    E and D are linear maps of the channels at each point, S is one with an offset, and K multiplies each mode |k| <= K
    of the observables x by a complex matrix of its own. A Fourier operator with tied layers and no nonlinearity
    between them: observables move linearly, but its matrix is no verified Koopman approximation, which `EDMD` with its
    residuals is.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        modes: highest wavenumber kept along each axis; the original's "modes" is one more.
        width: number of observables o at each point.
        repetitions: r, how often the map is applied.
        linear: leave out the tanh after each application that the original has as an option.

    Raises:
        ValueError: a size is out of range.

    Xiong, Huang, Zhang, Deng, Sun and Tian, Koopman neural operator as a mesh-free solver of non-linear partial
    differential equations, arXiv 2301.10022. Trained there on 5 times the mean square error of the prediction and 0.5
    times that of `reconstruct`: see `Reconstruction`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        width: int = 16,
        repetitions: int = 6,
        linear: bool = True,
    ) -> None:
        super().__init__()
        self.modes = tuple(int(k) for k in modes)
        if not 1 <= len(self.modes) <= 3 or min(self.modes) < 1:
            raise ValueError(
                f"KNO got modes={self.modes}; expected the highest wavenumber, at least 1, of each of one to three axes."
            )
        if min(in_channels, out_channels, width, repetitions) < 1:
            raise ValueError(
                f"KNO got in_channels={in_channels}, out_channels={out_channels}, width={width}, "
                f"repetitions={repetitions}; expected at least 1 of each."
            )
        from sciml.models.operators.spectral import SymmetricSpectralConv  # costs seconds

        self.in_channels, self.out_channels = in_channels, out_channels
        self.width, self.repetitions, self.linear = width, repetitions, linear
        self.encoder = nn.Linear(in_channels, width)
        self.decoder = nn.Linear(width, out_channels)
        self.skip = nn.Linear(width, width)
        n_modes = tuple(2 * k + 1 for k in self.modes[:-1]) + (2 * self.modes[-1],)
        self.koopman = SymmetricSpectralConv(width, width, n_modes, bias=False)
        with torch.no_grad():  # independent of the package's first weights: x + K x starts near x
            self.koopman.weight.normal_(std=0.1 / width)

    def forward(self, u: Tensor) -> Tensor:
        if u.ndim != len(self.modes) + 2 or u.shape[1] != self.in_channels:
            raise ValueError(
                f"KNO got a field of shape {tuple(u.shape)}; expected (B, {self.in_channels}, *points) with "
                f"{len(self.modes)} space axes."
            )
        h = self._encoded(u)
        x = h
        for _ in range(self.repetitions):
            x = x + self.koopman(x)
            x = x if self.linear else torch.tanh(x)
        return _pointwise(self.decoder, torch.tanh(_pointwise(self.skip, h) + x))

    def reconstruct(self, u: Tensor) -> Tensor:
        """D tanh(E u), which is u for observables that hold the whole state, (B, C_in, *points) -> (B, C_out, *points)."""
        return _pointwise(self.decoder, self._encoded(u))

    def _encoded(self, u: Tensor) -> Tensor:
        return torch.tanh(_pointwise(self.encoder, u))


def _pointwise(layer: nn.Module, u: Tensor) -> Tensor:
    """A linear layer of the channels at each point."""
    return layer(u.movedim(1, -1)).movedim(-1, 1)


class Reconstruction(Regularizer):
    """Mean square by which the observables of a `KNO` inside a step fail to give the state back.

    At the states of the window as the loss sees them, so in normalised units where the variant is normalised; the
    original weighs it a tenth of the error of the prediction: `Regularized(OneStep(), Reconstruction(), 0.1,
    scale_free=False)`.
    """

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        networks = [m for m in parts_of(step) if isinstance(m, KNO)]
        if not networks or any(m.in_channels != m.out_channels for m in networks):
            raise ValueError(
                f"Reconstruction got a {type(step).__name__} with {len(networks)} KNOs; expected one with as many outputs "
                "as inputs inside."
            )
        total = torch.zeros(len(u), dtype=u.dtype, device=u.device)
        for network in networks:
            total = total + (network.reconstruct(u) - u).square().flatten(1).mean(dim=1)
        return total
