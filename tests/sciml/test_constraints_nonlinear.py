"""Nonlinear equations, inequalities, bounds and entropies, one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid, Mesh
from sciml.constraints import (
    Bounds,
    Completion,
    Context,
    Entropy,
    GasEntropy,
    GasTotals,
    Inequalities,
    Infeasible,
    Invariants,
    LinearRows,
    Nonlinear,
    Quadratic,
    Simplex,
)
from sciml.constraints.transport import close_sides, flux_corrected, inflow, local_range
from sciml.domains import Point
from sciml.linear.root import implicit_root
from sciml.linear.saddle import Gradients, saddle_solve
from sciml.odes import HenonHeiles

LINE = Grid((5,), (2.0,), boundary="dirichlet")  # the ends have half the volume
SQUARE = Grid((6, 5), (1.0, 3.0))


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gas(samples: int, spread: float, seed: int) -> Tensor:
    u = normal(samples, 4, *SQUARE.shape, seed=seed, scale=spread)
    return u + torch.tensor([1.0, 0.3, -0.2, 1.0], dtype=torch.float64).reshape(1, 4, 1, 1)


# Newton's method


def with_mean_and_energy(z: Tensor, mean: Tensor, energy: Tensor, w: Tensor) -> Tensor:
    """Nearest u in the norm of w with <u> = mean, <u^2>/2 = energy: the scaled fluctuation of z about the mean."""
    fluctuation = z - (w * z).sum(-1, keepdim=True)
    own = 0.5 * (w * fluctuation.square()).sum(-1)
    scale = ((energy - 0.5 * mean.square()) / own).sqrt()
    return mean.unsqueeze(-1) + scale.unsqueeze(-1) * fluctuation


def test_mean_and_energy_are_met_by_the_nearest_state():
    z, previous = normal(4, 1, 5), normal(4, 1, 5, seed=1)
    w = LINE.weights() / LINE.weights().sum()
    mean = (w * previous).sum(-1)
    energy = 0.5 * (w * previous.square()).sum(-1)
    found = Nonlinear(LINE, Quadratic(LINE, momentum=True)).project(z, previous)
    torch.testing.assert_close(found, with_mean_and_energy(z, mean, energy, w), rtol=0, atol=1e-13)


def test_newton_converges_quadratically_to_rounding():
    solution = Nonlinear(SQUARE, GasTotals(SQUARE)).newton(gas(2, 0.2, 0), gas(2, 0.1, 1))
    assert solution.feasible.all() and solution.iterations.max() <= 6
    for errors in solution.residuals.T.tolist():
        assert errors[-1] < 1e-15
        falling = [e for e in errors if e > 1e-9]
        assert len(falling) >= 3
        for before, after in zip(errors, errors[1:], strict=False):
            if 1e-7 < before < 1e-2:  # near enough for the curvature to be the same from step to step
                assert after < before**2


def test_the_totals_of_a_gas_are_kept_together():
    totals = GasTotals(SQUARE)
    z, previous = gas(3, 0.2, 2), gas(3, 0.1, 3)
    constraint = Nonlinear(SQUARE, totals, scales=[1.0, 0.5, 0.5, 1.0])
    u = constraint.project(z, previous)
    assert (totals(z) - totals(previous)).abs().max() > 1e-3
    assert (totals(u) - totals(previous)).abs().max() < 1e-14
    w = u[:, :1] * u[:, 1:3]  # momenta, by hand
    before = previous[:, :1] * previous[:, 1:3]
    torch.testing.assert_close(w.mean(dim=(2, 3)), before.mean(dim=(2, 3)), rtol=0, atol=1e-14)
    conservative = GasTotals(SQUARE, variables="conservative")
    torch.testing.assert_close(conservative(totals.gas.conservative(u)), totals(u), rtol=0, atol=1e-14)


def test_gradients_need_the_curvature_of_the_equations():
    constraint = Nonlinear(LINE, Quadratic(LINE, momentum=True))
    z, previous = normal(1, 1, 5, seed=4), normal(1, 1, 5, seed=5, scale=0.3)

    def project(v: Tensor) -> Tensor:
        return constraint.project(v.reshape(1, 1, 5), previous).flatten()

    exact = torch.autograd.functional.jacobian(project, z.flatten())
    h = 1e-6
    columns = [
        (project(z.flatten() + h * e) - project(z.flatten() - h * e)) / (2 * h) for e in torch.eye(5)
    ]
    differences = torch.stack(columns, dim=1)
    torch.testing.assert_close(exact, differences, rtol=0, atol=1e-8)  # truncation h^2, rounding eps / h
    w = constraint.metric
    u = project(z.flatten())
    rows = torch.stack([w, w * u])
    tangent = torch.eye(5) - (rows / w).T @ torch.linalg.inv((rows / w) @ rows.T) @ rows
    assert (tangent - differences).norm() > 0.1 * differences.norm()


def test_second_derivatives():
    small = Grid((3,), (1.0,))
    constraint = Nonlinear(small, Quadratic(small), values=0.3)
    z = normal(1, 1, 3, seed=6).requires_grad_()
    assert torch.autograd.gradgradcheck(constraint.project, (z,))


class Weighted(nn.Module):
    """A law with a number to learn."""

    def __init__(self) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(0.7))

    def forward(self, u: Tensor) -> Tensor:
        return (self.share * u.square() + u).flatten(1).mean(dim=1)


def test_parameters_of_the_law_get_their_gradient():
    law = Weighted().double()
    constraint = Nonlinear(LINE, law, values=0.4)
    z = normal(2, 1, 5, seed=7)

    def loss() -> Tensor:
        return constraint.project(z).pow(3).sum()

    loss().backward()
    found = float(law.share.grad)
    h = 1e-6
    with torch.no_grad():
        law.share += h
        above = loss()
        law.share -= 2 * h
        below = loss()
    assert found == pytest.approx(float((above - below) / (2 * h)), rel=1e-7)


def test_a_target_without_a_solution_is_reported_by_name():
    constraint = Nonlinear(SQUARE, Quadratic(SQUARE), values=-1.0)  # an energy below zero
    z = normal(3, 1, 6, 5, seed=8)
    with pytest.raises(Infeasible, match=r"samples \[0, 1, 2\].*Quadratic off by"):
        constraint.project(z)
    loose = Nonlinear(SQUARE, Quadratic(SQUARE), values=-1.0, strict=False)
    z.requires_grad_()
    out = loose.project(z)
    assert (loose.violation(out.detach()) > 0.9).all()
    (slope,) = torch.autograd.grad(out.sum(), z)
    assert torch.equal(slope, torch.ones_like(slope))


def test_equations_that_depend_on_one_another_are_named():
    class Twice(nn.Module):
        names = ("energy", "double energy")

        def forward(self, u: Tensor) -> Tensor:
            energy = u.square().flatten(1).mean(dim=1)
            return torch.stack([energy, 2 * energy], dim=1)

    z = normal(1, 1, 5, seed=9)
    with pytest.raises(Infeasible, match=r"\['energy', 'double energy'\] depend"):
        Nonlinear(LINE, Twice(), values=[0.5, 3.0]).project(z)
    agreeing = Nonlinear(LINE, Twice(), values=[0.5, 1.0])
    assert agreeing.violation(agreeing.project(z)).max() < 1e-14


def test_a_state_that_blew_up_passes_and_leaves_the_others_alone():
    constraint = Nonlinear(LINE, Quadratic(LINE), values=0.3)
    z = normal(2, 1, 5, seed=10)
    alone = constraint.project(z[:1])
    z[1, 0, 2] = torch.nan
    both = constraint.project(z)
    torch.testing.assert_close(both[:1], alone, rtol=0, atol=1e-15)
    assert both[1].isnan().any()


def test_an_equation_states_what_is_held_and_the_context_anchors_it():
    system = HenonHeiles()
    constraint = Nonlinear(Point(), Invariants(system, Point()), values="context")
    u0 = normal(4, 4, seed=11, scale=0.2)
    energy = system.hamiltonian(u0)
    anchor = Context(targets={"equations": energy.unsqueeze(1)})
    u = u0
    for step in range(20):
        u = constraint.project(
            u + 0.1 * system.rhs(u) + normal(4, 4, seed=step, scale=1e-3), context=anchor
        )
    assert (system.hamiltonian(u) - energy).abs().max() < 1e-15
    with pytest.raises(ValueError, match="only="):
        Invariants(system, Point(), only=["spin"])


def test_a_law_in_a_file_of_ones_own(tmp_path: Path):
    from sciml.experiments import components

    file = tmp_path / "my_laws.py"
    file.write_text("def quartic(u):\n    return u.pow(4).flatten(1).mean(dim=1)\n")
    made = components.build(
        {"class_path": "Nonlinear", "init_args": {"function": f"{file}:quartic", "values": 0.2}},
        "variants.mine.constraint",
        "constraint",
        {"domain": LINE},
    )
    u = made.project(normal(2, 1, 5, seed=12))
    torch.testing.assert_close(u.pow(4).mean(dim=2), torch.full((2, 1), 0.2, dtype=torch.float64))
    ready = components.build(
        {"class_path": "Nonlinear", "init_args": {"function": {"class_path": "Quadratic"}}},
        "variants.mine.constraint",
        "constraint",
        {"domain": LINE},
    )
    assert isinstance(ready.function, Quadratic)


def test_saddle_systems_against_dense_ones():
    b, n, q = 3, 8, 2
    root = normal(b, n, n, seed=13)
    hessian = root @ root.mT + torch.eye(n, dtype=torch.float64)
    rows, metric = normal(b, q, n, seed=14), 1 + normal(n, seed=15).abs()
    a, c = normal(b, n, seed=16), normal(b, q, seed=17)
    found = saddle_solve(
        lambda p: (hessian @ p.unsqueeze(2)).squeeze(2), Gradients.of(rows, metric), a, c, max_iterations=60
    )
    dense = torch.zeros(b, n + q, n + q, dtype=torch.float64)
    dense[:, :n, :n], dense[:, n:, :n], dense[:, :n, n:] = hessian, rows, rows.mT
    expected = torch.linalg.solve(dense, torch.cat([a, c], dim=1))
    torch.testing.assert_close(torch.cat([found.w, found.y], dim=1), expected, rtol=1e-9, atol=1e-10)
    assert found.curved.all()


def test_a_root_has_the_derivatives_of_its_formula():
    a = torch.tensor([[2.0, 3.0]], dtype=torch.float64, requires_grad=True)

    def root(a: Tensor) -> Tensor:  # x^3 = a
        return implicit_root(
            lambda x, a: x**3 - a,
            lambda a: a.sign() * a.abs() ** (1 / 3),
            lambda b, x, a: b / (3 * x**2),
            (a,),
        )

    assert torch.autograd.gradcheck(root, (a,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(root, (a,))


# Bounds with conservation


@pytest.mark.parametrize(("lower", "upper"), [(0.0, None), (None, 0.6), (0.0, 0.8)])
def test_the_simplex_projection_is_the_nearest_admissible_state(lower, upper):
    constraint = Simplex(LINE, lower, upper)
    z = normal(6, 1, 5, seed=18)
    held = Context(mean=torch.tensor([0.35], dtype=torch.float64))
    u = constraint.project(z, context=held)
    assert constraint.violation(u, context=held).max() < 1e-15
    w = LINE.weights()
    # Nearest in a convex set: the way to z makes an obtuse angle with the way to any other admissible state.
    others = [constraint.project(normal(6, 1, 5, seed=s, scale=2.0), context=held) for s in range(19, 39)]
    for v in others:
        assert ((w * (z - u) * (v - u)).sum(dim=(1, 2)) < 1e-14).all()
    assert (u == (0.0 if lower is not None else 0.6)).any()


def test_a_mean_outside_the_bounds_is_reported():
    constraint = Simplex(LINE, 0.0, 1.0)
    held = Context(mean=torch.tensor([1.25], dtype=torch.float64))
    u = constraint.project(normal(1, 1, 5), context=held)
    assert torch.equal(u, torch.ones_like(u))
    assert float(constraint.violation(u, context=held)) == pytest.approx(0.25)


@pytest.mark.parametrize("kind", [Bounds, Simplex])
def test_a_thousand_steps_stay_positive_and_keep_their_mass(kind):
    grid = Grid((16,), (1.0,))
    limiter = kind(grid)
    u = 0.2 + normal(2, 1, 16, seed=40).abs()
    start = u.mean(dim=2)
    for step in range(1000):
        change = normal(2, 1, 16, seed=step, scale=0.3)
        u = limiter.project(u + change - change.mean(dim=2, keepdim=True), u, Context(mean=start))
        assert u.min() >= 0
    assert (u.mean(dim=2) - start).abs().max() < 1e-12


# Flux-corrected transport


def test_fluxes_pass_whole_where_there_is_room_and_never_leave_the_bounds():
    grid = Grid((6, 5), (1.0, 1.0), boundary=("wall", "periodic"), centering="cell")
    u = normal(2, 1, 6, 5, seed=41).abs()
    fluxes = close_sides(normal(2, 1, 2, 6, 5, seed=42), grid)
    gentle = 1e-3 * fluxes
    low, high = u - 1.0, u + 1.0
    torch.testing.assert_close(flux_corrected(u, gentle, low, high), u + inflow(gentle), rtol=0, atol=1e-15)
    low, high = local_range(u, grid)
    moved = flux_corrected(u, fluxes, low, high)
    assert (u + inflow(fluxes) > high).any()
    assert (moved <= high + 1e-15).all() and (moved >= low - 1e-15).all()
    torch.testing.assert_close(moved.sum(dim=(2, 3)), u.sum(dim=(2, 3)), rtol=0, atol=1e-13)
    assert (moved - u).abs().max() > 1e-2


def test_the_neighbourhood_wraps_round_periodic_axes_and_ends_at_walls():
    u = torch.tensor([[[5.0, 0.0, 1.0, 2.0, 3.0]]])
    ring, closed = Grid((5,), (1.0,)), Grid((5,), (1.0,), boundary="wall", centering="cell")
    assert local_range(u, ring)[1].flatten().tolist() == [5, 5, 2, 3, 5]
    assert local_range(u, closed)[1].flatten().tolist() == [5, 5, 2, 3, 3]
    assert local_range(u, closed, radius=2)[0].flatten().tolist() == [0, 0, 0, 0, 1]


# Affine inequalities


def test_rows_end_between_their_bounds_and_move_only_where_they_must():
    rows = normal(3, 1, 5, seed=43)
    z = normal(50, 1, 5, seed=44)
    lower, upper = [-0.2, -10.0, 0.1], [0.2, 0.3, 10.0]
    constraint = Inequalities(LINE, rows, lower, upper)
    u = constraint.project(z)
    before, after = (torch.einsum("qkn,bkn->bq", rows, x) for x in (z, u))
    low, high = torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64)
    torch.testing.assert_close(after, before.clamp(low, high), rtol=0, atol=1e-13)
    inside = ((before >= low) & (before <= high)).all(dim=1)
    assert inside.any() and torch.equal(u[inside], z[inside])


def test_one_side_and_what_may_only_fall():
    rows = normal(2, 1, 5, seed=45)
    z, previous = normal(20, 1, 5, seed=46), normal(20, 1, 5, seed=47)
    u = Inequalities(LINE, rows, upper="previous").project(z, previous)
    product = torch.einsum("qkn,bkn->bq", rows, u)
    assert (product <= torch.einsum("qkn,bkn->bq", rows, previous) + 1e-13).all()


def test_orthogonal_rows_give_the_nearest_state():
    rows = torch.zeros(2, 1, 5, dtype=torch.float64)
    rows[0, 0, :2], rows[1, 0, 2:] = 1.0, 1.0
    constraint = Inequalities(LINE, rows, lower=0.0)
    z = normal(8, 1, 5, seed=48)
    u = constraint.project(z)
    w = LINE.weights()
    for seed in range(49, 59):
        v = constraint.project(normal(8, 1, 5, seed=seed, scale=2.0))
        assert ((w * (z - u) * (v - u)).sum(dim=(1, 2)) < 1e-13).all()


def test_dependent_rows_and_crossed_bounds_are_refused_by_name():
    rows = normal(2, 1, 5, seed=60)
    rows = torch.cat([rows, rows.sum(dim=0, keepdim=True)])
    with pytest.raises(ValueError, match="row"):
        Inequalities(LINE, rows, lower=0.0)
    with pytest.raises(ValueError, match="'heat'"):
        Inequalities(LINE, rows[:2], lower=[0.0, 1.0], upper=[1.0, 0.0], names=["mass", "heat"])
    with pytest.raises(ValueError, match="no bound"):
        Inequalities(LINE, rows[:2])


# Completion and correction


def first_and_last(domain: Grid) -> Tensor:
    shapes = torch.zeros(2, 1, *domain.shape, dtype=torch.float64)
    shapes[0, 0, 0], shapes[1, 0, -1] = 1.0, 1.0
    return shapes


def law(u: Tensor) -> Tensor:
    return torch.stack([u.flatten(1).sum(dim=1), u.pow(3).flatten(1).sum(dim=1)], dim=1)


def test_completion_solves_for_some_unknowns_and_leaves_the_rest():
    constraint = Completion(LINE, law, shapes=first_and_last, values="previous")
    # The ends differ: where they are alike, sum and cubes ask the same of both.
    previous = normal(4, 1, 5, seed=61, scale=0.3) + torch.tensor(
        [2.0, 0.0, 0.0, 0.0, 0.5], dtype=torch.float64
    )
    z = previous + normal(4, 1, 5, seed=62, scale=0.05)
    u = constraint.project(z, previous)
    assert torch.equal(u[..., 1:-1], z[..., 1:-1])
    torch.testing.assert_close(law(u), law(previous), rtol=0, atol=1e-13)


def test_corrections_reduce_inequalities_along_the_equations():
    def above(u: Tensor) -> Tensor:
        return u.flatten(1) - 1.2

    z = normal(20, 2, 5, seed=63)
    held = [0.1, -0.1]
    equations = lambda u: (u * LINE.weights()).sum(dim=2) / 2.0  # noqa: E731
    left = []
    for steps in (0, 2, 10):
        constraint = Completion(LINE, equations, above, values=held, steps=steps)
        u = constraint.project(z)
        mean = LinearRows(LINE, torch.ones(1, 1, 5) * LINE.weights() / 2.0, channels=[0], values=0.1)
        assert mean.violation(u).max() < 1e-14
        left.append(float(constraint.violation(u).max()))
    assert left[0] > 0.5 and left[1] < 0.3 * left[0] and left[2] < 0.1 * left[1]
    met = Completion(LINE, equations, above, values=held, steps=40, margin=1e-3)
    assert met.violation(met.project(z)).max() < 1e-14


def test_completion_refuses_what_its_shapes_cannot_meet():
    odd = torch.tensor([[[1.0, -2.0, 0.0, 2.0, -1.0]]], dtype=torch.float64)
    constraint = Completion(LINE, lambda u: u.flatten(1).sum(dim=1), shapes=odd, values=1.0)
    with pytest.raises(Infeasible, match=r"samples \[0\]"):
        constraint.project(normal(1, 1, 5))
    with pytest.raises(ValueError, match="2 equations and 1 shapes"):
        Completion(LINE, law, shapes=odd).project(normal(1, 1, 5), normal(1, 1, 5))


# Entropy


def test_the_entropy_of_a_gas_does_not_grow_and_a_negative_density_is_brought_back():
    entropy = GasEntropy()
    constraint = Entropy(SQUARE, entropy)
    state = GasTotals(SQUARE).gas.conservative
    previous = state(gas(3, 0.1, 64))
    z = previous + normal(3, 4, 6, 5, seed=65, scale=0.1)
    z = z - z.mean(dim=(2, 3), keepdim=True) + previous.mean(dim=(2, 3), keepdim=True)
    z[2, 0, 0, 0] -= 3.0  # a density below zero, at another mean
    u = constraint.project(z, previous)
    before, after = (entropy(x).mean(dim=(1, 2)) for x in (previous, u))
    assert (after <= before + 1e-14).all()
    assert torch.isinf(constraint.violation(z, previous)[2]) and (u[:, 0] > 0).all()
    torch.testing.assert_close(u.mean(dim=(2, 3)), z.mean(dim=(2, 3)), rtol=0, atol=1e-14)


def test_an_entropy_that_is_small_enough_changes_nothing():
    mesh = Mesh(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0, 1, 2]]))
    constraint = Entropy(mesh, lambda u: u.exp().sum(dim=1))
    previous = normal(3, 2, 3, seed=66)
    mean = previous.mean(dim=2, keepdim=True)
    z = mean + 0.5 * (previous - mean)
    assert torch.equal(constraint.project(z, previous), z)
    held = Entropy(mesh, lambda u: u.exp().sum(dim=1), "conserved")
    torch.testing.assert_close(held.project(z, previous), previous, rtol=0, atol=1e-14)
