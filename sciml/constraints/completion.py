"""Equations met by completing a state, inequalities by steps along them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sciml.constraints.base import Constraint, Context, at_least_single, point_volumes
from sciml.constraints.given import called, given_tensor
from sciml.constraints.nonlinear import Infeasible
from sciml.constraints.right_hand_side import RightHandSide
from sciml.domains import Domain
from sciml.linear.root import implicit_root


class Completion(Constraint):
    """DC3: complete a state so that h(u) = b, then correct it so that g(u) <= 0, and differentiate through both.

    Completion moves z along q given shapes only, u = z + sum_k c_k phi_k, with the q numbers c from Newton's method down
    to rounding: shapes that are one at a single point make it the original, which predicts some unknowns and solves for
    the rest; shapes that are constant in space spread the change evenly. Its gradient is that of the implicit function.
    Then, for a sample with g > 0 somewhere, `steps` steps descend |relu(g + margin)|^2 along the surface h = b, each as
    long as would remove a single linear inequality, times `rate`, each completed again; they end when g <= 0, and are
    differentiated one by one. Equations hold to rounding. Inequalities are reduced and, as a rule, met with a margin and
    steps enough, but not guaranteed: `violation` says what is left.

    h and g are functions of the state (B, C, *points) -> (B, q) and (B, p), float64, each sample by itself, twice
    differentiable by torch.func; in a study classes here or "path/to/file.py:name".

    Args:
        domain: gives the volumes, in whose metric the steps descend.
        equations: h.
        inequalities: g, none where left out.
        shapes: phi (q, C, *points), as a tensor, nested lists, a `.npy` file or a function of the domain; one per channel,
            constant in space, where left out, which suits as many equations as channels.
        values: b: "previous", "context" (`Context(targets={target: b})`) or numbers (q,).
        steps: most corrections of a sample.
        rate: length of a step, in the unit above.
        margin: by how much a corrected sample shall clear its inequalities; with none they are met in the limit only.
        target: under which name the context holds b.
        max_iterations: Newton iterations of a completion.

    Raises:
        ValueError: arguments or shapes do not fit.
        Infeasible: no numbers c meet the equations of a finite state; the samples are named.

    Donti, Rolnick and Kolter, DC3: A learning method for optimization with hard constraints, ICLR 2021, arXiv 2104.12225,
    sections 3.1 and 3.2. There steps have one fixed length and momentum.
    """

    weights: Tensor
    shapes: Tensor | None

    def __init__(
        self,
        domain: Domain,
        equations: Callable[[Tensor], Tensor],
        inequalities: Callable[[Tensor], Tensor] | None = None,
        shapes: Tensor | Sequence[Any] | str | Callable[..., Any] | None = None,
        values: Tensor | Sequence[float] | float | str = "previous",
        steps: int = 10,
        rate: float = 1.0,
        margin: float = 0.0,
        target: str = "equations",
        max_iterations: int = 50,
    ) -> None:
        super().__init__()
        if not callable(equations) or not (inequalities is None or callable(inequalities)):
            raise ValueError("Completion got equations or inequalities that are no functions of the state.")
        if steps < 0 or not 0 < rate < 2 or not margin >= 0 or max_iterations < 1:
            raise ValueError(
                f"Completion got steps={steps}, rate={rate}, margin={margin}, max_iterations={max_iterations}; expected "
                "no negative numbers, and a rate between 0 and 2."
            )
        self.equations, self.inequalities = equations, inequalities
        self.right = RightHandSide(values, target, "Completion")
        self.steps, self.rate, self.margin = int(steps), float(rate), float(margin)
        self.max_iterations = int(max_iterations)
        weights = point_volumes(domain, None, "Completion")
        self.register_buffer("weights", weights / weights.sum(), persistent=False)
        given = None
        if shapes is not None:
            given = given_tensor(called(shapes, domain, "shapes", "Completion"), "shapes", "Completion")
            if given.ndim != weights.ndim + 2 or given.shape[2:] != weights.shape:
                raise ValueError(
                    f"Completion got shapes of size {tuple(given.shape)}; expected (q, C, *points) with points "
                    f"{tuple(weights.shape)}."
                )
        self.register_buffer("shapes", given, persistent=False)

    def _moves(self, u: Tensor) -> Tensor:
        """The shapes, (q, C, *points)."""
        if u.shape[2:] != self.weights.shape:
            raise ValueError(
                f"Completion got a state of shape {tuple(u.shape)}; expected (B, C, *points) with points "
                f"{tuple(self.weights.shape)}."
            )
        if self.shapes is not None:
            if self.shapes.shape[1] != u.shape[1]:
                raise ValueError(
                    f"Completion got shapes of {self.shapes.shape[1]} channels for a state of {u.shape[1]}; expected one "
                    "for each."
                )
            return self.shapes
        unit = torch.eye(u.shape[1], dtype=torch.float64, device=u.device)
        return unit.reshape(u.shape[1], u.shape[1], *[1] * self.weights.ndim) * torch.ones_like(
            self.weights
        )

    def _values(self, function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
        found = function(u)
        found = found.unsqueeze(1) if found.ndim == 1 else found
        if found.ndim != 2 or len(found) != len(u) or found.dtype != torch.float64:
            raise ValueError(
                f"Completion got {found.dtype} of shape {tuple(found.shape)} from a function of a state of shape "
                f"{tuple(u.shape)}; expected one row for each sample in float64, (B, q) or (B,)."
            )
        return found

    def _wanted(self, u: Tensor, previous: Tensor | None, context: Context | None) -> Tensor:
        count = len(self._moves(u))
        if self.right.source == "previous":
            wanted = self._values(self.equations, self.right.before(u, previous))
        else:
            wanted = self.right.given(u, context, (count,))
        if wanted.shape[1] != count:
            raise ValueError(
                f"Completion got {wanted.shape[1]} equations and {count} shapes to meet them with; expected one for each."
            )
        return wanted

    def _rows(self, function: Callable[[Tensor], Tensor], u: Tensor) -> tuple[Tensor, Tensor]:
        """A function and its gradients (B, q, C, *points), differentiable."""
        values, pull = torch.func.vjp(lambda v: self._values(function, v), u)[:2]
        units = torch.eye(values.shape[1], dtype=u.dtype, device=u.device).unsqueeze(1)
        rows = torch.func.vmap(lambda e: pull(e)[0])(units.expand(-1, len(u), -1))
        return values, rows.transpose(0, 1)

    def _complete(self, z: Tensor, wanted: Tensor, moves: Tensor) -> Tensor:
        def moved(c: Tensor, z: Tensor) -> Tensor:
            return z + torch.einsum("bq,q...->b...", c, moves)

        def residual(c: Tensor, z: Tensor, wanted: Tensor) -> Tensor:
            return self._values(self.equations, moved(c, z)) - wanted

        def jacobian(c: Tensor, z: Tensor) -> Tensor:
            rows = self._rows(self.equations, moved(c, z))[1]
            return rows.flatten(2) @ moves.flatten(1).T

        def find(z: Tensor, wanted: Tensor) -> Tensor:
            c = torch.zeros_like(wanted)
            finite = torch.isfinite(z).flatten(1).all(dim=1)
            best = residual(c, z, wanted).abs().amax(dim=1)
            size = self._values(self.equations, z).abs().amax(dim=1) + wanted.abs().amax(dim=1) + best
            floor = 4 * torch.finfo(z.dtype).eps * size
            active = finite & (best > 0.25 * floor)
            for _ in range(self.max_iterations):
                if not bool(active.any()):
                    break
                step = torch.linalg.lstsq(
                    torch.nan_to_num(jacobian(c, z)), -torch.nan_to_num(residual(c, z, wanted)).unsqueeze(2)
                ).solution.squeeze(2)
                t = torch.where(active, 1.0, 0.0)
                for _ in range(20):
                    left = residual(c + t[:, None] * step, z, wanted).abs().amax(dim=1)
                    worse = active & ~(left < best)
                    if not bool(worse.any()):
                        break
                    t = torch.where(worse, 0.5 * t, t)
                gained = active & (left < best)
                c = torch.where(gained[:, None], c + t[:, None] * step, c)
                best = torch.where(gained, left, best)
                active = gained & (best > 0.25 * floor)
            bad = finite & ~(best <= 1e4 * floor)
            if bool(bad.any()):
                samples = bad.nonzero().flatten().tolist()
                raise Infeasible(
                    f"Completion met no solution of its equations for samples {samples[:10]}, the first off by "
                    f"{float(best[samples[0]]):.3g}; the shapes may not change what the equations ask for, or the target "
                    "has no solution near this state."
                )
            return c

        def solve(b: Tensor, c: Tensor, z: Tensor, wanted: Tensor) -> Tensor:
            return torch.linalg.solve(jacobian(c, z), b)

        def adjoint(b: Tensor, c: Tensor, z: Tensor, wanted: Tensor) -> Tensor:
            return torch.linalg.solve(jacobian(c, z).mT, b)

        return moved(implicit_root(residual, find, solve, (z, wanted), adjoint), z)

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        moves = self._moves(u)
        wanted = self._wanted(u, previous, context)
        v = self._complete(u.to(torch.float64), wanted, moves)
        shape = (-1, *[1] * (v.ndim - 1))
        if self.inequalities is None:
            return v.to(u.dtype)
        limits = self.inequalities
        for _ in range(self.steps):
            values, pull = torch.func.vjp(lambda x: self._values(limits, x), v)[:2]
            excess = (values + self.margin).clamp_min(0.0)
            active = (values.detach() > 0).any(dim=1)
            if not bool(active.any()):
                break
            slope = pull(excess)[0]
            rows = self._rows(self.equations, v)[1].flatten(2)
            # Across the shapes the completion takes back what the equations see of a move.
            across = rows @ moves.flatten(1).T

            def along(x: Tensor, rows: Tensor = rows, across: Tensor = across) -> Tensor:
                """T' x: the slope for moves that are completed."""
                seen = torch.linalg.solve(across.mT, x.flatten(1) @ moves.flatten(1).T)
                return x - (seen.unsqueeze(1) @ rows).squeeze(1).reshape(x.shape)

            tangent = along(slope)
            down = tangent / self.weights
            steepness = (tangent * down).flatten(1).sum(dim=1)
            moving = active & (steepness > 0)
            length = excess.square().sum(dim=1) / torch.where(moving, steepness, 1.0)
            length = torch.where(moving, self.rate * length, 0.0)
            completed = self._complete(v - length.reshape(shape) * down, wanted, moves)
            v = torch.where(moving.reshape(shape), completed, v)
        return v.to(u.dtype)

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Largest |h(u) - b| or g(u), (B,), zero where all are met [unit of h and g]."""
        v = u.to(torch.float64)
        worst = (self._values(self.equations, v) - self._wanted(u, previous, context)).abs().amax(dim=1)
        if self.inequalities is not None:
            excess = self._values(self.inequalities, v).amax(dim=1).clamp_min(0.0)
            worst = torch.maximum(worst, excess)
        return worst
