"""Datasets: write, check, read and convert trajectories of partial differential equations."""

from sciml.datasets.dataset import Dataset, Hints
from sciml.datasets.reader import open
from sciml.datasets.splits import Pairs, Split
from sciml.datasets.statistics import Statistics
from sciml.datasets.windows import Windows, batches
from sciml.datasets.writer import write_shard

__all__ = [
    "Dataset",
    "Hints",
    "Pairs",
    "Split",
    "Statistics",
    "Windows",
    "batches",
    "open",
    "write_shard",
]
