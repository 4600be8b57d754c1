"""What `sciml.solvers.build` takes for waves in media."""

from __future__ import annotations

from sciml.domains import Grid
from sciml.errors import UserError
from sciml.pdes.acoustics import Acoustics, AcousticScattering
from sciml.pdes.maxwell import MaxwellEquations
from sciml.solvers.build import Solver
from sciml.solvers.waves.acoustic import acoustic
from sciml.solvers.waves.layers import Sponge, open_axes
from sciml.solvers.waves.yee import Yee, yee


def build_waves(
    pde: Acoustics | AcousticScattering | MaxwellEquations, grid: Grid, dt: float, substeps: int | None
) -> Solver:
    """Finite volumes for acoustics, whose states are averages like those of all solvers on cells; Yee's scheme
    for Maxwell's equations, with a `Sponge` of a quarter of the shortest open axis at open sides, as it keeps
    the channels of the equation.

    Raises:
        UserError: (a ValueError) the grid does not fit, or the substeps are beyond the limit.
    """
    name = type(pde).__name__
    if grid.centering != "cell":
        raise UserError(
            f"build got {name} on a grid of nodes; its solvers keep values of cells. Use Grid(..., "
            "centering='cell')."
        )
    try:
        if isinstance(pde, MaxwellEquations):
            axes = open_axes(grid)
            layer = Sponge(max(1, min(grid.shape[a] for a in axes) // 4)) if axes else None
            step: Yee = yee(pde, grid, dt, layer=layer, substeps=substeps)
            reason = (
                f"{name} on cells: Yee's staggered leapfrog keeps div(mu H) and the energy; every channel has its own "
                f"place in the cell. {_substeps(step.substeps, step.limit, substeps)}"
            )
            return Solver(step, step.substeps, step.method, reason)
        volumes = acoustic(pde, grid, dt, scheme="volumes", substeps=substeps)
    except ValueError as error:
        raise UserError(str(error)) from error
    why = "finite volumes keep averages of cells and take jumps of the medium by the exact Riemann solution"
    count = (
        _substeps(volumes.substeps, volumes.limit, substeps)
        if volumes.limit is not None
        else "The substeps follow the densities in the state, at half the stable limit."
        if substeps is None
        else f"{substeps} substeps were asked for."
    )
    more = " waves.acoustic(scheme='staggered') keeps the energy of smooth waves."
    return Solver(volumes, volumes.substeps, volumes.method, f"{name} on cells: {why}. {count}{more}")


def _substeps(count: int | None, limit: float | None, asked: int | None) -> str:
    why = "were asked for, within" if asked is not None else "stay within"
    return f"{count} substeps {why} the limit {limit:.3g} of the fastest wave on this grid."
