"""A random state of Burgers' equation, a hundred steps, and what the equation conserves."""

import torch

from sciml import Grid, rollout
from sciml.fields import RandomFourier
from sciml.pdes import Burgers
from sciml.solvers import build

grid = Grid((256,), (1.0,))
pde = Burgers(viscosity=0.01)
step = build(pde, grid, dt=0.01)
print(step.method, "-", step.reason)

generator = torch.Generator().manual_seed(0)
u0 = torch.stack([RandomFourier(modes=5)(grid, 1, generator) for _ in range(4)])
u = rollout(step, 100)(u0)
assert u.shape == (4, 101, 1, 256)

before, after = (pde.invariants(state, grid)["momentum"] for state in (u[:, 0], u[:, -1]))
print("momentum before and after:", before.tolist(), after.tolist())
assert (before - after).abs().max() < 1e-13
