"""The equations, each stated once."""

from sciml.pdes.acoustics import Acoustics, AcousticScattering
from sciml.pdes.advection import Advection
from sciml.pdes.advection_diffusion import AdvectionDiffusion
from sciml.pdes.allen_cahn import AllenCahn
from sciml.pdes.anisotropic_diffusion import AnisotropicDiffusion
from sciml.pdes.base import PDE, ConservationLaw, Elliptic, HasExact, SemiLinear, integral
from sciml.pdes.belousov_zhabotinsky import BelousovZhabotinsky
from sciml.pdes.boussinesq import Boussinesq, Smoke, rayleigh_benard
from sciml.pdes.buckley_leverett import BuckleyLeverett
from sciml.pdes.burgers import Burgers, ConservativeBurgers, ScalarBurgers
from sciml.pdes.cahn_hilliard import CahnHilliard
from sciml.pdes.compressible_navier_stokes import CompressibleNavierStokes
from sciml.pdes.darcy import Darcy
from sciml.pdes.diffusion_law import DiffusionLaw
from sciml.pdes.diffusion_sorption import DiffusionSorption
from sciml.pdes.euler import CompressibleEuler
from sciml.pdes.fisher_kpp import FisherKPP
from sciml.pdes.fitzhugh_nagumo import FitzHughNagumo
from sciml.pdes.forcings import ShearForcing, fno_forcing, kolmogorov_forcing
from sciml.pdes.gray_scott import GrayScott
from sciml.pdes.heat import Heat
from sciml.pdes.helmholtz import Helmholtz
from sciml.pdes.inviscid_burgers import InviscidBurgers
from sciml.pdes.korteweg_de_vries import KortewegDeVries
from sciml.pdes.kuramoto_sivashinsky import KuramotoSivashinsky
from sciml.pdes.linear_equation import Dispersion, HyperDiffusion, LinearEquation
from sciml.pdes.magnetohydrodynamics import IdealMHD
from sciml.pdes.maxwell import Maxwell, MaxwellTE, MaxwellTM
from sciml.pdes.navier_stokes import NavierStokes
from sciml.pdes.navier_stokes_vorticity import NavierStokesVorticity
from sciml.pdes.poisson import Poisson
from sciml.pdes.porous_medium import PorousMedium, Stefan
from sciml.pdes.scalar_law import ScalarLaw
from sciml.pdes.schroedinger import GrossPitaevskii, Schroedinger
from sciml.pdes.shallow_water import ShallowWater
from sciml.pdes.swift_hohenberg import SwiftHohenberg
from sciml.pdes.traffic import Traffic
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
    Acoustics,
    AcousticScattering,
    Maxwell,
    MaxwellTM,
    MaxwellTE,
    Burgers,
    ConservativeBurgers,
    ScalarBurgers,
    KortewegDeVries,
    Schroedinger,
    GrossPitaevskii,
    KuramotoSivashinsky,
    NavierStokesVorticity,
    NavierStokes,
    Boussinesq,
    Smoke,
    FisherKPP,
    AllenCahn,
    CahnHilliard,
    SwiftHohenberg,
    GrayScott,
    FitzHughNagumo,
    BelousovZhabotinsky,
    PorousMedium,
    Stefan,
    DiffusionSorption,
    CompressibleEuler,
    CompressibleNavierStokes,
    IdealMHD,
    InviscidBurgers,
    BuckleyLeverett,
    Traffic,
    ShallowWater,
)

# Stationary equations: no steps, but inputs; solved by `sciml.solvers.elliptic`.
ELLIPTIC: tuple[type[Elliptic], ...] = (Poisson, Darcy, Helmholtz)

__all__ = [
    "ELLIPTIC",
    "PDE",
    "PDES",
    "AcousticScattering",
    "Acoustics",
    "Advection",
    "AdvectionDiffusion",
    "AllenCahn",
    "AnisotropicDiffusion",
    "BelousovZhabotinsky",
    "Boussinesq",
    "BuckleyLeverett",
    "Burgers",
    "CahnHilliard",
    "CompressibleEuler",
    "CompressibleNavierStokes",
    "ConservationLaw",
    "ConservativeBurgers",
    "Darcy",
    "DiffusionLaw",
    "DiffusionSorption",
    "Dispersion",
    "Elliptic",
    "FisherKPP",
    "FitzHughNagumo",
    "GrayScott",
    "GrossPitaevskii",
    "HasExact",
    "Heat",
    "Helmholtz",
    "HyperDiffusion",
    "IdealMHD",
    "InviscidBurgers",
    "KortewegDeVries",
    "KuramotoSivashinsky",
    "LinearEquation",
    "Maxwell",
    "MaxwellTE",
    "MaxwellTM",
    "NavierStokes",
    "NavierStokesVorticity",
    "Poisson",
    "PorousMedium",
    "ScalarBurgers",
    "ScalarLaw",
    "Schroedinger",
    "SemiLinear",
    "ShallowWater",
    "ShearForcing",
    "Smoke",
    "Stefan",
    "SwiftHohenberg",
    "Traffic",
    "Wave",
    "fno_forcing",
    "integral",
    "kolmogorov_forcing",
    "rayleigh_benard",
]
