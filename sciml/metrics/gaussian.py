"""Scores of normal forecasts: how probable the truth is, and how far off and how unsure they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian_log_likelihood(mean: Tensor, deviation: Tensor, ref: Tensor) -> Tensor:
    """Log density of each number of the truth, of their common shape; greater is better.

    Args:
        mean, deviation: of independent normal numbers, deviations positive [unit of the field].
        ref: the truth.

    Raises:
        ValueError: shapes differ, or a deviation is not positive.
    """
    _checked(mean, deviation, ref, "gaussian_log_likelihood")
    return -0.5 * (((ref - mean) / deviation).square() + math.log(2 * math.pi)) - deviation.log()


def gaussian_crps(mean: Tensor, deviation: Tensor, ref: Tensor) -> Tensor:
    """Continuous ranked probability score of each number, of their common shape [unit of the field]; smaller is better.

    The absolute error where the deviation is small beside it. Gneiting and Raftery (2007), equation 21 for a normal
    distribution.

    Args:
        mean, deviation: of normal numbers, deviations positive [unit of the field].
        ref: the truth.

    Raises:
        ValueError: shapes differ, or a deviation is not positive.
    """
    _checked(mean, deviation, ref, "gaussian_crps")
    z = (ref - mean) / deviation
    density = (-0.5 * z.square()).exp() / math.sqrt(2 * math.pi)
    return deviation * (z * torch.erf(z / math.sqrt(2)) + 2 * density - 1 / math.sqrt(math.pi))


def coverage(mean: Tensor, deviation: Tensor, ref: Tensor, share: float = 0.9) -> Tensor:
    """Share of all numbers whose truth lies within the central interval of probability `share`, scalar.

    Equal to `share` for a forecast that knows how unsure it is; smaller for one that is too sure.

    Raises:
        ValueError: shapes differ, a deviation is not positive, or `share` is not between 0 and 1.
    """
    _checked(mean, deviation, ref, "coverage")
    if not 0 < share < 1:
        raise ValueError(f"coverage got share={share}; expected between 0 and 1.")
    reach = math.sqrt(2) * float(torch.erfinv(torch.tensor(share, dtype=torch.float64)))
    return ((ref - mean).abs() <= reach * deviation).double().mean()


def _checked(mean: Tensor, deviation: Tensor, ref: Tensor, owner: str) -> None:
    if not mean.shape == deviation.shape == ref.shape:
        raise ValueError(
            f"{owner} got means {tuple(mean.shape)}, deviations {tuple(deviation.shape)} and a truth of "
            f"{tuple(ref.shape)}; expected one shape."
        )
    if not bool((deviation > 0).all()):
        raise ValueError(f"{owner} got deviations that are not positive.")
