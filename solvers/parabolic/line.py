"""Derivatives along one bounded axis as matrices, with what the sides say."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from sciml.calculus.finite_difference import stencil
from sciml.domains import Centering


@dataclass(frozen=True)
class Functional:
    """What a side says of u: weight * u + slope * du/dn = datum there, n outwards.

    `slope` is 0 for a given value and 1 otherwise. `mirror` says that nothing was given, and all odd
    derivatives vanish as in a mirror.
    """

    weight: float
    slope: float
    mirror: bool = False


Side = Functional | None
"""None is the side of a periodic axis."""


@dataclass(frozen=True)
class Line:
    """First and second derivatives at the unknown points of an axis, affine in the data of its sides.

    d^m u = matrix @ u + low * datum_low + high * datum_high.

    Args:
        kept: range of the unknowns among the points; held nodes are data.
        second, first: matrices (n, n) [1/length^2], [1/length].
        second_ends, first_ends: columns (n,) of the two data.
        widths: of the control volumes of the unknowns (n,) [length].
    """

    kept: slice
    second: Tensor
    first: Tensor
    second_ends: tuple[Tensor, Tensor]
    first_ends: tuple[Tensor, Tensor]
    widths: Tensor

    def eigen(self) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues (n,), eigenvectors as columns and their inverse (n, n) of the second derivative."""
        root = self.widths.sqrt()
        symmetric = root[:, None] * self.second / root
        if float((symmetric - symmetric.T).abs().max()) <= 1e-12 * float(symmetric.abs().max()):
            values, vectors = torch.linalg.eigh(0.5 * (symmetric + symmetric.T))
            return values, vectors / root[:, None], vectors.T * root
        values, vectors = torch.linalg.eig(self.second)
        if float(values.imag.abs().max()) <= 1e-9 * float(values.abs().max()):
            values, vectors = values.real, vectors.real
        return values, vectors, torch.linalg.inv(vectors)


def line(n: int, h: float, centering: Centering, sides: tuple[Side, Side], accuracy: int) -> Line:
    """The derivatives along an axis of n points, of second order by finite volumes, else by differences.

    At order 2 they are those of fluxes between control volumes (half of them at a node on a side): what
    leaves one enters the next, and the second derivative is symmetric in the inner product of the widths.
    At orders 4 and 6 the points next to a side have the widest stencil that the same accuracy asks for,
    with what the side says as one of its data; beside a mirror the stencil is reflected, which conserves too.

    Raises:
        ValueError: there are fewer points than the stencils need.

    Eigenvalues of all of them have no positive real part; those of order 6 may be complex.
    """
    needed = accuracy + 3
    if n < needed:
        raise ValueError(f"An axis of {n} points is too short for order {accuracy}; it needs {needed}.")
    cells = centering == "cell"
    held = tuple(side is not None and side.slope == 0.0 and not cells for side in sides)
    start, stop = int(held[0]), n - int(held[1])
    second, first = _central(n, accuracy, 2), _central(n, accuracy, 1)
    ends = {(d, end): torch.zeros(n, dtype=torch.float64) for d in (1, 2) for end in (0, 1)}
    for end, side in enumerate(sides):
        if side is None:
            continue
        for d, matrix in ((1, first), (2, second)):
            sign = 1.0 if end == 0 else (-1.0) ** d
            rows, column = (
                _volumes(d, cells, side, h)
                if accuracy == 2 and (cells or d == 2)
                else _near(d, accuracy, cells, side, h)
            )
            for row, (weights, datum) in enumerate(zip(rows, column, strict=True)):
                line_weights = torch.zeros(n, dtype=torch.float64)
                line_weights[: len(weights)] = torch.tensor(weights, dtype=torch.float64)
                place = row if end == 0 else n - 1 - row
                matrix[place] = sign * (line_weights if end == 0 else line_weights.flip(0))
                ends[d, end][place] = sign * datum
    if held[0]:
        ends[2, 0], ends[1, 0] = second[:, 0], first[:, 0]
    if held[1]:
        ends[2, 1], ends[1, 1] = second[:, -1], first[:, -1]
    kept = slice(start, stop)
    widths = torch.full((n,), h, dtype=torch.float64)
    if not cells:
        for end, side in ((0, sides[0]), (-1, sides[1])):
            if side is not None:
                widths[end] = h / 2
    return Line(
        kept,
        second[kept, kept] / h**2,
        first[kept, kept] / h,
        (ends[2, 0][kept] / h**2, ends[2, 1][kept] / h**2),
        (ends[1, 0][kept] / h, ends[1, 1][kept] / h),
        widths[kept],
    )


def _central(n: int, accuracy: int, derivative: int) -> Tensor:
    """Central differences with a wrap, in units of h."""
    reach = accuracy // 2
    matrix = torch.zeros(n, n, dtype=torch.float64)
    index = torch.arange(n)
    for j, w in zip(
        range(-reach, reach + 1), stencil(tuple(range(-reach, reach + 1)), derivative), strict=True
    ):
        matrix[index, (index + j) % n] += w
    return matrix


def _volumes(
    derivative: int, cells: bool, side: Functional, h: float
) -> tuple[list[list[float]], list[float]]:
    """The row next to a low side at second order, times h^derivative, and what multiplies the datum."""
    a = side.weight * h
    if derivative == 2:
        if not cells:
            # Half a control volume; the gradient outwards is datum - weight * u. A held node has no row.
            return ([[0.0]], [0.0]) if side.slope == 0.0 else ([[-2.0 - 2.0 * a, 2.0]], [2.0 * h])
        if side.slope == 0.0:
            return [[-3.0, 1.0]], [2.0]
        # From weight * w + 2 (w - u)/h = datum for the value w on the side.
        return [[-1.0 - a / (1 + 0.5 * a), 1.0]], [h / (1 + 0.5 * a)]
    if side.slope == 0.0:
        return [[0.5, 0.5]], [-1.0]
    return [[0.5 - 1 / (1 + 0.5 * a), 0.5]], [-0.5 * h / (1 + 0.5 * a)]


def _near(
    derivative: int, accuracy: int, cells: bool, side: Functional, h: float
) -> tuple[list[list[float]], list[float]]:
    """Rows next to a low side, times h^derivative, and what multiplies the datum."""
    reach = accuracy // 2
    if side.mirror and derivative == 2:
        central = stencil(tuple(range(-reach, reach + 1)), 2)
        rows = []
        for row in range(reach):
            line_weights = [0.0] * (row + reach + 1)
            for j, w in zip(range(row - reach, row + reach + 1), central, strict=True):
                line_weights[j if j >= 0 else (-j - 1 if cells else -j)] += w
            rows.append(line_weights)
        return rows, [0.0] * reach
    rows, column = [], []
    if side.slope == 0.0 and not cells:
        # A node carries its value: plain one-sided differences, of which it is the first point.
        for row in range(reach):
            rows.append(list(stencil(tuple(j - row for j in range(derivative + accuracy)), derivative)))
        return rows, [0.0] * reach
    width = derivative + accuracy - 1
    for row in range(reach):
        weights, datum = _birkhoff(
            width, row, derivative, Fraction(-1, 2) if cells else Fraction(0), side, h
        )
        rows.append(weights)
        column.append(datum)
    return rows, column


def _birkhoff(
    width: int, row: int, derivative: int, wall: Fraction, side: Functional, h: float
) -> tuple[list[float], float]:
    """Weights of points 0..width-1 and of the datum of a low side for a derivative at a point, exact for
    polynomials of degree `width`, in exact fractions until the last division."""
    # In units of h, with n pointing to falling x: weight * u - slope/h * u' = datum.
    a, b = Fraction(side.weight), -Fraction(side.slope) / Fraction(h)
    count = width + 1
    table = []
    for k in range(count):
        falling = Fraction(1)
        for i in range(derivative):
            falling *= k - i
        said = a * wall**k + (b * k * wall ** (k - 1) if k else 0)
        right = falling * Fraction(row) ** (k - derivative) if k >= derivative else Fraction(0)
        table.append([*(Fraction(j) ** k for j in range(width)), said, right])
    for i in range(count):
        pivot = next(r for r in range(i, count) if table[r][i] != 0)
        table[i], table[pivot] = table[pivot], table[i]
        table[i] = [v / table[i][i] for v in table[i]]
        for r in range(count):
            if r != i and table[r][i] != 0:
                table[r] = [v - table[r][i] * w for v, w in zip(table[r], table[i], strict=True)]
    found = [float(r[-1]) for r in table]
    return found[:-1], found[-1]
