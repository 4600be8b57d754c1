"""What is measured of each equation: one file per family, each with its own `SUITES`."""

from sciml.solvers.verify.certificate import Suites
from sciml.solvers.verify.suites import (
    burgers,
    chaos,
    dispersive,
    euler,
    flow,
    linear,
    odes,
    reactions,
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
    **reactions.SUITES,
    **euler.SUITES,
    **odes.SUITES,
}

__all__ = ["SUITES"]
