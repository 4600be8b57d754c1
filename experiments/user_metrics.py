"""Metrics of the user's own, named in a study by file or module."""

from __future__ import annotations

from collections.abc import Sequence

from sciml.errors import UserError
from sciml.experiments import components
from sciml.experiments.tally import WITHOUT_TRUTH, UserMetric

# Names that the evaluation's own numbers have.
TAKEN = (
    "nrmse",
    "vrmse",
    "correlation",
    "scaled_error",
    "spectral_distance",
    "high_band_gain",
    "blow_up_step",
)


def load_metrics(paths: Sequence[str]) -> dict[str, UserMetric]:
    """The functions that `evaluation.metrics` names, by their own names.

    Each takes a prediction and the truth, (B, T, C, *points) twice, (B, T, C) for a system without space, and gives
    (B, T, C) or (B, T). It is called for one frame at a time, so it must not mix times.

    Raises:
        UserError: a file, module or function is not there, is no function, or has a name that is taken.
    """
    out: dict[str, UserMetric] = {}
    for path in paths:
        found = components.find_function(path, "evaluation.metrics")
        name = path.rpartition(":")[2].rpartition(".")[2]
        if name in out or name in TAKEN or name.startswith(WITHOUT_TRUTH):
            raise UserError(
                f"evaluation.metrics: {path!r} is called {name!r}, as another metric is; rename the function."
            )
        out[name] = found
    return out
