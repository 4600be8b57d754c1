"""Random initial states, each a function of the generator alone and not of the grid it is sampled on."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Grid


def _positive(owner: str, **values: float) -> None:
    """Refuse arguments that are not positive and finite."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{owner} got {name}={value}; expected a positive number.")


def _check_resolution(owner: str, domain: Grid, modes: int) -> None:
    """Refuse grids on which waves of `modes` per side cannot be told from longer ones."""
    if not isinstance(domain, Grid):
        raise TypeError(f"{owner} got a {type(domain).__name__}; it draws fields on a Grid.")
    if min(domain.shape) <= 2 * modes:
        raise ValueError(
            f"{owner} got {modes} modes on a grid of {domain.shape}; it needs more than {2 * modes} points "
            "per axis. Take fewer modes or a finer grid."
        )


def _fractions(domain: Grid) -> tuple[Tensor, ...]:
    """Coordinates along each axis as fractions of the side, (N_d,)."""
    origin = torch.as_tensor(domain.origin, dtype=torch.float64)
    return tuple(
        (axis - low) / length
        for axis, low, length in zip(domain.axes(), origin, domain.lengths, strict=True)
    )


@functools.lru_cache(maxsize=16)
def _half_box(modes: int, dimension: int) -> Tensor:
    """Wave vectors |k_d| <= modes (M, D), one of each pair k, -k, sorted by the largest component.

    Those of a smaller number of modes come first and in the same order, so that draws are nested.
    """
    line = torch.arange(-modes, modes + 1)
    k = torch.cartesian_prod(*[line] * dimension).reshape(-1, dimension)
    # k is kept where its first component that is not zero is positive.
    first = torch.zeros(len(k), dtype=k.dtype)
    for axis in reversed(range(dimension)):
        first = torch.where(k[:, axis] != 0, k[:, axis], first)
    k = k[first > 0]
    shell = k.abs().amax(dim=1)
    return torch.cat([k[shell == size] for size in range(1, modes + 1)])


def _evaluate(coefficients: Tensor, k: Tensor, points: tuple[Tensor, ...]) -> Tensor:
    """Re sum_k c_k exp(2 pi i k.x) of coefficients (C, M) on the product of the `points`, (C, *points)."""
    modes, dimension = int(k.abs().max()), k.shape[1]
    width = 2 * modes + 1
    place = ((k + modes) * width ** torch.arange(dimension - 1, -1, -1)).sum(dim=1)
    flat = torch.zeros(len(coefficients), width**dimension, dtype=torch.complex128)
    flat[:, place] = coefficients
    table = flat.reshape(-1, *[width] * dimension)
    numbers = torch.arange(-modes, modes + 1, dtype=torch.float64)
    for x in points:
        # Each pass turns the first axis of wavenumbers into the last axis of points.
        waves = torch.exp(2j * math.pi * numbers.unsqueeze(1) * x)
        table = torch.tensordot(table, waves, dims=([1], [0]))
    return table.real.contiguous()


def _largest(coefficients: Tensor, k: Tensor) -> Tensor:
    """max |u| over the box of each channel (C,): the highest crests of a fixed set of points, then Newton.

    The points do not depend on any grid, so neither does the result.
    """
    modes, dimension = int(k.abs().max()), k.shape[1]
    line = torch.arange(8 * modes + 8, dtype=torch.float64) / (8 * modes + 8)
    values = _evaluate(coefficients, k, (line,) * dimension).abs()
    crest = torch.ones_like(values, dtype=torch.bool)
    for axis in range(1, dimension + 1):
        for shift in (-1, 1):
            crest &= values >= values.roll(shift, axis)
    # Several of them: the one that is highest between the points need not be so on them.
    best, where = torch.where(crest, values, 0.0).flatten(1).topk(16)
    x = torch.stack([line[i] for i in torch.unravel_index(where, values.shape[1:])], dim=2)
    angular = 2 * math.pi * k.to(torch.float64)
    squares = (angular.unsqueeze(2) * angular.unsqueeze(1)).flatten(1)
    for _ in range(5):
        terms = coefficients.unsqueeze(1) * torch.exp(1j * (x @ angular.T).to(torch.complex128))
        best = torch.maximum(best, terms.real.sum(dim=2).abs())
        slope = -(terms.imag @ angular)
        curvature = -(terms.real @ squares).unflatten(2, (dimension, dimension))
        if dimension == 1:  # what least squares would give, in a fraction of its time
            steep = curvature.squeeze(3)
            x = x - torch.where(steep == 0, 0.0, slope / steep)
        else:
            x = x - torch.linalg.lstsq(curvature, slope.unsqueeze(3)).solution.squeeze(3)
    return best.amax(dim=1)


@dataclass(frozen=True)
class RandomFourier:
    """A trigonometric polynomial with random amplitudes and phases, periodic on the box.

    u = sum_k a_k cos(2 pi k.x/L + phi_k) over |k_d| <= modes, a_k uniform in (-1, 1) and phi_k in
    (0, 2 pi), every channel on its own. The function depends on the generator and the arguments only,
    so that grids of any size see the same one.

    Args:
        modes: largest number of waves per side.
        zero_mean: leave the constant out; else it is uniform in (-1, 1).
        max_one: divide by the largest |u| over the box, that of the function and not of its samples.
        amplitude: factor in front of everything [u].

    Raises:
        ValueError: an argument is not positive, or the grid is too coarse for the modes.
    """

    modes: int = 5
    zero_mean: bool = True
    max_one: bool = True
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        _positive("RandomFourier", modes=self.modes, amplitude=self.amplitude)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        """One state (C, *points), float64."""
        _check_resolution("RandomFourier", domain, self.modes)
        k = _half_box(self.modes, domain.dimension)
        draws = torch.rand(channels, len(k), 2, dtype=torch.float64, generator=generator)
        offset = 2 * torch.rand(channels, 1, dtype=torch.float64, generator=generator) - 1
        coefficients = torch.polar(draws[..., 0], 2 * math.pi * draws[..., 1])
        # a in (-1, 1) with phi in (0, 2 pi) has the law of |a| with another phase in (0, 2 pi).
        if not self.zero_mean:
            k = torch.cat([k.new_zeros(1, domain.dimension), k])
            coefficients = torch.cat([offset.to(coefficients.dtype), coefficients], dim=1)
        u = _evaluate(coefficients, k, _fractions(domain))
        if self.max_one:
            u = u / _largest(coefficients, k).reshape(-1, *[1] * domain.dimension)
        return self.amplitude * u


@dataclass(frozen=True)
class GaussianRandomField:
    """A periodic Gaussian field of covariance s^2 (-lap + tau^2)^(-alpha), s = scale tau^(alpha - D/2).

    Its Fourier coefficients are independent; their variance falls like |k|^(-2 alpha) beyond tau. The
    coefficients are drawn from long waves to short ones, so that a coarser grid sees the same function
    less the waves that it cannot carry, and grids of any size see the same function where `modes` is
    given. Every channel is drawn on its own.

    Args:
        alpha: smoothness; more than D/2 for a field of finite variance.
        tau: inverse length beyond which the spectrum falls [1/length].
        scale: size of the field [u].
        modes: largest number of waves per side, or None for all that the grid carries.
        zero_mean: leave the constant out.

    Raises:
        ValueError: an argument is not positive, alpha is at most D/2, or the grid is too coarse.

    Lord, Powell, Shardlow, An Introduction to Computational Stochastic PDEs (2014), section 7.4.
    """

    alpha: float = 2.5
    tau: float = 7.0
    scale: float = 1.0
    modes: int | None = None
    zero_mean: bool = True

    def __post_init__(self) -> None:
        _positive("GaussianRandomField", alpha=self.alpha, tau=self.tau, scale=self.scale)
        if self.modes is not None:
            _positive("GaussianRandomField", modes=self.modes)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        """One state (C, *points), float64."""
        modes = (min(domain.shape) - 1) // 2 if self.modes is None else self.modes
        _check_resolution("GaussianRandomField", domain, modes)
        dimension = domain.dimension
        if self.alpha <= dimension / 2:
            raise ValueError(
                f"GaussianRandomField got alpha={self.alpha} in {dimension} space axes; more than "
                f"{dimension / 2} is needed for a field of finite variance."
            )
        k = _half_box(modes, dimension)
        mean = torch.randn(channels, 1, dtype=torch.float64, generator=generator)
        draws = []
        for size in range(1, modes + 1):
            count = (2 * size + 1) ** dimension - (2 * size - 1) ** dimension
            draws.append(torch.randn(channels, count // 2, 2, dtype=torch.float64, generator=generator))
        angular = 2 * math.pi * k / torch.tensor(domain.lengths, dtype=torch.float64)
        size_of = self.scale * self.tau ** (self.alpha - dimension / 2) / math.sqrt(domain.volume)
        # A wave stands for the pair k, -k: sqrt(2) cos and sqrt(2) sin are its two orthonormal functions.
        spread = size_of * math.sqrt(2) * (angular.square().sum(dim=1) + self.tau**2) ** (-self.alpha / 2)
        coefficients = torch.view_as_complex(torch.cat(draws, dim=1)) * spread
        u = _evaluate(coefficients, k, _fractions(domain))
        if not self.zero_mean:
            constant = size_of * self.tau**-self.alpha * mean
            u = u + constant.reshape(-1, *[1] * dimension)
        return u


@dataclass(frozen=True)
class Sines:
    """A sum of sine waves of random amplitude, wavenumber and phase, periodic on the box.

    u = sum_j A_j sin(2 pi l_j.x/L + phi_j) with A_j uniform in (-amplitude, amplitude), each component of
    l_j one of 1..modes with either sign, phi_j uniform in (0, 2 pi); zero mean.

    Args:
        count: number of waves.
        modes: largest number of waves per side.
        amplitude: largest size of one wave [u].

    Raises:
        ValueError: an argument is not positive, or the grid is too coarse for the modes.
    """

    count: int = 10
    modes: int = 3
    amplitude: float = 0.5

    def __post_init__(self) -> None:
        _positive("Sines", count=self.count, modes=self.modes, amplitude=self.amplitude)

    def __call__(self, domain: Grid, channels: int, generator: torch.Generator) -> Tensor:
        """One state (C, *points), float64."""
        _check_resolution("Sines", domain, self.modes)
        shape, dimension = (channels, self.count), domain.dimension
        sizes, phases = torch.rand(2, *shape, dtype=torch.float64, generator=generator)
        numbers = torch.randint(1, self.modes + 1, (*shape, dimension), generator=generator)
        signs = 2 * torch.randint(0, 2, (*shape, dimension), generator=generator) - 1
        x = torch.stack(torch.meshgrid(*_fractions(domain), indexing="ij"))
        angle = 2 * math.pi * torch.tensordot((numbers * signs).to(torch.float64), x, dims=1)
        trailing = [1] * dimension
        waves = torch.sin(angle + 2 * math.pi * phases.reshape(*shape, *trailing))
        return self.amplitude * ((2 * sizes - 1).reshape(*shape, *trailing) * waves).sum(dim=1)
