"""A learned right-hand side and an adaptive solver, together a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from sciml.models.layers.activation import Activation, activation_function
from sciml.solvers.time import (
    DORMAND_PRINCE,
    TSITOURAS,
    AcceptedStep,
    AdaptiveSolution,
    EmbeddedPair,
    adaptive_rk,
)

Method = Literal["tsitouras", "dormand-prince"]
Gradient = Literal["through", "adjoint"]

PAIRS: dict[Method, EmbeddedPair] = {"tsitouras": TSITOURAS, "dormand-prince": DORMAND_PRINCE}


@dataclass(frozen=True)
class SolverStatistics:
    """What a solution took.

    Attributes:
        evaluations: calls of the field.
        accepted, rejected: steps.
        times: where the accepted steps begin, and the end [units of `duration`].
    """

    evaluations: int
    accepted: int
    rejected: int
    times: tuple[float, ...]


class DenseField(nn.Module):
    """A network of dense layers on the channels, the same one at each point: (B, C_in, *points) -> (B, C_out, *points).

    Args:
        in_channels, out_channels: C_in, C_out.
        width: of the hidden layers.
        layers: how many hidden ones.
        activation: nonlinearity; a smooth one, since the solver's order needs derivatives.
    """

    def __init__(
        self, in_channels: int, out_channels: int, width: int, layers: int, activation: Activation = "tanh"
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, width, layers) < 1:
            raise ValueError(
                f"DenseField got {in_channels} and {out_channels} channels, width={width}, layers={layers}; expected at "
                "least 1 of each."
            )
        sizes = [in_channels, *[width] * layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.last = nn.Linear(width, out_channels)
        self.act = activation_function(activation)

    def forward(self, u: Tensor) -> Tensor:
        v = u if u.ndim == 2 else u.movedim(1, -1)
        for layer in self.hidden:
            v = self.act(layer(v))
        v = self.last(v)
        return v if u.ndim == 2 else v.movedim(-1, 1)


class NeuralODE(nn.Module):
    """The flow of u' = f(u) over a fixed time, f a network: (B, C, *points) -> (B, C, *points).

    For states without space (B, C) and, with a field of convolutions or Fourier layers, for fields on grids: the
    network is then the right-hand side of a method of lines. The solver is adaptive and takes the same steps for the
    whole batch, those that its worst sample needs. After each call `statistics` says what it took.

    Explicit: a stiff field costs steps. On grids the diffusion that a field contains sets their size, which no
    training of the reaction can change. In float32 a tolerance below 1e-5 measures rounding.

    Args:
        in_channels: C.
        field: f, (B, C, *points) -> (B, C, *points) [units of u / units of duration]; dense layers on the channels if
            left out. Any function in Python; only a module's parameters are trained.
        duration: time that the step covers, in units of its own.
        width, layers, activation: of the dense layers.
        timed: the field sees the time as a further channel.
        method: embedded pair of orders 5 and 4.
        rtol, atol: tolerances of a step.
        gradient: "through" the accepted steps (discretise, then optimise), whose memory grows with them; "adjoint" solves
            the adjoint system backwards together with the state (optimise, then discretise) in constant memory. The
            second is right to the tolerance only, has no second derivatives, and fails where the flow forgets its
            past, as diffusion does: backwards that is unstable.
        max_steps: steps after which a solution is given up.

    Raises:
        ValueError: an option is unknown or a number out of its range.
        ArithmeticError: a solution took more than `max_steps`.

    Chen, Rubanova, Bettencourt and Duvenaud, Neural Ordinary Differential Equations (2018), arXiv 1806.07366; the
    adjoint is its appendix B.
    """

    watch: Callable[[AcceptedStep], None] | None

    def __init__(
        self,
        in_channels: int,
        field: nn.Module | Callable[[Tensor], Tensor] | None = None,
        duration: float = 1.0,
        width: int = 32,
        layers: int = 2,
        activation: Activation = "tanh",
        timed: bool = False,
        method: Method = "tsitouras",
        rtol: float = 1e-5,
        atol: float = 1e-5,
        gradient: Gradient = "through",
        max_steps: int = 10_000,
    ) -> None:
        super().__init__()
        if method not in PAIRS or gradient not in get_args(Gradient):
            raise ValueError(
                f"NeuralODE got method={method!r}, gradient={gradient!r}; expected one of {list(PAIRS)} and one of "
                f"{list(get_args(Gradient))}."
            )
        if not (duration > 0 and rtol > 0 and atol > 0 and max_steps > 0):
            raise ValueError(
                f"NeuralODE got duration={duration}, rtol={rtol}, atol={atol}, max_steps={max_steps}; expected positive "
                "numbers."
            )
        self.in_channels = in_channels
        if field is None:
            field = DenseField(in_channels + int(timed), in_channels, width, layers, activation)
        self.field = field
        self.duration = float(duration)
        self.timed = timed
        self.pair = PAIRS[method]
        self.rtol, self.atol = float(rtol), float(atol)
        self.gradient = gradient
        self.max_steps = max_steps
        # Beyond this number times the slope's size a step leaves the region of stability, on the negative axis.
        self.extent = self.pair.tableau.stability_limit(-1)
        self.statistics: SolverStatistics | None = None
        self.watch = None

    def slope(self, u: Tensor, t: float) -> Tensor:
        """f at a state and a time of the step."""
        if self.timed:
            u = torch.cat((u, torch.full_like(u[:, :1], t)), dim=1)
        return self.field(u)

    @contextmanager
    def watched(self, watch: Callable[[AcceptedStep], None]) -> Iterator[None]:
        """Let a function see the accepted steps of all solutions inside the block."""
        before, self.watch = self.watch, watch
        try:
            yield
        finally:
            self.watch = before

    def forward(self, u: Tensor) -> Tensor:
        return self.trajectory(u, (0.0, self.duration))[:, -1]

    def trajectory(self, u: Tensor, times: Sequence[float]) -> Tensor:
        """States at increasing times, of which the first is that of u: (B, C, *points) -> (B, T, C, *points)."""
        if u.ndim < 2 or u.shape[1] != self.in_channels:
            raise ValueError(
                f"NeuralODE got a state of shape {tuple(u.shape)}; expected (B, {self.in_channels}, *points)."
            )
        if self.gradient == "adjoint" and torch.is_grad_enabled():
            states = [u]
            found: list[AdaptiveSolution] = []
            parameters = tuple(p for p in self.parameters() if p.requires_grad)
            for t0, t1 in zip(times, times[1:], strict=False):
                states.append(_Adjoint.apply(self, found, float(t0), float(t1), states[-1], *parameters))
            self._note(float(times[0]), found)
            return torch.stack(states, dim=1)
        solution = self.solved(u, times)
        self._note(float(times[0]), [solution])
        return solution.states

    def solved(self, u: Tensor, times: Sequence[float]) -> AdaptiveSolution:
        """The solution of the field from a state, without a note of what it took."""
        return adaptive_rk(
            self.slope, u, times, rtol=self.rtol, atol=self.atol, pair=self.pair, max_steps=self.max_steps,
            timed=True, watch=self.watch,
        )  # fmt: skip

    def _note(self, start: float, solutions: Sequence[AdaptiveSolution]) -> None:
        steps = [h for solution in solutions for h in solution.steps]
        self.statistics = SolverStatistics(
            evaluations=sum(s.evaluations for s in solutions),
            accepted=len(steps),
            rejected=sum(s.rejected for s in solutions),
            times=tuple(accumulate(steps, initial=start)),
        )


class _Adjoint(torch.autograd.Function):
    """u(t1) from u(t0), with the gradient by the adjoint system."""

    @staticmethod
    def forward(
        ctx: Any,
        ode: NeuralODE,
        found: list[AdaptiveSolution],
        t0: float,
        t1: float,
        u: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        solution = ode.solved(u, (t0, t1))
        found.append(solution)
        end = solution.states[:, -1]
        ctx.ode, ctx.times = ode, (t0, t1)
        ctx.save_for_backward(end, *parameters)
        return end

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Backwards in s = t1 - t: u' = -f, a' = a df/du, g' = a df/dparameters, all of them as one state."""
        ode: NeuralODE = ctx.ode
        t0, t1 = ctx.times
        end, *parameters = ctx.saved_tensors
        shape, size = end.shape, end.numel()
        start = [
            end.reshape(-1),
            grads[0].reshape(-1),
            *[torch.zeros_like(p).reshape(-1) for p in parameters],
        ]

        def rhs(z: Tensor, s: float) -> Tensor:
            with torch.enable_grad():
                u = z[0, :size].reshape(shape).detach().requires_grad_()
                f = ode.slope(u, t1 - s)
                a = z[0, size : 2 * size].reshape(shape)
                found = torch.autograd.grad(f, (u, *parameters), a, allow_unused=True)
            wanted = (u, *parameters)
            flat = [
                torch.zeros_like(w).reshape(-1) if g is None else g.reshape(-1)
                for w, g in zip(wanted, found, strict=True)
            ]
            return torch.cat((-f.detach().reshape(-1), *flat)).unsqueeze(0)

        z = adaptive_rk(
            rhs, torch.cat(start).unsqueeze(0), (0.0, t1 - t0), rtol=ode.rtol, atol=ode.atol, pair=ode.pair,
            max_steps=ode.max_steps, timed=True,
        ).states[0, -1]  # fmt: skip
        sizes = [size, size, *[p.numel() for p in parameters]]
        _, gradient, *rest = torch.split(z, sizes)
        own = [g.reshape(p.shape) for g, p in zip(rest, parameters, strict=True)]
        return None, None, None, None, gradient.reshape(shape), *own
