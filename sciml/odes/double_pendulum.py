"""Two point masses on rods that hang one from the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.odes.base import Hamiltonian
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


@dataclass(frozen=True)
class DoublePendulum(Hamiltonian):
    """The plane double pendulum without friction, in Hamilton's form.

    Unknowns are the angles of the rods from the downward vertical and their conjugate momenta. With
    d = angle_1 - angle_2 and D = m_1 + m_2 sin(d)^2,

        H = (m_2 l_2^2 p_1^2 + (m_1 + m_2) l_1^2 p_2^2 - 2 m_2 l_1 l_2 p_1 p_2 cos d) / (2 m_2 l_1^2 l_2^2 D)
            - (m_1 + m_2) g l_1 cos(angle_1) - m_2 g l_2 cos(angle_2).

    H does not separate. The energy is kept; angles grow without bound where a rod turns over. Chaotic at
    energies well above the rest state. Landau and Lifshitz, Mechanics (1976), section 5, problem 1.

    Args:
        masses: m_1 and m_2 [kg], positive.
        lengths: l_1 and l_2 [m], positive.
        gravity: g [m/s^2].
    """

    masses: tuple[Parameter, Parameter] = (1.0, 1.0)
    lengths: tuple[Parameter, Parameter] = (1.0, 1.0)
    gravity: Parameter = 9.81

    def __post_init__(self) -> None:
        for name in ("masses", "lengths"):
            pair = getattr(self, name)
            if not isinstance(pair, Sequence) or len(pair) != 2:
                raise ValueError(f"DoublePendulum got {name}={pair!r}; expected two.")
            for value in pair:
                check_parameter("DoublePendulum", name, value, minimum=0.0)
                if not bool((torch.as_tensor(value).detach() > 0).all()):
                    raise ValueError(f"DoublePendulum got {name}={pair}; expected positive values.")
        check_parameter("DoublePendulum", "gravity", self.gravity)

    @property
    def fields(self) -> tuple[Field, ...]:
        return (
            Field("angle_1", "rad"),
            Field("angle_2", "rad"),
            Field("momentum_1", "kg m^2/s"),
            Field("momentum_2", "kg m^2/s"),
        )

    def _constants(self, like: Tensor) -> tuple[Parameter, ...]:
        return tuple(fit(p, like) for p in (*self.masses, *self.lengths, self.gravity))

    def hamiltonian(self, u: Tensor) -> Tensor:
        a1, a2, p1, p2 = u.unbind(1)
        m1, m2, l1, l2, g = self._constants(a1)
        d = a1 - a2
        turning = (
            m2 * (l2 * p1) ** 2 + (m1 + m2) * (l1 * p2) ** 2 - 2 * m2 * l1 * l2 * p1 * p2 * torch.cos(d)
        )
        moving = turning / (2 * m2 * (l1 * l2) ** 2 * (m1 + m2 * torch.sin(d) ** 2))
        return moving - (m1 + m2) * g * l1 * torch.cos(a1) - m2 * g * l2 * torch.cos(a2)

    def rhs(self, u: Tensor) -> Tensor:
        a1, a2, p1, p2 = u.unbind(1)
        m1, m2, l1, l2, g = self._constants(a1)
        cos, sin = torch.cos(a1 - a2), torch.sin(a1 - a2)
        spread = m1 + m2 * sin**2
        turning = m2 * (l2 * p1) ** 2 + (m1 + m2) * (l1 * p2) ** 2 - 2 * m2 * l1 * l2 * p1 * p2 * cos
        # Minus the slope of the moving part in a1, and plus that in a2: it knows their difference only.
        twist = turning * sin * cos / (l1 * l2 * spread) ** 2 - p1 * p2 * sin / (l1 * l2 * spread)
        return torch.stack(
            [
                (l2 * p1 - l1 * p2 * cos) / (l1**2 * l2 * spread),
                ((m1 + m2) * l1 * p2 - m2 * l2 * p1 * cos) / (m2 * l1 * l2**2 * spread),
                twist - (m1 + m2) * g * l1 * torch.sin(a1),
                -twist - m2 * g * l2 * torch.sin(a2),
            ],
            dim=1,
        )

    def initial(self, samples: int, generator: torch.Generator) -> Tensor:
        """At rest, with angles evenly between -pi/2 and pi/2."""
        angles = torch.pi * (torch.rand(samples, 2, generator=generator, dtype=torch.float64) - 0.5)
        return torch.cat([angles, torch.zeros_like(angles)], dim=1)
