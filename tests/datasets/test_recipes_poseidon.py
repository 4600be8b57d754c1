"""The recipes after Poseidon's data and The Well's Gray-Scott set: what their starts are, and that all of them run."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import sciml.datasets as datasets
from sciml import Grid
from sciml.calculus import Spectral
from sciml.datasets.generate import draw_batch, layout, solve
from sciml.datasets.recipe import channels_of, known_recipes, load_recipe
from sciml.datasets.recipes._gray_scott import WavesOrClusters
from sciml.datasets.recipes._poseidon import (
    CELLS,
    NODES,
    GaussianVortices,
    Partition,
    Patches,
    coefficients_of,
    flow_of,
    on_points,
    vorticity_of,
    wavenumbers,
)
from sciml.datasets.recipes.poseidon_ace import HalfWaves
from sciml.datasets.recipes.poseidon_fns_kf import FORCE
from sciml.datasets.recipes.poseidon_helmholtz import HelmholtzInMedium
from sciml.datasets.recipes.poseidon_ns_sines import SineFlow
from sciml.datasets.recipes.poseidon_ns_svs import VortexSheet
from sciml.datasets.recipes.poseidon_wave_gauss import OPEN_CELLS, WavesInMedium
from sciml.datasets.recipes.poseidon_wave_gauss import volumes as wave_volumes
from sciml.pdes import AcousticScattering, CompressibleEuler
from sciml.solvers.waves import acoustic

OURS = tuple(n for n in known_recipes() if n.startswith(("poseidon_", "gray_scott_")))
FLOWS = tuple(n for n in OURS if n.startswith(("poseidon_ns", "poseidon_fns")))
GASES = tuple(n for n in OURS if n.startswith("poseidon_ce"))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(name: str, index: int = 0, shape: tuple[int, int] | None = None) -> Tensor:
    """Initial state (C, *points) of a sample."""
    recipe = load_recipe(name)
    assert isinstance(recipe.domain, Grid)
    domain = recipe.domain if shape is None else recipe.domain.resized(shape)
    _, fields, inputs = layout(recipe)
    return recipe.draw("train", index, domain, channels_of(inputs or fields, domain))[1]


def test_the_family_is_listed() -> None:
    sets = (
        "ns_sines ns_gauss ns_pwc ns_sl ns_svs ns_bb fns_kf ce_rp ce_crp ce_kh ce_gauss ce_rpui ce_rm ace "
    )
    sets += "wave_gauss wave_layer poisson_gauss helmholtz"
    patterns = ["gliders", "bubbles", "maze", "worms", "spirals", "spots"]
    assert set(OURS) == {f"poseidon_{s}" for s in sets.split()} | {f"gray_scott_{p}" for p in patterns}


@pytest.mark.parametrize("name", OURS)
def test_a_small_sample_is_made_twice_alike_and_is_admissible(name: str) -> None:
    recipe = load_recipe(name)
    assert isinstance(recipe.domain, Grid)
    steps = min(2, recipe.steps_of("train"))
    # Coarse grids see coarse states: short frames, as the fastest gases cross many of these cells in one.
    small = replace(
        recipe,
        domain=recipe.domain.resized((32, 32)),
        resolution_factor=1,
        warmup=0,
        dt=recipe.dt / 5,
        steps=steps,
        bounds={},
        source=None,
    )
    domain, fields, inputs = layout(small)
    made = []
    for _ in range(2):
        parameters, u = draw_batch(small, "train", [(0, 0)], domain)
        made.append(solve(small, parameters, u, domain, steps, small.substeps, domain))
    assert torch.equal(made[0].states, made[1].states) and made[0].faults == (None,)
    states = made[0].states[0].double()
    assert states.shape == (steps + 1, channels_of(fields, domain), 32, 32)
    assert bool(torch.isfinite(states).all())
    if name in GASES:
        w = CompressibleEuler(1.4).primitive(states)
        assert float(w[:, 0].min()) > 0 and float(w[:, -1].min()) > 0
    if not inputs:
        assert float((states[-1] - states[0]).abs().max()) > 1e-6
    other = small.draw("train", 1, domain, u.shape[1])[1]
    assert not torch.equal(u[0], other)


@pytest.mark.parametrize("name", FLOWS)
def test_flows_start_without_divergence_or_mean_and_are_the_same_on_any_grid(name: str) -> None:
    u = drawn(name).unsqueeze(0)
    assert float(u.mean(dim=(2, 3)).abs().max()) < 1e-12
    calc = Spectral(NODES)
    scale = float(calc.curl(u).abs().max())
    assert float(calc.div(u.unsqueeze(1)).abs().max()) < 1e-11 * scale
    # A velocity on the torus has no mean vorticity.
    assert abs(float(calc.curl(u).mean())) < 1e-11 * scale
    assert torch.allclose(drawn(name, shape=(256, 256))[:, ::2, ::2], u[0], atol=1e-11)
    # The speed of the pre-training sets, which the numbers of the others are held against.
    assert 0.2 < float(u.square().mean().sqrt()) < 1.0


def test_sines_are_the_part_without_divergence_of_the_published_sums() -> None:
    n, generator = 10, seeded(3)
    size = 2 * torch.rand(n, n, generator=generator, dtype=torch.float64) - 1
    b, g = 2 * math.pi * torch.rand(2, n, n, 1, 1, generator=generator, dtype=torch.float64)
    x, y = NODES.coordinates()
    u = torch.zeros(2, *NODES.shape, dtype=torch.float64)
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            c = size[i - 1, j - 1] / math.sqrt(2 * math.pi * (i + j))
            along, across = (
                2 * math.pi * i * x + b[i - 1, j - 1],
                2 * math.pi * j * y + g[i - 1, j - 1],
            )
            u[0] += c * torch.sin(along) * torch.sin(across)
            u[1] += c * torch.cos(along) * torch.cos(across)
    expected = Spectral(NODES).solenoidal(u.unsqueeze(0))[0]
    assert torch.allclose(SineFlow()(NODES, 2, seeded(3)), expected, atol=1e-12)


def test_velocity_and_vorticity_are_inverse_and_averages_over_cells_are_exact() -> None:
    w = GaussianVortices(count=5, widths=(0.05, 0.1))(seeded(0))
    w[63, 0] = 0.0  # the mean, which no flow has
    assert torch.allclose(vorticity_of(flow_of(w)), w, atol=1e-12)
    field = on_points(w, NODES)
    assert torch.allclose(coefficients_of(field), w, atol=1e-12)
    assert torch.allclose(
        Spectral(NODES).curl(on_points(flow_of(w), NODES).unsqueeze(0))[0, 0], field, atol=1e-9
    )
    # Half of a cosine of one wave, averaged from 0 to dx: sin(2 pi dx)/(2 pi dx).
    one = torch.zeros_like(w)
    one[64, 0] = one[62, 0] = 0.5
    cells = on_points(one, CELLS)
    assert float(cells[0, 0]) == pytest.approx(math.sin(2 * math.pi / 128) / (2 * math.pi / 128), abs=1e-12)


def test_gaussian_vortices_are_the_sum_over_all_copies_of_the_box() -> None:
    vortices = GaussianVortices(count=3, widths=(0.05, 0.1))
    found = on_points(vortices(seeded(1)), NODES)
    generator = seeded(1)
    strength = 2 * torch.rand(3, generator=generator, dtype=torch.float64) - 1
    width = 0.05 + 0.05 * torch.rand(3, generator=generator, dtype=torch.float64)
    place = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    x, y = NODES.coordinates()
    expected = torch.zeros_like(x)
    for a, s, (px, py) in zip(strength, width, place.T, strict=True):
        for i in (-1, 0, 1):
            for j in (-1, 0, 1):
                square = (x - px - i).square() + (y - py - j).square()
                expected += a / s * torch.exp(-square / (2 * s * s))
    assert torch.allclose(found, expected, atol=1e-6)


def test_patches_of_vorticity_are_constant_in_each_square() -> None:
    patches = Patches(count=4, strength=2.0)
    # Averages over 16 x 16 cells, four to a square and axis: what is left are the waves beyond the 63rd.
    w = on_points(patches(seeded(2)), CELLS.resized((128, 128)))
    values = 4 * torch.rand(4, 4, generator=seeded(2), dtype=torch.float64) - 2
    squares = torch.nn.functional.avg_pool2d(w.unsqueeze(0), 32)[0]
    assert torch.allclose(squares, values, atol=0.05)
    middle = w.reshape(4, 32, 4, 32)[:, 8:24, :, 8:24]
    assert float((middle - values[:, None, :, None]).abs().max()) < 0.1


def test_the_vortex_sheet_has_its_length_as_circulation_and_lies_on_its_curve() -> None:
    sheet = VortexSheet(amplitude=1e-9)
    w = sheet(seeded(0))
    x = torch.arange(4096, dtype=torch.float64) / 4096
    length = torch.sqrt(1 + (0.4 * math.pi * torch.cos(2 * math.pi * x)).square()).mean()
    assert float(w[63, 0].real) == pytest.approx(float(length), rel=1e-7)
    field = on_points(w, NODES)
    a, b = NODES.coordinates()
    away = (b - 0.5 - 0.2 * torch.sin(2 * math.pi * a)).abs()
    # The spline reaches 5/128 across the curve, which leans by up to 0.4 pi.
    beyond = away > 5 / 128 * math.hypot(1, 0.4 * math.pi) + 0.02
    assert float(field[beyond].abs().max()) < 0.02 * float(field.max())
    assert float(sheet.spread()[63, 0]) == pytest.approx(1.0)


def test_rough_flows_decay_as_they_should() -> None:
    energy = torch.zeros(64)
    for seed in range(4):
        u = drawn("poseidon_ns_bb", seed)
        k, m = wavenumbers()
        spectrum = coefficients_of(u).abs().square().sum(dim=0)
        shell = torch.hypot(k, m).round().long()
        for size in (4, 8, 16, 32):
            energy[size] += float(spectrum[shell == size].mean())
    # Amplitudes like |k|^(-3/2): squares fall by 8 per octave.
    for size in (4, 8, 16):
        assert float(energy[size] / energy[2 * size]) == pytest.approx(8.0, rel=0.3)


def test_the_force_of_kolmogorov_flow_is_across_its_wave() -> None:
    x = NODES.coordinates().unsqueeze(0)
    force = FORCE.velocity(x)
    wave = 0.1 * torch.sin(2 * math.pi * (x[:, 0] + x[:, 1]))
    assert torch.allclose(force[:, 0], wave / math.sqrt(2)) and torch.allclose(force[:, 1], -force[:, 0])
    assert float(Spectral(NODES).div(force.unsqueeze(1)).abs().max()) < 1e-11


def primitive(u: Tensor) -> Tensor:
    """Density, velocity and pressure (4, *cells)."""
    return CompressibleEuler(1.4).primitive(u.unsqueeze(0))[0]


def test_quadrants_are_uniform_and_in_their_ranges() -> None:
    w = primitive(drawn("poseidon_ce_rp"))
    parts = w.reshape(4, 2, 64, 2, 64)
    assert torch.allclose(parts, parts[:, :, :1, :, :1].expand_as(parts), atol=1e-12)
    assert float(w[[0, 3]].min()) >= 0.1 and float(w[[0, 3]].max()) <= 1.0
    assert float(w[1:3].abs().max()) <= 1.0 and len(torch.unique(w[0].round(decimals=9))) == 4


@pytest.mark.parametrize("name", ["poseidon_ce_crp", "poseidon_ce_rpui"])
def test_curved_parts_have_four_states_that_borders_average(name: str) -> None:
    w = primitive(drawn(name))
    values, count = torch.unique(w[0].round(decimals=9), return_counts=True)
    whole = count > 64
    assert int(whole.sum()) == 4 and float(count[whole].sum()) / w[0].numel() > 0.8
    # Periodic: one box further along either axis everything is the same, but for points that rounding moves.
    initial = load_recipe(name).initial
    assert isinstance(initial, Partition)
    u = initial(CELLS, 4, seeded(5))
    for origin in ((1.0, 0.0), (0.0, 1.0)):
        assert float((initial(replace(CELLS, origin=origin), 4, seeded(5)) - u).abs().mean()) < 1e-3


def test_straight_borders_are_curved_ones_without_bend() -> None:
    bent = Partition(bend=1e-12)(CELLS, 4, seeded(5))
    assert (
        float((bent - Partition()(CELLS, 4, seeded(5))).abs().max()) < 3.0
    )  # rounding may move a point of a border
    assert float((bent - Partition()(CELLS, 4, seeded(5))).abs().mean()) < 0.05


def test_streams_and_blast_are_what_they_are_called() -> None:
    w = primitive(drawn("poseidon_ce_kh"))
    assert float(w[0].min()) == pytest.approx(1.0) and float(w[0].max()) == pytest.approx(2.0)
    inner, outer = w[:, :, 44:84], torch.cat([w[:, :, :24], w[:, :, -24:]], dim=2)
    assert torch.allclose(inner[0], torch.full_like(inner[0], 2.0)) and float(
        inner[1].max()
    ) == pytest.approx(-0.5)
    assert torch.allclose(outer[0], torch.ones_like(outer[0])) and float(outer[1].min()) == pytest.approx(
        0.5
    )
    w = primitive(drawn("poseidon_ce_rm"))
    assert float(w[1:3].abs().max()) == 0.0
    # Areas of the hot disc and, on average over its waves, of the dense one.
    assert float((w[3] - 1).mean() / 19) == pytest.approx(math.pi * 0.01, rel=0.02)
    assert float((w[0] - 1).mean()) == pytest.approx(math.pi * 0.0625, rel=0.15)
    gas = primitive(drawn("poseidon_ce_gauss"))
    assert torch.allclose(gas[0], torch.full_like(gas[0], 0.1), atol=1e-12)
    assert float(gas[3].mean()) == pytest.approx(2.5, rel=0.01)
    # Energy, not pressure, is averaged over cells: the flow is smooth, and the difference below a percent.
    assert float(gas[1:3].mean(dim=(1, 2)).abs().max()) < 1e-9


def test_phases_start_small_and_zero_on_two_sides() -> None:
    u = HalfWaves()(NODES, 1, seeded(0))
    assert float(u.abs().max()) < 0.1 and float(u[0, 0].abs().max()) == 0.0 == float(u[0, :, 0].abs().max())
    recipe = load_recipe("poseidon_ace")
    assert recipe.constants["reaction"] == 48400.0 and recipe.dt * 19 == pytest.approx(2e-4)


def test_media_stand_still_and_waves_run_in_them_as_in_known_ones() -> None:
    for name in ("poseidon_wave_gauss", "poseidon_wave_layer"):
        u = drawn(name, shape=(32, 32))
        assert float(u[1:3].abs().max()) == 0.0 and 1.5 <= float(u[3].min()) <= float(u[3].max()) < 12.5
        assert float(u[0].min()) >= 0.0 and 0.5 < float(u[0].max()) < 6.0
    layers = drawn("poseidon_wave_layer")[3]
    values, count = torch.unique(layers.round(decimals=9), return_counts=True)
    assert 3 <= int((count > 128).sum()) <= 6 and float(values.min()) >= 2.0 and float(values.max()) <= 5.0
    # In an even medium they are those of AcousticScattering with modulus and density of one speed.
    grid = OPEN_CELLS.resized((32, 32))
    u = drawn("poseidon_wave_gauss", shape=(32, 32)).unsqueeze(0)
    u[:, 3] = 2.0
    ours = wave_volumes(WavesInMedium(), grid, 0.02, None)(u)
    other = acoustic(
        AcousticScattering(4.0), grid, 0.02, scheme="volumes", reconstruction="upwind5", cfl=0.9
    )
    theirs = other(torch.cat([u[:, :3], torch.ones_like(u[:, :1])], dim=1))
    assert torch.allclose(ours[:, :3], theirs[:, :3], atol=1e-12) and torch.equal(ours[:, 3], u[:, 3])


def test_helmholtz_solutions_have_their_values_on_the_sides_and_no_residual() -> None:
    recipe = load_recipe("poseidon_helmholtz")
    grid = Grid((65, 65), (1.0, 1.0), boundary="dirichlet")
    a = recipe.draw("train", 1, grid, 2)[1].unsqueeze(0)
    assert float(a[:, 0].min()) >= 1e-6 and float(a[:, 0].max()) == 1.0
    value = float(a[0, 1, 0, 0])
    assert 0.25 <= value <= 0.5 and torch.all(a[:, 1] == value)
    pde = recipe.equation({}, grid)
    assert isinstance(pde, HelmholtzInMedium)
    u = recipe.solver(pde, grid, 0.0, None)(a)
    sides = torch.cat([u[..., 0], u[..., -1], u[:, :, 0], u[:, :, -1]], dim=-1)
    assert torch.allclose(sides, torch.full_like(sides, value), atol=1e-12)
    h, middle = 1 / 64, u[..., 1:-1, 1:-1]
    laplacian = (
        u[..., 2:, 1:-1] + u[..., :-2, 1:-1] + u[..., 1:-1, 2:] + u[..., 1:-1, :-2] - 4 * middle
    ) / h**2
    residual = -laplacian - (2.5 * math.pi) ** 2 * a[:, :1, 1:-1, 1:-1] * middle
    assert float(residual.abs().max()) < 1e-6 * float(laplacian.abs().max())


def test_numbers_of_sources_have_the_geometric_mean() -> None:
    recipe = load_recipe("poseidon_poisson_gauss")
    grid = Grid((9, 9), (1.0, 1.0), boundary="dirichlet")
    total = 0.0
    for index in range(400):
        generator = recipe.generator("train", index)
        draw = float(torch.rand(1, generator=generator, dtype=torch.float64))
        total += 1 + int(math.log1p(-draw) / math.log1p(-0.4))
        if index < 3:
            f = recipe.draw("train", index, grid, 1)[1]
            assert f.shape == (1, 9, 9) and float(f.min()) >= 0.0
    # 1/0.4 of a deviation of 1.94, four standard errors.
    assert total / 400 == pytest.approx(2.5, abs=4 * 1.94 / 20)


def test_patterns_start_between_nothing_and_one_in_sparse_patches() -> None:
    grid = Grid((64, 64), (2.0, 2.0), origin=-1.0)
    clusters = 0
    for seed in range(8):
        a, b = WavesOrClusters()(grid, 2, seeded(seed))
        assert (
            float(a.min()) >= 0.0
            and float(a.max()) <= 1.0
            and float(b.min()) >= 0.0
            and float(b.max()) <= 1.0
        )
        assert 0.001 < float(b.mean()) < 0.35 and float(b.max()) > 0.5
        clusters += not torch.allclose(a + b, torch.ones_like(a))
    assert 0 < clusters < 8
    maze = load_recipe("gray_scott_maze")
    assert maze.constants["feed"] == 0.029 and maze.constants["kill"] == 0.057
    assert maze.dt * maze.steps_of("train") == 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in OURS if n.startswith("gray_scott_")])
def test_each_pattern_lives(name: str) -> None:
    """Catalyst dies out from starts that are too rich or too thin."""
    recipe = replace(load_recipe(name), samples={"train": 2}, source=None)
    domain, _, _ = layout(recipe)
    parameters, u = draw_batch(recipe, "train", [(i, 0) for i in range(4)], domain)
    out = solve(recipe, parameters, u, domain, 100, 10, domain).states[:, -1, 1]
    assert bool((out.amax(dim=(1, 2)) > 0.25).all())


def test_recipes_say_what_theirs_are() -> None:
    for name in OURS:
        recipe = load_recipe(name)
        assert isinstance(recipe, datasets.Recipe)
        assert ("Poseidon" in recipe.title) == name.startswith("poseidon_")
        assert recipe.citation.startswith(("Poseidon", "The Well"))
