"""Fast direct solves where the coefficients are constant: axis by axis, in the eigenvectors of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.elliptic.diffusion import Diffusion, DiffusionProblem

# Faces that differ by less than this share are taken as equal: some roundings of the products that make them.
_EQUAL = 1e-13
# Largest product of different eigenvectors of a complex line. Waves that leave through a side keep it at rounding;
# absorbing layers, in which modes live on one side or another, raise it without bound.
_INDEPENDENT = 1e-8


@dataclass(frozen=True)
class _Fourier:
    """A periodic axis; transformed last, together with the others of its kind."""

    eigenvalues: Tensor


@dataclass(frozen=True)
class _Waves:
    """Sines or cosines on a bounded axis: the periodic axis that reflections at its ends make of it.

    A line is odd about a side that holds a value and even about one without flux. Between two kinds of
    sides it is first reflected at the side without flux, after which both ends hold values.

    Args:
        eigenvalues: (1, n) of -d^2/dx^2 times the coefficient.
        dim: the dimension of a field (B, *points) that it transforms.
        points: unknowns n along the axis.
        low, high: whether the ends hold values.
        cells: whether the ends lie half a spacing outside.
    """

    eigenvalues: Tensor
    dim: int
    points: int
    low: bool
    high: bool
    cells: bool

    @property
    def period(self) -> int:
        """Points of the periodic axis."""
        return _period(self.points, self.low, self.high, self.cells)

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients of the modes, the same number."""
        dim, odd = self.dim, self.low or self.high
        if self.high and not self.low:
            x = x.flip(dim)
        if self.low != self.high:
            rest = x if self.cells else x.narrow(dim, 0, self.points - 1)
            x = torch.cat((x, rest.flip(dim)), dim=dim)
        if odd:
            nothing = torch.zeros_like(x.narrow(dim, 0, 1))
            parts = (x, -x.flip(dim)) if self.cells else (nothing, x, nothing, -x.flip(dim))
        else:
            inner = x if self.cells else x.narrow(dim, 1, self.points - 2)
            parts = (x, inner.flip(dim))
        modes = torch.fft.rfft(torch.cat(parts, dim=dim), dim=dim)
        modes = modes.narrow(dim, int(odd), modes.shape[dim] - int(odd))
        if self.low != self.high:
            modes = modes[(slice(None),) * dim + (slice(0, None, 2),)]
        modes = modes.narrow(dim, 0, self.points)
        if self.cells:
            modes = modes * self._turn(modes, 1.0)
        return -modes.imag if odd else modes.real

    def backward(self, c: Tensor) -> Tensor:
        """The inverse of `forward`."""
        dim, odd = self.dim, self.low or self.high
        modes = torch.complex(torch.zeros_like(c), -c) if odd else torch.complex(c, torch.zeros_like(c))
        if self.cells:
            modes = modes * self._turn(modes, -1.0)
        if self.low != self.high:
            shape = list(modes.shape)
            shape[dim] = self.period // 2
            spread = modes.new_zeros(shape)
            spread[(slice(None),) * dim + (slice(0, 2 * self.points, 2),)] = modes
            modes = spread
        if odd:
            modes = torch.cat((torch.zeros_like(modes.narrow(dim, 0, 1)), modes), dim=dim)
        x = torch.fft.irfft(modes, n=self.period, dim=dim)
        x = x.narrow(dim, int(odd and not self.cells), self.points)
        return x.flip(dim) if self.high and not self.low else x

    def _turn(self, modes: Tensor, sign: float) -> Tensor:
        """Moves the origin by half a spacing to the side."""
        numbers = _numbers(self.points, self.low, self.high).to(modes.device)
        angle = sign * -math.pi * numbers / self.period
        shape = [1] * modes.ndim
        shape[self.dim] = self.points
        return torch.polar(torch.ones_like(angle), angle).reshape(shape)


@dataclass(frozen=True)
class _Dense:
    """Any other axis: eigenvectors V with V' W V = 1, W the widths; (B or 1, n, n)."""

    eigenvalues: Tensor
    vectors: Tensor
    dim: int

    def forward(self, x: Tensor) -> Tensor:
        """V' x."""
        return self._times(self.vectors.mT, x)

    def backward(self, c: Tensor) -> Tensor:
        """V c."""
        return self._times(self.vectors, c)

    def _times(self, matrix: Tensor, x: Tensor) -> Tensor:
        moved = x.movedim(self.dim, 1)
        kind = torch.promote_types(matrix.dtype, x.dtype)
        out = matrix.to(kind) @ moved.reshape(*moved.shape[:2], -1).to(kind)
        return out.reshape(len(out), *moved.shape[1:]).movedim(1, self.dim)


class Separable:
    """b (B, *unknowns) -> u with A u = b, directly, for an operator that is a sum over the axes.

    That is one whose coefficient is constant along each axis; widths may differ, complex ones too. A plain axis is
    transformed by fast sines, cosines or exponentials, one with a Robin side by products with
    its eigenvectors. Linear and differentiable in b. Use `separable` to make one.

    Swarztrauber, SIAM Review 19 (1977) 490, for the kinds of transforms; Lynch, Rice and Thomas, Numerische
    Mathematik 6 (1964) 185, for the sum over axes.

    Args:
        axes: transforms of the axes.
        shift: what is added to the eigenvalues: the reaction, or less a squared wavenumber, (B or 1,).
        scale: widths of the control volumes along each axis, (n,), None where the transform takes them in.
        singular: the smallest eigenvalue is zero, and its mode left out.

    Attributes:
        nearest: size of the smallest eigenvalue (B or 1,).
        complex_valued: whether the operator is.
    """

    def __init__(
        self,
        axes: tuple[_Fourier | _Waves | _Dense, ...],
        shift: Tensor,
        scale: tuple[Tensor | None, ...],
        singular: bool,
    ) -> None:
        self.axes, self.singular = axes, singular
        dimension = len(axes)
        self._widths = torch.ones((), dtype=torch.float64, device=shift.device)
        for width in scale:
            self._widths = self._widths.unsqueeze(-1) * (
                torch.ones(1, dtype=torch.float64, device=shift.device) if width is None else width
            )
        total = shift.reshape(-1, *[1] * dimension)
        for axis, transform in enumerate(axes):
            shape = [1] * (dimension + 1)
            shape[0], shape[axis + 1] = transform.eigenvalues.shape
            total = total + transform.eigenvalues.reshape(shape)
        self._waves = [axis + 1 for axis, t in enumerate(axes) if isinstance(t, _Fourier)]
        self.complex_valued = total.is_complex()
        self.nearest = total.abs().flatten(1).amin(dim=1)
        self._inverse = torch.where(total == 0, 0.0, 1.0 / torch.where(total == 0, 1.0, total))
        if singular:
            # The mean has the eigenvalue of smallest size, rounding or zero.
            flat = self._inverse.flatten(1)
            index = total.abs().flatten(1).argmin(dim=1, keepdim=True)
            self._inverse = flat.scatter(1, index, 0.0).reshape(self._inverse.shape)

    def __call__(self, b: Tensor) -> Tensor:
        x = b / self._widths
        for transform in self.axes:
            if isinstance(transform, _Waves):
                x = _real_parts(transform.forward, x)
            elif isinstance(transform, _Dense):
                x = transform.forward(x)
        inverse = self._inverse
        if not self._waves:
            x = x * inverse
        elif x.is_complex() or inverse.is_complex():
            modes = torch.fft.fftn(x.to(torch.complex128), dim=self._waves)
            x = torch.fft.ifftn(modes * inverse, dim=self._waves)
        else:
            modes, last = torch.fft.rfftn(x, dim=self._waves), self._waves[-1]
            x = torch.fft.irfftn(
                modes * inverse.narrow(last, 0, modes.shape[last]),
                s=[x.shape[dim] for dim in self._waves],
                dim=self._waves,
            )
        for transform in reversed(self.axes):
            if isinstance(transform, _Waves):
                x = _real_parts(transform.backward, x)
            elif isinstance(transform, _Dense):
                x = transform.backward(x)
        return x


def separable(
    problem: DiffusionProblem, shift: Tensor | complex | None = None, largest: int = 1024
) -> Separable | None:
    """The direct solver of a problem, or None where it has none.

    Args:
        problem: discretised; of its reaction only a constant one is direct, and of complex widths only those whose
            eigenvectors are well apart.
        shift: (B or 1,) instead of the reaction, whatever that is.
        largest: number of points on an axis that is not plain; its eigenvectors cost the third power of it
            once, and the first for each point of a solve.
    """
    operator = problem.operator
    with torch.no_grad():
        lines = _face_lines(problem)
        if lines is None:
            return None
        if shift is None:
            constant = _constant(operator, problem.volumes)
            if constant is None:
                return None
            shift = constant
        value = torch.as_tensor(shift, device=operator.faces[0].device).reshape(-1)
        axes: list[_Fourier | _Waves | _Dense] = []
        scale: list[Tensor | None] = []
        for axis, k in enumerate(lines):
            plain = _plain(problem, axis, k)
            if plain is None and k.shape[1] - 1 > largest:
                return None
            vectors = plain or _eigenvectors(k, problem.lines[axis].widths, axis + 1)
            if vectors is None:
                return None
            axes.append(vectors)
            scale.append(None if plain is None else problem.lines[axis].widths)
        return Separable(tuple(axes), value, tuple(scale), problem.singular)


def _face_lines(problem: DiffusionProblem) -> list[Tensor] | None:
    """Conductances per area along each axis, (B or 1, n + 1), where they are the same on every line."""
    lines = []
    for axis, faces in enumerate(problem.operator.faces):
        faces = faces.detach()
        areas = problem.areas(axis)
        first = tuple(slice(None) if d == axis else slice(0, 1) for d in range(problem.operator.dimension))
        corner = (faces[(slice(None), *first)] / areas[(slice(None), *first)]).flatten(1)
        # One line across first: most coefficients that vary do so there already.
        shape = [1] * faces.ndim
        shape[0], shape[axis + 1] = corner.shape
        for other in range(problem.operator.dimension):
            if other != axis:
                across = tuple(
                    slice(None) if d in (axis, other) else slice(0, 1) for d in range(len(first))
                )
                if not _same(
                    faces[(slice(None), *across)], corner.reshape(shape) * areas[(slice(None), *across)]
                ):
                    return None
        if not _same(faces, corner.reshape(shape) * areas):
            return None
        lines.append(corner)
    return lines


def _constant(operator: Diffusion, volumes: Tensor) -> Tensor | None:
    """The reaction per volume (B or 1,), where it is the same everywhere."""
    if operator.reaction is None:
        return torch.zeros(1, dtype=torch.float64, device=operator.faces[0].device)
    density = operator.reaction.detach() / volumes
    first = density.flatten(1)[:, :1]
    same = _same(density.flatten(1), first.expand(density.flatten(1).shape))
    return first.flatten() if same else None


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a - b).abs() <= _EQUAL * b.abs()).all())


def _plain(problem: DiffusionProblem, axis: int, k: Tensor) -> _Fourier | _Waves | None:
    """Sines, cosines or exponentials, where the axis is uniform up to its sides."""
    grid, h = problem.grid, problem.grid.spacing[axis]
    low, high = grid.sides[axis]
    n = k.shape[1] - 1
    cells = grid.centering == "cell"
    widths, gaps = problem.lines[axis].widths, problem.lines[axis].gaps
    if k.is_complex() or widths.is_complex() or n < 2 or not _same(gaps, torch.full_like(gaps, h)):
        return None
    inner = k[:, 1:2]
    expected = inner.expand(k.shape).clone()
    for end, side in ((0, low), (n, high)):
        if side == "neumann":
            expected[:, end] = 0.0
        elif side == "dirichlet" and cells:
            expected[:, end] *= 2
    if not _same(k, expected):
        return None
    if low == "periodic":
        numbers, period = torch.arange(n, dtype=torch.float64, device=k.device), n
    else:
        held = (low == "dirichlet", high == "dirichlet")
        numbers, period = _numbers(n, *held).to(k.device), _period(n, *held, cells)
        if n < 3 and not cells and not all(held):
            return None
    eigenvalues = 4 * (inner / h) * torch.sin(math.pi * numbers / period).square()
    if low == "periodic":
        return _Fourier(eigenvalues)
    return _Waves(eigenvalues, axis + 1, n, *held, cells)


def _eigenvectors(k: Tensor, widths: Tensor, dim: int) -> _Dense | None:
    """Of the three-point operator with conductances k (B or 1, n + 1); None where they are nearly dependent."""
    matrix = torch.diag_embed(k[:, 1:] + k[:, :-1])
    if k.shape[1] > 2:
        matrix = matrix - torch.diag_embed(k[:, 1:-1], 1) - torch.diag_embed(k[:, 1:-1], -1)
    if not matrix.is_complex() and not widths.is_complex():
        root = widths.rsqrt()
        values, vectors = torch.linalg.eigh(root.unsqueeze(1) * matrix * root)
        return _Dense(values, root.unsqueeze(1) * vectors, dim)
    values, vectors = torch.linalg.eig(matrix / widths.unsqueeze(1))
    # Complex symmetric: vectors are orthogonal without conjugation.
    vectors = vectors / (vectors.square() * widths.unsqueeze(1)).sum(dim=1, keepdim=True).sqrt()
    product = vectors.mT @ (widths.unsqueeze(1) * vectors)
    defect = (product - torch.eye(len(widths), dtype=product.dtype, device=product.device)).abs().max()
    if not float(defect) <= _INDEPENDENT:
        return None
    return _Dense(values, vectors, dim)


def _numbers(points: int, low: bool, high: bool) -> Tensor:
    """Which waves of the periodic axis are those of the bounded one."""
    if low and high:
        return torch.arange(1, points + 1, dtype=torch.float64)
    if low or high:
        return torch.arange(1, 2 * points, 2, dtype=torch.float64)
    return torch.arange(points, dtype=torch.float64)


def _period(points: int, low: bool, high: bool, cells: bool) -> int:
    if low != high:
        return 4 * points
    if cells:
        return 2 * points
    return 2 * (points + 1) if low else 2 * (points - 1)


def _real_parts(transform: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A transform of real fields, of a complex one too."""
    if not x.is_complex():
        return transform(x)
    return torch.complex(transform(x.real), transform(x.imag))
