"""Datasets: write, check, read and convert trajectories of differential equations."""

from sciml.datasets.check import Report, check
from sciml.datasets.convert import convert
from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.distributions import Choice, Constant, LogUniform, Uniform
from sciml.datasets.generate import generate
from sciml.datasets.inspection import describe, plot
from sciml.datasets.order import Order
from sciml.datasets.reader import open
from sciml.datasets.recipe import Recipe, UsualStates, known_recipes, load_recipe
from sciml.datasets.scaling import Scaling
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.statistics import Statistics
from sciml.datasets.windows import LeadPairs, MeshWindows, Mixture, Windows, batches
from sciml.datasets.writer import write_shard

__all__ = [
    "Choice",
    "Constant",
    "Dataset",
    "Hints",
    "LeadPairs",
    "LogUniform",
    "MeshWindows",
    "Mixture",
    "Order",
    "Pairs",
    "Recipe",
    "Report",
    "Scaling",
    "Split",
    "Statistics",
    "Uniform",
    "UsualStates",
    "Windows",
    "batches",
    "check",
    "convert",
    "describe",
    "generate",
    "known_recipes",
    "load_recipe",
    "open",
    "plot",
    "write_shard",
]
