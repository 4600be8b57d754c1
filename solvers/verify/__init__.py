"""Measure what the solvers do against exact solutions, and say so in a certificate.

Every check is a number beside the level it has to reach. Exact solutions and rates worked out by hand
catch a wrong coefficient; refinement gives the orders; invariants and translations the structure.
"""

from sciml.solvers.verify.certificate import Certificate, Check, at_least, at_most, table
from sciml.solvers.verify.measure import relative_error, self_convergence
from sciml.solvers.verify.run import equations_of, verify, verify_all

__all__ = [
    "Certificate",
    "Check",
    "at_least",
    "at_most",
    "equations_of",
    "relative_error",
    "self_convergence",
    "table",
    "verify",
    "verify_all",
]
