"""Fast ETDRK for equations with point-wise products: two real samples travel as one complex field.

For u = u_1 + i u_2 every linear operator with a real kernel acts on both samples at once, by one multiplier on
the full complex spectrum. A complex transform is cheaper than the two real ones it replaces (no Hermitian
copies), its scaling is folded into the multipliers, and point-wise work is real arithmetic on the (re, im)
pairs. Only the modes that survive the 2/3 rule are stored; those above it follow the linear part and are
touched once per call. Buffers live as long as one call and are written in place: nothing here is
differentiable.

The equation stays the only statement of itself: a fast form is used only after it gave the same numbers
as `pde.nonlinear` on a random state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.calculus import Spectral, Symbol
from sciml.pdes import (
    Burgers,
    ConservativeBurgers,
    KuramotoSivashinsky,
    NavierStokesVorticity,
    ScalarBurgers,
)
from sciml.pdes.allen_cahn import AllenCahn
from sciml.pdes.base import SemiLinear
from sciml.pdes.cahn_hilliard import CahnHilliard
from sciml.pdes.fisher_kpp import FisherKPP
from sciml.pdes.gray_scott import GrayScott
from sciml.solvers.time.etdrk import Etdrk

if TYPE_CHECKING:
    from sciml.solvers.lanes.etdrk import LaneSteps


@dataclass(frozen=True)
class Pointwise:
    """N_c(u) = sum_g out_cg F[products_g(F^-1[in_1 u], F^-1[in_2 u], ...)] + constant_c, in Fourier space.

    Args:
        inputs: of each field that the products need its channel of u and a multiplier (*half spectrum); None
            is 1.
        products: a name of `PRODUCTS`.
        outputs: of each channel a multiplier (*half spectrum) of the transform of each product.
        constants: of each channel the coefficients (*half spectrum) of a steady source in the sense of
            `Spectral.to_modes`, or None.
    """

    inputs: tuple[tuple[int, Tensor | None], ...]
    products: str
    outputs: tuple[tuple[Tensor, ...], ...]
    constants: tuple[Tensor | None, ...]

    def nonlinear(self, u: Tensor, spectral: Spectral, mask: Tensor) -> Tensor:
        """N(u) of real samples (B, C, *points), its modes times a mask: the form read aloud, for checks."""
        modes = spectral.to_modes(u) * mask
        fields = [
            spectral.to_points((modes if m is None else modes * m)[:, c : c + 1]) for c, m in self.inputs
        ]
        products = [
            spectral.to_modes(p) for p in PRODUCTS[self.products](fields, torch.empty_like(fields[0]))
        ]
        rows = []
        for row, constant in zip(self.outputs, self.constants, strict=True):
            total = torch.zeros_like(modes[:, :1])
            for m, product_ in zip(row, products, strict=True):
                total = total + m * product_
            rows.append(total if constant is None else total + constant)
        return spectral.to_points(torch.cat(rows, dim=1) * mask)


def _square(fields: list[Tensor], spare: Tensor) -> list[Tensor]:
    return [fields[0].mul_(fields[0])]


def _stresses(fields: list[Tensor], spare: Tensor) -> list[Tensor]:
    """(v_x v_y, v_y^2 - v_x^2) of the velocity."""
    x, y = fields
    torch.mul(x, y, out=spare)
    return [spare, y.mul_(y).addcmul_(x, x, value=-1)]


def _well(fields: list[Tensor], spare: Tensor) -> list[Tensor]:
    """u - u^3."""
    torch.mul(fields[0], fields[0], out=spare)
    return [fields[0].addcmul_(fields[0], spare, value=-1)]


def _steepness(fields: list[Tensor], spare: Tensor) -> list[Tensor]:
    """x^2 + y^2."""
    x, y = fields
    return [x.mul_(x).addcmul_(y, y)]


def _logistic(fields: list[Tensor], spare: Tensor) -> list[Tensor]:
    """u - u^2."""
    return [fields[0].addcmul_(fields[0], fields[0], value=-1)]


def _catalysis(fields: list[Tensor], spare: Tensor) -> list[Tensor]:
    """a b^2."""
    return [fields[0].mul_(fields[1]).mul_(fields[1])]


# Fields and one spare array -> products, point by point; all of them may be overwritten. The compiled loops
# know the same names.
PRODUCTS: dict[str, Callable[[list[Tensor], Tensor], list[Tensor]]] = {
    "square": _square,
    "stresses": _stresses,
    "well": _well,
    "catalysis": _catalysis,
    "logistic": _logistic,
    "steepness": _steepness,
}


def pointwise_form(pde: SemiLinear, spectral: Spectral) -> Pointwise | None:
    """The nonlinear term of the equations that have a fast form, or None."""
    k = spectral.wavenumbers
    ones = torch.ones(spectral.symbol_shape, dtype=torch.float64)

    def single(products: str, output: Tensor) -> Pointwise:
        return Pointwise(((0, None),), products, ((output,),), (None,))

    if isinstance(pde, KuramotoSivashinsky) and (pde.integrated or spectral.dimension == 2):
        half = -0.5 * ones
        half[(0,) * spectral.dimension] = 0.0  # less the mean
        axes = torch.broadcast_tensors(*k)
        fields = tuple((0, 1j * axis) for axis in axes)
        return (
            Pointwise(fields, {1: "square", 2: "steepness"}[len(axes)], ((half,),), (None,))
            if len(axes) < 3
            else None
        )
    if isinstance(pde, (Burgers, ConservativeBurgers, KuramotoSivashinsky)) and spectral.dimension == 1:
        return single("square", -0.5j * k[0])
    if isinstance(pde, ScalarBurgers) and not isinstance(pde.convection, Tensor):
        return single("square", -0.5j * pde.convection * sum(torch.broadcast_tensors(*k)))
    if isinstance(pde, FisherKPP) and not isinstance(pde.growth, Tensor):
        return single("logistic", pde.growth * ones)
    if isinstance(pde, AllenCahn) and not isinstance(pde.reaction, Tensor):
        return single("well", pde.reaction * ones)
    if isinstance(pde, CahnHilliard) and not isinstance(pde.mobility, Tensor):
        return single("well", -pde.mobility * Symbol(spectral).laplacian(ones))
    if isinstance(pde, GrayScott) and not isinstance(pde.feed, Tensor):
        fed = torch.zeros_like(ones).to(torch.complex128)
        fed[(0,) * spectral.dimension] = pde.feed
        return Pointwise(((0, None), (1, None)), "catalysis", ((-ones,), (ones,)), (fed, None))
    if isinstance(pde, NavierStokesVorticity):
        kx, ky = torch.broadcast_tensors(*k)
        square = kx**2 + ky**2
        inverse = torch.where(square > 0, 1 / torch.where(square > 0, square, 1.0), 0.0)
        # Basdevant (1983): div(v w) = (dxx - dyy)(v_x v_y) + dxy(v_y^2 - v_x^2), four transforms, not five.
        force = pde.force(torch.zeros(1, 1, *spectral.grid.shape, dtype=torch.float64), spectral)
        if force is not None and force.shape[0] != 1:
            return None
        return Pointwise(
            ((0, 1j * ky * inverse), (0, -1j * kx * inverse)),
            "stresses",
            ((kx**2 - ky**2, kx * ky),),
            (None if force is None else spectral.to_modes(force)[0, 0],),
        )
    return None


Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Band:
    """The modes kept by the 2/3 rule, in the full complex spectrum and in a dense array of their own."""

    shape: tuple[int, ...]
    points: tuple[int, ...]
    blocks: tuple[tuple[Slices, Slices], ...] = field(init=False)

    def __post_init__(self) -> None:
        axes = []
        for n, size in zip(self.points, self.shape, strict=True):
            m = (size + 1) // 2
            pairs = [(slice(0, m), slice(0, m)), (slice(m, size), slice(n - m + 1, n))]
            axes.append(pairs if size > 1 else pairs[:1])
        blocks = [
            ((..., *(b for b, _ in corner)), (..., *(s for _, s in corner))) for corner in product(*axes)
        ]
        object.__setattr__(self, "blocks", tuple(blocks))

    def cut(self, full: Tensor) -> Tensor:
        """(..., *points) -> (..., *shape)."""
        out = full.new_empty(*full.shape[: full.ndim - len(self.points)], *self.shape)
        self.gather(full, out)
        return out

    def gather(self, full: Tensor, out: Tensor) -> None:
        """Copy the band out of a full spectrum."""
        for inner, outer in self.blocks:
            out[inner].copy_(full[outer])

    def scatter(self, band: Tensor, out: Tensor) -> None:
        """Copy the band into a full spectrum."""
        for inner, outer in self.blocks:
            out[outer].copy_(band[inner])


@dataclass(frozen=True)
class _Arrays:
    """Everything that has a precision and a device."""

    inputs: tuple[tuple[int, Tensor | None], ...]
    outputs: tuple[tuple[Tensor, ...], ...]
    constants: tuple[Tensor | None, ...]
    method: Etdrk
    beyond: Tensor


class Packed:
    """Several ETDRK steps of u (B, C, *points) at once, without derivatives; made by `packed_form`.

    In tensors for one channel; several need the compiled loops.
    """

    def __init__(
        self,
        form: Pointwise,
        spectral: Spectral,
        symbol: Tensor,
        method: Etdrk,
        h: float,
        substeps: int,
        degree: int,
        compiled: bool,
    ) -> None:
        self.form, self.substeps, self.compiled = form, substeps, compiled
        self._compiled: dict[torch.dtype, LaneSteps | None] = {}
        self.dimension = spectral.dimension
        self.axes = tuple(range(-spectral.dimension, 0))
        points = spectral.grid.shape
        self.band = Band(tuple(2 * -(-n // (degree + 1)) - 1 for n in points), points)
        size = points[-1]

        def full(half: Tensor) -> Tensor:
            """Half spectrum (..., *half) of a real field's operator -> full spectrum (..., *points)."""
            half = half.expand(*half.shape[: -spectral.dimension], *spectral.symbol_shape)
            mirrored = half[..., 1 : (size + 1) // 2]
            for axis in self.axes[:-1]:
                mirrored = mirrored.roll(-1, axis).flip(axis)
            return torch.cat([half, mirrored.flip(-1).conj()], dim=-1).resolve_conj().contiguous()

        count = float(torch.tensor(points).prod())
        self._exact = _Arrays(
            tuple((c, None if m is None else self.band.cut(full(m))) for c, m in form.inputs),
            # The scaling of the forward transform, which its own pass would cost.
            tuple(
                tuple(None if m is None else self.band.cut(full(m)) / count for m in row)
                for row in form.outputs
            ),
            # The same source for both samples of a pair.
            tuple(None if c is None else self.band.cut(full(c)) * (1 + 1j) for c in form.constants),
            method.map(lambda w: self.band.cut(full(w[0]))),
            torch.exp(full(symbol) * (h * substeps)),
        )
        cpu = torch.device("cpu")
        self._cache = {(dtype, cpu): self._cast(dtype, cpu) for dtype in (torch.float64, torch.float32)}

    def _cast(self, dtype: torch.dtype, device: torch.device) -> _Arrays:
        def plain(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=dtype.to_complex() if x.is_complex() else dtype)

        def pairs(x: Tensor) -> Tensor:
            """Real multipliers repeated for (re, im): broadcasting over that axis is eight times slower."""
            return plain(x) if x.is_complex() else plain(x).unsqueeze(-1).repeat_interleave(2, dim=-1)

        e = self._exact
        return _Arrays(
            tuple((c, None if m is None else pairs(m)) for c, m in e.inputs),
            tuple(tuple(pairs(m) for m in row) for row in e.outputs),
            tuple(None if c is None else plain(c) for c in e.constants),
            e.method.map(pairs),
            plain(e.beyond),
        )

    def lanes(self, dtype: torch.dtype) -> LaneSteps | None:
        """The compiled loops in one precision, or None where there are none."""
        if not self.compiled:
            return None
        if dtype not in self._compiled:
            from sciml.solvers.lanes.etdrk import lane_steps

            e = self._exact
            self._compiled[dtype] = lane_steps(
                self.band.points,
                inputs=e.inputs,
                products=self.form.products,
                outputs=e.outputs,
                constants=e.constants,
                method=e.method,
                substeps=self.substeps,
                dtype=dtype,
            )
        return self._compiled[dtype]

    def _arrays(self, u: Tensor) -> _Arrays:
        found = self._cache.get((u.dtype, u.device))
        if found is None:
            with torch.inference_mode(False):
                found = self._cache[u.dtype, u.device] = self._cast(u.dtype, u.device)
        return found

    def takes(self, u: Tensor) -> bool:
        """Whether this form steps such states: several channels only in compiled loops."""
        return len(self.form.outputs) == 1 or self._loops(u) is not None

    def _loops(self, u: Tensor) -> LaneSteps | None:
        """The compiled loops where they can take these states and are worth it."""
        lanes = self.lanes(u.dtype) if u.device.type == "cpu" else None
        return lanes if lanes is not None and lanes.worthwhile((u.shape[0] + 1) // 2) else None

    @torch.no_grad()
    def __call__(self, u: Tensor) -> Tensor:
        batch, arrays = u.shape[0], self._arrays(u)
        if batch == 0:
            return u.clone()
        pairs = (batch + 1) // 2
        first, second = u[:pairs], u[pairs:]
        if batch % 2:
            second = torch.cat([second, torch.zeros_like(second[:1] if batch > 1 else first[:1])])
        full = torch.fft.fftn(torch.complex(first, second), dim=self.axes, norm="forward")
        state = self.band.cut(full)
        lanes = self._loops(u)
        if lanes is not None:
            state = lanes(state)
        else:
            work = _Work(self, arrays, state[:, 0])
            for _ in range(self.substeps):
                state = work.step()
            state = state.unsqueeze(1)
        full.mul_(arrays.beyond)
        self.band.scatter(state, full)
        z = torch.fft.ifftn(full, dim=self.axes, norm="forward")
        return torch.cat([z.real, z.imag])[:batch]


class _Spectrum:
    """An array of the band (P, *band) or of a whole spectrum (P, *points), with its views made once.

    Making a view costs as much as a small operation; a stage needs dozens.
    """

    def __init__(self, array: Tensor, blocks: Sequence[Slices]) -> None:
        self.array = array
        self.real = torch.view_as_real(array)
        self.blocks = [array[block] for block in blocks]
        self.real_blocks = [torch.view_as_real(block) for block in self.blocks]
        self.layout = [
            (b.shape, b.stride(), b.storage_offset() - array.storage_offset()) for b in self.blocks
        ]

    def cut(self, other: Tensor) -> list[Tensor]:
        """The blocks of another contiguous array of the same shape."""
        return [other.as_strided(*layout) for layout in self.layout]


class _Work:
    """The buffers of one call, for one channel (P, *band)."""

    def __init__(self, packed: Packed, arrays: _Arrays, state: Tensor) -> None:
        self.packed, self.form = packed, packed.form
        self.method = arrays.method.map(lambda w: w[0])
        inner = [b for b, _ in packed.band.blocks]
        outer = [s for _, s in packed.band.blocks]

        def band() -> _Spectrum:
            return _Spectrum(torch.empty_like(state), inner)

        padded = state.new_zeros(len(self.form.inputs), state.shape[0], *packed.band.points)
        self.padded = [_Spectrum(one, outer) for one in padded]
        self.spectra = padded
        self.spare = torch.empty_like(self.padded[0].real)
        self.state, self.stage, self.other = _Spectrum(state, inner), band(), band()
        self.slopes = [band() for _ in self.method.weights]

        def cut(x: Tensor | None) -> list[Tensor]:
            if x is None:
                return []
            return [x[(*block, slice(None))] if not x.is_complex() else x[block] for block in inner]

        self.inputs = [cut(m) for _, m in arrays.inputs]
        self.outputs = [cut(m) for m in arrays.outputs[0]]
        self.constant = cut(arrays.constants[0])
        self.propagators = [cut(e) for e in self.method.propagators]
        self.weights = [[cut(w) for w in row] for row in self.method.weights]

    def spread(self, v: _Spectrum) -> None:
        """Write the spectra of the fields that the products of v need, padded with zeros."""
        for multipliers, target in zip(self.inputs, self.padded, strict=True):
            if not multipliers:
                for block, out in zip(v.blocks, target.blocks, strict=True):
                    out.copy_(block)
                continue
            complex_ = multipliers[0].is_complex()
            sources, outs = (v.blocks, target.blocks) if complex_ else (v.real_blocks, target.real_blocks)
            for block, factor, out in zip(sources, multipliers, outs, strict=True):
                torch.mul(block, factor, out=out)

    def transform(self, slope: _Spectrum) -> None:
        """N of what was spread last, written to `slope`."""
        axes, whole = self.packed.axes, self.padded[0]
        fields = torch.view_as_real(torch.fft.ifftn(self.spectra, dim=axes, norm="forward"))
        products = PRODUCTS[self.form.products](list(fields), self.spare)
        for number, (values, multipliers) in enumerate(zip(products, self.outputs, strict=True)):
            modes = torch.fft.fftn(torch.view_as_complex(values), dim=axes)
            blocks, outs = whole.cut(modes), slope.blocks
            if not multipliers[0].is_complex():
                blocks, outs = [torch.view_as_real(b) for b in blocks], slope.real_blocks
            for index, (block, factor, out) in enumerate(zip(blocks, multipliers, outs, strict=True)):
                if number:
                    out.addcmul_(block, factor)
                else:
                    torch.mul(block, factor, out=out)
                if self.constant and not number:
                    slope.blocks[index].add_(self.constant[index])

    def step(self) -> Tensor:
        """One ETDRK step of the band; the returned array is one of two that take turns."""
        direct = not any(self.inputs)
        last = len(self.method.weights) - 1
        self.spread(self.state)
        for j, (propagator, row) in enumerate(
            zip(self.method.propagators, self.method.weights, strict=True)
        ):
            self.transform(self.slopes[j])
            if direct and j < last:
                # The stage is needed as a padded spectrum alone: it is made there.
                for i, out in enumerate(self.padded[0].real_blocks):
                    torch.mul(self.state.real_blocks[i], self.propagators[j][i], out=out)
                    for weight, slope in zip(self.weights[j], self.slopes, strict=False):
                        if weight:
                            out.addcmul_(slope.real_blocks[i], weight[i])
                continue
            target = self.other if j == last else self.stage
            total = torch.mul(self.state.real, propagator, out=target.real)
            for factor, slope in zip(row, self.slopes, strict=False):
                if factor is not None:
                    total.addcmul_(slope.real, factor)
            if j < last:
                self.spread(target)
        self.state, self.other = self.other, self.state
        return self.state.array


def packed_form(
    pde: SemiLinear,
    spectral: Spectral,
    symbol: Tensor,
    method: Etdrk,
    h: float,
    substeps: int,
    degree: int,
    compiled: bool,
) -> Packed | None:
    """The fast form of an equation on a grid, or None where there is none that gives the same numbers.

    Args:
        pde: the equation.
        spectral: its grid.
        symbol: real multiplier of the linear part, (C, *half spectrum) [1/time].
        method: ETDRK coefficients for it, (1, C, *half spectrum).
        h, substeps: time and number of the steps of one call.
        degree: number of factors of the products.
        compiled: whether `lanes` may take the steps, where it can.
    """
    form = pointwise_form(pde, spectral)
    if form is None:
        return None
    mask = spectral.dealias(degree)
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(1, len(form.outputs), *spectral.grid.shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        u = spectral.to_points(spectral.to_modes(u) * mask)
        stated = spectral.to_points(spectral.to_modes(pde.nonlinear(u, spectral)) * mask)
        read = form.nonlinear(u, spectral, mask)
        same = stated.shape == read.shape and bool((read - stated).abs().max() <= 1e-9 * stated.abs().max())
    if not same:
        return None
    packed = Packed(form, spectral, symbol, method, h, substeps, degree, compiled)
    several = len(form.outputs) > 1
    return None if several and packed.lanes(torch.float64) is None else packed
