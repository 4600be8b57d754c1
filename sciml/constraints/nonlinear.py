"""Nonlinear equations that every state has to meet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from sciml.constraints.base import (
    Constraint,
    Context,
    at_least_single,
    checked_channels,
    point_volumes,
    replace_channels,
    select,
)
from sciml.constraints.linear import checked_scales
from sciml.constraints.right_hand_side import RightHandSide
from sciml.domains import Domain
from sciml.linear.root import implicit_root
from sciml.linear.saddle import Gradients, saddle_solve

# Relative errors at which Newton's method has nothing left to do in float64.
ROUNDING = 1e-15


class Infeasible(ArithmeticError):
    """No state that meets the equations was reached."""


@dataclass(frozen=True)
class NewtonSolution:
    """What Newton's method found.

    Args:
        u: nearest admissible states (B, C, *points) in float64; where none was reached, the last ones tried.
        multipliers: of the equations (B, q).
        iterations: of each sample (B,).
        feasible: which samples meet the equations (B,).
        residuals: of the equations or of the slope of the Lagrangian, whichever is larger, as relative changes of the
            state that they ask for, before each iteration and after the last, (iterations + 1, B).
        rank: smallest over largest eigenvalue of A W^-1 A' for rows A of length one (B,); zero where equations depend.
        weakest: combination of the equations whose gradients nearly cancel, (B, q).
    """

    u: Tensor
    multipliers: Tensor
    iterations: Tensor
    feasible: Tensor
    residuals: Tensor
    rank: Tensor
    weakest: Tensor


class Nonlinear(Constraint):
    """The nearest state that meets a few nonlinear equations h(u) = target.

        min 1/2 |u - z|_W^2   subject to   h(u) = b,    W = diag(V_i / sum V) / scale_c^2

    solved by Newton's method on u and its multipliers, [[W + sum_i l_i h_i'', A'], [A, 0]] with A = h'(u), from u = z,
    l = 0, with backtracking, down to rounding in float64 whatever the precision of the state. The linear systems never
    become matrices over the points: q rows A, and conjugate gradients on their null space with products of the Hessian.
    Gradients are exact, by the implicit function theorem with the curvature l h'' of the equations: leaving that out
    (the projector on the tangent space) is wrong by as much as z is curved away from the constraint. Backward derivatives
    of any order, forward ones of the first, also in the parameters of h where it is a module.

    h is any function of the state (B, C, *points) -> (B, q) or (B,), in float64, each sample by itself, twice
    differentiable by torch.func, q far below the number of unknowns. Scale the values to about one per unit of u, as
    means do: `violation` is the largest |h(u) - b|. In a study it is named as a class here
    (`Quadratic`, `GasTotals`, `Invariants`) or as a function or class in a file of one's own:

        constraint: {class_path: Nonlinear, init_args: {function: "my_laws.py:enstrophy"}}

    b is h of the previous state ("previous", for what the flow keeps), one given with the context ("context",
    `Context(targets={target: b})`, with b (q,) or (B, q); anchor a long rollout to its initial state in this way), or
    given numbers, such as 0.

    Args:
        domain: gives the volumes.
        function: h.
        values: "previous", "context", or b as numbers (q,), one for all equations, or a file with them.
        scales: typical size of each channel of the state, which balances channels of unlike units; one for all where
            left out [unit of u].
        volumes: of the points in place of the domain's; those of a cloud's particles.
        channels: numbers of the channels that may change, all where left out; h sees all.
        target: under which name the context holds b.
        tolerance: relative change of the state that unmet equations may still ask for.
        max_iterations: Newton iterations before a sample counts as infeasible.
        strict: raise where no admissible state is reached. Otherwise such a sample comes back as it was last tried,
            with derivative one, and `violation` says how far off it is. Samples that are not finite pass as they are.

    Raises:
        ValueError: arguments or shapes do not fit.
        Infeasible: with `strict`; the message names samples and equations, and says where equations depend.

    Nocedal and Wright, Numerical Optimization (2006), section 18.1.
    """

    metric: Tensor

    def __init__(
        self,
        domain: Domain,
        function: Callable[[Tensor], Tensor],
        values: Tensor | Sequence[float] | float | str = "previous",
        scales: Sequence[float] | None = None,
        volumes: Tensor | Sequence[float] | None = None,
        channels: Sequence[int] | None = None,
        target: str = "equations",
        tolerance: float = 1e-10,
        max_iterations: int = 50,
        strict: bool = True,
    ) -> None:
        super().__init__()
        if not callable(function):
            raise ValueError(
                f"Nonlinear got function={function!r}; expected a function of the state, in a file written as "
                "path/to/file.py:name."
            )
        if not 0 < tolerance < 1 or max_iterations < 1:
            raise ValueError(
                f"Nonlinear got tolerance={tolerance} and max_iterations={max_iterations}; expected a number between 0 "
                "and 1, and at least 1."
            )
        self.channels = checked_channels(channels, "Nonlinear")
        self.scales = checked_scales(scales, "Nonlinear")
        self.function = function
        self.right = RightHandSide(values, target, "Nonlinear")
        self.tolerance, self.max_iterations, self.strict = float(tolerance), int(max_iterations), strict
        weights = point_volumes(domain, volumes, "Nonlinear")
        self.register_buffer("metric", weights / weights.sum(), persistent=False)

    def _parameters_of_h(self) -> tuple[Tensor, ...]:
        if not isinstance(self.function, nn.Module):
            return ()
        return tuple(p.to(torch.float64) for p in self.function.parameters())

    def evaluate(self, u: Tensor, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """h(u), (B, C, *points) -> (B, q) in float64."""
        given = self._parameters_of_h() if parameters is None else parameters
        u = u.to(torch.float64)
        if given:
            module = cast(nn.Module, self.function)
            named = dict(zip((name for name, _ in module.named_parameters()), given, strict=True))
            found = torch.func.functional_call(module, named, (u,))
        else:
            found = self.function(u)
        if found.ndim == 1:
            found = found.unsqueeze(1)
        if found.ndim != 2 or found.shape[0] != u.shape[0] or found.dtype != torch.float64:
            raise ValueError(
                f"Nonlinear got values of shape {tuple(found.shape)} and {found.dtype} from {self._name()} for a state of "
                f"shape {tuple(u.shape)}; expected one row for each sample, (B, q) or (B,), in float64."
            )
        return found

    def _name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def names(self, count: int) -> tuple[str, ...]:
        """Names of the equations: those that the function states as `names`, or its own name with numbers."""
        stated = getattr(self.function, "names", None)
        if stated is not None and len(stated) == count:
            return tuple(str(name) for name in stated)
        return (self._name(),) if count == 1 else tuple(f"{self._name()}[{i}]" for i in range(count))

    def _wanted(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        """b (B, q) for a state."""
        if u.shape[2:] != self.metric.shape:
            raise ValueError(
                f"Nonlinear got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{tuple(self.metric.shape)}."
            )
        if self.right.source == "previous":
            return self.evaluate(self.right.before(u, previous))
        with torch.no_grad():
            count = self.evaluate(u.detach()[:1]).shape[1]
        return self.right.given(u, context, (count,))

    def _weights(self, full: Tensor) -> Tensor:
        """The diagonal of W for the changed channels, (n,)."""
        sizes = self.scales or (1.0,) * full.shape[1]
        if len(sizes) != full.shape[1]:
            raise ValueError(
                f"Nonlinear got {len(sizes)} scales for a state of {full.shape[1]} channels; expected one for each."
            )
        kept = sizes if self.channels is None else tuple(sizes[c] for c in self.channels)
        inverse = torch.tensor([s**-2 for s in kept], dtype=torch.float64, device=full.device)
        return (inverse.reshape(-1, *[1] * self.metric.ndim) * self.metric).flatten()

    def newton(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> NewtonSolution:
        """Newton's method from u, with its record; takes no gradients and refuses no sample."""
        wanted = self._wanted(u, previous, context)
        with torch.no_grad():
            full = u.detach().to(torch.float64)
            return self._newton(full, wanted.detach(), tuple(p.detach() for p in self._parameters_of_h()))

    def _functions(
        self, full: Tensor, parameters: Sequence[Tensor]
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], tuple[Tensor, Tensor]]]:
        """h of the changed unknowns (B, n), and h with its gradients A (B, q, n)."""
        z = select(full, self.channels, "Nonlinear")

        def h(v: Tensor) -> Tensor:
            return self.evaluate(replace_channels(full, self.channels, v.reshape(z.shape)), parameters)

        def with_rows(v: Tensor) -> tuple[Tensor, Tensor]:
            values, pull = torch.func.vjp(h, v)[:2]
            units = torch.eye(values.shape[1], dtype=v.dtype, device=v.device)
            units = units.unsqueeze(1).expand(-1, len(v), -1)
            rows = torch.func.vmap(lambda e: pull(e)[0])(units)
            return values, rows.transpose(0, 1)

        return h, with_rows

    def _newton(self, full: Tensor, wanted: Tensor, parameters: tuple[Tensor, ...]) -> NewtonSolution:
        h, with_rows = self._functions(full, parameters)
        z = select(full, self.channels, "Nonlinear").flatten(1)
        metric = self._weights(full)

        def norm(v: Tensor) -> Tensor:
            return (v.square() * metric).sum(dim=1).sqrt()

        u = z.clone()
        values, matrix = with_rows(u)
        multipliers = torch.zeros_like(values)
        finite = torch.isfinite(values).all(dim=1) & torch.isfinite(z).all(dim=1)
        active = finite.clone()
        iterations = torch.zeros(len(z), dtype=torch.int64, device=z.device)
        last = torch.full((len(z),), math.inf, dtype=torch.float64, device=z.device)
        history: list[Tensor] = []
        while True:
            excess = values - wanted
            rows = Gradients.of(matrix, metric)
            # A state of size zero is measured by the change that it needs.
            size = (norm(u) + norm(rows.normal(excess))).clamp_min(torch.finfo(u.dtype).tiny)
            feasibility = _relative(excess, rows.lengths(), size)
            gradient = metric * (u - z) + rows.transposed(multipliers)
            stationarity = (gradient.square() / metric).sum(dim=1).sqrt() / size
            worst = torch.maximum(feasibility, stationarity)
            history.append(worst)
            # Newton's method gains digits until rounding stops it: near there, no gain means no more to gain.
            settled = (worst <= ROUNDING) | ((worst <= 1e-11) & (worst >= 0.25 * last))
            last = worst
            active = active & ~settled & torch.isfinite(worst)
            if not bool(active.any()) or len(history) > self.max_iterations:
                break
            iterations += active

            def lagrangian_slope(v: Tensor, at: Tensor = multipliers) -> Tensor:
                return metric * v + torch.func.vjp(h, v)[1](at)[0]

            bend = torch.func.vjp(lagrangian_slope, u)[1]

            def curvature(p: Tensor, bend: Callable[..., tuple[Tensor, ...]] = bend) -> Tensor:
                return bend(p)[0]

            # As exact as the step can be: an error of the size of what is left keeps convergence quadratic.
            found = saddle_solve(
                curvature,
                rows,
                metric * (z - u),
                -excess,
                tolerance=(0.1 * torch.nan_to_num(worst)).clamp(1e-13, 1e-2),
            )
            # Where the Lagrangian curves down, W in its place gives the step of sequential projections.
            plain = rows.normal(-excess) + rows.tangent(metric * (z - u))
            direct = found.curved[:, None]
            d = torch.where(direct, found.w, plain)
            new = torch.where(direct, found.y, rows.multipliers(metric * (z - u - plain)))
            t = _step_length(h, wanted, z, metric, u, d, new, excess, rows, size, active)
            u = u + t[:, None] * d
            multipliers = multipliers + t[:, None] * (new - multipliers)
            values, matrix = with_rows(u)
        # What is left of the equations is below the curvature: one step straight across removes it.
        gap = values - wanted
        polished = u + rows.normal(-gap)
        better = (h(polished) - wanted).abs().amax(dim=1) < gap.abs().amax(dim=1)
        touched = (iterations > 0) & better
        u = torch.where(touched[:, None], polished, u)
        left = _relative(h(u) - wanted, rows.lengths(), size)
        feasible = (left <= self.tolerance) & finite
        shaped = replace_channels(full, self.channels, u.reshape(select(full, self.channels, "").shape))
        return NewtonSolution(
            shaped, multipliers, iterations, feasible, torch.stack(history), rows.rank, rows.weakest
        )

    def _report(self, solution: NewtonSolution, wanted: Tensor) -> str:
        bad = (~solution.feasible).nonzero().flatten().tolist()
        first = bad[0]
        values = self.evaluate(solution.u[first : first + 1])
        gap = (values - wanted[first]).abs()[0]
        names = self.names(len(gap))
        listed = ", ".join(f"{name} off by {float(g):.3g}" for name, g in zip(names, gap, strict=True))
        text = (
            f"Nonlinear reached no admissible state for samples {bad[:10]}"
            f"{' and more' if len(bad) > 10 else ''}, the first after {int(solution.iterations[first])} iterations with "
            f"{listed}."
        )
        if float(solution.rank[first]) < 1e-10:
            weak = solution.weakest[first].abs()
            involved = [
                name for name, w in zip(names, weak, strict=True) if float(w) > 0.1 * float(weak.max())
            ]
            return (
                f"{text} There the gradients of {involved} depend on one another or vanish: leave out equations that follow "
                "from others, and targets that contradict them."
            )
        return f"{text} The equations may have no solution near this state; check the target, or pass strict=False."

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        wanted = self._wanted(u, previous, context)
        full = u.to(torch.float64)
        parameters = self._parameters_of_h()
        z = select(full, self.channels, "Nonlinear")
        metric, n = self._weights(full), z[0].numel()
        feasible: list[Tensor] = []

        def find(full: Tensor, wanted: Tensor, *parameters: Tensor) -> Tensor:
            solution = self._newton(full, wanted, parameters)
            finite = torch.isfinite(full).flatten(1).all(dim=1)
            if self.strict and not bool((solution.feasible | ~finite).all()):
                # A state that is not finite is a result of its own; only finite ones are refused.
                only = NewtonSolution(**{**vars(solution), "feasible": solution.feasible | ~finite})
                raise Infeasible(self._report(only, wanted))
            feasible.append(solution.feasible)
            v = select(solution.u, self.channels, "Nonlinear").flatten(1)
            return torch.cat([v, solution.multipliers], dim=1)

        def residual(x: Tensor, full: Tensor, wanted: Tensor, *parameters: Tensor) -> Tensor:
            v, multipliers = x[:, :n], x[:, n:]
            h, _ = self._functions(full, parameters)
            values, pull = torch.func.vjp(h, v)[:2]
            z = select(full, self.channels, "Nonlinear").flatten(1)
            return torch.cat([metric * (v - z) + pull(multipliers)[0], values - wanted], dim=1)

        def solve(b: Tensor, x: Tensor, full: Tensor, wanted: Tensor, *parameters: Tensor) -> Tensor:
            v, multipliers = x[:, :n], x[:, n:]
            h, with_rows = self._functions(full, parameters)
            rows = Gradients.of(with_rows(v)[1], metric)
            pull = torch.func.vjp(lambda v: metric * v + torch.func.vjp(h, v)[1](multipliers)[0], v)[1]
            found = saddle_solve(lambda p: pull(p)[0], rows, b[:, :n], b[:, n:])
            return torch.cat([found.w, found.y], dim=1)

        x = implicit_root(residual, find, solve, (full, wanted, *parameters))
        shape = (len(u), *[1] * (u.ndim - 1))
        projected = replace_channels(full, self.channels, x[:, :n].reshape(z.shape))
        if feasible and not bool(feasible[0].all()):
            # Such a sample keeps its value and is passed on with derivative one.
            kept = full + (projected - full).detach()
            projected = torch.where(feasible[0].reshape(shape), projected, kept)
        return projected.to(u.dtype)

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest |h(u) - b|, (B,) [unit of h]."""
        return (self.evaluate(u) - self._wanted(u, previous, context)).abs().amax(dim=1)


def _relative(excess: Tensor, lengths: Tensor, size: Tensor) -> Tensor:
    """The largest relative change of the state that an unmet equation asks for to first order, (B,)."""
    zero = excess == 0
    asked = excess.abs() / torch.where(zero, 1.0, lengths * size[:, None])
    return torch.where(zero, 0.0, asked).amax(dim=1)


def _step_length(
    h: Callable[[Tensor], Tensor],
    wanted: Tensor,
    z: Tensor,
    metric: Tensor,
    u: Tensor,
    d: Tensor,
    multipliers: Tensor,
    excess: Tensor,
    rows: Gradients,
    size: Tensor,
    active: Tensor,
) -> Tensor:
    """Share of the step (B,) that lowers the penalty 1/2 |u - z|^2 + rho |h|_1, or else the equations alone.

    The full step is also taken where it shrinks the equations to a quarter: the penalty alone would refuse good
    steps near the solution (Maratos' effect).
    """
    rho = 2 * multipliers.abs().amax(dim=1) + torch.finfo(u.dtype).tiny

    def merit(v: Tensor, gap: Tensor) -> Tensor:
        return 0.5 * ((v - z).square() * metric).sum(dim=1) + rho * gap.abs().sum(dim=1)

    before = merit(u, excess)
    slope = (d * metric * (u - z)).sum(dim=1) - rho * excess.abs().sum(dim=1)
    lengths = rows.lengths()
    unmet = _relative(excess, lengths, size)
    t = torch.ones_like(before)
    open_ = active.clone()
    for _ in range(30):
        trial = u + t[:, None] * d
        gap = h(trial) - wanted
        asked = _relative(gap, lengths, size)
        good = merit(trial, gap) <= before + 1e-4 * t * slope.clamp_max(0.0)
        good |= (asked <= 0.25 * unmet) | (asked <= 1e-12)
        open_ = open_ & ~(good & torch.isfinite(asked))
        if not bool(open_.any()):
            break
        t = torch.where(open_, 0.5 * t, t)
    return torch.where(active & ~open_, t, 0.0)
