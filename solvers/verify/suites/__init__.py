"""What is measured of each equation: one file per family, each with its own `SUITES`."""

from sciml.solvers.verify.certificate import Suites
from sciml.solvers.verify.suites import (
    burgers,
    chaos,
    dispersive,
    elliptic,
    euler,
    euler_mesh,
    flow,
    incompressible,
    linear,
    long,
    magnetohydrodynamics,
    odes,
    parabolic,
    reactions,
    scalar_laws,
    shallow_water,
    vorticity,
    waves,
)

SUITES: Suites = {
    **linear.SUITES,
    **waves.SUITES,
    **burgers.SUITES,
    **chaos.SUITES,
    **dispersive.SUITES,
    **vorticity.SUITES,
    **flow.SUITES,
    **incompressible.SUITES,  # adds walls to what flow measures of NavierStokes
    **reactions.SUITES,
    **parabolic.SUITES,  # adds real sides to what linear and reactions measure
    **euler.SUITES,
    **euler_mesh.SUITES,  # adds triangles to what euler measures of CompressibleEuler
    **magnetohydrodynamics.SUITES,
    **scalar_laws.SUITES,
    **shallow_water.SUITES,
    **elliptic.SUITES,
    **odes.SUITES,
}

# What is measured besides where minutes may be spent.
LONG: Suites = long.LONG

__all__ = ["LONG", "SUITES"]
