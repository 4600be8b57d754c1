"""Say where and when a rollout blew up, and what most likely did it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.domains import Domain, Grid
from sciml.odes.base import ODE
from sciml.pdes.admissible import HasLimits, first_violation
from sciml.pdes.base import PDE, ConservationLaw, SemiLinear
from sciml.trajectory import first_non_finite

# A state is taken to be sound until it has grown by this factor over its start.
_GROWN = 3.0
# Share of the variance in the upper third of the modes that products reach, above which a front is cut off.
_TAIL = 1e-3
# Stable limit of h times the rate of transport for the exponential methods of order 3 and 4.
_COURANT = 1.0
# Share of its mean below which a density, depth or pressure counts as one of near vacuum.
_VACUUM = 1e-2
# Stable limit of h times the rate of explicit Runge-Kutta methods, on either axis.
_STABLE = 2.5


@dataclass(frozen=True)
class BlowUp:
    """The end of one sample's rollout.

    Attributes:
        sample: which of the batch.
        step: index of the first frame with a value that is not finite.
        time: its time [time].
        channel: name of the channel that was largest before it.
        position: where that was [length]; empty on a domain without coordinates.
        largest: the largest finite |u| before it.
        cause: what most likely did it, and what helps.
    """

    sample: int
    step: int
    time: float
    channel: str
    position: tuple[float, ...]
    largest: float
    cause: str

    def __str__(self) -> str:
        where = f" at ({', '.join(f'{x:.4g}' for x in self.position)})" if self.position else ""
        return (
            f"sample {self.sample} is not finite from step {self.step} (t = {self.time:.4g}) on; before it "
            f"|{self.channel}| reached {self.largest:.3g}{where}. {self.cause}"
        )


def blow_ups(
    states: Tensor,
    domain: Domain,
    dt: float,
    channels: tuple[str, ...],
    *,
    pde: PDE | ODE | None = None,
    substeps: int = 1,
) -> list[BlowUp]:
    """What became of each sample of a rollout (B, T, C, *points) that did not stay finite; empty where all did.

    Args:
        states: the frames, the first one the start.
        domain: where the points lie.
        dt: time between frames [time].
        channels: names of the C channels.
        pde: the equation or system; its rates tell a step that is too long. A system has one value a parameter.
        substeps: inner steps between two frames.
    """
    ends = first_non_finite(states)
    found = []
    for sample in torch.nonzero(ends < states.shape[1]).flatten().tolist():
        end = int(ends[sample])
        path = states[sample, :end]
        if end == 0:
            found.append(
                BlowUp(sample, 0, 0.0, channels[0], (), math.nan, "The start itself is not finite.")
            )
            continue
        last = path[-1]
        index = int(last.abs().argmax())
        channel, point = divmod(index, last[0].numel())
        position: tuple[float, ...] = ()
        if hasattr(domain, "coordinates"):
            position = tuple(domain.coordinates().flatten(1)[:, point].tolist())
        cause = _cause(path, domain, dt / substeps, pde)
        found.append(
            BlowUp(sample, end, end * dt, channels[channel], position, float(last.abs().max()), cause)
        )
    return found


def _cause(path: Tensor, domain: Domain, h: float, pde: PDE | ODE | None) -> str:
    """Judged on the last frame (C, *points) that has not grown much: later ones are all noise."""
    sizes = path.flatten(1).abs().amax(dim=1)
    sound = torch.nonzero(sizes <= _GROWN * sizes[0].clamp(min=1e-300)).flatten()
    frame = path[int(sound[-1])].double() if len(sound) else path[0].double()
    if isinstance(pde, ODE):
        turn = h * _rate(pde, frame)
        if turn > _STABLE:
            return (
                f"The substep {h:.3g} is too long for it: times the fastest rate of the system there it is {turn:.3g}, and "
                f"{_STABLE:g} is about the limit of explicit methods. Take {math.ceil(turn / _STABLE)} times as many "
                "substeps, or none, so that steps follow the error."
            )
    if isinstance(pde, ConservationLaw):
        found = _inadmissible(path, domain, pde)
        if found is not None:
            return found
    if isinstance(domain, Grid):
        if isinstance(pde, SemiLinear):
            speed = float(frame.abs().max())
            courant = h * pde.nonlinear_rate(domain, speed) if speed > 0 else 0.0
            if courant > _COURANT:
                return (
                    f"The substep {h:.3g} is too long for it: times the rate of the nonlinear part at values of "
                    f"{speed:.3g} it is {courant:.3g}, and {_COURANT:g} is about the limit. Take "
                    f"{math.ceil(courant / _COURANT)} times as many substeps."
                )
        # Shocks have a tail on any grid.
        if all(domain.periodic) and not isinstance(pde, ConservationLaw):
            share = _tail(frame, domain)
            if share > _TAIL:
                return (
                    f"The grid is too coarse for it: {share:.1%} of the variance lay in the shortest waves that it "
                    "resolves while the state was still sound. Take more points or more dissipation."
                )
    return (
        "The last sound state is resolved and the step within its limit there: the growth is the equation's own, "
        "or came within one frame. Store frames more often, or take more substeps and a finer grid."
    )


def _inadmissible(path: Tensor, domain: Domain, pde: ConservationLaw) -> str | None:
    """Which quantity of a law left its limits in the frames (T, C, *points), or came near; None where none did."""
    for number, frame in enumerate(path):
        found = first_violation(pde, frame.unsqueeze(0), domain)
        if found is not None:
            found = found.removeprefix("sample 0: ")
            return (
                f"In frame {number} the state was none that {type(pde).__name__} admits: {found}. Positive schemes keep "
                "such states out; whatever gave this one, a model or an interpolation, does not."
            )
    if not isinstance(pde, HasLimits):
        return None
    for limit in pde.limits(path[-1:].double()):
        values = limit.values.flatten()
        point = int(values.argmin())
        if (
            limit.high == math.inf
            and limit.low == 0
            and float(values[point]) < _VACUUM * float(values.mean())
        ):
            place = ""
            if hasattr(domain, "coordinates"):
                x = domain.coordinates().flatten(1)[:, point].tolist()
                place = f" at ({', '.join(f'{v:.4g}' for v in x)})"
            return (
                f"In the frame before, the {limit.name} was down to {float(values[point]):.3g}{place}, "
                f"{float(values[point]) / float(values.mean()):.1g} of its mean: near vacuum, where pressure is the small "
                "difference of energies and its sign is lost. Take a smaller cfl, first-order reconstruction or a start "
                "that does not tear itself apart."
            )
    return None


def _rate(ode: ODE, state: Tensor) -> float:
    """Largest |eigenvalue| of the Jacobian of rhs at a state (C,), [1/time]."""
    jacobian = torch.func.jacrev(lambda v: ode.rhs(v.unsqueeze(0))[0])(state)
    return float(torch.linalg.eigvals(jacobian).abs().max())


def _tail(frame: Tensor, grid: Grid) -> float:
    """Share of the variance in the upper third of the modes below the 2/3 rule, along any axis."""
    axes = tuple(range(-grid.dimension, 0))
    power = torch.fft.fftn(frame, dim=axes).abs().square().sum(dim=0)
    power[(0,) * grid.dimension] = 0.0
    high = torch.zeros(grid.shape, dtype=torch.bool)
    for axis, n in enumerate(grid.shape):
        k = torch.fft.fftfreq(n, 1 / n).abs()
        shape = [1] * grid.dimension
        shape[axis] = -1
        high |= ((k >= n * 2 / 9) & (k < n / 3)).reshape(shape)
    total = float(power.sum())
    return float(power[high].sum()) / total if total > 0 else 0.0
