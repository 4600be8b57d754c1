"""Networks of space and time, trained on the residual of an equation."""

from sciml.models.pinns.fourier_series import FourierSeries
from sciml.models.pinns.pinn import PINN, trajectory

__all__ = ["FourierSeries", "PINN", "trajectory"]
