"""Functions of states that `Nonlinear` holds: quadratic invariants, totals of a gas, what an equation states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.constraints.base import checked_channels, select
from sciml.constraints.conserved_mean import ConservedMean
from sciml.domains import Grid, Mesh, Point
from sciml.odes import ODE
from sciml.pdes.base import PDE
from sciml.pdes.euler import CompressibleEuler

Variables = Literal["primitive", "conservative"]


class Quadratic(nn.Module):
    """1/2 <u' M u>, such as the kinetic energy, and if asked also the means <u_c>, such as the momentum.

    Where only the energy is held and M = 1, `Energy` does it by a closed form that keeps the means; this one finds the
    nearest state.

    Args:
        domain: gives the volumes; <.> is the volume-weighted mean.
        matrix: symmetric M (K, K) over the channels, the identity where left out.
        momentum: also the K means, before the energy.
        channels: numbers of the K channels, all where left out.

    Raises:
        ValueError: M is not symmetric, or of another size than the channels.
    """

    def __init__(
        self,
        domain: Grid | Mesh,
        matrix: Sequence[Sequence[float]] | None = None,
        momentum: bool = False,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.channels = checked_channels(channels, "Quadratic")
        self.means = ConservedMean(domain)
        self.momentum = momentum
        self.matrix = None if matrix is None else tuple(tuple(float(x) for x in row) for row in matrix)
        if self.matrix is not None:
            size = len(self.matrix)
            square = all(len(row) == size for row in self.matrix)
            if not square or any(
                self.matrix[i][j] != self.matrix[j][i] for i in range(size) for j in range(i)
            ):
                raise ValueError(f"Quadratic got the matrix {self.matrix}; expected a symmetric one.")
            if self.channels is not None and len(self.channels) != size:
                raise ValueError(
                    f"Quadratic got a matrix of {size} rows for {len(self.channels)} channels; expected one for each."
                )

    def forward(self, u: Tensor) -> Tensor:
        """(B, C, *points) -> (B, 1), or (B, K + 1) with the means, in float64."""
        z = select(u, self.channels, "Quadratic").to(torch.float64)
        weighted = z
        if self.matrix is not None:
            if z.shape[1] != len(self.matrix):
                raise ValueError(
                    f"Quadratic has a matrix of {len(self.matrix)} rows for a state of {z.shape[1]} channels; expected one "
                    "for each."
                )
            matrix = torch.tensor(self.matrix, dtype=z.dtype, device=z.device)
            weighted = torch.einsum("ck,bk...->bc...", matrix, z)
        energy = 0.5 * self.means.mean(z * weighted).sum(dim=1, keepdim=True)
        return torch.cat([self.means.mean(z), energy], dim=1) if self.momentum else energy


class GasTotals(nn.Module):
    """Means of mass, momentum and energy of an ideal gas, held together.

    States are density, D velocities and pressure ("primitive", where momentum and energy are nonlinear) or density, D
    momenta and energy density ("conservative", where `ConservedMean` holds them in closed form).

    Args:
        domain: gives the volumes.
        gamma: ratio of specific heats.
        variables: see above.

    Raises:
        ValueError: the kind of variables is unknown, or gamma is not above 1.
    """

    def __init__(self, domain: Grid | Mesh, gamma: float = 1.4, variables: Variables = "primitive") -> None:
        super().__init__()
        if variables not in get_args(Variables):
            raise ValueError(
                f"GasTotals got variables={variables!r}; expected one of {list(get_args(Variables))}."
            )
        self.gas = CompressibleEuler(gamma=gamma)
        self.variables = variables
        self.means = ConservedMean(domain)
        axes = ("x", "y", "z")[: domain.dimension]
        self.names = ("mass", *(f"momentum_{a}" for a in axes), "energy")

    def forward(self, u: Tensor) -> Tensor:
        """(B, D + 2, *points) -> (B, D + 2) in float64."""
        if u.shape[1] != len(self.names):
            raise ValueError(
                f"GasTotals got a state of {u.shape[1]} channels; expected {len(self.names)}: density, one velocity or "
                "momentum per axis, pressure or energy."
            )
        u = u.to(torch.float64)
        return self.means.mean(self.gas.conservative(u) if self.variables == "primitive" else u)


class Invariants(nn.Module):
    """What the exact flow of an equation keeps, as the equation itself states it, per volume of the domain.

    Args:
        pde: the equation, or a system of ordinary differential equations.
        domain: where it is solved.
        only: names of the invariants to hold, all where left out.

    Raises:
        ValueError: the equation keeps nothing on this domain, or not what `only` names.
    """

    def __init__(
        self, pde: PDE | ODE, domain: Grid | Mesh | Point, only: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        self.pde = pde
        self.domain = domain
        count = len(pde.channels(domain.dimension))
        known = tuple(self._evaluate(torch.ones(1, count, *domain.shape, dtype=torch.float64)))
        wanted = known if only is None else tuple(only)
        unknown = [name for name in wanted if name not in known]
        if not wanted or unknown:
            raise ValueError(
                f"Invariants of {type(pde).__name__} on this domain are {list(known)}; got only={unknown or wanted}."
            )
        self.names = wanted
        self.volume = float(domain.weights().sum())

    def _evaluate(self, u: Tensor) -> Mapping[str, Tensor]:
        return self.pde.invariants(u) if isinstance(self.pde, ODE) else self.pde.invariants(u, self.domain)

    def forward(self, u: Tensor) -> Tensor:
        """(B, C, *points) -> (B, q) in float64 [unit of the invariant / volume]."""
        found = self._evaluate(u.to(torch.float64))
        return torch.stack([found[name] for name in self.names], dim=1) / self.volume
