"""Acoustics and Maxwell's equations in varying media: exact discrete laws, layers, refusals, gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sciml.domains import Grid
from sciml.pdes import Acoustics, AcousticScattering, Heat, Maxwell, MaxwellTE, MaxwellTM
from sciml.resample import resample
from sciml.solvers import build
from sciml.solvers.verify import verify
from sciml.solvers.verify.suites.waves import interface
from sciml.solvers.waves import PML, Leapfrog, Sponge, acoustic, numerical_frequency, volumes, yee
from sciml.step import rollout

CLOSED = (("wall", "wall"), ("periodic", "periodic"), ("wall", "wall"))


def field(grid: Grid, low: float, high: float, seed: int, samples: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, 1, *grid.shape)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def noise(step: Leapfrog, samples: int = 1, seed: int = 0) -> Tensor:
    """A rough state of the fields, zero where walls hold it."""
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, len(step.offsets), *step.domain.shape)
    return step.from_centres(torch.randn(shape, generator=generator, dtype=torch.float64))


def cells(*shape: int, boundary: Any = "periodic") -> Grid:
    return Grid(shape, tuple(n / 10 for n in shape), boundary=boundary, centering="cell")


def make(kind: type[Any], grid: Grid, dt: float, samples: int = 1, **options: Any) -> Leapfrog:
    pde = kind(field(grid, 1.0, 3.0, 1, samples), field(grid, 0.7, 2.0, 2, samples))
    return acoustic(pde, grid, dt, **options) if kind is Acoustics else yee(pde, grid, dt, **options)


KINDS = [(Acoustics, (10,)), (Acoustics, (8, 7)), (Acoustics, (6, 5, 4))]
KINDS += [(MaxwellTM, (8, 7)), (MaxwellTE, (8, 7)), (Maxwell, (6, 5, 4))]


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_energy_and_the_way_back(kind: type[Any], shape: tuple[int, ...]) -> None:
    """At the limit itself: the energy stands still, and with one group turned round the way leads back."""
    grid = cells(*shape, boundary=CLOSED[: len(shape)])
    step = make(kind, grid, 1.0, cfl=0.999)
    u = noise(step)
    there = rollout(step, 20)(u)[:, -1]
    assert abs(float(step.energy(there) / step.energy(u)) - 1) < 1e-12  # rounding of some hundred substeps
    first = 1 if kind is Acoustics else len(kind.electric)
    sign = torch.ones(u.shape[1], dtype=u.dtype)
    sign[first:] = -1.0
    sign = sign.reshape(-1, *[1] * len(shape))
    back = sign * rollout(step, 20)(sign * there)[:, -1]
    assert float((back - u).abs().max()) < 1e-11


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_substeps_of_one_call_are_calls_of_their_own(kind: type[Any], shape: tuple[int, ...]) -> None:
    grid = cells(*shape, boundary=("outflow",) * len(shape))
    layer = PML(1, stretch=2.0, shift=1.0)
    four = make(kind, grid, 0.04, layer=layer, substeps=4)
    one = make(kind, grid, 0.01, layer=layer, substeps=1)
    u = four.start(noise(four))
    assert u.shape[1] == len(four.channels) > len(four.offsets)
    assert float((four(u) - rollout(one, 4)(u)[:, -1]).abs().max()) < 1e-13 * 50  # rounding


@pytest.mark.parametrize(("kind", "shape"), KINDS)
def test_translations_and_batches(kind: type[Any], shape: tuple[int, ...]) -> None:
    grid = cells(*shape)
    step = make(kind, grid, 0.3, samples=2)
    u = noise(step, samples=2)
    axes, shift = tuple(range(2, u.ndim)), tuple(range(2, 2 + len(shape)))
    moved_pde = type(step.pde)(
        *[getattr(step.pde, n).roll(shift, axes) for n in list(step.pde.__dataclass_fields__)[:2]]
    )
    moved = (acoustic if kind is Acoustics else yee)(moved_pde, grid, 0.3)
    assert torch.equal(moved(u.roll(shift, axes)), step(u).roll(shift, axes))
    second = type(step.pde)(*[getattr(step.pde, n)[1:] for n in list(step.pde.__dataclass_fields__)[:2]])
    alone = (acoustic if kind is Acoustics else yee)(second, grid, 0.3, substeps=step.substeps)
    assert torch.equal(alone(u[1:]), step(u)[1:])


def test_mirror_and_rotation_of_staggered_sound() -> None:
    grid = cells(9, 9, boundary="wall")
    density, modulus = field(grid, 1.0, 3.0, 1), field(grid, 0.7, 2.0, 2)
    step = acoustic(Acoustics(density, modulus), grid, 0.5)
    u = noise(step)

    def mirrored(u: Tensor) -> Tensor:
        """x -> -x: pressures change places, faces about the middle, the normal velocity turns round."""
        vx = torch.cat([u[:, 1:2, :1], -u[:, 1:2, 1:].flip(2)], dim=2)
        return torch.cat([u[:, :1].flip(2), vx, u[:, 2:].flip(2)], dim=1)

    other = acoustic(Acoustics(density.flip(2), modulus.flip(2)), grid, 0.5)
    assert float((other(mirrored(u)) - mirrored(step(u))).abs().max()) < 1e-13  # rounding
    turned = acoustic(Acoustics(density.transpose(2, 3), modulus.transpose(2, 3)), grid, 0.5)
    swap = [0, 2, 1]
    assert (
        float((turned(u[:, swap].transpose(2, 3)) - step(u)[:, swap].transpose(2, 3)).abs().max()) < 1e-13
    )


def test_mirror_and_rotation_of_volumes() -> None:
    for boundary in ("wall", "outflow"):
        grid = cells(9, 9, boundary=boundary)
        density = field(grid, 1.0, 3.0, 1)
        u = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        sign = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64).reshape(1, 3, 1, 1)
        step = acoustic(Acoustics(density), grid, 0.5, scheme="volumes")
        other = acoustic(Acoustics(density.flip(2)), grid, 0.5, scheme="volumes")
        assert float((other(sign * u.flip(2)) - sign * step(u).flip(2)).abs().max()) < 1e-13  # rounding
        turned = acoustic(Acoustics(density.transpose(2, 3)), grid, 0.5, scheme="volumes")
        there = turned(u[:, [0, 2, 1]].transpose(2, 3))
        assert float((there - step(u)[:, [0, 2, 1]].transpose(2, 3)).abs().max()) < 1e-13


def test_volumes_keep_compression_and_momentum_and_lose_energy() -> None:
    grid = cells(10, 8)
    pde = Acoustics(field(grid, 0.3, 5.0, 1), field(grid, 0.5, 2.0, 2))
    u = torch.randn(1, 3, 10, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for reconstruction in ("godunov", "muscl", "fromm", "upwind5", "weno5"):
        step = acoustic(pde, grid, 0.5, scheme="volumes", reconstruction=reconstruction, cfl=1.0)
        last = rollout(step, 4)(u)[:, -1]
        before, after = pde.invariants(u, grid), pde.invariants(last, grid)
        for name in ("compression", "momentum_x", "momentum_y"):
            assert abs(float(after[name] - before[name])) < 1e-12  # rounding of sums of order one
        assert 0 < float(after["energy"]) < float(before["energy"])


def test_orders_of_reconstructions_along_a_line() -> None:
    """A wave that runs right round a line, whose cell averages are its values times a constant."""
    for reconstruction, order in (("fromm", 2), ("upwind5", 5), ("weno5", 5)):
        errors = []
        for n in (20, 40):
            grid = Grid((n,), (1.0,), centering="cell")
            p = torch.sin(2 * math.pi * grid.coordinates())[None]
            u = torch.cat([p, p], dim=1)
            # Steps that shrink as the error does, so that the third order in time does not show.
            count = 10 * math.ceil((n / 4) ** (5 / 3)) // 2
            step = acoustic(
                Acoustics(), grid, 1.0, scheme="volumes", reconstruction=reconstruction, substeps=count
            )  # type: ignore[arg-type]
            errors.append(float((step(u) - u).abs().max()))
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2), reconstruction


def test_the_riemann_solution_at_an_interface() -> None:
    """A wave p = Z1 v from the left: 2 Z2/(Z1 + Z2) of its pressure goes through."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    left, right = torch.cat([2.0 * one, one], dim=1), torch.zeros(1, 2, 1, dtype=torch.float64)
    pressure, velocity = volumes.between((left, 2.0 * one), (right, 6.0 * one))
    assert float(pressure) == pytest.approx(2.0 * 2 * 6 / 8) and float(velocity) == pytest.approx(0.5)


def test_cavity_of_a_perfect_conductor_rings_at_its_mode() -> None:
    """E_z = sin(m x) sin(n y) cos(omega t) in a box: exactly at the grid's frequency, to order two at its own."""
    errors = []
    for n in (16, 32):
        grid = Grid((n, n), (math.pi, math.pi), boundary="wall", centering="cell")
        step = yee(MaxwellTM(), grid, 1.0, substeps=n)
        u = step.sample(lambda x: torch.cat([torch.sin(2 * x[:, :1]) * torch.sin(x[:, 1:]), 0 * x], dim=1))
        last = step(u)
        swing = math.cos(numerical_frequency(1.0, (2.0, 1.0), grid.spacing, 1 / n))
        assert float((last[:, 0] - swing * u[:, 0]).abs().max()) < 1e-13  # rounding
        errors.append(abs(swing - math.cos(math.sqrt(5.0))))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_a_dielectric_reflects_as_fresnel_says() -> None:
    """Into refractive index 2 at a right angle: (1 - 2)/(1 + 2) of E returns."""
    n = 400
    grid = Grid((n, 2), (4.0, 0.02), boundary=("wall", "periodic"), origin=(-2.0, 0.0), centering="cell")
    x = grid.coordinates()[None]
    step = yee(MaxwellTM(torch.where(x[:, :1] < 0, 1.0, 4.0)), grid, 1.5)

    def pulse(x: Tensor) -> Tensor:
        e = torch.exp(-(((x[:, :1] + 0.75) / 0.15) ** 2))
        return torch.cat([e, 0 * e, -e], dim=1)  # H_y = -E_z runs to the right

    u = step(step.sample(pulse))[0, 0, :, 0]
    places = step.coordinates()[0, 0, :, 0]
    left = places < 0
    back = -torch.exp(-(((places + 0.75) / 0.15) ** 2)) / 3
    through = 2 / 3 * torch.exp(-(((places - 0.375) / 0.075) ** 2))
    # 15 and 7.5 cells to the pulse's width: a percent of the pulse, at second order.
    assert float((u - back)[left].abs().max()) < 0.01
    assert float((u - through)[~left].abs().max()) < 0.02


def test_cylindrical_waves_fall_with_the_root_of_the_distance() -> None:
    grid = Grid((160, 160), (160.0, 160.0), origin=-80.0, boundary="wall", centering="cell")
    step = acoustic(Acoustics(), grid, 30.0)
    u = step.sample(lambda x: torch.cat([torch.exp(-x.square().sum(1, keepdim=True) / 16.0), 0 * x], dim=1))
    near = step(u)
    far = step(near)
    ratio = float(far[0, 0].max() / near[0, 0].max())
    assert ratio == pytest.approx(
        math.sqrt(0.5), rel=0.02
    )  # the asymptotic law, at distances of ten widths


@pytest.mark.parametrize(
    "layer", [PML(8), PML(8, stretch=3.0, shift=0.5), PML(8, reflection=1e-30), Sponge(8)]
)
def test_layers_are_stable_at_the_limit(layer: PML | Sponge) -> None:
    grid = cells(18, 18, boundary="outflow")
    probe = make(MaxwellTM, grid, 1.0, layer=layer)
    step = make(MaxwellTM, grid, 200 * probe.limit * (1 - 1e-9), layer=layer, substeps=200)
    u = step.start(noise(step))
    last = rollout(step, 4)(u)[:, -1]
    assert float(step.fields(last).abs().max()) < 2 * float(u.abs().max())


def test_a_sponge_takes_what_comes_straight() -> None:
    """Against a line so long that nothing returns; without the layer everything would."""
    finals = []
    for n, side in ((120, "outflow"), (360, "wall")):
        grid = Grid((n,), (float(n),), boundary=(("wall", side),), centering="cell")
        for scheme in ("staggered", "volumes"):
            layer = Sponge(20) if side == "outflow" else None
            step = acoustic(Acoustics(), grid, 140.0, scheme=scheme, layer=layer, substeps=200)  # type: ignore[arg-type]

            def pulse(x: Tensor) -> Tensor:
                p = torch.exp(-2 * ((x - 50) / 20) ** 2) * torch.cos(math.pi * (x - 50) / 10)
                return torch.cat([p, p], dim=1)

            u = step.sample(pulse) if isinstance(step, Leapfrog) else pulse(grid.coordinates()[None])
            finals.append(step(u)[0, 0, :80])
    assert float((finals[0] - finals[2]).abs().max()) < 5e-5
    assert float((finals[1] - finals[3]).abs().max()) < 1e-4


def test_open_ends_of_a_line_let_waves_go() -> None:
    """To the order of the scheme; by volumes but for the short waves that limiters make."""
    grid = Grid((200,), (200.0,), boundary="outflow", centering="cell")
    for scheme, level in (("staggered", 3e-3), ("volumes", 1e-4)):
        for sign in (1.0, -1.0):
            step = acoustic(Acoustics(2.0, 0.5), grid, 500.0, scheme=scheme)  # type: ignore[arg-type]

            def pulse(x: Tensor, sign: float = sign) -> Tensor:
                p = torch.exp(-(((x - 100) / 12) ** 2))
                return torch.cat([p, sign * p], dim=1)

            u = step.sample(pulse) if isinstance(step, Leapfrog) else pulse(grid.coordinates()[None])
            assert float(step(u)[:, 0].abs().max()) < level, (scheme, sign)


@pytest.mark.parametrize(
    ("kind", "dimension"), [(Acoustics, 2), (MaxwellTM, 2), (MaxwellTE, 2), (Maxwell, 3)]
)
def test_staggered_fields_keep_their_places_between_grids(kind: type[Any], dimension: int) -> None:
    """Second order; taken for averages of cells, what lies on faces is half a cell off."""
    errors: list[tuple[float, float]] = []
    for n in (8, 16):
        coarse, fine = (Grid((m,) * dimension, (1.0,) * dimension, centering="cell") for m in (n, 4 * n))
        states = []
        for grid in (coarse, fine):
            step = yee(kind(), grid, 1e-3) if kind is not Acoustics else acoustic(kind(), grid, 1e-3)
            fields = []
            for place in step.offsets:
                index = torch.meshgrid(
                    *[torch.arange(m, dtype=torch.float64) for m in grid.shape], indexing="ij"
                )
                x = [(i + at) * h for i, at, h in zip(index, place, grid.spacing, strict=True)]
                fields.append(torch.stack([torch.sin(2 * math.pi * v + 0.3) for v in x]).prod(dim=0))
            states.append(torch.stack(fields)[None])
        errors.append(
            (
                float((resample(states[1], fine, coarse, step.low_faces) - states[0]).abs().max()),
                float((resample(states[1], fine, coarse) - states[0]).abs().max()),
            )
        )
    right, wrong = zip(*errors, strict=True)
    assert math.log2(right[0] / right[1]) > 1.9
    assert math.log2(wrong[0] / wrong[1]) < 1.3


def test_centres_and_positions() -> None:
    """Means there and back are exact for linear fields away from walls, and second order otherwise."""
    errors = []
    for n in (16, 32):
        grid = Grid((n,) * 3, (2 * math.pi,) * 3, centering="cell")
        step = yee(Maxwell(), grid, 0.01)

        def wave(x: Tensor) -> Tensor:
            s = torch.sin(x[:, :1] + x[:, 1:2] + x[:, 2:])
            return torch.cat([(i + 1) * s for i in range(6)], dim=1)

        centred = wave(grid.coordinates()[None])
        errors.append(float((step.to_centres(step.sample(wave)) - centred).abs().max()))
        assert float((step.from_centres(centred) - step.sample(wave)).abs().max()) < 2 * errors[-1]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)
    assert tuple(step.coordinates().shape) == (6, 3, 32, 32, 32)


def random_directions(function: Any, inputs: tuple[Tensor, ...]) -> bool:
    """gradcheck along random directions, which takes two evaluations instead of two per number."""
    return torch.autograd.gradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("kind", [Acoustics, MaxwellTM, MaxwellTE])
def test_gradients(kind: type[Any]) -> None:
    """In the state with a layer; in the medium without one, whose strength takes the fastest wave as given."""
    solver: Any = acoustic if kind is Acoustics else yee
    grid = cells(6, 5, boundary=("outflow", "wall"))
    step = make(kind, grid, 0.05, layer=PML(2, shift=0.5), substeps=3)
    state = step.start(noise(step)).requires_grad_()
    assert random_directions(step, (state,))
    closed = cells(6, 5, boundary=("periodic", "wall"))
    start = noise(make(kind, closed, 0.05))
    medium = tuple(field(closed, 0.5, 2.0, seed).requires_grad_() for seed in (1, 2, 3))
    count = 2 if kind is Acoustics else 3
    assert random_directions(lambda *m: solver(kind(*m), closed, 0.05, substeps=3)(start), medium[:count])


@pytest.mark.parametrize("reconstruction", ["fromm", "upwind5"])
def test_gradients_of_volumes(reconstruction: Any) -> None:
    grid = cells(6, 5, boundary=("outflow", "wall"))
    u = torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u[:, 3] = field(grid, 1.0, 3.0, 1)[0]

    def run(v: Tensor) -> Tensor:
        pde = AcousticScattering(1.5)
        return acoustic(pde, grid, 0.05, scheme="volumes", substeps=2, reconstruction=reconstruction)(v)

    assert random_directions(run, (u.requires_grad_(),))


def test_gradient_of_a_hundred_substeps_against_differences() -> None:
    grid = cells(24, 20, boundary=("wall", "outflow"))
    base, direction = field(grid, 1.0, 3.0, 1), field(grid, -1.0, 1.0, 2)
    layer = PML(3)

    def misfit(density: Tensor) -> Tensor:
        step = acoustic(Acoustics(density, 1.0), grid, 2.0, layer=layer, substeps=100)
        return step.fields(step(step.start(noise(step))))[:, 0].square().sum()

    density = base.clone().requires_grad_()
    (slope,) = torch.autograd.grad(misfit(density), density)
    h = 1e-5
    # The lightest cell sets the layer's strength, which differences see: they must leave it alone.
    direction = torch.where(base == base.min(), 0.0, direction)
    found = (misfit(base + h * direction) - misfit(base - h * direction)) / (2 * h)
    assert float((slope * direction).sum()) == pytest.approx(float(found), rel=1e-5)


def test_a_state_that_blows_up_leaves_the_others_alone() -> None:
    grid = cells(8, 8)
    step = build(AcousticScattering(1.0), grid, 0.2)
    u = torch.ones(2, 4, 8, 8, dtype=torch.float64)
    u[:, :3] = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alone = step(u[:1])
    u[1, 3, 2, 2] = -1.0
    both = step(u)
    assert torch.equal(both[:1], alone) and not bool(torch.isfinite(both[1]).all())


def test_build_explains_itself() -> None:
    sound = build(Acoustics(), cells(8, 8), 0.1)
    assert "exact acoustic Riemann" in sound.method and "0.05" in sound.reason and sound.substeps == 4
    light = build(Maxwell(), cells(8, 8, 8, boundary="outflow"), 0.1)
    assert "Sponge of 2 cells" in light.method and len(light.channels) == 6
    with pytest.raises(ValueError, match="a substep of 0.1 exceeds the limit 0.05 .* at least 2 substeps"):
        build(Acoustics(), cells(8, 8), 0.1, substeps=1)


def test_refusals() -> None:
    square, shut = cells(8, 8, boundary="outflow"), cells(8, 8)
    for kind, name in (
        (Acoustics, "density"),
        (Acoustics, "bulk_modulus"),
        (AcousticScattering, "bulk_modulus"),
        (Maxwell, "permittivity"),
        (MaxwellTM, "permeability"),
        (MaxwellTE, "permittivity"),
    ):
        with pytest.raises(ValueError, match=f"{kind.__name__} got {name}=-1.*at least 0"):
            kind(**{name: -1.0})
        with pytest.raises(ValueError, match=f"{kind.__name__} got {name}=0; expected values above 0"):
            kind(**{name: torch.tensor([1.0, 0.0])})
    with pytest.raises(ValueError, match="conductivity=-0.1; expected finite values of at least 0"):
        Maxwell(conductivity=-0.1)
    with pytest.raises(ValueError, match=r"0.1 exceeds the limit 0.07071 .* at least 2 substeps"):
        acoustic(Acoustics(), shut, 0.1, substeps=1)
    with pytest.raises(ValueError, match=r"0.1 exceeds the limit 0.07071 .* at least 2 substeps"):
        yee(MaxwellTE(), shut, 0.1, substeps=1)
    with pytest.raises(ValueError, match=r"PML of 4 cells, 8 with both ends of axis x, which has 8 cells"):
        yee(MaxwellTM(), square, 0.1, layer=PML(4))
    with pytest.raises(ValueError, match="no side 'outflow' to put it at"):
        acoustic(Acoustics(), shut, 0.1, layer=Sponge(2))
    with pytest.raises(ValueError, match="without a layer to absorb"):
        yee(MaxwellTM(), square, 0.1)
    with pytest.raises(ValueError, match="a PML for volumes, which know no memory"):
        acoustic(Acoustics(), square, 0.1, scheme="volumes", layer=PML(2))
    with pytest.raises(ValueError, match="volumes', or Acoustics"):
        acoustic(AcousticScattering(), shut, 0.1)
    with pytest.raises(ValueError, match="expected Maxwell, MaxwellTM or MaxwellTE"):
        yee(Heat(), shut, 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="3 axes|2 axes"):
        yee(Maxwell(), shut, 0.1)
    with pytest.raises(ValueError, match=r"field of shape \(1, 1, 7, 8\) for the medium"):
        acoustic(Acoustics(torch.ones(1, 1, 7, 8)), shut, 0.1)
    with pytest.raises(ValueError, match=r"field of shape \(1, 1, 7, 8\) for the medium"):
        acoustic(Acoustics(torch.ones(1, 1, 7, 8)), shut, 0.1, scheme="volumes")
    with pytest.raises(ValueError, match="sides .'dirichlet'.; it knows"):
        acoustic(Acoustics(), cells(8, 8, boundary="dirichlet"), 0.1)
    with pytest.raises(ValueError, match=r"which adds the empty memory"):
        acoustic(Acoustics(), square, 0.1, layer=PML(2))(torch.ones(1, 3, 8, 8))
    for wrong, message in (
        ({"cells": 0}, "cells=0; expected a whole number"),
        ({"order": 0.5}, "order=0.5; expected at least 1"),
        ({"reflection": 1.0}, "reflection=1.0; expected between 0 and 1"),
        ({"stretch": 0.5}, "stretch=0.5; expected 1 or more"),
        ({"shift": -1.0}, "shift=-1.0; expected 0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            PML(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "factor"), [(Acoustics, 1.01), (MaxwellTM, -1.0)])
def test_wrong_signs_and_coefficients_fail_their_certificate(
    kind: type[Any], factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One derivative of the first field, one per cent too strong or the wrong way round."""
    right = Leapfrog._difference

    def wrong(self: Leapfrog, f: Tensor, term: Any) -> Tensor:
        return (factor if term.axis == 0 and term.target == 0 else 1.0) * right(self, f, term)

    monkeypatch.setattr(Leapfrog, "_difference", wrong)
    failed = {c.name for c in verify(kind).checks if not c.passed}
    assert "order of the rate of change in a varying medium" in {name.split(", ")[0] for name in failed}


def test_a_wrong_riemann_solution_is_seen_at_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    def swapped(left: Any, right: Any) -> Any:
        """The pressure takes the velocities the wrong way round."""
        pressure, _ = right_one((left[0] * sign, left[1]), (right[0] * sign, right[1]))
        return pressure, right_one(left, right)[1]

    right_one, sign = volumes.between, torch.tensor([1.0, -1.0]).reshape(1, 2, 1)
    errors = {}
    for name, function in (("right", right_one), ("wrong", swapped)):
        monkeypatch.setattr(volumes, "between", function)
        errors[name] = interface(lambda pde, grid, dt: acoustic(pde, grid, dt, scheme="volumes"), 200)
    assert max(errors["right"]) < 0.2 < max(errors["wrong"])
