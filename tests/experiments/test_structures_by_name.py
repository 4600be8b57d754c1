"""Structures and constraints named in a study: they hold after training and in a rollout, and say what does not fit."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from sciml import Grid, Mesh, datasets, rollout
from sciml.domains import Domain, Point
from sciml.errors import UserError
from sciml.experiments import jobs, surrogates
from sciml.experiments.cli import main
from sciml.experiments.config import Variant, load_study
from sciml.experiments.surrogates import Facts
from sciml.jacobian import asymmetry
from sciml.trajectory import Field

SQUARE = Grid((6, 6), (1.0, 1.0))
CELLS = Grid((6, 4), (1.0, 1.0), centering="cell")
FAN = Mesh(
    torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [1.1, 0.9], [2.0, 1.0]]),
    torch.tensor([[0, 1, 3], [1, 4, 3], [1, 2, 4], [2, 5, 4]]),
)
SMALL = "{class_path: ConvNet, init_args: {width: 4, hidden_layers: 1, activation: gelu}}"


def built(text: str, domain: Domain, channels: int, initial: Tensor | None = None) -> nn.Module:
    facts = Facts(
        domain,
        tuple(Field(f"u{i}") for i in range(channels)),
        0.1,
        torch.full((channels,), 0.5),
        torch.full((channels,), 2.0),
        initial=initial,
        horizon=1.0,
    )
    return surrogates.build(Variant(**yaml.safe_load(text)), facts, seed=0, name="mine")


def trained(text: str, domain: Domain, channels: int) -> tuple[nn.Module, Tensor]:
    """A surrogate after three updates, and a rollout of six steps (B, 7, C, *points)."""
    step = built(text, domain, channels)
    u = torch.rand(2, channels, *domain.shape, generator=torch.Generator().manual_seed(1)) + 0.5
    optimizer = torch.optim.Adam(step.parameters(), 1e-2)
    before = [p.detach().clone() for p in step.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        (step(u) - u.roll(1, -1)).square().mean().backward()
        optimizer.step()
    assert any(not torch.equal(a, b) for a, b in zip(before, step.parameters(), strict=True))
    with torch.no_grad():
        states = rollout(step, 6)(u)
    assert bool(torch.isfinite(states).all()) and float((states[:, -1] - u).abs().max()) > 1e-3
    return step, states.double()


def drift(means: Tensor) -> float:
    return float((means - means[:, :1]).abs().max() / means.abs().max())


def test_edge_fluxes_keep_the_sum_on_a_mesh():
    net = "{class_path: MeshGraphNet, init_args: {out_channels: 3, width: 6, layers: 1}}"
    text = f"""
    network: {{class_path: EdgeFluxes, init_args: {{f: {net}, features: 3, width: 6}}}}
    residual: false
    normalized: false
    """
    _, states = trained(text, FAN, 2)
    assert drift((states * FAN.weights()).sum(-1)) < 1e-6  # six roundings of single precision


def test_a_force_from_a_potential_has_a_symmetric_jacobian():
    step, _ = trained(f"network: {{class_path: PotentialForce, init_args: {{f: {SMALL}}}}}", SQUARE, 1)
    u = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(2))
    force = lambda v: step(v) - v  # noqa: E731  # what Residual and one std for the only channel leave of it
    assert (
        float(asymmetry(force, u, probes=2, generator=torch.Generator().manual_seed(0)).detach().max())
        < 1e-4
    )
    free, _ = trained(f"network: {SMALL}", SQUARE, 1)
    assert (
        float(asymmetry(free, u, probes=2, generator=torch.Generator().manual_seed(0)).detach().max())
        > 1e-2
    )


def test_symmetric_states_and_steps_without_a_frame():
    text = f"network: {SMALL}\nconstraint: {{class_path: Symmetric, init_args: {{axes: [0], vectors: [[0, 1]]}}}}"
    _, states = trained(text, SQUARE, 2)
    mirrored = states[:, 1:].flip(3).roll(1, 3) * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1)
    assert float((states[:, 1:] - mirrored).abs().max()) < 1e-6 * float(states.abs().max())
    inner = f"{{class_path: Normalized, init_args: {{f: {SMALL}}}}}"
    step, _ = trained(
        f"network: {{class_path: Galilean, init_args: {{f: {inner}}}}}\nresidual: false\nnormalized: false",
        Grid((7, 5), (1.0, 1.0)),
        2,
    )
    u = torch.rand(1, 2, 7, 5, generator=torch.Generator().manual_seed(3))
    # In a frame that moves one grid point along the second axis in a step, 0.2 in 0.1.
    flow = torch.tensor([0.0, 2.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(step(u + flow), step(u).roll(1, 3) + flow, rtol=1e-4, atol=1e-4)


def test_tensors_of_a_form():
    form = "{class_path: TensorForm, init_args: {tensors: [[0, 1, 2, 3]], form: deviatoric}}"
    _, states = trained(f"network: {SMALL}\nconstraint: {form}", SQUARE, 4)
    s = states[:, 1:]
    assert float((s[:, :, 1] - s[:, :, 2]).abs().max()) < 1e-6 * float(s.abs().max())
    assert float((s[:, :, 0] + s[:, :, 3]).abs().max()) < 1e-6 * float(s.abs().max())
    text = f"""
    network:
      class_path: PositiveTensors
      init_args: {{f: {SMALL}, tensors: [[0, 1, 2, 3]], floor: 0.1}}
    residual: false
    normalized: false
    """
    _, states = trained(text, SQUARE, 4)
    matrices = states[:, 1:].unflatten(2, (2, 2)).movedim((2, 3), (-2, -1))
    assert float(torch.linalg.eigvalsh(matrices).min()) >= 0.1 - 1e-6


def test_shares_and_limited_transport_keep_mass_and_bounds():
    text = f"network: {{class_path: SoftmaxShare, init_args: {{f: {SMALL}}}}}\nresidual: false\nnormalized: false"
    _, states = trained(text, CELLS, 1)
    assert drift(states.mean(dim=(3, 4))) < 1e-6 and float(states.min()) > 0
    fluxes = SMALL.replace("width: 4", "width: 4, out_channels: 2")
    text = f"network: {{class_path: LimitedTransport, init_args: {{f: {fluxes}}}}}\nresidual: false\nnormalized: false"
    _, states = trained(text, CELLS, 1)
    assert drift(states.mean(dim=(3, 4))) < 1e-6
    assert float(states.min()) > 0.5 - 1e-6 and float(states.max()) < 1.5 + 1e-6


def test_a_structured_flow_keeps_its_energy_from_a_file():
    text = (
        "network: {class_path: StructuredFlow, init_args: {width: 4, dissipative: false}}\nresidual: false"
    )
    step, states = trained(text, Point(), 2)
    flow = step.f.f
    assert drift(torch.stack([flow.energy((v.float() - 0.5) / 2) for v in states.unbind(1)], 1)) < 1e-5


@pytest.mark.parametrize("name", ["SoftmaxShare", "LimitedTransport", "Galilean", "PositiveTensors"])
def test_what_acts_on_physical_states_is_not_scaled_from_outside(name):
    more = ", tensors: [[0, 1, 2, 3]]" if name == "PositiveTensors" else ""
    text = f"network: {{class_path: {name}, init_args: {{f: {SMALL}{more}}}}}"
    with pytest.raises(UserError, match=f"is a {name}, .*set residual: false and normalized: false"):
        built(text, SQUARE, 4)
    with pytest.raises(
        UserError, match="keeps nothing where the state before is added; set residual: false"
    ):
        built("network: StructuredFlow", SQUARE, 2)


def test_fields_of_place_have_no_divergence_or_a_potential():
    inner = "{class_path: CoordinateNet, init_args: {width: 6, layers: 2, out_channels: 1}}"
    x = torch.rand(1, 2, 4, generator=torch.Generator().manual_seed(4))
    t = torch.full((1, 1, 4), 0.3)
    jacobians = {}
    for name, more in (("SolenoidalNet", ""), ("HelmholtzNet", ", kind: potential")):
        text = f"network: {{class_path: {name}, init_args: {{f: {inner}{more}}}}}"
        net = built(text, SQUARE, 2, initial=torch.zeros(2, 6, 6))
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(2):
            optimizer.zero_grad()
            (net(x, t) - 1.0).square().mean().backward()
            optimizer.step()

        def at(p: Tensor, net: nn.Module = net) -> Tensor:
            return net(p.reshape(1, 2, 1), t[:, :, :1]).flatten()

        jacobians[name] = torch.stack([torch.func.jacrev(at)(x[0, :, i]) for i in range(4)]).detach()
    flow, force = jacobians["SolenoidalNet"], jacobians["HelmholtzNet"]
    assert float(flow.diagonal(dim1=1, dim2=2).sum(1).abs().max()) < 1e-5 * float(flow.abs().max())
    assert float((force - force.mT).abs().max()) < 1e-5 * float(force.abs().max())


# What no state can meet is refused before a training.

STUDY = """
name: held
data: {path: DATA}
training: {updates: 2}
seeds: [0]
evaluation: {steps: 2}
variants:
  free: {network: {class_path: ConvNet, init_args: {width: 2}}}
  held:
    network: {class_path: ConvNet, init_args: {width: 2}}
    constraint:
      class_path: LinearRows
      init_args: {rows: ROWS, ARGUMENTS}
"""


def test_what_no_state_can_meet_ends_a_command_with_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    counts = {"train": 2, "valid": 0, "test": 1}
    datasets.generate("advection", tmp_path / "data", samples=counts, certificate=False)
    rows = np.ones((3, 160))
    rows[1] = np.arange(160)
    rows[2] = 2.0 * rows[0]
    np.save(tmp_path / "rows.npy", rows)
    study = STUDY.replace("ROWS", "rows.npy").replace("DATA", "data")
    file, out = tmp_path / "held.yaml", tmp_path / "run"
    cases = {
        "values: [1.0, 5.0, 3.0]": "contradict each other: row 0, row 2",
        "values: previous": "dependent on each other: row 0, row 2",
        f"volumes: {[1.0] * 7 + [0.0] + [1.0] * 152}": "not positive at 1 points: (7,), the first being 0.0",
    }
    for arguments, message in cases.items():
        file.write_text(study.replace("ARGUMENTS", arguments))
        assert main(["run", str(file), "--out", str(out)]) == 2
        error = " ".join(capsys.readouterr().err.split())
        assert "Traceback" not in error
        assert "variants.held.constraint: LinearRows" in error and message in error
    assert not list(tmp_path.rglob("*.pt"))  # nor was the variant trained that nothing is wrong with


def test_boundary_data_that_do_not_keep_a_target_are_refused_with_places():
    text = f"network: {SMALL}\nconstraint: {{class_path: CLASS, init_args: {{ARGUMENTS}}}}"

    def refusal(kind: str, arguments: str, domain: Domain, channels: int) -> str:
        with pytest.raises(UserError) as error:
            built(text.replace("CLASS", kind).replace("ARGUMENTS", arguments), domain, channels)
        return str(error.value)

    entry = "conditions: {x-: {value: [1.0, 0.0]}}"
    tunnel = Grid((6, 4), (1.5, 1.0), boundary=(("inflow", "outflow"), "wall"), centering="cell")
    cut = refusal("StaggeredDivergenceFree", f"{entry}, blocks: [[0.5, 0.0, 0.9, 1.0]]", tunnel, 2)
    assert re.search(r"constraint: StaggeredDivergenceFree .*it stays at cell \(\d, \d\)", cut)
    room = Grid((6, 4), (1.5, 1.0), boundary=(("inflow", "wall"), "wall"), centering="cell")
    assert "x- brings 1;" in refusal("StaggeredDivergenceFree", entry, room, 2)
    line = Grid((5,), (1.0,), boundary="dirichlet")
    fixed = "{class_path: FixedValues, init_args: {mask: [true, true, true, true, true], values: 0.5}}"
    both = refusal("Stack", f"constraints: [{fixed}, ConservedMean]", line, 1)
    assert "no unknown that is free" in both and "fixed: mean of channel 0" in both


def test_held_sides_through_training_storage_and_rollout(tmp_path, monkeypatch):
    """On data whose equation differs between samples."""
    monkeypatch.chdir(tmp_path)
    counts = {"train": 2, "valid": 0, "test": 1}
    datasets.generate("advection_step", tmp_path / "data", samples=counts, certificate=False)
    sides = "{class_path: SideConditions, init_args: {conditions: {x-: {data: 1.0}}}}"
    kernel = "{class_path: SpectralKernel, init_args: {modes: [4]}}"
    (tmp_path / "sides.yaml").write_text(f"""
name: sides
data: {{path: data}}
training: {{updates: 2, accelerator: cpu}}
seeds: [0]
evaluation: {{steps: 3, solvers: [2], laboratory: 0, violations: {{inflow: {sides}}}}}
variants:
  after: {{network: {SMALL}, constraint: {sides}}}
  inside:
    network: {{class_path: BoundaryOperator, init_args: {{f: {SMALL}, kernel: {kernel}, conditions: {sides}}}}}
    residual: false
    normalized: false
  free: {{network: {SMALL}}}
""")
    assert main(["run", "sides.yaml", "--out", "run"]) == 0
    for name in ("after", "inside"):
        torch.load(tmp_path / "run" / "checkpoints" / name / "seed-0.pt", weights_only=True)
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))

    def largest(metric: str, name: str) -> float:
        return max(float(r["value"]) for r in rows if r["metric"] == metric and r["step"] == name)

    missed = {name: largest("violation inflow", name) for name in ("after", "inside", "free")}
    # The solver that all are compared with knows what enters.
    assert largest("nrmse", "solver 100") < 0.1 < 0.2 < largest("nrmse", "persistence")
    assert missed["after"] < 1e-6 and missed["inside"] < 1e-6 < 1e-4 < missed["free"]
    # A residual would be that of one equation for all.
    residual = "{class_path: Unrolled, init_args: {steps: 1, terms: [EquationResidual]}}"
    text = f"{{network: {SMALL}, objective: {residual}}}"
    study = load_study(tmp_path / "sides.yaml", [("variants", yaml.safe_load(f"informed: {text}"))])
    job = jobs.job(study, "informed", 0, tmp_path / "data", tmp_path / "informed.pt")
    with pytest.raises(UserError, match="which differs between samples in velocity; take data of one"):
        jobs.train(job)
