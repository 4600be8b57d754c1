"""Fields without divergence, and conservative ones, by construction."""

import copy
import math

import pytest
import torch
from torch import nn

from sciml import Grid
from sciml.constraints import DivergenceFree, StaggeredDivergenceFree
from sciml.experiments import components
from sciml.jacobian import asymmetry, circulation, dense_jacobian
from sciml.models import (
    ConvNet,
    CoordinateNet,
    HelmholtzNet,
    PotentialForce,
    SolenoidalNet,
    VectorPotential,
)

torch.set_num_threads(1)
CHANNEL = Grid((6, 5), (1.2, 2.0), boundary=("periodic", "wall"), centering="cell")
ROOM = Grid((6, 5), (1.2, 2.0), boundary="wall", centering="cell")
BOX = Grid((4, 3, 5), (1.0, 1.0, 2.0), boundary=("wall", "periodic", "wall"), centering="cell")
TORUS = Grid((4, 3, 5), (1.0, 1.0, 2.0), centering="cell")
BODY = {"blocks": [(0.4, 0.8, 0.8, 1.2)]}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(make, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().double()


def network(inputs, outputs, dimension):
    return seeded(lambda: ConvNet(inputs, outputs, dimension, 5, 1, activation="gelu"))


def constraint_for(grid, method, bodies):
    return DivergenceFree(grid) if method == "spectral" else StaggeredDivergenceFree(grid, **bodies)


CASES = [
    (Grid((8, 7), (1.0, 2.0)), "spectral", {}),
    (Grid((4, 5, 6), (1.0, 2.0, 1.0)), "spectral", {}),
    (Grid((8, 7), (1.0, 2.0), centering="cell"), "staggered", {}),
    (CHANNEL, "staggered", {}),
    (CHANNEL, "staggered", BODY),
    (ROOM, "staggered", {"cylinders": [(0.6, 1.0, 0.25)]}),
    (CHANNEL, "staggered", {"blocks": [(0.4, 0.0, 0.8, 0.8)]}),  # stands on the low wall
    (CHANNEL, "staggered", {"blocks": [(0.4, 1.2, 0.8, 2.0)]}),  # hangs from the high one
    (BOX, "staggered", {}),
    (TORUS, "staggered", {}),
]


@pytest.mark.parametrize(("grid", "method", "bodies"), CASES)
def test_the_velocity_has_no_divergence_and_the_mean_it_should(grid, method, bodies):
    d = grid.dimension
    step = VectorPotential(network(d, 1 if d == 2 else 3, d), grid, method, **bodies)
    u = noise(2, d, *grid.shape)
    new = step(u)
    constraint = constraint_for(grid, method, bodies)
    assert float(new.detach().std()) > 1e-2
    assert float(constraint.violation(new).max()) < 1e-13
    kept = u.flatten(2).mean(dim=2) * torch.tensor(grid.periodic)
    torch.testing.assert_close(new.flatten(2).mean(dim=2), kept, rtol=0, atol=1e-13)
    # 10,000 steps cannot add up what is not there: the output does not remember its input's divergence.
    assert float(constraint.violation(step(1e3 * u)).max()) < 1e-10


@pytest.mark.parametrize(("grid", "bodies"), [(CHANNEL, {}), (CHANNEL, BODY), (BOX, {}), (TORUS, {})])
def test_every_flow_without_divergence_is_a_curl_and_a_mean(grid, bodies):
    d = grid.dimension
    step = VectorPotential(lambda u: u, grid, "staggered", **bodies)
    count = (1 if d == 2 else 3) * math.prod(grid.shape)
    unit = torch.eye(count, dtype=torch.float64).reshape(count, -1, *grid.shape)
    curls = [step.curl(unit).flatten(1)]
    for axis in range(d):
        if grid.periodic[axis]:
            flow = torch.zeros(1, d, dtype=torch.float64)
            flow[0, axis] = 1.0
            curls.append(step.curl(torch.zeros_like(unit[:1]), flow).flatten(1))
    reached = torch.linalg.matrix_rank(torch.cat(curls), atol=1e-9)
    # The projection's rank is the dimension of what it projects onto.
    constraint = StaggeredDivergenceFree(grid, **bodies)
    faces = d * math.prod(grid.shape)
    matrix = constraint.project(torch.eye(faces, dtype=torch.float64).reshape(faces, d, *grid.shape))
    assert int(reached) == int(torch.linalg.matrix_rank(matrix.flatten(1), atol=1e-9))


def test_predicted_mean_other_channels_and_statistics():
    grid = Grid((8, 6), (1.0, 2.0))
    answer = noise(2, 4, 8, 6)
    step = VectorPotential(
        lambda z: answer,
        grid,
        mean_flow="predicted",
        channels=[2, 0],
        mean=[0.0, 5.0, 0.0],
        std=[3.0, 7.0, 4.0],
    )
    u = noise(2, 3, 8, 6)
    new = step(u)
    scale = (0.5 * (3.0**2 + 4.0**2)) ** 0.5
    torch.testing.assert_close(
        new[:, [2, 0]].flatten(2).mean(dim=2),
        scale * answer[:, 1:3].flatten(2).mean(dim=2),
        rtol=1e-12,
        atol=1e-13,
    )
    torch.testing.assert_close(new[:, 1], 5.0 + 7.0 * answer[:, 3])
    flow = DivergenceFree(grid, channels=[2, 0])
    assert float(flow.violation(new).max()) < 1e-13
    added = VectorPotential(lambda z: answer[:, [0, 3]], grid, residual=True, channels=[2, 0])
    torch.testing.assert_close(flow.divergence(added(u)), flow.divergence(u), rtol=0, atol=1e-11)
    torch.testing.assert_close(added(u)[:, 1], u[:, 1] + answer[:, 3])
    torch.testing.assert_close(added(u).flatten(2).mean(dim=2)[:, 2], u.flatten(2).mean(dim=2)[:, 2])


@pytest.mark.parametrize("method", ["spectral", "staggered"])
def test_single_and_mixed_precision(method):
    grid = Grid((16, 16), (1.0, 1.0), centering="cell")
    step = VectorPotential(network(2, 1, 2).float(), grid, method).float()
    u = noise(1, 2, 16, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        new = step(u)
    assert new.dtype == torch.float32
    assert float(constraint_for(grid, method, {}).violation(new)) < 1e-6 * float(new.abs().max())
    assert step(u.bfloat16()).dtype == torch.float32


def test_wrong_arguments_are_refused():
    f = nn.Identity()
    with pytest.raises(ValueError, match="periodic for method='spectral'"):
        VectorPotential(f, ROOM)
    with pytest.raises(ValueError, match="For openings take"):
        VectorPotential(f, Grid((4, 4), (1.0, 1.0), "outflow", centering="cell"), "staggered")
    with pytest.raises(ValueError, match="needs out_channels: 1, which are 1 of the potential"):
        VectorPotential(f, CHANNEL, "staggered")(noise(1, 2, 6, 5))
    with pytest.raises(ValueError, match="touch each other"):
        VectorPotential(f, CHANNEL, "staggered", blocks=[(0.2, 0.4, 0.4, 0.8), (0.4, 0.8, 0.6, 1.2)])
    with pytest.raises(ValueError, match="on the periodic side of axis 0"):
        VectorPotential(f, CHANNEL, "staggered", blocks=[(0.0, 0.8, 0.4, 1.2)])
    with pytest.raises(ValueError, match="on both walls"):
        VectorPotential(f, CHANNEL, "staggered", blocks=[(0.4, 0.0, 0.8, 2.0)])
    with pytest.raises(ValueError, match="in 3D"):
        VectorPotential(f, BOX, "staggered", blocks=[(0.0, 0.0, 0.0, 0.3, 0.4, 0.5)])


def test_a_study_names_it():
    inner = {"class_path": "ConvNet", "init_args": {"out_channels": 1, "boundary": "zeros"}}
    component = {"class_path": "VectorPotential", "init_args": {"f": inner, "method": "staggered", **BODY}}
    facts = {"grid": CHANNEL, "in_channels": 2, "out_channels": 2, "dimension": 2}
    facts |= {"mean": torch.zeros(2), "std": torch.ones(2)}
    step = components.build(component, "network", "network", facts).double()
    constraint = StaggeredDivergenceFree(CHANNEL, **BODY)
    assert float(constraint.violation(step(noise(1, 2, 6, 5)))) < 1e-13


def jacobian(field, x):
    """dF_i/dx_j of a pointwise field at points (1, D, N), (N, n, D)."""
    point = lambda z: field(z.reshape(1, -1, 1)).flatten()  # noqa: E731
    return torch.stack([torch.func.jacrev(point)(x[0, :, i]) for i in range(x.shape[2])])


@pytest.mark.parametrize("dimension", [2, 3, 5])
def test_networks_of_place_have_no_divergence(dimension):
    pairs = dimension * (dimension - 1) // 2
    net = seeded(lambda: SolenoidalNet(CoordinateNet(dimension, pairs, 10, 2), dimension))
    j = jacobian(net, noise(1, dimension, 4))
    assert float(j.abs().mean()) > 1e-2
    assert float(j.diagonal(dim1=1, dim2=2).sum(dim=1).abs().max()) < 1e-14 * max(
        1.0, 10 * float(j.abs().max())
    )


def test_the_stream_function_turns_as_it_should():
    net = SolenoidalNet(lambda x: x[:, :1].square() * x[:, 1:], 2)  # psi = x^2 y
    x = noise(1, 2, 5)
    expected = torch.stack([x[:, 0].square(), -2 * x[:, 0] * x[:, 1]], dim=1)
    torch.testing.assert_close(net(x), expected, rtol=1e-14, atol=0)


def test_density_and_flux_satisfy_continuity():
    net = seeded(lambda: SolenoidalNet(CoordinateNet(2, 3, 10, 2, horizon=2.0), 2, over_time=True))
    z = noise(1, 3, 4)  # t, x, y
    j = jacobian(lambda p: net(p[:, 1:], p[:, :1]), z)
    assert net(z[:, 1:], z[:, :1]).shape == (1, 3, 4)
    assert float(j[:, 0, 0].abs().mean()) > 1e-3  # the density changes
    assert float((j[:, 0, 0] + j[:, 1, 1] + j[:, 2, 2]).abs().max()) < 1e-13


def test_a_solenoidal_net_trains_through_autograd_and_is_periodic():
    net = seeded(lambda: SolenoidalNet(CoordinateNet(2, 1, 8, 2, lengths=(1.0, 2.0), periodic=True), 2))
    x = torch.rand(
        1, 2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    v = net(x)
    (slope,) = torch.autograd.grad(v[:, 0].sum(), x, create_graph=True)
    slope.square().sum().backward()
    missing = [n for n, p in net.named_parameters() if p.grad is None]
    assert missing == ["f.linears.2.bias"] or not missing
    shift = torch.tensor([1.0, -2.0], dtype=torch.float64).reshape(1, 2, 1)
    torch.testing.assert_close(net(x + shift), v, rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(net(x), v)


class TestConservative:
    def field(self, kind, outputs, dimension=3):
        return seeded(lambda: HelmholtzNet(CoordinateNet(dimension, outputs, 10, 2), dimension, kind))

    def test_asymmetry_is_zero_for_potentials_only(self):
        x = noise(2, 3, 1)
        values = {
            kind: float(asymmetry(self.field(kind, outputs), x, probes=None).max())
            for kind, outputs in (("free", 3), ("potential", 1), ("helmholtz", 4))
        }
        assert abs(values["potential"]) < 1e-16
        assert min(values["free"], values["helmholtz"]) > 1e-3

    def test_potentials_do_no_work_along_a_loop(self):
        nodes, weights = torch.linspace(0, 2 * math.pi, 65, dtype=torch.float64)[:-1], 2 * math.pi / 64
        loop = torch.stack([torch.cos(nodes), torch.sin(nodes), 0.3 * torch.sin(2 * nodes)])
        along = torch.stack([-torch.sin(nodes), torch.cos(nodes), 0.6 * torch.cos(2 * nodes)])
        work = {
            kind: float(
                ((self.field(kind, k)(loop.unsqueeze(0))[0] * along).sum(dim=0) * weights).sum().abs()
            )
            for kind, k in (("potential", 1), ("helmholtz", 4))
        }
        # The rectangle rule on a closed loop converges faster than any power; 64 nodes leave rounding here.
        assert work["potential"] < 1e-12 and work["helmholtz"] > 1e-3

    def test_work_round_a_polygon_and_its_share(self):
        turn = lambda x: torch.stack([-x[:, 1], x[:, 0]], dim=1)  # noqa: E731
        square = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 3.0], [0.0, 3.0]]).double().unsqueeze(2)
        work, size = circulation(turn, square)
        # Twice the area of the rectangle (Green); |F||du| on the way is more.
        assert float(work) == pytest.approx(12.0, rel=1e-14) and float(size) > 12.0
        along = circulation(self.field("potential", 1), noise(5, 3, 1), pieces=8)
        assert abs(float(along[0])) < 1e-9 * float(along[1])
        with pytest.raises(ValueError, match="three corners"):
            circulation(turn, square[:2])

    def test_relative_asymmetry_is_that_of_the_matrix(self):
        field, x = self.field("free", 3), noise(2, 3, 1)
        found = asymmetry(field, x, probes=None, relative=True)
        for i in range(2):
            j = dense_jacobian(field, x[i : i + 1]).reshape(3, 3)
            torch.testing.assert_close(
                found[i], (j - j.T).square().sum() / j.square().sum(), rtol=1e-12, atol=0
            )

    def test_the_remainder_has_no_divergence(self):
        field = self.field("helmholtz", 4)
        x = noise(1, 3, 4)
        j = jacobian(field.remainder, x)
        assert float(j.diagonal(dim1=1, dim2=2).sum(dim=1).abs().max()) < 1e-14
        quadratic = HelmholtzNet(lambda z: 0.5 * z.square().sum(dim=1, keepdim=True), 3, "potential")
        torch.testing.assert_close(quadratic(x), -x)

    def test_forces_on_states_are_gradients(self):
        force = seeded(lambda: PotentialForce(ConvNet(2, 3, 1, 5, 1, activation="gelu")))
        u = noise(2, 2, 6)
        assert float(asymmetry(force, u, probes=None).abs().max()) < 1e-16
        direction, h = noise(2, 2, 6, seed=1), 1e-6
        slope = (force.energy(u + h * direction) - force.energy(u - h * direction)) / (2 * h)
        torch.testing.assert_close(
            -(force(u) * direction).flatten(1).sum(dim=1), slope, rtol=1e-6, atol=1e-8
        )

    def test_a_copy_has_its_own_weights(self):
        field = self.field("helmholtz", 4)
        x, twin = noise(1, 3, 4), copy.deepcopy(field)
        with torch.no_grad():
            for p in field.parameters():
                p.zero_()
            assert float(twin.remainder(x).abs().min()) > 0 and float(field.remainder(x).abs().max()) == 0

    def test_wrong_numbers_of_channels_are_refused(self):
        with pytest.raises(ValueError, match="needs out_channels: 4"):
            self.field("helmholtz", 3)(noise(1, 3, 2))
        with pytest.raises(ValueError, match="'helmholtz' in two or more"):
            HelmholtzNet(nn.Identity(), 1)
        with pytest.raises(ValueError, match="need out_channels: 3"):
            seeded(lambda: SolenoidalNet(CoordinateNet(3, 2, 4, 1), 3))(noise(1, 3, 2))
        with pytest.raises(ValueError, match="two coordinates or more"):
            SolenoidalNet(nn.Identity(), 1)
        with pytest.raises(ValueError, match="with times where"):
            CoordinateNet(2, 1, horizon=1.0)(torch.zeros(1, 2, 3))
