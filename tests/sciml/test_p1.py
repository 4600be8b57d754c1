"""Linear elements: exact where they must be, symmetric, of the right order."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sciml import Mesh, NodeType
from sciml.calculus import P1
from sciml.solvers.finite_element import box, rectangle
from sciml.solvers.finite_element.assembly import assemble


def meshes() -> list[Mesh]:
    return [rectangle((1.0, 1.3), 0.2, seed=1), box((1.0, 1.2, 0.8), (4, 4, 3), seed=1)]


@pytest.mark.parametrize("mesh", meshes(), ids=["triangles", "tetrahedra"])
def test_linear_fields_are_differentiated_exactly(mesh: Mesh) -> None:
    slope = torch.arange(1.0, mesh.dimension + 1, dtype=torch.float64)
    u = (2.0 + slope @ mesh.coordinates()).reshape(1, 1, -1)
    calc = P1(mesh)
    expected = slope.reshape(1, 1, -1, 1).expand(1, 1, -1, mesh.shape[0])
    assert torch.allclose(calc.gradient(u), expected, atol=1e-12)  # rounding
    inner = mesh.types == int(NodeType.NORMAL)
    assert calc.laplacian(u)[..., inner].abs().max() < 1e-10  # rounding, times 1/h^2
    # At the boundary the weak Laplacian sees the missing flux: this is no strong derivative there.
    assert calc.laplacian(u)[..., ~inner].abs().max() > 1.0


@pytest.mark.parametrize("mesh", meshes(), ids=["triangles", "tetrahedra"])
def test_laplacian_is_symmetric_without_total_and_the_assembled_one(mesh: Mesh) -> None:
    generator = torch.Generator().manual_seed(2)
    u, v = torch.randn(2, 3, 2, mesh.shape[0], generator=generator, dtype=torch.float64)
    calc, mass = P1(mesh), mesh.weights()
    lap_u, lap_v = calc.laplacian(u), calc.laplacian(v)
    scale = float((mass * u * lap_u).abs().sum())
    assert abs(float((mass * v * lap_u).sum() - (mass * u * lap_v).sum())) < 1e-13 * scale
    assert float((mass * u * lap_u).sum(dim=-1).max()) < 0
    assert (mass * lap_u).sum(dim=-1).abs().max() < 1e-12 * scale
    stiffness = assemble(mesh, 1.0).rate  # scikit-fem's quadrature, independent of ours
    expected = torch.from_numpy(-(stiffness @ u[0, 0].numpy())) / mass
    assert torch.allclose(lap_u[0, 0], expected, rtol=1e-11, atol=1e-9)
    assert torch.allclose(sum(calc.derivative(u, axis, 2) for axis in range(mesh.dimension)), lap_u)


def test_energy_of_a_cosine_converges_with_order_two() -> None:
    def error(spacing: float) -> float:
        mesh = rectangle((1.0, 1.0), spacing, seed=3)
        x, mass = mesh.coordinates(), mesh.weights()
        u = (torch.cos(math.pi * x[0]) * torch.cos(2 * math.pi * x[1])).reshape(1, 1, -1)
        quotient = -(mass * u * P1(mesh).laplacian(u)).sum() / (mass * u.square()).sum()
        return abs(float(quotient) / (5 * math.pi**2) - 1)

    # The meshes are not nested, which moves the measured order by a few tenths.
    assert math.log2(error(0.1) / error(0.05)) == pytest.approx(2, abs=0.35)


def test_averaged_gradient_converges() -> None:
    def error(spacing: float) -> float:
        mesh = rectangle((1.0, 1.0), spacing, seed=3)
        x, mass = mesh.coordinates(), mesh.weights()
        u = torch.sin(2 * x[0] + x[1]).reshape(1, 1, -1)
        e = P1(mesh).derivative(u, 0) - 2 * torch.cos(2 * x[0] + x[1])
        return float((mass * e.square()).sum().sqrt())

    # First order on the boundary layer of cells, second inside: between 1 and 2 in the mean square.
    assert math.log2(error(0.1) / error(0.05)) > 1.3


def test_derivatives_have_exact_gradients() -> None:
    mesh = rectangle((1.0, 1.0), 0.45, seed=0)
    calc = P1(mesh)
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(2, 1, mesh.shape[0], generator=generator, dtype=torch.float64, requires_grad=True)

    def everything(u: Tensor) -> Tensor:
        return torch.cat([calc.laplacian(u) ** 2, calc.derivative(u, 1) ** 2, calc.div(calc.gradient(u))])

    assert torch.autograd.gradcheck(everything, (u,))
    assert torch.autograd.gradgradcheck(everything, (u,))


def test_single_precision_stays_single() -> None:
    mesh = rectangle((1.0, 1.0), 0.2, seed=0)
    x = mesh.coordinates()
    u = torch.cos(x[0]).reshape(1, 1, -1)
    calc = P1(mesh)
    single = calc.laplacian(u.float())
    assert single.dtype == torch.float32
    scale = calc.laplacian(u).abs().max()
    # Rounding of u, 6e-8, over h^2 = 0.04, times the number of neighbours.
    assert float((single - calc.laplacian(u)).abs().max() / scale) < 1e-4


def test_refusals_say_what_to_do() -> None:
    mesh = rectangle((1.0, 1.0), 0.4, seed=0)
    calc = P1(mesh)
    u = torch.zeros(1, 1, mesh.shape[0])
    with pytest.raises(ValueError, match="order 3; linear elements have derivatives of order 0, 1 and 2"):
        calc.derivative(u, 0, 3)
    with pytest.raises(ValueError, match=f"mesh of {mesh.shape[0]} nodes"):
        calc.laplacian(u[..., 1:])
    lonely = Mesh(torch.cat([mesh.points, torch.tensor([[5.0, 5.0]])]), mesh.cells)
    with pytest.raises(ValueError, match="1 nodes that belong to no cell"):
        P1(lonely)
