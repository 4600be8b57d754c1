"""A random recurrent network of which only the readout is learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciml.domains import Domain
from sciml.models.forecasters.base import Forecaster, LeastSquares, in_parts, state_size


class EchoState(Forecaster):
    """A reservoir h of random couplings that echoes the states it is shown, and a linear readout of it.

        h' = (1 - a) h + a tanh(W_r h + W_in u + b),     u' = W_out [h', h'^2, 1]

    Only W_out is learned, by ridge regression. Spectral radius, leak, scale of the input and ridge decide how well it
    does: `trials` draws that many settings at random and keeps the one whose free forecasts stay near the truth the
    longest on the last fifth of each trajectory, which the readout is then not fitted on; the settings given take
    part as well. Give it normalised states.

    Args:
        in_channels: C.
        nodes: numbers of the reservoir.
        radius: spectral radius of W_r.
        leak: a, how much of the reservoir is renewed in one step.
        input_scale: W_in is uniform within this.
        bias_scale: b is uniform within this.
        connectivity: part of the couplings in W_r that are not zero.
        ridge: added to the squared readout weights, against the sum of squared errors.
        warmup: states that are shown before a forecast, so that the reservoir forgets where it began.
        trials: settings drawn at random, 0 for none but those given.
        domain: where the points lie; none for states without space.

    Raises:
        ValueError: a number is out of range.

    Jaeger, GMD report 148 (2001); Lukosevicius, in: Neural Networks: Tricks of the Trade (2012) 659-686.
    """

    inner: Tensor
    outer: Tensor
    bias: Tensor
    readout: Tensor
    settings: Tensor

    def __init__(
        self,
        in_channels: int,
        nodes: int = 300,
        radius: float = 0.9,
        leak: float = 0.5,
        input_scale: float = 0.3,
        bias_scale: float = 0.0,
        connectivity: float = 0.1,
        ridge: float = 1e-6,
        warmup: int = 100,
        trials: int = 0,
        domain: Domain | None = None,
    ) -> None:
        size = state_size(in_channels, domain, "EchoState")
        if nodes < 1 or warmup < 1 or trials < 0 or not 0 < leak <= 1 or not 0 < connectivity <= 1:
            raise ValueError(
                f"EchoState got nodes={nodes}, warmup={warmup}, trials={trials}, leak={leak}, connectivity="
                f"{connectivity}; expected at least 1, 1 and 0, and parts between 0 and 1."
            )
        if min(radius, input_scale, bias_scale, ridge) < 0:
            raise ValueError(
                f"EchoState got radius={radius}, input_scale={input_scale}, bias_scale={bias_scale}, ridge={ridge}; "
                "expected 0 or more."
            )
        super().__init__(size, warmup)
        self.nodes, self.trials = nodes, trials
        couplings = torch.randn(nodes, nodes, dtype=torch.float64)
        couplings = couplings * (torch.rand(nodes, nodes) < connectivity)
        largest = torch.linalg.eigvals(couplings).abs().max().clamp_min(1e-12)
        self.register_buffer("inner", couplings / largest)
        self.register_buffer("outer", 2 * torch.rand(nodes, size, dtype=torch.float64) - 1)
        self.register_buffer("bias", 2 * torch.rand(nodes, dtype=torch.float64) - 1)
        self.register_buffer("readout", torch.zeros(2 * nodes + 1, size, dtype=torch.float64))
        given = [radius, leak, input_scale, bias_scale, ridge]
        self.register_buffer("settings", torch.tensor(given, dtype=torch.float64))

    def drive(self, h: Tensor, u: Tensor) -> Tensor:
        """The reservoir (B, nodes) after it is shown states (B, n)."""
        radius, leak, input_scale, bias_scale, _ = self.settings.unbind()
        arriving = h @ (radius * self.inner).T + u @ (input_scale * self.outer).T + bias_scale * self.bias
        return torch.lerp(h, torch.tanh(arriving), leak)

    def features(self, h: Tensor) -> Tensor:
        """What the readout is linear in, (B, nodes) -> (B, 2 nodes + 1)."""
        return torch.cat([h, h.square(), torch.ones_like(h[:, :1])], dim=1)

    def _echoes(self, trajectories: Tensor) -> Tensor:
        """The reservoir after each state of trajectories (B, T, n) but the last, (B, T - 1, nodes)."""
        h = trajectories.new_zeros(len(trajectories), self.nodes)
        found = []
        for u in trajectories[:, :-1].unbind(dim=1):
            h = self.drive(h, u)
            found.append(h)
        return torch.stack(found, dim=1)

    def _fit_readout(self, trajectories: Tensor) -> None:
        echoes = self._echoes(trajectories)[:, self.history - 1 :].flatten(0, 1)
        problem = LeastSquares(2 * self.nodes + 1, self.size, float(self.settings[4]))
        for h, after in in_parts(echoes, trajectories[:, self.history :].flatten(0, 1)):
            problem.add(self.features(h), after)
        self.readout.copy_(problem.solve())

    @torch.no_grad()
    def fit(self, trajectories: Tensor, generator: torch.Generator | None = None) -> None:
        data = self._checked(trajectories, self.history + 2)
        if not self.trials:
            self._fit_readout(data)
            return
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        cut = data.shape[1] - data.shape[1] // 5
        if data.shape[1] - cut < 2 or cut < self.history + 2:
            raise ValueError(
                f"EchoState got trajectories of {data.shape[1]} states; a fifth is kept apart to choose settings by, "
                f"and the rest has to be longer than the warm-up of {self.history}."
            )
        best, chosen = -math.inf, self.settings.clone()
        for settings in (chosen, *(_drawn(generator) for _ in range(self.trials))):
            self.settings.copy_(settings)
            self._fit_readout(data[:, :cut])
            score = self._score(data, cut)
            if score > best:
                best, chosen = score, settings.clone()
        self.settings.copy_(chosen)
        self._fit_readout(data[:, :cut])

    def _score(self, data: Tensor, cut: int) -> float:
        """Mean of how many steps free forecasts of what was kept apart stay within 0.4 deviations of it."""
        ahead = data.shape[1] - cut
        horizon = max(1, min(ahead // 2, 400))
        last = data.shape[1] - horizon - 1
        starts = torch.linspace(cut - 1, max(cut - 1, last), 8).long().unique().tolist()
        starts = [s for s in starts if s + 1 >= self.history and s <= last]
        history = torch.cat([data[:, s + 1 - self.history : s + 1] for s in starts])
        truth = torch.cat([data[:, s + 1 : s + 1 + horizon] for s in starts])
        error = (self.forecast(history, horizon) - truth).square().mean(dim=2).sqrt()
        good = error < 0.4 * data.std(dim=(0, 1)).square().mean().sqrt()
        return float(good.long().cumprod(dim=1).sum(dim=1).double().mean())

    def begin(self, history: Tensor) -> Tensor:
        history = history.double()
        h = history.new_zeros(len(history), self.nodes)
        for u in history[:, :-1].unbind(dim=1):
            h = self.drive(h, u)
        return torch.cat([h, history[:, -1]], dim=1)

    def advance(self, carried: Tensor) -> Tensor:
        h, u = carried[:, : self.nodes], carried[:, self.nodes :]
        h = self.drive(h, u)
        return torch.cat([h, self.features(h) @ self.readout], dim=1)

    def show(self, carried: Tensor) -> Tensor:
        return carried[:, self.nodes :]


def _drawn(generator: torch.Generator) -> Tensor:
    """Settings at random: radius, leak, scale of the input, of the bias, and ridge."""
    part = torch.rand(5, generator=generator, dtype=torch.float64)
    low = torch.tensor([0.1, 0.05, math.log(0.01), 0.0, math.log(1e-9)], dtype=torch.float64)
    high = torch.tensor([1.4, 1.0, math.log(2.0), 1.0, math.log(1e-2)], dtype=torch.float64)
    drawn = low + part * (high - low)
    drawn[[2, 4]] = drawn[[2, 4]].exp()
    return drawn
