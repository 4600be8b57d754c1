"""Find the bed of a channel from what its surface does: gradients through 64 steps of a solver.

Two waves run over an unknown bed, one from either end. Gauges read the height of the surface, with noise; nobody
sees the bed. L-BFGS changes the bed in every cell until the solver's surface agrees with the gauges.

python find_topography.py             # half a minute
"""

import torch
from torch import Tensor

from sciml import Grid, rollout
from sciml.pdes import ShallowWater
from sciml.solvers.finite_volume import shallow_water

torch.set_num_threads(1)  # a small problem: threads would wait for each other
CELLS, STEPS, EVERY, NOISE = 64, 64, 2, 1e-3
grid = Grid((CELLS,), (10.0,), boundary="wall", centering="cell")
x = grid.axes()[0]
# The surface at the start is known: level at 1 m, and a wave of 0.2 m at the left end, or at the right one.
starts = torch.stack([1.0 + 0.2 * torch.exp(-((x - at) ** 2)) for at in (0.0, 10.0)]).unsqueeze(1)


def surface(bed: Tensor) -> Tensor:
    """Surface over a bed (1, 1, cells) at the gauges, (2 waves, times, gauges)."""
    start = torch.cat((starts - bed, torch.zeros_like(starts)), dim=1)
    step = shallow_water(ShallowWater(bed=bed), grid, dt=0.025, substeps=1, time="ssprk2")
    path = rollout(step, STEPS)(start)
    return (path[:, ::EVERY, :1] + bed)[:, :, 0, ::EVERY]


true = (0.4 * torch.exp(-(((x - 4.0) / 0.8) ** 2)) + 0.2 * torch.exp(-(((x - 6.5) / 0.5) ** 2))).reshape(
    1, 1, -1
)
with torch.no_grad():
    exact = surface(true)
    gauges = exact + NOISE * torch.randn(
        exact.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype
    )

bed = torch.zeros_like(true).requires_grad_()
optimizer = torch.optim.LBFGS([bed], max_iter=30, line_search_fn="strong_wolfe", tolerance_change=1e-6)


def objective() -> Tensor:
    optimizer.zero_grad()
    misfit = ((surface(bed) - gauges) / NOISE).square().mean()
    roughness = bed.diff(n=2, dim=2).square().sum()  # noise would be read as a rough bed
    loss = misfit + 10.0 * roughness
    loss.backward()
    return loss


def error() -> float:
    return float((bed.detach() - true).norm() / true.norm())


before = error()
first = float(objective().detach())
optimizer.step(objective)
with torch.no_grad():
    last = float(((surface(bed) - gauges) / NOISE).square().mean())
print(f"misfit of the gauges, over their noise: {first:.0f} before, {last:.2f} after")
print(
    f"error of the bed: {before:.0%} before, {error():.1%} after; its top is {float(bed.detach().max()):.3f} m of 0.4 m high"
)
assert last < 2.0 and error() < 0.08 < before
