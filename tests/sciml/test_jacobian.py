"""Products with the Jacobian and what is estimated from them, against dense Jacobians."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sciml import Grid, Mesh
from sciml.constraints import ConservedMean
from sciml.jacobian import (
    Jacobian,
    Remembered,
    dense_jacobian,
    jacobian_diagnostics,
    jacobian_energy,
    jacobian_vector,
    spectral_norm,
    vector_jacobian,
)
from sciml.models import FNO, UNet
from sciml.models.wrappers import Constrained, Normalized, Residual
from sciml.odes import Lorenz63
from sciml.pdes import KuramotoSivashinsky
from sciml.solvers import build


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(channels: int = 1, seed: int = 0) -> nn.Module:
    """A small convolutional step in float64, on periodic points."""
    net = nn.Sequential(
        nn.Conv1d(channels, 6, 5, padding=2, padding_mode="circular"),
        nn.Tanh(),
        nn.Conv1d(6, channels, 3, padding=1, padding_mode="circular"),
    ).double()
    g = generator(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=g, dtype=torch.float64))
    return net


def spectral_layer(u: Tensor) -> Tensor:
    """Fourier multiplier and nonlinearity, the inside of a Fourier neural operator."""
    n = u.shape[-1]
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    multiplier = torch.exp(-0.05 * k**2) * torch.exp(0.7j * k)
    return u + 0.5 * torch.tanh(torch.fft.irfft(multiplier * torch.fft.rfft(u), n=n) * 2)


def dense(step, u: Tensor) -> Tensor:
    """Jacobians (B, n, n), one sample after the other."""
    n = u[0].numel()
    return torch.stack(
        [torch.func.jacrev(lambda x: step(x))(u[b : b + 1]).reshape(n, n) for b in range(len(u))]
    )


def fourier_operator() -> nn.Module:
    """A Fourier neural operator in float64 that is not close to the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return FNO(1, 1, (8,), 4, layers=2, spectral_scale=1.0).double().requires_grad_(False)


@pytest.mark.parametrize("kind", ["row", "column"])
@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
@pytest.mark.parametrize(
    "step", [network(), spectral_layer, fourier_operator()], ids=["convolution", "fourier", "operator"]
)
def test_energies_are_unbiased_with_the_stated_variance(step, distribution, kind):
    """Mean of 20,000 probes within four standard errors of the dense energies, variance within 5 %."""
    u = torch.randn(1, 1, 32, generator=generator(1), dtype=torch.float64)
    matrix = dense(step, u)[0].detach()
    matrix = matrix if kind == "row" else matrix.T
    exact = matrix.square().sum(dim=1)
    count = 20_000
    with torch.no_grad():
        # The samples of one large batch of equal states draw independent probes.
        q = jacobian_energy(
            step,
            u.expand(count, 1, 32),
            kind=kind,
            distribution=distribution,
            generator=generator(3),
        )
    fourth = matrix.pow(4).sum(dim=1) if distribution == "rademacher" else torch.zeros(32)
    variance = 2 * (exact.square() - fourth)
    error = (q.mean(dim=0) - exact).abs()
    # 256 points are tested over all cases: by chance, one seed in sixty misses four standard errors.
    assert (error <= 4 * (variance / count).sqrt() + 1e-12).all()
    # The sample variance of heavy-tailed q scatters by about 3 %; averaging over points leaves less.
    assert (q.var(dim=0).mean() / variance.mean()).item() == pytest.approx(1.0, abs=0.05)


def test_sums_of_rows_and_columns_are_the_frobenius_norm():
    step, u = network(2), torch.randn(3, 2, 12, generator=generator(3), dtype=torch.float64)
    exact = dense(step, u).square().sum(dim=(1, 2))
    for kind in ("row", "column"):
        q = jacobian_energy(step, u, kind=kind, probes=400, generator=generator(4))
        # The norm from one probe scatters by about a third of itself; 400 leave 2 %.
        torch.testing.assert_close(q.sum(dim=1), exact, rtol=0.06, atol=0)


@pytest.mark.parametrize("mode", ["auto", "jvp", "vjp", "fd"])
def test_all_ways_of_multiplying_agree_with_the_dense_jacobian(mode):
    step, u = network(2), torch.randn(3, 2, 9, generator=generator(7), dtype=torch.float64)
    v = torch.randn(u.shape, generator=generator(8), dtype=torch.float64)
    expected = torch.einsum("bij,bj->bi", dense(step, u), v.flatten(1)).reshape(u.shape)
    y, product = jacobian_vector(step, u, v, mode)
    torch.testing.assert_close(y, step(u))
    tolerance = 1e-6 if mode == "fd" else 1e-12  # a one-sided difference is right to sqrt(1e-16)
    torch.testing.assert_close(product, expected, rtol=0, atol=tolerance)
    with torch.no_grad():
        quiet = jacobian_vector(step, u, v, mode)[1]
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, expected, rtol=0, atol=tolerance)
    transposed = torch.einsum("bij,bi->bj", dense(step, u), v.flatten(1)).reshape(u.shape)
    torch.testing.assert_close(vector_jacobian(step, u, v)[1], transposed, rtol=0, atol=1e-12)


def test_everything_works_inside_inference_mode():
    step, u = network(2), torch.randn(2, 2, 9, generator=generator(7), dtype=torch.float64)
    scale = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for estimate in (
        lambda x: jacobian_energy(step, x, kind="column", scale=scale, generator=generator(1)),
        lambda x: jacobian_energy(step, x, mode="vjp", scale=scale, generator=generator(1)),
        lambda x: jacobian_energy(step, x, scale=scale, generator=generator(1)),
        lambda x: spectral_norm(step, x, 5, generator=generator(1)),
        lambda x: jacobian_diagnostics(step, x, generator=generator(1))["row_energy"],
    ):
        expected = estimate(u).detach()
        with torch.inference_mode():
            found = estimate(u * 1)
        torch.testing.assert_close(found.clone(), expected)


def test_steps_that_cut_their_gradient_are_refused():
    u = torch.randn(2, 1, 5, generator=generator(9), dtype=torch.float64)
    with pytest.raises(ValueError, match="no torch.no_grad"):
        jacobian_energy(lambda x: x.detach() * 2, u, kind="column")
    with pytest.raises(ValueError, match="its shape must stay"):
        jacobian_energy(lambda x: x[:, :, :2], u)


CASES = ("fno_2d", "unet_3d", "mesh_graph_net", "constrained", "normalised", "solver", "ode")


def made(name: str) -> tuple[object, Tensor]:
    """A step of the platform and two states of it."""
    g = generator(21)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "fno_2d":
            step = Residual(FNO(2, 2, (2, 2), 4, layers=2, spectral_scale=1.0)).double()
            shape = (2, 5, 6)
        elif name == "unet_3d":
            step, shape = UNet(1, 1, 3, width=2, levels=1).double(), (1, 4, 4, 4)
        elif name == "mesh_graph_net":
            pytest.importorskip("torch_geometric")
            from sciml.models.graphs import MeshGraphNet
            from sciml.solvers.finite_element import rectangle

            mesh: Mesh = rectangle((1.0, 1.0), 0.4, seed=0)
            step = Residual(MeshGraphNet(mesh, 2, 2, width=6, layers=2)).double()
            shape = (2, *mesh.shape)
        elif name in ("constrained", "normalised"):
            inside = Normalized(Residual(network(2)), torch.tensor([1.0, -1.0]), torch.tensor([2.0, 0.5]))
            step = (
                Constrained(inside, ConservedMean(Grid((9,), (1.0,)))) if name == "constrained" else inside
            )
            step, shape = step.double(), (2, 9)
        elif name == "solver":
            return build(KuramotoSivashinsky(), Grid((16,), (22.0,)), 0.1, max_speed=3.0), torch.randn(
                2, 1, 16, generator=g, dtype=torch.float64
            )
        else:
            ode = Lorenz63()
            from sciml import Point

            return build(ode, Point(), 0.1, substeps=1), ode.initial(2, g)
    return step, torch.randn(2, *shape, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_step_has_products_energies_and_a_matrix(name):
    """Forward mode, reverse mode and differences against central differences, column by column."""
    step, u = made(name)
    n = u[0].numel()
    columns = []
    with torch.no_grad():
        for e in torch.eye(n, dtype=torch.float64).reshape(n, *u.shape[1:]):
            h = 1e-5
            columns.append(((step(u + h * e) - step(u - h * e)) / (2 * h)).flatten(1))
        exact = torch.stack(columns, dim=2)
        size = exact.abs().max()
        for mode in ("auto", "jvp", "vjp", "fd"):
            found = dense_jacobian(step, u, mode=mode)
            # Central differences err by about 1e-10, one-sided ones by 1e-8 of the second derivative.
            assert (found - exact).abs().max() < (1e-5 if mode == "fd" else 1e-7) * size
        # All unit vectors in place of random directions give exact energies.
        rows = jacobian_energy(step, u, probes=None)
        columns_ = jacobian_energy(step, u, probes=None, kind="column")
        shape = (2, u.shape[1], *u.shape[2:])
        tolerance = 1e-6 * float(size) ** 2
        assert (rows - exact.square().sum(2).reshape(shape).sum(1)).abs().max() < tolerance
        assert (columns_ - exact.square().sum(1).reshape(shape).sum(1)).abs().max() < tolerance
        # And random ones are right on average.
        estimate = jacobian_energy(step, u, probes=100, mode="vjp", generator=generator(3))
        total = estimate.reshape(2, -1).sum(1)
        assert (total / exact.square().sum((1, 2)) - 1).abs().max() < 0.35


def test_scales_and_targets_act_on_the_matrix():
    step, u = network(2), torch.randn(2, 2, 7, generator=generator(7), dtype=torch.float64)

    def solver(x: Tensor) -> Tensor:
        return x - 0.1 * x.roll(1, 2) ** 2

    scale = torch.tensor([0.5, 3.0], dtype=torch.float64)
    s = scale.repeat_interleave(7)
    for target, known in (
        (None, torch.zeros(2, 14, 14).double()),
        ("identity", torch.eye(14).double()),
        (solver, dense(solver, u)),
    ):
        exact = dense(step, u) - known
        scaled = exact * s / s.unsqueeze(1)
        for mode in ("auto", "jvp", "vjp"):
            torch.testing.assert_close(dense_jacobian(step, u, mode=mode, target=target), exact)
            if target != "identity":
                torch.testing.assert_close(
                    dense_jacobian(step, u, mode=mode, target=target, scale=scale), scaled
                )
        energy = jacobian_energy(step, u, probes=None, target=target)
        torch.testing.assert_close(energy, exact.square().sum(2).reshape(2, 2, 7).sum(1))
        norm = spectral_norm(step, u, 14, target=target, generator=generator(1))
        torch.testing.assert_close(norm, torch.linalg.matrix_norm(exact, ord=2))
    assert all(p.grad is None for p in step.parameters())


def test_probes_on_a_sphere_are_those_of_hoffman():
    """C |J^T v|^2 / 2 with v uniform on the unit sphere of R^C."""
    step, u = network(), torch.randn(1, 1, 8, generator=generator(7), dtype=torch.float64)
    count = 4000
    q = jacobian_energy(
        step, u.expand(count, 1, 8), kind="column", distribution="sphere", generator=generator(2)
    )
    exact = dense(step, u).detach().square().sum()
    v = torch.randn(count, 8, generator=generator(3), dtype=torch.float64)
    v = v / v.norm(dim=1, keepdim=True)
    theirs = 0.5 * 8 * (v @ dense(step, u)[0].detach()).square().sum(1)
    error = float(theirs.std()) / count**0.5
    assert float(0.5 * q.detach().sum(1).mean()) == pytest.approx(float(0.5 * exact), abs=4 * error)
    assert float(theirs.mean()) == pytest.approx(float(0.5 * exact), abs=4 * error)
    # The same scatter, to what 4,000 samples tell of a variance.
    assert float((0.5 * q.detach().sum(1)).std() / theirs.std()) == pytest.approx(1.0, abs=0.06)


class Counted:
    """A step that counts its calls."""

    def __init__(self, step) -> None:
        self.step, self.calls, self.dt = step, 0, 0.5

    def __call__(self, u: Tensor) -> Tensor:
        self.calls += 1
        return self.step(u)


def test_products_share_a_pass_of_the_step():
    u = torch.randn(2, 1, 9, generator=generator(7), dtype=torch.float64)
    for mode, expected in (("vjp", 1), ("jvp", 3), ("fd", 4)):
        step = Counted(network())
        jacobian_energy(step, u, probes=3, mode=mode, generator=generator(1))
        assert step.calls == expected
    step = Counted(network())
    with torch.no_grad():
        jacobian = Jacobian(step, u, mode="vjp")
        jacobian.push(u), jacobian.push(2 * u), jacobian.pull(u)
        assert not jacobian.value.requires_grad
    assert step.calls == 1


@pytest.mark.parametrize("mode", ["auto", "vjp", "fd"])
def test_a_remembered_step_gives_its_result_once_computed_and_its_gradient(mode):
    net, u = network(), torch.randn(2, 1, 9, generator=generator(7), dtype=torch.float64)
    v = torch.randn(u.shape, generator=generator(8), dtype=torch.float64)
    window = torch.stack([u, u, u], dim=1)

    def value(step) -> Tensor:
        pushed = Jacobian(step, window[:, 0], mode=mode).push(v)
        once = step(window[:, 0])
        return pushed.square().sum() + (once**3).sum() + (step(once) ** 3).sum()

    plain = value(net)
    counted = Counted(net)
    shared = value(Remembered(counted))
    torch.testing.assert_close(shared, plain)
    assert counted.calls == (3 if mode == "fd" else 2)  # a network would be called once for both
    for a, b in zip(
        torch.autograd.grad(shared, list(net.parameters()), allow_unused=True),
        torch.autograd.grad(plain, list(net.parameters()), allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_what_a_step_remembers_is_given_for_the_same_unchanged_memory_only():
    counted = Counted(network())
    step = Remembered(counted)
    u = torch.randn(2, 1, 9, generator=generator(7), dtype=torch.float64)
    Jacobian(step, u).push(u)
    assert step.dt == 0.5 and counted.calls == 1
    assert step(u).requires_grad and counted.calls == 1
    with torch.no_grad():
        assert not step(u).requires_grad
    assert counted.calls == 1
    step(u.clone())
    assert counted.calls == 2
    torch.testing.assert_close(step(u[:1]), counted.step(u[:1]))
    assert counted.calls == 3
    u += 1  # the memory has changed
    torch.testing.assert_close(step(u), counted.step(u))
    assert counted.calls == 4


def test_unknown_modes_and_targets_are_refused():
    u = torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match="mode='sideways'"):
        Jacobian(lambda x: x, u, mode="sideways")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target='solver'"):
        Jacobian(lambda x: x, u, target="solver")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="channel scales"):
        Jacobian(lambda x: x, u, scale=torch.ones(2))
    with pytest.raises(ValueError, match="kind='diagonal'"):
        jacobian_energy(lambda x: x, u, kind="diagonal")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no torch.no_grad"):
        Jacobian(lambda x: x.detach(), u).push(u)


class Sawed(torch.autograd.Function):
    """x^2 whose backward pass cannot be differentiated, like a compiled gradient."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * 2 * x


def test_steps_with_nothing_but_one_reverse_pass_have_columns_and_differences():
    u = torch.randn(2, 1, 4, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(jacobian_energy(Sawed.apply, u, kind="column"), (2 * u).square().sum(1))
    found = jacobian_vector(Sawed.apply, u, u, "fd")[1]
    torch.testing.assert_close(found, 2 * u * u, rtol=1e-6, atol=1e-7)
    with pytest.raises((RuntimeError, ValueError), match="differentia"):
        jacobian_vector(Sawed.apply, u, u, "vjp")
