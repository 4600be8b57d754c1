"""Functions of the state on which the Koopman operator is represented."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Polynomials = Literal["monomial", "hermite", "chebyshev"]
Radial = Literal["exponential", "gaussian", "thin_plate"]
Kernel = Literal["gaussian", "laplacian", "lorentzian", "polynomial"]


class Dictionary(nn.Module, ABC):
    """Functions psi_1, ..., psi_N of a state of n numbers, (B, n) -> (B, N), real or complex.

    One of your own is an `nn.Module` with these three members, such as a network's features.

    Attributes:
        apart: the samples that it learns its functions from must not serve to judge them: it interpolates there.
    """

    apart: bool = False

    @abstractmethod
    def prepare(self, size: int) -> int:
        """Make room for states of n numbers; returns N.

        Raises:
            ValueError: it cannot act on such states.
        """

    def fit(self, states: Tensor, generator: torch.Generator) -> None:
        """Learn centres, widths and the like from states (M, n); nothing unless it says otherwise."""
        return None

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The functions at states (B, n), (B, N)."""


class Monomials(Dictionary):
    """Products of polynomials of the components.

    Args:
        degree: the highest one.
        total: of the whole product, else of each component.
        family: "monomial" powers, "hermite" (of probabilists) or "chebyshev".

    Raises:
        ValueError: an unknown family or a negative degree.
    """

    degrees: Tensor

    def __init__(self, degree: int = 3, total: bool = True, family: Polynomials = "monomial") -> None:
        super().__init__()
        if family not in get_args(Polynomials) or degree < 0:
            raise ValueError(
                f"Monomials got family={family!r}, degree={degree}; expected one of {list(get_args(Polynomials))} and "
                "0 or more."
            )
        self.degree, self.total, self.family = degree, total, family

    def prepare(self, size: int) -> int:
        count = math.comb(size + self.degree, self.degree) if self.total else (self.degree + 1) ** size
        if count > 20_000:
            raise ValueError(
                f"Monomials would be {count} functions of {size} numbers up to degree {self.degree}; lower the degree."
            )
        self.register_buffer("degrees", torch.tensor(self._degrees(size)), persistent=False)
        return len(self.degrees)

    def _degrees(self, size: int) -> list[tuple[int, ...]]:
        if not self.total:
            return list(product(range(self.degree + 1), repeat=size))
        found: list[tuple[int, ...]] = [()]
        for _ in range(size):
            found = [(*head, k) for head in found for k in range(self.degree + 1 - sum(head))]
        return sorted(found, key=sum)

    def forward(self, x: Tensor) -> Tensor:
        powers = [torch.ones_like(x), x]
        for k in range(2, self.degree + 1):
            if self.family == "monomial":
                powers.append(powers[-1] * x)
            elif self.family == "hermite":
                powers.append(x * powers[-1] - (k - 1) * powers[-2])
            else:
                powers.append(2 * x * powers[-1] - powers[-2])
        table = torch.stack(powers[: self.degree + 1], dim=2)  # (B, n, degree + 1)
        value = table[:, 0, self.degrees[:, 0]]
        for axis in range(1, x.shape[1]):
            value = value * table[:, axis, self.degrees[:, axis]]
        return value


class Fourier(Dictionary):
    """exp(i k . x 2 pi / period) with |k| <= order along each component.

    Args:
        order: the highest wavenumber.
        period: of the components.

    Raises:
        ValueError: a negative order or period.
    """

    waves: Tensor

    def __init__(self, order: int = 10, period: float = 2 * math.pi) -> None:
        super().__init__()
        if order < 0 or not period > 0:
            raise ValueError(
                f"Fourier got order={order}, period={period}; expected 0 or more, and a positive one."
            )
        self.order, self.period = order, float(period)

    def prepare(self, size: int) -> int:
        if (2 * self.order + 1) ** size > 20_000:
            raise ValueError(
                f"Fourier would be {(2 * self.order + 1) ** size} functions of {size} numbers; lower the order."
            )
        waves = torch.tensor(list(product(range(-self.order, self.order + 1), repeat=size)))
        self.register_buffer("waves", waves.double() * (2 * math.pi / self.period), persistent=False)
        return len(waves)

    def forward(self, x: Tensor) -> Tensor:
        phase = x @ self.waves.T
        return torch.complex(phase.cos(), phase.sin())


class RadialBasis(Dictionary):
    """Functions of the distance to centres, and the constant.

    Centres are found by Lloyd's k-means. With d the mean distance of states from their mean: "exponential"
    exp(-r/d), "gaussian" exp(-(r/d)^2), "thin_plate" (r/d)^2 log(r/d).

    Args:
        centres: their number.
        shape: which function.
        constant: whether the constant is one of the functions.

    Raises:
        ValueError: an unknown shape, or no centre.
    """

    centres: Tensor
    width: Tensor

    def __init__(self, centres: int = 100, shape: Radial = "exponential", constant: bool = True) -> None:
        super().__init__()
        if shape not in get_args(Radial) or centres < 1:
            raise ValueError(
                f"RadialBasis got shape={shape!r}, centres={centres}; expected one of {list(get_args(Radial))} and at "
                "least 1."
            )
        self.count, self.shape, self.constant = centres, shape, constant

    def prepare(self, size: int) -> int:
        self.register_buffer("centres", torch.zeros(self.count, size, dtype=torch.float64))
        self.register_buffer("width", torch.ones((), dtype=torch.float64))
        return self.count + self.constant

    def fit(self, states: Tensor, generator: torch.Generator) -> None:
        if len(states) < self.count:
            raise ValueError(f"RadialBasis got {len(states)} states for {self.count} centres.")
        self.width.copy_((states - states.mean(dim=0)).norm(dim=1).mean())
        self.centres.copy_(_k_means(states, self.count, generator))

    def forward(self, x: Tensor) -> Tensor:
        r = torch.cdist(x, self.centres, compute_mode="donot_use_mm_for_euclid_dist") / self.width
        if self.shape == "exponential":
            value = torch.exp(-r)
        elif self.shape == "gaussian":
            value = torch.exp(-r.square())
        else:
            value = r.square() * r.clamp_min(torch.finfo(r.dtype).tiny).log()
        return torch.cat([torch.ones_like(r[:, :1]), value], dim=1) if self.constant else value


def _k_means(states: Tensor, count: int, generator: torch.Generator, sweeps: int = 20) -> Tensor:
    """Centres (count, n) of clusters of states (M, n): Lloyd's iteration from states drawn at random."""
    if len(states) > 20_000:
        states = states[torch.randperm(len(states), generator=generator)[:20_000]]
    centres = states[torch.randperm(len(states), generator=generator)[:count]].clone()
    for _ in range(sweeps):
        nearest = torch.cdist(states, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, states)
        sizes = torch.bincount(nearest, minlength=count).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return centres


class RandomFourier(Dictionary):
    """cos(w . x + b) with normal w and uniform b, and the components and the constant: features of a Gaussian kernel.

    Args:
        features: number of cosines.
        width: length over which they vary, in units of the mean distance of states from their mean.

    Raises:
        ValueError: no feature, or a width that is not positive.

    Rahimi and Recht, NeurIPS 2007.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, features: int = 100, width: float = 1.0) -> None:
        super().__init__()
        if features < 1 or not width > 0:
            raise ValueError(
                f"RandomFourier got features={features}, width={width}; expected at least 1 and a positive width."
            )
        self.features, self.width = features, float(width)

    def prepare(self, size: int) -> int:
        self.register_buffer("frequencies", torch.zeros(self.features, size, dtype=torch.float64))
        self.register_buffer("phases", torch.zeros(self.features, dtype=torch.float64))
        return 1 + size + self.features

    def fit(self, states: Tensor, generator: torch.Generator) -> None:
        spread = (states - states.mean(dim=0)).norm(dim=1).mean()
        drawn = torch.randn(self.frequencies.shape, generator=generator, dtype=torch.float64)
        self.frequencies.copy_(drawn / (self.width * spread))
        phases = torch.rand(len(self.phases), generator=generator, dtype=torch.float64)
        self.phases.copy_(2 * math.pi * phases)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [torch.ones_like(x[:, :1]), x, torch.cos(x @ self.frequencies.T + self.phases)], dim=1
        )


class Modes(Dictionary):
    """Coordinates in the leading proper orthogonal modes of the states: linear, and few.

    Args:
        rank: number of modes.
        constant: whether the constant is one of the functions, which lets the mean stay.

    Raises:
        ValueError: the rank is not positive.
    """

    modes: Tensor

    def __init__(self, rank: int = 10, constant: bool = False) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"Modes got rank={rank}; expected at least 1.")
        self.rank, self.constant = rank, constant

    def prepare(self, size: int) -> int:
        if self.rank > size:
            raise ValueError(f"Modes got rank={self.rank} for {size} numbers; expected at most as many.")
        self.register_buffer("modes", torch.zeros(size, self.rank, dtype=torch.float64))
        return self.rank + self.constant

    def fit(self, states: Tensor, generator: torch.Generator) -> None:
        if len(states) < self.rank:
            raise ValueError(f"Modes got {len(states)} states for {self.rank} modes.")
        self.modes.copy_(torch.linalg.svd(states, full_matrices=False).Vh[: self.rank].T)

    def forward(self, x: Tensor) -> Tensor:
        value = x @ self.modes
        return torch.cat([torch.ones_like(x[:, :1]), value], dim=1) if self.constant else value


class KernelFeatures(Dictionary):
    """The leading features of a kernel on some of the states, psi(x) = k(x, X) U D^(-1/2).

    For states of many numbers: k(X, X) = U D U^T costs their number only in inner products. On the states X the
    features interpolate, and whatever is measured there is meaningless; it is done on others. With d the mean distance
    of states from their mean: "gaussian" exp(-|x - y|^2/d^2), "laplacian" exp(-|x - y|/d), "lorentzian"
    1/(1 + |x - y|^2/d^2); "polynomial" (1 + x.y/d^2)^degree with d the mean norm.

    Args:
        points: how many states X.
        features: N, how many of the features.
        kernel: which.
        degree: of the polynomial kernel.
        shift: added to D, in units of the largest, so that small eigenvalues do no harm.

    Raises:
        ValueError: an unknown kernel or a number out of range.

    Williams, Rowley and Kevrekidis, J. Computational Dynamics 2 (2015) 247-265; Colbrook and Townsend, Comm. Pure and
    Applied Mathematics 77 (2024) 221-283.
    """

    apart = True
    points: Tensor
    mixing: Tensor
    width: Tensor

    def __init__(
        self,
        points: int = 300,
        features: int = 50,
        kernel: Kernel = "gaussian",
        degree: int = 10,
        shift: float = 1e-12,
    ) -> None:
        super().__init__()
        if kernel not in get_args(Kernel) or not 1 <= features <= points or degree < 1 or not shift >= 0:
            raise ValueError(
                f"KernelFeatures got kernel={kernel!r}, points={points}, features={features}, degree={degree}, shift="
                f"{shift}; expected one of {list(get_args(Kernel))}, 1 to `points` features, and numbers that are not "
                "negative."
            )
        self.count, self.features, self.kernel = points, features, kernel
        self.degree, self.shift = degree, shift

    def prepare(self, size: int) -> int:
        self.register_buffer("points", torch.zeros(self.count, size, dtype=torch.float64))
        self.register_buffer("mixing", torch.zeros(self.count, self.features, dtype=torch.float64))
        self.register_buffer("width", torch.ones((), dtype=torch.float64))
        return self.features

    def _gram(self, x: Tensor, y: Tensor) -> Tensor:
        if self.kernel == "polynomial":
            return (1 + x @ y.T / self.width.square()) ** self.degree
        r = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") / self.width
        if self.kernel == "gaussian":
            return torch.exp(-r.square())
        return torch.exp(-r) if self.kernel == "laplacian" else 1 / (1 + r.square())

    def fit(self, states: Tensor, generator: torch.Generator) -> None:
        if len(states) < self.count:
            raise ValueError(f"KernelFeatures got {len(states)} states for {self.count} points.")
        centre = 0 if self.kernel == "polynomial" else states.mean(dim=0)
        self.width.copy_((states - centre).norm(dim=1).mean())
        chosen = torch.randperm(len(states), generator=generator)[: self.count]
        self.points.copy_(states[chosen])
        values, vectors = torch.linalg.eigh(self._gram(self.points, self.points))
        values = values + self.shift * values[-1]
        kept = vectors[:, -self.features :].flip(1)
        tiny = torch.finfo(values.dtype).eps * values[-1]
        self.mixing.copy_(kept / values[-self.features :].flip(0).clamp_min(tiny).sqrt())

    def forward(self, x: Tensor) -> Tensor:
        return self._gram(x, self.points) @ self.mixing
