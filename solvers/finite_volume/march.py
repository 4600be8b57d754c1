"""Advance cell averages through time: stable substeps, strong-stability-preserving stages, first-order rescue."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sciml.domains import Grid, Mesh
from sciml.pdes.admissible import first_violation
from sciml.pdes.base import ConservationLaw
from sciml.solvers.finite_volume.ghosts import COPY, WRAP, with_ghosts

TimeName = Literal["ssprk3", "ssprk2"]
# A time, or of each sample its own, (B, 1, ..., 1).
Duration = float | Tensor
# (u, h, Euler step) -> u after h.
Stages = Callable[[Tensor, Duration, Callable[[Tensor, Duration], Tensor]], Tensor]
# (u, h, cells of first order) -> mean rate of change over the next h.
Over = Callable[[Tensor, Duration, Tensor | None], Tensor]

# A substep at whose end waves are faster by this factor than when it was planned is taken again, so much shorter:
# the waves that a jump sends out are not known before they are there. At most so often in a row.
GROWTH, SHORTER, AGAIN = 1.2, 0.2, 10

# How often cells around those that left the admissible states are added before they are given up.
_RESCUES = 4


def hancock(u: Tensor, h: Duration, euler: Callable[[Tensor, Duration], Tensor]) -> Tensor:
    """One Euler step with fluxes of the middle of the step, which the scheme predicts: second order."""
    return euler(u, h)


def ssprk2(u: Tensor, h: Duration, euler: Callable[[Tensor, Duration], Tensor]) -> Tensor:
    """Heun's method as averages of Euler steps, second order. Shu and Osher (1988)."""
    return 0.5 * u + 0.5 * euler(euler(u, h), h)


def ssprk3(u: Tensor, h: Duration, euler: Callable[[Tensor, Duration], Tensor]) -> Tensor:
    """Strong-stability-preserving Runge-Kutta, third order. Shu and Osher (1988)."""
    first = euler(u, h)
    second = 0.75 * u + 0.25 * euler(first, h)
    return u / 3 + 2 / 3 * euler(second, h)


STAGES: dict[str, Stages] = {"sweeps": hancock, "hancock": hancock, "ssprk3": ssprk3, "ssprk2": ssprk2}


def check_options(
    maker: str,
    dt: float,
    cfl: float | None,
    substeps: int | None,
    max_substeps: int,
    choices: Mapping[str, tuple[str, tuple[str, ...]]],
) -> None:
    """Refuse what no scheme on cells can do.

    Args:
        maker: the function that was called, for the message.
        dt, cfl, substeps, max_substeps: as in `finite_volume`.
        choices: name of an argument -> (what was given, what is known).

    Raises:
        ValueError: says what was found and what was expected.
    """
    for name, (value, known) in choices.items():
        if value not in known:
            raise ValueError(f"{maker} got {name}={value!r}; expected one of {list(known)}.")
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"{maker} got dt={dt}; expected a positive time.")
    if cfl is not None and not 0 < cfl <= 1:
        raise ValueError(f"{maker} got cfl={cfl}; expected above 0 and at most 1, such as 0.4.")
    if substeps is not None and substeps < 1:
        raise ValueError(f"{maker} got substeps={substeps}; expected at least 1, or None to choose.")
    if max_substeps < 1:
        raise ValueError(f"{maker} got max_substeps={max_substeps}; expected at least 1.")


class CellStep(ABC):
    """A Step that advances cell averages (B, C, *cells) by `dt` with as many substeps as are stable.

    A scheme gives `rate` and `courant`, and may say which states are admissible. On a mesh, where `*cells` are the
    control volumes around its nodes, it also says which of them are neighbours.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: the fixed number of substeps, or None where the CFL condition chooses.
        last_substeps: how many the last call took.
        fallbacks: how many cells, over all calls so far, were computed again at first order because
            a stage left the admissible states.
        lost: of the last sample that could not be kept among them, which quantity left them where; None
            where all were.
        method: the scheme in words.
    """

    method: str
    domain: Grid | Mesh
    # The function that messages name.
    maker: ClassVar[str] = "finite_volume"

    def __init__(
        self,
        pde: ConservationLaw,
        domain: Grid | Mesh,
        dt: float,
        *,
        cfl: float,
        substeps: int | None,
        max_substeps: int,
        time: str,
    ) -> None:
        self.pde, self.domain, self.dt = pde, domain, float(dt)
        self.channels = pde.channels(domain.dimension)
        self.cfl, self.substeps, self.max_substeps, self.time = cfl, substeps, max_substeps, time
        self.last_substeps = 0
        self.fallbacks = 0
        self.lost: str | None = None
        self._stages = STAGES[time]

    @abstractmethod
    def rate(self, u: Tensor, first_order: Tensor | None = None) -> Tensor:
        """Right-hand side of the semi-discrete scheme, (B, C, *cells) -> (B, C, *cells) [u / time].

        Args:
            u: cell averages.
            first_order: (B, 1, *cells), cells of which all fluxes are those of a robust first-order scheme.
        """

    @abstractmethod
    def courant(self, u: Tensor) -> Tensor:
        """What a substep is multiplied by for its CFL number, (B,) [1/time]; at most 1 is stable."""

    def admissible(self, u: Tensor) -> Tensor | None:
        """Where a state may be, (B, 1, *cells) of bools; None where all may."""
        return None

    def over(self, u: Tensor, h: Duration, first_order: Tensor | None = None) -> Tensor:
        """What `rate` is in the mean over the next h, as far as the scheme predicts it; else at u."""
        return self.rate(u, first_order)

    def substep(self, u: Tensor, h: Duration, index: Tensor, last: Tensor) -> Tensor:
        """The state after h.

        Args:
            u: cell averages (B, C, *cells).
            h: time, or of each sample its own; where it is 0 the sample stays as it is.
            index: how many substeps each sample has taken in this Step, (B,).
            last: whether its Step ends with this one, (B,) of bools.
        """
        return self._stages(u, h, self.euler)

    def compiled(self, u: Tensor) -> Tensor | None:
        """The state after `dt` from loops that are faster than tensors, or None where there are none for it."""
        return None

    def __call__(self, u: Tensor, /) -> Tensor:
        self._check(u)
        self.lost = None
        if self.substeps is not None:
            self._check_courant(u, self.substeps)
        fast = self.compiled(u)
        if fast is not None:
            return fast
        if self.substeps is None:
            return self._adapted(u)
        for k in range(self.substeps):
            index = torch.full((len(u),), k, device=u.device)
            u = self.substep(u, self.dt / self.substeps, index, index == self.substeps - 1)
        self.last_substeps = self.substeps
        return u

    def _adapted(self, u: Tensor) -> Tensor:
        """Substeps planned anew before each one, of each sample for itself, because waves that meet make faster ones.

        Samples that have blown up go to the end in one; those that would need more than `max_substeps` become NaN.
        """
        rates = self._rates(u)
        u = u.expand(len(rates), *u.shape[1:])  # parameters of several samples for one state
        shape = (-1, *[1] * (u.ndim - 1))
        remaining, short = torch.full_like(rates, self.dt), torch.ones_like(rates)
        taken, again = torch.zeros_like(rates), torch.zeros_like(rates)
        while bool((remaining > 0).any()):
            running = remaining > 0
            # A hair off, so that rounding in an exact fraction does not cost one more substep.
            counts = rates * remaining / (self.cfl * short) * (1 - 1e-12)
            counts = torch.where(torch.isfinite(counts), counts, 1.0)
            many = running & (counts > self.max_substeps - taken)
            if bool(many.any()):
                sample = int(many.nonzero()[0])
                self.lost = f"sample {sample}: more than max_substeps={self.max_substeps} are needed"
                u = torch.where(many.reshape(shape), torch.nan, u)
                remaining = torch.where(many, 0.0, remaining)
                continue
            if self.time in ("sweeps", "hancock"):
                # Sharpest where they are as long as they may be; a pair of sweeps at the end is of two alike.
                full = (counts > 2) | ((counts > 1) & (taken % 2 == 1))
                counts = torch.where(full, counts, counts.ceil().clamp(min=1.0))
            else:
                counts = counts.ceil().clamp(min=1.0)
            h = torch.where(running, remaining / counts, 0.0)
            new = self.substep(u, h.to(u.dtype).reshape(shape), taken, counts <= 1)
            found = self._rates(new)
            grown = running & torch.isfinite(found) & (found > GROWTH * rates) & (again < AGAIN)
            done = running & ~grown
            u = new if bool(done.all()) else torch.where(done.reshape(shape), new, u)
            # The last substep takes all that is left: the step lands on dt exactly.
            remaining = torch.where(done, torch.where(counts > 1, remaining - h, 0.0), remaining)
            rates = torch.where(running, found, rates)
            short = torch.where(grown, SHORTER, torch.ones_like(rates))
            again, taken = torch.where(grown, again + 1, 0.0), taken + done
        self.last_substeps = int(taken.max()) if len(taken) else 0
        return u

    def euler(self, u: Tensor, h: Duration, over: Over | None = None) -> Tensor:
        """u + h over(u, h); cells that leave the admissible states are computed again at first order.

        The fluxes at all sides of such cells and their neighbours are replaced, so that what is conserved
        stays conserved; where that drives other cells out, these are added. Cells that cannot be kept become
        NaN. Clain, Diot and Loubere, J. Comput. Phys. 230 (2011).
        """
        over = over or self.over
        new = u + h * over(u, h, None)
        with torch.no_grad():
            good = self.admissible(new)
            if good is None or bool(good.all()):
                return new
            # Only what was admissible before can be helped; the rest has blown up already.
            before = self.admissible(u)
            assert before is not None
            helped = before.flatten(1).all(dim=1).reshape(-1, *([1] * (u.ndim - 1)))
            bad = ~good & helped
            marked = torch.zeros_like(bad)
        for _ in range(_RESCUES):
            if not bool(bad.any()):
                return new
            with torch.no_grad():
                before_count = int(marked.sum())
                marked = marked | self._spread(bad)
                grown = int(marked.sum()) > before_count
                self.fallbacks += int(bad.sum())
            if not grown:
                break
            # Samples without marked cells get the numbers that they had.
            new = u + h * over(u, h, marked)
            with torch.no_grad():
                still = self.admissible(new)
                assert still is not None
                bad = ~still & helped
        if bool(bad.any()):
            sample, _, *cell = bad.nonzero()[0].tolist()
            self.lost = (
                first_violation(self.pde, new[sample : sample + 1], self.domain)
                or f"sample {sample}: no finite state at cell {tuple(cell)}"
            ).replace("sample 0", f"sample {sample}", 1)
            new = torch.where(bad, torch.nan, new)
        return new

    def _spread(self, marked: Tensor) -> Tensor:
        """The cells and their neighbours across every side, (B, 1, *cells) of bools."""
        assert isinstance(self.domain, Grid)  # schemes on a mesh have their own
        for axis, sides in enumerate(self.domain.sides):
            edge = WRAP if sides[0] == "periodic" else COPY
            near = with_ghosts(marked, axis, 1, edge, edge)
            count = marked.shape[axis + 2]
            marked = near.narrow(axis + 2, 0, count) | marked | near.narrow(axis + 2, 2, count)
        return marked

    def _check(self, u: Tensor) -> None:
        """Refuse other shapes, and finite states that the law does not admit."""
        expected = (len(self.channels), *self.domain.shape)
        if tuple(u.shape[1:]) != expected:
            raise ValueError(
                f"{self.maker} got a state of shape {tuple(u.shape)}; expected (B, *{expected}) with "
                f"channels {self.channels}."
            )
        with torch.no_grad():
            good = self.admissible(u)
            if good is None or bool(good.all()):
                return
            found = first_violation(self.pde, u, self.domain)
        if found is not None:
            raise ValueError(
                f"{self.maker} got a state that {type(self.pde).__name__} does not admit, {found}. Mend the start, or "
                "whatever gave this state."
            )

    def _check_courant(self, u: Tensor, substeps: int) -> None:
        """Refuse fixed substeps that are too long for a state."""
        rates = self._rates(u)
        rates = rates[torch.isfinite(rates)]
        number = float(rates.max()) * self.dt / substeps if len(rates) else 0.0
        if number > 1.0:
            raise ValueError(
                f"{self.maker} with substeps={substeps} got a state of CFL number {number:.3g}; expected at most "
                f"1. Use at least {math.ceil(number * substeps / self.cfl)} substeps, a smaller dt, or substeps=None, "
                "which chooses by itself."
            )

    def _rates(self, u: Tensor) -> Tensor:
        with torch.no_grad():
            return self.courant(u).to(torch.float64)
