"""Steps that keep an energy exactly, or never let it grow, by their structure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.domains import Grid, Point
from sciml.linear import NotConverged, gmres
from sciml.linear.root import implicit_root

# Unknowns of a sample up to which Newton's matrix is written out.
DENSE = 192


def _check_domain(domain: Grid | Point, owner: str) -> None:
    if not isinstance(domain, Point) and not (isinstance(domain, Grid) and all(domain.periodic)):
        raise ValueError(
            f"{owner} got {domain!r}; expected a periodic Grid, on which differences by rolling are antisymmetric, or a "
            "Point."
        )


def _forward(u: Tensor, grid: Grid, axis: int) -> Tensor:
    return (u.roll(-1, 2 + axis) - u) / grid.spacing[axis]


class LocalEnergy(nn.Module):
    """H(u) = <1/2 sum_c a_c u_c^2 + N(u, grad u)>, a > 0, N bounded: a learned energy with bounded level sets.

    Whatever keeps such an energy, or lets it fall, stays bounded for ever. <.> is the mean over the points, grad the
    forward difference along each axis times L / (2 pi), so that a wave k counts k times on a side of any length L, and N
    a network of one point's values with smooth units. N starts small: an energy with bends as sharp as those of a random
    network on grid-scale waves leaves implicit steps without a unique solution.

    Args:
        channels: C.
        domain: a periodic grid, or a Point.
        width: of N.
    """

    def __init__(self, channels: int, domain: Grid | Point, width: int = 32) -> None:
        super().__init__()
        _check_domain(domain, "LocalEnergy")
        self.domain = domain
        self.size = nn.Parameter(torch.zeros(channels))
        self.inner = nn.Linear(channels * (1 + domain.dimension), width)
        self.outer = nn.Linear(width, width)
        self.share = nn.Linear(width, 1, bias=False)
        with torch.no_grad():
            self.share.weight.mul_(0.02)

    def forward(self, u: Tensor) -> Tensor:
        """(B, C, *points) -> (B,)."""
        seen = [u]
        if isinstance(self.domain, Grid):
            for axis, length in enumerate(self.domain.lengths):
                seen.append(_forward(u, self.domain, axis) * (length / (2 * math.pi)))
        features = torch.cat(seen, dim=1).flatten(2) if u.ndim > 2 else torch.cat(seen, dim=1).unsqueeze(2)
        hidden = torch.tanh(self.inner(features.transpose(1, 2)))
        density = self.share(torch.tanh(self.outer(hidden))).squeeze(2)
        own = nn.functional.softplus(self.size)
        values = u.flatten(2) if u.ndim > 2 else u.unsqueeze(2)
        square = 0.5 * torch.einsum("c,bcn->bn", own, values.square())
        return (square + density).mean(dim=1)


class Exchange(nn.Module):
    """(J - R) g with learned constant coefficients: what moves energy about, and what takes it away.

        J g = K g + sum_d S_d d_d g,    R g = L L' g - sum_d d_d (P P' d_d g),    K = -K', S_d = S_d'

    with centred differences in J and one-sided ones in R: J is antisymmetric and R positive to rounding in the sum over
    the points. Contains rotation, advection, waves, the brackets of KdV and Burgers, damping and diffusion.

    Args:
        channels: C.
        domain: a periodic grid, or a Point.
        dissipative: whether there is R.
        keep_means: whether the mean of each channel is kept, which leaves K and L out.

    Raises:
        ValueError: the domain is neither, or nothing is left.
    """

    def __init__(
        self, channels: int, domain: Grid | Point, dissipative: bool = True, keep_means: bool = False
    ) -> None:
        super().__init__()
        _check_domain(domain, "Exchange")
        if keep_means and isinstance(domain, Point):
            raise ValueError(
                "Exchange that keeps the means of a system without space leaves nothing to change."
            )
        self.domain = domain
        axes = domain.dimension

        def start(*shape: int) -> nn.Parameter:
            return nn.Parameter(0.1 * torch.randn(shape))

        self.turning = None if keep_means else start(channels, channels)
        self.carrying = start(axes, channels, channels) if axes else None
        self.damping = start(channels, channels) if dissipative and not keep_means else None
        self.diffusing = start(channels, channels) if dissipative and axes else None

    def forward(self, u: Tensor, g: Tensor) -> Tensor:
        """(J - R) g for g (B, C, *points); u is the state half way, on which these coefficients do not depend."""

        def mixed(matrix: Tensor, v: Tensor) -> Tensor:
            return torch.einsum("ck,bk...->bc...", matrix, v)

        out = torch.zeros_like(g)
        if self.turning is not None:
            out = out + mixed(self.turning - self.turning.T, g)
        if self.damping is not None:
            out = out - mixed(self.damping @ self.damping.T, g)
        if isinstance(self.domain, Grid):
            for axis, h in enumerate(self.domain.spacing):
                if self.carrying is not None:
                    symmetric = self.carrying[axis] + self.carrying[axis].T
                    centred = (g.roll(-1, 2 + axis) - g.roll(1, 2 + axis)) / (2 * h)
                    out = out + mixed(symmetric, centred)
                if self.diffusing is not None:
                    slope = mixed(self.diffusing @ self.diffusing.T, _forward(g, self.domain, axis))
                    out = out + (slope - slope.roll(1, 2 + axis)) / h
        return out


class Canonical(nn.Module):
    """J of Hamilton's equations for states (q_1, ..., q_n, p_1, ..., p_n): (dH/dp, -dH/dq), at every point."""

    def forward(self, u: Tensor, g: Tensor) -> Tensor:
        by_q, by_p = g.chunk(2, dim=1)
        return torch.cat([by_p, -by_q], dim=1)


Part = Literal["balance", "energy", "operator"]


class _Balance(nn.Module):
    """v - u - dt (J - R) g(u, v) with Gonzalez' discrete gradient."""

    def __init__(
        self, energy: Callable[[Tensor], Tensor], operator: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.energy = energy
        self.operator = operator

    def gradient(self, u: Tensor, v: Tensor) -> Tensor:
        """g with <g, v - u> = H(v) - H(u), <.> the mean over the points of the sum over the channels."""
        middle, change = 0.5 * (u + v), v - u
        points = max(1, u[0, 0].numel())
        slope = points * torch.func.vjp(lambda x: self.energy(x).sum(), middle)[1](u.new_ones(()))[0]
        shape = (-1, *[1] * (u.ndim - 1))
        length = change.square().flatten(1).sum(dim=1) / points
        moved = length > torch.finfo(u.dtype).tiny
        missing = self.energy(v) - self.energy(u) - (slope * change).flatten(1).sum(dim=1) / points
        share = torch.where(moved, missing / torch.where(moved, length, 1.0), 0.0)
        return slope + share.reshape(shape) * change

    def forward(self, u: Tensor, v: Tensor, part: Part, dt: float) -> Tensor:
        """The balance of u and v; or the energy of u; or what the operator at u makes of v."""
        if part == "energy":
            return self.energy(u)
        if part == "operator":
            return self.operator(u, v)
        return v - u - dt * self.operator(0.5 * (u + v), self.gradient(u, v))


Product = Callable[[Tensor], Tensor]
Inverse = Callable[[Tensor, float], Tensor]


class DiscreteGradient(nn.Module):
    """The implicit step (v - u) / dt = (J - R) g(u, v): H is kept to rounding, or falls, at any length of the step.

        g = grad H(m) + (H(v) - H(u) - <grad H(m), v - u>) / |v - u|^2 (v - u),    m = (u + v) / 2

    makes H(v) - H(u) = dt <g, (J - R) g> exactly, which is zero without R and never above zero with it. Of second order
    in dt. v comes from Newton's method down to rounding in float64, whatever the precision of the state, from v = u on;
    gradients, also those of the parameters of H, J and R, by the implicit function theorem. A product with Newton's
    matrix costs one second derivative of H; small systems are solved directly, others by GMRES.

    Where dt is long for how H bends, the equation has several solutions, and Newton's method may reach none. Such a
    sample takes two steps of half the length, and so on; each keeps what the whole step does. `substeps` saves the
    attempts where most samples need parts.

    Args:
        energy: H, (B, C, *points) -> (B,) in float64, twice differentiable by torch.func; a mean over the points.
        operator: (m, g) -> (J(m) - R(m)) g, linear in g, both (B, C, *points); <g, J g> = 0 <= <g, R g> is taken on
            trust.
        dt: length of the step.
        max_iterations: Newton iterations.
        substeps: equal parts of dt, each an implicit step of its own.
        halvings: how many times a part of a sample that does not converge may be halved.
        homogeneous: H, J and R are the same at all points of a periodic grid. The linear systems are then preconditioned
            with their like at a constant state, which is diagonal in Fourier space; it only matters for speed.
        strict: raise where they do not converge. Otherwise such a sample comes back as it was last tried. States that
            are not finite pass as they are.

    Raises:
        ValueError: dt is not positive, or a number below 1.
        NotConverged: with `strict`; the samples are named.

    Gonzalez, Journal of Nonlinear Science 6 (1996) 449; McLachlan, Quispel and Robidoux, Philosophical Transactions A
    357 (1999) 1021.
    """

    def __init__(
        self,
        energy: Callable[[Tensor], Tensor],
        operator: Callable[[Tensor, Tensor], Tensor],
        dt: float,
        max_iterations: int = 30,
        substeps: int = 1,
        halvings: int = 5,
        homogeneous: bool = False,
        strict: bool = True,
    ) -> None:
        super().__init__()
        if not dt > 0 or min(max_iterations, substeps, halvings + 1) < 1:
            raise ValueError(
                f"DiscreteGradient got dt={dt}, max_iterations={max_iterations}, substeps={substeps} and "
                f"halvings={halvings}; expected a positive time, 1 or more of the next two, and 0 or more."
            )
        self.balance = _Balance(energy, operator)
        self.dt, self.max_iterations, self.substeps = float(dt), int(max_iterations), int(substeps)
        self.halvings, self.homogeneous, self.strict = int(halvings), homogeneous, strict

    def forward(self, u: Tensor) -> Tensor:
        v = u.to(torch.float64)
        places = torch.arange(len(u))
        for _ in range(self.substeps):
            v = self._advance(v, self.dt / self.substeps, self.halvings, places)
        return v.to(u.dtype if u.dtype == torch.float64 else torch.float32)

    def _advance(self, u: Tensor, dt: float, halvings: int, places: Tensor) -> Tensor:
        """States at the numbers `places` of a batch, dt later, in parts where one step is too long."""
        v, errors = self._implicit(u, dt)
        bad = (errors > 1e-10).nonzero().flatten()
        if len(bad) == 0 or (halvings == 0 and not self.strict):
            return v
        if halvings == 0:
            where = places[bad.cpu()].tolist()
            raise NotConverged(
                f"DiscreteGradient did not converge for samples {where[:10]}, in a part of {dt:.3g} of dt={self.dt:.3g}, the "
                f"first to a relative change of {float(errors[bad[0]]):.3g}; take a shorter dt, or more than "
                f"substeps={self.substeps} and halvings={self.halvings}."
            )
        parts, places = u[bad], places[bad.cpu()]
        for _ in range(2):
            parts = self._advance(parts, 0.5 * dt, halvings - 1, places)
        return v.index_copy(0, bad, parts)

    def _implicit(self, exact: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """One implicit step of states in float64, and how far each is from its solution, relatively, (B,)."""
        names = [name for name, _ in self.balance.named_parameters()]
        parameters = [p.to(torch.float64) for p in self.balance.parameters()]

        def call(part: Part, u: Tensor, v: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
            named = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(self.balance, named, (u, v, part, dt))

        def residual(v: Tensor, u: Tensor, *parameters: Tensor) -> Tensor:
            states = (u.reshape(exact.shape), v.reshape(exact.shape))
            return call("balance", *states, parameters).flatten(1)

        def inverse(v: Tensor, u: Tensor, parameters: tuple[Tensor, ...], way: int) -> Inverse:
            """Solutions with the Jacobian of the residual in v (way 0), or with its transpose (1)."""
            shaped = u.reshape(exact.shape), v.reshape(exact.shape)

            def given(part: Part, a: Tensor, b: Tensor) -> Tensor:
                return call(part, a, b, parameters)

            products = self._linear(shaped[0], shaped[1], dt, given)
            if v.shape[1] <= DENSE:
                units = torch.eye(v.shape[1], dtype=v.dtype, device=v.device)
                units = units.unsqueeze(1).expand(-1, len(v), -1)
                matrix = torch.func.vmap(products[0], out_dims=2)(units)
                # A sample that is not finite must not stop the others.
                matrix = torch.nan_to_num(
                    matrix if way == 0 else matrix.transpose(1, 2), posinf=0.0, neginf=0.0
                )
                factors, pivots, _ = torch.linalg.lu_factor_ex(matrix)
                return lambda b, _: torch.linalg.lu_solve(factors, pivots, b.unsqueeze(2)).squeeze(2)
            near = None
            if self.homogeneous and exact.ndim > 2:
                mean = torch.nan_to_num(shaped[0]).flatten(2).mean(dim=2)
                flat = mean.reshape(*mean.shape, *[1] * (exact.ndim - 2)).expand(exact.shape)
                at_rest = self._linear(flat, flat, dt, given)
                near = _in_fourier_space(at_rest[0], exact.shape, way)
            return lambda b, tolerance: (
                gmres(
                    lambda p: torch.nan_to_num(products[way](p)),
                    b,
                    preconditioner=near,
                    tolerance=tolerance,
                    restart=80,
                    max_iterations=800,
                    strict=False,
                ).x
            )

        def finite_part(b: Tensor) -> Tensor:
            return torch.where(torch.isfinite(b).all(dim=1, keepdim=True), b, 0.0)

        def solve(b: Tensor, v: Tensor, u: Tensor, *parameters: Tensor) -> Tensor:
            return inverse(v, u, parameters, 0)(finite_part(b), 1e-13)

        def adjoint(b: Tensor, v: Tensor, u: Tensor, *parameters: Tensor) -> Tensor:
            return inverse(v, u, parameters, 1)(finite_part(b), 1e-13)

        def find(u: Tensor, *parameters: Tensor) -> Tensor:
            v, r = u, residual(u, u, *parameters)
            finite = torch.isfinite(r).all(dim=1)
            active = finite & (r.norm(dim=1) > 0)
            error, size = torch.zeros_like(r[:, 0]), u.norm(dim=1).clamp_min(torch.finfo(u.dtype).tiny)
            step: Tensor | None = None
            for iteration in range(self.max_iterations):
                if not bool(active.any()):
                    break
                if step is None:
                    back = inverse(v, u, parameters, 0)
                    # A linear system need not be solved better than the equation that it stands for.
                    asked = (
                        1e-2 if iteration == 0 else max(1e-12, min(1e-2, 0.1 * float(error[active].max())))
                    )
                    step = back(torch.where(active[:, None], finite_part(-r), 0.0), asked)
                if iteration == 0:  # a state of size zero is measured by how far it moves
                    size = size + step.norm(dim=1)
                # An error is the change that it asks for: residuals weigh waves that the step hardly moves.
                error = torch.where(active, step.norm(dim=1) / size, error)
                t = torch.ones_like(error)
                for _ in range(10):
                    tried = v + t[:, None] * step
                    left = residual(tried, u, *parameters)
                    next_step = back(torch.where(active[:, None], finite_part(-left), 0.0), 1e-2)
                    new = torch.where(
                        torch.isfinite(left).all(dim=1), next_step.norm(dim=1) / size, torch.inf
                    )
                    worse = active & ~(new < (1 - 0.25 * t) * error)
                    # At rounding a shorter step gains nothing either.
                    if not bool((worse & (error > 1e-13)).any()):
                        break
                    t = torch.where(worse, 0.5 * t, t)
                gained = active & (new < error)
                v = torch.where(gained[:, None], tried, v)
                r = torch.where(gained[:, None], left, r)
                active = gained & (new > 2e-16)
                # Where a factor serves again, the next step is known.
                fast = not bool((active & (new > 0.05 * error)).any())
                step = next_step if v.shape[1] <= DENSE and fast else None
                error = torch.where(gained, new, error)
            errors.append(error)
            return v

        errors: list[Tensor] = []
        v = implicit_root(residual, find, solve, (exact.flatten(1), *parameters), adjoint)
        return v.reshape(exact.shape), errors[0]

    def _linear(
        self, u: Tensor, v: Tensor, dt: float, call: Callable[[Part, Tensor, Tensor], Tensor]
    ) -> tuple[Product, Product]:
        """Products (B, n) -> (B, n) with the Jacobian of the balance in v, and with its transpose.

        With s = grad H(m), c = v - u and g = s + a c, dg = (H''(m) / 2 + a) dv + c <w, dv>: a product costs one of the
        symmetric H''.
        """
        shape = u.shape
        points = max(1, u[0, 0].numel())

        def steep(x: Tensor) -> Tensor:
            pull = torch.func.vjp(lambda y: call("energy", y, y).sum(), x)[1]
            return points * pull(x.new_ones(()))[0]

        def dot(a: Tensor, b: Tensor) -> Tensor:
            return (a * b).flatten(1).sum(dim=1).reshape(-1, *[1] * (len(shape) - 1)) / points

        middle, change = 0.5 * (u + v), v - u
        slope, bend = torch.func.vjp(steep, middle)[:2]
        length = dot(change, change)
        moved = length > torch.finfo(u.dtype).tiny
        safe = torch.where(moved, length, 1.0)
        gained = (call("energy", v, v) - call("energy", u, u)).reshape(length.shape)
        share = torch.where(moved, (gained - dot(slope, change)) / safe, 0.0)
        turn = steep(v) - 0.5 * bend(change)[0] - slope - 2 * share * change
        turn = torch.where(moved, turn / safe, 0.0)
        g = slope + share * change
        act = torch.func.vjp(lambda x: call("operator", middle, x), g)[1]
        moving = torch.func.vjp(lambda m: call("operator", m, g), middle)[1]
        push = torch.func.vjp(lambda y: moving(y)[0], torch.zeros_like(g))[1]

        def product(p: Tensor) -> Tensor:
            p = p.reshape(shape)
            change_of_g = 0.5 * bend(p)[0] + share * p + change * dot(turn, p)
            made = call("operator", middle, change_of_g) + 0.5 * push(p)[0]
            return (p - dt * made).flatten(1)

        def transposed(q: Tensor) -> Tensor:
            q = q.reshape(shape)
            a = act(q)[0]
            made = 0.5 * bend(a)[0] + share * a + turn * dot(change, a) + 0.5 * moving(q)[0]
            return (q - dt * made).flatten(1)

        return product, transposed


def _in_fourier_space(product: Product, shape: torch.Size, way: int) -> Product:
    """The inverse of a product that is the same at all points of a periodic grid, or of its transpose (way 1)."""
    samples, channels, points = shape[0], shape[1], tuple(shape[2:])
    axes = tuple(range(-len(points), 0))
    units = torch.zeros(channels, samples, *shape[1:], dtype=torch.float64)
    number = torch.arange(channels)
    units.flatten(3)[number, :, number, 0] = 1.0
    columns = torch.stack([product(unit.flatten(1)).reshape(shape) for unit in units], dim=2)
    symbol = torch.fft.rfftn(columns, dim=axes).flatten(3).movedim(3, 1)  # (B, modes, C, C)
    symbol = symbol if way == 0 else symbol.mH
    inverse = torch.linalg.pinv(symbol)

    def near(p: Tensor) -> Tensor:
        modes = torch.fft.rfftn(p.reshape(shape), dim=axes)
        solved = torch.einsum("bkij,bjk->bik", inverse, modes.flatten(2)).reshape(modes.shape)
        return torch.fft.irfftn(solved, s=points, dim=axes).flatten(1)

    return near


class StructuredFlow(nn.Module):
    """A learned du/dt = (J - R) grad H(u) whose step keeps H to rounding, or never lets it grow.

    H is a `LocalEnergy`, J and R an `Exchange`, the step a `DiscreteGradient`; give others to make a part of one's own. H
    cannot grow and has bounded level sets, so that a rollout of any length stays bounded, whatever the weights. The
    energy is learned with the rest, and is that of normalised states where the network sees those.

    Args:
        in_channels, out_channels: C twice.
        domain: a periodic grid in 1D to 3D, or a Point.
        dt: time step of the data.
        width: of the energy's network.
        dissipative: whether there is R; without it H is kept.
        keep_means: whether the mean of each channel is kept too.
        energy, operator: in place of the learned ones, see `DiscreteGradient`.
        substeps, halvings, strict: see `DiscreteGradient`.

    In a study set residual: false.

    Raises:
        ValueError: the numbers of channels differ, or the domain is neither a periodic grid nor a Point.
    """

    whole = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        domain: Grid | Point,
        dt: float,
        width: int = 32,
        dissipative: bool = True,
        keep_means: bool = False,
        energy: nn.Module | None = None,
        operator: nn.Module | None = None,
        substeps: int = 1,
        halvings: int = 5,
        strict: bool = True,
    ) -> None:
        super().__init__()
        if in_channels != out_channels:
            raise ValueError(
                f"StructuredFlow got {in_channels} channels in and {out_channels} out; it maps states to states of as many."
            )
        self.step = DiscreteGradient(
            LocalEnergy(in_channels, domain, width) if energy is None else energy,
            Exchange(in_channels, domain, dissipative, keep_means) if operator is None else operator,
            dt,
            substeps=substeps,
            halvings=halvings,
            homogeneous=energy is None and operator is None,
            strict=strict,
        )

    def energy(self, u: Tensor) -> Tensor:
        """H of states, (B, C, *points) -> (B,)."""
        return self.step.balance.energy(u)

    def forward(self, u: Tensor) -> Tensor:
        return self.step(u)
