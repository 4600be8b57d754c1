"""Koopman operators whose spectrum is known, and residuals that tell which eigenvalues are none."""

from __future__ import annotations

import math

import pytest
import torch

from sciml import rollout
from sciml.domains import Grid, Point
from sciml.fields import RandomFourier as RandomWaves
from sciml.models import KNO, Reconstruction
from sciml.models.forecasters import (
    EDMD,
    Fourier,
    KernelFeatures,
    Koopman,
    Modes,
    Monomials,
    RadialBasis,
    RandomFourier,
    continuous,
    snapshots,
)
from sciml.models.forecasters.dictionary import Dictionary
from sciml.objectives import OneStep, Regularized
from sciml.odes import FunctionODE
from sciml.pdes import Burgers
from sciml.solvers import build

torch.set_num_threads(1)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of(
    dictionary: Dictionary, x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None
) -> Koopman:
    dictionary.prepare(x.shape[1])
    dictionary.fit(x, drawn(0))
    return snapshots([(dictionary(x), dictionary(y), weights)])


def slow_manifold(x: torch.Tensor) -> torch.Tensor:
    """x1' = 0.9 x1, x2' = 0.5 x2 + (0.81 - 0.5) x1^2: linear in (x1, x2, x1^2)."""
    return torch.stack([0.9 * x[:, 0], 0.5 * x[:, 1] + 0.31 * x[:, 0] ** 2], dim=1)


@pytest.fixture(scope="module")
def square() -> torch.Tensor:
    return 2 * torch.rand(500, 2, generator=drawn(0), dtype=torch.float64) - 1


def test_an_invariant_dictionary_gives_the_spectrum_itself(square):
    def lift(x):
        return torch.stack([x[:, 0], x[:, 1], x[:, 0] ** 2], dim=1)

    values, _, residuals = snapshots([(lift(square), lift(slow_manifold(square)), None)]).eigenpairs()
    assert sorted(values.real.tolist()) == pytest.approx([0.5, 0.81, 0.9], abs=1e-14)
    assert float(residuals.max()) < 3 * 5e-16


def test_residuals_tell_true_eigenvalues_from_those_of_a_cut_dictionary(square):
    found = of(Monomials(3, total=False), square, slow_manifold(square))
    values, _, residuals = found.eigenpairs()
    assert int((residuals < 1e-8).sum()) == 6 and int((residuals > 1e-2).sum()) == 10
    # All products 0.9^i 0.5^j; those of low degree are in the dictionary with all that they need.
    exact = torch.tensor([0.9**i * 0.5**j for i in range(8) for j in range(4)], dtype=torch.float64)
    errors = (values.unsqueeze(1) - exact).abs().amin(dim=1)
    assert float(errors[:6].max()) < 3 * 3e-15


def test_a_rotation_of_the_circle_has_its_spectrum_on_the_circle():
    x = 2 * math.pi * torch.rand(500, 1, generator=drawn(0), dtype=torch.float64)
    values, _, residuals = of(Fourier(10), x, x + 2 * math.pi * (math.sqrt(2) - 1)).eigenpairs()
    assert float(residuals.max()) < 3 * 5e-15
    assert float((values.abs() - 1).abs().max()) < 3 * 3e-15


def test_the_doubling_map_has_no_eigenvalue_but_one():
    x = 2 * math.pi * torch.rand(500, 1, generator=drawn(0), dtype=torch.float64)
    values, _, residuals = of(Fourier(10), x, 2 * x).eigenpairs()
    assert abs(complex(values[0]) - 1) < 1e-12 and float(residuals[0]) < 1e-12
    # Nothing else is an eigenvalue, although there are 20 more of the matrix.
    assert len(residuals) == 21 and float(residuals[1]) > 0.87 / 3


@pytest.fixture(scope="module")
def duffing() -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of x'' = x - x^3 at intervals of 0.25: 500 paths of 20 from the square of side 4."""
    ode = FunctionODE(lambda u: torch.stack([u[:, 1], u[:, 0] - u[:, 0] ** 3], dim=1), ("x", "v"))
    start = 4 * torch.rand(500, 2, generator=drawn(0), dtype=torch.float64) - 2
    with torch.no_grad():
        paths = rollout(build(ode, Point(), 0.25, substeps=10), 20)(start)
    return paths[:, :-1].flatten(0, 1), paths[:, 1:].flatten(0, 1)


def test_half_of_the_eigenvalues_of_a_conservative_oscillator_are_spurious(duffing):
    found = of(RadialBasis(100, constant=False), *duffing)
    values, _, residuals = found.eigenpairs()
    assert 0.006 / 3 < float(residuals.min()) < 0.006 * 3
    assert 0.61 / 3 < float(residuals.median()) < 0.61 * 3
    # The true operator is unitary: none of these is near its spectrum, and the residuals say so.
    inside = values.abs() < 0.8
    assert 51 / 3 < int(inside.sum()) <= 100 and float(residuals[inside].min()) > 0.05
    tau = found.tau(torch.tensor([1, 1j, 0.5, 0, 1.2]))
    for value, expected in zip(tau.tolist(), [0.006, 0.206, 0.498, 0.951, 0.200], strict=True):
        assert expected / 3 < value < expected * 3
    # Off the circle tau is not below the distance to it, which is the least any function can do.
    assert float(tau[2]) > 0.49 and float(tau[4]) > 0.19
    unitary = found.measure_preserving()
    eye = torch.eye(found.rank, dtype=unitary.dtype)
    torch.testing.assert_close(unitary.mH @ unitary, eye, rtol=0, atol=1e-12)
    on_circle, _, further = found.eigenpairs(unitary)
    assert float((on_circle.abs() - 1).abs().max()) < 1e-12 and bool(torch.isfinite(further).all())


def test_the_unitary_matrix_is_the_nearest_one(square):
    found = of(Monomials(2), square, slow_manifold(square))
    unitary = found.measure_preserving()
    best = torch.linalg.matrix_norm(found.after - found.before @ unitary)
    for seed in range(20):
        small = 0.1 * torch.randn(found.rank, found.rank, generator=drawn(seed), dtype=torch.float64)
        other = unitary @ torch.matrix_exp(small - small.T)
        assert float(torch.linalg.matrix_norm(found.after - found.before @ other)) >= float(best)


def test_tau_is_that_of_the_generalised_eigenproblem_and_no_pair_is_better(square):
    dictionary = Monomials(2)
    found = of(dictionary, square, slow_manifold(square))
    before, after = (dictionary(u) / math.sqrt(len(u)) for u in (square, slow_manifold(square)))
    g, a, last = before.T @ before, before.T @ after, after.T @ after
    lower = torch.linalg.cholesky(g.to(torch.complex128))
    z = torch.tensor([0.3 + 0.4j, -0.7, 1.1, 0.2j])
    expected = []
    for point in z.to(torch.complex128):
        m = last - point * a.T - point.conj() * a + point.abs() ** 2 * g
        inverse = torch.linalg.inv(lower)
        expected.append(torch.linalg.eigvalsh(inverse @ m @ inverse.mH)[0].clamp_min(0).sqrt())
    torch.testing.assert_close(found.tau(z), torch.stack(expected), rtol=0, atol=1e-8)
    torch.testing.assert_close(found.tau(z.reshape(2, 2)).flatten(), found.tau(z))
    values, _, residuals = found.eigenpairs()
    assert bool((residuals >= found.tau(values) - 1e-12).all())


def test_parts_and_weights_of_the_snapshots(square):
    dictionary = Monomials(2)
    whole = of(dictionary, square, slow_manifold(square))
    rows = [(dictionary(x), dictionary(slow_manifold(x)), None) for x in square.split(90)]
    parts = snapshots(rows)
    z = torch.tensor([0.3 + 0.4j, 1.1])
    torch.testing.assert_close(parts.tau(z), whole.tau(z), rtol=1e-10, atol=1e-12)
    # A weight of two is the same snapshot twice.
    weights = torch.ones(500, dtype=torch.float64)
    weights[:100] = 2
    weighted = of(Monomials(2), square, slow_manifold(square), weights)
    doubled = torch.cat([square, square[:100]])
    torch.testing.assert_close(
        weighted.tau(z), of(Monomials(2), doubled, slow_manifold(doubled)).tau(z), rtol=1e-10, atol=1e-12
    )


def test_rates_in_time():
    rates = continuous(torch.tensor([0.5, 1j]), 0.1)
    torch.testing.assert_close(
        rates, torch.tensor([math.log(0.5) / 0.1, 0.5j * math.pi / 0.1], dtype=torch.complex128)
    )


def test_damping_of_a_step_is_seen_in_verified_eigenvalues():
    # The audit of a surrogate: an oscillator's own flow, and the same with two per cent taken off at every step.
    ode = FunctionODE(lambda u: torch.stack([u[:, 1], -u[:, 0]], dim=1), ("x", "v"))
    step = build(ode, Point(), 0.3, substeps=4)
    x = 2 * torch.rand(400, 2, generator=drawn(0), dtype=torch.float64) - 1
    sizes = []
    for damping in (1.0, 0.98):
        values, _, residuals = of(Monomials(1), x, damping * step(x)).eigenpairs()
        verified = values[(residuals < 1e-6) & (values.imag.abs() > 0.1)]
        assert len(verified) == 2
        sizes.append(float(verified.abs().mean()))
    assert sizes[0] - sizes[1] == pytest.approx(0.02, abs=0.005)


def test_kernel_features_interpolate_where_they_were_made():
    # On the circle a kernel has Fourier modes as its features; a rotation then has eigenvalues on the circle.
    angle = 2 * math.pi * torch.rand(400, 1, generator=drawn(0), dtype=torch.float64)
    x = torch.cat([angle.cos(), angle.sin()], dim=1)
    turn = torch.tensor(
        [[math.cos(0.7), math.sin(0.7)], [-math.sin(0.7), math.cos(0.7)]], dtype=torch.float64
    )
    dictionary = KernelFeatures(points=100, features=7)
    dictionary.prepare(2)
    dictionary.fit(x[:100], drawn(0))
    made = dictionary(x[:100])
    gram = (
        made.T @ made
    )  # there they are orthogonal, with the eigenvalues of the kernel's matrix as squares
    assert float((gram - gram.diagonal().diag()).abs().max()) < 1e-9 * float(gram.diagonal()[0])
    found = snapshots([(dictionary(x[100:]), dictionary(x[100:] @ turn), None)])
    values, _, residuals = found.eigenpairs()
    # Seven features are the constant and three pairs of waves, nearly.
    angles = sorted(abs(v.angle().item()) for v in values)
    assert angles == pytest.approx([0, 0.7, 0.7, 1.4, 1.4, 2.1, 2.1], abs=0.05)
    assert float(residuals.max()) < 0.1


def test_a_kernel_is_judged_on_states_that_it_has_not_seen():
    data = torch.randn(1, 400, 3, generator=drawn(0), dtype=torch.float64)
    model = EDMD(3, KernelFeatures(points=150, features=100))
    model.fit(data, drawn(0))
    kept = {tuple(row) for row in model.dictionary.points.tolist()}
    assert kept <= {tuple(row) for row in data[0, :200].tolist()}
    # Nothing follows from noise, and residuals say so; on its own points a kernel seems to know everything.
    residuals = model.koopman.eigenpairs()[2]
    assert float(residuals.median()) > 0.5


def test_residuals_on_a_test_piece():
    data = torch.randn(1, 300, 2, generator=drawn(0), dtype=torch.float64).cumsum(dim=1) * 0.05
    model = EDMD(2, Monomials(6), apart=0.4)
    model.fit(data)
    values, functions, trained = model.koopman.eigenpairs()
    tested = model.koopman.residuals(values, functions, model.test)
    assert float(tested.median()) > float(trained.median())


@pytest.mark.parametrize("family", ["monomial", "hermite", "chebyshev"])
def test_families_of_polynomials_span_the_same(square, family):
    found = of(Monomials(3, family=family), square, slow_manifold(square))
    reference = of(Monomials(3), square, slow_manifold(square))
    z = torch.tensor([0.3 + 0.4j, 1.1])
    torch.testing.assert_close(found.tau(z), reference.tau(z), rtol=1e-9, atol=1e-12)
    assert found.rank == 10
    dictionary = Monomials(3, family=family)
    dictionary.prepare(1)
    x = torch.tensor([[0.4]], dtype=torch.float64)
    third = {"monomial": 0.064, "hermite": 0.064 - 1.2, "chebyshev": 0.256 - 1.2}[family]
    assert float(dictionary(x)[0, -1]) == pytest.approx(third, abs=1e-14)


def test_random_cosines_approximate_a_gaussian_kernel(square):
    dictionary = RandomFourier(features=20_000, width=1.0)
    dictionary.prepare(2)
    dictionary.fit(square, drawn(0))
    cosines = dictionary(square[:30])[:, 3:]
    width = float((square - square.mean(dim=0)).norm(dim=1).mean())
    exact = torch.exp(-torch.cdist(square[:30], square[:30]).square() / (2 * width**2))
    # 2 / D sum cos cos estimates it with an error of about 1 / sqrt(D) = 0.007.
    assert float((2 * cosines @ cosines.T / 20_000 - exact).abs().max()) < 0.05


@pytest.mark.parametrize(
    "dictionary",
    [
        lambda: Monomials(3, family="hermite"),
        lambda: Fourier(3, period=4.0),
        lambda: RadialBasis(20),
        lambda: RadialBasis(20, "gaussian"),
        lambda: RadialBasis(20, "thin_plate"),
        lambda: RandomFourier(20),
        lambda: Modes(2, constant=True),
        lambda: KernelFeatures(40, 20),
        lambda: KernelFeatures(40, 20, "laplacian"),
        lambda: KernelFeatures(40, 20, "lorentzian"),
        lambda: KernelFeatures(40, 6, "polynomial", degree=2),
    ],
)
def test_every_dictionary_carries_a_linear_system(dictionary):
    turn = 0.98 * torch.tensor(
        [[math.cos(0.2), math.sin(0.2)], [-math.sin(0.2), math.cos(0.2)]], dtype=torch.float64
    )
    x = [torch.tensor([[1.0, 0.0]], dtype=torch.float64)]
    for _ in range(160):
        x.append(x[-1] @ turn)
    data = torch.stack(x, dim=1)
    model = EDMD(2, dictionary())
    assert model.functions == model.dictionary(torch.zeros(1, 2, dtype=torch.float64)).shape[1]
    model.fit(data, drawn(0))
    found = model.forecast(data[:, 100:101], 5)
    kept = (data[:, 100] - data[:, 105]).norm()
    assert float((found[:, -1] - data[:, 105]).norm()) < 0.5 * float(kept)


def test_wrong_arguments_are_refused():
    for wrong in (
        lambda: Monomials(-1),
        lambda: Monomials(2, family="legendre"),
        lambda: Fourier(10).prepare(4),
        lambda: Monomials(20).prepare(10),
        lambda: RadialBasis(shape="bump"),
        lambda: RadialBasis(50).fit(torch.zeros(10, 2), drawn(0)),
        lambda: KernelFeatures(10, 20),
        lambda: RandomFourier(0),
        lambda: snapshots([]),
    ):
        with pytest.raises(ValueError, match=r"got|would"):
            wrong()


@pytest.mark.slow
def test_the_koopman_operator_has_its_size_and_beats_persistence_on_fronts():
    """Observables 16, modes 0 to 15, 6 repetitions, 300 updates on Burgers' equation at 64 points."""
    grid = Grid((64,), (1.0,))
    start = torch.stack([RandomWaves(modes=3)(grid, 1, drawn(k)) for k in range(20)])
    with torch.no_grad():
        paths = rollout(build(Burgers(viscosity=0.01), grid, 0.05), 20)(start.double()).float()
    train, test = paths[:16], paths[16:]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = KNO(1, 1, modes=(15,), width=16, repetitions=6)
    # Two linear maps with offsets, a complex matrix for each mode, and the skip.
    size = (1 * 16 + 16) + (16 * 1 + 1) + 2 * 16**2 * 16 + (16**2 + 16)
    assert sum(p.numel() for p in model.parameters()) == size
    objective = Regularized(OneStep(), Reconstruction(), weight=0.1, scale_free=False)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    for k in range(300):
        frame = torch.randint(0, 20, (16,), generator=drawn(k))
        window = torch.stack([train[range(16), frame], train[range(16), frame + 1]], dim=1)
        optimiser.zero_grad()
        objective(model, window)[0].backward()
        optimiser.step()
    before, after = test[:, :-1].flatten(0, 1), test[:, 1:].flatten(0, 1)
    with torch.no_grad():
        error, kept = (model(before) - after).norm(), (before - after).norm()
        given_back = (model.reconstruct(before) - before).norm() / before.norm()
        print(float(error / kept), float(given_back))
        assert float(error) < float(kept)
        # The observables give the state back, and the operator acts on every grid.
        assert float(given_back) < 0.2
        assert model(test[:, 0, :, ::2]).shape == (4, 1, 32)


def test_what_is_no_koopman_operator_is_refused():
    with pytest.raises(ValueError, match="with 0 KNOs"):
        Reconstruction()(lambda u: u, torch.zeros(1, 1, 8))
    with pytest.raises(ValueError, match="modes="):
        KNO(1, 1, modes=(0,))
    with pytest.raises(ValueError, match="repetitions=0"):
        KNO(1, 1, modes=(2,), repetitions=0)
    with pytest.raises(ValueError, match="field of shape"):
        KNO(1, 1, modes=(2,))(torch.zeros(1, 2, 8))
