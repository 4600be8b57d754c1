"""Fields of one shell of wavenumbers, and how much of a field lies in each shell."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Grid


class Shells:
    """The shells s <= |k| < s + 1 of a grid, in units of the lowest wavenumber of its longest side.

    The convention of `sciml.metrics.spectral`: all modes count, and bounded axes are continued evenly, which
    makes them periodic without a jump.

    Attributes:
        count: shells 0 to count - 1 are resolved along every axis and hold a mode; the corners of the spectral
            box beyond them are left out.
    """

    def __init__(self, grid: Grid, device: torch.device | None = None) -> None:
        self.grid = grid
        longest = max(grid.lengths)
        lines, limits = [], []
        for axis, (n, h, length, periodic) in enumerate(
            zip(grid.shape, grid.spacing, grid.lengths, grid.periodic, strict=True)
        ):
            size = n if periodic else 2 * n - 2 if grid.centering == "node" else 2 * n
            period = length if periodic else 2 * length
            frequencies = torch.fft.rfftfreq if axis == grid.dimension - 1 else torch.fft.fftfreq
            lines.append(frequencies(size, d=1 / size, dtype=torch.float64) * (longest / period))
            # On cells between walls the last wavenumber of the continued box has no even mode.
            bounded = 1 / (2 * h) if grid.centering == "node" else (n - 1) / (2 * length)
            limits.append(n // 2 / length if periodic else bounded)
        squares = torch.stack([k.square() for k in torch.meshgrid(*lines, indexing="ij")]).sum(0)
        # The shift keeps exact integers in their own shell when the sides are not powers of two apart.
        self._index = (squares.sqrt() + 1e-9).floor().long().to(device)
        self.count = max(1, int(longest * min(limits) + 1e-9)) + 1

    def noise(self, like: Tensor, shell: int, generator: torch.Generator | None) -> Tensor:
        """White noise with the modes of one shell only, like a field (B, C, *points), of length one per sample."""
        device = like.device if generator is None else generator.device
        white = torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype).to(like)
        wide = self._continued(white)
        axes = tuple(range(2, like.ndim))
        modes = torch.fft.rfftn(wide, dim=axes) * (self._index == shell)
        found = torch.fft.irfftn(modes, s=wide.shape[2:], dim=axes)
        for axis, n in enumerate(self.grid.shape):
            found = found.narrow(axis + 2, 0, n)
        size = found.flatten(1).norm(dim=1).clamp_min(torch.finfo(like.dtype).tiny)
        return found / size.reshape(-1, *[1] * (like.ndim - 1))

    def shares(self, v: Tensor) -> Tensor:
        """Shares of the shells in the mean square of fields, (B, C, *points) -> (B, count), summed over channels.

        What lies in the corners of the spectral box is missing from their sum.
        """
        wide = self._continued(v)
        axes = tuple(range(2, v.ndim))
        power = torch.fft.rfftn(wide, dim=axes, norm="forward").abs().square().sum(dim=1)
        n = wide.shape[-1]
        twice = torch.full((power.shape[-1],), 2.0, dtype=power.dtype, device=power.device)
        twice[0] = 1.0
        if n % 2 == 0:
            twice[-1] = 1.0
        power = (power * twice).flatten(1)
        shells = torch.zeros(
            len(v), int(self._index.max()) + 1, dtype=power.dtype, device=power.device
        ).index_add(1, self._index.flatten(), power)
        total = power.sum(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
        return shells[:, : self.count] / total

    def _continued(self, v: Tensor) -> Tensor:
        for axis, periodic in enumerate(self.grid.periodic):
            if not periodic:
                d = axis + 2
                # Nodes on the walls are not repeated, cells are.
                mirror = v.narrow(d, 1, v.shape[d] - 2) if self.grid.centering == "node" else v
                v = torch.cat([v, mirror.flip(d)], dim=d)
        return v
