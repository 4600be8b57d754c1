"""What a system of ordinary differential equations promises, whatever integrates it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciml.trajectory import Field, channel_names


class ODE(ABC):
    """An autonomous system u' = rhs(u) of C unknowns without space; states are (B, C).

    Subclasses are frozen dataclasses. Their parameters are floats, or tensors (B,) that give each sample of
    a batch its own. A system that depends on time carries its phase as one more unknown.
    """

    @property
    @abstractmethod
    def fields(self) -> tuple[Field, ...]:
        """The C unknowns with their units, each a scalar."""

    @abstractmethod
    def rhs(self, u: Tensor) -> Tensor:
        """Right-hand side, (B, C) -> (B, C) [u / time]. Differentiable, any float dtype."""

    def invariants(self, u: Tensor) -> Mapping[str, Tensor]:
        """Quantities that the exact flow keeps, name -> (B,); none unless the system states them."""
        return {}

    def initial(self, samples: int, generator: torch.Generator) -> Tensor:
        """Random states of the usual size, (samples, C) float64; standard normal unless stated otherwise."""
        return torch.randn(samples, len(self.fields), generator=generator, dtype=torch.float64)

    def channels(self, dimension: int = 0) -> tuple[str, ...]:
        """Names of the C channels; the argument is there for the sake of partial differential equations."""
        return channel_names(self.fields, dimension)


class Hamiltonian(ODE):
    """q' = dH/dp, p' = -dH/dq with states u = (q_1, ..., q_n, p_1, ..., p_n).

    The flow keeps H and is symplectic; `build` takes a method that is symplectic too. `rhs` may be left to
    differentiation of H, which takes several times as long as a statement of its own.
    """

    @abstractmethod
    def hamiltonian(self, u: Tensor) -> Tensor:
        """H of the states, (B, C) -> (B,), as a rule the energy."""

    def rhs(self, u: Tensor) -> Tensor:
        slope = torch.func.grad(lambda v: self.hamiltonian(v).sum())(u)
        by_q, by_p = slope.chunk(2, dim=1)
        return torch.cat([by_p, -by_q], dim=1)

    def invariants(self, u: Tensor) -> Mapping[str, Tensor]:
        return {"energy": self.hamiltonian(u)}


class Separable(Hamiltonian):
    """A Hamiltonian H = T(p) + V(q): steps that kick and drift in turn are explicit."""

    @abstractmethod
    def kinetic(self, p: Tensor) -> Tensor:
        """T, (B, n) -> (B,)."""

    @abstractmethod
    def potential(self, q: Tensor) -> Tensor:
        """V, (B, n) -> (B,)."""

    def velocity(self, p: Tensor) -> Tensor:
        """q' = dT/dp, (B, n) -> (B, n)."""
        return torch.func.grad(lambda v: self.kinetic(v).sum())(p)

    def force(self, q: Tensor) -> Tensor:
        """p' = -dV/dq, (B, n) -> (B, n)."""
        return -torch.func.grad(lambda v: self.potential(v).sum())(q)

    def hamiltonian(self, u: Tensor) -> Tensor:
        q, p = u.chunk(2, dim=1)
        return self.kinetic(p) + self.potential(q)

    def rhs(self, u: Tensor) -> Tensor:
        q, p = u.chunk(2, dim=1)
        return torch.cat([self.velocity(p), self.force(q)], dim=1)


@dataclass(frozen=True)
class FunctionODE(ODE):
    """A system of one's own in one line.

        FunctionODE(lambda u: torch.stack([u[:, 1], -u[:, 0]], dim=1), ("x", "v"))

    Args:
        function: the right-hand side, (B, C) -> (B, C).
        unknowns: their names, or fields with units.
        conserved: quantities that the flow keeps, name -> function (B, C) -> (B,).

    Raises:
        ValueError: no unknowns, a name twice, or a field that is not a scalar.
    """

    function: Callable[[Tensor], Tensor]
    unknowns: Sequence[str | Field]
    conserved: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A bare string is a sequence of letters.
        given = (self.unknowns,) if isinstance(self.unknowns, str) else tuple(self.unknowns)
        fields = tuple(Field(f) if isinstance(f, str) else f for f in given)
        names = [f.name for f in fields]
        if not names or len(set(names)) < len(names) or any(f.rank for f in fields):
            raise ValueError(
                f"FunctionODE got unknowns {names} of ranks {[f.rank for f in fields]}; expected one or more "
                "scalars of different names."
            )
        object.__setattr__(self, "unknowns", fields)

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(f for f in self.unknowns if isinstance(f, Field))

    def rhs(self, u: Tensor) -> Tensor:
        return self.function(u)

    def invariants(self, u: Tensor) -> Mapping[str, Tensor]:
        return {name: quantity(u) for name, quantity in self.conserved.items()}
