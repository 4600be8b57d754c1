"""The equations, each stated once."""

from sciml.pdes.advection import Advection
from sciml.pdes.advection_diffusion import AdvectionDiffusion
from sciml.pdes.anisotropic_diffusion import AnisotropicDiffusion
from sciml.pdes.base import PDE, ConservationLaw, Elliptic, HasExact, SemiLinear, integral
from sciml.pdes.burgers import Burgers, ConservativeBurgers, ScalarBurgers
from sciml.pdes.darcy import Darcy
from sciml.pdes.euler import CompressibleEuler
from sciml.pdes.forcings import ShearForcing, fno_forcing, kolmogorov_forcing
from sciml.pdes.heat import Heat
from sciml.pdes.korteweg_de_vries import KortewegDeVries
from sciml.pdes.kuramoto_sivashinsky import KuramotoSivashinsky
from sciml.pdes.linear_equation import Dispersion, HyperDiffusion, LinearEquation
from sciml.pdes.navier_stokes import NavierStokes
from sciml.pdes.navier_stokes_vorticity import NavierStokesVorticity
from sciml.pdes.poisson import Poisson
from sciml.pdes.schroedinger import GrossPitaevskii, Schroedinger
from sciml.pdes.wave import Wave

PDES: tuple[type[PDE], ...] = (
    Advection,
    Heat,
    AdvectionDiffusion,
    AnisotropicDiffusion,
    LinearEquation,
    Dispersion,
    HyperDiffusion,
    Wave,
    Burgers,
    ConservativeBurgers,
    ScalarBurgers,
    KortewegDeVries,
    Schroedinger,
    GrossPitaevskii,
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
    "AnisotropicDiffusion",
    "Burgers",
    "CompressibleEuler",
    "ConservationLaw",
    "ConservativeBurgers",
    "Darcy",
    "Dispersion",
    "Elliptic",
    "GrossPitaevskii",
    "HasExact",
    "Heat",
    "HyperDiffusion",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "LinearEquation",
    "NavierStokes",
    "NavierStokesVorticity",
    "Poisson",
    "ScalarBurgers",
    "Schroedinger",
    "SemiLinear",
    "ShearForcing",
    "Wave",
    "fno_forcing",
    "integral",
    "kolmogorov_forcing",
]
