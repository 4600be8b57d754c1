"""Piecewise-linear recurrent maps, whose Jacobians, fixed points and cycles are exact."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.regularizers.base import Regularizer, parts_of

Kind = Literal["plain", "dendritic", "shallow", "clipped"]


@dataclass(frozen=True)
class PiecewiseLinear:
    """The common form z' = a z + h1 + W1 [relu(W2 z + h2) - c relu(W2 z)] of all kinds of `PLRNN`.

    Attributes:
        diagonal: a, (M,).
        outer: W1, (M, L).
        inner: W2, (L, M).
        offset: h1, (M,).
        threshold: h2, (L,).
        clipped: whether c is 1.
    """

    diagonal: Tensor
    outer: Tensor
    inner: Tensor
    offset: Tensor
    threshold: Tensor
    clipped: bool

    def pattern(self, z: Tensor) -> Tensor:
        """Which units are on at states (..., M): slopes of the bracket (..., L), each 0, 1 or -1."""
        drive = z @ self.inner.T
        on = (drive + self.threshold > 0).to(z.dtype)
        return on - (drive > 0).to(z.dtype) if self.clipped else on

    def signature(self, z: Tensor) -> Tensor:
        """The linear region of states (..., M) as signs of all switches, (..., L) or (..., 2 L)."""
        drive = z @ self.inner.T
        on = drive + self.threshold > 0
        return torch.cat([on, drive > 0], dim=-1) if self.clipped else on

    def jacobian(self, z: Tensor) -> Tensor:
        """J of states (..., M), (..., M, M)."""
        return self.diagonal.diag() + (self.outer * self.pattern(z).unsqueeze(-2)) @ self.inner

    def affine(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """J (..., M, M) and b (..., M) of the region that a state lies in, where the map is J z + b."""
        on = (z @ self.inner.T + self.threshold > 0).to(z.dtype)
        return self.jacobian(z), self.offset + (on * self.threshold) @ self.outer.T


@dataclass(frozen=True)
class Cycle:
    """A cycle of a piecewise-linear map; of order one, a fixed point.

    Attributes:
        states: (K, M), in the order in which they are visited.
        multipliers: eigenvalues (M,) of the Jacobian of K steps; the cycle attracts if all are below one in size.
    """

    states: Tensor
    multipliers: Tensor

    @property
    def stable(self) -> bool:
        """Whether it attracts."""
        return bool((self.multipliers.abs() < 1).all())


class PLRNN(nn.Module):
    """A piecewise-linear map of a few latent numbers, (B, M) -> (B, M), made for learning chaotic dynamics.

        plain      z' = a z + W relu(z) + h                             W has no diagonal
        dendritic  z' = a z + W sum_b alpha_b relu(z - H_b) + h         M thresholds per basis
        shallow    z' = a z + W1 relu(W2 z + h2) + h1
        clipped    z' = a z + W1 [relu(W2 z + h2) - relu(W2 z)] + h1    orbits are bounded if |a| < 1

    Train it with `GeneralizedTeacherForcing`; backpropagation through free rollouts explodes on chaotic data. It
    holds its own memory a, so give it to a study with `residual: false`.

    Args:
        in_channels: M, components of the state.
        kind: which form.
        hidden: L, hidden units of the shallow kinds.
        bases: number of bases of the dendritic kind.

    Raises:
        ValueError: an unknown kind or a size below one.

    Brenner et al., ICML 2022 (dendritic); Hess, Monfared, Brenner and Durstewitz, ICML 2023, arXiv 2306.04406
    (shallow, clipped, and the first weights).
    """

    def __init__(self, in_channels: int, kind: Kind = "clipped", hidden: int = 50, bases: int = 10) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"PLRNN got kind {kind!r}; expected one of {list(get_args(Kind))}.")
        if min(in_channels, hidden, bases) < 1:
            raise ValueError(
                f"PLRNN got in_channels={in_channels}, hidden={hidden}, bases={bases}; expected at least 1 of each."
            )
        self.in_channels, self.kind, self.hidden, self.bases = in_channels, kind, hidden, bases
        m = in_channels
        start = _positive_matrix(m)
        self.diagonal = nn.Parameter(start.diag().clone())
        self.offset = nn.Parameter(torch.zeros(m))
        if kind in ("shallow", "clipped"):
            self.outer = nn.Parameter(_uniform(m, hidden))
            self.inner = nn.Parameter(_uniform(hidden, m))
            self.threshold = nn.Parameter(_uniform(hidden) if kind == "clipped" else torch.zeros(hidden))
        else:
            self.coupling = nn.Parameter(start - start.diag().diag())
            self.register_buffer("off_diagonal", 1 - torch.eye(m), persistent=False)
            self.off_diagonal: Tensor
        if kind == "dendritic":
            self.slopes = nn.Parameter(_uniform(bases))
            self.thresholds = nn.Parameter(_uniform(bases, m))

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or z.shape[1] != self.in_channels:
            raise ValueError(
                f"PLRNN got states of shape {tuple(z.shape)}; expected (B, {self.in_channels}), without space."
            )
        memory = torch.addcmul(self.offset, self.diagonal, z)
        if self.kind == "plain":
            return torch.addmm(memory, z.relu(), (self.coupling * self.off_diagonal).T)
        if self.kind == "dendritic":
            bent = (z.unsqueeze(1) - self.thresholds).relu()
            drawn = torch.einsum("b,nbm->nm", self.slopes, bent)
            return torch.addmm(memory, drawn, (self.coupling * self.off_diagonal).T)
        drive = z @ self.inner.T
        bracket = (drive + self.threshold).relu()
        if self.kind == "clipped":
            bracket = bracket - drive.relu()
        return torch.addmm(memory, bracket, self.outer.T)

    def form(self) -> PiecewiseLinear:
        """The map in the form that all kinds share, with gradients."""
        if self.kind in ("shallow", "clipped"):
            clipped = self.kind == "clipped"
            return PiecewiseLinear(
                self.diagonal, self.outer, self.inner, self.offset, self.threshold, clipped
            )
        coupling, eye = self.coupling * self.off_diagonal, torch.eye(self.in_channels).to(self.coupling)
        if self.kind == "plain":
            return PiecewiseLinear(
                self.diagonal, coupling, eye, self.offset, torch.zeros_like(self.offset), False
            )
        outer = torch.cat([slope * coupling for slope in self.slopes], dim=1)
        inner = eye.repeat(self.bases, 1)
        return PiecewiseLinear(self.diagonal, outer, inner, self.offset, -self.thresholds.flatten(), False)

    def jacobian(self, z: Tensor) -> Tensor:
        """d z' / d z at states (..., M), (..., M, M); exact within a linear region."""
        return self.form().jacobian(z)

    def growth_bound(self) -> Tensor:
        """max |a| + ||W1|| ||W2||, which the growth of one step never exceeds; from the parameters alone."""
        form = self.form()
        inner = torch.linalg.matrix_norm(form.inner, 2)
        return form.diagonal.abs().max() + torch.linalg.matrix_norm(form.outer, 2) * inner

    def radius(self) -> Tensor:
        """Of the ball that orbits of the clipped kind never leave, (|h1| + ||W1|| |h2|) / (1 - max |a|).

        Infinite where max |a| is not below one.

        Raises:
            ValueError: the kind is another one, whose orbits have no such bound.
        """
        if self.kind != "clipped":
            raise ValueError(f"orbits of a {self.kind} PLRNN are not bounded; only those of a clipped one.")
        room = 1 - self.diagonal.abs().max()
        reach = torch.linalg.matrix_norm(self.outer, 2) * self.threshold.norm() + self.offset.norm()
        return torch.where(room > 0, reach / room, torch.full_like(reach, math.inf))

    @torch.no_grad()
    def cycles(
        self,
        order: int = 1,
        near: Tensor | None = None,
        *,
        starts: int = 256,
        sweeps: int = 50,
        generator: torch.Generator | None = None,
    ) -> list[Cycle]:
        """Fixed points and cycles, exactly, by linear solves within regions.

        Within the regions of `order` states in a row the map of that many steps is affine, and its fixed point one
        linear solve. If that point and its images lie in the regions assumed, it is a cycle; otherwise the search
        goes on from the regions in which they do lie. All regions cannot be visited: a cycle may be missed, but
        none is wrong. Of a cycle whose order divides `order` nothing is listed.

        Args:
            order: K, number of states.
            near: states (S, M) to begin the search at, such as some of the attractor; else normal numbers of
                deviations 0.3, 1 and 3.
            starts: how many of them.
            sweeps: solves from each.
            generator: of the draws; a fixed seed without.

        Returns:
            Every cycle once, in double precision.
        """
        if order < 1 or starts < 1 or sweeps < 1:
            raise ValueError(
                f"cycles got order={order}, starts={starts}, sweeps={sweeps}; expected at least 1."
            )
        form = self.form()
        form = PiecewiseLinear(
            form.diagonal.double(),
            form.outer.double(),
            form.inner.double(),
            form.offset.double(),
            form.threshold.double(),
            form.clipped,
        )
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        m, device = self.in_channels, form.diagonal.device
        if near is None:
            sizes = torch.tensor([0.3, 1.0, 3.0], dtype=torch.float64).repeat(starts)[:starts, None]
            z = torch.randn(starts, m, generator=generator, dtype=torch.float64) * sizes
        else:
            chosen = torch.randint(len(near), (starts,), generator=generator)
            z = near.detach().double().cpu()[chosen]
        z = z.to(device)
        found: list[Cycle] = []
        eye = torch.eye(m, dtype=z.dtype, device=device)
        for _ in range(sweeps):
            product, shift, point = eye.expand(len(z), m, m), torch.zeros_like(z), z
            regions = []
            for _ in range(order):
                regions.append(form.signature(point))
                j, b = form.affine(point)
                product, shift = j @ product, (j @ shift.unsqueeze(-1)).squeeze(-1) + b
                point = (j @ point.unsqueeze(-1)).squeeze(-1) + b
            # A singular system has no isolated cycle there; its row becomes infinite and is given up.
            solved, info = torch.linalg.solve_ex(eye - product, shift.unsqueeze(-1))
            root = solved.squeeze(-1)
            alive = (info == 0) & torch.isfinite(root).all(dim=1)
            point, same, states = root, alive, []
            for k in range(order):
                states.append(point)
                same = same & (form.signature(point) == regions[k]).all(dim=1)
                j, b = form.affine(point)
                point = (j @ point.unsqueeze(-1)).squeeze(-1) + b
            for index in same.nonzero().flatten().tolist():
                cycle = Cycle(torch.stack([s[index] for s in states]), torch.linalg.eigvals(product[index]))
                if _is_new(cycle, found):
                    found.append(cycle)
            fresh = torch.randn(z.shape, generator=generator, dtype=torch.float64).to(device)
            spread = z.std(dim=0).clamp_min(1e-3) if len(z) > 1 else torch.ones_like(z[0])
            # What was found, and what has no answer, begins again beside where it began.
            z = torch.where((alive & ~same).unsqueeze(1), root.clamp(-1e6, 1e6), z + 0.5 * spread * fresh)
        return found


def _is_new(cycle: Cycle, known: list[Cycle], tolerance: float = 1e-8) -> bool:
    """Whether a cycle is none of the known ones, begun elsewhere, and no shorter one gone round several times."""
    size = 1 + float(cycle.states.abs().max())
    first = cycle.states[0]
    if any(float((state - first).abs().max()) < tolerance * size for state in cycle.states[1:]):
        return False
    return not any(
        float((state - first).abs().max()) < tolerance * size for other in known for state in other.states
    )


def _positive_matrix(size: int) -> Tensor:
    """R^T R / M + 1 over its largest eigenvalue, with normal R: the first memory, at most one."""
    r = torch.randn(size, size)
    k = r.T @ r / size + torch.eye(size)
    return k / torch.linalg.eigvalsh(k)[-1]


def _uniform(*shape: int) -> Tensor:
    """Uniform within 1 / sqrt(last size)."""
    return (2 * torch.rand(*shape) - 1) / math.sqrt(shape[-1])


class MemoryPrior(Regularizer):
    """|1 - a|^2 and the squares of all other weights of the PLRNNs in a step, the same for each sample.

    Pulls the memory a towards one, where nothing is forgotten: one step of finely sampled data is nearly the
    identity. Hess et al. (2023) weigh it by 1e-5 to 1e-4 and add it to the loss as it is
    (`Regularized(..., scale_free=False)`).
    """

    def forward(
        self, step: Callable[[Tensor], Tensor], u: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        parts = [module for module in parts_of(step) if isinstance(module, PLRNN)]
        if not parts:
            raise ValueError(
                f"MemoryPrior found no PLRNN in the step, a {type(step).__name__}; use it with one."
            )
        total = u.new_zeros(())
        for part in parts:
            for name, weight in part.named_parameters():
                total = total + ((1 - weight) if name == "diagonal" else weight).square().sum()
        return total.expand(len(u))
