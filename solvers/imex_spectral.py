"""Fourier pseudo-spectral steps with implicit-explicit Runge-Kutta methods, beside those of exponential type."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.calculus import Spectral, Symbol
from sciml.domains import Domain, Grid
from sciml.pdes.base import SemiLinear
from sciml.solvers.time.imex import ARK4, Imex, ImexTableau, imex


class ImexSpectral:
    """A Step that solves a semi-linear equation with its linear part implicit; made by `imex_spectral`.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: steps of the method inside one call, taken without leaving Fourier space.
        tableau: the method.
        method: the scheme in words.
    """

    def __init__(
        self, pde: SemiLinear, grid: Grid, dt: float, tableau: ImexTableau, substeps: int, degree: int
    ) -> None:
        self.pde, self.grid, self.dt = pde, grid, float(dt)
        self.domain: Domain = grid
        self.channels = pde.channels(grid.dimension)
        self.tableau, self.substeps, self.degree = tableau, substeps, degree
        self.method = (
            f"Fourier pseudo-spectral, {tableau.name} implicit-explicit, products of degree {degree}"
        )
        self._spectral = Spectral(grid)
        self._mask = self._spectral.dealias(degree)
        exact = self._exact()
        # Parameters that learn change between calls, so nothing made from them is kept.
        self._kept = None if exact.linear.requires_grad else exact

    def __repr__(self) -> str:
        return f"ImexSpectral({self.pde}, {self.grid.shape}, dt={self.dt}, substeps={self.substeps}, {self.method})"

    def __call__(self, u: Tensor, /) -> Tensor:
        expected = (len(self.channels), *self.grid.shape)
        if tuple(u.shape[1:]) != expected or u.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"imex_spectral got a state of shape {tuple(u.shape)} and type {u.dtype}; expected "
                f"(B, *{expected}) with channels {self.channels}, in float32 or float64."
            )
        exact = self._exact() if self._kept is None else self._kept
        method = exact.map(
            lambda x: x.to(device=u.device, dtype=u.dtype.to_complex() if x.is_complex() else u.dtype)
        )
        calculus = self._spectral if u.device.type == "cpu" else Spectral(self.grid).to(u.device)
        mask = self._mask.to(device=u.device, dtype=u.dtype)

        def nonlinear(v: Tensor) -> Tensor:
            rate = self.pde.nonlinear(calculus.to_points(v * mask), calculus).to(u.dtype)
            return calculus.to_modes(rate) * mask

        modes = self.pde.project(calculus.to_modes(u), Symbol(calculus))
        for _ in range(self.substeps):
            modes = method.step(modes, nonlinear)
        return calculus.to_points(modes)

    def _exact(self) -> Imex:
        """The method in float64, its linear part read off the equation channel by channel."""
        count, symbol = len(self.channels), Symbol(self._spectral)
        columns = []
        for channel in range(count):
            one = torch.zeros(1, count, *self._spectral.symbol_shape, dtype=torch.float64)
            one[:, channel] = 1.0
            columns.append(self.pde.linear(one, symbol).expand(-1, count, *self._spectral.symbol_shape))
        h = self.dt / self.substeps
        if count == 1:
            return imex(columns[0], h, self.tableau)
        return imex(torch.stack(columns, dim=2), h, self.tableau, coupled=True)


def imex_spectral(
    pde: SemiLinear,
    grid: Grid,
    dt: float,
    *,
    tableau: ImexTableau = ARK4,
    substeps: int = 1,
    degree: int | None = None,
) -> ImexSpectral:
    """A Step that solves u_t = L u + N(u) in Fourier space, L by an implicit and N by an explicit method.

    The second method beside `pseudo_spectral`: the same modes and the same rule for products, but no
    exponential, so that an agreement of the two speaks for both. Stable where dt/substeps times the rate of
    N stays within the explicit table's region, whatever the rate of L; waves in L are damped, where
    `pseudo_spectral` keeps them. Per step it solves one small system per mode, made once. Differentiable in
    the state and in parameters that are tensors. Computes in the precision of the state.

    Args:
        pde: the equation; its linear part may couple channels.
        grid: nodes, periodic along every axis.
        dt: time of one Step [time].
        tableau: ARS222, ARS443 or ARK4, of orders 2, 3 and 4.
        substeps: equal steps of the method per Step.
        degree: number of factors of the products in N; None takes that of the equation.

    Raises:
        ValueError: an argument is out of range, or the grid does not fit.
    """
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"imex_spectral got dt={dt}; expected a positive time.")
    if substeps < 1:
        raise ValueError(f"imex_spectral got substeps={substeps}; expected at least 1.")
    if grid.dimension not in pde.dimensions or grid.centering != "node" or not all(grid.periodic):
        raise ValueError(
            f"imex_spectral got {type(pde).__name__} on {grid}; expected nodes, periodic along every axis, in "
            f"{pde.dimensions} axes."
        )
    return ImexSpectral(pde, grid, dt, tableau, substeps, pde.degree if degree is None else degree)
