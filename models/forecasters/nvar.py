"""Polynomials of the last few states."""

from __future__ import annotations

from itertools import combinations_with_replacement

import torch
from torch import Tensor

from sciml.domains import Domain
from sciml.models.forecasters.base import Forecaster, LeastSquares, histories, in_parts, state_size


class NVAR(Forecaster):
    """The change in one step as a polynomial of the last few states, by ridge regression.

    Features are one, the last `delays` states `stride` steps apart, and all their products of up to `degree` factors.
    With `degree=1` this is linear autoregression, AR(delays). Give it normalised states.

    Args:
        in_channels: C.
        delays: k, how many states.
        degree: p, the highest number of factors.
        stride: steps between two of the states.
        ridge: added to the squared weights, against the sum of squared errors.
        domain: where the points lie; none for states without space.

    Raises:
        ValueError: a number is out of range, or there would be more than 20,000 features.

    Gauthier, Bollt, Griffith and Barbosa, Nature Communications 12 (2021) 5564.
    """

    weights: Tensor

    def __init__(
        self,
        in_channels: int,
        delays: int = 2,
        degree: int = 2,
        stride: int = 1,
        ridge: float = 1e-6,
        domain: Domain | None = None,
    ) -> None:
        size = state_size(in_channels, domain, "NVAR")
        if min(delays, degree, stride) < 1 or not ridge >= 0:
            raise ValueError(
                f"NVAR got delays={delays}, degree={degree}, stride={stride}, ridge={ridge}; expected at least 1, "
                "and a ridge of 0 or more."
            )
        super().__init__(size, (delays - 1) * stride + 1)
        self.delays, self.degree, self.stride, self.ridge = delays, degree, stride, float(ridge)
        n, count = delays * size, 1
        total = 1
        for k in range(1, degree + 1):
            count = count * (n + k - 1) // k
            total += count
        if total > 20_000:
            raise ValueError(
                f"NVAR would have {total} features of {n} numbers up to degree {degree}; take fewer delays or a lower "
                "degree."
            )
        for k in range(2, degree + 1):
            chosen = torch.tensor(list(combinations_with_replacement(range(n), k)))
            self.register_buffer(f"products_{k}", chosen.T.contiguous(), persistent=False)
        self.register_buffer("weights", torch.zeros(total, size, dtype=torch.float64))

    def features(self, carried: Tensor) -> Tensor:
        """What the change is linear in, (B, history n) -> (B, F)."""
        line = carried.reshape(len(carried), self.history, self.size)[:, :: self.stride].flatten(1)
        parts = [torch.ones_like(line[:, :1]), line]
        for k in range(2, self.degree + 1):
            product = line[:, self.get_buffer(f"products_{k}")[0]]
            for index in self.get_buffer(f"products_{k}")[1:]:
                product = product * line[:, index]
            parts.append(product)
        return torch.cat(parts, dim=1)

    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        pieces, following = histories(self._checked(trajectories, self.history + 1), self.history)
        problem = LeastSquares(len(self.weights), self.size, self.ridge)
        for piece, after in in_parts(pieces, following):
            problem.add(self.features(piece.flatten(1)), after - piece[:, -1])
        self.weights.copy_(problem.solve())

    def begin(self, history: Tensor) -> Tensor:
        return history.double().flatten(1)

    def advance(self, carried: Tensor) -> Tensor:
        new = self.show(carried) + self.features(carried) @ self.weights
        return torch.cat([carried[:, self.size :], new], dim=1)

    def show(self, carried: Tensor) -> Tensor:
        return carried[:, -self.size :]
