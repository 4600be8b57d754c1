"""Implicit-explicit Runge-Kutta methods for u_t = L u + N(u): L implicit, N explicit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.solvers.time.tableau import Tableau


@dataclass(frozen=True)
class ImexTableau:
    """Two tables with the same times: an explicit one and a diagonally implicit one with a single diagonal.

    Args:
        explicit: the method for N; its first slope is that of u itself.
        implicit: rows of the method for L below the first, which is zero; row j has j + 1 entries, the
            last of them the same `gamma` in every row.
        b: weights of the slopes of L in the step.
        order: of the two together.
        name: what reports call it.

    Raises:
        ValueError: lengths, times or the diagonal do not fit.
    """

    explicit: Tableau
    implicit: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    order: int
    name: str

    def __post_init__(self) -> None:
        stages = len(self.explicit.b)
        if [len(r) for r in self.implicit] != list(range(2, stages + 1)) or len(self.b) != stages:
            raise ValueError(
                f"ImexTableau {self.name!r} got implicit rows of lengths {[len(r) for r in self.implicit]} and "
                f"{len(self.b)} weights for {stages} stages; expected 2 to {stages}, and {stages}."
            )
        sums = (0.0, *(sum(r) for r in self.implicit))
        same = all(math.isclose(s, c, abs_tol=1e-12) for s, c in zip(sums, self.explicit.c, strict=True))
        if not same or any(r[-1] != self.gamma for r in self.implicit):
            raise ValueError(
                f"ImexTableau {self.name!r} is inconsistent: its implicit rows sum to {sums} (expected "
                f"{self.explicit.c}) with the diagonal {[r[-1] for r in self.implicit]} (expected one value)."
            )

    @property
    def gamma(self) -> float:
        """The diagonal of the implicit table."""
        return self.implicit[0][-1]

    def damping(self, z: complex) -> complex:
        """Growth factor of u' = lambda u over one step with L = lambda alone, z = lambda dt."""
        slopes: list[complex] = [z]
        for row in self.implicit:
            known = 1.0 + sum(a * k for a, k in zip(row[:-1], slopes, strict=True))
            slopes.append(z * known / (1.0 - self.gamma * z))
        return 1.0 + sum(b * k for b, k in zip(self.b, slopes, strict=True))


_G = 1.0 - math.sqrt(0.5)
_D = 1.0 - 0.5 / _G
# Ascher, Ruuth and Spiteri, Appl. Numer. Math. 25 (1997) 151-167, section 2.6: L-stable, order 2.
ARS222 = ImexTableau(
    Tableau(((_G,), (_D, 1.0 - _D)), (_D, 1.0 - _D, 0.0), (0.0, _G, 1.0), 2, "ARS 2,2,2 explicit"),
    ((0.0, _G), (0.0, 1.0 - _G, _G)),
    (0.0, 1.0 - _G, _G),
    2,
    "ARS 2,2,2",
)
# The same, section 2.8: L-stable, order 3.
ARS443 = ImexTableau(
    Tableau(
        ((1 / 2,), (11 / 18, 1 / 18), (5 / 6, -5 / 6, 1 / 2), (1 / 4, 7 / 4, 3 / 4, -7 / 4)),
        (1 / 4, 7 / 4, 3 / 4, -7 / 4, 0.0),
        (0.0, 1 / 2, 2 / 3, 1 / 2, 1.0),
        3,
        "ARS 4,4,3 explicit",
    ),
    (
        (0.0, 1 / 2),
        (0.0, 1 / 6, 1 / 2),
        (0.0, -1 / 2, 1 / 2, 1 / 2),
        (0.0, 3 / 2, -3 / 2, 1 / 2, 1 / 2),
    ),
    (0.0, 3 / 2, -3 / 2, 1 / 2, 1 / 2),
    3,
    "ARS 4,4,3",
)
_B = (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211, 1 / 4)
# Kennedy and Carpenter, Appl. Numer. Math. 44 (2003) 139-181, ARK4(3)6L[2]SA: L-stable, order 4.
ARK4 = ImexTableau(
    Tableau(
        (
            (1 / 2,),
            (13861 / 62500, 6889 / 62500),
            (
                -116923316275 / 2393684061468,
                -2731218467317 / 15368042101831,
                9408046702089 / 11113171139209,
            ),
            (
                -451086348788 / 2902428689909,
                -2682348792572 / 7519795681897,
                12662868775082 / 11960479115383,
                3355817975965 / 11060851509271,
            ),
            (
                647845179188 / 3216320057751,
                73281519250 / 8382639484533,
                552539513391 / 3454668386233,
                3354512671639 / 8306763924573,
                4040 / 17871,
            ),
        ),
        _B,
        (0.0, 1 / 2, 83 / 250, 31 / 50, 17 / 20, 1.0),
        4,
        "ARK4(3)6L[2]SA explicit",
    ),
    (
        (1 / 4, 1 / 4),
        (8611 / 62500, -1743 / 31250, 1 / 4),
        (5012029 / 34652500, -654441 / 2922500, 174375 / 388108, 1 / 4),
        (
            15267082809 / 155376265600,
            -71443401 / 120774400,
            730878875 / 902184768,
            2285395 / 8070912,
            1 / 4,
        ),
        (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211, 1 / 4),
    ),
    _B,
    4,
    "ARK4(3)6L[2]SA",
)

IMEX: tuple[ImexTableau, ...] = (ARS222, ARS443, ARK4)


@dataclass(frozen=True)
class Imex:
    """A method with its linear operator L, the inverse of 1 - gamma dt L, and its time step.

    Both have the shape of L: that of u where it is diagonal, (..., C, C, *modes) where it couples channels.
    """

    linear: Tensor
    inverse: Tensor
    dt: float
    tableau: ImexTableau
    coupled: bool = False

    def map(self, change: Callable[[Tensor], Tensor]) -> Imex:
        """The method with both operators changed (cast, moved)."""
        return Imex(change(self.linear), change(self.inverse), self.dt, self.tableau, self.coupled)

    def apply(self, operator: Tensor, u: Tensor) -> Tensor:
        """An operator times (B, C, *modes)."""
        return (operator * u.unsqueeze(1)).sum(dim=2) if self.coupled else operator * u

    def step(self, u: Tensor, nonlinear: Callable[[Tensor], Tensor]) -> Tensor:
        """u(t + dt) from u(t), both in the basis where L is diagonal or one matrix per mode. Differentiable."""
        explicit, tableau = self.tableau.explicit, self.tableau
        rates, slopes = [self.apply(self.linear, u)], [nonlinear(u)]
        for given, row in zip(explicit.a, tableau.implicit, strict=True):
            known = u
            for weight, slope in (*zip(given, slopes, strict=True), *zip(row[:-1], rates, strict=True)):
                if weight != 0.0:
                    known = known + (self.dt * weight) * slope
            stage = self.apply(self.inverse, known)
            rates.append(self.apply(self.linear, stage))
            slopes.append(nonlinear(stage))
        for weight, slope in (*zip(explicit.b, slopes, strict=True), *zip(tableau.b, rates, strict=True)):
            if weight != 0.0:
                u = u + (self.dt * weight) * slope
        return u


def imex(linear: Tensor, dt: float, tableau: ImexTableau = ARK4, *, coupled: bool = False) -> Imex:
    """An implicit-explicit Runge-Kutta method for u_t = L u + N(u), L diagonal or one matrix per mode.

    L is damped for any dt (all three methods are L-stable). N alone is stable on the imaginary axis for
    dt * rate up to `tableau.explicit.stability_limit(1j)`: 0 for ARS 2,2,2, 1.57 for ARS 4,4,3 and 4.0 for
    ARK4; the bound for both parts at once lies below. Where L is stiff the order of the stages, 1 or 2, may
    show instead of that of the method.

    Args:
        linear: as for `etdrk`: (..., C, *modes) or, coupled, (..., C, C, *modes) [1/time]; single precision is
            raised to double. May require gradients.
        dt: time step [time].
        tableau: one of `IMEX`.
        coupled: whether L couples the channels.
    """
    operator = linear.to(torch.complex128 if linear.is_complex() else torch.float64)
    if not coupled:
        return Imex(operator, 1.0 / (1.0 - tableau.gamma * dt * operator), dt, tableau)
    last = (0, *range(3, operator.ndim), 1, 2)
    back = (0, operator.ndim - 2, operator.ndim - 1, *range(1, operator.ndim - 2))
    unit = torch.eye(operator.shape[1], dtype=operator.dtype, device=operator.device)
    inverse = torch.linalg.inv(unit - tableau.gamma * dt * operator.permute(last))
    return Imex(operator, inverse.permute(back).contiguous(), dt, tableau, True)
