"""Entropy kept from growing, or held, by rescaling what varies in space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from sciml.constraints.base import (
    Constraint,
    Context,
    at_least_single,
    checked_channels,
    replace_channels,
    select,
)
from sciml.constraints.conserved_mean import ConservedMean
from sciml.domains import Grid, Mesh
from sciml.linear.root import implicit_root

Kind = Literal["conserved", "decaying"]


def boltzmann(u: Tensor) -> Tensor:
    """sum_c u_c log u_c, convex for positive states, zero where u_c is; (B, C, *points) -> (B, *points)."""
    return torch.special.xlogy(u, u).sum(dim=1)


class GasEntropy(nn.Module):
    """-rho log(p / rho^gamma) / (gamma - 1), convex in density, momenta and energy of an ideal gas.

    Args:
        gamma: ratio of specific heats.

    Raises:
        ValueError: gamma is not above 1.

    Harten, Journal of Computational Physics 49 (1983) 151.
    """

    def __init__(self, gamma: float = 1.4) -> None:
        super().__init__()
        if not gamma > 1:
            raise ValueError(f"GasEntropy got gamma={gamma}; expected above 1, such as 1.4 for air.")
        self.gamma = float(gamma)

    def forward(self, u: Tensor) -> Tensor:
        """(B, D + 2, *points) -> (B, *points); not a number where density or pressure is not positive."""
        density, momentum, energy = u[:, 0], u[:, 1:-1], u[:, -1]
        pressure = (self.gamma - 1) * (energy - 0.5 * momentum.square().sum(dim=1) / density)
        return -density * (pressure.log() - self.gamma * density.log()) / (self.gamma - 1)


class Entropy(Constraint):
    """Rescale the fluctuation of a field about its means so that its entropy is admissible.

        u = m + s (z - m),    S(u) = <eta(u)>,    S(m + s (z - m)) = S*

    with <.> the volume-weighted mean, eta a convex function of the state at a point, and m the means of the channels,
    which stay as they are. By Jensen's inequality S(m) is the least entropy with these means, and S grows with s >= 0, so
    that s is unique; it is found by Newton's method between bounds, to rounding in float64, with the exact gradient of the
    root. S* is the entropy of `previous`: "decaying" scales down only what has more, as the entropy
    inequality of conservation laws asks for; "conserved" also scales up what has less, by no more than `limit`. Where eta
    is not finite (a density below zero) the entropy counts as too large, so that "decaying" brings such a field back,
    if its means are admissible. Hold the means first where they are conserved too:
    Chain([ConservedMean(...), Entropy(...)]). Where no s will do, the field becomes its means or stays at the limit, and
    `violation` says how far off it is. For the square, `Energy` is a closed form.

    Args:
        domain: gives the volumes.
        entropy: eta, (B, K, *points) -> (B, *points) in float64, twice differentiable by torch.func: `GasEntropy`,
            "sciml.constraints.entropy.boltzmann", or "path/to/file.py:name" in a study.
        kind: see above.
        channels: numbers of the K channels that eta sees, all where left out.
        limit: largest s of "conserved".

    Raises:
        ValueError: arguments or shapes do not fit.
    """

    def __init__(
        self,
        domain: Grid | Mesh,
        entropy: Callable[[Tensor], Tensor],
        kind: Kind = "decaying",
        channels: Sequence[int] | None = None,
        limit: float = 4.0,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"Entropy got kind={kind!r}; expected one of {list(get_args(Kind))}.")
        if not callable(entropy):
            raise ValueError(f"Entropy got entropy={entropy!r}; expected a function of the state.")
        if not limit > 1:
            raise ValueError(f"Entropy got limit={limit}; expected above 1.")
        self.entropy = entropy
        self.kind: Kind = kind
        self.channels = checked_channels(channels, "Entropy")
        self.limit = float(limit)
        self.means = ConservedMean(domain)

    def total(self, z: Tensor) -> Tensor:
        """<eta> of the selected channels, (B, K, *points) -> (B,) in float64."""
        density = self.entropy(z.to(torch.float64))
        if density.shape != (z.shape[0], *z.shape[2:]):
            raise ValueError(
                f"Entropy got densities of shape {tuple(density.shape)} for a state of shape {tuple(z.shape)}; expected "
                f"{(z.shape[0], *z.shape[2:])}, one per sample and point."
            )
        return self.means.mean(density.unsqueeze(1))[:, 0]

    def _limit_of(self, u: Tensor, previous: Tensor | None) -> Tensor:
        if previous is None:
            raise ValueError("Entropy needs a target: pass the previous state.")
        if previous.shape != u.shape:
            raise ValueError(
                f"Entropy got a state of shape {tuple(u.shape)} after one of shape {tuple(previous.shape)}; they must "
                "agree."
            )
        return self.total(select(previous, self.channels, "Entropy"))

    def project(self, u: Tensor, previous: Tensor | None = None, context: Context | None = None) -> Tensor:
        u = at_least_single(u)
        kept = select(u, self.channels, "Entropy")
        z = kept.to(torch.float64)
        mean = self.means.mean(z)
        target = self._limit_of(u, previous)
        shape = (-1, *[1] * (z.ndim - 1))

        def excess(s: Tensor, z: Tensor, mean: Tensor, target: Tensor) -> Tensor:
            middle = mean.reshape(*mean.shape, *[1] * (z.ndim - 2))
            return self.total(middle + s.reshape(shape) * (z - middle)) - target

        def slope(s: Tensor, *rest: Tensor) -> Tensor:
            return torch.func.vjp(lambda s: excess(s, *rest), s)[1](torch.ones_like(s))[0]

        with torch.no_grad():
            given = (z.detach(), mean.detach(), target.detach())
            own = excess(torch.ones_like(given[2]), *given)
            least = excess(torch.zeros_like(own), *given)
            above = ~(own <= 0)  # also where it is not a number
            top = torch.where(above, 1.0, self.limit)
            reachable = (least < 0) & (above | (excess(top, *given) > 0))
            change = above | ((own < 0) if self.kind == "conserved" else torch.zeros_like(above))
            solved = change & reachable

        def find(z: Tensor, mean: Tensor, target: Tensor) -> Tensor:
            # A convex function that grows: Newton's method from the right, or half way where it leaves the bracket
            # or eta is no number.
            low, high = torch.where(above, 0.0, 1.0).to(z.dtype), top.to(z.dtype)
            s, best = high, torch.full_like(high, torch.inf)
            root = high
            for _ in range(100):
                left = excess(s, z, mean, target)
                better = left.abs() < best
                root, best = torch.where(better, s, root), torch.where(better, left.abs(), best)
                low = torch.where(left <= 0, s, low)
                high = torch.where(left <= 0, high, s)
                new = s - left / slope(s, z, mean, target)
                inside = (new > low) & (new < high)
                new = torch.where(inside, new, 0.5 * (low + high))
                done = (best == 0) | (high - low <= 2e-16 * high) | ((new - s).abs() <= 2e-16 * high)
                if bool((done | ~solved).all()):
                    break
                s = torch.where(done, s, new)
            return torch.where(solved, root, torch.ones_like(root))

        def solve(b: Tensor, s: Tensor, *rest: Tensor) -> Tensor:
            # Where nothing is scaled the root is a constant.
            d = slope(s, *rest)
            return torch.where(solved, b / torch.where(solved, d, 1.0), 0.0)

        if not bool(change.any()):
            return u
        # Samples that keep their state must not hand on derivatives of entropies that are no numbers.
        safe = torch.where(
            solved.reshape(shape), z, mean.detach().reshape(*mean.shape, *[1] * (z.ndim - 2))
        )
        s = implicit_root(excess, find, solve, (safe, mean, target))
        out_of_reach = change & ~reachable
        s = torch.where(out_of_reach, torch.where(above, 0.0, top).to(s.dtype), s)
        middle = mean.reshape(*mean.shape, *[1] * (z.ndim - 2))
        scaled = (middle + s.reshape(shape) * (z - middle)).to(u.dtype)
        return replace_channels(u, self.channels, torch.where(change.reshape(shape), scaled, kept))

    def violation(
        self, u: Tensor, previous: Tensor | None = None, context: Context | None = None
    ) -> Tensor:
        """Distance of the entropy from what is admissible, (B,), zero inside, infinite where it is no number."""
        excess = self.total(select(u, self.channels, "Entropy")) - self._limit_of(u, previous)
        excess = torch.nan_to_num(excess, nan=torch.inf)
        return excess.clamp_min(0.0) if self.kind == "decaying" else excess.abs()
