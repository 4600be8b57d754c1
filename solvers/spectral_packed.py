"""Fast ETDRK for quadratic equations: two real samples travel as one complex field.

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

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor

from sciml.calculus import Spectral
from sciml.pdes import Burgers, KuramotoSivashinsky, NavierStokesVorticity
from sciml.pdes.base import SemiLinear
from sciml.solvers.time.etdrk import Etdrk

Products = Callable[[list[Tensor]], list[Tensor]]


@dataclass(frozen=True)
class Quadratic:
    """N(u) = sum_g out_g F[products_g(F^-1[in_1 u], F^-1[in_2 u], ...)] + constant, in Fourier space.

    Args:
        inputs: a multiplier (*half spectrum) of u for each field that the products need; None is u itself.
        products: fields -> products, point by point; may overwrite the fields it is given.
        outputs: a multiplier (*half spectrum) of the transform of each product.
        constant: coefficients (*half spectrum) of a steady forcing in the sense of `Spectral.to_modes`.
    """

    inputs: tuple[Tensor | None, ...]
    products: Products
    outputs: tuple[Tensor, ...]
    constant: Tensor | None = None


def _square(fields: list[Tensor]) -> list[Tensor]:
    return [fields[0].mul_(fields[0])]


def _stresses(fields: list[Tensor]) -> list[Tensor]:
    """(v_x v_y, v_y^2 - v_x^2) of the velocity."""
    x, y = fields
    shear = x * y
    return [shear, y.mul_(y).addcmul_(x, x, value=-1)]


def quadratic_form(pde: SemiLinear, spectral: Spectral) -> Quadratic | None:
    """The nonlinear term of the equations that have a fast form, or None."""
    k = spectral.wavenumbers
    if isinstance(pde, (Burgers, KuramotoSivashinsky)) and spectral.dimension == 1:
        return Quadratic((None,), _square, (-0.5j * k[0],))
    if isinstance(pde, NavierStokesVorticity):
        kx, ky = torch.broadcast_tensors(*k)
        square = kx**2 + ky**2
        inverse = torch.where(square > 0, 1 / torch.where(square > 0, square, 1.0), 0.0)
        # Basdevant (1983): div(v w) = (dxx - dyy)(v_x v_y) + dxy(v_y^2 - v_x^2), four transforms, not five.
        force = pde.force(torch.zeros(1, 1, *spectral.grid.shape, dtype=torch.float64), spectral)
        if force is not None and force.shape[0] != 1:
            return None
        return Quadratic(
            (1j * ky * inverse, -1j * kx * inverse),
            _stresses,
            (kx**2 - ky**2, kx * ky),
            None if force is None else spectral.to_modes(force)[0, 0],
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

    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    constant: Tensor | None
    method: Etdrk
    beyond: Tensor


class Packed:
    """Several ETDRK steps of u (B, 1, *points) at once, without derivatives; made by `packed_form`."""

    def __init__(
        self, form: Quadratic, spectral: Spectral, symbol: Tensor, method: Etdrk, h: float, substeps: int
    ) -> None:
        self.form, self.substeps = form, substeps
        self.dimension = spectral.dimension
        self.axes = tuple(range(-spectral.dimension, 0))
        points = spectral.grid.shape
        self.band = Band(tuple(2 * ((n + 2) // 3) - 1 for n in points), points)
        size = points[-1]

        def full(half: Tensor) -> Tensor:
            """Half spectrum (*half) of a real field's operator -> full spectrum (*points)."""
            half = half.reshape(half.shape[-spectral.dimension :]).expand(spectral.symbol_shape)
            mirrored = half[..., 1 : (size + 1) // 2]
            for axis in range(spectral.dimension - 1):
                mirrored = mirrored.roll(-1, axis).flip(axis)
            return torch.cat([half, mirrored.flip(-1).conj()], dim=-1).resolve_conj().contiguous()

        count = float(torch.tensor(points).prod())
        self._exact = _Arrays(
            tuple(None if m is None else self.band.cut(full(m)) for m in form.inputs),
            # The scaling of the forward transform, which its own pass would cost.
            tuple(self.band.cut(full(m)) / count for m in form.outputs),
            # The same forcing for both samples of a pair.
            None if form.constant is None else self.band.cut(full(form.constant)) * (1 + 1j),
            method.map(lambda w: self.band.cut(full(w))),
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
            tuple(None if m is None else pairs(m) for m in e.inputs),
            tuple(pairs(m) for m in e.outputs),
            None if e.constant is None else plain(e.constant),
            e.method.map(pairs),
            plain(e.beyond),
        )

    def _arrays(self, u: Tensor) -> _Arrays:
        found = self._cache.get((u.dtype, u.device))
        if found is None:
            with torch.inference_mode(False):
                found = self._cache[u.dtype, u.device] = self._cast(u.dtype, u.device)
        return found

    @torch.no_grad()
    def __call__(self, u: Tensor) -> Tensor:
        batch, arrays = u.shape[0], self._arrays(u)
        if batch == 0:
            return u.clone()
        pairs = (batch + 1) // 2
        first, second = u[:pairs, 0], u[pairs:, 0]
        if batch % 2:
            second = torch.cat([second, torch.zeros_like(second[:1] if batch > 1 else first[:1])])
        full = torch.fft.fftn(torch.complex(first, second), dim=self.axes, norm="forward")
        state = self.band.cut(full)
        work = _Work(self, arrays, state)
        for _ in range(self.substeps):
            state = work.step(state)
        full.mul_(arrays.beyond)
        self.band.scatter(state, full)
        z = torch.fft.ifftn(full, dim=self.axes, norm="forward")
        return torch.cat([z.real, z.imag])[:batch].unsqueeze(1)

    def nonlinear(self, u: Tensor) -> Tensor:
        """N(u) of real samples (B, 1, *points) by this form, cut to the band; for checks."""
        z = torch.complex(u[:, 0], torch.zeros_like(u[:, 0]))
        state = self.band.cut(torch.fft.fftn(z, dim=self.axes, norm="forward"))
        out = torch.empty_like(state)
        _Work(self, self._arrays(u), state).nonlinear(state, out)
        full = torch.zeros_like(z)
        self.band.scatter(out, full)
        return torch.fft.ifftn(full, dim=self.axes, norm="forward").real.unsqueeze(1)


class _Work:
    """The buffers of one call."""

    def __init__(self, packed: Packed, arrays: _Arrays, state: Tensor) -> None:
        self.packed, self.arrays = packed, arrays
        fields = len(packed.form.inputs)
        self.padded = state.new_zeros(fields, state.shape[0], *packed.band.points)
        self.slopes = [torch.empty_like(state) for _ in arrays.method.weights]
        self.stage, self.spare = torch.empty_like(state), torch.empty_like(state)

    def nonlinear(self, v: Tensor, out: Tensor) -> None:
        """N(v), written to `out` (P, *band)."""
        packed, arrays = self.packed, self.arrays
        for multiplier, target in zip(arrays.inputs, self.padded, strict=True):
            for inner, outer in packed.band.blocks:
                if multiplier is None:
                    target[outer].copy_(v[inner])
                else:
                    _multiply(v[inner], multiplier, inner, target[outer])
        fields = torch.view_as_real(torch.fft.ifftn(self.padded, dim=packed.axes, norm="forward"))
        products = packed.form.products(list(fields))
        for number, (values, multiplier) in enumerate(zip(products, arrays.outputs, strict=True)):
            modes = torch.fft.fftn(torch.view_as_complex(values), dim=packed.axes)
            for inner, outer in packed.band.blocks:
                _multiply(modes[outer], multiplier, inner, out[inner], add=number > 0)
        if arrays.constant is not None:
            out.add_(arrays.constant)

    def step(self, v: Tensor) -> Tensor:
        """One ETDRK step of the band; the returned array is one of two that take turns."""
        self.nonlinear(v, self.slopes[0])
        real = torch.view_as_real(v)
        method = self.arrays.method
        last = len(method.weights) - 1
        for j, (propagator, row) in enumerate(zip(method.propagators, method.weights, strict=True)):
            target = self.spare if j == last else self.stage
            total = torch.mul(real, propagator, out=torch.view_as_real(target))
            for weight, slope in zip(row, self.slopes, strict=False):
                if weight is not None:
                    total.addcmul_(torch.view_as_real(slope), weight)
            if j < last:
                self.nonlinear(target, self.slopes[j + 1])
        self.spare = v
        return target


def _multiply(modes: Tensor, multiplier: Tensor, block: Slices, out: Tensor, add: bool = False) -> None:
    """out = multiplier[block] * modes, or added to out; complex views of one block."""
    if multiplier.is_complex():
        factor = multiplier[block]
    else:
        factor = multiplier[(*block, slice(None))]
        modes, out = torch.view_as_real(modes), torch.view_as_real(out)
    if add:
        out.addcmul_(modes, factor)
    else:
        torch.mul(modes, factor, out=out)


def packed_form(
    pde: SemiLinear, spectral: Spectral, symbol: Tensor, method: Etdrk, h: float, substeps: int
) -> Packed | None:
    """The fast form of an equation on a grid, or None where there is none that gives the same numbers.

    Args:
        pde: the equation, one channel.
        spectral: its grid.
        symbol: real multiplier of the linear part, (1, *half spectrum) [1/time].
        method: ETDRK coefficients for it.
        h, substeps: time and number of the steps of one call.
    """
    form = quadratic_form(pde, spectral)
    if form is None:
        return None
    packed = Packed(form, spectral, symbol, method, h, substeps)
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(1, 1, *spectral.grid.shape, generator=generator, dtype=torch.float64)
    mask = spectral.dealias(2)
    with torch.no_grad():
        u = spectral.to_points(spectral.to_modes(u) * mask)
        stated = spectral.to_points(spectral.to_modes(pde.nonlinear(u, spectral)) * mask)
        same = stated.shape[0] == 1 and bool(
            (packed.nonlinear(u) - stated).abs().max() <= 1e-9 * stated.abs().max()
        )
    return packed if same else None
