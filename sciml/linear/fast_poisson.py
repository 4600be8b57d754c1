"""Direct solves of the Poisson equation for cells of a box, by transforms along its axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

# What holds at an end of an axis: a zero derivative or a zero value on the face there.
End = Literal["periodic", "neumann", "dirichlet"]

# Cells of an axis up to which a product with the matrix of its modes is faster than Fourier transforms.
_DENSE = 192


class FastPoisson:
    """lap(p) = f for cell values on a box, exact to rounding for the second-order Laplacian of its cells.

    (lap p)_i = sum over axes of (p_{i+1} - 2 p_i + p_{i-1})/h^2, with ghost values that make the derivative
    ("neumann") or the value ("dirichlet") vanish on the face of the side. Fourier, cosine and sine modes
    diagonalise it: short axes are transformed by products with the orthogonal matrix of their modes, long ones by
    `torch.fft` in N log N operations. Linear, symmetric, batched and differentiable any number of times.

    Where no side is "dirichlet" the mean of f is left out and p has zero mean.

    Args:
        shape: cells per axis, 1 to 3 of them.
        spacing: their sizes [length].
        ends: what holds at both ends of each axis.
        dense: axes of at most this many cells use matrices.

    Raises:
        ValueError: an end is unknown, an axis is periodic on one end only, or the numbers of axes differ.

    Swarztrauber, SIAM Review 19 (1977) 490-501; Makhoul, IEEE Trans. Acoust. 28 (1980) 27-34, for the cosine
    transform by one Fourier transform of equal length.
    """

    def __init__(
        self,
        shape: Sequence[int],
        spacing: Sequence[float],
        ends: Sequence[tuple[End, End]],
        dense: int = _DENSE,
    ) -> None:
        if not len(shape) == len(spacing) == len(ends):
            raise ValueError(
                f"FastPoisson got {len(shape)} sizes, {len(spacing)} spacings and {len(ends)} pairs of ends; "
                "give one of each per axis."
            )
        for axis, pair in enumerate(ends):
            if any(end not in get_args(End) for end in pair) or (pair[0] == "periodic") != (
                pair[1] == "periodic"
            ):
                raise ValueError(
                    f"FastPoisson got ends {pair} on axis {axis}; expected 'neumann' or 'dirichlet' for each, or "
                    "'periodic' for both."
                )
        self.shape, self.spacing, self.ends = tuple(shape), tuple(spacing), tuple(ends)
        self.singular = not any("dirichlet" in pair for pair in ends)
        # Complex Fourier modes come last, when all else is real: they keep half of one axis.
        self._fourier = [a for a, (low, _) in enumerate(ends) if low == "periodic" and shape[a] > dense]
        if ends and all(low == "periodic" for low, _ in ends):
            self._fourier = list(range(len(shape)))  # short boxes too: one transform for all axes
        self._axes: dict[int, _Axis] = {
            a: _axis(n, pair, dense)
            for a, (n, pair) in enumerate(zip(shape, ends, strict=True))
            if a not in self._fourier
        }
        self._tables: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def __call__(self, f: Tensor) -> Tensor:
        """Right-hand sides (..., *cells) -> solutions (..., *cells) [f * length^2]."""
        first = f.ndim - len(self.shape)
        for a, axis in self._axes.items():
            f = axis.forward(f, first + a)
        dims = [first + a for a in self._fourier]
        inverse = self._inverse(f)
        if dims:
            modes = torch.fft.rfftn(f, dim=dims) * inverse
            f = torch.fft.irfftn(modes, s=[self.shape[a] for a in self._fourier], dim=dims)
        else:
            f = f * inverse
        for a, axis in self._axes.items():
            f = axis.backward(f, first + a)
        return f

    def laplacian(self, p: Tensor) -> Tensor:
        """The operator that is inverted, (..., *cells) -> (..., *cells)."""
        first, total = p.ndim - len(self.shape), torch.zeros_like(p)
        for a, ((low, high), h) in enumerate(zip(self.ends, self.spacing, strict=True)):
            dim, n = first + a, self.shape[a]
            if low == "periodic":
                total = total + (p.roll(1, dim) - 2 * p + p.roll(-1, dim)) / h**2
                continue
            before, after = (
                (1.0 if end == "neumann" else -1.0) * p.narrow(dim, at, 1)
                for end, at in ((low, 0), (high, n - 1))
            )
            wide = torch.cat((before, p, after), dim=dim)
            total = total + wide.diff(n=2, dim=dim) / h**2
        return total

    def _inverse(self, like: Tensor) -> Tensor:
        """1/eigenvalue of every mode, in the layout of the transforms."""
        key = (like.dtype, like.device)
        if key not in self._tables:
            total = torch.zeros((1,) * len(self.shape), dtype=torch.float64)
            for a, h in enumerate(self.spacing):
                if a in self._axes:
                    values = self._axes[a].eigenvalues
                else:
                    n = self.shape[a]
                    count = n // 2 + 1 if a == self._fourier[-1] else n
                    values = -4 * torch.sin(math.pi * torch.arange(count, dtype=torch.float64) / n) ** 2
                total = total + values.reshape([-1 if i == a else 1 for i in range(len(self.shape))]) / h**2
            inverse = torch.where(total == 0, 0.0, 1.0 / torch.where(total == 0, 1.0, total))
            self._tables[key] = inverse.to(dtype=like.dtype, device=like.device)
        return self._tables[key]


class _Axis(Protocol):
    """A real transform along one axis that diagonalises its second difference."""

    eigenvalues: Tensor

    def forward(self, x: Tensor, dim: int) -> Tensor: ...

    def backward(self, x: Tensor, dim: int) -> Tensor: ...


def second_difference(n: int, low: float, high: float, periodic: bool = False) -> Tensor:
    """The (n, n) matrix of x_{i+1} - 2 x_i + x_{i-1} with ghosts low * x_0 and high * x_{n-1}, or periodic."""
    matrix = torch.zeros(n, n, dtype=torch.float64)
    matrix.diagonal().fill_(-2.0)
    matrix.diagonal(1).fill_(1.0)
    matrix.diagonal(-1).fill_(1.0)
    if periodic:
        matrix[0, -1] += 1.0
        matrix[-1, 0] += 1.0
    else:
        matrix[0, 0] += low
        matrix[-1, -1] += high
    return matrix


class Dense:
    """Products with the orthogonal matrix of the eigenvectors of a symmetric matrix (n, n)."""

    def __init__(self, matrix: Tensor) -> None:
        self.eigenvalues, self._vectors = torch.linalg.eigh(matrix)
        # The constant is the only mode without curvature; rounding must not lend it a large inverse.
        tiny = self.eigenvalues.abs() < 1e-11
        self.eigenvalues = torch.where(tiny, 0.0, self.eigenvalues)
        self._cast: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    def forward(self, x: Tensor, dim: int) -> Tensor:
        q = self._matrix(x)
        return x @ q if dim == x.ndim - 1 else _left(q.mT, x, dim)

    def backward(self, x: Tensor, dim: int) -> Tensor:
        q = self._matrix(x)
        return x @ q.mT if dim == x.ndim - 1 else _left(q, x, dim)

    def _matrix(self, like: Tensor) -> Tensor:
        key = (like.dtype, like.device)
        if key not in self._cast:
            self._cast[key] = self._vectors.to(dtype=like.dtype, device=like.device)
        return self._cast[key]


def _left(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    """The matrix times x along one of its axes but the last."""
    if dim == x.ndim - 2:
        return matrix @ x
    flat = x.flatten(dim + 1)
    return (matrix @ flat).unflatten(-1, x.shape[dim + 1 :])


class Cosine:
    """Cosines of cells between two faces where the derivative vanishes; with `alternate`, sines (both values).

    x_0 x_2 x_4 ... x_5 x_3 x_1 through one real Fourier transform, turned by exp(-i pi k/2N), has the coefficient
    of mode k as its real part and minus that of mode N - k as its imaginary part. They stay in that order, real and
    imaginary parts side by side.
    """

    def __init__(self, n: int, alternate: bool = False) -> None:
        self._n = n
        self._order = torch.cat((torch.arange(0, n, 2), torch.arange(1, n, 2).flip(0)))
        self._back = self._order.argsort()
        k = torch.arange(n // 2 + 1, dtype=torch.float64)
        self._turn = torch.exp(-0.5j * math.pi * k / n)
        modes = torch.stack((k, n - k), dim=1).flatten()
        if alternate:
            # Sine modes are cosine modes of the sign-alternated values, from the other end.
            modes = n - modes
        self.eigenvalues = -4 * torch.sin(0.5 * math.pi * modes / n) ** 2
        # The imaginary part of k = 0 is zero whatever stands here.
        self.eigenvalues[1] = -4.0
        self._sign = (1.0 - 2.0 * (torch.arange(n) % 2)) if alternate else None

    def forward(self, x: Tensor, dim: int) -> Tensor:
        x = x.movedim(dim, -1)
        if self._sign is not None:
            x = x * self._sign.to(x)
        x = x.index_select(-1, self._order.to(x.device))
        modes = torch.fft.rfft(x, norm="ortho") * self._turn_of(x)
        return torch.view_as_real(modes).flatten(-2).movedim(-1, dim)

    def backward(self, x: Tensor, dim: int) -> Tensor:
        modes = torch.view_as_complex(x.movedim(dim, -1).unflatten(-1, (-1, 2)).contiguous())
        x = torch.fft.irfft(modes * self._turn_of(x).conj(), n=self._n, norm="ortho")
        x = x.index_select(-1, self._back.to(x.device))
        if self._sign is not None:
            x = x * self._sign.to(x)
        return x.movedim(-1, dim)

    def _turn_of(self, x: Tensor) -> Tensor:
        return self._turn.to(device=x.device, dtype=x.dtype.to_complex())


class QuarterCosine:
    """Cosines of an even number of cells with a zero derivative on one face and a zero value on the other.

    cos((2k + 1)(2i + 1) pi/4N), a transform that is its own inverse: N/2 complex numbers x_{2i} + i x_{N-1-2i}
    through one Fourier transform between two turns. Modes 2k and N-1-2k stay side by side.
    """

    def __init__(self, n: int, value_first: bool) -> None:
        half = torch.arange(n // 2, dtype=torch.float64)
        self._n, self._flip = n, value_first
        self._turn = torch.exp(-1j * math.pi * (8 * half + 1) / (8 * n))
        modes = torch.stack((2 * half, n - 1 - 2 * half), dim=1).flatten()
        self.eigenvalues = -4 * torch.sin(0.25 * math.pi * (2 * modes + 1) / n) ** 2

    def forward(self, x: Tensor, dim: int) -> Tensor:
        x = x.movedim(dim, -1)
        if self._flip:
            x = x.flip(-1)
        packed = torch.complex(x[..., ::2].contiguous(), x.flip(-1)[..., ::2].contiguous())
        return torch.view_as_real(self._turned(packed)).flatten(-2).movedim(-1, dim)

    def backward(self, x: Tensor, dim: int) -> Tensor:
        modes = torch.view_as_complex(x.movedim(dim, -1).unflatten(-1, (-1, 2)).contiguous())
        packed = self._turned(modes)
        # Even cells from the real parts, odd ones, backwards, from the imaginary parts.
        x = torch.stack((packed.real, packed.imag.flip(-1)), dim=-1).flatten(-2)
        if self._flip:
            x = x.flip(-1)
        return x.movedim(-1, dim)

    def _turned(self, packed: Tensor) -> Tensor:
        turn = self._turn.to(device=packed.device, dtype=packed.dtype)
        out = torch.fft.fft(packed * turn) * (turn * math.sqrt(2.0 / self._n))
        return out.conj().resolve_conj()


def _axis(n: int, ends: tuple[End, End], dense: int) -> _Axis:
    """The transform of an axis, by matrices where it is short."""
    low, high = ends
    if n > dense and low != "periodic":
        if low == high:
            return Cosine(n, alternate=low == "dirichlet")
        if n % 2 == 0:
            return QuarterCosine(n, value_first=low == "dirichlet")
    sign = {"neumann": 1.0, "dirichlet": -1.0, "periodic": 0.0}
    return Dense(second_difference(n, sign[low], sign[high], periodic=low == "periodic"))
