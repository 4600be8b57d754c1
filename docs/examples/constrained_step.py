"""An untrained network as a step: without a constraint its mean drifts, with `ConservedMean` it is exact."""

import torch
from torch import nn

from sciml import Grid, iterate
from sciml.constraints import ConservedMean
from sciml.models import ConvNet
from sciml.models.wrappers import Constrained, Surrogate
from sciml.regularizers import Frobenius

torch.manual_seed(0)
grid = Grid((64,), (1.0,))
network = nn.Sequential(
    ConvNet(in_channels=1, out_channels=1, width=8, hidden_layers=2), nn.Tanh()
).double()
free = Surrogate(network, dt=0.1, domain=grid, channels=("u",))
held = Surrogate(Constrained(network, ConservedMean(grid)), dt=0.1, domain=grid, channels=("u",))

u0 = torch.sin(2 * torch.pi * grid.coordinates()).unsqueeze(0) + 1.0
for name, step in {"free": free, "constrained": held}.items():
    for state in iterate(step, u0, 100):
        last = state
    drift = float((last.mean() - u0.mean()).abs())
    print(f"{name}: drift of the mean after 100 steps {drift:.1e}")
assert drift < 1e-12

penalty = Frobenius(probes=4)(held, u0, torch.Generator().manual_seed(0))
print(f"mean squared row of the one-step Jacobian of the constrained step: {float(penalty.detach()):.3f}")
assert penalty.shape == (1,)
