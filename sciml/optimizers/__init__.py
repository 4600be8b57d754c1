"""Optimisers, schedules and averages of weights beside those of torch."""

import torch

from sciml.optimizers.auon import AuON
from sciml.optimizers.groups import as_matrices, from_matrices, parameter_groups
from sciml.optimizers.lion import Lion
from sciml.optimizers.muon import Muon, orthogonalised
from sciml.optimizers.root import ROOT
from sciml.optimizers.soap import SOAP

OPTIMIZERS: tuple[type[torch.optim.Optimizer], ...] = (Lion, Muon, SOAP, AuON, ROOT)

__all__ = [
    "OPTIMIZERS",
    "ROOT",
    "SOAP",
    "AuON",
    "Lion",
    "Muon",
    "as_matrices",
    "from_matrices",
    "orthogonalised",
    "parameter_groups",
]
