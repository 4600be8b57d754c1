"""Compressible turbulence in 3D: random eddies at Mach 1 decay without friction, periodic.

PDEBench's turbulent 3D set at eta = zeta = 1e-8, taken as zero. There 64^3 cells, 21 frames, 600 samples; here 32^3
cells.
"""

from __future__ import annotations

from dataclasses import replace

from sciml.datasets.recipes.compressible_2d import Turbulence
from sciml.datasets.recipes.compressible_3d import RECIPE as FIELDS

RECIPE = replace(
    FIELDS,
    name="compressible_3d_turbulence",
    title="3D compressible flow without friction, decaying turbulence (PDEBench: 64^3 cells)",
    citation="PDEBench, Takamoto et al. (2022), appendix D.5, 3D turbulence at eta = zeta = 1e-8 and Mach 1.",
    initial=Turbulence(modes=2),
    steps=20,
)
