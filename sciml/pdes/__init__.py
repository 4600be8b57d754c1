"""The equations, each stated once."""

from sciml.pdes.advection import Advection
from sciml.pdes.advection_diffusion import AdvectionDiffusion
from sciml.pdes.base import PDE, ConservationLaw, Elliptic, HasExact, SemiLinear, integral
from sciml.pdes.burgers import Burgers
from sciml.pdes.darcy import Darcy
from sciml.pdes.euler import CompressibleEuler
from sciml.pdes.forcings import ShearForcing, fno_forcing, kolmogorov_forcing
from sciml.pdes.heat import Heat
from sciml.pdes.kuramoto_sivashinsky import KuramotoSivashinsky
from sciml.pdes.navier_stokes import NavierStokes
from sciml.pdes.navier_stokes_vorticity import NavierStokesVorticity
from sciml.pdes.poisson import Poisson

PDES: tuple[type[PDE], ...] = (
    Advection,
    Heat,
    AdvectionDiffusion,
    Burgers,
    KuramotoSivashinsky,
    NavierStokesVorticity,
    NavierStokes,
    CompressibleEuler,
)

__all__ = [
    "PDE",
    "PDES",
    "Advection",
    "AdvectionDiffusion",
    "Burgers",
    "CompressibleEuler",
    "ConservationLaw",
    "Darcy",
    "Elliptic",
    "HasExact",
    "Heat",
    "KuramotoSivashinsky",
    "NavierStokes",
    "NavierStokesVorticity",
    "Poisson",
    "SemiLinear",
    "ShearForcing",
    "fno_forcing",
    "integral",
    "kolmogorov_forcing",
]
