"""Fitting what needs no training: a forecaster learns from all trajectories at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from sciml.errors import UserError
from sciml.experiments.files import save_tensors, write_text
from sciml.experiments.meter import Meter
from sciml.models.forecasters import Forecaster, ForecastSurrogate


def is_fitted_at_once(surrogate: object) -> TypeGuard[ForecastSurrogate]:
    """Whether a surrogate is fitted in closed form, and not by an objective's gradients."""
    return isinstance(surrogate, ForecastSurrogate) and isinstance(surrogate.forecaster, Forecaster)


def fit_at_once(
    surrogate: ForecastSurrogate, states: Tensor, path: Path, *, header: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """Fit a forecaster to trajectories (B, T, C, *points) and leave a checkpoint like that of a training.

    It counts as one update; its loss is the mean square error of one step on what it learned from.

    Raises:
        UserError: the trajectories do not suit it.
    """
    began, meter = time.monotonic(), Meter()
    meter.start()
    try:
        surrogate.fit(states, torch.Generator().manual_seed(seed))
    except ValueError as error:
        raise UserError(str(error)) from error
    loss, seconds = surrogate.error(states), time.monotonic() - began
    content = {
        **header,
        "weights": {name: value.detach().cpu() for name, value in surrogate.state_dict().items()},
        "updates": 1,
        "total": 1,
        "training": {"seconds": seconds, "spent": meter.read()},
    }
    save_tensors(path, content)
    write_text(path.with_suffix(".csv"), f"update,seconds,loss\n1,{seconds:.6g},{loss:.9g}\n")
    return {"updates": 1, "loss": loss, "seconds": seconds}
