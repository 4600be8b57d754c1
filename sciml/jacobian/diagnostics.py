"""Everything about the Jacobian of a step along states, for a report."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.jacobian.asymmetry import symmetry
from sciml.jacobian.eigenvalues import leading_eigenvalues
from sciml.jacobian.energy import jacobian_energy
from sciml.jacobian.products import Mode, StepFunction
from sciml.jacobian.singular import worst_direction
from sciml.jacobian.transient import transient_growth
from sciml.jacobian.wavenumbers import shell_response


def jacobian_diagnostics(
    step: StepFunction,
    states: Tensor,
    *,
    probes: int = 8,
    iterations: int = 20,
    krylov: int = 0,
    growth_steps: int = 0,
    grid: Grid | None = None,
    mode: Mode = "auto",
    scale: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, Tensor]:
    """What the Jacobian of a step looks like at given states (B, C, *points), without gradients.

    For a surrogate along the truth, and for the reference solver at the same states. Each part beyond the norms
    is asked for by its size.

    Args:
        step: the step.
        states: any states, such as those of one trajectory; all are treated together.
        probes: random directions of the energies, and disturbances of each shell.
        iterations: of the singular values.
        krylov: dimension for the largest eigenvalues; 0 leaves them out, 40 is usual.
        growth_steps: k, over which the optimal growth of a disturbance is found; 0 leaves it out.
        grid: where the points lie, for the gain per wavenumber; None leaves it out.
        mode: how J is multiplied, see `Jacobian`; "vjp" for solvers.
        scale: a typical size of each channel (C,), where channels have unlike units.
        generator: of all that is random.

    Returns:
        By name:

        - "row_energy" (B, *points), where small errors of the input are enlarged;
        - "column_energy" (B, *points), where errors come from;
        - "frobenius" (B,), ||J||_F / sqrt(n), one for the identity;
        - "spectral_norm" (B,), the worst enlargement in one step;
        - "worst_direction" (B, C, *points), the disturbance that has it, of length one;
        - "symmetry" (B,), |S| / (|S| + |A|), one for a symmetric J;
        - "spectral_radius" (B,), "eigenvalue" (B,) complex and its "eigenvalue_residual" (B,), with krylov;
        - "transient_growth" (B,), the worst enlargement over k steps of the step's own rollout, with
          growth_steps;
        - "shell_gain" (B, S), the enlargement of errors of each wavenumber, with a grid.
    """
    with torch.no_grad():
        out = {
            f"{kind}_energy": jacobian_energy(
                step,
                states,
                kind=kind,
                probes=probes,
                mode=mode if kind == "row" else "auto",
                scale=scale,
                generator=generator,
            )
            for kind in ("row", "column")
        }
        total = out["row_energy"].reshape(len(states), -1).sum(dim=1)
        out["frobenius"] = (total / states[0].numel()).sqrt()
        out["spectral_norm"], out["worst_direction"] = worst_direction(
            step, states, iterations, mode=mode, scale=scale, generator=generator
        )
        out["symmetry"] = symmetry(step, states, probes=probes, mode=mode, scale=scale, generator=generator)
        if krylov > 0:
            found = leading_eigenvalues(step, states, krylov=krylov, mode=mode, generator=generator)
            out["eigenvalue"], out["eigenvalue_residual"] = found.values[:, 0], found.residuals[:, 0]
            out["spectral_radius"] = out["eigenvalue"].abs()
        if growth_steps > 0:
            out["transient_growth"] = transient_growth(
                step,
                states,
                growth_steps,
                iterations=iterations,
                mode=mode,
                scale=scale,
                generator=generator,
            ).gains[:, 0]
        if grid is not None:
            out["shell_gain"] = shell_response(
                step, states, grid, probes=probes, mode=mode, scale=scale, generator=generator
            ).gains[:, 0]
    return {name: value.detach() for name, value in out.items()}
