"""The spectral convolution and the blocks that the package's Fourier operators are built with here.

Importing this module imports neuraloperator (seconds: it loads wandb, tensorly and matplotlib), so it
is imported by constructors only.
"""

from __future__ import annotations

from typing import Any

import torch
from neuralop.layers.fno_block import FNOBlocks
from neuralop.layers.spectral_convolution import SpectralConv
from neuralop.models import FNO as PackageFNO
from torch import Tensor, nn


class SymmetricSpectralConv(SpectralConv):
    """The package's spectral convolution with the modes |k| <= K of every axis, at any size and precision.

    Differences from `SpectralConv` of neuraloperator 2.0.0, which shifts the spectrum wrongly at odd
    sizes of a leading axis, writes it in place, and is bound to complex64:

    - the kept modes are symmetric, -K..K along leading axes and 0..K along the last one;
    - the weights are one real parameter (in, out, *modes, 2), so that `.double()`, optimisers,
      `torch.func.vmap` and forward derivatives all work;
    - modes that a grid cannot carry below its Nyquist frequency are left out on that grid;
    - the imaginary part of the constant mode is dropped before the real inverse transform, which
      leaves it undefined.

    `n_modes` is what the package expects, 2K + 1 along leading axes and 2K along the last.
    """

    weight: Any  # the package's factorised tensor until the constructor replaces it
    packed_complex = ("weight",)  # tells optimisers of matrices what the last axis is
    highest: tuple[int, ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.separable or self.complex_data or self.resolution_scaling_factor is not None:
            raise ValueError("SymmetricSpectralConv is for dense weights, real data and one resolution.")
        packed = torch.view_as_real(self.weight.to_tensor().detach()).clone().contiguous()
        del self.weight
        self.weight = nn.Parameter(packed)
        self.highest = tuple((n - 1) // 2 for n in packed.shape[2:-2]) + (packed.shape[-2] - 1,)

    def forward(self, x: Tensor, output_shape: Any = None) -> Tensor:
        if output_shape is not None:
            raise ValueError("SymmetricSpectralConv keeps the resolution of its input.")
        x = x.to(self.weight.dtype)  # under autocast x may come in bfloat16, which has no transform
        sizes = x.shape[2:]
        kept = tuple(min(k, (n - 1) // 2) for k, n in zip(self.highest, sizes, strict=True))
        weight = torch.view_as_complex(self.weight)
        last = len(sizes) + 1
        # Axis by axis, each cut to its kept modes before the next transform, which is then smaller.
        v = torch.fft.rfft(x, dim=last, norm="forward").narrow(last, 0, kept[-1] + 1)
        weight = weight.narrow(last, 0, kept[-1] + 1)
        for axis in range(2, last):
            v = _low(torch.fft.fft(v, dim=axis, norm="forward"), kept[axis - 2], axis)
            weight = _low(weight, kept[axis - 2], axis)
        v = torch.einsum("bi...,io...->bo...", v, weight)
        for axis in range(2, last):
            v = torch.fft.ifft(_padded(v, sizes[axis - 2], axis), dim=axis, norm="forward")
        constant = v.narrow(last, 0, 1)
        v = torch.cat(
            (torch.complex(constant.real, torch.zeros_like(constant.real)), v.narrow(last, 1, kept[-1])),
            last,
        )
        u = torch.fft.irfft(v, n=sizes[-1], dim=last, norm="forward")
        return u if self.bias is None else u + self.bias


def _low(v: Tensor, highest: int, axis: int) -> Tensor:
    """The modes 0..K, -K..-1 of an axis in the order of the FFT."""
    if v.shape[axis] == 2 * highest + 1:
        return v
    negative = v.narrow(axis, v.shape[axis] - highest, highest)
    return torch.cat((v.narrow(axis, 0, highest + 1), negative), dim=axis)


def _padded(v: Tensor, size: int, axis: int) -> Tensor:
    """Back from the modes 0..K, -K..-1 to `size` modes, the others zero."""
    highest = (v.shape[axis] - 1) // 2
    shape = list(v.shape)
    shape[axis] = size - v.shape[axis]
    middle = v.new_zeros(shape)
    return torch.cat(
        (v.narrow(axis, 0, highest + 1), middle, v.narrow(axis, highest + 1, highest)), dim=axis
    )


class PlainBlocks(FNOBlocks):
    """The package's blocks without channel MLP, activated once per block: act(K(x) + S(x)).

    With `use_channel_mlp=False` the package applies its activation twice in a row.
    """

    def forward(self, x: Tensor, index: int = 0, output_shape: Any = None) -> Tensor:
        x = self.convs[index](x) + self.fno_skips[index](x)
        return self.non_linearity(x) if index < self.n_layers - 1 else x


class Network(PackageFNO):
    """The package's FNO with a plain state_dict: tensors only, loadable with weights_only=True.

    The package adds the constructor's Python objects under "_metadata", which safe loading refuses and
    which a parent module cannot load back.
    """

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return nn.Module.state_dict(self, *args, **kwargs)


def scale_spectral_weights(network: nn.Module, factor: float) -> None:
    """Multiply the first spectral weights by `factor`."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, SymmetricSpectralConv):
                module.weight.mul_(factor)
                if module.bias is not None:
                    module.bias.mul_(factor)
