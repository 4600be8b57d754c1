"""Which equation a dataset is said to solve: from its recipe, from what its layout fixes, or from the user."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sciml.datasets.dataset import Dataset
from sciml.datasets.recipe import Recipe, default_solver
from sciml.datasets.splits import Pairs, Split
from sciml.domains import Centering, Domain, Grid
from sciml.errors import UserError
from sciml.odes.base import ODE
from sciml.pdes import Advection, Burgers, CompressibleEuler, Darcy, FisherKPP, Poisson
from sciml.pdes.base import PDE, ConservationLaw, Elliptic, SemiLinear
from sciml.pdes.difficulty import linear_from_difficulties
from sciml.pdes.euler import IdealGas
from sciml.trajectory import channel_names

Equation = PDE | ODE | Elliptic
"""What a dataset solves."""

Stated = Equation | Callable[..., Equation]
"""An equation, or a class or function that makes one of a sample's parameters, which it names as arguments."""

INVISCID = 1e-7
"""Viscosities up to this one leave nothing to see on any grid in use: 1e-8 stands for none in PDEBench."""

PDEBENCH_GAMMA = 5.0 / 3.0

APEBENCH_ORDERS: Mapping[str, int] = {
    "advection_gamma": 1,
    "diffusion_gamma": 2,
    "dispersion_gamma": 3,
    "hyp_diffusion_gamma": 4,
}
"""Names of difficulties in APEBench's linear scenarios, with the order of the derivative that they multiply."""


@dataclass(frozen=True)
class Known:
    """An equation and how to step it where the data lie.

    Args:
        name: for people.
        origin: who says so.
        equation: makes it from parameters by name, each (B,), for a domain.
        solver: makes the step of a time, as a recipe's.
        substeps: of one stored step, None where the solver chooses.
        factor: how many times finer per axis than the stored points the solver works.
        dt: time between stored frames that the equation's own source states; None takes the file's.
        place: the domain as the solver wants it.
        view: stored channels (B, C, *points) -> state of the equation.
        complete: input channels of pairs as the equation wants them.
    """

    name: str
    origin: Literal["recipe", "file", "user"]
    equation: Callable[[Mapping[str, Tensor], Domain], Equation]
    solver: Callable[[Any, Any, float, int | None], Callable[[Tensor], Tensor]]
    substeps: int | None = None
    factor: int = 1
    dt: float | None = None
    place: Callable[[Domain], Domain] = lambda domain: domain
    view: Callable[[Tensor], Tensor] = lambda u: u
    complete: Callable[[Tensor], Tensor] = lambda a: a


def known_equation(dataset: Dataset, stated: Stated | None = None) -> tuple[Known | None, str]:
    """The equation of a dataset, and a sentence about where it comes from or why there is none.

    Args:
        dataset: an opened dataset.
        stated: what the user says; wins over everything else.

    Raises:
        UserError: what the user says does not fit the channels or the number of axes.
    """
    if stated is not None:
        known = _stated(dataset, stated)
        return known, f"{known.name}, as you say"
    recipe = dataset.recipe
    if recipe is not None:
        return _of_recipe(recipe), f"that of the recipe {recipe.name!r}"
    if dataset.manifest:
        return None, "the recipe is not found or has changed; say the equation with --equation"
    if dataset.kind == "pdebench":
        return _of_pdebench(dataset)
    if dataset.kind == "apebench":
        return _of_apebench(dataset)
    return None, "the file does not say its equation; say it with --equation"


def _of_recipe(recipe: Recipe) -> Known:
    return Known(
        f"the recipe {recipe.name!r}",
        "recipe",
        lambda parameters, domain: recipe.equation(parameters, domain),
        recipe.solver,
        recipe.substeps,
        recipe.resolution_factor,
        recipe.dt,
    )


def _of_pdebench(dataset: Dataset) -> tuple[Known | None, str]:
    """What the attributes of PDEBench's files mean (Takamoto et al. 2022, appendix D)."""
    numbers = {name: float(value) for name, value in dataset.constants.items()}
    first = dataset.first
    if isinstance(first, Pairs):
        if "beta" not in numbers:
            return None, "the file does not give the source strength 'beta' of Darcy flow"
        source = numbers["beta"]
        darcy = Known(
            f"Darcy flow with source {source:g}",
            "file",
            lambda parameters, domain: Darcy(),
            default_solver,
            complete=lambda a: torch.cat([a, torch.full_like(a, source)], dim=1),
        )
        return replace(darcy, solver=stationary), f"{darcy.name}, by the attribute beta"
    width = len(first.channels)
    if first.dimension == 1 and width == 1:
        made, why = _scalar_of_pdebench(numbers)
        if made is not None:
            return _placed(made, why, "file"), f"{made!r}, by the attributes {', '.join(sorted(numbers))}"
        return None, why
    if {"eta", "zeta"} <= set(numbers) and _is_primitive_gas(first):
        if max(numbers["eta"], numbers["zeta"]) > INVISCID:
            return None, (
                "compressible files of this origin multiply eta and zeta by the density, which is not the equation of "
                "their text; say which one you mean with --equation"
            )
        gas = CompressibleEuler(PDEBENCH_GAMMA)
        known = _placed(gas, "compressible Euler, gamma 5/3", "file")
        return replace(known, view=_conserved(gas, first)), f"{known.name}, by the attributes eta and zeta"
    return None, "its attributes do not say the equation; say it with --equation"


def _of_apebench(dataset: Dataset) -> tuple[Known | None, str]:
    """Linear scenarios of APEBench (Koehler et al. 2024), told by difficulties of one order of derivative each."""
    first, numbers = dataset.first, dataset.constants
    found = {order: numbers[name] for name, order in APEBENCH_ORDERS.items() if name in numbers}
    others = sorted(n for n in numbers if n.endswith(("_gamma", "_delta")) and n not in APEBENCH_ORDERS)
    grid = first.domain
    if not found or others or len(first.channels) != 1 or not isinstance(grid, Grid):
        what = ", ".join(others) if others else "no linear difficulties alone"
        return None, f"the scenario has {what}; say its equation with --equation"
    difficulties = [found.get(order, 0.0) for order in range(max(found) + 1)]
    try:
        equation = linear_from_difficulties(
            difficulties,
            dt=dataset.dt,
            length=grid.lengths[0],
            points=grid.shape[0],
            dimension=grid.dimension,
        )
    except ValueError as error:
        return None, f"its difficulties do not make an equation: {error}"
    said = ", ".join(name for name in APEBENCH_ORDERS if name in numbers)
    return _placed(equation, repr(equation), "file"), f"{equation!r}, by {said}"


def _scalar_of_pdebench(numbers: Mapping[str, float]) -> tuple[PDE | None, str]:
    if not all(math.isfinite(value) for value in numbers.values()):
        return None, "an attribute is not a finite number"
    try:
        if "Nu" in numbers and "rho" in numbers:
            return FisherKPP(numbers["Nu"], numbers["rho"]), "Fisher's equation"
        if "Nu" in numbers:
            return Burgers(numbers["Nu"] / math.pi), "Burgers' equation with viscosity Nu / pi"
        if "beta" in numbers:
            return Advection(numbers["beta"]), "advection"
    except ValueError as error:
        return None, f"its attributes do not make an equation: {error}"
    return None, "the file has none of the attributes beta, Nu, rho; say the equation with --equation"


def _is_primitive_gas(split: Split | Pairs) -> bool:
    return [f.name for f in split.fields] == ["density", "pressure", "velocity"]


def _conserved(gas: IdealGas, split: Split | Pairs) -> Callable[[Tensor], Tensor]:
    """Density, pressure and velocity as they are stored -> density, momentum and energy."""

    def view(u: Tensor) -> Tensor:
        return gas.conservative(torch.cat([u[:, :1], u[:, 2:], u[:, 1:2]], dim=1))

    return view


def _placed(equation: Equation, name: str, origin: Literal["recipe", "file", "user"]) -> Known:
    """An equation that is not from a recipe, solved by what `build` chooses."""
    return Known(
        name,
        origin,
        lambda parameters, domain: equation,
        stationary if isinstance(equation, Elliptic) else default_solver,
        place=lambda domain: _suited(domain, equation),
    )


def _suited(domain: Domain, equation: Equation) -> Domain:
    """A periodic grid as nodes for what is solved at nodes, as cells for conservation laws.

    Values at the centres of cells that wrap round are values at nodes half a spacing further; averages differ from
    them by the square of the spacing, which is an error of the data, and is judged as such.
    """
    if not isinstance(domain, Grid) or not all(domain.periodic):
        return domain
    shift = {"cell": 0.5, "node": -0.5}[domain.centering]
    if isinstance(equation, SemiLinear) and domain.centering == "cell":
        wanted: Centering = "node"
    elif isinstance(equation, ConservationLaw) and domain.centering == "node":
        wanted = "cell"
    else:
        return domain
    low = domain.origin if isinstance(domain.origin, tuple) else (domain.origin,) * domain.dimension
    origin = tuple(o + shift * h for o, h in zip(low, domain.spacing, strict=True))
    return replace(domain, origin=origin, centering=wanted)


def _stated(dataset: Dataset, stated: Stated) -> Known:
    """What the user says, given the file's parameters where it asks for them."""
    first = dataset.first
    names: tuple[str, ...] = ()
    if isinstance(stated, PDE | ODE | Elliptic):
        equation: Equation = stated
        known = _placed(equation, repr(stated), "user")
    else:
        given = {**dict.fromkeys(first.parameters), **dataset.constants}
        names = tuple(n for n in inspect.signature(stated).parameters if n in given)
        title = getattr(stated, "__name__", type(stated).__name__)

        def make(parameters: Mapping[str, Tensor], domain: Domain) -> Equation:
            ones = (1,) * (1 + domain.dimension) if domain.dimension else ()
            values: dict[str, Any] = {n: dataset.constants[n] for n in names if n in dataset.constants}
            for name in names:
                if name in parameters:
                    values[name] = parameters[name].to(torch.float64).reshape(-1, *ones)
            try:
                return stated(**values)
            except (TypeError, ValueError) as error:
                raise UserError(
                    f"The equation {title} cannot be made from the file's parameters {sorted(values)}: {error}"
                ) from error

        equation = make({n: v[:1] for n, v in first.parameters.items()}, first.domain)
        known = replace(_placed(equation, f"{title}({_from_file(names)})", "user"), equation=make)
    dimension = first.dimension
    if isinstance(equation, IdealGas) and _is_primitive_gas(first):
        return replace(known, view=_conserved(equation, first))
    if not isinstance(equation, ODE) and dimension not in equation.dimensions:
        raise UserError(
            f"{type(equation).__name__} lives in {equation.dimensions} space axes; {dataset.path} has {dimension}. Say "
            "another equation."
        )
    wanted = channel_names(equation.fields, dimension)
    if len(wanted) != len(first.channels):
        raise UserError(
            f"{type(equation).__name__} has the channels {wanted} in {dimension} space axes; {dataset.path} has "
            f"{first.channels}. Say another equation, or name the channels with Hints(fields=...)."
        )
    if isinstance(equation, Elliptic) != isinstance(first, Pairs):
        kind = "pairs of static fields" if isinstance(first, Pairs) else "trajectories"
        raise UserError(
            f"{type(equation).__name__} does not fit: {dataset.path} holds {kind}. Say another equation."
        )
    if isinstance(first, Pairs) and isinstance(equation, Elliptic):
        inputs = channel_names(equation.inputs, dimension)
        if len(inputs) != len(first.input_channels):
            raise UserError(
                f"{type(equation).__name__} has the inputs {inputs}; {dataset.path} has {first.input_channels}."
            )
    return known


def _from_file(names: tuple[str, ...]) -> str:
    return f"{', '.join(names)} from the file" if names else ""


def stationary(pde: Any, domain: Any, dt: float, substeps: int | None) -> Callable[[Tensor], Tensor]:
    """The map from the inputs of a stationary equation to its solution.

    Raises:
        UserError: there is no solver for it here.
    """
    from sciml.solvers.elliptic import solve_darcy, solve_poisson

    if isinstance(pde, Darcy):
        return lambda a: solve_darcy(a[:, :1], a[:, 1:], domain)
    if isinstance(pde, Poisson):
        return lambda a: solve_poisson(a, domain)
    raise UserError(f"No solver checks {type(pde).__name__} here; known are Darcy and Poisson.")
