"""Split-step Fourier method for Schroedinger's equation, and ground states in a trap."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.pdes.parameters import Parameter, fit
from sciml.pdes.schroedinger import GrossPitaevskii, Wavefunction
from sciml.solvers.time.splitting import YOSHIDA4, Splitting, splitting
from sciml.step import FunctionStep


def split_step(
    pde: Wavefunction, grid: Grid, dt: float, *, scheme: Splitting = YOSHIDA4, substeps: int = 1
) -> FunctionStep:
    """A Step of i psi_t = -a lap(psi) + W psi that alternates between its two parts, each exact.

    The kinetic part turns the phase of each Fourier mode, the potential one that of each point, where W
    stays as it is because |psi| does: the mass is kept to rounding for any step. Products are not
    dealiased. Long runs ask for (dt/substeps) a k_max^2 < pi, beyond which a wave and the step may
    resonate. Differentiable in the state and in parameters that are tensors.

    Args:
        pde: `Schroedinger` or `GrossPitaevskii`.
        grid: nodes, periodic.
        dt: time of one Step [time].
        scheme: `STRANG` (order 2) or `YOSHIDA4`.
        substeps: equal steps inside one.

    Raises:
        UserError: an argument is out of range or the grid does not fit.

    Weideman and Herbst, SIAM J. Numer. Anal. 23 (1986) 485-507, on the method and its resonances.
    """
    if not (math.isfinite(dt) and dt > 0) or substeps < 1:
        raise UserError(
            f"split_step got dt={dt} and substeps={substeps}; expected a positive time and at least 1."
        )
    square = _squared_wavenumbers(grid)
    calculus = Spectral(grid)
    axes = tuple(range(-grid.dimension, 0))

    def kinetic(u: Tensor, time: float) -> Tensor:
        psi = torch.complex(u[:, :1], u[:, 1:])
        angle = fit(pde.kinetic(), u.double()) * (time * square.to(u.device))
        turn = torch.polar(torch.ones_like(angle), -angle).to(psi.dtype)
        psi = torch.fft.ifftn(torch.fft.fftn(psi, dim=axes) * turn, dim=axes)
        return torch.cat([psi.real, psi.imag], dim=1)

    def potential(u: Tensor, time: float) -> Tensor:
        angle = time * pde.potential(u, calculus.to(u.device))
        cos, sin = torch.cos(angle), torch.sin(angle)
        # psi exp(-i angle)
        real, imaginary = u[:, :1], u[:, 1:]
        rotated = torch.cat([real * cos + imaginary * sin, imaginary * cos - real * sin], dim=1)
        return rotated.to(u.dtype)

    step = splitting(kinetic, potential, dt, scheme, substeps=substeps)
    return FunctionStep(step, dt, grid, pde.channels(grid.dimension))


def ground_state(
    pde: GrossPitaevskii,
    grid: Grid,
    *,
    norm: float = 1.0,
    tolerance: float = 1e-10,
    iterations: int = 20000,
) -> Tensor:
    """The state of least energy for a given norm, real and positive, (1 or B, 2, *points) in float64.

    Imaginary time, implicit in the kinetic part and projected back to the norm. The Lagrange multiplier
    stands in the right-hand side, so that the limit solves H psi = mu psi without an error of the step.
    Carries no gradients.

    Args:
        pde: the trap; its interaction must not be so attractive that the cloud collapses.
        grid: nodes, periodic, wide enough for psi to vanish at its sides.
        norm: integral of |psi|^2.
        tolerance: |H psi - mu psi| relative to |mu psi|, in L2.
        iterations: most steps taken.

    Raises:
        UserError: an argument is out of range, the cloud reaches the sides, or the steps did not suffice.

    Bao and Du, SIAM J. Sci. Comput. 25 (2004) 1674-1697; Bao, Chern and Lim, J. Comput. Phys. 219 (2006)
    836-854, section 3, for the stabilised implicit step.
    """
    if not (norm > 0 and tolerance > 0 and iterations >= 1):
        raise UserError(
            f"ground_state got norm={norm}, tolerance={tolerance}, iterations={iterations}; expected positive "
            "numbers."
        )
    half = 0.5 * _squared_wavenumbers(grid)
    calculus = Spectral(grid)
    axes = tuple(range(-grid.dimension, 0))
    cell = math.prod(grid.spacing)

    def total(density: Tensor) -> Tensor:
        return cell * density.sum(dim=axes, keepdim=True)

    with torch.no_grad():
        zero = torch.zeros(1, 2, *grid.shape, dtype=torch.float64)
        trap = pde.trap(zero, calculus)
        # The Gaussian of a trap that is as tight along every axis as along the tightest one.
        tightest = max(float(torch.as_tensor(w).max()) for w in _per_axis(pde.frequency))
        psi = torch.exp(-trap / max(tightest, 1e-300))
        psi = psi * (norm / total(psi.square())).sqrt()
        found = math.inf
        for _ in range(iterations):
            u = torch.cat([psi, torch.zeros_like(psi)], dim=1)
            well = pde.potential(u, calculus)
            image = torch.fft.ifftn(torch.fft.fftn(psi, dim=axes) * half, dim=axes).real + well * psi
            mu = total(psi * image) / norm
            residual = total((image - mu * psi).square()).sqrt() / (mu.abs() * math.sqrt(norm))
            found = float(residual.max())
            if not found > tolerance:
                break
            # Half the spread of the potential makes the explicit part a contraction for any step.
            shift = 0.5 * (well - mu).amax(dim=axes, keepdim=True).clamp(min=1e-3)
            change = torch.fft.fftn(image - mu * psi, dim=axes) / (shift + half)
            psi = psi - torch.fft.ifftn(change, dim=axes).real
            psi = psi * (norm / total(psi.square())).sqrt()
    if not found <= tolerance:
        raise UserError(
            f"ground_state reached a residual of {found:.2g} in {iterations} steps; expected {tolerance:g}. Give "
            "more iterations or a larger tolerance; an attractive gas may have no ground state."
        )
    edge = max(
        float(psi.select(axis, 0).abs().max() / psi.abs().max()) for axis in range(2, 2 + grid.dimension)
    )
    if edge > 1e-4:
        raise UserError(
            f"ground_state found a cloud that is {edge:.2g} of its peak at the sides of the box {grid.lengths}; "
            "put the trap's centre into the middle and take a wider box."
        )
    return torch.cat([psi.abs(), torch.zeros_like(psi)], dim=1)


def _per_axis(value: Parameter | tuple[float, ...]) -> tuple[Parameter, ...]:
    return value if isinstance(value, tuple) else (value,)


def _squared_wavenumbers(grid: Grid) -> Tensor:
    """|k|^2 on the full spectrum, (*points) float64 [1/length^2]."""
    if not all(grid.periodic) or grid.centering != "node":
        raise UserError(
            f"The split-step Fourier method got a grid of centering {grid.centering!r} with sides {grid.sides}; "
            "expected nodes, periodic along every axis."
        )
    square = torch.zeros((), dtype=torch.float64)
    for n, h in zip(grid.shape, grid.spacing, strict=True):
        square = square.unsqueeze(-1) + (2 * math.pi * torch.fft.fftfreq(n, h, dtype=torch.float64)) ** 2
    return square
