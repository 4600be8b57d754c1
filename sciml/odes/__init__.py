"""Systems of ordinary differential equations, each stated once."""

from sciml.odes.base import ODE, FunctionODE, Hamiltonian, Separable
from sciml.odes.delay import Delay
from sciml.odes.double_pendulum import DoublePendulum
from sciml.odes.henon_heiles import HenonHeiles
from sciml.odes.lorenz import Lorenz63, Lorenz96
from sciml.odes.mackey_glass import MackeyGlass
from sciml.odes.roessler import Roessler

ODES: tuple[type[ODE], ...] = (Lorenz63, Lorenz96, Roessler, DoublePendulum, HenonHeiles, MackeyGlass)

__all__ = [
    "ODE",
    "ODES",
    "Delay",
    "DoublePendulum",
    "FunctionODE",
    "Hamiltonian",
    "HenonHeiles",
    "Lorenz63",
    "Lorenz96",
    "MackeyGlass",
    "Roessler",
    "Separable",
]
