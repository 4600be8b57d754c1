import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from sciml.models import FNO, ConvNet, UNet

torch.set_num_threads(1)


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def band_limited(points, highest=2, dtype=torch.float64):
    """The same smooth field on any grid."""
    axes = [torch.arange(n, dtype=torch.float64) / n for n in points]
    u = torch.zeros(points, dtype=torch.float64)
    for axis, x in enumerate(torch.meshgrid(*axes, indexing="ij")):
        for k in range(1, highest + 1):
            u = u + torch.sin(2 * math.pi * k * x + axis + k) / k
    return u.reshape(1, 1, *points).to(dtype)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def relative(a, b):
    return float((a - b).norm() / b.norm())


# Sizes: even, odd, mixed. neuraloperator 2.0.0 is wrong at odd sizes of a leading axis.
SHAPES = [((4,), (16,)), ((4,), (17,)), ((3, 4), (16, 15)), ((3, 4), (15, 16)), ((2, 3, 2), (9, 8, 7))]


@pytest.mark.parametrize(("modes", "points"), SHAPES)
@pytest.mark.parametrize("channel_mlp", [True, False])
def test_fno_commutes_with_translations(modes, points, channel_mlp):
    model = seeded(lambda: FNO(2, 1, modes, 6, layers=2, channel_mlp=channel_mlp)).double()
    u = noise(2, 2, *points)
    axes, shift = tuple(range(2, u.ndim)), (3, 2, 5)[: len(points)]
    moved = model(u.roll(shift, axes))
    assert relative(moved, model(u).roll(shift, axes)) < 1e-12  # rounding


def test_fno_with_coordinates_does_not_commute_with_translations():
    model = seeded(lambda: FNO(1, 1, (4,), 6, layers=2, coordinates=True)).double()
    u = noise(1, 1, 16)
    assert relative(model(u.roll(3, 2)), model(u).roll(3, 2)) > 1e-3


@pytest.mark.parametrize(("modes", "coarse", "fine"), [((6,), (32,), (64,)), ((6, 5), (32, 33), (64, 66))])
def test_fno_agrees_at_two_resolutions(modes, coarse, fine):
    model = seeded(lambda: FNO(1, 1, modes, 8, spectral_scale=1.0)).double()
    low, high = model(band_limited(coarse)), model(band_limited(fine))
    every_second = high[(..., *[slice(None, None, 2)] * len(coarse))]
    # Not equal: the activation makes waves that the coarse grid aliases (3e-4 on 32^2, fno card).
    assert relative(every_second, low) < 2e-3


@pytest.mark.parametrize("points", [(16,), (17,), (16, 12), (15, 16), (15, 13), (7, 8, 9)])
def test_spectral_layer_with_unit_weights_returns_what_it_keeps(points):
    from sciml.models.operators.spectral import SymmetricSpectralConv

    modes = tuple((n - 1) // 2 for n in points)  # all below the Nyquist frequency
    n_modes = tuple(2 * k + 1 for k in modes[:-1]) + (2 * modes[-1],)
    layer = SymmetricSpectralConv(1, 1, n_modes, bias=False, implementation="reconstructed").double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[..., 0] = 1.0
    u = noise(2, 1, *points)
    # Drop the Nyquist planes of even axes, which the layer never keeps.
    v = torch.fft.fftn(u, dim=tuple(range(2, u.ndim)))
    for axis, n in enumerate(points):
        if n % 2 == 0:
            v.index_fill_(axis + 2, torch.tensor(n // 2), 0.0)
    u = torch.fft.ifftn(v, dim=tuple(range(2, u.ndim))).real
    assert (
        relative(layer(u), u) < 1e-13
    )  # float64 rounding; the package's own layer is 137 % off at 33 x 32


def test_the_package_layer_is_wrong_at_odd_sizes_which_is_why_it_is_replaced():
    from neuralop.layers.spectral_convolution import SpectralConv

    def error(points):
        layer = SpectralConv(1, 1, points, bias=False, implementation="reconstructed")
        with torch.no_grad():
            layer.weight.tensor.fill_(1.0)
        u = noise(1, 1, *points, dtype=torch.float32)
        return relative(layer(u), u)

    assert error((32, 32)) < 1e-5
    assert error((33, 32)) > 0.5


def test_fno_is_the_package_network_on_even_sizes():
    from neuralop.models import FNO as PackageFNO

    ours = seeded(lambda: FNO(1, 2, (3, 4), 6, layers=3, spectral_scale=1.0))
    package = PackageFNO((7, 8), 1, 2, 6, n_layers=3, positional_embedding=None)
    weights = {
        key.replace(".weight", ".weight.tensor") if ".convs." in key and key.endswith(".weight") else key: (
            torch.view_as_complex(value) if ".convs." in key and key.endswith(".weight") else value
        )
        for key, value in ours.network.state_dict().items()
    }
    for key, value in weights.items():
        if key.endswith("weight.tensor"):  # the package orders the first axis -K..K, ours 0..K, -K..-1
            weights[key] = torch.fft.fftshift(value, dim=2)
    package.load_state_dict(weights)
    u = noise(2, 1, 16, 20, dtype=torch.float32)
    assert relative(ours(u), package(u)) < 1e-5  # float32 rounding


def test_fno_leaves_out_modes_that_a_coarse_grid_cannot_carry():
    model = seeded(lambda: FNO(1, 1, (6,), 4, layers=1)).double()
    out = model(band_limited((8,)))
    assert out.shape == (1, 1, 8) and bool(torch.isfinite(out).all())


def test_fno_under_autocast_and_as_a_deep_copy():
    model = seeded(lambda: FNO(1, 1, (4,), 8, layers=2))
    u = noise(2, 1, 32, dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(u)
    exact = model(u).detach()
    assert relative(low.float(), exact) < 0.03  # bfloat16 rounds to 1 in 256
    assert torch.equal(copy.deepcopy(model)(u), exact)


def test_fno_parameter_counts():
    # lifting 1 -> W, per block W W (K + 1) complex weights, W biases and a W W skip, projection W -> W -> 1
    plain = FNO(1, 1, (11,), 8, channel_mlp=False, lifting_ratio=0, projection_ratio=1)
    width, kept = 8, 12
    blocks = 4 * (2 * width**2 * kept + width + width**2)
    assert count(plain) == 2 * width + blocks + (width**2 + width) + (width + 1)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_fno_padding_keeps_the_shape(dimension):
    points = (11, 9, 8)[:dimension]
    model = seeded(lambda: FNO(1, 1, (2,) * dimension, 4, layers=2, padding=0.2, coordinates=True))
    assert model(noise(2, 1, *points, dtype=torch.float32)).shape == (2, 1, *points)


def test_the_convolutional_net_of_the_advection_benchmark_has_its_size():
    assert count(ConvNet(1, 1)) == 18_669  # 10 hidden layers of 26 channels, kernel 3, with biases


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_circular_convolutions_commute_with_translations(dimension):
    points, axes = (8, 12, 8)[:dimension], tuple(range(2, 2 + dimension))
    u = noise(1, 1, *points)
    net = seeded(lambda: ConvNet(1, 1, dimension, width=4, hidden_layers=2)).double()
    assert (
        relative(net(u.roll((1, 3, 2)[:dimension], axes)), net(u).roll((1, 3, 2)[:dimension], axes)) < 1e-12
    )
    unet = seeded(lambda: UNet(1, 1, dimension, width=4, levels=2)).double()
    shift = (4, 8, 4)[:dimension]  # multiples of 2^levels
    assert relative(unet(u.roll(shift, axes)), unet(u).roll(shift, axes)) < 1e-12
    zeros = seeded(lambda: ConvNet(1, 1, dimension, width=4, hidden_layers=2, boundary="zeros")).double()
    assert relative(zeros(u.roll(3, 2)), zeros(u).roll(3, 2)) > 1e-3


def test_the_net_reaches_as_far_as_its_layers_and_no_farther():
    net = seeded(lambda: ConvNet(1, 1, 1, width=6, hidden_layers=3, activation="gelu")).double()
    u = noise(1, 1, 40)
    bump = torch.zeros_like(u)
    bump[..., 20] = 1.0
    changed = (net(u + bump) - net(u))[0, 0].abs() > 0
    assert changed.nonzero().flatten().tolist() == list(range(16, 25))  # (3 + 1) * 1 points to each side


def test_first_weights_keep_the_signal_where_the_library_default_loses_it():
    u = band_limited((160,), 5, torch.float32)
    ours = seeded(lambda: ConvNet(1, 1))
    default = seeded(lambda: ConvNet(1, 1, initialisation="uniform"))
    for layer in default.convolutions:
        bound = (layer.weight.shape[1] * 3) ** -0.5  # 1 / sqrt(fan_in), for weights and biases
        for values in (layer.weight, layer.bias):
            assert 0.5 * bound < float(values.detach().abs().max()) < bound or values.numel() == 1
    # Spread over the points: what is left of the input after ten layers.
    assert float(ours(u).std()) > 0.05
    assert float(default(u).std()) < 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FNO(1, 1, (), 4), "highest wavenumber"),
        (lambda: FNO(1, 1, (4, 0), 4), "highest wavenumber"),
        (lambda: FNO(1, 1, (4,), 0), "at least 1"),
        (lambda: FNO(1, 1, (4,), 4, padding=-1.0), "padding"),
        (lambda: FNO(1, 1, (4,), 4, activation="mish"), "expected one of"),
        (lambda: ConvNet(1, 1, dimension=4), "expected 1, 2 or 3"),
        (lambda: ConvNet(1, 1, kernel=4), "odd"),
        (lambda: ConvNet(1, 1, initialisation="he"), "orthogonal"),
        (lambda: ConvNet(1, 1, boundary="periodic"), "circular"),
        (lambda: UNet(1, 1, 1, levels=-1), "levels"),
        (lambda: UNet(1, 1, 2, width=4, levels=2)(torch.zeros(1, 1, 8, 10)), "divisible by 4"),
        (lambda: UNet(1, 1, 2, width=4, levels=1)(torch.zeros(1, 2, 8, 8)), "expected .B, 1"),
        (lambda: ConvNet(1, 1, kernel=9, hidden_layers=1)(torch.zeros(1, 1, 3)), "reaches 4 points"),
        (lambda: FNO(1, 1, (2,), 4)(torch.zeros(1, 1, 8, 8)), "1 space axes"),
    ],
)
def test_refusals_say_what_was_expected(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_importing_models_loads_no_heavy_library():
    code = (
        "import sys, sciml.models\n"
        "from sciml.models import FNO, UNet, ConvNet, PINN, Residual\n"
        "heavy = {'neuralop', 'wandb', 'lightning', 'torch_geometric', 'matplotlib', 'pyvista', 'skfem'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
