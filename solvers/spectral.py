"""Pseudo-spectral steps with exponential time differencing: Fourier series on periodic axes, sine and cosine
series between homogeneous sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from sciml.calculus import Spectral, Symbol, Trigonometric
from sciml.domains import Domain, Grid
from sciml.extras import require
from sciml.pdes.base import SemiLinear, SplitSemiLinear
from sciml.solvers.lanes import available, is_differentiated
from sciml.solvers.spectral_forms import pointwise_form
from sciml.solvers.spectral_half import HalfSpectra, half_steps
from sciml.solvers.spectral_packed import Packed, packed_steps
from sciml.solvers.time.etdrk import Etdrk, etdrk

Form = Literal["auto", "lanes", "packed", "generic"]
Stepping = Literal["exponential", "explicit"]

# Largest value, relative to the state, that passes for zero on a Dirichlet side: data of single precision.
_ZERO = 1e-5


@dataclass(frozen=True)
class _Coefficients:
    """What one precision and device need: the method on the half spectrum and the mask of its products.

    `linear` is the multiplier of the linear part where that is stepped with the products, else None.
    """

    method: Etdrk
    mask: Tensor
    calculus: Spectral
    symbol: Symbol
    linear: Tensor | None


class PseudoSpectral:
    """A Step that solves a semi-linear equation by ETDRK in Fourier space; made by `pseudo_spectral`.

    Attributes:
        dt, domain, channels: as every Step.
        substeps: ETDRK steps inside one call, taken without leaving Fourier space.
        order: order in time, 1 to 4.
        linear: whether the nonlinear term is zero, so that the step is exact for any dt.
        stepping: "exponential" where the linear part is exact in time, "explicit" where it is stepped as N is.
        learns: whether the linear part has parameters that require gradients, so that nothing made from it is kept.
        form: how steps without derivatives are computed: "lanes", "packed" or "generic".
        packed: the steps of pairs of samples, or None where there are none.
        half: the steps of half spectra, or None where there are none.
        sides: the sine and cosine series of a grid with bounded axes, or None.
        method: the scheme in words.
    """

    def __init__(
        self,
        pde: SemiLinear,
        grid: Grid,
        dt: float,
        *,
        order: int,
        substeps: int,
        degree: int,
        form: Form,
        stepping: Stepping,
    ) -> None:
        self.pde, self.grid, self.dt = pde, grid, float(dt)
        self.domain: Domain = grid
        self.channels = pde.channels(grid.dimension)
        self.order, self.substeps, self.degree = order, substeps, degree
        self.sides = None if all(grid.periodic) else Trigonometric(grid, pde.fields)
        # Between sides the state is continued by its mirror images; all that follows sees a periodic box.
        self._spectral = Spectral(grid) if self.sides is None else self.sides.doubled
        if self.sides is not None:
            _check_parity(pde, self.sides)
        self._mask = self._spectral.dealias(degree)
        symbol, self._coupled = self._symbol()
        # Parameters that learn change between calls, so nothing made from them is kept.
        self.learns = symbol.requires_grad
        self.linear = self._is_linear()
        self.stepping: Stepping = "exponential" if self.linear else stepping
        if not self.linear and int(self._mask.sum()) <= 1:
            raise ValueError(
                f"pseudo_spectral got a grid of {grid.shape} points; products of {degree} factors keep no mode of it but "
                f"the mean. Expected an axis of at least {degree + 2}."
            )
        if self.linear:
            self.substeps = 1
        self._h = self.dt / self.substeps
        rule = "2/3 rule" if degree == 2 else f"products of degree {degree}"
        series = _series(grid)
        scheme = f"ETDRK{order}" if stepping == "exponential" else f"explicit RK{order}"
        self.method = (
            f"{series}, exact in time" if self.linear else f"{series} pseudo-spectral, {scheme}, {rule}"
        )
        self._cache: dict[tuple[torch.dtype, torch.device], _Coefficients] = {}
        self.packed: Packed | None = None
        self.half: HalfSpectra | None = None
        if self.learns:
            return
        exact = self._method(symbol, self._coupled)
        # Both precisions now: a tensor made under torch.func or inference mode cannot be used outside.
        for dtype in (torch.float64, torch.float32):
            self._cache[dtype, torch.device("cpu")] = self._cast(exact, symbol, dtype, torch.device("cpu"))
        alike = symbol.ndim == grid.dimension + 2 and symbol.shape[0] == 1 and not self._coupled
        exponential = not self.linear and self.stepping == "exponential"
        if form != "generic" and exponential and alike and not symbol.is_complex():
            self._make_fast(symbol[0], exact, form != "packed" and available())

    def _make_fast(self, symbol: Tensor, method: Etdrk, compiled: bool) -> None:
        """The steps without derivatives, where N has a form that states it."""
        form = pointwise_form(self.pde, self._spectral)
        if form is None or not form.states(self.pde, self._spectral, self._mask):
            return
        given = (form, self._spectral, symbol, method, self._h, self.substeps, self.degree)
        self.packed = packed_steps(*given, compiled)
        if compiled:
            self.half = half_steps(self.pde, *given)

    @property
    def form(self) -> Form:
        """How steps without derivatives are computed on the CPU."""
        if self.half is not None or (
            self.packed is not None and self.packed.lanes(torch.float64) is not None
        ):
            return "lanes"
        return "generic" if self.packed is None else "packed"

    def __repr__(self) -> str:
        return (
            f"PseudoSpectral({self.pde}, {self.grid.shape}, dt={self.dt}, substeps={self.substeps}, "
            f"{self.method})"
        )

    def __call__(self, u: Tensor, /) -> Tensor:
        expected = (len(self.channels), *self.grid.shape)
        if tuple(u.shape[1:]) != expected or u.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"pseudo_spectral got a state of shape {tuple(u.shape)} and type {u.dtype}; expected "
                f"(B, *{expected}) with channels {self.channels}, in float32 or float64."
            )
        own = (
            len(self._cache[torch.float64, torch.device("cpu")].method.propagators[0]) if self._cache else 1
        )
        if u.shape[0] not in (own, *([1] if own > 1 else [u.shape[0]])):
            raise ValueError(
                f"pseudo_spectral got {u.shape[0]} states; the parameters of {type(self.pde).__name__} are those of "
                f"{own} samples."
            )
        if self.sides is None:
            return self._periodic(u)
        if not torch._C._are_functorch_transforms_active():
            _check_zero_sides(u.detach(), self.sides)
        return self.sides.restrict(self._periodic(self.sides.extend(u)))

    def _periodic(self, u: Tensor) -> Tensor:
        """The step on the periodic box."""
        fast = None if is_differentiated(u) else self._fastest(u)
        return self._plain(u) if fast is None else self._separated(u, fast(u), fast.partners(u.shape[0]))

    def _fastest(self, u: Tensor) -> Packed | HalfSpectra | None:
        """The fastest steps for such states: pairs of samples in 1D and 2D, half spectra for all others."""
        packed = self.packed if self.packed is not None and self.packed.takes(u) else None
        if self.half is None or not self.half.takes(u):
            return packed
        return packed if packed is not None and u.ndim < 5 and u.shape[0] > 1 else self.half

    def _separated(self, u: Tensor, new: Tensor, partners: Tensor) -> Tensor:
        """What pairs gave, computed again apart where the two samples of one are too unlike.

        A sample that blows up would take its partner along, and one that is larger by many orders leaves
        its rounding in the smaller.
        """
        size = torch.stack([u.flatten(1).abs().amax(1), new.flatten(1).abs().amax(1)])
        other = size[:, partners]
        most = 1e6 if u.dtype == torch.float64 else 1e2
        # Written so that a size that is not a number counts as unlike.
        alike = (size <= most * other) & (other <= most * size)
        alike &= torch.isfinite(size) & torch.isfinite(other)
        unlike = ~alike.all(dim=0) & (partners != torch.arange(len(partners))).to(u.device)
        if not bool(unlike.any()):
            return new
        chosen = torch.nonzero(unlike).squeeze(1)
        new[chosen] = self._plain(u[chosen])
        return new

    def _plain(self, u: Tensor) -> Tensor:
        """The form for every equation, differentiable."""
        parts = self._coefficients(u)
        symbol = parts.symbol
        modes = self.pde.project(parts.calculus.to_modes(u), symbol)
        if self.linear:
            return parts.calculus.to_points(parts.method.apply(parts.method.propagators[-1], modes))

        def split(v: Tensor) -> Tensor:
            fields = parts.calculus.to_points(pde.before(v * parts.mask, symbol))
            rate = pde.products(fields, parts.calculus).to(u.dtype)
            return pde.after(parts.calculus.to_modes(rate), symbol) * parts.mask

        def whole(v: Tensor) -> Tensor:
            w = parts.calculus.to_points(v * parts.mask)
            # Parameters in double precision would raise the state to theirs.
            rate = self.pde.nonlinear(w, parts.calculus).to(u.dtype)
            return parts.calculus.to_modes(rate) * parts.mask

        pde = cast(SplitSemiLinear, self.pde)
        # A subclass that states N anew is taken at its word.
        stated = type(self.pde).nonlinear
        products = split if stated is SplitSemiLinear.nonlinear else whole

        def all_of_it(v: Tensor) -> Tensor:
            assert parts.linear is not None
            linear = (parts.linear * v.unsqueeze(1)).sum(dim=2) if self._coupled else parts.linear * v
            return products(v) + linear

        nonlinear = products if parts.linear is None else all_of_it
        for _ in range(self.substeps):
            modes = parts.method.step(modes, nonlinear)
        return parts.calculus.to_points(modes)

    def linear_method(self) -> tuple[Etdrk, Tensor]:
        """The exponential method's coefficients in float64, and how far up each mode that products reach stands.

        (*half spectrum) from 0 for the mean to 1 at the last mode of every axis; 0 where products do not reach.
        """
        symbol, coupled = self._symbol()
        total = sum(k.abs() for k in self._spectral.wavenumbers)
        height = total / sum(math.pi / h for h in self.grid.spacing)
        return etdrk(symbol.detach(), self._h, self.order, coupled=coupled), height * self._mask

    def linear_rates(self) -> Tensor:
        """The eigenvalues of the linear part, complex128 [1/time]."""
        symbol, coupled = self._symbol()
        symbol = symbol.detach().to(torch.complex128)
        if coupled:
            return torch.linalg.eigvals(symbol.movedim((1, 2), (-2, -1))).flatten()
        return symbol.flatten()

    def _symbol(self) -> tuple[Tensor, bool]:
        """Fourier multiplier of the linear part, and whether it couples channels.

        (1 or B, C, *half spectrum), or (1 or B, C, C, *half spectrum) where it does; float64 or complex128.
        """
        count = len(self.channels)
        shape = (1, count, *self._spectral.symbol_shape)
        symbol = Symbol(self._spectral)
        total = self.pde.linear(torch.ones(shape, dtype=torch.float64), symbol)
        half = (-1, -1, *self._spectral.symbol_shape)
        if count == 1:
            return total.expand(half), False
        columns = []
        for channel in range(count):
            one = torch.zeros(shape, dtype=torch.float64)
            one[:, channel] = 1.0
            columns.append(self.pde.linear(one, symbol).expand(half))
        matrix = torch.stack(columns, dim=2)
        size = matrix.detach().abs()
        beside = size.amax(dim=(0, *range(3, size.ndim)))
        beside.fill_diagonal_(0.0)
        if bool((beside > 1e-12 * size.max()).any()):
            return matrix, True
        return torch.diagonal(matrix, dim1=1, dim2=2).movedim(-1, 1), False

    def _method(self, symbol: Tensor, coupled: bool) -> Etdrk:
        if self.stepping == "explicit":
            # Without a linear part the exponential methods are the explicit ones, one number per coefficient.
            nothing = torch.zeros((1,) * (self.grid.dimension + 2), dtype=torch.float64)
            return etdrk(nothing, self._h, self.order)
        # A linear equation needs the propagator alone, which all orders share.
        return etdrk(symbol, self._h, 1 if self.linear else self.order, coupled=coupled)

    def _is_linear(self) -> bool:
        """Whether N vanishes identically, tried on one random state."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, len(self.channels), *self._spectral.grid.shape)
        probe = torch.randn(shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            return not bool(self.pde.nonlinear(probe, self._spectral).any())

    def _coefficients(self, u: Tensor) -> _Coefficients:
        if self.learns:
            symbol, coupled = self._symbol()
            return self._cast(self._method(symbol, coupled), symbol, u.dtype, u.device)
        found = self._cache.get((u.dtype, u.device))
        if found is None:
            exact = self._cache[torch.float64, torch.device("cpu")]
            with torch.inference_mode(False):
                found = self._cast(exact.method, exact.linear, u.dtype, u.device)
            if not torch._C._are_functorch_transforms_active():
                self._cache[u.dtype, u.device] = found
        return found

    def _cast(
        self, method: Etdrk, linear: Tensor | None, dtype: torch.dtype, device: torch.device
    ) -> _Coefficients:
        def change(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=dtype.to_complex() if x.is_complex() else dtype)

        stepped = None if linear is None or self.stepping == "exponential" else change(linear)
        calculus = self._spectral if device.type == "cpu" else Spectral(self._spectral.grid).to(device)
        mask = self._mask.to(device=device, dtype=dtype)
        return _Coefficients(method.map(change), mask, calculus, Symbol(calculus), stepped)


def _series(grid: Grid) -> str:
    """Names of the series along the axes, for people."""
    names = []
    for sides in grid.sides:
        if sides[0] == "periodic":
            names.append("Fourier")
        elif "wall" in sides or sides[0] != sides[1]:
            names += ["sine", "cosine"]
        else:
            names.append("sine" if sides[0] == "dirichlet" else "cosine")
    return "-".join(dict.fromkeys(names))


def _check_parity(pde: SemiLinear, sides: Trigonometric) -> None:
    """Refuse an equation that does not keep the symmetry of the mirror images, tried on a random state."""
    grid = sides.grid
    name, channels = type(pde).__name__, pde.channels(grid.dimension)
    generator = torch.Generator().manual_seed(0)
    shape = (1, len(channels), *grid.shape)
    probe = sides.extend(torch.randn(shape, generator=generator, dtype=torch.float64))
    for part, operator in (("linear", pde.linear), ("nonlinear", pde.nonlinear)):
        with torch.no_grad():
            try:
                rate = operator(probe, sides.doubled)
            except RuntimeError as error:
                raise ValueError(
                    f"pseudo_spectral got {name} on {grid}; its {part} part cannot be evaluated on the mirror "
                    f"image of {sides.doubled.grid.shape} points, as a field given on the points of the grid "
                    f"cannot: {error}"
                ) from error
            for axis in range(grid.dimension):
                image = sides.mirrored(rate, axis)
                # Rounding, of high derivatives too, is relative to the largest rate.
                if torch.allclose(image, rate, rtol=0, atol=1e-8 * float(rate.abs().max()), equal_nan=True):
                    continue
                raise ValueError(
                    f"pseudo_spectral got {name} with sides {grid.sides[axis]} on axis {axis}; its {part} part does "
                    "not keep the symmetry of sine and cosine series there (odd about Dirichlet sides, even about "
                    "Neumann sides; about walls odd for the normal component of a vector, else even), as an odd "
                    "number of derivatives along the axis or an even power between Dirichlet sides do not. Use other "
                    "sides, or finite differences: build(pde, grid, dt)."
                )


def _check_zero_sides(u: Tensor, sides: Trigonometric) -> None:
    """Refuse a state that does not vanish where its sine series do."""
    if not u.numel():
        return
    size = u.flatten(1).abs().amax(dim=1)
    for axis, n in enumerate(sides.grid.shape):
        for odd, index in zip(sides.odd(axis), (0, n - 1), strict=True):
            if not odd:
                continue
            on_side = (u if len(odd) == u.shape[1] else u[:, list(odd)]).select(2 + axis, index)
            value = on_side.flatten(1).abs().amax(dim=1)
            # False for what is not a number: a blow-up is a result.
            if bool((value > _ZERO * size).any()):
                raise ValueError(
                    f"pseudo_spectral got a state of up to {float(value.max()):.3g} on a side of axis {axis} where "
                    "it has to vanish, as sine series do. Subtract a steady field with these values, or use "
                    "finite differences, which hold them: build(pde, grid, dt)."
                )


def pseudo_spectral(
    pde: SemiLinear,
    grid: Grid,
    dt: float,
    *,
    order: int = 4,
    substeps: int = 1,
    degree: int | None = None,
    form: Form = "auto",
    stepping: Stepping = "exponential",
) -> PseudoSpectral:
    """A Step that solves u_t = L u + N(u) on a grid of nodes with periodic or homogeneous sides, 1D to 3D.

    The linear part is exact in time, the nonlinear one of the given order; both are exact in space for
    what the grid resolves. Products are taken between the modes |k| < N/(degree + 1) and cut back to
    them (the 2/3 rule for squares); modes above follow the linear part alone, so that a step of dt -> 0
    changes nothing. The mean is kept to rounding where N has none. A state that blows up becomes
    non-finite and raises nothing.

    Bounded axes have sine and cosine series (`Trigonometric`): u = 0 on Dirichlet sides, du/dn = 0 on Neumann
    sides, a mirror at walls, which are free of friction; the two sides of an axis may differ. The equation must
    keep the symmetry of the series, which is tried: heat and waves between any of them, reactions between Neumann
    sides and, where they are odd in u, between Dirichlet sides, Burgers and Kuramoto-Sivashinsky between
    Dirichlet sides in 1D, Burgers between walls in 1D to 3D, two-dimensional vorticity between Dirichlet sides,
    which are walls to the flow. The state is continued by its mirror images and advanced on a periodic box of 2^d times
    the points for d bounded axes (4 times along an axis whose sides differ): the result is that of the Fourier
    method there, restricted. Values that are not zero are refused on Dirichlet sides; finite differences, as
    `build` chooses them by default, hold them.

    Differentiable in the state and in parameters that are tensors, in reverse and forward mode. Where no
    derivative is asked for, equations whose nonlinear term is a few products (`spectral_forms`) take faster
    steps: compiled loops (`lanes`) where numba is installed, on the CPU and for sizes with no other factors
    than 2, 3 and 5, on pairs of samples in 1D and 2D and on half spectra for several fields and in 3D; else, for
    one channel, tensors in which two real samples travel as one complex field. All forms agree to rounding.

    Computes in the precision of the state; the coefficients are made in float64 and cast.

    Args:
        pde: the equation; parameters (B, 1, ...) give each sample of a batch its own.
        grid: nodes; sides periodic, "dirichlet", "neumann" or "wall".
        dt: time of one Step [time].
        order: 1 to 4.
        substeps: equal ETDRK steps per Step. Stable for about h max|u| sum_d 1/dx_d <= 1 at order 4;
            `build` chooses. A linear equation is solved exactly in one.
        degree: number of factors of the products in N; None takes that of the equation.
        form: "auto" takes the fastest form there is; the others insist on theirs, for comparisons.
        stepping: "exponential", or "explicit" for the Runge-Kutta method of the same order on L + N together,
            bound by the rates of L too. It needs no tables of coefficients, so that it is quicker where L learns or
            has its own coefficients in each sample and is not stiff. A linear equation is exact either way.

    Raises:
        ValueError: an argument is out of range, the grid does not fit, the equation does not keep the
            symmetry of the series, or the equation or grid has not the form asked for. The step itself raises
            it for states of the wrong shape, or that do not vanish on Dirichlet sides.
        ModuleNotFoundError: the form "lanes" without numba, naming the extra.

    Cox and Matthews (2002); Kassam and Trefethen (2005); Orszag (1971) for the 2/3 rule.
    """
    if not isinstance(pde, SemiLinear):
        raise ValueError(
            f"pseudo_spectral got {type(pde).__name__}; expected a semi-linear equation, such as Burgers()."
        )
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"pseudo_spectral got dt={dt}; expected a positive time.")
    if order not in (1, 2, 3, 4):
        raise ValueError(f"pseudo_spectral got order={order}; expected 1, 2, 3 or 4.")
    if substeps < 1:
        raise ValueError(f"pseudo_spectral got substeps={substeps}; expected at least 1.")
    if grid.dimension not in pde.dimensions:
        raise ValueError(
            f"pseudo_spectral got a grid of {grid.dimension} axes; {type(pde).__name__} lives in "
            f"{pde.dimensions}."
        )
    if grid.centering != "node":
        raise ValueError("pseudo_spectral got a grid of cells; make it with Grid(..., centering='node').")
    if form not in get_args(Form):
        raise ValueError(f"pseudo_spectral got form={form!r}; expected one of {get_args(Form)}.")
    if stepping not in get_args(Stepping):
        raise ValueError(
            f"pseudo_spectral got stepping={stepping!r}; expected one of {get_args(Stepping)}."
        )
    if form == "lanes":
        require("numba", extra="compiled", purpose="the form 'lanes' of pseudo_spectral")
    degree = pde.degree if degree is None else degree
    step = PseudoSpectral(
        pde, grid, dt, order=order, substeps=substeps, degree=degree, form=form, stepping=stepping
    )
    if form not in ("auto", step.form):
        raise ValueError(
            f"pseudo_spectral got form={form!r}; {type(pde).__name__} on {grid.shape} points has only the form "
            f"{step.form!r}. Leave form='auto'."
        )
    return step
