"""What every surrogate has to beat: persistence, the training mean, and classical solvers on coarser grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Domain, Grid, Mesh
from sciml.errors import UserError
from sciml.experiments.contestants import Contestant, Course, from_step, same
from sciml.pdes.base import PDE
from sciml.resample import resample
from sciml.step import LowFaces, Step, low_faces_of, persistence

Solver = Callable[[Tensor], Tensor]
"""What takes states (B, C, *points) on its own points one step on."""


def persistence_baseline(like: Step) -> Contestant:
    """The state stays as it is."""
    return replace(from_step("persistence", persistence(like), "baseline"), timed=False)


def training_mean(mean: Tensor) -> Contestant:
    """The mean state (C, *points) or (C,) of the training data at every time."""

    def begin(u0: Tensor) -> Tensor:
        per_point = mean.reshape(*mean.shape, *[1] * (u0.ndim - 1 - mean.ndim)).to(u0)
        return per_point.expand_as(u0)

    course = Course(same, begin)
    return Contestant("training mean", "baseline", lambda samples: course, timed=False)


def through(
    step: Callable[[Tensor], Tensor],
    restrict: Callable[[Tensor], Tensor],
    prolong: Callable[[Tensor], Tensor],
) -> Course:
    """A solver on points of its own: it starts from the restricted state and is scored after prolongation.

    Its cost is that of its own step; carrying the states to the reference's points is the scoring's business.
    """
    return Course(step, lambda u0: restrict(u0.double()), prolong)


def coarse_grid_solvers(
    pde: Callable[[slice, Grid], PDE],
    grid: Grid,
    dt: float,
    *,
    factors: Sequence[int] = (1, 2, 4, 8),
    orders: Sequence[int] = (2, 4),
    own: Callable[[PDE, Grid, float], Solver] | None = None,
    build: Callable[..., Solver] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Contestant]:
    """The equation's own solver on the data's grid and on coarser ones, as cheap as its stability allows.

    Args:
        pde: samples and a grid -> the equation with their parameters there.
        grid: the points of the data.
        dt: time between frames.
        factors: the grid is made coarser by each of these where the numbers divide and four points remain.
        orders: orders in time for semi-linear equations on periodic nodes, each with a single step per frame.
        own: builder of the solver that made the data, with its conditions at the sides and steps of its own choice: what
            is taken where the points are not periodic nodes, or a single step is not stable. Without it `build`.
        build: solver builder, `sciml.solvers.build` unless given.
        say: told which resolution is left out, and why.
    """
    from sciml.solvers import build as default

    single = default if build is None else build
    found = []
    spectral = all(grid.periodic) and grid.centering == "node"
    for factor in factors:
        if any(n % factor or n // factor < 4 for n in grid.shape):
            continue
        coarse = grid.resized([n // factor for n in grid.shape])
        size = "x".join(str(n) for n in coarse.shape)
        known: set[str] = set()
        for order in orders if spectral else ():
            make = _maker(partial(single, order=order, substeps=1), pde, grid, coarse, dt)
            try:
                step, _ = make(slice(None))
            except UserError:  # one step per frame would blow up there
                continue
            method = getattr(step, "method", f"order {order}")
            if method in known:  # a linear equation is exact in time, whatever the order
                continue
            known.add(method)
            label = "exact in time" if "exact in time" in method else f"order {order}"
            found.append(Contestant(f"solver {label}, {size}", "solver", _second(make)))
        if known:
            continue
        make = _maker(single if own is None else own, pde, grid, coarse, dt)
        try:
            make(slice(None))
        except UserError as error:
            say(f"No classical solver on {size} points takes part: {error}")
        else:
            found.append(Contestant(f"solver {size}", "solver", _second(make)))
    return found


def _maker(
    build: Callable[[PDE, Grid, float], Solver],
    pde: Callable[[slice, Grid], PDE],
    grid: Grid,
    coarse: Grid,
    dt: float,
) -> Callable[[slice], tuple[Solver, Course]]:
    """Samples -> the step on the coarse grid, and the course that it makes on the data's grid."""

    def make(samples: slice) -> tuple[Solver, Course]:
        step = build(pde(samples, coarse), coarse, dt)
        faces = low_faces_of(step)
        return step, through(step, _resampler(grid, coarse, faces), _resampler(coarse, grid, faces))

    return make


def _second(make: Callable[[slice], tuple[Solver, Course]]) -> Callable[[slice], Course]:
    return lambda samples: make(samples)[1]


def _resampler(source: Grid, target: Grid, low_faces: LowFaces | None) -> Callable[[Tensor], Tensor]:
    return lambda u: resample(u, source, target, low_faces)


def coarse_mesh_solvers(
    make_step: Callable[[slice, Mesh], Solver], mesh: Mesh, coarser: Sequence[Mesh]
) -> list[Contestant]:
    """The equation's solver on the data's mesh and on coarser meshes of the same region.

    Args:
        make_step: builds the step on a mesh, for some samples.
        mesh: the data's mesh.
        coarser: further meshes.
    """
    found = [
        Contestant(
            f"solver {mesh.shape[0]} nodes", "solver", lambda samples: Course(make_step(samples, mesh))
        )
    ]
    for other in coarser:
        course = _between(make_step, mesh, other)
        found.append(Contestant(f"solver {other.shape[0]} nodes", "solver", course))
    return found


def _between(
    make_step: Callable[[slice, Mesh], Solver], mesh: Mesh, other: Mesh
) -> Callable[[slice], Course]:
    down, up = _apply(nodal_interpolation(mesh, other)), _apply(nodal_interpolation(other, mesh))
    return lambda samples: through(make_step(samples, other), down, up)


def _apply(matrix: Tensor) -> Callable[[Tensor], Tensor]:
    def product(u: Tensor) -> Tensor:
        flat = u.flatten(0, -2).to(matrix.dtype)
        return (matrix @ flat.T).T.reshape(*u.shape[:-1], matrix.shape[0])

    return product


def nodal_interpolation(source: Mesh, target: Mesh) -> Tensor:
    """Sparse matrix (N_target, N_source) that evaluates P1 functions of `source` at the nodes of `target`.

    Nodes that fall outside, beside a curved wall that the two meshes resolve differently, take the value of the
    nearest node. Triangles only.

    Raises:
        ValueError: the meshes are not two-dimensional.
    """
    if source.dimension != 2 or target.dimension != 2:
        raise ValueError(
            f"nodal_interpolation got meshes in {source.dimension}D and {target.dimension}D; expected triangles."
        )
    from matplotlib.tri import Triangulation
    from scipy.spatial import cKDTree

    points, cells = source.points.numpy(), source.cells.numpy()
    wanted = target.points.numpy()
    find = Triangulation(points[:, 0], points[:, 1], cells).get_trifinder()
    triangle = np.asarray(find(wanted[:, 0], wanted[:, 1]), dtype=np.int64)
    inside = triangle >= 0
    corners = points[cells[np.where(inside, triangle, 0)]]
    edges = np.stack([corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]], axis=-1)
    second = np.linalg.solve(edges, (wanted - corners[:, 0])[..., None])[..., 0]
    shares = np.concatenate([1 - second.sum(axis=1, keepdims=True), second], axis=1)
    columns = cells[np.where(inside, triangle, 0)].copy()
    nearest = cKDTree(points).query(wanted)[1]
    columns[~inside], shares[~inside] = nearest[~inside, None], np.array([1.0, 0.0, 0.0])
    rows = np.repeat(np.arange(len(wanted)), 3)
    return torch.sparse_coo_tensor(
        torch.from_numpy(np.stack([rows, columns.reshape(-1)])),
        torch.from_numpy(shares.reshape(-1)),
        (len(wanted), len(points)),
        dtype=torch.float64,
        check_invariants=True,
    ).coalesce()


def mean_of(states: Tensor, domain: Domain) -> Tensor:
    """Mean over samples and times, (B, T, C, *points) -> (C, *points); per channel on periodic grids.

    On a periodic box no point is special, so the spatial mean is the better guess from little data.
    """
    mean = states.double().mean(dim=(0, 1))
    if isinstance(domain, Grid) and all(domain.periodic):
        return mean.flatten(1).mean(dim=1)
    return mean
