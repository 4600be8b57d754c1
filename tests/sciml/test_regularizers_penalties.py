"""Each penalty against the dense Jacobian, under Fourier and graph layers and constraints, and beside a loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid, Mesh, Point, rollout
from sciml.constraints import ConservedMean
from sciml.fields import RandomFourier
from sciml.jacobian import dense_jacobian, jacobian_energy, log_determinant
from sciml.models import FNO, ConvNet
from sciml.models.wrappers import Constrained, Normalized, Residual
from sciml.objectives import OneStep, Pushforward, Regularized, Unrolled
from sciml.odes import Lorenz63
from sciml.pdes import Burgers
from sciml.regularizers import (
    JAWS,
    Asymmetry,
    Frobenius,
    Hinge,
    LogDeterminant,
    Regularizer,
    SpectralNorm,
    StudentT,
)
from sciml.solvers import build


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().double()


def convolution() -> nn.Module:
    return seeded(lambda: ConvNet(1, 1, 1, width=5, hidden_layers=1, kernel=5, activation="gelu"))


def operator() -> nn.Module:
    return seeded(lambda: FNO(1, 1, (4,), 4, layers=2, spectral_scale=1.0))


class Matrix:
    """A linear step, one matrix for each sample."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = matrices.requires_grad_()

    def __call__(self, u: Tensor) -> Tensor:
        return (self.matrices @ u.flatten(1).unsqueeze(2)).reshape(u.shape)


@pytest.mark.parametrize("kind", ["row", "column"])
@pytest.mark.parametrize("make", [convolution, operator])
def test_the_gradient_in_every_parameter_is_unbiased(make, kind):
    """20 groups of 200 probes: their mean lies about the gradient through the dense Jacobian as their scatter says."""
    step, u = make(), random(1, 1, 12, seed=5)
    parameters = list(step.parameters())
    exact = torch.autograd.grad(dense_jacobian(step, u).square().sum() / 12, parameters, allow_unused=True)
    penalty = Frobenius(kind=kind)
    groups = [
        torch.autograd.grad(
            penalty(step, u.expand(200, 1, 12), generator(seed)).mean(), parameters, allow_unused=True
        )
        for seed in range(20)
    ]
    pairs = [
        (torch.stack([group[i] for group in groups]).flatten(1), exact[i].flatten())
        for i in range(len(parameters))
        if exact[i] is not None
    ]
    found = torch.cat([values for values, _ in pairs], dim=1)
    expected = torch.cat([value for _, value in pairs])
    error = found.std(0) / 20**0.5
    score = ((found.mean(0) - expected) / error.clamp_min(1e-12))[error > 1e-9]
    # Student's t with 19 degrees of freedom has the variance 1.12; entries are not independent.
    assert 0.3 < float(score.square().mean()) < 2.5
    assert float(score.abs().max()) < 6
    # Together they are near the exact gradient, which a wrong factor would not be.
    assert float((found.mean(0) - expected).norm() / expected.norm()) < 0.1


def test_all_unit_vectors_give_the_dense_value():
    step, u = operator(), random(3, 1, 12, seed=6)

    def solver(x: Tensor) -> Tensor:
        return x - 0.1 * x.roll(1, 2) ** 2

    matrix = dense_jacobian(step, u)
    reference = dense_jacobian(solver, u)
    unit = torch.eye(12).double()
    for target, known in ((None, 0 * unit), ("identity", unit), ("solver", reference)):
        difference = matrix - known
        options = {"target": target, "solver": solver, "probes": None}
        torch.testing.assert_close(Frobenius(**options)(step, u), difference.square().sum((1, 2)) / 12)
        rows = difference.square().sum(2)
        torch.testing.assert_close(
            Hinge(0.7, **options)(step, u),
            torch.relu((rows + 1e-6).sqrt() - 0.7).square().mean(1),
        )
        columns = difference.square().sum(1)
        torch.testing.assert_close(
            StudentT(1.5, 0.2, kind="column", **options)(step, u),
            (2 * (0.2 + columns / 2).log()).mean(1),
        )
        sigma = torch.linalg.matrix_norm(difference, ord=2)
        options.pop("probes")
        torch.testing.assert_close(
            SpectralNorm(12, form="square", **options)(step, u, generator(1)), sigma.square()
        )
        torch.testing.assert_close(
            SpectralNorm(12, limit=0.5, **options)(step, u, generator(1)),
            torch.relu(sigma - 0.5).square(),
        )
    determinant = torch.linalg.slogdet(matrix)[1]
    torch.testing.assert_close(LogDeterminant(-0.2)(step, u), (determinant / 12 + 0.2).square())
    odd = (matrix - matrix.mT) / 2
    torch.testing.assert_close(Asymmetry(probes=None)(step, u), 2 * odd.square().sum((1, 2)) / 12)


def test_a_penalty_against_the_solver_vanishes_for_the_solver():
    step = build(Burgers(viscosity=0.05), Grid((16,), (1.0,)), 0.02)
    u = random(2, 1, 16, seed=3)
    with torch.no_grad():
        for penalty in (
            Frobenius(target="solver", solver=step, mode="vjp"),
            Hinge(0.0, eps=1e-12, target="solver", solver=step, mode="vjp"),
            SpectralNorm(3, form="square", target="solver", solver=step, mode="vjp"),
            LogDeterminant("solver", solver=step),
        ):
            assert penalty(step, u, generator(1)).abs().max() < 1e-10
            assert penalty(lambda x: 1.1 * step(x), u, generator(1)).min() > 1e-4


def test_contractions_are_free_under_the_hinges():
    step, u = Matrix(0.5 * torch.eye(6).double().repeat(2, 1, 1)), random(2, 1, 6)
    for penalty in (Hinge(), SpectralNorm()):
        value = penalty(step, u, generator(1))
        (gradient,) = torch.autograd.grad(value.sum(), step.matrices)
        assert value.abs().max() == 0 and gradient.abs().max() == 0
        assert penalty(Matrix(3 * step.matrices.detach()), u, generator(1)).min() > 0.2


def test_noise_on_the_input_of_a_linear_step_costs_its_frobenius_norm():
    step, u = Matrix(random(1, 9, 9, seed=4)), random(1, 1, 9, seed=5)
    noise = 0.1 * random(40_000, 1, 9, seed=6)
    many = Matrix(step.matrices.detach().expand(40_000, 9, 9))
    cost = (many(u + noise) - step(u)).square().mean().detach()
    expected = 0.01 * Frobenius(probes=None)(step, u).detach()
    # One draw scatters by about half of it: 40,000 leave 0.3 %.
    assert float(cost) == pytest.approx(float(expected), rel=0.015)


def test_the_squared_determinant_has_no_bias():
    """Products of independent probes; the square of one would add its variance."""
    a = 0.25 * random(1, 10, 10, seed=7) / 10**0.5
    count = 6000
    step = Matrix((torch.eye(10).double() + a).expand(count, 10, 10))
    u = random(1, 1, 10).expand(count, 1, 10)
    penalty = LogDeterminant(reference=0.03, method="series", terms=8, probes=3, normalise=False)
    found = penalty(step, u, generator(2)).detach()
    exact = (torch.linalg.slogdet(torch.eye(10).double() + a[0])[1] - 0.03).square()
    error = float(found.std()) / count**0.5
    assert float(found.mean()) == pytest.approx(float(exact), abs=4 * error)
    naive = log_determinant(step, u, method="series", terms=8, probes=3, generator=generator(2))
    assert float((naive.detach() - 0.03).square().mean() - exact) > 10 * error
    every = LogDeterminant(0.03, method="series", terms=8, probes=None, normalise=False)
    torch.testing.assert_close(every(step, u)[:1], exact.reshape(1), rtol=1e-4, atol=1e-9)


def test_volumes_of_lorenz_shrink_at_the_rate_of_its_divergence():
    ode = Lorenz63()
    step = build(ode, Point(), 0.02, substeps=2)
    u = ode.initial(5, generator())
    shrinking = -41 / 3 * 0.02 / 3
    assert LogDeterminant(shrinking)(step, u).max() < 1e-10
    assert LogDeterminant(0.0)(step, u).min() > 1e-3


def test_the_scale_field_has_its_optimum_where_the_formula_says():
    """exp(-s) q + s at log q; with a hyperprior at log((q + 2 b)/(1 + 2 a)), where StudentT is what is left."""
    u = torch.zeros(1, 1, 8, dtype=torch.float64)

    def step(x: Tensor) -> Tensor:
        return 1.7 * x  # q = 1.7^2 whatever the probe

    q = 1.7**2
    for hyperprior, optimum in ((None, math.log(q)), ((0.4, 0.3), math.log((q + 0.6) / 1.8))):
        jaws = JAWS(1, 1, kernel=3, hyperprior=hyperprior).double()
        with torch.no_grad():
            jaws.head[2].bias.fill_(optimum)
        value = jaws(step, u, generator())
        (gradient,) = torch.autograd.grad(value.sum(), jaws.head[2].bias)
        assert abs(float(gradient)) < 1e-12
        with torch.no_grad():
            jaws.head[2].bias.fill_(optimum + 0.5)
        assert float(jaws(step, u, generator()).detach()) > float(value.detach())
    # Profiled: (1 + 2a)(1 + log((q + 2b)/(1 + 2a))), twice the Student penalty up to a constant.
    rest = float(value.detach()) - 2 * float(StudentT(0.4, 0.3)(step, u, generator()))
    assert rest == pytest.approx(1.8 * (1 + math.log(2 / 1.8)), abs=1e-12)


def test_heavy_tails_press_sensitive_points_less():
    """The weight of q is (a + 1/2)/(2 b + q)."""
    factors = torch.tensor([0.1, 3.0], dtype=torch.float64, requires_grad=True)
    value = StudentT(0.5, 0.1)(lambda x: factors * x, torch.zeros(1, 1, 2).double(), generator())
    (gradient,) = torch.autograd.grad(value.sum(), factors)
    expected = 0.5 * 2 * factors.detach() / (0.2 + factors.detach() ** 2)  # mean over two points
    torch.testing.assert_close(gradient, expected)
    assert gradient[1] / gradient[0] < 0.7  # the uniform penalty: 30


def test_asymmetry_taken_now_and_then_is_the_same_on_average():
    step, u = Matrix(random(1, 6, 6, seed=3)), random(1, 1, 6, seed=4)
    exact = float(Asymmetry(probes=None)(step, u).detach())
    now_and_then = Asymmetry(probes=None, probability=0.4)
    g = generator(5)
    values = torch.stack([now_and_then(step, u, g).detach() for _ in range(600)])
    taken = values > 0
    assert float(taken.double().mean()) == pytest.approx(0.4, abs=4 * 0.02)
    torch.testing.assert_close(values[taken], torch.full_like(values[taken], exact / 0.4))
    now_and_then.eval()
    assert float(now_and_then(step, u, g).detach()) == pytest.approx(exact)


def steps() -> dict[str, Callable[[], tuple[nn.Module, Tensor]]]:
    def graph() -> tuple[nn.Module, Tensor]:
        pytest.importorskip("torch_geometric")
        from sciml.models.graphs import MeshGraphNet
        from sciml.solvers.finite_element import rectangle

        mesh: Mesh = rectangle((1.0, 1.0), 0.4, seed=0)
        net = seeded(lambda: Residual(MeshGraphNet(mesh, 2, 2, width=6, layers=2)))
        return net, random(2, 2, *mesh.shape, seed=1)

    def composed(shape: tuple[int, ...]) -> Callable[[], tuple[nn.Module, Tensor]]:
        def make() -> tuple[nn.Module, Tensor]:
            modes = tuple(2 for _ in shape)
            inside = seeded(lambda: Residual(FNO(2, 2, modes, 4, layers=2, spectral_scale=1.0)))
            scaled = Normalized(inside, torch.tensor([0.5, 1e5]), torch.tensor([2.0, 1e4]))
            grid = Grid(shape, (1.0,) * len(shape))
            unit = torch.tensor([2.0, 1e4]).double().reshape(1, 2, *[1] * len(shape))
            return Constrained(scaled, ConservedMean(grid)).double(), unit * random(2, 2, *shape, seed=2)

        return make

    return {"graph": graph, "1d": composed((8,)), "2d": composed((4, 5)), "3d": composed((3, 4, 3))}


@pytest.mark.parametrize("name", ["graph", "1d", "2d", "3d"])
def test_the_composed_step_is_what_is_penalised(name):
    """Fourier and graph layers, constraints, units apart by ten thousand: exact value, and a gradient everywhere."""
    step, u = steps()[name]()
    scale = [1.0, 1.0] if name == "graph" else [2.0, 1e4]
    n = u[0].numel()
    with torch.no_grad():
        matrix = dense_jacobian(step, u, scale=torch.tensor(scale))
    rows = matrix.square().sum(2)
    checks: list[tuple[Regularizer, Tensor]] = [
        (Frobenius(probes=None, scale=scale), rows.sum(1) / n),
        (SpectralNorm(30, form="square", scale=scale), torch.linalg.matrix_norm(matrix, ord=2) ** 2),
        (LogDeterminant(), None),
        (Asymmetry(probes=2, scale=scale), None),
        (StudentT(scale=scale), None),
        (JAWS(2, u.ndim - 2, points="mesh" if name == "graph" else "grid", kernel=3, scale=scale), None),
    ]
    if name != "graph":
        # The mean is held, so the composed step has the eigenvalue one, and its volume is finite.
        assert float((torch.linalg.eigvals(matrix) - 1).abs().amin(1).max()) < 1e-6
    for penalty, expected in checks:
        penalty = penalty.double()
        value = penalty(step, u, generator(4))
        if expected is not None:
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-8)
        gradients = torch.autograd.grad(
            value.sum(), list(step.parameters()), allow_unused=True, retain_graph=False
        )
        present = [g for g in gradients if g is not None]
        assert len(present) > len(gradients) / 2
        assert all(torch.isfinite(g).all() for g in present)
        assert sum(float(g.abs().sum()) for g in present) > 0


class Counted(nn.Module):
    """A step that counts its calls."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step, self.calls = step, 0

    def forward(self, u: Tensor) -> Tensor:
        self.calls += 1
        return self.step(u)


@pytest.mark.parametrize(
    ("penalty", "calls"),
    [
        (Frobenius(), 1),
        (Frobenius(kind="column"), 1),
        (Frobenius(mode="vjp", probes=3), 1),
        (Frobenius(mode="fd"), 1),
        (JAWS(1, 1, kernel=3), 1),
    ],
    ids=["forward", "column", "reverse", "differences", "jaws"],
)
def test_loss_and_penalty_share_a_pass_of_the_step(penalty, calls):
    window = random(2, 3, 1, 12, seed=1)
    for objective, further in ((OneStep(), 0), (Unrolled(2), 1), (Pushforward(1), 1)):
        if isinstance(objective, Pushforward):
            window = random(2, 4, 1, 12, seed=1)
        step = Counted(convolution())
        together = Regularized(objective, penalty.double(), weight=0.3, scale_free=False)
        total, _ = together(step, window, generator(2))
        assert step.calls == calls + further
        g = generator(2)
        alone = 0.3 * penalty(step, window[:, 0], g).mean() + objective(step, window, g)[0]
        torch.testing.assert_close(total, alone)
        for a, b in zip(
            torch.autograd.grad(total, list(step.parameters()), allow_unused=True),
            torch.autograd.grad(alone, list(step.parameters()), allow_unused=True),
            strict=True,
        ):
            torch.testing.assert_close(a, b)


def test_penalties_are_taken_where_rollouts_come_to():
    """At F^k(u_0) with k from 0 to the horizon less one; at the first state where the loss looks one step ahead."""
    step, window = convolution(), random(3, 4, 1, 12, seed=1)
    penalty = Frobenius(probes=None)
    with torch.no_grad():
        places = [window[:, 0]]
        for _ in range(2):
            places.append(step(places[-1]))
        known = [float(penalty(step, u).mean()) for u in places]
    there = Regularized(Unrolled(3), penalty, at="rollout")
    g = generator(3)
    found = [float(there(step, window, g)[1]["penalty"]) for _ in range(60)]
    counts = [sum(abs(value - k) < 1e-9 for value in found) for k in known]
    assert sum(counts) == 60 and min(counts) > 8  # 20 each are expected, with a deviation of 3.7
    for one in (OneStep(), Unrolled(1)):
        a = Regularized(one, Frobenius(), at="rollout")(step, window, generator(4))[0]
        b = Regularized(one, Frobenius())(step, window, generator(4))[0]
        assert torch.equal(a, b)
    # What does not stay finite is taken at its first state.
    window[1] = 1e200
    burst = Regularized(Unrolled(3), penalty, at="rollout", scale_free=False)

    def bursting(u: Tensor) -> Tensor:
        return torch.where(u > 1e100, torch.inf, 0.5 * u)

    with torch.no_grad():
        values = [float(burst(bursting, window, g)[1]["penalty"]) for _ in range(8)]
    assert values == pytest.approx([1 / 6] * 8)  # 1/4 for two samples of three
    with pytest.raises(ValueError, match="at='end'"):
        Regularized(OneStep(), Frobenius(), at="end")  # type: ignore[arg-type]


def test_the_share_of_points_on_a_limit_is_logged():
    step, window = convolution(), random(2, 2, 1, 12, seed=1)
    jaws = JAWS(1, 1, kernel=3, limits=(-1.0, 1.0)).double()
    objective = Regularized(OneStep(), jaws, every=2)
    assert float(objective(step, window, generator())[1]["clamped"]) == 0
    assert "clamped" not in objective(step, window, generator())[1]  # no penalty in this update
    with torch.no_grad():
        jaws.head[2].bias.fill_(3.0)
    assert float(objective(step, window, generator())[1]["clamped"]) == 1
    found = jaws.diagnostics(step, window[:, 0], generator())
    assert found["clamped"].tolist() == [1, 1]
    sigma = torch.linalg.matrix_norm(dense_jacobian(step, window[:, 0]), ord=2).detach()
    assert bool((found["spectral_norm"] <= sigma + 1e-9).all()) and bool(
        (found["spectral_norm"] > 0.9 * sigma).all()
    )
    assert Frobenius().told() == {}


def test_jaws_without_space_learns_a_strength_for_each_state():
    """Henon's map enlarges errors by 2.8 |x|: the strength has its optimum at log(7.84 x^2 + 1.09)."""
    jaws = JAWS(2, 0, width=32, limits=(-6.0, 6.0), probes=None).double()
    u = 1.3 * (2 * torch.rand(256, 2, generator=generator(1), dtype=torch.float64) - 1)

    def henon(z: Tensor) -> Tensor:
        return torch.stack([1 - 1.4 * z[:, 0] ** 2 + z[:, 1], 0.3 * z[:, 0]], dim=1)

    wanted = (7.84 * u[:, 0] ** 2 + 1.09).log()
    torch.testing.assert_close(jaws.energy(henon, u), wanted.exp())
    optimiser = torch.optim.Adam(jaws.parameters(), lr=3e-2)
    for _ in range(200):
        optimiser.zero_grad()
        jaws(henon, u).mean().backward()
        optimiser.step()
    s = jaws.log_variance(u).detach()
    assert s.shape == (256,)
    assert float(torch.corrcoef(torch.stack([s, wanted]))[0, 1]) > 0.95
    assert jaws.diagnostics(henon, u)["clamped"].shape == (256,)
    with pytest.raises(ValueError, match="0 axes of points"):
        jaws(henon, u.unsqueeze(2))


def test_losses_that_free_their_pieces_early_compute_their_own_pass():
    window = random(2, 5, 1, 12, seed=1)
    for gradient in ("none", 2):
        step = Counted(convolution())
        Regularized(Unrolled(4, gradient=gradient), Frobenius())(step, window, generator())[0].backward()
        assert step.calls == 5
        assert all(torch.isfinite(p.grad).all() for p in step.parameters())


def test_the_parameters_of_a_reference_are_not_the_models():
    reference = convolution()
    for penalty in (
        Frobenius(target="solver", solver=reference),
        SpectralNorm(target="solver", solver=reference),
        LogDeterminant("solver", solver=reference),
        JAWS(1, 1, target="solver", solver=reference),
    ):
        own = {id(p) for p in penalty.parameters()}
        assert not own & {id(p) for p in reference.parameters()}
        assert not any("solver" in name or "against" in name for name in penalty.state_dict())
        penalty.double()(operator(), random(1, 1, 12), generator()).sum().backward()
    assert all(p.grad is None for p in reference.parameters())


def test_refusals():
    with pytest.raises(ValueError, match="target='solver' but no solver"):
        Frobenius(target="solver")
    with pytest.raises(ValueError, match="target='unity'"):
        Hinge(target="unity")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rho=-1"):
        Hinge(-1)
    with pytest.raises(ValueError, match="shape=0"):
        StudentT(0)
    with pytest.raises(ValueError, match="form='cube'"):
        SpectralNorm(form="cube")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="probes=1"):
        LogDeterminant(probes=1)
    with pytest.raises(ValueError, match="reference='solver' and no solver"):
        LogDeterminant("solver")
    assert LogDeterminant(-0.5, solver=lambda u: u).reference == (-0.5,)  # a study fills the solver in
    with pytest.raises(ValueError, match="probability=0"):
        Asymmetry(probability=0)
    with pytest.raises(ValueError, match="hyperprior"):
        JAWS(1, 1, hyperprior=(0.0, 1.0))
    with pytest.raises(ValueError, match="transpose"):
        Frobenius(kind="column", mode="jvp")


@pytest.mark.slow
def test_the_learned_field_follows_compression_and_the_sensitivity_of_the_solver():
    """Trained on Burgers' equation, s lies high where the flow compresses, as the true row energies do.

    With the weight 1 of the prior; with 0.01 the correlations are 0.4 after twice as many updates.
    """
    grid, viscosity, dt = Grid((64,), (1.0,)), 0.005, 0.02
    solver = build(Burgers(viscosity=viscosity), grid, dt)
    draw, g = RandomFourier(modes=4), generator(0)
    starts = torch.stack([draw(grid, 1, g) for _ in range(28)])
    starts = starts / starts.abs().amax((1, 2), keepdim=True)
    with torch.no_grad():
        data = rollout(solver, 50)(starts)
    train, test = data[:24].float(), data[24:, 5::5].flatten(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        step = Residual(ConvNet(1, 1, 1, width=24, hidden_layers=3, kernel=5, activation="gelu"))
        objective = Regularized(OneStep(), JAWS(1, 1), weight=1.0, warmup=40)
    parameters = [*step.parameters(), *objective.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=2e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, 400)
    for _ in range(400):
        sample = torch.randint(0, 24, (16,), generator=g)
        frame = torch.randint(0, 50, (16,), generator=g)
        window = torch.stack([train[sample, frame], train[sample, frame + 1]], dim=1)
        optimiser.zero_grad()
        objective(step, window, g)[0].backward()
        optimiser.step()
        schedule.step()
    jaws = objective.regularizer
    assert isinstance(jaws, JAWS)
    s = jaws.log_variance(test.float()).detach().double()
    slope = (test.roll(-1, 2) - test.roll(1, 2))[:, 0] * 32
    with torch.no_grad():
        energy = jacobian_energy(solver, test, probes=None, mode="vjp")

    def correlation(a: Tensor, b: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])

    assert correlation(s, -slope) > 0.5
    assert correlation(s, energy.log()) > 0.5
    assert jaws.diagnostics(step, test.float(), g)["clamped"].mean() < 0.2
