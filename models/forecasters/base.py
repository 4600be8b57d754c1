"""What a forecast from a piece of history promises, and least squares in bounded memory."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from sciml.domains import Cloud, Domain, Point
from sciml.step import FunctionStep


def state_size(in_channels: int, domain: Domain | None, owner: str) -> int:
    """Numbers of a state (C, *points) laid flat.

    Raises:
        ValueError: there are none.
    """
    if in_channels < 1:
        raise ValueError(f"{owner} got in_channels={in_channels}; expected at least 1.")
    if domain is None or isinstance(domain, Cloud | Point):
        return in_channels
    return in_channels * math.prod(domain.shape)


class Forecaster(nn.Module, ABC):
    """What follows a piece of history, fitted at once, most in closed form: no gradients, no updates.

    It carries numbers of its own along, such as the last few states or a reservoir, since the present state alone
    does not determine the forecast: `begin` makes them of the last `history` states, `advance` takes them one step
    on, `show` says which state they stand for. States are laid flat, (B, n), and may be those of a field. All is
    computed in double precision, and all that is learned are buffers.

    Attributes:
        size: n.
        history: how many states a forecast starts from.
    """

    def __init__(self, size: int, history: int = 1) -> None:
        super().__init__()
        if size < 1 or history < 1:
            raise ValueError(
                f"{type(self).__name__} got {size} numbers and a history of {history}; expected at least 1."
            )
        self.size, self.history = int(size), int(history)

    @abstractmethod
    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        """Learn from trajectories (B, T, n), evenly spaced in time; fitting again forgets what was learned.

        Raises:
            ValueError: they are too short, of other states, or not finite.
        """

    @abstractmethod
    def begin(self, history: Tensor) -> Tensor:
        """The last states (B, history, n), the present one last, to what is carried (B, S)."""

    @abstractmethod
    def advance(self, carried: Tensor) -> Tensor:
        """What is carried (B, S), one step later."""

    @abstractmethod
    def show(self, carried: Tensor) -> Tensor:
        """The states (B, n) that what is carried stands for."""

    @torch.no_grad()
    def forecast(self, history: Tensor, steps: int) -> Tensor:
        """The next states: history (B, history or more, n) -> (B, steps, n)."""
        carried = self.begin(self._last(history))
        found = []
        for _ in range(steps):
            carried = self.advance(carried)
            found.append(self.show(carried))
        return torch.stack(found, dim=1).to(history.dtype)

    def as_step(self, dt: float) -> FunctionStep:
        """`advance` as a Step of what is carried, (B, S), for Jacobians and Lyapunov exponents of the forecast."""
        with torch.no_grad():
            count = self.begin(torch.zeros(1, self.history, self.size, dtype=torch.float64)).shape[1]
        return FunctionStep(self.advance, dt, Point(), tuple(f"carried_{i + 1}" for i in range(count)))

    def _last(self, history: Tensor) -> Tensor:
        if history.ndim != 3 or history.shape[1] < self.history or history.shape[2] != self.size:
            raise ValueError(
                f"{type(self).__name__} got a history of shape {tuple(history.shape)}; expected (B, T, "
                f"{self.size}) with T >= {self.history}."
            )
        return history[:, history.shape[1] - self.history :].double()

    def _checked(self, trajectories: Tensor, least: int) -> Tensor:
        if trajectories.ndim != 3 or trajectories.shape[2] != self.size or trajectories.shape[1] < least:
            raise ValueError(
                f"{type(self).__name__} got trajectories of shape {tuple(trajectories.shape)}; expected (B, T, "
                f"{self.size}) with T >= {least}."
            )
        if not bool(torch.isfinite(trajectories).all()):
            raise ValueError(f"{type(self).__name__} got trajectories with NaN or Inf.")
        return trajectories.detach().double()


def histories(trajectories: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """All pieces of trajectories (B, T, n) as (N, length, n), and the states (N, n) that follow them."""
    pieces = trajectories[:, :-1].unfold(1, length, 1).transpose(2, 3)
    return pieces.flatten(0, 1), trajectories[:, length:].flatten(0, 1)


class LeastSquares:
    """min |P W - Y|^2 + ridge |W|^2 from rows that come in parts, in the memory of the columns alone.

    By orthogonal triangular factors of [P, Y], one part after another: as exact as one QR decomposition of all rows,
    where normal equations would lose half of the digits.

    Args:
        features: columns of P.
        targets: columns of Y.
        ridge: added to the squares of the weights, as it is.
    """

    def __init__(self, features: int, targets: int, ridge: float = 0.0) -> None:
        self.features = features
        self.ridge = ridge
        self._triangle = torch.zeros(0, features + targets, dtype=torch.float64)

    def add(self, p: Tensor, y: Tensor) -> None:
        """Take in rows (N, features) and (N, targets)."""
        rows = torch.cat([p, y], dim=1)
        self._triangle = torch.linalg.qr(torch.cat([self._triangle.to(rows), rows]), mode="r").R

    def solve(self, ridge: float | None = None) -> Tensor:
        """W, (features, targets)."""
        n, r = self.features, self._triangle
        ridge = self.ridge if ridge is None else ridge
        rows = torch.cat([r[:, :n], math.sqrt(ridge) * torch.eye(n, dtype=r.dtype, device=r.device)])
        right = torch.cat([r[:, n:], r.new_zeros(n, r.shape[1] - n)])
        if ridge > 0:
            q, triangle = torch.linalg.qr(rows)
            return torch.linalg.solve_triangular(triangle, q.mT @ right, upper=True)
        return torch.linalg.lstsq(
            rows, right, driver="gelsd" if rows.device.type == "cpu" else None
        ).solution


def in_parts(*tensors: Tensor, rows: int = 8192) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of equally many rows, some of them at a time."""
    parts: Iterable[tuple[Tensor, ...]] = zip(*(t.split(rows) for t in tensors), strict=True)
    yield from parts
