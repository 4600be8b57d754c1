"""Compressible turbulence in 2D: random eddies at Mach 0.1 or 1 decay without friction, periodic.

PDEBench's turbulent sets at eta = zeta = 1e-8, taken as zero. There 512^2 cells, 21 frames and 1000 samples of each Mach
number.
"""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.recipes.compressible_2d import Turbulence
from sciml.datasets.recipes.compressible_2d_inviscid import RECIPE as FIELDS

RECIPE = replace(
    FIELDS,
    name="compressible_2d_turbulence",
    title="2D compressible flow without friction, decaying turbulence (PDEBench: 512^2 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, turbulence at eta = zeta = 1e-8 and Mach 0.1 and 1.",
    initial=Turbulence(),
)
