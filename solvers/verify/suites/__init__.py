"""What is measured of each equation: one file per family, each with its own `SUITES`."""

from sciml.solvers.verify.certificate import Suites
from sciml.solvers.verify.suites import (
    burgers,
    chaos,
    dispersive,
    euler,
    flow,
    incompressible,
    linear,
    odes,
    reactions,
    scalar_laws,
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
    **euler.SUITES,
    **scalar_laws.SUITES,
    **odes.SUITES,
}

__all__ = ["SUITES"]
