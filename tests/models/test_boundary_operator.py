import pytest
import torch
from torch import nn

from sciml import Grid
from sciml.constraints import LinearRows, SideCondition, SideConditions
from sciml.errors import UserError
from sciml.experiments import components
from sciml.models import BoundaryOperator, ConvNet, Residual, SpectralKernel

torch.set_num_threads(1)
LINE = Grid((24,), (2.0,), boundary="wall")
PLATE = Grid((9, 8), (1.0, 2.0), boundary="wall", centering="cell")
VALUES = {"x-": SideCondition("previous"), "x+": SideCondition([1.0, -2.0])}
MIXED = {"x-": SideCondition(0.5, 0.0, 1.0), "x+": SideCondition(-1.0, 2.0, 0.3)}
ALL_ROUND = {
    "x-": SideCondition(1.0),
    "x+": SideCondition(0.0, 0.0, 1.0),
    "y-": SideCondition("previous"),
    "y+": SideCondition(0.2, 1.0, 0.5),
}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ends_agree(grid):
    row = torch.zeros(1, 2, *grid.shape, dtype=torch.float64)
    row[0, 1, 0], row[0, 1, -1] = 1.0, -1.0
    return row


CASES = {
    "values": (LINE, lambda: SideConditions(LINE, VALUES)),
    "slope and both": (LINE, lambda: SideConditions(LINE, MIXED)),
    "ends alike": (LINE, lambda: LinearRows(LINE, ends_agree, 0.0)),
    "plate": (PLATE, lambda: SideConditions(PLATE, ALL_ROUND)),
}


def operator(grid, conditions, inner=2, residual=True, seed=0, **more):
    """Random weights of size one, two channels."""
    d = grid.dimension
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kernel = SpectralKernel(inner, 2, [3] * d, spectral_scale=1.0)
        kernel.weight.data.normal_()
        net = ConvNet(2, inner, d, width=4, hidden_layers=1, activation="tanh")
        return BoundaryOperator(net, kernel, conditions, residual, **more).double()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("residual", [True, False])
def test_conditions_hold_to_rounding(case, residual):
    grid, make = CASES[case]
    conditions = make()
    model = operator(grid, conditions, residual=residual, mean=[0.5, -3.0], std=[2.0, 0.7])
    u = noise(3, 2, *grid.shape)
    out = model(u)
    size = float(out.abs().max().detach())
    assert float(conditions.violation(out, u).detach().max()) < 1e-12 * max(1.0, size)
    single = model.float()(u.float())
    assert single.dtype == torch.float32
    assert float(conditions.violation(single, u.float()).detach().max()) < 1e-5 * max(1.0, size)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(u.float())
    assert mixed.dtype == torch.float32
    assert float(conditions.violation(mixed, u.float()).detach().max()) < 1e-5 * max(1.0, size)
    torch.testing.assert_close(torch.cat([model.double()(v) for v in u.split(1)]), model(u))


@pytest.mark.parametrize("inner", [2, 5])
def test_the_kernel_itself_carries_the_condition_inside(inner):
    conditions = SideConditions(LINE, VALUES)
    model = operator(LINE, conditions, inner=inner, residual=False)
    u = noise(3, 2, 24)
    v = model.f(u)
    change = (model(u) - model.kernel(v)).flatten(1)
    # The output is the kernel's for the input v + A' y with the shortest y, found here by dense least squares.
    sides = torch.zeros(2 * inner, inner, 24, dtype=torch.float64)
    for c in range(inner):
        sides[c, c, 0] = sides[inner + c, c, -1] = 1.0
    answers = model.kernel(sides) - model.kernel(torch.zeros_like(sides))
    system = answers[:, :, [0, -1]].flatten(1).T
    right = torch.stack([u[:, :, 0], torch.tensor([1.0, -2.0]).double().expand(3, 2)], dim=2)
    y = torch.linalg.pinv(system) @ (right - model.kernel(v)[:, :, [0, -1]]).flatten(1).T
    moved = model.kernel(v + torch.einsum("jb,jcn->bcn", y, sides))
    torch.testing.assert_close(model(u), moved, rtol=0, atol=1e-10)
    assert float(change.detach().unflatten(1, (2, 24))[:, :, 2:-2].abs().max()) > 1e-2


def test_for_the_identity_it_is_the_nearest_state():
    conditions = SideConditions(LINE, MIXED, interior="moved")
    kernel = nn.Conv1d(2, 2, 1)
    kernel.weight.data = torch.eye(2).unsqueeze(2)
    model = BoundaryOperator(nn.Identity(), kernel, conditions, residual=False).double()
    u = noise(2, 2, 24)
    free = u + kernel.bias.reshape(1, 2, 1)
    torch.testing.assert_close(model(u), conditions.project(free), rtol=0, atol=1e-12)


@pytest.mark.parametrize("inner", [2, 3])
def test_derivatives_in_state_and_weights(inner):
    grid = Grid((8,), (1.0,), boundary="wall")
    model = operator(grid, SideConditions(grid, {**MIXED, "x-": SideCondition("previous")}), inner=inner)
    names = [name for name, _ in model.named_parameters()]

    def call(u, *weights):
        return torch.func.functional_call(model, dict(zip(names, weights, strict=True)), (u,))

    assert torch.autograd.gradcheck(
        call, (noise(2, 2, 8).requires_grad_(), *model.parameters()), fast_mode=True
    )


def heat(u):
    """Exact step of the heat equation with the ends of u, (B, 1, n) on [0, 1]."""
    x = torch.linspace(0, 1, u.shape[2], dtype=u.dtype)
    steady = u[..., :1] + (u[..., -1:] - u[..., :1]) * x
    k = torch.arange(1, u.shape[2] - 1, dtype=u.dtype)
    sines = torch.sin(torch.pi * k.unsqueeze(1) * x) * (2 / (u.shape[2] - 1)) ** 0.5
    decay = torch.exp(-0.005 * (torch.pi * k).square())
    return steady + (((u - steady) @ sines.T) * decay) @ sines


def test_it_learns_a_step_with_held_ends():
    grid = Grid((24,), (1.0,), boundary="dirichlet")
    x = grid.axes()[0]
    waves = torch.cos(torch.pi * torch.arange(5).unsqueeze(1) * x)
    u = (noise(96, 1, 5) @ waves).float()
    target = heat(u.double()).float()
    conditions = SideConditions(grid, {"x-": SideCondition("previous"), "x+": SideCondition("previous")})
    errors, at_ends = {}, {}
    for held in (False, True):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            kernel = SpectralKernel(4, 1, [6])
            net = ConvNet(1, 4, 1, width=8, hidden_layers=1, activation="gelu", boundary="zeros")
        model = BoundaryOperator(net, kernel, conditions) if held else Residual(nn.Sequential(net, kernel))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(200):
            optimizer.zero_grad()
            (model(u[:64]) - target[:64]).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            out = model(u[64:])
        errors[held] = float((out - target[64:]).square().mean().sqrt())
        at_ends[held] = float((out - target[64:])[..., [0, -1]].abs().max())
    assert errors[True] <= errors[False]
    assert at_ends[True] < 1e-6 < 1e-3 < at_ends[False]


def test_a_study_names_it_and_channels_come_from_the_data():
    conditions = {"x-": {"data": 1.0}, "x+": {"data": "previous", "value": 0.0, "slope": 1.0}}
    parts = {
        "f": {"class_path": "FNO", "init_args": {"modes": [4], "width": 6, "layers": 1, "padding": 0.1}},
        "kernel": {"class_path": "SpectralKernel", "init_args": {"modes": [4]}},
        "conditions": {"class_path": "SideConditions", "init_args": {"conditions": conditions}},
    }
    facts = {"in_channels": 2, "out_channels": 2, "domain": LINE, "grid": LINE}
    facts |= {"mean": torch.tensor([1.0, 2.0]), "std": torch.tensor([0.5, 3.0])}
    component = {"class_path": "BoundaryOperator", "init_args": parts}
    components.check(component, "network", "network")
    model = components.build(component, "network", "network", facts)
    u = noise(2, 2, 24).float()
    assert float(model.conditions.violation(model(u), u).detach().max()) < 1e-5


def test_what_cannot_work_is_refused():
    held, net = SideConditions(LINE, VALUES), nn.Identity()
    smooth = nn.Conv1d(2, 2, 1, bias=False)
    smooth.weight.data = torch.ones(2, 2, 1)  # both channels get the same answer
    with pytest.raises(
        UserError, match="cannot meet its 4 conditions: .* give the kernel a pointwise part"
    ):
        BoundaryOperator(net, smooth, held)(noise(1, 2, 24).float())
    nothing = nn.Conv1d(2, 2, 1)
    nothing.weight.data.zero_()
    with pytest.raises(UserError, match="cannot meet its 4 conditions"):
        BoundaryOperator(net, nothing, held)(noise(1, 2, 24).float())
    low = SpectralKernel(2, 2, [2, 2], padding=0.0)
    low.weight.data.zero_()
    with pytest.raises(UserError, match="more wavenumbers"):
        BoundaryOperator(net, low, SideConditions(PLATE, ALL_ROUND))(noise(1, 2, 9, 8).float())
    bent = ConvNet(2, 2, 1, width=3, hidden_layers=1)
    bent.in_channels = 2
    with pytest.raises(ValueError, match="not linear"):
        BoundaryOperator(net, bent, held)
    with pytest.raises(ValueError, match="no fewer input channels"):
        BoundaryOperator(net, nn.Conv1d(1, 2, 1), SideConditions(LINE, {"x-": SideCondition()}))
    with pytest.raises(ValueError, match="makes points"):
        BoundaryOperator(net, nn.Conv1d(2, 2, 3), held)
    with pytest.raises(ValueError, match="without the attribute in_channels"):
        BoundaryOperator(net, nn.Linear(2, 2), held)
    with pytest.raises(TypeError, match="expected linear rows"):
        BoundaryOperator(net, nn.Conv1d(2, 2, 1), torch.nn.ReLU())
    cube = Grid((32, 32, 32), (1.0, 1.0, 1.0), boundary="wall")
    faces = SideConditions(cube, {f"{a}{s}": SideCondition() for a in "xyz" for s in "-+"})
    with pytest.raises(UserError, match="SideConditions as a constraint"):
        BoundaryOperator(net, nn.Conv3d(1, 1, 1), faces)
    with pytest.raises(ValueError, match="expected .B, 2, .points."):
        BoundaryOperator(net, nn.Conv1d(2, 2, 1), held)(noise(1, 2, 23))
    with pytest.raises(ValueError, match="one of mean and std"):
        BoundaryOperator(net, nn.Conv1d(2, 2, 1), held, mean=1.0)
    with pytest.raises(ValueError, match="3 means .* expected one of each for 2 channels"):
        BoundaryOperator(net, nn.Conv1d(2, 2, 1), held, mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="a positive std"):
        BoundaryOperator(net, nn.Conv1d(2, 2, 1), held, mean=0.0, std=0.0)
