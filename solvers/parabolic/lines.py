"""Implicit diffusion and explicit reaction or transport, on lines of points between sides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from sciml.calculus import Calculus, FiniteDifference
from sciml.calculus.finite_difference import Accuracy
from sciml.domains import Domain, Grid
from sciml.pdes.advection_diffusion import AdvectionDiffusion
from sciml.pdes.base import SemiLinear
from sciml.pdes.parameters import component, is_field
from sciml.solvers.parabolic.line import Functional, Line, line
from sciml.solvers.parabolic.sides import Edge, Edges, SideConditions, hold_nodes, read_sides
from sciml.solvers.parabolic.tableaus import SCHEMES, Scheme
from sciml.solvers.time import Imex, imex

# Above this the second derivative cannot smooth what a central first one leaves: it oscillates.
_CELL_PECLET = 2.0


class ImexLines:
    """A Step that solves u_t = D lap(u) + rest, the diffusion implicit and the rest explicit; made by `parabolic`.

    The second differences along each axis are diagonalised once; an implicit stage is then a division
    between two changes of basis (Lynch, Rice and Thomas, Numer. Math. 6 (1964) 185-199), whatever the sides.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: steps of the method inside one call.
        tableau, accuracy: how it integrates, and the order in space.
        edges: the sides, by (axis, end).
        lines: per axis the derivatives, one for all channels or one for each.
        method: the scheme in words.
    """

    def __init__(
        self,
        pde: SemiLinear,
        grid: Grid,
        dt: float,
        *,
        conditions: SideConditions | None,
        scheme: Scheme,
        accuracy: Accuracy,
        substeps: int,
    ) -> None:
        self.pde, self.grid, self.dt = pde, grid, float(dt)
        self.domain: Domain = grid
        self.channels = pde.channels(grid.dimension)
        self.tableau, self.accuracy, self.substeps = SCHEMES[scheme], accuracy, substeps
        self.edges = read_sides(grid, conditions, len(self.channels))
        rates = diffusivities(pde, grid)
        self.lines = [self._lines(axis, rates[axis]) for axis in range(grid.dimension)]
        self._eigen = [[found.eigen() for found in lines] for lines in self.lines]
        self._kept = tuple(lines[0].kept for lines in self.lines)
        self._calculus = _Explicit(grid, accuracy, self.edges, [lines[0] for lines in self.lines])
        self._carries = _explicit_part(pde, grid, self._calculus)
        # Both precisions at once: what is made inside a call may belong to a transform around it.
        self._stored = {kind: self._cast(kind) for kind in (torch.float64, torch.float32)}
        self._fixed = None if any(r.requires_grad for r in rates) else (rates, self._exact(rates))
        space = "finite volumes" if accuracy == 2 else f"finite differences of order {accuracy}"
        self.method = f"{space}, {self.tableau.name}, diffusion implicit"
        if self._carries:
            self.method += ", the rest explicit"
        if isinstance(pde, AdvectionDiffusion):
            _warn_of_layers(pde, grid, rates)

    def __repr__(self) -> str:
        return f"ImexLines({self.pde}, {self.grid.shape}, dt={self.dt}, substeps={self.substeps}, {self.method})"

    def __call__(self, u: Tensor, /) -> Tensor:
        expected = (len(self.channels), *self.grid.shape)
        if tuple(u.shape[1:]) != expected or not u.is_floating_point():
            raise ValueError(
                f"parabolic got a state of shape {tuple(u.shape)} and type {u.dtype}; expected (B, *{expected}) with "
                f"channels {self.channels}, in float32 or float64."
            )
        u = hold_nodes(u, self.grid, self.edges)
        if self._fixed is None:
            rates = diffusivities(self.pde, self.grid)
            method = self._exact(rates)
        else:
            rates, method = self._fixed
        rates = [r.to(u) for r in rates]
        method = method.map(
            lambda x: x.to(device=u.device, dtype=u.dtype.to_complex() if x.is_complex() else u.dtype)
        )
        bases = self._bases(u)
        inflow = self._inflow(u, rates)
        # Constant in time: explicit and implicit treatment are the same.
        steady = None if inflow is None else self._modes(inflow, bases)

        def rest(modes: Tensor) -> Tensor:
            if not self._carries:
                return torch.zeros_like(modes) if steady is None else steady
            whole = self._whole(self._points(modes, bases), u)
            rate = self._modes(self.pde.rhs(whole, self._calculus).to(u.dtype)[self._free], bases)
            return rate if steady is None else rate + steady

        modes = self._modes(u[self._free], bases)
        for _ in range(self.substeps):
            modes = method.step(modes, rest)
        return self._whole(self._points(modes, bases), u)

    @property
    def _free(self) -> tuple[slice, ...]:
        return (slice(None), slice(None), *self._kept)

    def _lines(self, axis: int, rate: Tensor) -> list[Line]:
        """The derivatives along an axis, one for each channel where a Robin side tells them apart."""
        pair = (self.edges[axis, 0], self.edges[axis, 1])
        n, h, centering = self.grid.shape[axis], self.grid.spacing[axis], self.grid.centering
        for edge in pair:
            if edge.kind in ("flux", "robin") and not bool((rate.detach() > 0).all()):
                raise ValueError(
                    f"{type(self.pde).__name__} has a channel that does not diffuse, which takes no Flux or Robin."
                )
        if not any(edge.kind == "robin" for edge in pair):
            return [line(n, h, centering, (_said(pair[0], 1.0), _said(pair[1], 1.0)), self.accuracy)]
        if rate.requires_grad or len(rate) > 1:
            raise ValueError(
                f"{type(self.pde).__name__} got a Robin side with a diffusivity that learns or differs between samples, "
                "and so does its basis of modes; give one number."
            )
        values = [float(v) for v in rate.flatten()]
        values = values[:1] if len(set(values)) == 1 else values
        return [
            line(n, h, centering, (_said(pair[0], v), _said(pair[1], v)), self.accuracy) for v in values
        ]

    def _exact(self, rates: Sequence[Tensor]) -> Imex:
        """The method in float64; multipliers (B or 1, C, *modes)."""
        total = torch.zeros((), dtype=torch.float64)
        d = self.grid.dimension
        for axis, (rate, eigen) in enumerate(zip(rates, self._eigen, strict=True)):
            values = torch.stack([values for values, _, _ in eigen])
            shape = [len(values), *[1] * d]
            shape[1 + axis] = -1
            total = total + rate * values.reshape(1, *shape)
        return imex(total, self.dt / self.substeps, self.tableau)

    def _bases(self, like: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Per axis the vectors (1 or C, n, n) and their inverses, in the precision of the state."""
        found = self._stored.get(like.dtype) or self._cast(like.dtype)
        return [(v.to(like.device), w.to(like.device)) for v, w in found]

    def _cast(self, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
        found = []
        for eigen in self._eigen:
            vectors, inverse = (torch.stack([e[i] for e in eigen]) for i in (1, 2))
            kind = dtype.to_complex() if vectors.is_complex() else dtype
            found.append((vectors.to(kind), inverse.to(kind)))
        return found

    def _modes(self, v: Tensor, bases: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        for axis, (_, inverse) in enumerate(bases):
            v = _along(v, inverse, axis)
        return v

    def _points(self, modes: Tensor, bases: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        for axis, (vectors, _) in enumerate(bases):
            modes = _along(modes, vectors, axis)
        return modes.real if modes.is_complex() else modes

    def _inflow(self, u: Tensor, rates: Sequence[Tensor]) -> Tensor | None:
        """What the data of the sides add to the rate of the unknowns, (B or 1, C, *unknowns)."""
        total: Tensor | None = None
        for (axis, end), edge in self.edges.items():
            if edge.kind in ("periodic", "insulated"):
                continue
            dim = axis + 2
            held = edge.kind in ("held", "value") and self.grid.centering == "node"
            if held:
                datum = u.narrow(dim, end * (u.shape[dim] - 1), 1)
            elif not bool((edge.datum != 0).any()):
                continue
            else:
                datum = edge.datum.to(u)
            across = tuple(
                slice(None) if other == axis or datum.shape[other + 2] == 1 else span
                for other, span in enumerate(self._kept)
            )
            columns = torch.stack([found.second_ends[end] for found in self.lines[axis]]).to(u)
            shape = [1, len(columns), *[1] * self.grid.dimension]
            shape[dim] = -1
            part = columns.reshape(shape) * datum[(slice(None), slice(None), *across)]
            # The datum of a flux is the gradient times the diffusivity.
            part = part * rates[axis] if edge.kind in ("held", "value") else part
            total = part if total is None else total + part
        if total is None:
            return None
        unknowns = [span.stop - span.start for span in self._kept]
        return total.expand(len(total), len(self.channels), *unknowns)

    def _whole(self, v: Tensor, u: Tensor) -> Tensor:
        """All points from the unknowns; held nodes as they are in u."""
        for axis, (span, n) in enumerate(zip(self._kept, self.grid.shape, strict=True)):
            if span.stop - span.start == n:
                continue
            dim = axis + 2
            others = [slice(None), slice(None), *[slice(None)] * axis, slice(None), *self._kept[axis + 1 :]]
            known = u[tuple(others)].expand(len(v), *[-1] * (u.ndim - 1))
            parts = [
                known.narrow(dim, 0, span.start),
                v,
                known.narrow(dim, span.stop, n - span.stop),
            ]
            v = torch.cat(parts, dim=dim)
        return v


class _Explicit(Calculus):
    """First derivatives, while the second ones, which are implicit, count as zero."""

    def __init__(self, grid: Grid, accuracy: Accuracy, edges: Edges, lines: Sequence[Line]) -> None:
        super().__init__()
        self.grid, self.dimension, self.edges, self.lines = grid, grid.dimension, edges, lines
        self.accuracy: Accuracy = accuracy
        self.transports = False
        self._nodes = FiniteDifference(grid, accuracy) if grid.centering == "node" else None

    def coordinates(self, u: Tensor) -> Tensor:
        return self.grid.coordinates(dtype=u.dtype, device=u.device).unsqueeze(0)

    def laplacian(self, u: Tensor) -> Tensor:
        return torch.zeros_like(u)

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        if order == 0:
            return u
        if order == 2:
            return torch.zeros_like(u)
        if order > 2:
            raise TypeError(f"a derivative of order {order} is none of a parabolic equation")
        self.transports = True
        if self._nodes is not None:
            return self._nodes.derivative(u, axis)
        found, dim = self.lines[axis], axis + 2
        total = _along(u, found.first.to(u).unsqueeze(0), axis)
        shape = [1, 1, *[1] * self.dimension]
        shape[dim] = -1
        for end in (0, 1):
            edge = self.edges[axis, end]
            if edge.kind == "value":
                total = total + found.first_ends[end].to(u).reshape(shape) * edge.datum.to(u)
        return total


class _Probe(Calculus):
    """Second derivatives as given factors, first ones as zero, on one point."""

    def __init__(self, factors: Sequence[float]) -> None:
        super().__init__()
        self.dimension, self.factors = len(factors), factors

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        if order > 2:
            raise TypeError(f"a derivative of order {order} is none of a parabolic equation")
        return u if order == 0 else (self.factors[axis] if order == 2 else 0.0) * u


class _Flat(_Explicit):
    """As `_Explicit`, but second derivatives are refused: those of products would be lost."""

    def laplacian(self, u: Tensor) -> Tensor:
        raise TypeError("its nonlinear part has second derivatives")

    def derivative(self, u: Tensor, axis: int, order: int = 1) -> Tensor:
        if order >= 2:
            raise TypeError("its nonlinear part has second derivatives")
        return super().derivative(u, axis, order)


def diffusivities(pde: SemiLinear, grid: Grid) -> list[Tensor]:
    """Per axis the diffusivity of each channel, (B or 1, C, 1, ...), read off the linear part.

    Raises:
        TypeError: the linear part has other than second and lower derivatives, or mixes channels in them.
        ValueError: one is negative.
    """
    d, count = grid.dimension, len(pde.channels(grid.dimension))

    def linear(factors: Sequence[float], channel: int) -> Tensor:
        one = torch.zeros(1, count, *[1] * d, dtype=torch.float64)
        one[:, channel] = 1.0
        return pde.linear(one, _Probe(factors))

    out = []
    for axis in range(d):
        unit = [1.0 if other == axis else 0.0 for other in range(d)]
        found = []
        for channel in range(count):
            base = linear([0.0] * d, channel)
            column = linear(unit, channel) - base
            twice = linear([2 * v for v in unit], channel) - base
            detached = column.detach()
            others = [c for c in range(count) if c != channel]
            size = float(detached.abs().max())
            if float((twice.detach() - 2 * detached).abs().max()) > 1e-9 * size:
                raise TypeError("its linear part has more than second derivatives")
            if others and float(detached[:, others].abs().max()) > 1e-12 * size:
                raise TypeError("the diffusion of one channel depends on another")
            found.append(column[:, channel : channel + 1])
        samples = max(len(f) for f in found)
        rate = torch.cat([f.expand(samples, *f.shape[1:]) for f in found], dim=1)
        if bool((rate.detach() < 0).any()):
            raise ValueError(
                f"{type(pde).__name__} has the diffusivity {float(rate.detach().min()):.3g} on axis {axis}; expected at "
                "least zero: backward diffusion has no solution."
            )
        out.append(rate)
    return out


def explicit_rates(pde: SemiLinear, grid: Grid, max_speed: float) -> float:
    """Largest rate of what is explicit [1/time]: reaction, and transport across the spacing."""
    generator = torch.Generator().manual_seed(0)
    channels = len(pde.channels(grid.dimension))
    u = torch.randn(1, channels, *grid.shape, generator=generator, dtype=torch.float64)
    zero = _Probe([0.0] * grid.dimension)
    reaction = float(pde.linear(u, zero).detach().abs().max() / u.abs().max())
    carried = 0.0
    if isinstance(pde, AdvectionDiffusion):
        speeds = [
            torch.as_tensor(component(pde.velocity, axis, grid.dimension, u))
            for axis in range(grid.dimension)
        ]
        carried = sum(float(s.detach().abs().max()) / h for s, h in zip(speeds, grid.spacing, strict=True))
        return reaction + carried
    try:
        silent = not bool(pde.nonlinear(u, zero).detach().any())
        still = True
    except TypeError:
        silent, still = False, False
    nonlinear = 0.0 if silent and still else pde.nonlinear_rate(grid, max_speed)
    return reaction + nonlinear


def _explicit_part(pde: SemiLinear, grid: Grid, calculus: _Explicit) -> bool:
    """Whether there is one; TypeError where it holds what cannot be explicit."""
    generator = torch.Generator().manual_seed(0)
    channels = len(pde.channels(grid.dimension))
    u = torch.rand(1, channels, *grid.shape, generator=generator, dtype=torch.float64)
    flat = _Flat(grid, calculus.accuracy, calculus.edges, calculus.lines)
    with torch.no_grad():
        nonlinear = pde.nonlinear(u, flat)
        linear = pde.linear(u, calculus)
    if (
        grid.centering == "cell"
        and (flat.transports or calculus.transports)
        and not isinstance(pde, AdvectionDiffusion)
    ):
        raise TypeError(
            "its first derivatives need values on the sides, which cells do not carry: use nodes"
        )
    return bool(nonlinear.any()) or bool(linear.any())


def _said(edge: Edge, rate: float) -> Functional | None:
    """The condition of a side in terms of u and its gradient; datum in units of the flux."""
    if edge.kind == "periodic":
        return None
    if edge.kind in ("held", "value"):
        return Functional(1.0, 0.0)
    return Functional(edge.coefficient / rate, 1.0, mirror=edge.kind == "insulated")


def _along(u: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Matrices (1 or C, m, n) times (B, C, *points) along one axis."""
    dim = axis + 2
    if matrix.is_complex() and not u.is_complex():
        u = u.to(matrix.dtype)
    moved = torch.movedim(u, dim, -1)
    lines = moved.reshape(*moved.shape[:2], -1, moved.shape[-1])
    out = lines.to(matrix.dtype) @ matrix.mT
    return torch.movedim(out.reshape(*moved.shape[:-1], matrix.shape[1]), -1, dim)


def _warn_of_layers(pde: AdvectionDiffusion, grid: Grid, rates: Sequence[Tensor]) -> None:
    """Say that a layer at a side is thinner than the spacing."""
    if is_field(pde.velocity):
        speeds = [float(pde.velocity[:, axis].detach().abs().max()) for axis in range(grid.dimension)]  # type: ignore[index, call-overload]
    else:
        like = torch.zeros(1, 1, *[1] * grid.dimension, dtype=torch.float64)
        speeds = [
            float(torch.as_tensor(component(pde.velocity, axis, grid.dimension, like)).detach().abs().max())
            for axis in range(grid.dimension)
        ]
    for axis, (speed, h, rate) in enumerate(zip(speeds, grid.spacing, rates, strict=True)):
        kappa = float(rate.detach().min())
        number = math.inf if kappa == 0 and speed > 0 else (speed * h / kappa if speed > 0 else 0.0)
        if number > _CELL_PECLET:
            needed = (
                math.ceil(grid.shape[axis] * number / _CELL_PECLET)
                if math.isfinite(number)
                else "no number of"
            )
            warnings.warn(
                f"{type(pde).__name__} has the Peclet number {number:.3g} per spacing on axis {axis}; above "
                f"{_CELL_PECLET:g} boundary layers are thinner than the grid resolves, and central differences oscillate. "
                f"About {needed} points would do, or more diffusion.",
                stacklevel=4,
            )
