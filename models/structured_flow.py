"""Steps that keep an energy exactly, or never let it grow, by their structure."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sciml.domains import Grid, Point
from sciml.linear import NotConverged, gmres
from sciml.linear.root import implicit_root

# Unknowns of a sample up to which Newton's matrix is written out.
DENSE = 128


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
    forward difference along each axis, and N a network of one point's values with smooth units.

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

    def forward(self, u: Tensor) -> Tensor:
        """(B, C, *points) -> (B,)."""
        seen = [u]
        if isinstance(self.domain, Grid):
            seen += [_forward(u, self.domain, axis) for axis in range(self.domain.dimension)]
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


class _Balance(nn.Module):
    """v - u - dt (J - R) g(u, v) with Gonzalez' discrete gradient."""

    def __init__(
        self, energy: Callable[[Tensor], Tensor], operator: Callable[[Tensor, Tensor], Tensor], dt: float
    ) -> None:
        super().__init__()
        self.energy = energy
        self.operator = operator
        self.dt = dt

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

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        return v - u - self.dt * self.operator(0.5 * (u + v), self.gradient(u, v))


class DiscreteGradient(nn.Module):
    """The implicit step (v - u) / dt = (J - R) g(u, v): H is kept to rounding, or falls, at any length of the step.

        g = grad H(m) + (H(v) - H(u) - <grad H(m), v - u>) / |v - u|^2 (v - u),    m = (u + v) / 2

    makes H(v) - H(u) = dt <g, (J - R) g> exactly, which is zero without R and never above zero with it. Of second order
    in dt. v comes from Newton's method down to rounding in float64, whatever the precision of the state; gradients, also
    those of the parameters of H, J and R, by the implicit function theorem.

    Args:
        energy: H, (B, C, *points) -> (B,) in float64, twice differentiable by torch.func; a mean over the points.
        operator: (m, g) -> (J(m) - R(m)) g, linear in g, both (B, C, *points); <g, J g> = 0 <= <g, R g> is taken on
            trust.
        dt: length of the step.
        max_iterations: Newton iterations.
        strict: raise where they do not converge. Otherwise such a sample comes back as it was last tried. States that
            are not finite pass as they are.

    Raises:
        ValueError: dt is not positive.
        NotConverged: with `strict`; the samples are named.

    Gonzalez, Journal of Nonlinear Science 6 (1996) 449, eq. 3.10; McLachlan, Quispel and Robidoux, Philosophical
    Transactions A 357 (1999) 1021, section 3.
    """

    def __init__(
        self,
        energy: Callable[[Tensor], Tensor],
        operator: Callable[[Tensor, Tensor], Tensor],
        dt: float,
        max_iterations: int = 30,
        strict: bool = True,
    ) -> None:
        super().__init__()
        if not dt > 0 or max_iterations < 1:
            raise ValueError(
                f"DiscreteGradient got dt={dt} and max_iterations={max_iterations}; expected a positive time, and 1 or more."
            )
        self.balance = _Balance(energy, operator, float(dt))
        self.max_iterations, self.strict = int(max_iterations), strict

    def forward(self, u: Tensor) -> Tensor:
        exact = u.to(torch.float64)
        names = [name for name, _ in self.balance.named_parameters()]
        parameters = [p.to(torch.float64) for p in self.balance.parameters()]
        flat = exact.flatten(1)

        def residual(v: Tensor, u: Tensor, *parameters: Tensor) -> Tensor:
            named = dict(zip(names, parameters, strict=True))
            states = (u.reshape(exact.shape), v.reshape(exact.shape))
            return torch.func.functional_call(self.balance, named, states).flatten(1)

        def linear(
            v: Tensor, u: Tensor, *parameters: Tensor
        ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
            """Products with the Jacobian of the residual in v, and with its transpose."""
            pull = torch.func.vjp(lambda v: residual(v, u, *parameters), v)[1]
            push = torch.func.vjp(lambda y: pull(y)[0], torch.zeros_like(v))[1]
            return (lambda p: push(p)[0]), (lambda p: pull(p)[0])

        def solved(product: Callable[[Tensor], Tensor], b: Tensor) -> Tensor:
            size = b.shape[1]
            if size > DENSE:
                finite = torch.isfinite(b).all(dim=1, keepdim=True)
                return gmres(
                    lambda p: torch.nan_to_num(product(p)),
                    torch.where(finite, b, 0.0),
                    tolerance=1e-13,
                    restart=80,
                    max_iterations=800,
                    strict=False,
                ).x
            units = torch.eye(size, dtype=b.dtype, device=b.device).unsqueeze(1).expand(-1, len(b), -1)
            matrix = torch.func.vmap(product, out_dims=2)(units)
            matrix, b = torch.nan_to_num(matrix), torch.nan_to_num(b)
            return torch.linalg.solve_ex(matrix, b)[0]

        def solve(b: Tensor, v: Tensor, u: Tensor, *parameters: Tensor) -> Tensor:
            return solved(linear(v, u, *parameters)[0], b)

        def adjoint(b: Tensor, v: Tensor, u: Tensor, *parameters: Tensor) -> Tensor:
            return solved(linear(v, u, *parameters)[1], b)

        def find(u: Tensor, *parameters: Tensor) -> Tensor:
            v = u - residual(u, u, *parameters)
            finite = torch.isfinite(u).all(dim=1)
            r = residual(v, u, *parameters)
            size = (u.norm(dim=1) + (v - u).norm(dim=1)).clamp_min(torch.finfo(u.dtype).tiny)
            error = r.norm(dim=1) / size
            active = finite & (error > 0)
            for _ in range(self.max_iterations):
                if not bool(active.any()):
                    break
                step = solve(-r, v, u, *parameters)
                t = torch.ones_like(error)
                for _ in range(12):
                    tried = v + t[:, None] * step
                    left = residual(tried, u, *parameters)
                    new = left.norm(dim=1) / size
                    worse = active & ~(new < error)
                    # At rounding a shorter step gains nothing either.
                    if not bool((worse & (error > 1e-13)).any()):
                        break
                    t = torch.where(worse, 0.5 * t, t)
                gained = active & (new < error)
                v = torch.where(gained[:, None], tried, v)
                r = torch.where(gained[:, None], left, r)
                active = gained & (new > 2e-16)
                error = torch.where(gained, new, error)
            bad = (finite & ~(error <= 1e-10)).nonzero().flatten().tolist()
            if bad and self.strict:
                raise NotConverged(
                    f"DiscreteGradient did not converge for samples {bad[:10]}, the first to a relative residual of "
                    f"{float(error[bad[0]]):.3g}; take a shorter dt, or repeat several steps."
                )
            return v

        v = implicit_root(residual, find, solve, (flat, *parameters), adjoint)
        return v.reshape(u.shape).to(u.dtype if u.dtype == torch.float64 else torch.float32)


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
        strict: see `DiscreteGradient`.

    In a study set residual: false.

    Raises:
        ValueError: the numbers of channels differ, or the domain is neither a periodic grid nor a Point.
    """

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
            strict=strict,
        )

    def energy(self, u: Tensor) -> Tensor:
        """H of states, (B, C, *points) -> (B,)."""
        return self.step.balance.energy(u)

    def forward(self, u: Tensor) -> Tensor:
        return self.step(u)
