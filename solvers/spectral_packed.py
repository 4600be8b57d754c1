"""Fast ETDRK for equations with point-wise products: two real samples travel as one complex field.

For u = u_1 + i u_2 every linear operator with a real kernel acts on both samples at once, by one multiplier on
the full complex spectrum. A complex transform is cheaper than the two real ones it replaces (no Hermitian
copies), its scaling is folded into the multipliers, and point-wise work is real arithmetic on the (re, im)
pairs. Only the modes that survive the 2/3 rule are stored; those above it follow the linear part and are
touched once per call. Buffers live as long as one call and are written in place: nothing here is
differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.solvers.spectral_forms import Pointwise
from sciml.solvers.time.etdrk import Etdrk

if TYPE_CHECKING:
    from sciml.solvers.lanes.etdrk import LaneSteps


def _polynomial(fields: list[Tensor], numbers: Sequence[float], spare: Tensor) -> list[Tensor]:
    (u,), (a, b, c) = fields, numbers
    if a == c == 0.0:
        u.mul_(u)
        return [u if b == 1.0 else u.mul_(b)]
    torch.mul(u, c, out=spare).add_(b).mul_(u).add_(a)
    return [u.mul_(spare)]


def _stresses(fields: list[Tensor], numbers: Sequence[float], spare: Tensor) -> list[Tensor]:
    x, y = fields
    torch.mul(x, y, out=spare)
    return [spare, y.mul_(y).addcmul_(x, x, value=-1)]


def _steepness(fields: list[Tensor], numbers: Sequence[float], spare: Tensor) -> list[Tensor]:
    first = fields[0].mul_(fields[0])
    for other in fields[1:]:
        first.addcmul_(other, other)
    return [first]


# The products of `spectral_forms` for one channel, in place and with one spare array.
_IN_PLACE: dict[str, Callable[[list[Tensor], Sequence[float], Tensor], list[Tensor]]] = {
    "polynomial": _polynomial,
    "stresses": _stresses,
    "steepness": _steepness,
}


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
    """Several ETDRK steps of u (B, C, *points) at once, without derivatives; made by `packed_steps`.

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
            tuple((c, None if m is None else self.band.cut(full(m))) for ((c, m),) in form.inputs),
            # The scaling of the forward transform, which its own pass would cost.
            tuple(
                tuple(self.band.cut(full(m)) / count for m in row if m is not None) for row in form.outputs
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
                numbers=self.form.numbers,
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

    @staticmethod
    def partners(batch: int) -> Tensor:
        """Which sample travels with each of a batch, itself where it is alone, (B,)."""
        pairs = (batch + 1) // 2
        index = torch.arange(batch)
        there = torch.where(index < pairs, index + pairs, index - pairs)
        return torch.where(there < batch, there, index)

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
        products = _IN_PLACE[self.form.products](list(fields), self.form.numbers, self.spare)
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


def packed_steps(
    form: Pointwise,
    spectral: Spectral,
    symbol: Tensor,
    method: Etdrk,
    h: float,
    substeps: int,
    degree: int,
    compiled: bool,
) -> Packed | None:
    """The steps of pairs of samples, or None where a form has none.

    There are some for fields of one term each, at most two of them and of products, on one channel or, in
    compiled loops, several.

    Args:
        form: the nonlinear term.
        spectral: its grid.
        symbol: real multiplier of the linear part, (C, *half spectrum) [1/time].
        method: ETDRK coefficients for it, (1, C, *half spectrum).
        h, substeps: time and number of the steps of one call.
        degree: number of factors of the products.
        compiled: whether `lanes` may take the steps, where it can.
    """
    plain = all(len(terms) == 1 for terms in form.inputs)
    given = all(m is not None for row in form.outputs for m in row)
    several = len(form.outputs) > 1
    if not plain or not given or len(form.outputs[0]) > 2 or (len(form.inputs) > 2 and several):
        return None
    packed = Packed(form, spectral, symbol, method, h, substeps, degree, compiled)
    return None if several and packed.lanes(torch.float64) is None else packed
