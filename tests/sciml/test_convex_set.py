"""Convex sets of one's own: nearest states to rounding, beside closed forms and beside what defines a projection."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sciml import Grid
from sciml.constraints import ConvexSet, Energy, Infeasible, LinearRows, Simplex
from sciml.constraints.cone_program import ConeProgram
from sciml.errors import UserError
from sciml.experiments.components import build

cp: Any = pytest.importorskip("cvxpy", reason="the extra 'convex' is not installed")

ENDS = Grid((9,), (2.0,), boundary="dirichlet")  # half a volume at each end
LINE = Grid((24,), (1.0,))
PLANE = Grid((4, 3), (1.0, 2.0))
BOX = Grid((3, 2, 2), (1.0, 1.0, 1.0))


def draw(domain: Grid, channels: int, count: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, *domain.shape, generator=generator, dtype=torch.float64)


def test_it_finds_what_closed_forms_give() -> None:
    u, before = draw(ENDS, 1), 0.3 * draw(ENDS, 1, seed=1)
    weights = ENDS.weights().numpy()
    share = ConvexSet(ENDS, lambda u, previous: [u >= -0.1, u <= 1, weights @ (u - previous)[0] == 0])
    exact = Simplex(ENDS, lower=-0.1, upper=1.0)
    torch.testing.assert_close(share.project(u, before), exact.project(u, before), rtol=0, atol=1e-13)
    v, w = (x.clone().requires_grad_() for x in (u, before))
    g = draw(ENDS, 1, seed=2)
    ours = torch.autograd.grad(share.project(v, w), (v, w), g)
    theirs = torch.autograd.grad(exact.project(v, w), (v, w), g)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)

    ball = ConvexSet(LINE, lambda u: [cp.sum_squares(u) <= 24, cp.sum(u[0]) == 0])
    u = draw(LINE, 1) * 3
    centred = u - u.mean(dim=2, keepdim=True)
    bounded = Energy(LINE, "bounded", upper=0.5)
    torch.testing.assert_close(ball.project(u), bounded.project(centred), rtol=0, atol=1e-13)

    rows = draw(PLANE, 2, 3, seed=5)
    affine = ConvexSet(
        PLANE,
        lambda u: [
            cp.sum(cp.multiply(r.numpy(), u)) == b for r, b in zip(rows, (1.0, 0.0, -2.0), strict=True)
        ],
        scales=[1.0, 7.0],
    )
    held = LinearRows(PLANE, rows, [1.0, 0.0, -2.0], scales=[1.0, 7.0])
    u = draw(PLANE, 2)
    torch.testing.assert_close(affine.project(u), held.project(u), rtol=0, atol=1e-12)


SETS: dict[str, tuple[Callable[..., Any], Grid, int]] = {
    "total variation": (lambda u: [cp.tv(u[0]) <= 4, cp.sum(u) == 1, u >= -0.2], LINE, 1),
    "rising": (lambda u: [cp.diff(u[0]) >= 0], LINE, 1),
    "convex": (lambda u: [cp.diff(u[0], 2) >= 0, u <= 1], LINE, 1),
    "sparse": (lambda u: [cp.norm1(u) <= 2], LINE, 1),
    "alike groups": (lambda u: [cp.mixed_norm(u.T, 2, 1) <= 3], LINE, 2),
    "two discs": (lambda u: [cp.norm(u[0]) <= 1, cp.norm(u[0] - 0.3) <= 1.2], LINE, 1),
    "the same twice": (lambda u: [u >= 0, u >= 0, cp.sum(u) == 1, 2 * cp.sum(u) == 2], LINE, 1),
    "plane": (lambda u: [cp.tv(u[1]) <= 3, cp.norm(u[0], "fro") <= 1], PLANE, 2),
    "box": (lambda u: [u[0] >= u[1], cp.sum_squares(u) <= 2], BOX, 2),
    "matrices": (
        lambda u: [
            cp.bmat([[a[0], a[1], a[2]], [a[1], a[3], a[4]], [a[2], a[4], a[5]]]) >> 0
            for a in (u[:, 0], u[:, 1])
        ],
        Grid((2,), (1.0,)),
        6,
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_no_admissible_state_is_nearer(name: str) -> None:
    function, domain, channels = SETS[name]
    constraint = ConvexSet(domain, function)
    z = draw(domain, channels, 6, seed=3)
    u = constraint.project(z)
    assert constraint.violation(z).min() > 1e-2
    assert constraint.violation(u).max() < 1e-13
    # A projection is what no direction into the set improves: <z - u, v - u> <= 0 for all v of a convex set.
    weights = domain.weights()
    away = ((z - u) * weights).flatten(1)
    inside = away @ u.flatten(1).T - (away * u.flatten(1)).sum(dim=1, keepdim=True)
    assert inside.max() < 1e-13 < 1e-3 < inside.abs().max()


@pytest.mark.parametrize("name", ["total variation", "two discs", "matrices"])
def test_derivatives_are_those_of_differences(name: str) -> None:
    function, domain, channels = SETS[name]
    constraint = ConvexSet(domain, function)
    z = draw(domain, channels, 4, seed=3)
    h, g = draw(domain, channels, 4, seed=4), draw(domain, channels, 4, seed=5)
    start = z.clone().requires_grad_()
    (back,) = torch.autograd.grad(constraint.project(start), start, g)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(z, h)
        ahead = torch.autograd.forward_ad.unpack_dual(constraint.project(dual)).tangent
    slope = (constraint.project(z + 1e-6 * h) - constraint.project(z - 1e-6 * h)) / 2e-6
    torch.testing.assert_close((back * h).sum(), (slope * g).sum(), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(ahead, slope, rtol=1e-6, atol=1e-6)


def test_units_do_not_matter_and_states_that_blew_up_pass() -> None:
    z = draw(LINE, 1)
    ball = [ConvexSet(LINE, lambda u, r=r: [cp.norm(u[0]) <= r, cp.sum(u) == 0]) for r in (1.0, 1e6)]
    torch.testing.assert_close(1e-6 * ball[1].project(1e6 * z), ball[0].project(z), rtol=1e-12, atol=1e-12)
    z[1, 0, 3] = float("nan")
    found = ball[0].project(z)
    assert torch.equal(found[1].isnan(), z[1].isnan()) and float(ball[0].violation(found)[2]) < 1e-13


def test_it_is_copied_and_pickled_with_what_it_holds() -> None:
    function, domain, channels = SETS["rising"]
    constraint = ConvexSet(domain, function)
    z = draw(domain, channels)
    found = constraint.project(z)
    assert torch.equal(copy.deepcopy(constraint).project(z), found)
    program = pickle.loads(pickle.dumps(ConeProgram(rising, (1, 24), domain)))
    assert program.violation(found[0].numpy(), None) < 1e-13


def rising(u: Any) -> list[Any]:
    return [cp.diff(u[0]) >= 0]


def test_a_study_names_the_function_in_a_file(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "import cvxpy as cp\n\n\ndef total(u, domain, previous):\n    w = domain.weights().numpy()\n"
    (tmp_path / "my_sets.py").write_text(text + "    return [u >= 0, w @ (u[0] - previous[0]) == 0]\n")
    spec = {"class_path": "ConvexSet", "init_args": {"function": "my_sets.py:total", "channels": [1]}}
    made = build(spec, "here", "constraint", {"domain": ENDS})
    u, before = draw(ENDS, 2), draw(ENDS, 2, seed=1).abs()
    found = made.project(u, before)
    assert torch.equal(found[:, 0], u[:, 0]) and made.violation(found, before).max() < 1e-13
    with pytest.raises(
        ValueError, match=r"refers to the previous state and got none; pass one of shape \(4, 2, 9\)"
    ):
        made.project(u)

    monkeypatch.setitem(sys.modules, "cvxpy", None)
    (tmp_path / "other_sets.py").write_text(text + "    return []\n")
    other = {"class_path": "ConvexSet", "init_args": {"function": "other_sets.py:total"}}
    for make in (
        lambda: ConvexSet(LINE, rising),
        lambda: build(other, "here", "constraint", {"domain": ENDS}),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'sciml\[convex\]'"):
            make()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda u: [cp.norm(u) >= 1], "is not convex by cvxpy's rules"),
        (lambda u: u, "expected a list of cvxpy constraints"),
        (lambda u: [], "expected a list of cvxpy constraints"),
        (lambda u: [3.0], "3.0, which is no cvxpy constraint"),
        (
            lambda u, before: [u >= 0],
            r"asks for \['before'\] beside u; expected u and, where it needs them",
        ),
        (lambda u: [cp.sum(cp.exp(u)) <= 1], "logarithms, exponentials or powers"),
        (lambda u: [u <= cp.Variable(name="top")], r"constraints with \['top'\]"),
        (lambda u: [u <= cp.Parameter(name="top")], r"constraints with \['top'\]"),
        (lambda u, previous: [cp.multiply(u, previous) <= 1], "as if it were unknown as well"),
    ],
)
def test_what_is_no_convex_set_is_refused(function: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvexSet(LINE, function, channels=[0])


def test_other_refusals() -> None:
    with pytest.raises(Infeasible, match="no admissible state for sample 0: .*PrimalInfeasible"):
        ConvexSet(LINE, lambda u: [u >= 1, cp.sum(u) <= 0]).project(draw(LINE, 1))
    with pytest.raises(ValueError, match="tolerance=0; expected a number between 0 and 1"):
        ConvexSet(LINE, rising, tolerance=0)
    with pytest.raises(ValueError, match="function='rising'; expected a function of a cvxpy variable"):
        ConvexSet(LINE, "rising")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2 scales for a state of 1 channels"):
        ConvexSet(LINE, rising, scales=[1.0, 2.0]).project(draw(LINE, 1))
    with pytest.raises(UserError, match="did you mean"):
        build({"class_path": "ConvexSets"}, "here", "constraint", {"domain": LINE})
