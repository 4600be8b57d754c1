"""Finite element steps against exact solutions, their conserved sums, adjoints and refusals."""

from __future__ import annotations

import math
import pickle
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sciml import Mesh, NodeType, rollout
from sciml.pdes import AdvectionDiffusion, Burgers, Heat
from sciml.solvers.finite_element import box, p1_step, rectangle


def norm(error: Tensor, mesh: Mesh) -> float:
    return float((error.square() * mesh.weights()).sum().sqrt())


def order(error: Callable[[float], float], coarse: float, fine: float) -> float:
    return math.log(error(coarse) / error(fine)) / math.log(coarse / fine)


def random_state(mesh: Mesh, batch: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 1, mesh.shape[0], generator=generator, dtype=torch.float64)


def rotation(mesh: Mesh) -> Tensor:
    """Solid rotation about (1, 1), which linear elements represent exactly."""
    x = mesh.coordinates() - 1
    return torch.stack([-x[1], x[0]]).unsqueeze(0)


@pytest.mark.parametrize("lumped", [False, True])
def test_heat_on_triangles_has_order_two_in_space(lumped: bool) -> None:
    side = 2 * math.pi

    def error(spacing: float) -> float:
        mesh, pde = rectangle((side, side), spacing, seed=1), Heat(0.3)
        x = mesh.coordinates().unsqueeze(0)
        step = p1_step(pde, mesh, 1.0, substeps=60, dirichlet=(), lumped=lumped)
        return norm(step(pde.exact(x, 0.0)) - pde.exact(x, 1.0), mesh)

    # Meshes that are not nested move the measured order by about a tenth.
    assert order(error, side / 12, side / 24) == pytest.approx(2, abs=0.25)


def test_heat_on_tetrahedra_has_order_two_in_space() -> None:
    def error(spacing: float) -> float:
        cuboids = round(math.pi / spacing)
        mesh, pde = box((math.pi,) * 3, (cuboids,) * 3, seed=1), Heat(0.3)
        x = mesh.coordinates().unsqueeze(0)  # cosines have no flux through the planes x = 0 and pi either
        step = p1_step(pde, mesh, 0.5, substeps=20, dirichlet=())
        return norm(step(pde.exact(x, 0.0)) - pde.exact(x, 0.5), mesh)

    # At five and ten cuboids per axis the highest mode has barely five nodes per half wave: 1.87.
    assert order(error, math.pi / 5, math.pi / 10) == pytest.approx(2, abs=0.25)


@pytest.mark.parametrize("stabilisation", ["supg", "none"])
def test_rotating_diffusing_blob_has_order_two_in_space(stabilisation: str) -> None:
    kappa, time, width = 0.02, 0.5, 0.12
    # Galerkin's method needs a slower rotation: its cell Peclet number may not pass 1 even in the corners.
    speed, coarse, fine = (1.0, 0.08, 0.04) if stabilisation == "supg" else (0.3, 0.06, 0.042)

    def exact(mesh: Mesh, t: float) -> Tensor:
        centre = 0.3 * torch.tensor(
            [math.cos(speed * t), math.sin(speed * t)], dtype=torch.float64
        ).reshape(2, 1)
        spread = width**2 + 2 * kappa * t
        square = (mesh.coordinates() - 1 - centre).square().sum(dim=0)
        return (width**2 / spread * torch.exp(-square / (2 * spread))).reshape(1, 1, -1)

    def error(spacing: float) -> float:
        mesh = rectangle((2.0, 2.0), spacing, seed=1)
        pde = AdvectionDiffusion(speed * rotation(mesh), kappa)
        step = p1_step(pde, mesh, time, substeps=40, dirichlet=(), stabilisation=stabilisation)
        return norm(step(exact(mesh, 0.0)) - exact(mesh, time), mesh)

    # Meshes that are not nested move the measured order; the wrong sense of rotation gives order zero.
    assert order(error, coarse, fine) == pytest.approx(2, abs=0.3)


def test_stabilisation_does_not_smear_what_is_carried() -> None:
    # Half a turn at cell Peclet numbers of hundreds. Found: relative error 0.020; upwinding the advection
    # alone, without the same tilt on the time derivative, gives 0.39.
    mesh, width, kappa = rectangle((2.0, 2.0), 0.07, seed=1), 0.2, 1e-4
    step = p1_step(AdvectionDiffusion(rotation(mesh), kappa), mesh, math.pi, substeps=150, dirichlet=())
    assert step.peclet > 100

    def blob(side: float, spread: float) -> Tensor:
        centre = torch.tensor([1 + 0.4 * side, 1.0], dtype=torch.float64).reshape(2, 1)
        square = (mesh.coordinates() - centre).square().sum(dim=0)
        return (width**2 / spread * torch.exp(-square / (2 * spread))).reshape(1, 1, -1)

    exact = blob(-1, width**2 + 2 * kappa * math.pi)
    u = step(blob(1, width**2))
    assert norm(u - exact, mesh) < 0.04 * norm(exact, mesh)
    assert float(u.min()) > -0.03  # SUPG is not monotone: found -0.01


def test_boundary_layer_with_held_nodes_is_the_exponential() -> None:
    speed, kappa = 4.0, 0.2

    def error(spacing: float) -> float:
        mesh = rectangle((1.0, 1.0), spacing, seed=1)
        x = mesh.coordinates()[0]
        held = (x == 0) | (x == 1)
        step = p1_step(AdvectionDiffusion((speed, 0.0), kappa), mesh, 10.0, substeps=10, dirichlet=held)
        u = step((x == 1).double().reshape(1, 1, -1))
        return norm(u - torch.expm1(speed * x / kappa) / math.expm1(speed / kappa), mesh)

    # The wrong sign of the velocity gives an error of order one, whatever the mesh.
    assert error(0.04) < 3e-3
    assert order(error, 0.06, 0.03) > 1.6


@pytest.mark.parametrize(
    ("scheme", "expected"), [("sdirk2", 2), ("crank-nicolson", 2), ("backward-euler", 1)]
)
def test_order_in_time(scheme: str, expected: int) -> None:
    mesh, pde = rectangle((2 * math.pi, 2 * math.pi), 0.8, seed=1), Heat(1.0)
    u0 = pde.exact(mesh.coordinates().unsqueeze(0), 0.0)
    # The exact solution in time of the same semi-discrete system.
    matrices = p1_step(pde, mesh, 1.0, dirichlet=()).propagators[0].matrices
    mass, rate = (torch.from_numpy(m.toarray()) for m in (matrices.mass, matrices.rate))
    exact = torch.linalg.matrix_exp(-torch.linalg.solve(mass, rate)) @ u0[0, 0]

    def error(dt: float) -> float:
        step = p1_step(pde, mesh, 1.0, substeps=round(1 / dt), dirichlet=(), scheme=scheme)
        return norm(step(u0) - exact, mesh)

    # The fastest mode decays at rate 5, so the next order still adds a tenth at these steps.
    assert order(error, 1 / 32, 1 / 64) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("mesh", [rectangle((1.0, 1.3), 0.15, 1), box((1.0, 1.0, 1.0), (4, 4, 4), seed=1)])
@pytest.mark.parametrize("lumped", [False, True])
def test_heat_keeps_the_total(mesh: Mesh, lumped: bool) -> None:
    u = random_state(mesh)
    step = p1_step(Heat(0.7), mesh, 0.1, substeps=3, dirichlet=(), lumped=lumped)
    last = rollout(step, 20)(u)[:, -1]
    total = lambda u: (u * mesh.weights()).sum(dim=-1)  # noqa: E731
    assert (total(last) - total(u)).abs().max() < 1e-12 * mesh.volume * u.abs().max()
    spread = (last - last.mean(dim=-1, keepdim=True)).std()
    assert spread < 1e-3 * u.std()  # and something happened


def test_constants_and_held_nodes_stay() -> None:
    mesh = rectangle((2.0, 2.0), 0.15, seed=2)
    pde = AdvectionDiffusion(rotation(mesh), 0.01)
    constant = torch.full((1, 1, mesh.shape[0]), 3.0, dtype=torch.float64)
    assert (p1_step(pde, mesh, 0.1, dirichlet=())(constant) - 3).abs().max() < 1e-12
    u = random_state(mesh)
    step = p1_step(pde, mesh, 0.1, substeps=4, dirichlet=(NodeType.WALL_BOUNDARY,))
    held = mesh.types == int(NodeType.WALL_BOUNDARY)
    assert torch.equal(step.dirichlet, held)
    assert torch.equal(step(u)[..., held], u[..., held])
    assert (step(u) - u)[..., ~held].abs().min() > 0


def test_maximum_principle_of_lumped_backward_euler() -> None:
    mesh = rectangle((1.0, 1.0), 0.08, seed=4)
    u = (random_state(mesh) > 1.5).double()  # spikes of single nodes
    extremes = {}
    for scheme, lumped in (("backward-euler", True), ("crank-nicolson", False)):
        step = p1_step(Heat(1.0), mesh, 0.01, dirichlet=(), scheme=scheme, lumped=lumped)
        after = step(u)
        extremes[scheme] = (float(after.min()), float(after.max()))
    assert extremes["backward-euler"][0] > -1e-14 and extremes["backward-euler"][1] < 1 + 1e-14
    assert extremes["crank-nicolson"][0] < -0.05  # why the default is neither


def test_stiff_jumps_are_damped() -> None:
    # A held value next to another one: L-stability leaves no ringing after two large steps.
    mesh = rectangle((1.0, 1.0), 0.08, seed=4)
    wall = mesh.types == int(NodeType.WALL_BOUNDARY)
    u = wall.double().reshape(1, 1, -1)
    worst = {}
    for scheme in ("sdirk2", "crank-nicolson"):
        step = p1_step(Heat(1.0), mesh, 1.0, dirichlet=(NodeType.WALL_BOUNDARY,), scheme=scheme)
        worst[scheme] = float((step(step(u)) - 1).abs().max())  # the exact state is 1 to 1e-8
    assert worst["sdirk2"] < 0.1 and worst["crank-nicolson"] > 0.5


def test_state_derivatives_are_exact_in_both_modes() -> None:
    mesh = rectangle((1.0, 1.0), 0.4, seed=0)
    pde = AdvectionDiffusion(rotation(mesh), torch.tensor([0.1, 0.4]).reshape(2, 1, 1))
    held = mesh.coordinates()[0] == 0
    step = p1_step(pde, mesh, 0.3, substeps=2, dirichlet=held)
    u = random_state(mesh).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: step(u).square(), (u,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda u: step(u).square(), (u,))
    v = random_state(mesh, seed=5)
    forward = torch.func.jvp(step, (u.detach(),), (v,))[1]
    assert torch.equal(forward, step(v))
    (adjoint,) = torch.autograd.grad(step(u), u, forward)
    assert float((adjoint * v).sum()) == pytest.approx(float(forward.square().sum()), rel=1e-12)
    # Both samples at once: the mapped axis must not be mistaken for the batch axis.
    stack = torch.stack([u.detach(), v, u.detach() - v])
    mapped = torch.func.vmap(step)(stack)
    assert torch.allclose(mapped, torch.stack([step(s) for s in stack]), atol=1e-13)


def test_each_sample_may_have_its_own_parameters() -> None:
    mesh = rectangle((2.0, 2.0), 0.3, seed=0)
    u = random_state(mesh, batch=3)
    kappa = torch.tensor([0.05, 0.2, 0.8])
    velocity = rotation(mesh) * torch.tensor([1.0, -1.0, 0.5]).reshape(3, 1, 1)
    together = p1_step(AdvectionDiffusion(velocity, kappa), mesh, 0.1, dirichlet=())(u)
    for i in range(3):
        alone = p1_step(AdvectionDiffusion(velocity[i : i + 1], float(kappa[i])), mesh, 0.1, dirichlet=())
        assert torch.allclose(together[i : i + 1], alone(u[i : i + 1]), rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="built for 3 samples.*batch of 2"):
        p1_step(Heat(kappa), mesh, 0.1, dirichlet=())(u[:2])


def test_precision_pickling_and_description() -> None:
    mesh = rectangle((2.0, 2.0), 0.2, seed=0)
    step = p1_step(AdvectionDiffusion(rotation(mesh), 0.001), mesh, 0.1, substeps=3)
    assert (step.dt, step.domain, step.channels, step.substeps) == (0.1, mesh, ("concentration",), 3)
    assert "SUPG" in step.method and "SDIRK2" in step.method
    u = random_state(mesh)
    double, single = step(u), step(u.float())
    assert single.dtype == torch.float32
    assert float((double - single).abs().max()) < 2e-5  # rounding times the condition of M + dt A
    assert torch.equal(pickle.loads(pickle.dumps(step))(u), double)  # for worker processes


def test_refusals_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = rectangle((2.0, 2.0), 0.3, seed=0)
    pde = AdvectionDiffusion(rotation(mesh), 1e-3)
    with pytest.raises(ValueError, match=r"cell Peclet number .* oscillates above 1.*supg"):
        p1_step(pde, mesh, 0.1, stabilisation="none")
    with pytest.raises(ValueError, match="lumped=True with SUPG"):
        p1_step(pde, mesh, 0.1, lumped=True)
    with pytest.raises(ValueError, match=r"dt=-1.0"):
        p1_step(Heat(1.0), mesh, -1.0)
    with pytest.raises(ValueError, match="scheme 'rk4'; expected one of"):
        p1_step(Heat(1.0), mesh, 0.1, scheme="rk4")
    with pytest.raises(TypeError, match="Burgers; it solves Heat"):
        p1_step(Burgers(0.1), mesh, 0.1)
    with pytest.raises(ValueError, match="requires a gradient"):
        p1_step(Heat(torch.tensor([1.0], requires_grad=True)), mesh, 0.1)
    with pytest.raises(ValueError, match=r"velocity of shape \(1, 2, 7\)"):
        p1_step(AdvectionDiffusion(torch.ones(1, 2, 7), 1.0), mesh, 0.1)
    with pytest.raises(ValueError, match="mask of shape"):
        p1_step(Heat(1.0), mesh, 0.1, dirichlet=torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=rf"expected \(B, C, {mesh.shape[0]}\)"):
        p1_step(Heat(1.0), mesh, 0.1)(torch.zeros(1, 1, 3))
    lonely = Mesh(torch.cat([mesh.points, torch.tensor([[5.0, 5.0]])]), mesh.cells)
    with pytest.raises(ValueError, match="belong to a cell; remove the others"):
        p1_step(Heat(1.0), lonely, 0.1)
    monkeypatch.setitem(sys.modules, "skfem", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sciml\[fem\]'"):
        p1_step(Heat(1.0), mesh, 0.1)
