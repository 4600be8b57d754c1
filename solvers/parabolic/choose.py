"""The step for an equation that diffuses, chosen by stiffness."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch

from sciml.calculus.finite_difference import Accuracy
from sciml.domains import Grid
from sciml.errors import UserError
from sciml.pdes.base import PDE, SemiLinear
from sciml.pdes.diffusion_law import DiffusionLaw
from sciml.solvers.elliptic.sides import Flux
from sciml.solvers.parabolic.diffusion import DiffusionVolumes, Mean
from sciml.solvers.parabolic.lines import ImexLines, diffusivities, explicit_rates
from sciml.solvers.parabolic.sides import SideConditions
from sciml.solvers.parabolic.tableaus import SCHEMES, Scheme

if TYPE_CHECKING:
    from sciml.solvers.build import Solver

# Fourier number D h sum_d 1/dx_d^2 of an implicit substep. The error of a mode of wavelength l is about (D h/l^2)^2
# in time and (dx/l)^2/12 in space: at 40 they are alike for what is 120 spacings long.
FOURIER = 40.0
# h times the rate of the explicit part, by the order of the method.
_COURANT = {1: 0.1, 2: 0.25, 3: 0.5, 4: 0.5}
# Explicit substeps that cost as much as an implicit one, by the number of axes: two stages of four Newton iterations,
# in 2D and 3D of thirty of conjugate gradients each, against three rates (measured at 400 and at 64^2 cells).
_DEAR = {1: 20, 2: 60, 3: 60}
# Explicit substeps on lines that cost as much as an implicit one: six changes of basis against four rates.
_CHEAP = 8
_BY_ORDER: dict[int, Scheme] = {1: "backward-euler", 2: "ars222", 3: "ars443", 4: "ark4"}


def parabolic(
    pde: PDE,
    grid: Grid,
    dt: float,
    *,
    conditions: SideConditions | None = None,
    scheme: Scheme | Literal["auto", "explicit"] = "auto",
    order: int = 4,
    accuracy: Accuracy = 2,
    mean: Mean = "integral",
    substeps: int | None = None,
    fourier: float = FOURIER,
    max_speed: float = 1.0,
) -> DiffusionVolumes | ImexLines:
    """A Step for diffusion between real sides, in 1D to 3D, on cells or nodes.

    A `DiffusionLaw` is solved by fluxes of its potential between control volumes, implicitly by Newton's
    method (tridiagonal systems in 1D, multigrid-preconditioned conjugate gradients in 2D and 3D), sample by
    sample to rounding. What is stored is conserved to rounding. Backward Euler keeps every state between its
    extremes and 0 a floor; methods of higher order do not, and a step of them that leaves the states that are
    not negative is taken again by backward Euler for that sample (`fallbacks`).

    A `SemiLinear` equation is stepped with its diffusion implicit and the rest explicit. At accuracy 2 the
    second derivatives are those of fluxes, which conserve; at 4 and 6 they are differences, one-sided at sides
    that hold something.

    Differentiable once in the state, in parameters that are tensors and in the data of the sides, by the
    implicit function theorem where Newton's method solves. Computes in the precision of the state.

    Args:
        pde: a `DiffusionLaw`, or a `SemiLinear` equation whose linear part has second and lower derivatives.
        grid: with sides "periodic", "dirichlet", "neumann" or "outflow" (as "neumann": no gradient).
        dt: time of one Step [time].
        conditions: what the sides say beyond their names: `Value(g)` for u = g on "dirichlet" sides, `Flux(g)`
            for k du/dn = g (n outwards: what flows in) and `Robin(c, g)` for k du/dn + c u = g on "neumann" sides,
            k the diffusivity. Without, Dirichlet sides of cells are zero and Dirichlet nodes keep what they hold;
            Neumann sides are insulated.
        scheme: "backward-euler", "crank-nicolson", "tr-bdf2", "ars222", "ars443", "ark4", "explicit" (SSPRK3, of a
            `DiffusionLaw`), or "auto": the implicit method of the order for a `SemiLinear` equation; for a
            `DiffusionLaw` explicit steps where they are few, else ARS 2,2,2, or backward Euler where k jumps.
        order: of "auto" for a `SemiLinear` equation, 1 to 4.
        accuracy: order in space, 2, 4 or 6 for a `SemiLinear` equation; 2 for a `DiffusionLaw`.
        mean: of the conductivities beside a face: "integral" (the difference of potentials), "arithmetic" or
            "harmonic" (which locks fronts where k vanishes), both explicit: baselines to compare with.
        substeps: equal substeps of each Step. None: as many as keep the Fourier number of a substep at `fourier`,
            for a `DiffusionLaw` that of the state, and resolve the explicit part; explicit ones as many as are
            stable, planned anew before each.
        fourier: see above; smaller follows faster changes.
        max_speed: the largest speed or, for "auto" and a `DiffusionLaw`, |u| that is expected.

    Raises:
        ValueError: an argument is out of range or does not fit the grid or the equation; on a call, that a state
            has another shape, or is negative where that means nothing.
        TypeError: the equation has derivatives of higher order, or channels that mix in their diffusion.

    LeVeque, Finite Difference Methods for Ordinary and Partial Differential Equations (2007), chapters 2 and 9;
    Vazquez, The Porous Medium Equation (2007).
    """
    name = type(pde).__name__
    if not isinstance(pde, (DiffusionLaw, SemiLinear)):
        raise ValueError(f"parabolic got {name}; expected a DiffusionLaw or a SemiLinear equation.")
    if not isinstance(grid, Grid) or grid.dimension not in pde.dimensions:
        raise ValueError(f"parabolic got {name} on {grid}; expected a Grid of {pde.dimensions} axes.")
    if not (isinstance(dt, (int, float)) and math.isfinite(dt) and dt > 0):
        raise ValueError(f"parabolic got dt={dt!r}; expected a positive time.")
    known = ["auto", "explicit", *SCHEMES]
    if scheme not in known:
        raise ValueError(f"parabolic got scheme={scheme!r}; expected one of {known}.")
    if mean not in get_args(Mean):
        raise ValueError(f"parabolic got mean={mean!r}; expected one of {list(get_args(Mean))}.")
    if order not in _BY_ORDER:
        raise ValueError(f"parabolic got order={order!r}; expected 1, 2, 3 or 4.")
    if accuracy not in get_args(Accuracy):
        raise ValueError(f"parabolic got accuracy={accuracy!r}; expected 2, 4 or 6.")
    if substeps is not None and not (isinstance(substeps, int) and substeps >= 1):
        raise ValueError(f"parabolic got substeps={substeps!r}; expected a whole number from 1, or None.")
    if not (math.isfinite(fourier) and fourier > 0 and math.isfinite(max_speed) and max_speed > 0):
        raise ValueError(
            f"parabolic got fourier={fourier} and max_speed={max_speed}; expected positive numbers."
        )
    if isinstance(pde, DiffusionLaw):
        if accuracy != 2:
            raise ValueError(f"parabolic got accuracy={accuracy} for {name}; its volumes are of order 2.")
        if mean != "integral" and scheme not in ("auto", "explicit"):
            raise ValueError(
                f"parabolic got mean={mean!r} and scheme={scheme!r}; means other than that of the potential are stepped "
                "explicitly. Use scheme='explicit'."
            )
        if scheme == "auto":
            flows = any(isinstance(condition, Flux) for condition in (conditions or {}).values())
            few = not flows and explicit_substeps(pde, grid, dt, max_speed) <= _DEAR[
                grid.dimension
            ] * implicit_substeps(pde, grid, dt, max_speed, fourier)
            scheme = (
                "explicit" if few or mean != "integral" else "ars222" if pde.smooth else "backward-euler"
            )
        return DiffusionVolumes(
            pde,
            grid,
            dt,
            conditions=conditions,
            scheme=cast("Scheme | Literal['explicit']", scheme),
            mean=mean,
            substeps=substeps,
            fourier=fourier,
        )
    if scheme == "explicit" or mean != "integral":
        raise ValueError(
            f"parabolic got scheme={scheme!r} and mean={mean!r} for {name}; those are of nonlinear diffusion. For "
            "explicit steps of other equations see sciml.solvers.build."
        )
    chosen = cast(Scheme, _BY_ORDER[order] if scheme == "auto" else scheme)
    if substeps is None:
        rate = explicit_rates(pde, grid, max_speed)
        spread = max(
            float(
                sum(
                    r.detach().amax() / h**2
                    for r, h in zip(diffusivities(pde, grid), grid.spacing, strict=True)
                )
            ),
            1e-300,
        )
        courant = _COURANT[SCHEMES[chosen].order]
        substeps = max(1, math.ceil(dt * spread / fourier * (1 - 1e-12)), math.ceil(dt * rate / courant))
    return ImexLines(
        pde,
        grid,
        dt,
        conditions=conditions,
        scheme=chosen,
        accuracy=accuracy,
        substeps=substeps,
    )


def mobility(pde: DiffusionLaw, size: float) -> float:
    """The largest diffusivity of what is stored for |u| up to a size."""
    u = torch.linspace(0.0, size, 65, dtype=torch.float64).reshape(1, 1, -1)
    u = u.expand(1, len(pde.fields), -1)
    with torch.no_grad():
        return float((pde.conductivity(u) * pde.release(u)).max())


def explicit_substeps(pde: DiffusionLaw, grid: Grid, dt: float, size: float) -> int:
    """About as many as explicit steps need."""
    rate = mobility(pde, size) * sum(2 / h**2 for h in grid.spacing)
    return max(1, math.ceil(dt * rate))


def implicit_substeps(
    pde: DiffusionLaw, grid: Grid, dt: float, size: float, fourier: float = FOURIER
) -> int:
    """About as many as implicit steps take."""
    return max(1, math.ceil(dt * mobility(pde, size) * sum(h**-2 for h in grid.spacing) / fourier))


def build_parabolic(
    pde: PDE, grid: Grid, dt: float, order: int, substeps: int | None, max_speed: float
) -> Solver:
    """What `sciml.solvers.build` gives for nonlinear diffusion, and for diffusion with reaction on cells."""
    from sciml.solvers.build import Solver

    name = type(pde).__name__
    try:
        step = parabolic(pde, grid, dt, order=order, substeps=substeps, max_speed=max_speed)
    except TypeError as error:
        raise UserError(
            f"build got {name} on a grid of cells: {error}. Use Grid(..., centering='node')."
        ) from error
    except ValueError as error:
        raise UserError(str(error)) from error
    if isinstance(step, ImexLines):
        asked = "were asked for" if substeps is not None else "follow what is explicit and the slow modes"
        reason = (
            f"{name} on cells between sides: fluxes between cells conserve, diffusion is implicit, whose fast modes "
            f"limit no step, and solved directly; {step.substeps} substeps {asked}."
        )
        return Solver(step, step.substeps, step.method, reason)
    assert isinstance(pde, DiffusionLaw)
    few = explicit_substeps(pde, grid, dt, max_speed)
    if step.tableau is None:
        why = f"about {few} explicit substeps at |u| = {max_speed:g} cost less than implicit ones"
    else:
        why = f"explicit steps would need about {few} substeps at |u| = {max_speed:g}, implicit ones do with few"
    asked = "were asked for" if substeps is not None else "follow the state"
    reason = f"{name} is nonlinear diffusion, of which fluxes of the potential carry fronts at their speed: {why}; "
    return Solver(
        step, substeps, step.method, f"{reason}{'its' if substeps is None else substeps} substeps {asked}."
    )


def implicit_lines(
    pde: PDE,
    grid: Grid,
    dt: float,
    order: int,
    accuracy: int,
    substeps: int | None,
    max_speed: float,
    explicit: int,
) -> Solver | None:
    """Implicit diffusion on nodes between sides, or None where `explicit` substeps cost less or it does not apply."""
    from sciml.solvers.build import Solver

    if not isinstance(pde, SemiLinear):
        return None
    try:
        step = parabolic(
            pde,
            grid,
            dt,
            order=order,
            accuracy=cast(Accuracy, accuracy),
            substeps=substeps,
            max_speed=max_speed,
        )
    except (TypeError, ValueError):  # explicit steps know more equations and sides
        return None
    assert isinstance(step, ImexLines)
    if explicit <= _CHEAP * step.substeps:
        return None
    asked = "were asked for" if substeps is not None else "follow what is explicit and the slow modes"
    reason = (
        f"{type(pde).__name__} between bounded sides is stiff: explicit steps would need {explicit} substeps for fast modes "
        f"of its diffusion, which implicit ones damp at any step; {step.substeps} substeps {asked}. stepping='explicit' "
        "insists on the others."
    )
    return Solver(step, step.substeps, step.method, reason)
