import pytest
import torch

from sciml import Grid
from sciml.constraints import TensorForm
from sciml.models import PositiveTensors

torch.set_num_threads(1)
GRID = Grid((3, 4), (1.0, 1.0))


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("form", ["symmetric", "antisymmetric", "traceless", "deviatoric"])
def test_each_form_and_nothing_else(form):
    held = TensorForm(GRID, [(1, 2, 4, 5)], form)
    u = noise(2, 6, 3, 4)
    new = held.project(u)
    assert torch.equal(new[:, [0, 3]], u[:, [0, 3]])
    s, z = (v[:, [1, 2, 4, 5]].movedim(1, -1).unflatten(-1, (2, 2)) for v in (new, u))
    one = torch.eye(2, dtype=torch.float64)
    trace = z.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None] / 2
    expected = {
        "symmetric": (z + z.mT) / 2,
        "antisymmetric": (z - z.mT) / 2,
        "traceless": z - trace * one,
        "deviatoric": (z + z.mT) / 2 - trace * one,
    }
    torch.testing.assert_close(s, expected[form], rtol=0, atol=1e-15)


def test_positive_tensors_are_positive_and_reach_all_of_them():
    raw = noise(2, 10, 3, 4)
    model = PositiveTensors(lambda u: raw, 3, [tuple(range(1, 10))], floor=0.25)
    out = model(raw)
    s = out[:, 1:].movedim(1, -1).unflatten(-1, (3, 3))
    assert torch.equal(out[:, 0], raw[:, 0])
    torch.testing.assert_close(s, s.mT, rtol=0, atol=1e-15)
    assert float(torch.linalg.eigvalsh(s).min()) >= 0.25 - 1e-14
    # The factors of a given tensor give it back.
    wanted = s - 0.2 * torch.eye(3, dtype=torch.float64)
    factor = torch.linalg.cholesky(wanted).flatten(-2).movedim(-1, 1)
    again = PositiveTensors(lambda u: factor, 3, [tuple(range(9))])(raw)
    torch.testing.assert_close(again.movedim(1, -1).unflatten(-1, (3, 3)), wanted, rtol=0, atol=1e-13)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="4 different channels each"):
        TensorForm(GRID, [(0, 1, 2)])
    with pytest.raises(ValueError, match="form='round'"):
        TensorForm(GRID, [(0, 1, 2, 3)], "round")
    with pytest.raises(ValueError, match="expected channel 3"):
        PositiveTensors(lambda u: u, 2, [(0, 1, 2, 3)])(noise(1, 2, 3, 4))
    with pytest.raises(ValueError, match="floor=-1"):
        PositiveTensors(lambda u: u, 2, [(0, 1, 2, 3)], floor=-1.0)
