"""What flows of density one hold and lose: energy, enstrophy, dissipation, injection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.domains import Domain, Grid
from sciml.pdes.navier_stokes import NavierStokes
from sciml.pdes.parameters import Parameter


def kinetic_energy(u: Tensor, domain: Domain) -> Tensor:
    """<|u|^2>/2, the mean over the volume per unit mass, (..., D, *points) -> (...) [length^2/time^2].

    Leading axes are any: (B, D, *points) for states, (B, T, D, *points) for trajectories. On grids with
    walls and on meshes the mean is that of the quadrature weights.
    """
    flat, lead = _flat(u, domain, "kinetic_energy")
    return 0.5 * _mean(flat.square().sum(dim=1), domain).reshape(lead)


def enstrophy(u: Tensor, grid: Grid) -> Tensor:
    """<|curl u|^2>/2 on a periodic grid, (..., D, *points) -> (...) [1/time^2]."""
    flat, lead = _flat(u, grid, "enstrophy")
    return 0.5 * _mean(_spectral(grid, u).curl(flat).square().sum(dim=1), grid).reshape(lead)


def helicity(u: Tensor, grid: Grid) -> Tensor:
    """<u . curl u> on a periodic grid in 3D, (..., 3, *points) -> (...) [length/time^2]."""
    flat, lead = _flat(u, grid, "helicity")
    if grid.dimension != 3:
        raise ValueError(f"helicity got a grid of {grid.dimension} axes; plane flow has none, give three.")
    return _mean((flat * _spectral(grid, u).curl(flat)).sum(dim=1), grid).reshape(lead)


def dissipation(u: Tensor, grid: Grid, viscosity: Parameter) -> Tensor:
    """-nu <u . lap u> = nu <|grad u|^2>, the energy that viscosity takes on a periodic grid [length^2/time^3].

    (..., D, *points) -> (...). Twice viscosity times enstrophy where div u = 0. Summed from the
    Laplacian, so that it is what the solver takes from every mode, the Nyquist ones included.

    Args:
        u: velocity.
        grid: periodic.
        viscosity: nu [length^2/time], a number or one per entry of the first axis.
    """
    flat, lead = _flat(u, grid, "dissipation")
    lost = -_mean((flat * _spectral(grid, u).laplacian(flat)).sum(dim=1), grid).reshape(lead)
    return _per_sample(viscosity, lost) * lost


def energy_injection(u: Tensor, force: Tensor, domain: Domain) -> Tensor:
    """<u . f>, the power of a body force per unit mass, (..., D, *points) -> (...) [length^2/time^3].

    Args:
        u: velocity (..., D, *points).
        domain: with quadrature weights.
        force: f, broadcastable to u [length/time^2].
    """
    flat, lead = _flat(u * force, domain, "energy_injection")
    return _mean(flat.sum(dim=1), domain).reshape(lead)


def energy_budget(pde: NavierStokes, u: Tensor, grid: Grid) -> dict[str, Tensor]:
    """Terms of dE/dt = injection - drag - dissipation along a flow, each (B, ...) for u (B, ..., D, *points).

    "energy" [length^2/time^2] and "injection", "drag", "dissipation" and their sum "rate"
    [length^2/time^3]. Transport and pressure add nothing.
    """
    energy = kinetic_energy(u, grid)
    calc = _spectral(grid, u)
    flat, _ = _flat(u, grid, "energy_budget")
    force = pde.force(flat[:1], calc)
    if force is None:
        injection = torch.zeros_like(energy)
    else:
        while force.ndim < u.ndim:
            force = force.unsqueeze(1)
        injection = energy_injection(u, force, grid)
    drag = 2 * _per_sample(pde.drag, energy) * energy
    lost = dissipation(u, grid, pde.viscosity)
    return {
        "energy": energy,
        "injection": injection,
        "drag": drag,
        "dissipation": lost,
        "rate": injection - drag - lost,
    }


def _flat(u: Tensor, domain: Any, owner: str) -> tuple[Tensor, tuple[int, ...]]:
    """u as (N, D, *points), and its leading axes."""
    axes = len(domain.weights().shape)
    points = tuple(domain.weights().shape)
    if (
        u.ndim < axes + 1
        or tuple(u.shape[u.ndim - axes :]) != points
        or u.shape[-axes - 1] != domain.dimension
    ):
        raise ValueError(
            f"{owner} got a velocity of shape {tuple(u.shape)}; expected (..., {domain.dimension}, "
            f"{', '.join(map(str, points))}), one component per axis."
        )
    return u.reshape(-1, *u.shape[u.ndim - axes - 1 :]), tuple(u.shape[: u.ndim - axes - 1])


def _mean(density: Tensor, domain: Any) -> Tensor:
    """Mean over the volume, (N, *points) -> (N,)."""
    weights = domain.weights(dtype=density.dtype, device=density.device)
    return (density * (weights / weights.sum())).flatten(1).sum(dim=1)


def _spectral(grid: Grid, u: Tensor) -> Spectral:
    return Spectral(grid).to(u.device)


def _per_sample(value: Parameter, like: Tensor) -> Parameter:
    """A parameter ready to multiply (B, ...)."""
    if not isinstance(value, Tensor) or value.numel() == 1:
        return float(value)
    return value.to(like).reshape(-1, *[1] * (like.ndim - 1))
