"""Find an inclusion from what receivers hear: the sound speed by gradients through the solver.

Sources on two sides of a square sound one after the other (one sample of the batch each), receivers all round listen.
The unknown is the bulk modulus of 400 cells in the middle, started without any inclusion. What is heard is made on
the same grid and without noise: a test of the gradients, easier than a measurement would be.
"""

import torch

from sciml import Grid
from sciml.pdes import Acoustics
from sciml.solvers.waves import PML, acoustic
from sciml.step import rollout

n, layer = 40, PML(6)
grid = Grid((n, n), (n / 20, n / 20), boundary="outflow", centering="cell")
x, y = grid.coordinates()

true = torch.ones(1, 1, n, n, dtype=torch.float64)
true[0, 0][(x - 1.1).square() + (y - 0.9).square() < 0.25**2] = 1.5

places = [(0.45, 0.6), (0.45, 1.4), (0.6, 0.45), (1.4, 0.45), (1.0, 0.45), (0.45, 1.0)]
pulses = torch.stack([torch.exp(-((x - a).square() + (y - b).square()) / 0.01) for a, b in places])
ring = torch.zeros(n, n, dtype=torch.bool)
ring[8:-8, 8:-8] = True
ring[9:-9, 9:-9] = False


def recordings(modulus: torch.Tensor) -> torch.Tensor:
    """Pressure at the receivers over time, (sources, times, receivers)."""
    step = acoustic(Acoustics(1.0, modulus), grid, 0.08, layer=layer, substeps=4)
    start = step.start(
        torch.cat([pulses[:, None], torch.zeros(len(places), 2, n, n, dtype=torch.float64)], dim=1)
    )
    return rollout(step, 22)(start)[:, 1:, 0][..., ring]


with torch.no_grad():
    heard = recordings(true)

# The logarithm keeps the modulus positive; the frame that holds sources, receivers and layer is known.
unknown = torch.zeros(1, 1, 20, 20, dtype=torch.float64, requires_grad=True)


def modulus_of(unknown: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(unknown, [10] * 4).exp()


optimizer = torch.optim.LBFGS([unknown], max_iter=30, history_size=10, line_search_fn="strong_wolfe")
misfits = []


def misfit() -> torch.Tensor:
    optimizer.zero_grad()
    loss = (recordings(modulus_of(unknown)) - heard).square().sum() / heard.square().sum()
    loss.backward()
    misfits.append(loss.item())
    return loss


optimizer.step(misfit)
with torch.no_grad():
    found = modulus_of(unknown)
    error = ((found - true).norm() / (true - 1).norm()).item()
print(f"misfit {misfits[0]:.1e} -> {misfits[-1]:.1e} in {len(misfits)} runs")
print(f"error of the modulus, over that of no inclusion: {error:.2f}")
inside, outside = found[true > 1].mean().item(), found[true == 1].mean().item()
print(f"modulus inside {inside:.2f} (1.5), outside {outside:.3f} (1)")
assert misfits[-1] < 1e-3 * misfits[0] and error < 0.3
