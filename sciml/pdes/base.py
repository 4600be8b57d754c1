"""What an equation promises, whatever differentiates it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Domain, Grid, Mesh, NodeType
from sciml.trajectory import Field, channel_names


class PDE(ABC):
    """An evolution equation u_t = rhs(u), stated once for solver, residual, check and metric.

    Subclasses are frozen dataclasses. Their parameters are floats, or tensors (B, 1, ...) that give
    each sample of a batch its own. `fields` names the unknowns with their units; `dimensions` the
    numbers of space axes in which the equation makes sense.
    """

    fields: ClassVar[tuple[Field, ...]]
    dimensions: ClassVar[tuple[int, ...]] = (1, 2, 3)

    @abstractmethod
    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        """Right-hand side, (B, C, *points) -> (B, C, *points) [u / time]."""

    def invariants(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """Quantities that the exact flow keeps, name -> (B,); none unless the equation states them."""
        return {}

    def scales(self, u: Tensor, domain: Domain) -> Mapping[str, Tensor]:
        """L2 norms (B,) by which errors of a field are measured where its own norm is smaller; none unless stated.

        For fields that vanish in the exact solution, such as what cleans a divergence: an error of them is large or
        small beside the fields that they act on, never beside themselves.
        """
        return {}

    def project(self, u: Tensor, calc: Calculus) -> Tensor:
        """The state nearest to u that the equation admits, (B, C, *points); u itself unless it says otherwise.

        A linear projection of constant coefficients: spectral solvers apply it, with a `Symbol`, to the
        modes of the state that each of their Steps starts from, and datasets on periodic grids to what
        they draw.
        """
        return u

    @classmethod
    def channels(cls, dimension: int) -> tuple[str, ...]:
        """Names of the C channels in `dimension` space axes."""
        return channel_names(cls.fields, dimension)


class SemiLinear(PDE):
    """u_t = L u + N(u), with L linear and of constant coefficients.

    `degree` is the largest number of factors in the products of N, which decides how many modes stay
    free of aliases. L may couple channels.
    """

    degree: ClassVar[int] = 2

    @abstractmethod
    def linear(self, u: Tensor, calc: Calculus) -> Tensor:
        """L u; with a `Symbol` calculus and u = 1, the Fourier multiplier of L."""

    @abstractmethod
    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        """N(u), zero for a linear equation."""

    def nonlinear_rate(self, grid: Grid, max_speed: float) -> float:
        """Largest rate [1/time] at which N acts on what a grid resolves, for the choice of a time step.

        As stated here that of transport at `max_speed` [length/time], sum_d max_speed/dx_d; an equation
        whose N reacts or disperses states its own.
        """
        return max_speed * sum(1.0 / h for h in grid.spacing)

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        return self.linear(u, calc) + self.nonlinear(u, calc)


class SplitSemiLinear(SemiLinear):
    """A semi-linear equation with N(u) = after(products(before(u))).

    `before` and `after` are linear of constant coefficients, `products` works point by point. A spectral
    solver runs the first two on Fourier modes, where a derivative is a multiplication, and transforms only
    what goes in and out of the products.
    """

    @abstractmethod
    def before(self, u: Tensor, calc: Calculus) -> Tensor:
        """The fields that the products are made of, (B, C, *points) -> (B, F, *points)."""

    @abstractmethod
    def products(self, fields: Tensor, calc: Calculus) -> Tensor:
        """Products of the fields, and forces, point by point, (B, F, *points) -> (B, G, *points)."""

    @abstractmethod
    def after(self, products: Tensor, calc: Calculus) -> Tensor:
        """N of the products, (B, G, *points) -> (B, C, *points)."""

    def nonlinear(self, u: Tensor, calc: Calculus) -> Tensor:
        return self.after(self.products(self.before(u, calc), calc), calc)


class ConservationLaw(PDE):
    """u_t + div F(u) = S(u), solved by finite volumes in the strong or the weak sense.

    `isotropic` says that no direction is special: turning the vectors of a state turns its flux.
    `source_is_local` says that S takes no derivatives, so that solvers need not be given a calculus for it.
    """

    isotropic: ClassVar[bool] = False
    source_is_local: ClassVar[bool] = False

    @abstractmethod
    def flux(self, u: Tensor) -> Tensor:
        """Physical flux, (B, C, *points) -> (B, C, D, *points) [u * length / time].

        D is the number of vector components of the state or of its trailing axes, as the law says.
        """

    @abstractmethod
    def max_speed(self, u: Tensor) -> Tensor:
        """Largest signal speed along each axis, (B, C, *points) -> (B, D, *points) [length / time]."""

    def source(self, u: Tensor, calc: Calculus) -> Tensor | None:
        """S(u), or None where there is none."""
        return None

    def source_rate(self, u: Tensor) -> Tensor | float:
        """Fastest rate at which S damps anything, a number or (B, 1, ...) [1/time]: explicit substeps heed it."""
        return 0.0

    def rhs(self, u: Tensor, calc: Calculus) -> Tensor:
        rate = -calc.div(self.flux(u))
        source = self.source(u, calc)
        return rate if source is None else rate + source


class Elliptic(ABC):
    """A stationary equation R(u; a) = 0 for u, given coefficient or source fields a."""

    fields: ClassVar[tuple[Field, ...]]
    inputs: ClassVar[tuple[Field, ...]]
    dimensions: ClassVar[tuple[int, ...]] = (1, 2, 3)

    @abstractmethod
    def residual(self, u: Tensor, a: Tensor, calc: Calculus) -> Tensor:
        """R(u; a), (B, C, *points) and (B, A, *points) -> (B, C, *points)."""


@runtime_checkable
class HasExact(Protocol):
    """An equation that knows a solution, used by tests, certificates and PINNs."""

    def exact(self, x: Tensor, t: Tensor | float) -> Tensor:
        """The solution at points x (B, D, *points) and times t (broadcastable to (B, 1, *points)),
        as (B, C, *points)."""
        ...

    def exact_lengths(self, dimension: int) -> tuple[float, ...]:
        """Sides of the box, with its low corner at the origin, on which it holds [length]."""
        ...


def integral(density: Tensor, domain: Domain) -> Tensor:
    """Integral over the domain of each channel, (B, C, *points) -> (B, C) [density * length^D].

    Raises:
        TypeError: a cloud has no quadrature weights.
    """
    if not hasattr(domain, "weights"):
        raise TypeError("integral needs a Grid or a Mesh; a Cloud has no quadrature weights.")
    weights = domain.weights(dtype=density.dtype, device=density.device)
    return (density * weights).flatten(2).sum(dim=2)


def is_periodic(domain: Domain) -> bool:
    """Whether the domain is a box that wraps round along every axis."""
    return isinstance(domain, Grid) and all(domain.periodic)


def is_insulated(domain: Domain) -> bool:
    """Whether a diffusing quantity cannot leave: periodic or Neumann sides, or a mesh without held nodes."""
    if isinstance(domain, Mesh):
        return bool((domain.types == NodeType.NORMAL).all())
    return isinstance(domain, Grid) and all(
        side in ("periodic", "neumann") for sides in domain.sides for side in sides
    )
