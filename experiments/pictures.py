"""Frames of the best, the median and the worst trajectory, kept for the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sciml.domains import Point
from sciml.experiments.contestants import Contestant
from sciml.experiments.reference import Reference
from sciml.experiments.scores import Evaluation

# Pictures reach no further than this; longer rollouts are shown by their statistics.
LONGEST = 1000


def add_pictures(
    evaluation: Evaluation, contestants: Sequence[Contestant], reference: Reference, *, frames: int = 64
) -> None:
    """Keep the truth and each surrogate's prediction of the best, median and worst trajectory.

    Samples are ranked by the mean error of the first surrogate. At most `frames` frames are kept, evenly spread over
    the stored part of the rollout; all of them for systems without space.
    """
    if isinstance(reference.domain, Point):
        frames = LONGEST + 1
    shown: dict[str, Contestant] = {}
    for contestant in contestants:
        if contestant.kind == "surrogate":
            shown.setdefault(contestant.name, contestant)
    if not shown:
        return
    steps = min(evaluation.steps, reference.reach, LONGEST)
    first = evaluation.groups()[next(iter(shown))][0]
    errors = np.nan_to_num(first.values["nrmse"], nan=1e3, posinf=1e3).mean(axis=0)
    order = np.argsort(errors, kind="stable")
    picks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    keep = sorted(set(np.linspace(0, steps, min(frames, steps + 1)).round().astype(int).tolist()))
    evaluation.picture_times = np.array(keep) * evaluation.dt
    for label, sample in picks.items():
        chosen = slice(int(sample), int(sample) + 1)
        evaluation.picture_labels[label] = (
            f"{label} trajectory (sample {int(sample)}, mean nRMSE {errors[sample]:.3g})"
        )
        truth = [reference.frames(chosen, k, k + 1)[0, 0] for k in keep]
        kept = {"truth": torch.stack(truth).numpy()}
        for name, contestant in shown.items():
            course = contestant.course(chosen)
            states = [reference.initial(chosen)[0]]
            with torch.no_grad():
                own = course.begin(reference.initial(chosen))
                for step in range(1, steps + 1):
                    own = course.advance(own)
                    if step in keep:
                        states.append(course.show(own)[0])
            kept[name] = torch.stack(states).float().numpy()
        evaluation.pictures[label] = kept
