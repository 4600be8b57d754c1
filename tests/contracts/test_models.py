"""What every network promises, whatever it is made of."""

import io

import pytest
import torch
from torch import nn

import sciml
import sciml.constraints
import sciml.models
from sciml import Mesh
from sciml.models import MODELS

torch.set_num_threads(1)


def small_mesh() -> Mesh:
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [1.1, 0.9], [2.0, 1.0]])
    cells = torch.tensor([[0, 1, 3], [1, 4, 3], [1, 2, 4], [2, 5, 4]])
    return Mesh(points, cells)


def make(name: str, seed: int = 0) -> nn.Module:
    """A small network of each kind with two input and three output channels."""
    kind = getattr(sciml.models, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "FNO":
            return kind(2, 3, modes=(3, 2), width=6, layers=2)
        if name == "KNO":
            return kind(2, 3, modes=(3, 2), width=5, repetitions=2)
        if name == "UNet":
            return kind(2, 3, dimension=2, width=4, levels=1)
        if name == "ConvNet":
            return kind(2, 3, dimension=2, width=5, hidden_layers=2, activation="gelu")
        if name == "MeshGraphNet":
            return kind(small_mesh(), 2, 3, width=6, layers=2)
        if name == "PINN":
            return kind(1, 1, width=6, layers=2, initial=[[0.0, 1.0, 0.0, -1.0]])
        if name == "PLRNN":
            return kind(3, hidden=5)
        if name == "NeuralODE":
            return kind(2, width=5)
        if name == "StructuredFlow":
            return kind(2, 2, sciml.Grid((8, 10), (1.0, 2.0)), dt=0.02, width=5)
        if name == "FluxForm":
            return kind(
                sciml.models.ConvNet(2, 4, 2, 5, 2, activation="gelu"), sciml.Grid((8, 10), (1.0, 2.0))
            )
        if name == "EdgeFluxes":
            return kind(
                sciml.models.MeshGraphNet(small_mesh(), 2, 3, width=6, layers=2), small_mesh(), 2, 3
            )
        if name == "BoundaryOperator":
            grid = sciml.Grid((8, 10), (1.0, 2.0), boundary=("wall", "periodic"))
            sides = sciml.constraints.SideConditions(grid, {"x+": sciml.constraints.SideCondition(0.3)})
            inner = sciml.models.ConvNet(2, 3, 2, 5, 2, activation="gelu")
            return kind(inner, sciml.models.SpectralKernel(3, 2, (2, 3)), sides)
        if name == "GroupAverage":
            inner = sciml.models.ConvNet(2, 2, 2, 5, 2, activation="gelu")
            return kind(inner, sciml.Grid((8, 10), (1.0, 2.0)), "reflections", vectors=[(0, 1)])
        if name == "Galilean":
            inner = sciml.models.ConvNet(2, 2, 2, 5, 2, activation="gelu")
            return kind(inner, sciml.Grid((8, 10), (1.0, 2.0)), 0.1)
        if name == "PositiveTensors":
            return kind(sciml.models.ConvNet(2, 4, 2, 5, 2, activation="gelu"), 2, [(0, 1, 2, 3)], 0.1)
        net = sciml.models.ConvNet(2, 1, 2, 5, 2, activation="gelu")
        if name == "VectorPotential":
            return kind(net, sciml.Grid((8, 10), (1.0, 2.0)))
        if name == "PotentialForce":
            return kind(net)
        if name == "CoordinateNet":
            return kind(1, 1, 6, 2, horizon=2.0)
        if name == "SolenoidalNet":
            return kind(sciml.models.CoordinateNet(1, 1, 6, 2, horizon=2.0), 1, over_time=True)
        if name == "HelmholtzNet":
            return kind(sciml.models.CoordinateNet(1, 1, 6, 2, horizon=2.0), 1, "potential")
        of_place = sciml.models.CoordinateNet(1, 1, 6, 2, horizon=2.0)
        if name == "HardConditions":
            wall = sciml.models.PlaneDistance((0.0,), (1.0,))
            return kind(of_place, [sciml.models.BoundaryCondition(wall, 0.5, 1.0, 1.0)])
        if name == "InitialState":
            return kind(of_place, torch.sin)
        raise AssertionError(f"no example of {name}: add one here")


# Networks of place map points, not fields, a PLRNN states without space to states of as many numbers; a
# NeuralODE does either to as many channels, and the steps of its solver are those of the whole batch, as are the
# iterations of a StructuredFlow.
OF_PLACE = ("PINN", "CoordinateNet", "SolenoidalNet", "HelmholtzNet", "HardConditions", "InitialState")
FIELD_MAPS = [name for name in MODELS if name not in (*OF_PLACE, "PLRNN", "NeuralODE", "StructuredFlow")]

# Steps keep the number of channels.
STEPS = (
    "FluxForm",
    "EdgeFluxes",
    "VectorPotential",
    "PotentialForce",
    "GroupAverage",
    "Galilean",
    "BoundaryOperator",
)


def state(name: str, generator: torch.Generator) -> torch.Tensor:
    points = (6,) if name in ("MeshGraphNet", "EdgeFluxes") else (8, 10)
    return torch.randn(2, 2, *points, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", FIELD_MAPS)
def test_a_batch_is_its_samples_side_by_side(name):
    generator = torch.Generator().manual_seed(1)
    model, u = make(name).double(), state(name, generator)
    out = model(u)
    assert out.shape == (2, 2 if name in STEPS else 4 if name == "PositiveTensors" else 3, *u.shape[2:])
    one_by_one = torch.cat([model(u[:1]), model(u[1:])])
    torch.testing.assert_close(out, one_by_one, rtol=1e-12, atol=1e-12)  # rounding of float64


@pytest.mark.parametrize("name", FIELD_MAPS)
def test_forward_derivative_is_the_limit_of_differences(name):
    generator = torch.Generator().manual_seed(2)
    model, u = make(name).double(), state(name, generator)
    v = torch.randn(u.shape, generator=generator, dtype=torch.float64)
    _, slope = torch.func.jvp(model, (u,), (v,))
    h = 1e-5
    difference = (model(u + h * v) - model(u - h * v)) / (2 * h)
    # Central differences: truncation h^2 and rounding eps/h, both about 1e-10 of the slope. A ReLU
    # that changes sides between the two states would show; the examples hardly have one.
    assert float((slope - difference).norm() / slope.norm()) < 1e-5


@pytest.mark.parametrize("name", FIELD_MAPS)
def test_all_parameters_get_a_gradient(name):
    generator = torch.Generator().manual_seed(3)
    model, u = make(name).double(), state(name, generator)
    model(u).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A constant in a potential has no effect.
    constant = "f.convolutions.2.bias" if name in ("VectorPotential", "PotentialForce") else None
    assert silent in ([], [constant])


@pytest.mark.parametrize("name", MODELS)
def test_arguments_and_safely_loaded_weights_make_it_again(name):
    parent = nn.ModuleDict({"inner": make(name)})
    file = io.BytesIO()
    torch.save(parent.state_dict(), file)
    file.seek(0)
    weights = torch.load(file, weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    copy = nn.ModuleDict({"inner": make(name, seed=7)})
    assert any(not torch.equal(a, b) for a, b in zip(parent.parameters(), copy.parameters(), strict=True))
    copy.load_state_dict(weights)
    for (key, a), b in zip(parent.state_dict().items(), copy.state_dict().values(), strict=True):
        assert torch.equal(a, b), key
    arguments = inputs(name)
    assert torch.equal(parent["inner"](*arguments), copy["inner"](*arguments))


def inputs(name: str) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(4)
    if name in OF_PLACE:
        return torch.rand(1, 1, 5, generator=generator), torch.rand(1, 1, 5, generator=generator)
    if name == "PLRNN":
        return (torch.randn(2, 3, generator=generator),)
    return (state(name, generator).float(),)


def test_the_list_names_what_the_package_exports():
    assert set(MODELS) <= set(sciml.models.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Transformer'"):
        sciml.models.__getattr__("Transformer")
