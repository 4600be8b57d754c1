"""Operators whose last kernel is led to outputs that obey the conditions on the sides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciml.constraints.base import at_least_single
from sciml.constraints.linear import Linear
from sciml.errors import UserError
from sciml.models.channel_statistics import ChannelStatistics
from sciml.models.wrappers import Map

# Numbers in the answers of the kernel to all rows, 512 MiB in float64.
LARGEST = 2**26


class BoundaryOperator(nn.Module):
    """A network that ends in a linear kernel K, whose input is moved at the sides until the output obeys A u' = b.

        u' = u + std (K v + K A' y),    v = f((u - mean) / std),    (A std K A') y = b - A (u + std K v)

    A are the rows of conditions, for instance of `SideConditions` (Dirichlet, Neumann, Robin, from numbers or from the
    state before) or of `LinearRows` (u at one end equal to u at the other). A' y changes the input of the kernel where
    the rows are: at the side points for values, at the three points of the difference for slopes. What it does inside
    is what the kernel makes of that: for K = 1 the nearest state, for others the smooth answer of the kernel, where
    `SideConditions` after a network writes the side points alone. If the kernel has more input than output channels, y
    is the shortest one. Where u is the state before, b may be what it has there (data "previous").

    The small system is solved and A summed in float64, so that the conditions hold to the rounding of u', which comes in
    the state's precision (single in half). For a condition that the input meets already y need not vanish: f decides v.

    Any dimension. Each forward pass asks the kernel for its answer to each of the q rows (q = 2 C in 1D, the number of
    side points times C in 2D and 3D) and factors a q x q matrix: 64 x 64 points with all sides held are 252 fields and a
    matrix of that size for each channel, a 3D grid fits up to about 24 points a side. More is refused. A kernel that
    carries low wavenumbers alone cannot meet conditions at all points of a side in 2D or 3D: the system is singular. The
    pointwise part of `SpectralKernel` prevents that.

    The network acts on (u - mean) / std, so that in a study residual: false and normalized: false.

    Args:
        f: map (B, C, *points) -> (B, kernel.in_channels, *points).
        kernel: linear or affine in its input, (B, in_channels, *points) -> (B, C, *points), with the attribute
            `in_channels`: a `SpectralKernel`, a convolution, one of your own. Shared by the batch.
        conditions: linear ones on states of C channels, and on inputs of the kernel's channels.
        residual: without it u' is mean + std (K v + K A' y).
        mean, std: statistics of the channels (C,), none or both [unit of u].

    Raises:
        TypeError: the conditions are no linear ones.
        ValueError: the kernel is not linear, has no `in_channels`, or changes the points; shapes do not fit.
        UserError: the answers to the rows would need more than 2^26 numbers, or, in a forward pass outside torch.compile
            and torch.func, the kernel cannot meet the rows: the system is singular to the rounding of the kernel.

    The idea is that of Saad, Gupta, Alizadeh and Maddix, Guiding continuous operator learning through physics-based
    boundary constraints (ICLR 2023), who edit rows and columns of the kernel for one kind of condition at a time.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        kernel: nn.Module,
        conditions: Linear,
        residual: bool = True,
        mean: Tensor | Sequence[float] | float | None = None,
        std: Tensor | Sequence[float] | float | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(conditions, Linear):
            raise TypeError(
                f"BoundaryOperator got conditions by a {type(conditions).__name__}; expected linear rows, such as "
                "SideConditions or LinearRows."
            )
        inputs = getattr(kernel, "in_channels", None)
        if not isinstance(inputs, int):
            raise ValueError(
                f"BoundaryOperator got a {type(kernel).__name__} without the attribute in_channels as its kernel; "
                "expected a linear layer that has it, such as SpectralKernel."
            )
        self.f, self.kernel, self.conditions, self.residual = f, kernel, conditions, residual
        self.in_channels = inputs
        self.out_channels = self._channels_of_kernel()
        rows, moves = conditions.count(self.out_channels), conditions.count(inputs)
        if moves < rows:
            raise ValueError(
                f"BoundaryOperator got {rows} rows for the {self.out_channels} channels of the state and a kernel of "
                f"{inputs} input channels, with {moves} places to meet them; expected no fewer input channels."
            )
        size = moves * self.out_channels * math.prod(conditions.points)
        if size > LARGEST:
            raise UserError(
                f"BoundaryOperator got {moves} rows at the kernel's input, whose answers on {conditions.points} points "
                f"are {size:.2g} numbers; expected up to {LARGEST:.2g}. Take fewer points, fewer input channels, or "
                "SideConditions as a constraint after the network."
            )
        self.statistics = ChannelStatistics(
            "BoundaryOperator", mean, std, len(conditions.points), self.out_channels
        )

    @torch.no_grad()
    def _channels_of_kernel(self) -> int:
        """C, after a look whether the kernel is affine."""
        noise = torch.Generator().manual_seed(0)
        shape = (2, self.in_channels, *self.conditions.points)
        pair = torch.randn(shape, generator=noise).to(self.weights)
        a, b, both, none = self.kernel(
            torch.stack([pair[0], pair[1], pair[0] + pair[1], 0 * pair[0]])
        ).unbind()
        if tuple(a.shape[1:]) != self.conditions.points:
            raise ValueError(
                f"BoundaryOperator got a kernel that makes points {tuple(a.shape[1:])} of {self.conditions.points}; "
                "expected the same points."
            )
        size = float((a.abs() + b.abs()).max())
        wrong = float((a + b - both - none).abs().max())
        if not wrong <= 1e4 * torch.finfo(a.dtype).eps * size:
            raise ValueError(
                f"BoundaryOperator got a {type(self.kernel).__name__} as its kernel that is not linear: K(a) + K(b) is "
                f"{wrong:.1g} away from K(a + b) + K(0). Put what is not linear into f."
            )
        return len(a)

    def answers(self, like: Tensor) -> Tensor:
        """What each row adds to the output, std K A' e_j, (moves, C, *points) in float64, on like's device.

        Not under autocast: the rounding of a half there would make well-posed systems look singular.
        """
        moves = self.conditions.count(self.in_channels)
        one = torch.eye(moves, dtype=torch.float64, device=like.device)
        moved = self.conditions.transpose(one, self.in_channels).to(self.weights.dtype)
        with torch.autocast(like.device.type, enabled=False):
            found = self.kernel(torch.cat([moved, torch.zeros_like(moved[:1])])).to(torch.float64)
        found = found[:-1] - found[-1:]  # without what a bias adds
        return found * self.statistics.std(found)

    @property
    def weights(self) -> Tensor:
        """One tensor of the kernel's precision."""
        return next(self.kernel.parameters(), torch.zeros(()))

    def forward(self, u: Tensor, lead: Tensor | None = None) -> Tensor:
        u = at_least_single(u)
        if u.ndim < 3 or tuple(u.shape[1:]) != (self.out_channels, *self.conditions.points):
            raise ValueError(
                f"BoundaryOperator got a state of shape {tuple(u.shape)}; expected (B, {self.out_channels}, *points) "
                f"with points {self.conditions.points}."
            )
        z = self.statistics.normalised(u)
        v = self.f(z) if lead is None else self.f(z, lead)
        if tuple(v.shape) != (len(u), self.in_channels, *self.conditions.points):
            raise ValueError(
                f"BoundaryOperator got {tuple(v.shape)} from its network; expected {self.in_channels} channels, the "
                "in_channels of the kernel, on the points of the state."
            )
        free = self.kernel(v).to(torch.float64)
        free = free * self.statistics.std(free)
        free = free + (u.to(torch.float64) if self.residual else self.statistics.mean(free))
        answers = self.answers(v)
        missing = self.conditions.target(free, u, None) - self.conditions.multiply(free)
        # Row j of this is A of the answer to move j: the transpose of the system, which is a tall matrix.
        q, r = torch.linalg.qr(self.conditions.multiply(answers))
        if not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active():
            self._refuse_singular(r.detach())
        w = torch.linalg.solve_triangular(r.mT, missing.mT, upper=False)
        held = free + torch.tensordot((q @ w).mT, answers, dims=1)
        return held.to(u.dtype)

    def _refuse_singular(self, r: Tensor) -> None:
        rounding = torch.finfo(at_least_single(self.weights).dtype).eps
        one = torch.eye(len(r), dtype=r.dtype, device=r.device)
        inverse = torch.linalg.solve_triangular(r, one, upper=True)
        share = float(1 / (r.norm() * inverse.norm()))
        if bool(torch.isfinite(r).all()) and not share > len(r) * rounding:
            raise UserError(
                f"BoundaryOperator's kernel cannot meet its {len(r)} conditions: the inverse condition number of their "
                f"system is {share:.1g}, no more than rounding. Each needs an answer of its own at its points: give the "
                "kernel a pointwise part (SpectralKernel has one), more wavenumbers, or more input channels."
            )


class SpectralKernel(nn.Module):
    """Spectral convolution plus a linear map of the channels, (B, C_in, *points) -> (B, C_out, *points).

    The linear part of a Fourier layer. At first the map of the channels is orthogonal and the convolution small.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        modes: highest wavenumber kept along each axis, as in `FNO`.
        padding: share of each axis that is added as zeros at its end and cut off again, so that the two ends of a
            bounded axis are no neighbours.
        spectral_scale: factor on the spectral weights with which training starts.

    Raises:
        ValueError: a size is out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int],
        padding: float = 0.1,
        spectral_scale: float = 0.05,
    ) -> None:
        super().__init__()
        self.modes = tuple(int(k) for k in modes)
        if not 1 <= len(self.modes) <= 3 or min(*self.modes, in_channels, out_channels) < 1:
            raise ValueError(
                f"SpectralKernel got modes={self.modes} and {in_channels} -> {out_channels} channels; expected one to "
                "three highest wavenumbers and channels, each at least 1."
            )
        if not 0 <= padding < 1 or not spectral_scale > 0:
            raise ValueError(
                f"SpectralKernel got padding={padding}, spectral_scale={spectral_scale}; expected a padding in [0, 1) "
                "and a positive scale."
            )
        from sciml.models.operators.spectral import (  # costs seconds
            SymmetricSpectralConv,
            scale_spectral_weights,
        )

        self.in_channels, self.out_channels, self.padding = in_channels, out_channels, padding
        n_modes = tuple(2 * k + 1 for k in self.modes[:-1]) + (2 * self.modes[-1],)
        self.spectral = SymmetricSpectralConv(in_channels, out_channels, n_modes)
        scale_spectral_weights(self.spectral, spectral_scale)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels))
        nn.init.orthogonal_(self.weight)

    def forward(self, v: Tensor) -> Tensor:
        wide = v
        if self.padding > 0:
            added = [math.ceil(self.padding * n) for n in v.shape[2:]]
            wide = functional.pad(v, [k for n in reversed(added) for k in (0, n)])
        smooth = self.spectral(wide)
        for axis, n in enumerate(v.shape[2:]):
            smooth = smooth.narrow(axis + 2, 0, n)
        return smooth + torch.einsum("oi,bi...->bo...", self.weight, v)
