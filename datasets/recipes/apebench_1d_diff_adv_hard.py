"""1D advection by 10.5 stored points per step, out of the reach of small convolutions."""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.distributions import Constant
from sciml.datasets.recipes import apebench_1d_diff_adv

RECIPE = replace(
    apebench_1d_diff_adv.RECIPE,
    name="apebench_1d_diff_adv_hard",
    title="1D advection by 10.5 points per step (APEBench's difficulty raised from 4 to 10.5)",
    parameters={"advection_gamma": Constant(-10.5)},
)
