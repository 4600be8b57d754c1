"""Equations in space and time as functions of a few linear quantities at each point."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from sciml.calculus import FiniteDifference, Spectral
from sciml.calculus.base import Calculus
from sciml.calculus.finite_difference import Accuracy, stencil
from sciml.constraints.side_conditions import SideCondition
from sciml.domains import Grid, side_name
from sciml.pdes import NavierStokesVorticity
from sciml.pdes.diffusion_law import DiffusionLaw


class PointwiseResidual(nn.Module, ABC):
    """u_t - rhs(u) on a grid of times and places, as a function F of linear quantities of u at a point.

    Quantities are u itself, u_t, u_x, u_xx, a velocity that is linear in u: whatever F needs. As they are linear, those of
    a combination of functions are combined from those of each. The equation is asked for at later times than the first
    and off the bounded sides, where conditions hold instead; what the start says on those sides is not used.

    Derivatives are spectral on periodic grids, else by differences between nodes. Those in time are differences by the
    number of the frame, central ones inside, divided by those of the times: frames may lie closer where u changes faster,
    such as those at t = s^2 for fronts that leave a corner. `weight`, the slope of t(s) on s in (0, 1) [time], makes a
    residual one of u; for equal steps it is the whole duration. A new equation gives `quantities` and `forward`.

    Args:
        grid: of space; nodes where an axis is bounded.
        times: of the T frames, increasing; the first is that of the start [time].
        conditions: for every bounded side, "x-" being the low side of the first axis; data are numbers, or fields on
            the side (*points of the other axes).
        accuracy: order of differences, 2, 4 or 6.
        left_out: True at points (T, *points) where the equation is not asked for, such as those beside a corner where
            start and sides contradict each other and the grid does not resolve what follows.

    Raises:
        ValueError: too few frames, times that do not increase, bounded cells, sides without conditions, or points of
            another shape.
    """

    def __init__(
        self,
        grid: Grid,
        times: Sequence[float] | Tensor,
        conditions: Mapping[str, SideCondition] | None = None,
        accuracy: Accuracy = 2,
        left_out: Tensor | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        moments = torch.as_tensor(times, dtype=torch.float64).flatten()
        frames = len(moments)
        if frames < accuracy + 2 or not bool((moments.diff() > 0).all()):
            raise ValueError(
                f"{name} got {frames} times; expected at least {accuracy + 2} for differences of order {accuracy}, each "
                "later than the one before."
            )
        bounded = {
            side_name(axis, end): (axis, end)
            for axis in range(grid.dimension)
            for end in (0, 1)
            if not grid.periodic[axis]
        }
        if bounded and grid.centering != "node":
            raise ValueError(
                f"{name} got cells between sides {grid.sides}; no cell carries the value on a side. Use centering='node'."
            )
        given = dict(conditions or {})
        if set(given) != set(bounded):
            raise ValueError(
                f"{name} got conditions on {sorted(given)}; expected one on each bounded side, {sorted(bounded)}."
            )
        for side, condition in given.items():
            if isinstance(condition.data, str) or not (condition.value or condition.slope):
                raise ValueError(
                    f"{name} got {condition} on side {side}; expected data as numbers or a field, and a value or a slope."
                )
        self.grid, self.frames, self.accuracy = grid, frames, accuracy
        self.conditions = given
        self._sides = bounded
        # What the sides say is said by the conditions: differences there are one-sided.
        free = tuple(pair if pair[0] == "periodic" else ("dirichlet", "dirichlet") for pair in grid.sides)
        self.calculus: Calculus = (
            Spectral(grid)
            if all(grid.periodic)
            else FiniteDifference(replace(grid, boundary=free), accuracy)
        )
        self.clock = FiniteDifference(Grid((frames,), (1.0,), "dirichlet"), accuracy)
        pace = self.clock.derivative(moments, 0)
        if not bool((pace[1:] > 0).all()):
            raise ValueError(f"{name} got times {moments.tolist()}; expected spacings that change slowly.")
        pace[0] = pace[0] if pace[0] > 0 else pace[1]  # at the start nothing is asked for
        self.register_buffer("times", moments, persistent=False)
        self.register_buffer("pace", pace, persistent=False)
        self.times: Tensor
        self.pace: Tensor
        where = torch.ones(frames, *grid.shape, dtype=torch.bool)
        where[0] = False
        for axis, end in bounded.values():
            where.select(1 + axis, -end).fill_(False)
        self.register_buffer(
            "interior", where[-1].clone(), persistent=False
        )  # places off the bounded sides
        self.interior: Tensor
        if left_out is not None:
            if left_out.shape != where.shape or left_out.dtype != torch.bool:
                raise ValueError(
                    f"{name} got left_out of shape {tuple(left_out.shape)} and {left_out.dtype}; expected booleans "
                    f"{tuple(where.shape)}."
                )
            where &= ~left_out.to(where.device)
        self.register_buffer("where", where, persistent=False)
        self.where: Tensor

    @property
    def weight(self) -> Tensor:
        """dt/ds at every point, (T, *points) [time]."""
        return self.pace.reshape(-1, *[1] * self.grid.dimension).expand(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, *points)."""
        return (self.frames, *self.grid.shape)

    @abstractmethod
    def quantities(self, u: Tensor) -> Tensor:
        """Everything linear that F needs, (P, T, *points) -> (P, F, T, *points)."""

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """F [u / time] from quantities (P, F, m) at any m points, (P, m); differentiable twice."""

    def slopes(self, z: Tensor) -> Tensor:
        """Its derivatives by each quantity, (P, F, m) -> (P, F, m); automatic unless an equation states them."""
        r, pull = torch.func.vjp(self.forward, z)[:2]
        (own,) = pull(torch.ones_like(r))  # the residual of a point depends on that point alone
        return own

    def known(self) -> Tensor | None:
        """What quantities have that does not come from u, (F, T, *points), such as a force; None for nothing."""
        return None

    def rate(self, u: Tensor) -> Tensor:
        """u_t, (P, T, *points) -> (P, T, *points)."""
        return (self.clock.derivative(u.movedim(1, -1), 0) / self.pace.to(u.dtype)).movedim(-1, 1)

    def sides(self, u: Tensor) -> Tensor:
        """value u + slope du/dn on the bounded sides at all times but the first, (P, T, *points) -> (P, q)."""
        found = [u.new_zeros(len(u), 0)]
        for name, (axis, end) in self._sides.items():
            condition, dim = self.conditions[name], 2 + axis
            size = u.shape[dim]
            weights = stencil(tuple(range(self.accuracy + 1)), 1)
            total = condition.value * u[:, 1:].select(dim, -end)
            for j, w in enumerate(weights if condition.slope else ()):
                # Counted inwards on either side, hence against the outward normal.
                factor = -condition.slope * w / self.grid.spacing[axis]
                total = total + factor * u[:, 1:].select(dim, size - 1 - j if end else j)
            found.append(total.flatten(1))
        return torch.cat(found, dim=1)

    def side_places(self) -> Tensor:
        """At which point of the flat (T, *points) each of `sides` stands, (q,)."""
        every = torch.arange(self.where.numel()).reshape(self.shape)
        found = [every.new_zeros(0)]
        found += [every[1:].select(1 + axis, -end).flatten() for axis, end in self._sides.values()]
        return torch.cat(found)

    def side_data(self) -> Tensor:
        """What `sides` should be, (q,), float64."""
        found = [torch.zeros(0, dtype=torch.float64)]
        for name, (axis, _) in self._sides.items():
            rest = tuple(n for d, n in enumerate(self.grid.shape) if d != axis)
            field = torch.as_tensor(self.conditions[name].data, dtype=torch.float64).expand(
                self.frames - 1, *rest
            )
            found.append(field.flatten())
        return torch.cat(found)


class FunctionResidual(PointwiseResidual):
    """An equation of your own, F(u, u_t, ...) = 0, from a function and the names of the derivatives that it takes.

        def burgers(u, u_t, u_x, u_xx):
            return u_t + u * u_x - 0.01 * u_xx

        FunctionResidual(burgers, ["u", "u_t", "u_x", "u_xx"], grid, times=torch.linspace(0, 1, 26))

    Args:
        equation: of tensors of one shape, one for each name; differentiable twice.
        derivatives: "u", "u_t", or "u_" and letters x, y, z of axes, at most two alike.
        grid, times, conditions, accuracy, left_out: as of `PointwiseResidual`.

    Raises:
        ValueError: a name is none of these.
    """

    def __init__(
        self,
        equation: Callable[..., Tensor],
        derivatives: Sequence[str],
        grid: Grid,
        times: Sequence[float] | Tensor,
        conditions: Mapping[str, SideCondition] | None = None,
        accuracy: Accuracy = 2,
        left_out: Tensor | None = None,
    ) -> None:
        super().__init__(grid, times, conditions, accuracy, left_out)
        letters = set(grid.axis_names)
        for name in derivatives:
            if name not in ("u", "u_t") and not (
                name.startswith("u_") and set(name[2:]) <= letters and name[2:]
            ):
                raise ValueError(
                    f"FunctionResidual got a derivative {name!r}; expected 'u', 'u_t' or 'u_' and axes out of "
                    f"{sorted(letters)}."
                )
        self.equation, self.derivatives = equation, tuple(derivatives)

    def quantities(self, u: Tensor) -> Tensor:
        return torch.stack([self._derived(u, name) for name in self.derivatives], dim=1)

    def _derived(self, u: Tensor, name: str) -> Tensor:
        if name == "u":
            return u
        if name == "u_t":
            return self.rate(u)
        for axis, letter in enumerate(self.grid.axis_names):
            order = name[2:].count(letter)
            u = self.calculus.derivative(u, axis, order) if order else u
        return u

    def forward(self, z: Tensor) -> Tensor:
        return self.equation(*z.unbind(1))


class DiffusionResidual(PointwiseResidual):
    """u_t - (k(u) lap u + k'(u) |grad u|^2 + r(u)) / s'(u) of a `DiffusionLaw` with one unknown, such as `DiffusionSorption`.

    Args:
        pde: the equation; its parameters are numbers.
        grid, times, conditions, accuracy, left_out: as of `PointwiseResidual`.
        smoothing: coefficients are those of sqrt(u^2 + smoothing^2) [u], since trial solutions pass through u = 0, where
            those of some equations have no slope.

    Raises:
        ValueError: the equation has several unknowns, or smoothing is not positive.
    """

    def __init__(
        self,
        pde: DiffusionLaw,
        grid: Grid,
        times: Sequence[float] | Tensor,
        conditions: Mapping[str, SideCondition] | None = None,
        accuracy: Accuracy = 2,
        left_out: Tensor | None = None,
        smoothing: float = 1e-3,
    ) -> None:
        super().__init__(grid, times, conditions, accuracy, left_out)
        if not isinstance(pde, DiffusionLaw) or len(pde.channels(grid.dimension)) != 1:
            raise ValueError(
                f"DiffusionResidual got {type(pde).__name__}; expected a DiffusionLaw of one unknown."
            )
        if not smoothing > 0:
            raise ValueError(f"DiffusionResidual got smoothing={smoothing}; expected a positive size.")
        self.pde, self.smoothing = pde, smoothing
        some = pde.conductivity(torch.tensor([[[0.1, 0.5, 1.0, 2.0]]], dtype=torch.float64))
        self.constant = bool((some == some[..., :1]).all())  # then k' = 0, and gradients are not needed

    def quantities(self, u: Tensor) -> Tensor:
        found = [u, self.rate(u), self.calculus.laplacian(u)]
        if not self.constant:
            found += [self.calculus.derivative(u, axis) for axis in range(self.grid.dimension)]
        return torch.stack(found, dim=1)

    def forward(self, z: Tensor) -> Tensor:
        u, rate, laplacian = (z[:, k : k + 1] for k in range(3))
        size = (u.square() + self.smoothing**2).sqrt()
        if self.constant:
            change = self.pde.conductivity(size) * laplacian
        else:
            k, slope = torch.func.jvp(self.pde.conductivity, (size,), (torch.ones_like(size),))[:2]
            change = k * laplacian + slope * z[:, 3:].square().sum(dim=1, keepdim=True)
        source = self.pde.source(size)
        if source is not None:
            change = change + source
        return (rate - self.pde.release(size) * change)[:, 0]


class VorticityResidual(PointwiseResidual):
    """w_t + v . grad w - nu lap w + mu w - f of `NavierStokesVorticity`, v being linear in w.

    Args:
        pde: the equation; its parameters are numbers.
        grid: 2D and periodic.
        times, accuracy: as of `PointwiseResidual`.

    Raises:
        ValueError: the grid is not 2D and periodic.
    """

    def __init__(
        self,
        pde: NavierStokesVorticity,
        grid: Grid,
        times: Sequence[float] | Tensor,
        accuracy: Accuracy = 2,
    ) -> None:
        if grid.dimension != 2 or not all(grid.periodic):
            raise ValueError(f"VorticityResidual got {grid}; expected a periodic grid of two axes.")
        super().__init__(grid, times, None, accuracy)
        self.pde = pde
        self.viscosity, self.drag = float(pde.viscosity), float(pde.drag)

    def quantities(self, u: Tensor) -> Tensor:
        calc, each = self.calculus, u.flatten(0, 1).unsqueeze(1)
        spatial = torch.cat(
            (calc.gradient(each)[:, 0], self.pde.velocity(each, calc), calc.laplacian(each)), dim=1
        )
        spatial = spatial.unflatten(0, u.shape[:2]).transpose(1, 2)
        nothing = torch.zeros_like(u)  # the place of the force
        return torch.cat((torch.stack((u, self.rate(u)), 1), spatial, nothing.unsqueeze(1)), 1)

    def known(self) -> Tensor | None:
        like = torch.zeros(1, 1, *self.grid.shape, dtype=torch.float64, device=self.where.device)
        force = self.pde.force(like, self.calculus)
        if force is None:
            return None
        given = torch.zeros(8, *self.shape, dtype=force.dtype, device=force.device)
        given[7] = force[0, 0]
        return given

    def forward(self, z: Tensor) -> Tensor:
        w, rate, w_x, w_y, u, v, laplacian, force = z.unbind(1)
        change = self.viscosity * laplacian - self.drag * w + force
        return rate + u * w_x + v * w_y - change

    def slopes(self, z: Tensor) -> Tensor:
        _, _, w_x, w_y, u, v, _, _ = z.unbind(1)
        one = torch.ones_like(u)
        own = (self.drag * one, one, u, v, w_x, w_y, -self.viscosity * one, -one)
        return torch.stack(own, dim=1)
