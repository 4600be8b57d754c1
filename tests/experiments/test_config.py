from __future__ import annotations

import pytest
import torch
import yaml
from torch import nn

from sciml import Grid
from sciml.errors import UserError
from sciml.experiments import components, surrogates
from sciml.experiments.config import (
    TrainingSettings,
    Variant,
    as_tree,
    load_study,
    override,
    read_study,
    read_yaml,
    study_file,
    study_names,
)
from sciml.experiments.study.plan import is_plan, read_plan
from sciml.models import wrappers
from sciml.trajectory import Field

TREE = {
    "name": "small",
    "data": {"recipe": "advection"},
    "variants": {"fno": {"network": {"class_path": "FNO", "init_args": {"modes": [4], "width": 4}}}},
    "training": {"updates": 10},
}


def changed(**options):
    tree = yaml.safe_load(yaml.safe_dump(TREE))
    override(tree, list(options.items()))
    return tree


def facts(**changes) -> surrogates.Facts:
    grid = Grid((16,), (2.0,))
    values = {"domain": grid, "fields": (Field("a"), Field("b")), "dt": 0.5}
    values |= {"mean": torch.tensor([1.0, -1.0]), "std": torch.tensor([2.0, 0.5])}
    return surrogates.Facts(**{**values, **changes})


@pytest.mark.parametrize("name", study_names())
def test_every_shipped_study_is_read_and_read_back(name):
    if is_plan(read_yaml(study_file(name))):
        plan = read_plan(name)
        assert plan.name == name and len(plan.cells) > 1
        study = plan.cells[-1].study
    else:
        study = load_study(name)
    assert study.name == name
    assert read_study(yaml.safe_load(yaml.safe_dump(as_tree(study))), name) == study


def test_overrides_reach_settings_components_and_bare_classes():
    tree = changed(**{"training.updates": "7", "variants.fno.network.width": "8"})
    override(tree, [("variants.fno.objective", "Unrolled"), ("variants.fno.objective.steps", "3")])
    study = read_study(tree, "test")
    assert study.training.updates == 7
    assert study.variants["fno"].network["init_args"] == {"modes": [4], "width": 8}
    assert study.variants["fno"].objective == {"class_path": "Unrolled", "init_args": {"steps": 3}}


def test_a_variant_may_differ_in_its_training():
    study = read_study(changed(**{"variants.fno.training": "{updates: 3}"}), "test")
    assert study.settings("fno").updates == 3 and study.training.updates == 10


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training.updates", "soon", "training.updates.*int.*soon"),
        ("training.updates", "0", "training.updates is 0; expected at least 1"),
        ("training.epocs", "3", "epocs.*did you mean 'epochs'"),
        ("trainnig", "{}", "trainnig.*did you mean 'training'"),
        ("training.schedule", "steep", "training.schedule.*cosine.*steep"),
        ("variants.fno.network.widht", "8", "no argument 'widht'; did you mean 'width'"),
        ("variants.fno.network.width", "[1, 2]", "width.*int"),
        ("variants.fno.network.class_path", "FNOO", "no class 'FNOO'; did you mean FNO"),
        ("variants.fno.network", "{class_path: ConvNet, width: 3}", "go under init_args"),
        ("variants.fno.network", "torch.nn.Linaer", "not a class; did you mean Linear"),
        ("variants.fno.network", "nowhere.Net", "no module 'nowhere'.*path/to/file.py:ClassName"),
        ("variants.fno.network", "nowhere.py:Net", "there is no file 'nowhere.py'"),
        ("variants.fno.objective", "{class_path: Unrolled}", "required: steps"),
        ("variants.fno.residual", "perhaps", "bool.*perhaps"),
        ("variants.gno.residual", "true", "no variant 'gno'; expected one of fno"),
        ("training.updates.more", "1", "training.updates is the value 10 and has nothing called 'more'"),
        ("seeds", "[0, 0]", "one or more different integers"),
        ("seeds", "zero", "seeds.*zero"),
        ("data", "{}", "neither recipe nor path"),
        ("references", "{gno: {1: 0.1}}", "references has 'gno'"),
        ("name", "../up", "leave out slashes"),
        ("variants.fno.training", "{updats: 3}", "no setting 'updats'; did you mean 'updates'"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_what_was_found_and_expected(key, value, message):
    with pytest.raises(UserError, match=message):
        read_study(changed(**{key: value}), "test")


def test_text_that_is_no_study_is_refused(tmp_path):
    for text, message in (
        ("a: [1", "is not YAML"),
        ("- 1", "holds list"),
        ("name: x", "has no data, variants"),
    ):
        (tmp_path / "s.yaml").write_text(text)
        with pytest.raises(UserError, match=message):
            load_study(str(tmp_path / "s.yaml"))
    with pytest.raises(UserError, match="did you mean 'smoke'"):
        load_study("smok")


def test_a_class_in_a_file_of_ones_own_works_at_once(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "class Scale(nn.Module):\n"
        "    def __init__(self, in_channels: int, gain: float = 1.0):\n"
        "        super().__init__()\n"
        "        self.gain = nn.Parameter(__import__('torch').full((in_channels, 1), gain))\n"
        "    def forward(self, u):\n"
        "        return self.gain * u\n"
    )
    spec = {"class_path": f"{file}:Scale", "init_args": {"gain": 3}}
    tree = changed(**{"variants.fno.network": yaml.safe_dump(spec)})
    variant = read_study(tree, "test").variants["fno"]
    step = surrogates.build(variant, facts(), seed=0)
    u = torch.zeros(1, 2, 16)
    # In normalised units -mean/std = (-0.5, 2); v + 3 v = 4 v; back: 2 * -2 + 1 = -3 and 0.5 * 8 - 1 = 3.
    assert torch.allclose(step(u)[0, :, 0], torch.tensor([-3.0, 3.0]))


def test_what_the_data_know_is_filled_in_unless_given():
    class Net(nn.Module):
        def __init__(self, in_channels: int, dimension: int, grid: Grid, out_channels: int = 7):
            super().__init__()
            self.seen = (in_channels, dimension, grid, out_channels)

    Net.__module__, components_module = "sciml_test_net", __import__("types").ModuleType("sciml_test_net")
    components_module.Net = Net
    import sys

    sys.modules["sciml_test_net"] = components_module
    given = facts().arguments("network")
    made = components.build("sciml_test_net.Net", "here", "network", given)
    assert made.seen == (2, 1, Grid((16,), (2.0,)), 2)
    spec = {"class_path": "sciml_test_net.Net", "init_args": {"out_channels": 5}}
    assert components.build(spec, "here", "network", given).seen[3] == 5


def test_nested_components_are_built_and_refusals_name_their_place():
    spec = {
        "class_path": "Regularized",
        "init_args": {
            "objective": {"class_path": "Unrolled", "init_args": {"steps": 4}},
            "regularizer": {"class_path": "JAWS", "init_args": {"width": 4}},
        },
    }
    made = components.build(spec, "here", "objective", facts().arguments("objective"))
    assert made.horizon == 4 and made.regularizer.channels == 2
    spec["init_args"]["objective"]["init_args"]["steps"] = -1
    with pytest.raises(UserError, match=r"here\.objective: .*steps"):
        components.build(spec, "here", "objective", facts().arguments("objective"))


def test_weights_come_from_the_seed_alone_and_a_checkpoint_brings_everything_back(tmp_path):
    from dataclasses import asdict

    from sciml.experiments.files import save_tensors

    variant = read_study(changed(**{"variants.fno.constraint": "ConservedMean"}), "test").variants["fno"]
    torch.manual_seed(1)
    first = surrogates.build(variant, facts(), seed=3)
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    again, other = (surrogates.build(variant, facts(), seed=seed) for seed in (3, 4))
    u = torch.randn(2, 2, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first(u), again(u)) and not torch.allclose(first(u), other(u))
    assert torch.allclose(first(u).mean(dim=2), u.mean(dim=2), atol=1e-6)  # float32 sums of 16 numbers
    content = {**surrogates.header(variant, "fno", facts(), 3), "weights": other.state_dict()}
    assert content["variant"] == asdict(variant)
    save_tensors(tmp_path / "a.pt", content)
    loaded = surrogates.load_surrogate(tmp_path / "a.pt")
    assert torch.equal(loaded(u), other(u)) and loaded.dt == 0.5 and loaded.channels == ("a", "b")


def test_a_checkpoint_brings_back_the_initial_state_of_a_function_of_place_and_time(tmp_path):
    from dataclasses import replace

    from sciml.experiments.config import Variant
    from sciml.experiments.files import save_tensors

    start = torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    known = replace(facts(), initial=start, horizon=2.0)
    variant = Variant(
        network={"class_path": "PINN", "init_args": {"width": 4, "layers": 1}},
        residual=False,
        normalized=False,
    )
    made = surrogates.build(variant, known, seed=1).double()
    content = {**surrogates.header(variant, "pinn", known, 2), "weights": made.state_dict()}
    save_tensors(tmp_path / "p.pt", content)
    loaded = surrogates.load_surrogate(tmp_path / "p.pt")
    x = known.domain.coordinates().unsqueeze(0)
    t = torch.full_like(x, 1.5)
    assert torch.equal(loaded(x, t), made(x, t)) and not torch.allclose(loaded(x, t), loaded(x, 0 * t))
    assert torch.allclose(loaded(x, 0 * t)[0], start, atol=1e-13)  # rounding of the interpolation


def test_settings_refuse_what_cannot_be():
    for wrong in ({"learning_rate": -1.0}, {"ema": 1.0}, {"clip": 0.0}, {"epochs": 0}, {"warmup": -1}):
        with pytest.raises(ValueError, match=f"training.{next(iter(wrong))}"):
            TrainingSettings(**wrong)


def test_increments_in_their_own_units_are_those_of_the_data():
    """A network that gives nothing but ones moves each channel by mean and spread of its changes."""
    given = facts(
        delta_mean=torch.tensor([0.5, -3.0]),
        delta_std=torch.tensor([0.25, 2.0]),
    )
    variant = Variant(network={"class_path": "ConvNet", "init_args": {"width": 4}}, delta=True)
    step = surrogates.build(variant, given, seed=0, name="net")
    inner = next(m for m in step.modules() if isinstance(m, wrappers.Residual))
    inner.f = torch.nn.Module()
    inner.f.forward = torch.ones_like
    u = torch.randn(3, 2, 16, generator=torch.Generator().manual_seed(0))
    change = torch.tensor([0.75, -1.0]).reshape(1, 2, 1)
    assert torch.allclose(step(u), u + change, atol=1e-5)
    with pytest.raises(UserError, match="statistics of increments"):
        surrogates.build(variant, facts(), seed=0, name="net")
