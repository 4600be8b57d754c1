"""Sine and cosine series between sides, differentiated by Fourier transforms of their mirror images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.calculus.spectral import Spectral, check_request, factor
from sciml.domains import Grid
from sciml.trajectory import Field

_SCALAR = (Field("scalar"),)


class Trigonometric(Calculus):
    """Derivatives of the sine or cosine interpolant on a grid with homogeneous sides, per axis.

    A field that vanishes on a side, or whose normal derivative does, is continued beyond it as an odd or an
    even function; so continued it is periodic on a larger box, where Fourier derivatives are exact for what
    the grid resolves. What the sides of the grid mean:

    - "periodic": Fourier series.
    - "dirichlet": odd about the side, a sine series. The nodes on the side count as zero, whatever they
      hold: subtract a field that takes the values of the side first (a lifting).
    - "neumann": even about the side, a cosine series.
    - "wall": a mirror, as in finite volumes. The component of a vector normal to the wall is odd, all else is
      even: no flow through it and no friction along it.

    The two sides of an axis may differ; the series has quarter waves then.

    `derivative` takes its argument for a field of these parities, and `div` the components of its argument
    for fluxes, odd along their own axis where the field is even. That is right for linear operators and for
    equations in divergence form, but a product such as u^2 of an odd u is even. `evaluate` takes any
    operator with the parities that its terms really have.

    The series converges faster than any power of the spacing only where the continued field is smooth, which
    solutions are where their equation keeps the symmetry (`mirrored` tells).

    Args:
        grid: nodes or cells with sides as above, 1D to 3D.
        fields: the quantities behind the channels of a state, of which walls need the rank; None for any
            number of scalars.

    Raises:
        ValueError: a side is "outflow", or no node of an axis is free.

    Boyd, Chebyshev and Fourier Spectral Methods (2001), chapter 8, on parity; Martucci, IEEE Trans. Signal
    Process. 42 (1994) 1038-1051, on transforms of symmetric continuations.
    """

    def __init__(self, grid: Grid, fields: Sequence[Field] | None = None) -> None:
        super().__init__()
        self.grid, self.dimension = grid, grid.dimension
        self.fields = fields
        # Per axis and side the sign of each channel under reflection there.
        signs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        shape, lengths = [], []
        for axis, (low, high) in enumerate(grid.sides):
            if "outflow" in (low, high) or "inflow" in (low, high):
                raise ValueError(
                    f"Trigonometric got sides {(low, high)} on axis {axis}; expected 'periodic', 'dirichlet', "
                    "'neumann' or 'wall'. Use finite differences or finite volumes for open sides."
                )
            n = grid.shape[axis]
            if grid.centering == "node" and n == 2 and "dirichlet" in (low, high) and low == high:
                raise ValueError(
                    f"Trigonometric got 2 nodes on axis {axis} between Dirichlet sides, where both are zero; "
                    "expected at least 3."
                )
            pair = (self._parities(low, axis), self._parities(high, axis))
            signs.append(pair)
            copies = 1 if low == "periodic" else 2 if pair[0] == pair[1] else 4
            inner = n - 1 if grid.centering == "node" and low != "periodic" else n
            shape.append(copies * inner)
            lengths.append(copies * grid.lengths[axis])
        self._signs = tuple(signs)
        self.doubled = Spectral(
            replace(grid, shape=tuple(shape), lengths=tuple(lengths), boundary="periodic")
        )

    def _parities(self, side: str, axis: int) -> tuple[int, ...]:
        """Sign of each channel under reflection in a side; one for all where they share it."""
        if side != "wall":
            return (-1 if side == "dirichlet" else 1,)
        found = []
        for field in self.fields or _SCALAR:
            for component in product(range(self.dimension), repeat=field.rank):
                found.append((-1) ** component.count(axis))
        return tuple(found) if len(set(found)) > 1 else (found[0],)

    def odd(self, axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Channels that vanish on the low and on the high side of an axis; all C of them for `fields`."""
        count = sum(self.dimension**f.rank for f in self.fields or _SCALAR)
        pairs = []
        for signs in self._signs[axis]:
            every = signs if len(signs) == count else signs * count
            pairs.append(tuple(c for c, sign in enumerate(every) if sign < 0))
        return pairs[0], pairs[1]

    def extend(self, u: Tensor) -> Tensor:
        """The field continued to the periodic box, (B, C, *points) -> (B, C, *doubled points)."""
        self._check(u, self.grid)
        for axis in range(self.dimension):
            u = self._extend(u, axis)
        return u

    def restrict(self, u: Tensor) -> Tensor:
        """The part of a continued field on the grid, (B, C, *doubled points) -> (B, C, *points).

        Zero on nodes where the channel is odd, where rounding may have left something else.
        """
        self._check(u, self.doubled.grid)
        for axis in range(self.dimension):
            u = self._restrict(u, axis)
        return u

    def mirrored(self, u: Tensor, axis: int) -> Tensor:
        """A field on the periodic box, (B, C, *doubled points), rebuilt along one axis from the points of the
        grid: the same where it has the parities of the sides."""
        self._check(u, self.doubled.grid)
        return self._extend(self._restrict(u, axis), axis)

    def evaluate(self, operator: Callable[[Tensor, Calculus], Tensor], u: Tensor) -> Tensor:
        """An operator such as `pde.rhs` of the continued field, (B, C, *points) -> (B, C, *points).

        Products and their derivatives have the parity there that they have. The operator is handed the
        Fourier calculus of the periodic box, 2^d times the grid where d axes are bounded.
        """
        return self.restrict(operator(self.extend(u), self.doubled))

    def coordinates(self, u: Tensor) -> Tensor:
        return self.grid.coordinates(dtype=u.dtype, device=u.device).unsqueeze(0)

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        return self._derivative(u, axis, order, flip=False)

    def div(self, flux: Tensor) -> Tensor:
        parts = [self._derivative(flux[:, :, axis], axis, 1, flip=True) for axis in range(self.dimension)]
        return torch.stack(parts).sum(dim=0)

    def inverse_laplacian(self, u: Tensor) -> Tensor:
        """The p with laplacian(p) = u; where no side is Dirichlet u and p lose their mean."""
        return self.restrict(self.doubled.inverse_laplacian(self.extend(u)))

    def _derivative(self, u: Tensor, axis: int, order: int, flip: bool) -> Tensor:
        check_request(self, axis, order)
        self._check(u, self.grid)
        if order == 0:
            return u
        dim = u.ndim - self.dimension + axis
        wide = self._extend(u, axis, flip)
        name = f"line{axis}" if order % 2 == 0 else f"odd_line{axis}"
        line = factor(self.doubled.constants.get(name, u), order)
        modes = torch.fft.rfft(wide, dim=dim) * line.reshape(-1, *[1] * (self.dimension - 1 - axis))
        slope = torch.fft.irfft(modes, n=self.doubled.grid.shape[axis], dim=dim)
        return slope.narrow(dim, 0, self.grid.shape[axis])

    def _sign(self, u: Tensor, axis: int, side: int, flip: bool) -> Tensor | float:
        """Sign under reflection in a side, ready to multiply u; the opposite one for a flux along the axis."""
        turn = -1.0 if flip else 1.0
        signs = self._signs[axis][side]
        if len(signs) == 1:
            return turn * signs[0]
        if u.shape[1] != len(signs):
            raise ValueError(
                f"Trigonometric got a field of {u.shape[1]} channels; its fields {self.fields} have "
                f"{len(signs)}, each with its own parity in walls."
            )
        return turn * u.new_tensor(signs).reshape(-1, *[1] * (u.ndim - 2))

    def _extend(self, u: Tensor, axis: int, flip: bool = False) -> Tensor:
        if self.grid.periodic[axis]:
            return u
        dim, n = u.ndim - self.dimension + axis, self.grid.shape[axis]
        low, high = (self._sign(u, axis, side, flip) for side in (0, 1))
        if self.grid.centering == "cell":
            half = torch.cat([u, high * u.flip(dim)], dim=dim)
        else:
            inner = u.narrow(dim, 1, n - 2)
            # Twice the mean of a node and its image: an odd field has nothing on the side.
            ends = [
                (0.5 + 0.5 * sign) * u.narrow(dim, index, 1) for sign, index in ((low, 0), (high, n - 1))
            ]
            half = torch.cat([ends[0], inner, ends[1], high * inner.flip(dim)], dim=dim)
        if half.shape[dim] == self.doubled.grid.shape[axis]:
            return half
        # Reflected in both sides, a field comes back shifted by twice the length with the product of the signs.
        return torch.cat([half, low * high * half], dim=dim)

    def _restrict(self, u: Tensor, axis: int) -> Tensor:
        if self.grid.periodic[axis]:
            return u
        dim, n = u.ndim - self.dimension + axis, self.grid.shape[axis]
        inner = u.narrow(dim, 0, n)
        low, high = (self._sign(u, axis, side, False) for side in (0, 1))
        even = all(isinstance(sign, float) and sign > 0 for sign in (low, high))
        if self.grid.centering == "cell" or even:
            return inner
        ends = [
            (0.5 + 0.5 * sign) * inner.narrow(dim, index, 1) for sign, index in ((low, 0), (high, n - 1))
        ]
        return torch.cat([ends[0], inner.narrow(dim, 1, n - 2), ends[1]], dim=dim)

    def _check(self, u: Tensor, grid: Grid) -> None:
        if tuple(u.shape[-self.dimension :]) != grid.shape:
            raise ValueError(
                f"Trigonometric got a field of points {tuple(u.shape[-self.dimension :])} on a grid of "
                f"{grid.shape}."
            )
