"""Turned states, symmetric states, and steps that commute with turning."""

import pytest
import torch
from torch import nn

from sciml import Grid
from sciml.constraints import DivergenceFree, StaggeredDivergenceFree, Symmetric
from sciml.experiments import components
from sciml.models import ConvNet, GroupAverage
from sciml.pdes import NavierStokes, NavierStokesVorticity
from sciml.solvers import build
from sciml.solvers.incompressible import incompressible
from sciml.symmetries import GridSymmetries

torch.set_num_threads(1)
SQUARE = Grid((6, 6), (1.0, 1.0))
CELLS = Grid((6, 6), (1.0, 1.0), centering="cell")
CHANNEL = Grid((6, 4), (1.0, 2.0), boundary=("periodic", "wall"), centering="cell")
CUBE = Grid((4, 4, 4), (1.0, 1.0, 1.0), boundary="wall", centering="node")


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


GROUPS = [
    (GridSymmetries(SQUARE, "all", vectors=[(0, 1)], pseudoscalars=[2]), 8),
    (GridSymmetries(SQUARE, "rotations", vectors=[(2, 0)], translations=(2, 2)), 16),
    (GridSymmetries(CELLS, "all", vectors=[(0, 1)], staggered=True), 8),
    (GridSymmetries(CHANNEL, "reflections", vectors=[(0, 1)], staggered=True, translations=(3, 1)), 12),
    (GridSymmetries(CHANNEL, "reflections", axes=[1]), 2),
    (GridSymmetries(CUBE, "all", vectors=[(0, 1, 2)]), 48),
    (GridSymmetries(CUBE, "rotations", axes=[0, 1], vectors=[(0, 1, 2)]), 4),
    (GridSymmetries(SQUARE, "all", tensors=[(0, 1, 2, 3)]), 8),
    (GridSymmetries(SQUARE, "none", translations=(1, 6)), 6),
    (GridSymmetries(Grid((5,), (1.0,)), "reflections", vectors=[(0,)]), 2),
]


@pytest.mark.parametrize(("group", "size"), GROUPS)
def test_it_is_a_group_of_the_right_size_with_inverses(group, size):
    u = noise(2, 4, *group.grid.shape)
    images = [group.apply(turn, u) for turn in group.elements]
    assert len(images) == size
    for turn, image in zip(group.elements, images, strict=True):
        assert torch.equal(group.apply(turn, image, inverse=True), u)
    for i, a in enumerate(images):
        assert not any(torch.equal(a, b) for b in images[:i])
    again = group.apply(group.elements[-1], images[len(images) // 2])
    assert any(torch.equal(again, image) for image in images)  # closed


@pytest.mark.parametrize("kind", ["velocity", "vorticity", "staggered", "channel"])
def test_solvers_commute_with_it(kind):
    """The equations have the symmetry, so a wrong sign or place of a component would show."""
    if kind == "vorticity":
        group = GridSymmetries(SQUARE, "all", pseudoscalars=[0], translations=(3, 3))
        step, u = build(NavierStokesVorticity(0.01), SQUARE, dt=0.01), noise(1, 1, 6, 6)
        u = u - u.mean()
    elif kind == "velocity":
        group = GridSymmetries(SQUARE, "all", vectors=[(0, 1)])
        step = build(NavierStokes(0.01), SQUARE, dt=0.01)
        u = DivergenceFree(SQUARE).project(noise(1, 2, 6, 6))
    else:
        grid = CELLS if kind == "staggered" else CHANNEL
        name = "all" if kind == "staggered" else "reflections"
        group = GridSymmetries(grid, name, vectors=[(0, 1)], staggered=True)
        step = incompressible(NavierStokes(1.0), grid, 0.01, substeps=4, compiled=False)
        u = StaggeredDivergenceFree(grid).project(noise(1, 2, *grid.shape))
    for turn in group.elements:
        torch.testing.assert_close(
            step(group.apply(turn, u)), group.apply(turn, step(u)), rtol=0, atol=1e-12
        )


def network(channels, dimension):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ConvNet(channels, channels, dimension, 5, 1, activation="gelu", boundary="zeros").double()


@pytest.mark.parametrize(("group", "size"), GROUPS)
def test_averaged_networks_commute_with_it(group, size):
    f = network(4, group.grid.dimension)
    step = GroupAverage(f, group.grid, "none", residual=True)
    step.symmetries = group
    u = noise(2, 4, *group.grid.shape)
    with torch.no_grad():
        plain, new = f(u), step(u)
        for turn in group.elements[:9]:
            turned = group.apply(turn, u)
            torch.testing.assert_close(step(turned), group.apply(turn, new), rtol=0, atol=1e-12)
        assert float((f(turned) - group.apply(turn, plain)).abs().max()) > 1e-2


def test_statistics_do_not_stretch_vectors():
    step = GroupAverage(network(3, 2), SQUARE, vectors=[(0, 1)], mean=[5.0, -1.0, 2.0], std=[1.0, 7.0, 3.0])
    std = step.statistics.std(noise(1)).flatten()
    torch.testing.assert_close(std, torch.tensor([5.0, 5.0, 3.0]).double())
    assert step.statistics.mean(noise(1)).flatten().tolist() == [0.0, 0.0, 2.0]
    u = noise(1, 3, 6, 6)
    for turn in step.symmetries.elements:
        turned = step.symmetries.apply(turn, step(u))
        torch.testing.assert_close(step(step.symmetries.apply(turn, u)), turned, rtol=0, atol=1e-12)


def test_single_precision_commutes_to_its_rounding():
    step = GroupAverage(network(2, 2), SQUARE, vectors=[(0, 1)]).float()
    u = noise(1, 2, 6, 6).float()
    turn = step.symmetries.elements[5]
    turned = step.symmetries.apply(turn, step(u))
    torch.testing.assert_close(step(step.symmetries.apply(turn, u)), turned, rtol=0, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert step(u).dtype == torch.float32


def test_symmetric_states_stay_what_they_are_and_others_become_the_nearest():
    held = Symmetric(SQUARE, "all", vectors=[(0, 1)])
    u = noise(1, 2, 6, 6)
    new = held.project(u)
    # Orthogonal: what is taken away has no product with any symmetric state.
    other = held.project(noise(1, 2, 6, 6, seed=1))
    assert abs(float(((u - new) * other).sum())) < 1e-12
    assert float((u - new).abs().max()) > 0.1 and float(new.abs().max()) > 0.1
    # A symmetric flow has no mean: it would have to point somewhere.
    assert float(new.flatten(2).sum(dim=2).abs().max()) < 1e-13


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="quarter turns need axes that are alike"):
        GridSymmetries(CHANNEL)
    with pytest.raises(ValueError, match="has no mirror image"):
        GridSymmetries(Grid((4, 4), (1.0, 1.0), (("inflow", "outflow"), "wall")), "reflections")
    with pytest.raises(ValueError, match="2 channels of each vector"):
        GridSymmetries(SQUARE, vectors=[(0,)])
    with pytest.raises(ValueError, match="that divides its points"):
        GridSymmetries(SQUARE, translations=(4, 4))
    with pytest.raises(ValueError, match="one number for axes"):
        GridSymmetries(SQUARE, translations=(2, 3))
    with pytest.raises(ValueError, match="point_group='mirror'"):
        GridSymmetries(SQUARE, "mirror")
    with pytest.raises(ValueError, match="and channels .2, 3."):
        Symmetric(SQUARE, vectors=[(2, 3)]).project(noise(1, 2, 6, 6))
    with pytest.raises(ValueError, match="answer of shape"):
        GroupAverage(lambda u: u[:, :1], SQUARE)(noise(1, 2, 6, 6))


def test_a_study_names_it():
    inner = {"class_path": "ConvNet", "init_args": {"width": 4, "hidden_layers": 1}}
    component = {
        "class_path": "GroupAverage",
        "init_args": {"f": inner, "vectors": [[0, 1]], "residual": True},
    }
    facts = {"grid": SQUARE, "in_channels": 2, "out_channels": 2, "dimension": 2}
    facts |= {"mean": torch.zeros(2), "std": torch.ones(2)}
    step = components.build(component, "network", "network", facts)
    assert isinstance(step, nn.Module) and step(noise(1, 2, 6, 6).float()).shape == (1, 2, 6, 6)
