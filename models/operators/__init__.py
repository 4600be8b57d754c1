"""Maps between fields on grids."""

from sciml.models.operators.conv_net import ConvNet
from sciml.models.operators.fno import FNO
from sciml.models.operators.kno import KNO, Reconstruction
from sciml.models.operators.unet import UNet

__all__ = ["FNO", "KNO", "ConvNet", "Reconstruction", "UNet"]
