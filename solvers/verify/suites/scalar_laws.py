"""Scalar conservation laws: smooth waves, shocks, fans."""

from __future__ import annotations

import torch

from sciml.domains import Grid
from sciml.pdes import BuckleyLeverett, InviscidBurgers, ScalarLaw, Traffic
from sciml.solvers.build import build
from sciml.solvers.finite_volume import exact_scalar_riemann, finite_volume
from sciml.solvers.verify.certificate import Check, Suites, at_least, at_most
from sciml.solvers.verify.measure import box, observed_order, points, random_states, structure

# Left and right states of a shock, and of a fan through the sonic point where there is one.
_JUMPS: dict[type[ScalarLaw], tuple[tuple[float, float], tuple[float, float]]] = {
    InviscidBurgers: ((1.5, -0.5), (-1.0, 1.0)),
    BuckleyLeverett: ((1.0, 0.0), (0.0, 1.0)),  # each a shock with a fan behind it
    Traffic: ((0.2, 1.0), (1.0, 0.0)),
}


def _scalar(cls: type[ScalarLaw]) -> list[Check]:
    law = cls()
    shock, fan = next(_JUMPS[base] for base in cls.__mro__ if base in _JUMPS)
    checks = []
    for dimension, sizes in ((1, (64, 128)), (2, (32, 64))):
        errors = []
        for n in sizes:
            grid = box(law, n, dimension, centering="cell")
            u = law.exact(points(grid), 0.0).contiguous()
            with torch.no_grad():
                u = build(law, grid, 0.3)(u)
            errors.append(float((u - law.exact(points(grid), 0.3)).abs().mean()))
        setting = f"{sizes[0]} to {sizes[1]} cells per axis, L1, t = 0.3"
        # Slopes vanish at crests, which costs a little of the order in the mean error.
        checks.append(
            at_least(f"order on a steepening wave in {dimension}D", observed_order(errors), 1.7, setting)
        )
    for name, (left, right), level in (("shock", shock, 4e-3), ("fan", fan, 4e-3)):
        for riemann in ("auto", "hll", "rusanov"):
            error = riemann_error(law, left, right, 200, riemann=riemann)
            setting = f"200 cells, {riemann}, {left:g} to {right:g}, t = 0.8"
            # About a cell's width beside a jump of one.
            checks.append(
                at_most(f"L1 error of a {name}", error, level * max(1.0, abs(left - right)), setting)
            )
    grid = box(law, 24, 2, centering="cell")
    # Values within the bounds of all three laws.
    return [*checks, *structure(law, grid, 0.1, 10, 0.5 + 0.4 * random_states(grid, 1))]


def riemann_error(law: ScalarLaw, left: float, right: float, n: int, **scheme: str) -> float:
    """Mean error of the Riemann problem in a box from -2 to 2 at time 0.8."""
    grid = Grid((n,), (4.0,), boundary="outflow", origin=-2.0, centering="cell")
    x = grid.axes()[0]
    start = torch.where(x < 0, left, right).to(torch.float64).reshape(1, 1, -1)
    with torch.no_grad():
        found = finite_volume(law, grid, 0.8, **scheme)(start)  # type: ignore[arg-type]
    return float((found.flatten() - exact_scalar_riemann(law, left, right, x / 0.8)).abs().mean())


SUITES: Suites = {InviscidBurgers: _scalar, BuckleyLeverett: _scalar, Traffic: _scalar}
