"""The equations, each stated once."""

from sciml.pdes.advection import Advection
from sciml.pdes.advection_diffusion import AdvectionDiffusion
from sciml.pdes.base import PDE, ConservationLaw, Elliptic, HasExact, SemiLinear, integral
from sciml.pdes.burgers import Burgers
from sciml.pdes.heat import Heat
from sciml.pdes.kuramoto_sivashinsky import KuramotoSivashinsky
from sciml.pdes.navier_stokes_vorticity import NavierStokesVorticity

PDES: tuple[type[PDE], ...] = (
    Advection,
    Heat,
    AdvectionDiffusion,
    Burgers,
    KuramotoSivashinsky,
    NavierStokesVorticity,
)

__all__ = [
    "PDE",
    "PDES",
    "Advection",
    "AdvectionDiffusion",
    "Burgers",
    "ConservationLaw",
    "Elliptic",
    "HasExact",
    "Heat",
    "KuramotoSivashinsky",
    "NavierStokesVorticity",
    "SemiLinear",
    "integral",
]
