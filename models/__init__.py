"""Maps with parameters between fields, and the wrappers that make them steps.

Names are imported when they are first used: some models bring heavy libraries.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sciml.models.boundary_operator import BoundaryOperator, SpectralKernel
    from sciml.models.bundled import Bundled
    from sciml.models.clipped import Clipped
    from sciml.models.dissipative import Dissipative
    from sciml.models.edge_fluxes import EdgeFluxes
    from sciml.models.edge_potential import EdgePotential
    from sciml.models.flux_form import FluxForm
    from sciml.models.forecasters import (
        EDMD,
        NVAR,
        Analog,
        Climatology,
        EchoState,
        ForecastSurrogate,
        Fourier,
        KernelFeatures,
        Modes,
        Monomials,
        Persistence,
        RadialBasis,
        RandomForest,
        RandomFourier,
    )
    from sciml.models.galilean import Galilean
    from sciml.models.graphs import MeshGraphNet
    from sciml.models.group_average import GroupAverage
    from sciml.models.latent import PLRNN, MemoryPrior, NeuralODE, ObservationPrior, Observed
    from sciml.models.lead_time import AtLead, LeadTime
    from sciml.models.limited_transport import LimitedTransport
    from sciml.models.local_mixture import LocalMixture
    from sciml.models.monotone import Monotone
    from sciml.models.null_space import NullSpace
    from sciml.models.operators.conv_net import ConvNet
    from sciml.models.operators.fno import FNO
    from sciml.models.operators.kno import KNO, Reconstruction
    from sciml.models.operators.unet import UNet
    from sciml.models.physics_experts import PhysicsExperts
    from sciml.models.pinns.coordinate_net import CoordinateNet
    from sciml.models.pinns.distances import BallDistance, JoinedDistance, PlaneDistance, SegmentDistance
    from sciml.models.pinns.hard_conditions import BoundaryCondition, HardConditions, InitialState
    from sciml.models.pinns.helmholtz_net import HelmholtzNet
    from sciml.models.pinns.pinn import PINN
    from sciml.models.pinns.solenoidal_net import SolenoidalNet
    from sciml.models.positive_tensors import PositiveTensors
    from sciml.models.potential_force import PotentialForce
    from sciml.models.redistribution import Redistribution
    from sciml.models.refined import Refined
    from sciml.models.softmax_share import SoftmaxShare
    from sciml.models.structured_flow import StructuredFlow
    from sciml.models.vector_potential import VectorPotential
    from sciml.models.wide_transport import WideTransport
    from sciml.models.wrappers import (
        Constrained,
        Corrected,
        HoldNodes,
        Normalized,
        NormalizedMap,
        Residual,
        Surrogate,
        WithCoordinates,
    )

MODELS = (
    "FNO",
    "KNO",
    "UNet",
    "ConvNet",
    "MeshGraphNet",
    "PINN",
    "PLRNN",
    "NeuralODE",
    "StructuredFlow",
    "FluxForm",
    "EdgeFluxes",
    "VectorPotential",
    "BoundaryOperator",
    "GroupAverage",
    "Galilean",
    "PotentialForce",
    "PositiveTensors",
    "CoordinateNet",
    "SolenoidalNet",
    "HelmholtzNet",
    "HardConditions",
    "InitialState",
)
"""Names of the networks, each an attribute of this module."""

FORECASTERS = ("Persistence", "Climatology", "NVAR", "EchoState", "EDMD", "Analog", "RandomForest")
"""Names of what is fitted at once, which a study takes in the place of a network."""

WRAPPERS = (
    *(
        "Residual",
        "Normalized",
        "NormalizedMap",
        "WithCoordinates",
        "HoldNodes",
        "Constrained",
        "Corrected",
    ),
    *("Bundled", "LeadTime", "AtLead", "Refined", "Dissipative", "Observed", "Surrogate"),
    *("SoftmaxShare", "LimitedTransport", "WideTransport", "LocalMixture", "Monotone", "Clipped"),
    *("NullSpace", "Redistribution", "EdgePotential"),
    "PhysicsExperts",
)
"""Names of what is put around networks, each an attribute of this module."""

_HOMES = {
    "Analog": "forecasters.analog",
    "Climatology": "forecasters.naive",
    "EDMD": "forecasters.dmd",
    "EchoState": "forecasters.echo_state",
    "ForecastSurrogate": "forecasters.surrogate",
    "Fourier": "forecasters.dictionary",
    "KernelFeatures": "forecasters.dictionary",
    "Modes": "forecasters.dictionary",
    "Monomials": "forecasters.dictionary",
    "NVAR": "forecasters.nvar",
    "Persistence": "forecasters.naive",
    "RadialBasis": "forecasters.dictionary",
    "RandomForest": "forecasters.random_forest",
    "RandomFourier": "forecasters.dictionary",
    "FNO": "operators.fno",
    "KNO": "operators.kno",
    "Reconstruction": "operators.kno",
    "UNet": "operators.unet",
    "ConvNet": "operators.conv_net",
    "MeshGraphNet": "graphs",
    "PINN": "pinns.pinn",
    "CoordinateNet": "pinns.coordinate_net",
    "BallDistance": "pinns.distances",
    "JoinedDistance": "pinns.distances",
    "PlaneDistance": "pinns.distances",
    "SegmentDistance": "pinns.distances",
    "BoundaryCondition": "pinns.hard_conditions",
    "HardConditions": "pinns.hard_conditions",
    "InitialState": "pinns.hard_conditions",
    "HelmholtzNet": "pinns.helmholtz_net",
    "PotentialForce": "potential_force",
    "SolenoidalNet": "pinns.solenoidal_net",
    "VectorPotential": "vector_potential",
    "NeuralODE": "latent.neural_ode",
    "PLRNN": "latent.plrnn",
    "MemoryPrior": "latent.plrnn",
    "ObservationPrior": "latent.observed",
    "Observed": "latent.observed",
    "AtLead": "lead_time",
    "BoundaryOperator": "boundary_operator",
    "Bundled": "bundled",
    "Clipped": "clipped",
    "Dissipative": "dissipative",
    "EdgeFluxes": "edge_fluxes",
    "EdgePotential": "edge_potential",
    "FluxForm": "flux_form",
    "Galilean": "galilean",
    "GroupAverage": "group_average",
    "PhysicsExperts": "physics_experts",
    "PositiveTensors": "positive_tensors",
    "LeadTime": "lead_time",
    "LimitedTransport": "limited_transport",
    "LocalMixture": "local_mixture",
    "Monotone": "monotone",
    "NullSpace": "null_space",
    "Redistribution": "redistribution",
    "Refined": "refined",
    "SoftmaxShare": "softmax_share",
    "SpectralKernel": "boundary_operator",
    "StructuredFlow": "structured_flow",
    "WideTransport": "wide_transport",
    "Constrained": "wrappers",
    "Corrected": "wrappers",
    "HoldNodes": "wrappers",
    "Normalized": "wrappers",
    "NormalizedMap": "wrappers",
    "Residual": "wrappers",
    "Surrogate": "wrappers",
    "WithCoordinates": "wrappers",
}

__all__ = [
    "EDMD",
    "FNO",
    "FORECASTERS",
    "KNO",
    "MODELS",
    "NVAR",
    "PINN",
    "PLRNN",
    "WRAPPERS",
    "Analog",
    "AtLead",
    "BallDistance",
    "BoundaryCondition",
    "BoundaryOperator",
    "Bundled",
    "Climatology",
    "Clipped",
    "Constrained",
    "ConvNet",
    "CoordinateNet",
    "Corrected",
    "Dissipative",
    "EchoState",
    "EdgeFluxes",
    "EdgePotential",
    "FluxForm",
    "ForecastSurrogate",
    "Fourier",
    "Galilean",
    "GroupAverage",
    "HardConditions",
    "HelmholtzNet",
    "HoldNodes",
    "InitialState",
    "JoinedDistance",
    "KernelFeatures",
    "LeadTime",
    "LimitedTransport",
    "LocalMixture",
    "MemoryPrior",
    "MeshGraphNet",
    "Modes",
    "Monomials",
    "Monotone",
    "NeuralODE",
    "Normalized",
    "NormalizedMap",
    "NullSpace",
    "ObservationPrior",
    "Observed",
    "Persistence",
    "PhysicsExperts",
    "PlaneDistance",
    "PositiveTensors",
    "PotentialForce",
    "RadialBasis",
    "RandomForest",
    "RandomFourier",
    "Reconstruction",
    "Redistribution",
    "Refined",
    "Residual",
    "SegmentDistance",
    "SoftmaxShare",
    "SolenoidalNet",
    "SpectralKernel",
    "StructuredFlow",
    "Surrogate",
    "UNet",
    "VectorPotential",
    "WideTransport",
    "WithCoordinates",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
