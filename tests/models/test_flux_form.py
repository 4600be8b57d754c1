import pytest
import torch
from torch import nn

from sciml import Grid, Mesh
from sciml.experiments import components
from sciml.models import ConvNet, EdgeFluxes, FluxForm, MeshGraphNet
from sciml.models.edge_fluxes import exchange

torch.set_num_threads(1)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_mesh(count=40, seed=0):
    """Scattered points of the unit square joined to triangles by cutting a jittered lattice."""
    n = int(count**0.5)
    x, y = torch.meshgrid(torch.arange(n + 0.0), torch.arange(n + 0.0), indexing="ij")
    points = torch.stack([x.flatten(), y.flatten()], dim=1).double()
    points += 0.25 * noise(len(points), 2, seed=seed).clamp(-1, 1)
    corner = (torch.arange((n - 1) * n).reshape(n - 1, n))[:, :-1].flatten()
    cells = torch.cat(
        [
            torch.stack([corner, corner + n, corner + 1], dim=1),
            torch.stack([corner + n, corner + n + 1, corner + 1], dim=1),
        ]
    )
    return Mesh(points, cells)


def network(channels, dimension, seed=0, boundary="circular"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ConvNet(channels, channels * dimension, dimension, 6, 1, activation="tanh", boundary=boundary)
    return nn.Sequential(net, nn.Tanh()).double()


WALLS = (("wall", "inflow"), "periodic", ("outflow", "neumann"))
GRIDS = [
    Grid((16,), (2.0,)),
    Grid((7, 6), (1.0, 3.0), boundary=WALLS[:2], centering="cell"),
    Grid((7, 6), (1.0, 3.0), boundary=WALLS[:2], centering="node"),
    Grid((4, 5, 6), (1.0, 3.0, 2.0), boundary=WALLS, centering="node"),
    Grid((4, 5, 6), (1.0, 3.0, 2.0), boundary=WALLS, centering="cell"),
]


def fluxes_for(grid):
    across = [n for a, n in enumerate(grid.shape) if a != 0]
    given = {}
    for axis, (low, high) in enumerate(grid.sides):
        if high == "inflow":
            given["x+"] = noise(2, *across, seed=3)
        if low == "outflow":
            given["xyz"[axis] + "-"] = lambda u: u.narrow(4, 0, 1).squeeze(4).square()
        if low == "wall":
            given["xyz"[axis] + "-"] = [0.5, -2.0]
    return given


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_integrals_change_by_what_passes_the_sides_alone(grid):
    step = FluxForm(
        network(2, grid.dimension), grid, fluxes_for(grid), dt=0.1, mean=[1.0, -3.0], std=[0.5, 2.0]
    )
    u = noise(3, 2, *grid.shape)
    new = step(u)
    assert float((new - u).detach().abs().min(dim=0).values.mean()) > 1e-3
    before, after = ((v * grid.weights()).flatten(2).sum(dim=2) for v in (u, new))
    torch.testing.assert_close(after, before + step.gain(u), rtol=0, atol=1e-13)
    if all(grid.periodic):
        assert float(step.gain(u).abs().max()) == 0.0


def test_leads_multiply_what_passes_the_sides():
    grid = Grid((6,), (1.0,), boundary="wall")
    inner = network(1, 1, boundary="replicate")
    step = FluxForm(
        lambda u, lead: inner(u) * lead.reshape(-1, 1, 1), grid, {"x-": 0.5, "x+": -1.0}, dt=0.1
    )
    u, lead = noise(2, 1, 6), torch.tensor([1.0, 4.0])
    change = ((step(u, lead) - u) * grid.weights()).sum(dim=2)
    torch.testing.assert_close(change, step.gain(u, lead), rtol=0, atol=1e-14)
    torch.testing.assert_close(change.flatten(), 0.15 * lead.double(), rtol=0, atol=1e-14)


def test_gain_is_what_the_given_fluxes_carry():
    grid = Grid((4, 5), (2.0, 5.0), boundary=("wall", "periodic"), centering="cell")
    step = FluxForm(network(2, 2), grid, {"x-": [1.0, 2.0], "x+": [0.25, -1.0]}, dt=0.1)
    # rate (in minus out) times the side of length 5 times dt
    expected = 0.1 * 5.0 * torch.tensor([[0.75, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(step.gain(noise(1, 2, 4, 5)), expected, rtol=1e-14, atol=0)


def test_it_is_the_scheme_whose_fluxes_it_is_given():
    grid = Grid((12,), (3.0,))
    u, ratio = noise(2, 1, 12), 0.4
    step = FluxForm(lambda v: ratio * v.roll(1, 2), grid)  # upwind advection to the right
    torch.testing.assert_close(step(u), u - ratio * (u - u.roll(1, 2)), rtol=1e-14, atol=1e-15)
    silent = FluxForm(lambda v: 0 * v, grid, base=lambda v: ratio * v.roll(1, 2))
    assert torch.equal(silent(u), step(u))


def test_a_wrong_shock_speed_is_impossible_with_consistent_fluxes():
    # Burgers' front from 1 to 0 between Godunov's outer states moves at 1/2 whatever happens inside.
    grid = Grid((60,), (60.0,), boundary="wall", centering="cell")
    u = (torch.arange(60) < 20).double().reshape(1, 1, -1)
    net = network(1, 1, boundary="replicate")

    def transports(v):
        left = torch.cat([v[:, :, :1], v[:, :, :-1]], dim=2)
        noisy = net(v) * left * (1 - v)  # vanishes where the state is uniformly one or zero
        return 0.5 * (0.5 * left.square() + 0.2 * noisy)

    step = FluxForm(transports, grid, {"x-": 0.5, "x+": 0.0}, dt=0.5)
    with torch.no_grad():
        for _ in range(40):
            u = step(u)
    # 40 steps of 0.5 at speed 1/2 move the balance by 10 cells.
    assert float(u.sum()) == pytest.approx(30.0, abs=1e-11)


def test_ten_thousand_steps_keep_the_sum():
    grid = Grid((16,), (1.0,))
    net = network(2, 1)
    step = FluxForm(lambda u: 0.1 * net(u), grid)
    u = start = noise(1, 2, 16)
    with torch.no_grad():
        for _ in range(10_000):
            u = step(u)
    assert bool(torch.isfinite(u).all()) and float((u - start).abs().max()) > 0.1
    assert float((u.mean(dim=2) - start.mean(dim=2)).abs().max()) <= 1e-12 * max(1.0, float(u.abs().max()))


@pytest.mark.parametrize("half", [False, True])
def test_single_and_mixed_precision_keep_the_sum_to_the_rounding_of_states(half):
    grid = Grid((32,), (1.0,))
    net = network(1, 1).float()
    step = FluxForm(lambda u: 0.1 * net(u), grid).float()
    u = start = noise(2, 1, 32).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for _ in range(300):
            u = step(u)
    assert u.dtype == torch.float32
    drift = (u.double().mean(dim=2) - start.double().mean(dim=2)).abs().max()
    # Each of the 300 roundings of 32 values moves their mean by some 6e-8 |u| / sqrt(32), with either sign.
    assert float(drift) <= 6e-8 * float(u.abs().max()) * (300 / 32) ** 0.5 * 3
    assert step(u.bfloat16()).dtype == torch.float32


def test_wrong_arguments_are_refused():
    closed = Grid((8,), (1.0,), boundary="wall")
    with pytest.raises(ValueError, match=r"fluxes at \['x-'\]"):
        FluxForm(network(1, 1), Grid((8,), (1.0,)), {"x-": 1.0})
    with pytest.raises(ValueError, match="no flux at the side x-, which is 'inflow'"):
        FluxForm(network(1, 1), Grid((8,), (1.0,), boundary=(("inflow", "wall"),)))
    with pytest.raises(ValueError, match="needs out_channels: 2"):
        FluxForm(lambda u: u[:, :1], closed)(noise(1, 2, 8))
    with pytest.raises(ValueError, match="expected .B, C, .points. with points"):
        FluxForm(network(1, 1), closed)(noise(1, 1, 9))
    with pytest.raises(ValueError, match="of 3 channels at x-"):
        FluxForm(network(1, 1), closed, {"x-": [1.0, 2.0, 3.0]})(noise(1, 1, 8))
    with pytest.raises(TypeError, match="take EdgeFluxes"):
        FluxForm(network(1, 1), random_mesh())
    with pytest.raises(TypeError, match="take FluxForm"):
        EdgeFluxes(network(1, 1), closed, 1)


def test_a_study_names_it_with_its_network():
    facts = {
        "domain": Grid((8,), (1.0,), boundary="wall"),
        "in_channels": 1,
        "out_channels": 1,
        "dimension": 1,
    }
    network = {"class_path": "ConvNet", "init_args": {"boundary": "replicate"}}
    arguments = {"f": network, "fluxes": {"x-": 0.25, "x+": [0.5]}}
    component = {"class_path": "FluxForm", "init_args": arguments}
    step = components.build(component, "network", "network", facts | {"dt": 0.1})
    u = noise(1, 1, 8).float()
    assert float(step.gain(u)) == pytest.approx(-0.025, rel=1e-12)
    assert step(u).shape == u.shape


def edge_step(mesh, seed=0, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inner = MeshGraphNet(mesh, 2, 4, width=8, layers=1)
        return EdgeFluxes(inner, mesh, 2, 4, width=8, **more).double()


class TestEdgeFluxes:
    def test_forces_between_particles_keep_the_momentum_whoever_meets(self):
        """Neighbours change from step to step; messages come from half precision."""
        x, v = noise(1, 2, 30), noise(1, 2, 30, seed=1)
        start = v.sum(dim=2)
        for _ in range(200):
            near = (x.movedim(1, 2).squeeze(0).unsqueeze(0) - x.movedim(1, 2).squeeze(0).unsqueeze(1)).norm(
                dim=2
            ) < 0.7
            edges = near.triu(1).nonzero().T
            gap = x[:, :, edges[1]] - x[:, :, edges[0]]
            force = (0.01 * gap / gap.square().sum(dim=1, keepdim=True).clamp_min(0.01)).bfloat16()
            v = v + exchange(force, edges, 30)
            x = x + 0.01 * v
        assert float((v.sum(dim=2) - start).abs().max()) < 1e-12 * float(v.abs().max()) * 30
        assert float((v - noise(1, 2, 30, seed=1)).abs().max()) > 0.1

    def test_the_weighted_sum_changes_by_the_inflow_alone(self):
        mesh = random_mesh()
        inflow = noise(2, mesh.shape[0], seed=5)
        step = edge_step(mesh, hidden_layers=2, inflow=inflow, mean=[0.0, 1.0], std=[1.0, 3.0])
        u = noise(3, 2, *mesh.shape)
        change = ((step(u) - u) * mesh.weights()).sum(dim=2)
        torch.testing.assert_close(change, inflow.sum(dim=1).expand(3, 2), rtol=0, atol=1e-12)

    def test_ten_thousand_steps_on_a_random_mesh_keep_the_sum(self):
        mesh = random_mesh(25)
        edges, share = mesh.edges, mesh.weights().mean() / mesh.weights()
        weight = noise(2, 4)
        u = start = noise(1, 2, *mesh.shape)
        with torch.no_grad():
            for _ in range(10_000):  # the layer itself, with cheap messages
                ends = torch.cat([u[:, :, edges[0]], u[:, :, edges[1]]], dim=1)
                u = (
                    u
                    + exchange(0.02 * torch.sin(torch.einsum("ck,bke->bce", weight, ends)), edges, 25)
                    * share
                )
        drift = ((u - start) * mesh.weights()).sum(dim=2).abs().max() / mesh.volume
        assert bool(torch.isfinite(u).all()) and float((u - start).abs().max()) > 0.1
        assert float(drift) <= 1e-12 * max(1.0, float(u.abs().max()))

    def test_renumbering_the_nodes_renumbers_the_answer(self):
        mesh = random_mesh()
        step = edge_step(mesh)
        order = torch.randperm(mesh.shape[0], generator=torch.Generator().manual_seed(2))
        place = order.argsort()  # the new number of each old node
        other = Mesh(mesh.points[order], place[mesh.cells])
        u = noise(2, 2, *mesh.shape)
        moved = step.on(other)(u[:, :, order])
        torch.testing.assert_close(moved, step(u)[:, :, order], rtol=1e-12, atol=1e-12)

    def test_on_a_mesh_of_two_parts_each_does_what_it_does_alone(self):
        mesh, small = random_mesh(), random_mesh(12)
        step = edge_step(mesh)
        count = mesh.shape[0]
        both = Mesh(
            torch.cat([mesh.points, small.points + 5.0]), torch.cat([mesh.cells, small.cells + count])
        )
        u = noise(2, 2, *both.shape)
        together = step.on(both)(u)
        torch.testing.assert_close(together[:, :, :count], step(u[:, :, :count]), rtol=0, atol=1e-12)
        torch.testing.assert_close(
            together[:, :, count:], step.on(small)(u[:, :, count:]), rtol=0, atol=1e-12
        )
        assert step.on(both).of_first is step.of_first and step.mesh is mesh
        change = ((together - u) * both.weights()).sum(dim=2)
        assert float(change.abs().max()) < 1e-12 * both.volume
        driven = edge_step(mesh, inflow=noise(2, count))
        with pytest.raises(ValueError, match="with inflow, and got a mesh in 2D without"):
            driven.on(small)

    def test_single_and_mixed_precision(self):
        mesh = random_mesh()
        step = edge_step(mesh).float()
        u = noise(2, 2, *mesh.shape).float()
        with torch.autocast("cpu", torch.bfloat16):
            new = step(u)
        assert new.dtype == torch.float32
        change = ((new.double() - u.double()) * mesh.weights()).sum(dim=2) / mesh.volume
        assert float(change.abs().max()) < 6e-8 * float(new.abs().max())
        assert float((new - u).abs().max()) > 1e-2

    def test_wrong_arguments_are_refused(self):
        mesh = random_mesh()
        with pytest.raises(ValueError, match="features here alike"):
            EdgeFluxes(MeshGraphNet(mesh, 2, 3, width=4, layers=1), mesh, 2, 4)(
                noise(1, 2, *mesh.shape).float()
            )
        loose = Mesh(torch.cat([mesh.points, mesh.points[:1] + 9]), mesh.cells)
        with pytest.raises(ValueError, match=rf"such as \[{mesh.shape[0]}\]"):
            EdgeFluxes(lambda u: u, loose, 2)
        with pytest.raises(ValueError, match="inflow of shape"):
            EdgeFluxes(lambda u: u, mesh, 2, inflow=[1.0])
