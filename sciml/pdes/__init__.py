"""The equations, each stated once."""

from sciml.pdes.advection import Advection
from sciml.pdes.advection_diffusion import AdvectionDiffusion
from sciml.pdes.allen_cahn import AllenCahn
from sciml.pdes.anisotropic_diffusion import AnisotropicDiffusion
from sciml.pdes.base import PDE, ConservationLaw, Elliptic, HasExact, SemiLinear, integral
from sciml.pdes.belousov_zhabotinsky import BelousovZhabotinsky
from sciml.pdes.burgers import Burgers, ConservativeBurgers, ScalarBurgers
from sciml.pdes.cahn_hilliard import CahnHilliard
from sciml.pdes.darcy import Darcy
from sciml.pdes.euler import CompressibleEuler
from sciml.pdes.fisher_kpp import FisherKPP
from sciml.pdes.fitzhugh_nagumo import FitzHughNagumo
from sciml.pdes.forcings import ShearForcing, fno_forcing, kolmogorov_forcing
from sciml.pdes.gray_scott import GrayScott
from sciml.pdes.heat import Heat
from sciml.pdes.korteweg_de_vries import KortewegDeVries
from sciml.pdes.kuramoto_sivashinsky import KuramotoSivashinsky
from sciml.pdes.linear_equation import Dispersion, HyperDiffusion, LinearEquation
from sciml.pdes.navier_stokes import NavierStokes
from sciml.pdes.navier_stokes_vorticity import NavierStokesVorticity
from sciml.pdes.poisson import Poisson
from sciml.pdes.schroedinger import GrossPitaevskii, Schroedinger
from sciml.pdes.swift_hohenberg import SwiftHohenberg
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
    FisherKPP,
    AllenCahn,
    CahnHilliard,
    SwiftHohenberg,
    GrayScott,
    FitzHughNagumo,
    BelousovZhabotinsky,
    CompressibleEuler,
)

__all__ = [
    "PDE",
    "PDES",
    "Advection",
    "AdvectionDiffusion",
    "AllenCahn",
    "AnisotropicDiffusion",
    "BelousovZhabotinsky",
    "Burgers",
    "CahnHilliard",
    "CompressibleEuler",
    "ConservationLaw",
    "ConservativeBurgers",
    "Darcy",
    "Dispersion",
    "Elliptic",
    "FisherKPP",
    "FitzHughNagumo",
    "GrayScott",
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
    "SwiftHohenberg",
    "Wave",
    "fno_forcing",
    "integral",
    "kolmogorov_forcing",
]
