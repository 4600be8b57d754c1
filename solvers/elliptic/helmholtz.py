"""Waves of one frequency: between walls, leaving through sides, or fading in a layer around the box."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.domains.conditions import side_name
from sciml.linear import bicgstab, gmres, implicit_solve
from sciml.solvers.elliptic.diffusion import DiffusionProblem, discretise
from sciml.solvers.elliptic.multigrid import Multigrid
from sciml.solvers.elliptic.separable import Separable, separable
from sciml.solvers.elliptic.sides import EllipticConditions, Robin, SideValues, exact

HelmholtzMethod = Literal["auto", "fft", "direct", "gmres", "bicgstab"]
HelmholtzPreconditioner = Literal["fast", "multigrid"]
_COMPLEX = torch.complex128
# Unknowns up to which sparse factors are chosen: more fill the memory of a desktop in 3D first.
_FACTORED = {1: 10**7, 2: 320**2, 3: 24**3}


@dataclass(frozen=True)
class AbsorbingLayer:
    """A perfectly matched layer: coordinates turn complex inside, and outgoing waves fade without reflection.

    Solutions inside it mean nothing; sources belong outside of it.

    Args:
        thickness: measured inwards from each side [length]; half a wavelength or more.
        sides: such as ("x-", "y+"); all but periodic ones where left out.
        reflection: amplitude of what returns at normal incidence, before discretisation.
        wavenumber: of the medium outside, for which the layer is made; the mean of k where left out. Derivatives
            hold the layer fixed.

    Berenger, Journal of Computational Physics 114 (1994) 185; Chew and Weedon, Microwave and Optical Technology
    Letters 7 (1994) 599, for the stretched coordinates.
    """

    thickness: float
    sides: tuple[str, ...] | None = None
    reflection: float = 1e-4
    wavenumber: float | None = None

    def __post_init__(self) -> None:
        if not self.thickness > 0 or not 0 < self.reflection < 1:
            raise ValueError(
                f"AbsorbingLayer got thickness={self.thickness} and reflection={self.reflection}; expected a positive "
                "length and a share between 0 and 1."
            )


def solve_helmholtz(
    wavenumber: float | Tensor,
    f: float | Tensor,
    grid: Grid,
    *,
    boundary_values: SideValues = 0.0,
    boundary_flux: SideValues = 0.0,
    conditions: EllipticConditions | None = None,
    absorbing: AbsorbingLayer | None = None,
    damping: float = 0.0,
    tolerance: float = 1e-8,
    method: HelmholtzMethod = "auto",
    preconditioner: HelmholtzPreconditioner = "fast",
    restart: int = 60,
    max_iterations: int = 1000,
) -> Tensor:
    """Solve -lap(u) - k^2 (1 + i damping) u = f in 1D to 3D, (B, 1, *points).

    Finite volumes of second order, as for `solve_darcy`. u is real where nothing is complex, that is between walls
    without damping; otherwise complex128, with waves exp(ikx) that travel to the right, as factors of
    exp(-i omega t). Differentiable in k, f and the boundary data by the adjoint system.

    Limits. The error of the wavelength adds up along the way: it is about k (kh)^2 L / 24 in phase over a distance
    L, so that ten points per wavelength serve for a few wavelengths and twenty for some tens; a warning tells when
    there are fewer than ten. Between walls without damping there is no solution at the frequencies of the box's own
    modes, and a badly conditioned one near them. Iterations grow with the number of wavelengths in the box and
    with how much k varies.

    Args:
        wavenumber: k, positive, a number or (B, 1, *points) [1/length].
        f: source, (B, 1, *points) or a number, real or complex.
        grid: its sides are "dirichlet", "neumann", "periodic", or "outflow": du/dn = i k u, through which waves
            of normal incidence leave, others in part (first-order Sommerfeld).
        boundary_values: u on the Dirichlet sides; as for `solve_darcy`.
        boundary_flux: du/dn on the Neumann sides; likewise.
        conditions: sides of their own; Robin(-1j * k, g) on a "neumann" side lets waves out and g in.
        absorbing: a layer along the sides.
        damping: loss in the medium, at least zero.
        tolerance: relative residual of the iterative methods.
        method: "fft" (direct, batched, for constant k, "outflow" sides included, not absorbing layers), "direct"
            (sparse factors, one sample after the other), "gmres" or "bicgstab" (batched), or "auto": the first that
            applies, factors where they fit in memory, bicgstab and, where it fails, gmres.
        preconditioner: of the iterative methods. "fast": the direct solution for the mean of k^2, damped where k
            varies. "multigrid": a cycle for the operator with k^2 (1 + i/2), the shifted Laplacian.
        restart: vectors that gmres keeps.
        max_iterations: when to give up.

    Raises:
        ValueError: a shape, side or method does not fit, k is not positive and finite, f is not finite, or k^2 is an
            eigenvalue of the closed box.
        NotConverged: the tolerance was not reached.

    Erlangga, Oosterlee and Vuik, SIAM Journal on Scientific Computing 27 (2006) 1471, for the shifted Laplacian;
    Ihlenburg and Babuska, Computers & Mathematics with Applications 30 (1995) 9, for the limits.
    """
    if method not in get_args(HelmholtzMethod) or preconditioner not in get_args(HelmholtzPreconditioner):
        raise ValueError(
            f"solve_helmholtz got method={method!r} and preconditioner={preconditioner!r}; expected one of "
            f"{list(get_args(HelmholtzMethod))} and one of {list(get_args(HelmholtzPreconditioner))}."
        )
    if not (math.isfinite(damping) and damping >= 0):
        raise ValueError(f"solve_helmholtz got damping={damping}; expected at least zero.")
    k, source = _field("wavenumber", wavenumber, grid), _field("f", f, grid)
    if len(k) != len(source) and 1 not in (len(k), len(source)):
        raise ValueError(
            f"solve_helmholtz got {len(k)} wavenumbers and {len(source)} sources; expected as many of each, or one."
        )
    if k.is_complex() or not bool((k > 0).all()):
        raise ValueError(
            "solve_helmholtz got a wavenumber that is not positive; expected k > 0, with losses as damping."
        )
    _check_resolution(k, grid)
    single = all(
        v.dtype in (torch.float32, torch.complex64) for v in (wavenumber, f) if isinstance(v, Tensor)
    )
    single = single and any(isinstance(v, Tensor) for v in (wavenumber, f))
    problem = _discretised(k, k.square(), grid, conditions, absorbing, damping)
    b = problem.right_hand_side(source, boundary_values, boundary_flux)
    complex_valued = b.is_complex() or any(p.is_complex() for p in problem.operator.parameters)
    samples = max(len(b), problem.operator.samples)
    b = b.to(_COMPLEX if complex_valued else torch.float64).expand(samples, *b.shape[1:])
    solve = _Solver(problem, k.detach(), grid, conditions, absorbing, damping, method, preconditioner)
    solve.settings(tolerance, restart, max_iterations)
    u = implicit_solve(
        lambda u, *parameters: problem.operator.with_parameters(parameters)(u),
        b,
        solve,
        problem.operator.parameters,
        # The operator is complex symmetric: its conjugate transpose is its conjugate.
        adjoint=lambda g: solve(g.conj()).conj() if g.is_complex() else solve(g),
    )
    out = problem.complete(u, boundary_values).unsqueeze(1)
    return out.to(torch.complex64 if out.is_complex() else torch.float32) if single else out


def points_per_wavelength(wavenumber: float | Tensor, grid: Grid) -> float:
    """The least number of points in a wavelength 2 pi / k along any axis."""
    largest = float(exact(wavenumber).detach().max())
    return 2 * math.pi / (largest * max(grid.spacing))


def _check_resolution(k: Tensor, grid: Grid) -> None:
    number = points_per_wavelength(k, grid)
    if number < 10:
        warnings.warn(
            f"solve_helmholtz got {number:.1f} points per wavelength at the largest wavenumber {float(k.detach().max()):g}; "
            f"ten are the least for a solution that is more than a picture. Use spacings of at most "
            f"{2 * math.pi / float(k.detach().max()) / 10:.3g}.",
            stacklevel=3,
        )


def _field(name: str, value: float | complex | Tensor, grid: Grid) -> Tensor:
    """A number or (B, 1, *points) as (B, *points) in double precision."""
    given = exact(value)
    if given.ndim == 0:
        field = given.expand(1, *grid.shape)
    elif tuple(given.shape[1:]) != (1, *grid.shape):
        raise ValueError(
            f"solve_helmholtz got {name} of shape {tuple(given.shape)}; expected (B, 1, *{grid.shape})."
        )
    else:
        field = given.squeeze(1)
    field = field.to(_COMPLEX if field.is_complex() else torch.float64)
    if not bool(torch.isfinite(field).all()):
        raise ValueError(f"solve_helmholtz got {name} with values that are not finite.")
    return field


def _discretised(
    k: Tensor,
    squared: Tensor,
    grid: Grid,
    conditions: EllipticConditions | None,
    absorbing: AbsorbingLayer | None,
    damping: float,
) -> DiffusionProblem:
    """The operator with -k^2 as reaction, outflow sides as Robin sides, the layer as complex widths."""
    closed = replace(
        grid,
        boundary=tuple(
            tuple("neumann" if side == "outflow" else side for side in pair)  # type: ignore[misc]
            for pair in grid.sides
        ),
    )
    found = dict(conditions or {})
    for axis, pair in enumerate(grid.sides):
        for end, side in enumerate(pair):
            if side == "outflow":
                name = side_name(axis, end)
                if name in found:
                    raise ValueError(
                        f"solve_helmholtz got a condition on the side {name}, which is 'outflow'; make the side 'neumann' to "
                        "give Robin(-1j * k, value)."
                    )
                at_side = k.select(axis + 1, -1 if end else 0).unsqueeze(1)
                found[name] = Robin(-1j * at_side)
    stretch = None if absorbing is None else _stretch(absorbing, closed, float(k.detach().mean()))
    losses = -squared if damping == 0 else -(1 + 1j * damping) * squared
    return discretise(torch.ones_like(k[:1].detach()), closed, found, losses, stretch)


def _stretch(layer: AbsorbingLayer, grid: Grid, wavenumber: float) -> list[tuple[Tensor, Tensor]]:
    """s = 1 + i sigma / k at points and faces of each axis, sigma growing as the square of the depth."""
    names = {
        side_name(axis, end): grid.sides[axis][end] for axis in range(grid.dimension) for end in (0, 1)
    }
    chosen = [n for n, side in names.items() if side != "periodic"] if layer.sides is None else layer.sides
    wrong = [n for n in chosen if names.get(n, "periodic") == "periodic"]
    if wrong:
        raise ValueError(
            f"AbsorbingLayer got the sides {wrong}; this grid has {[n for n in names if names[n] != 'periodic']} that are "
            "not periodic."
        )
    strength = 3 * math.log(1 / layer.reflection) / (2 * layer.thickness)
    strength /= layer.wavenumber or wavenumber
    out = []
    for axis, (length, h, n) in enumerate(zip(grid.lengths, grid.spacing, grid.shape, strict=True)):
        here = [n for n in chosen if n[0] == "xyz"[axis]]
        if len(here) * layer.thickness >= length:
            raise ValueError(
                f"AbsorbingLayer got thickness={layer.thickness:g}, which leaves nothing of the length {length:g}."
            )
        shift = 0.5 if grid.centering == "cell" else 0.0
        lines = (
            h * (torch.arange(n, dtype=torch.float64) + shift),
            h * (torch.arange(n + 1, dtype=torch.float64) + shift - 0.5),
        )
        pair = []
        for x in lines:
            depth = torch.zeros_like(x)
            for name in here:
                inside = layer.thickness - (x if name[1] == "-" else length - x)
                depth = depth + (inside.clamp(0, layer.thickness) / layer.thickness).square()
            pair.append(torch.complex(torch.ones_like(x), strength * depth))
        out.append((pair[0], pair[1]))
    return out


def _opened(
    grid: Grid, layer: AbsorbingLayer, conditions: EllipticConditions | None
) -> tuple[Grid, EllipticConditions]:
    """The grid with "outflow" sides instead of those that end an absorbing layer."""
    kept = dict(conditions or {})
    sides = []
    for axis, pair in enumerate(grid.sides):
        ends = list(pair)
        for end in (0, 1):
            name = side_name(axis, end)
            # A known node on the side stays known, so that the unknowns are the same.
            known = grid.centering == "node" and pair[end] == "dirichlet"
            if pair[end] != "periodic" and not known and (layer.sides is None or name in layer.sides):
                ends[end] = "outflow"
                kept.pop(name, None)
        sides.append(tuple(ends))
    return replace(grid, boundary=tuple(sides)), kept  # type: ignore[arg-type]


class _Solver:
    """b (B, *unknowns) -> u; what depends on the operator alone is computed once, when first needed."""

    def __init__(
        self,
        problem: DiffusionProblem,
        k: Tensor,
        grid: Grid,
        conditions: EllipticConditions | None,
        absorbing: AbsorbingLayer | None,
        damping: float,
        method: HelmholtzMethod,
        preconditioner: HelmholtzPreconditioner,
    ) -> None:
        self.problem, self.operator = problem, problem.operator.detached()
        self._factors: dict[int, Callable[[np.ndarray], np.ndarray]] = {}
        self._cycle: Callable[[Tensor], Tensor] | None = None
        self._preconditioner = preconditioner
        self._second_try = False
        self._layer = (conditions, absorbing, damping)
        self._k, self._grid = k, grid
        flat = k.flatten(1)
        constant = bool((flat == flat[:, :1]).all())
        self._direct = self._fast(exact=True) if constant and method in ("auto", "fft") else None
        if method == "fft" and self._direct is None:
            raise ValueError(
                "solve_helmholtz got method='fft' and a wavenumber or sides that vary, or an absorbing layer; expected "
                "constants. Use 'gmres' or "
                "'direct', or 'auto', which chooses."
            )
        dimension, unknowns = problem.grid.dimension, math.prod(self.operator.shape)
        if method == "auto":
            method = "direct" if unknowns <= _FACTORED[dimension] else "bicgstab"
            self._second_try = True
        self.method = method

    def settings(self, tolerance: float, restart: int, max_iterations: int) -> None:
        """Of the iterations."""
        self._tolerance, self._restart, self._most = tolerance, restart, max_iterations

    def __call__(self, b: Tensor) -> Tensor:
        with torch.no_grad():
            if self._direct is not None:
                u = self._direct(b)
                # Eigenvectors of a complex line lose some digits, which a second pass returns.
                if u.is_complex():
                    u = u + self._direct(b - self.operator(u))
            elif self.method == "direct":
                u = self._by_factors(b)
            else:
                u = self._by_iterations(b.to(_COMPLEX))
            return u if b.is_complex() else u.real if u.is_complex() else u

    def _fast(self, exact: bool) -> Separable | None:
        """The solution for the mean of k^2, damped by how much it varies; None where sides vary.

        An absorbing layer has no basis of waves: unless it has to be `exact`, the sides behind it let waves out.
        """
        conditions, absorbing, damping = self._layer
        flat = self._k.square().flatten(1)
        mean = flat.mean(dim=1)
        spread = float((flat.std(dim=1) / mean).max()) if flat.shape[1] > 1 else 0.0
        grid, lost = self._grid, damping
        if absorbing is not None and not exact:
            grid, conditions = _opened(grid, absorbing, conditions)
            lost, absorbing = lost + 0.2, None
        level = mean.sqrt().reshape(-1, *[1] * grid.dimension).expand(-1, *grid.shape)
        if absorbing is not None and absorbing.wavenumber is None:
            absorbing = replace(absorbing, wavenumber=float(self._k.mean()))
        problem = _discretised(level, level.square(), grid, conditions, absorbing, 0.0)
        lost += min(0.5, spread) if spread > 1e-12 else 0.0
        shift: Tensor = -mean if lost == 0 else -(1 + 1j * lost) * mean
        fast = separable(problem, shift)
        if fast is not None and lost == 0 and not fast.complex_valued:
            _check_resonance(fast, mean)
        return fast

    def _by_iterations(self, b: Tensor) -> Tensor:
        if self._cycle is None:
            if self._preconditioner == "multigrid":
                self._cycle = self._shifted()
            else:
                self._cycle = self._fast(exact=False)
            if self._cycle is None:
                self._cycle = self._shifted()
        operator = self.operator
        if self.method == "bicgstab":
            found = bicgstab(
                operator,
                b,
                preconditioner=self._cycle,
                tolerance=self._tolerance,
                max_iterations=self._most,
                strict=not self._second_try,
            )
            if bool(found.converged.all()):
                return found.x
        return gmres(
            operator,
            b,
            preconditioner=self._cycle,
            tolerance=self._tolerance,
            restart=self._restart,
            max_iterations=self._most,
        ).x

    def _shifted(self) -> Callable[[Tensor], Tensor]:
        """A V-cycle for the operator with k^2 (1 + i/2)."""
        faces = [k.to(_COMPLEX) for k in self.operator.faces]
        assert self.operator.reaction is not None
        shifted = self.operator.with_parameters([*faces, (1 + 0.5j) * self.operator.reaction])
        return Multigrid(shifted, weights=(0.6, 0.6))

    def _by_factors(self, b: Tensor) -> Tensor:
        from scipy.sparse.linalg import splu

        shared = self.operator.samples == 1
        out = []
        for i, row in enumerate(b.flatten(1).resolve_conj().cpu().numpy()):
            key = 0 if shared else i
            if key not in self._factors:
                matrix = self.operator.matrix(key).tocsc()
                try:
                    self._factors[key] = splu(matrix, permc_spec="COLAMD").solve
                except RuntimeError as error:
                    raise ValueError(
                        f"solve_helmholtz found a singular matrix for sample {key}: k^2 is an eigenvalue of the closed box. "
                        "Change k, open a side, or add damping."
                    ) from error
            if np.iscomplexobj(row) and not any(p.is_complex() for p in self.operator.parameters):
                out.append(self._factors[key](row.real) + 1j * self._factors[key](row.imag))
            else:
                out.append(self._factors[key](row))
        return torch.as_tensor(np.stack(out)).to(b.device).reshape(b.shape)


def _check_resonance(fast: Separable, squared: Tensor) -> None:
    """Refuse a k^2 that is an eigenvalue of the closed box up to rounding."""
    nearest = float((fast.nearest / squared).min())
    if nearest < 1e-11:
        raise ValueError(
            f"solve_helmholtz got a k^2 that is within {nearest:.0e} of an eigenvalue of the closed box, where there is no "
            "solution. Change k, open a side, or add damping."
        )
