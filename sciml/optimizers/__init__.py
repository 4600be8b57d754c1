"""Optimisers, schedules and averages of weights beside those of torch."""

import torch

from sciml.optimizers.auon import AuON
from sciml.optimizers.averaging import WeightAverage
from sciml.optimizers.diagnostics import Curvature, alignment, curvature
from sciml.optimizers.groups import as_matrices, from_matrices, parameter_groups
from sciml.optimizers.lion import Lion
from sciml.optimizers.muon import Muon, orthogonalised
from sciml.optimizers.quasi_newton import QuasiNewton
from sciml.optimizers.root import ROOT
from sciml.optimizers.schedules import SCHEDULES, batch_scaled, refined, tabulated
from sciml.optimizers.soap import SOAP

OPTIMIZERS: tuple[type[torch.optim.Optimizer], ...] = (Lion, Muon, SOAP, AuON, ROOT, QuasiNewton)

__all__ = [
    "OPTIMIZERS",
    "ROOT",
    "SCHEDULES",
    "SOAP",
    "AuON",
    "Curvature",
    "Lion",
    "Muon",
    "QuasiNewton",
    "WeightAverage",
    "alignment",
    "as_matrices",
    "batch_scaled",
    "curvature",
    "from_matrices",
    "orthogonalised",
    "parameter_groups",
    "refined",
    "tabulated",
]
