"""Equations with a delay as systems of ordinary ones: the state is what the unknowns were, at Chebyshev points."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import cache

import torch
from torch import Tensor

from sciml.odes.base import ODE
from sciml.pdes.parameters import Parameter, check_parameter, fit
from sciml.trajectory import Field


class Delay(ODE):
    """u'(t) = rate(u(t), u(t - tau)) of C unknowns, by collocation of the last tau at K points.

    The history v(s, t) = u(t - s) is carried along, v_t = -v_s, and begins with the equation itself at s = 0. With
    the polynomial through its values at the ages s_k = tau (1 - cos(pi k / (K - 1))) / 2 that is

        u_0' = rate(u_0, u_{K-1}),     u_k' = sum_l D_kl u_l  for k > 0

    and D the matrix that differentiates by time. States are (B, C K): K values of the first unknown, the present one
    first, then those of the next. Subclasses are frozen dataclasses with `delay` and `nodes` among their parameters.

    Converges faster than any power of K once the solution is smooth over a delay. A history that does not obey the
    equation at its end leaves a kink in u', smoothed by one order per delay, for which the error first falls like
    K^-2 only. The fastest rate of the discrete system grows like K^2 / tau: explicit steps shrink with it.

    Attributes:
        delay: tau [time].
        nodes: K, at least 3.

    Breda, Diekmann, Gyllenberg, Scarabel and Vermiglio, SIAM J. Applied Dynamical Systems 15 (2016) 1-23, section 2;
    D as in Trefethen, Spectral Methods in MATLAB (2000), chapter 6.
    """

    delay: Parameter
    nodes: int

    @property
    @abstractmethod
    def unknowns(self) -> tuple[Field, ...]:
        """The C unknowns with their units, each a scalar."""

    @abstractmethod
    def rate(self, now: Tensor, then: Tensor) -> Tensor:
        """u' of the present values and those tau ago, both (B, C), as (B, C) [u / time]."""

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(Field(f"{f.name}_{k}", f.unit) for f in self.unknowns for k in range(self.nodes))

    @property
    def ages(self) -> Tensor:
        """s_k from 0 to tau, how long ago each value of the state was, (K,), or (B, K) with a delay per sample."""
        part = 0.5 * (
            1 - torch.cos(math.pi * torch.arange(self.nodes, dtype=torch.float64) / (self.nodes - 1))
        )
        return torch.as_tensor(self.delay, dtype=torch.float64).unsqueeze(-1) * part

    def rhs(self, u: Tensor) -> Tensor:
        past = u.unflatten(1, (-1, self.nodes))
        changes = past[:, :, 1:] - past[:, :, :1]  # of a constant nothing is left to round
        # A sum by itself, since the rounding of matrix products depends on the size of the batch.
        terms = changes.unsqueeze(2) * _derivative(self.nodes)[1:, 1:].to(u)
        carried = terms.sum(dim=3) * (2 / fit(self.delay, past))
        now = self.rate(past[:, :, 0], past[:, :, -1])
        return torch.cat([now.unsqueeze(2), carried], dim=2).flatten(1)

    def check_delay(self) -> None:
        """Refuse a delay or a number of points that are out of range; for constructors.

        Raises:
            ValueError: the delay is not positive, or there are fewer than 3 points.
        """
        owner = type(self).__name__
        check_parameter(owner, "delay", self.delay)
        if not bool((torch.as_tensor(self.delay) > 0).all()):
            raise ValueError(f"{owner} got delay={self.delay}; expected a positive time.")
        if not isinstance(self.nodes, int) or self.nodes < 3:
            raise ValueError(f"{owner} got nodes={self.nodes!r}; expected a whole number of at least 3.")


@cache
def _derivative(nodes: int) -> Tensor:
    """d/dx at the points x_k = cos(pi k / (K - 1)), (K, K); the rows sum to zero, for the sake of rounding."""
    k = torch.arange(nodes, dtype=torch.float64)
    x = torch.cos(math.pi * k / (nodes - 1))
    weight = (-1.0) ** k
    weight[0], weight[-1] = 2 * weight[0], 2 * weight[-1]
    apart = x.unsqueeze(1) - x + torch.eye(nodes, dtype=torch.float64)
    matrix = weight.unsqueeze(1) / weight / apart
    return matrix - matrix.sum(dim=1).diag()
