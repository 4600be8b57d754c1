"""Sine and cosine series: exact derivatives, parities, mirror images, gradients, refusals."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.calculus import Spectral, Symbol, Trigonometric
from sciml.pdes import Burgers
from sciml.trajectory import Field

DOUBLE = torch.float64
VELOCITY = (Field("velocity", "m/s", rank=1),)
# Waves that fit a pair of sides of a box of side L: (cosine or sine of) pi m x/L, with m = 2 for all but quarter
# waves.
WAVES = {
    "periodic": (2.0, 0.3),
    "dirichlet": (2.0, -math.pi / 2),
    "neumann": (2.0, 0.0),
    ("dirichlet", "neumann"): (1.5, -math.pi / 2),
    ("neumann", "dirichlet"): (1.5, 0.0),
}
LENGTHS = (2.0, 3.0, 1.5)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def _wave(grid: Grid, sides: tuple[object, ...]) -> tuple[Tensor, list[float], list[Tensor]]:
    """prod_d cos(k_d (x_d - origin_d) + phase_d), its k, and the phases k x + phase at the points."""
    k, angles = [], []
    for side, length, line in zip(sides, grid.lengths, grid.coordinates(), strict=True):
        number, phase = WAVES[side]  # type: ignore[index]
        k.append(math.pi * number / length)
        angles.append(k[-1] * (line - 0.7) + phase)
    return torch.stack([a.cos() for a in angles]).prod(dim=0)[None, None], k, angles


MIXTURES = [
    *((side,) for side in WAVES),
    ("dirichlet", "neumann"),
    ("periodic", "dirichlet"),
    (("dirichlet", "neumann"), "periodic"),
    ("neumann", "periodic", "dirichlet"),
    ("dirichlet", "dirichlet", ("neumann", "dirichlet")),
]


@pytest.mark.parametrize("centering", ["node", "cell"])
@pytest.mark.parametrize("sizes", [(12, 13, 11), (13, 12, 14)])
@pytest.mark.parametrize("sides", MIXTURES, ids=str)
def test_derivatives_of_resolved_waves_are_exact(
    sides: tuple[object, ...], sizes: tuple[int, ...], centering: str
) -> None:
    d = len(sides)
    grid = Grid(sizes[:d], LENGTHS[:d], boundary=sides, origin=0.7, centering=centering)  # type: ignore[arg-type]
    calc = Trigonometric(grid)
    u, k, angles = _wave(grid, sides)
    for axis in range(d):
        other = [a.cos() for i, a in enumerate(angles) if i != axis]
        rest = torch.stack(other).prod(dim=0) if other else torch.ones(grid.shape, dtype=DOUBLE)
        for order in range(1, 5):
            expected = k[axis] ** order * torch.cos(angles[axis] + order * math.pi / 2) * rest
            # Rounding of the largest wavenumber's power.
            top = (math.pi * 14 / 1.5) ** order
            assert float((calc.derivative(u, axis, order)[0, 0] - expected).abs().max()) < 1e-14 * top
    square = sum(kd**2 for kd in k)
    assert float((calc.laplacian(u) + square * u).abs().max()) < 1e-10
    assert float((calc.inverse_laplacian(u) + u / square).abs().max()) < 1e-13
    assert float((calc.div(calc.gradient(u)) + square * u).abs().max()) < 1e-9
    assert torch.equal(calc.derivative(u, 0, 0), u)
    assert torch.equal(calc.coordinates(u)[0], grid.coordinates())


@pytest.mark.parametrize("n", [3, 4, 5, 8])
@pytest.mark.parametrize("side", ["dirichlet", "neumann"])
def test_every_mode_of_a_small_grid_has_its_multiplier(n: int, side: str) -> None:
    """All modes up to the highest one, of which odd derivatives vanish at the nodes."""
    grid = Grid((n,), (math.pi,), boundary=side)
    calc = Trigonometric(grid)
    x = grid.coordinates()[0]
    assert Symbol(calc.doubled).laplacian(torch.ones(n, dtype=DOUBLE))[-1] == pytest.approx(-((n - 1) ** 2))
    for m in range(n):
        u = (torch.sin(m * x) if side == "dirichlet" else torch.cos(m * x))[None, None]
        # A node on a Dirichlet side has sin(m pi), which is 1e-16 and not zero.
        assert float((calc.derivative(u, 0, 2) + m**2 * u).abs().max()) < 1e-12
        slope = m * torch.cos(m * x) if side == "dirichlet" else -m * torch.sin(m * x)
        if m < n - 1:
            assert float((calc.derivative(u, 0)[0, 0] - slope).abs().max()) < 1e-13
        else:
            assert float(calc.derivative(u, 0).abs().max()) < 1e-13


def test_two_nodes_hold_two_cosines_and_no_sine() -> None:
    calc = Trigonometric(Grid((2,), (math.pi,), boundary="neumann"))
    u = torch.tensor([[[3.0, 1.0]]], dtype=DOUBLE)
    torch.testing.assert_close(calc.laplacian(u), torch.tensor([[[-1.0, 1.0]]], dtype=DOUBLE))
    with pytest.raises(ValueError, match="2 nodes on axis 0 between Dirichlet sides"):
        Trigonometric(Grid((2,), (1.0,), boundary="dirichlet"))


@pytest.mark.parametrize("pair", [*product(("dirichlet", "neumann"), repeat=2), ("wall", "dirichlet")])
@pytest.mark.parametrize("centering", ["node", "cell"])
def test_mirror_images_are_odd_or_even_about_both_sides(pair: tuple[str, str], centering: str) -> None:
    grid = Grid((5,), (1.0,), boundary=(pair,), centering=centering)  # type: ignore[arg-type]
    calc = Trigonometric(grid, (Field("density"), *VELOCITY))
    u = _random(2, 2, 5)
    wide = calc.extend(u)
    total = wide.shape[2]
    index = torch.arange(total)
    assert calc.doubled.grid.spacing == pytest.approx(grid.spacing)
    for side, last in ((0, 0 if centering == "node" else -1), (1, 8 if centering == "node" else 9)):
        image = wide[:, :, (last - index) % total]
        for channel in range(2):
            odd = pair[side] == "dirichlet" or (pair[side] == "wall" and channel == 1)
            assert (channel in calc.odd(0)[side]) is odd
            assert torch.equal(image[:, channel], (-1 if odd else 1) * wide[:, channel])
    back = calc.restrict(wide)
    inside = slice(1, -1) if centering == "node" else slice(None)
    assert torch.equal(back[..., inside], u[..., inside])
    assert torch.equal(calc.restrict(calc.extend(back)), back)
    assert torch.equal(calc.mirrored(wide, 0), wide)


def test_walls_reflect_the_normal_component_alone() -> None:
    grid = Grid((9, 8), (1.0, 2.0), boundary=("wall", "periodic"))
    calc = Trigonometric(grid, VELOCITY)
    x, y = grid.coordinates()
    normal, along = torch.sin(math.pi * x) * torch.cos(math.pi * y), torch.cos(math.pi * x)
    u = torch.stack([normal, along])[None]
    slope = calc.derivative(u, 0)[0]
    assert float((slope[0] - math.pi * torch.cos(math.pi * x) * torch.cos(math.pi * y)).abs().max()) < 1e-13
    assert float((slope[1] + math.pi * torch.sin(math.pi * x)).abs().max()) < 1e-13
    assert float((calc.laplacian(u)[0, 1] + math.pi**2 * along).abs().max()) < 1e-12
    with pytest.raises(ValueError, match="3 channels; its fields .* have 2"):
        calc.extend(_random(1, 3, 9, 8))


def test_products_have_their_own_parity_in_evaluate() -> None:
    """d/dx of the square of a sine, which is even: exact in `evaluate`, wrong as a derivative of a sine series."""
    grid = Grid((33,), (math.pi,), boundary="dirichlet")
    calc = Trigonometric(grid)
    x = grid.coordinates()[None]
    pde = Burgers(0.1)
    rate = calc.evaluate(pde.rhs, torch.sin(x))
    exact = -0.1 * torch.sin(x) - 0.5 * torch.sin(2 * x)
    assert float((rate - exact).abs().max()) < 1e-13
    assert float((pde.rhs(torch.sin(x), calc) - exact).abs().max()) > 1e-4


def test_the_weighted_sum_of_a_cosine_laplacian_vanishes() -> None:
    grid = Grid((7, 8), (1.0, 2.0), boundary=("neumann", "periodic"))
    rate = Trigonometric(grid).laplacian(_random(2, 1, 7, 8))
    total = (rate * grid.weights()).sum(dim=(2, 3))
    assert float(total.abs().max()) < 1e-12 * float(rate.abs().max())


@pytest.mark.parametrize(
    "sides", [("dirichlet", "neumann"), (("neumann", "dirichlet"), "periodic"), ("wall", "wall")]
)
def test_gradients(sides: tuple[object, ...]) -> None:
    calc = Trigonometric(Grid((4, 5), (1.0, 2.0), boundary=sides), VELOCITY)  # type: ignore[arg-type]
    u = _random(1, 2, 4, 5).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: calc.derivative(v, 0), (u,))
    assert torch.autograd.gradcheck(lambda v: calc.laplacian(v), (u,))
    assert torch.autograd.gradcheck(
        lambda v: calc.evaluate(Burgers(0.1).rhs, v), (u,), check_forward_ad=True
    )


def test_single_precision_stays_single() -> None:
    calc = Trigonometric(Grid((17,), (1.0,), boundary="dirichlet"), VELOCITY)
    u = torch.sin(math.pi * calc.grid.coordinates())[None]
    single = calc.laplacian(u.float())
    assert single.dtype == torch.float32
    # Rounding of 6e-8 times the largest k^2 = (16 pi)^2.
    assert float((single - calc.laplacian(u)).abs().max()) < 1e-3


def test_refusals_name_the_remedy() -> None:
    with pytest.raises(ValueError, match="for open sides"):
        Trigonometric(Grid((8,), (1.0,), boundary="outflow"))
    with pytest.raises(
        ValueError, match="Use Trigonometric where fields or their normal derivatives vanish"
    ):
        Spectral(Grid((8,), (1.0,), boundary="dirichlet"))
    calc = Trigonometric(Grid((8,), (1.0,), boundary="dirichlet"))
    with pytest.raises(ValueError, match=r"points \(9,\) on a grid of \(8,\)"):
        calc.laplacian(_random(1, 1, 9))
    with pytest.raises(ValueError, match="along axis 1"):
        calc.derivative(_random(1, 1, 8), 1)
