"""Stores that exchange what they hold: mass-conserving recurrence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.calculus.constants import Constants
from sciml.constraints.base import at_least_single
from sciml.models.wrappers import Map


class Redistribution(nn.Module):
    """Pools whose contents are shared out anew in each step, by a matrix whose columns sum to one.

        m = R u + i x,    u' = (1 - o) m,    y = o m        sum u + x = sum u' + sum y

    The channels are the pools (reservoirs, species, compartments), everywhere by themselves on a grid; of a system without
    space the state is (B, C). R_ij is the share of pool j that goes to pool i, a softmax over i; i the shares of the input x,
    another one; o the share of each pool that leaves, a sigmoid. So stored mass + input = output + new store to rounding,
    and what is positive stays positive, for any weights. Sums are taken in float64; a rollout in float32 drifts by the
    rounding of the stored state.

    The network sees the shares u / sum u and the logarithm of 1 + the sum, as the pools may grow without bound, and gives
    logits: C for each column of R (pool j's side by side), then C for i if there is an input, and C for o if pools are open.
    With zero logits but `own` R is close to the identity. In a study set residual: false and normalized: false.

    Args:
        f: map (B, C + 1, *points) -> (B, K, *points), K = C C, + C with `inputs`, + C with `open_pools`.
        pools: C.
        inputs: x of each step, none of them negative, a number or one per sample (B,) or per sample and point
            (B, *points); `exchange` takes other ones. None for no input [unit of u].
        open_pools: pools lose to the outside.
        own: added to the logits of what stays in its pool, and taken from those of what leaves.

    Raises:
        ValueError: there are no pools, inputs are negative, or the state or the network's answer has other channels.

    Hoedt et al., MC-LSTM: Mass-Conserving LSTM (ICML 2021), equations 5 to 8.
    """

    physical = True

    def __init__(
        self,
        f: Map,
        pools: int,
        inputs: float | Sequence[float] | Tensor | None = None,
        open_pools: bool = False,
        own: float = 4.0,
    ) -> None:
        super().__init__()
        if pools < 1:
            raise ValueError(f"Redistribution got pools={pools}; expected 1 or more.")
        self.f, self.pools, self.open_pools, self.own = f, int(pools), bool(open_pools), float(own)
        given = None if inputs is None else torch.as_tensor(inputs, dtype=torch.float64).detach().clone()
        self.fed = given is not None
        self.constants = Constants({} if given is None else {"inputs": _positive(given)})

    def shares(self, u: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """R (B, C, C, *points), i (B, C, *points) and o (B, C, *points), the last two where there are such, in float64."""
        count = self.pools
        if u.ndim < 2 or u.shape[1] != count:
            raise ValueError(
                f"Redistribution got a state of shape {tuple(u.shape)}; expected (B, {count}, *points), a channel for each "
                "pool."
            )
        total = u.sum(dim=1, keepdim=True)
        seen = torch.cat([u / torch.where(total == 0, 1.0, total), torch.log1p(total.abs())], dim=1)
        logits = self.f(seen)
        wanted = (len(u), count * (count + self.fed + self.open_pools), *u.shape[2:])
        if tuple(logits.shape) != wanted:
            raise ValueError(
                f"Redistribution got logits of shape {tuple(logits.shape)} from its network; expected {wanted}."
            )
        logits = logits.to(torch.float64)
        stays = self.own * torch.eye(count, dtype=torch.float64, device=u.device)
        stays = stays.reshape(count, count, *[1] * (u.ndim - 2))
        # Column j side by side: (B, j, i, ...) -> (B, i, j, ...).
        columns = logits[:, : count * count].unflatten(1, (count, count)).transpose(1, 2)
        matrix = (columns + stays).softmax(dim=1)
        rest = list(logits[:, count * count :].split(count, dim=1))
        fed = rest.pop(0).softmax(dim=1) if self.fed else None
        out = (rest.pop(0) - self.own).sigmoid() if self.open_pools else None
        return matrix, fed, out

    def exchange(self, u: Tensor, inputs: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The new store and what left each pool, (B, C, *points) -> twice (B, C, *points) in float64.

        Args:
            u: stores [unit of u].
            inputs: x in place of those of the constructor.

        Raises:
            ValueError: inputs are negative, or given to pools without; shapes do not fit.
        """
        if inputs is not None and not self.fed:
            raise ValueError("Redistribution got an input and was built without; pass inputs there too.")
        matrix, fed, out = self.shares(u)
        mixed = (matrix * u.to(torch.float64).unsqueeze(1)).sum(dim=2)
        if fed is not None:
            x = self.constants.get("inputs", mixed) if inputs is None else _positive(inputs).to(mixed)
            if x.ndim:  # one per sample, perhaps per point: for all pools
                x = x.reshape(len(x), 1, *x.shape[1:], *[1] * (u.ndim - 1 - x.ndim))
            mixed = mixed + fed * x
        if out is None:
            return mixed, torch.zeros_like(mixed)
        left = out * mixed
        return mixed - left, left

    def forward(self, u: Tensor) -> Tensor:
        return self.exchange(u)[0].to(at_least_single(u).dtype)


def _positive(inputs: Tensor) -> Tensor:
    """The inputs.

    Raises:
        ValueError: one is below zero.
    """
    if not bool((inputs >= 0).all()):
        raise ValueError(
            f"Redistribution got an input of {float(inputs.min())}; expected none below zero. What leaves is up to "
            "open_pools."
        )
    return inputs
