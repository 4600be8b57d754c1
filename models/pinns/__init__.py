"""Networks of space and time, trained on the residual of an equation."""

from sciml.models.pinns.coordinate_net import CoordinateNet
from sciml.models.pinns.fourier_series import FourierSeries
from sciml.models.pinns.helmholtz_net import HelmholtzNet
from sciml.models.pinns.pinn import PINN, trajectory
from sciml.models.pinns.solenoidal_net import SolenoidalNet

__all__ = ["CoordinateNet", "FourierSeries", "HelmholtzNet", "PINN", "SolenoidalNet", "trajectory"]
