"""Meshes of simple regions, made without external programs."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
import torch
from scipy.spatial import Delaunay
from torch import Tensor

from sciml.domains import Mesh, NodeType

Size = Callable[[np.ndarray], np.ndarray]  # points (K, 2) -> wished edge length (K,)
Inside = Callable[[np.ndarray, np.ndarray], np.ndarray]  # points (K, 2), margin (K,) -> bool (K,)


def minimum_angle(mesh: Mesh) -> float:
    """Smallest angle of all triangles [degree].

    Raises:
        ValueError: the mesh is not of triangles.
    """
    if mesh.dimension != 2:
        raise ValueError(f"minimum_angle got a mesh in {mesh.dimension}D; expected triangles.")
    corners = mesh.points[mesh.cells]
    to_next = torch.roll(corners, -1, dims=1) - corners
    to_last = torch.roll(corners, 1, dims=1) - corners
    cross = to_next[..., 0] * to_last[..., 1] - to_next[..., 1] * to_last[..., 0]
    return float(torch.rad2deg(torch.atan2(cross.abs(), (to_next * to_last).sum(-1))).min())


def _graded_segment(start: tuple[float, float], end: tuple[float, float], size: Size) -> np.ndarray:
    """Points along a segment, without its end, as far apart as `size` wishes."""
    a, b = np.asarray(start), np.asarray(end)
    s = np.linspace(0, 1, 2001)
    density = 1 / size(a + s[:, None] * (b - a))
    count = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(s))])
    count *= np.linalg.norm(b - a)
    pieces = max(2, round(count[-1]))
    places = np.interp(np.arange(pieces) * count[-1] / pieces, count, s)
    return a + places[:, None] * (b - a)


def _triangulate(points: np.ndarray, inside: Inside) -> np.ndarray:
    """Delaunay triangles whose centroid lies inside, (M, 3)."""
    cells = Delaunay(points).simplices
    centroids = points[cells].mean(axis=1)
    return cells[inside(centroids, np.zeros(len(cells)))]


def _edges(cells: np.ndarray) -> np.ndarray:
    return np.unique(
        np.sort(np.concatenate([cells[:, [0, 1]], cells[:, [1, 2]], cells[:, [2, 0]]]), axis=1), axis=0
    )


def _relax(
    boundary: np.ndarray, low: np.ndarray, high: np.ndarray, size: Size, inside: Inside, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fill a region with points as dense as `size` wishes and let springs even them out.

    The points start on a disturbed triangular lattice, thinned at random to the wished density, and move along
    the forces of the edges of their Delaunay triangulation, each pushing as long as it is shorter than
    its wished length (Persson and Strang 2004, SIAM Review 46, section 2). The boundary points stay.

    Returns points (N, 2), boundary first, and cells (M, 3).
    """
    rng = np.random.default_rng(seed)
    finest = float(size(boundary).min())
    xs = np.arange(low[0], high[0], finest)
    ys = np.arange(low[1], high[1], finest * math.sqrt(3) / 2)
    lattice = np.stack(np.meshgrid(xs, ys, indexing="xy"), axis=-1)
    lattice[1::2, :, 0] += finest / 2
    free = lattice.reshape(-1, 2)
    free = free + 0.3 * finest * (rng.random(free.shape) - 0.5)
    free = free[inside(free, 0.6 * size(free))]
    free = free[rng.random(len(free)) < (finest / size(free)) ** 2]
    fixed = len(boundary)
    points = np.concatenate([boundary, free])
    moved = np.full_like(points, np.inf)
    cells = edges = np.zeros((0, 3), dtype=int)
    for iteration in range(300):
        # A new triangulation only after some point has moved by a tenth of its spacing.
        if (np.linalg.norm(points - moved, axis=1) > 0.1 * size(points)).any():
            moved = points.copy()
            cells = _triangulate(points, inside)
            edges = _edges(cells)
        vector = points[edges[:, 0]] - points[edges[:, 1]]
        length = np.linalg.norm(vector, axis=1)
        wish = size(points[edges].mean(axis=1))
        # 1.2: bars longer than they end up keep everything under slight compression, which spreads it.
        wish *= 1.2 * math.sqrt((length**2).sum() / (wish**2).sum())
        force = (np.maximum(wish - length, 0) / length)[:, None] * vector
        total = np.zeros_like(points)
        np.add.at(total, edges[:, 0], force)
        np.add.at(total, edges[:, 1], -force)
        total[:fixed] = 0
        step = 0.2 * total
        trial = points + step
        # A point that would leave, or come too close to the boundary, stays where it is.
        stays = ~inside(trial, 0.4 * size(trial))
        stays[:fixed] = True
        trial[stays] = points[stays]
        points = trial
        if iteration % 30 == 29 and iteration < 240:
            # Where bars are squeezed to half of their wish there is a point too many.
            squeezed = edges[(length < 0.5 * wish)]
            squeezed = squeezed[squeezed.max(axis=1) >= fixed].max(axis=1)
            if len(squeezed):
                points = np.delete(points, np.unique(squeezed), axis=0)
                moved = np.full_like(points, np.inf)
        elif np.linalg.norm(step[fixed:], axis=1).max() < 1e-3 * finest:
            break
    for _ in range(10):
        # Each inner point to the mean of the centroids around it, weighted by their area: rounds off
        # the thin triangles which springs leave behind.
        cells = _triangulate(points, inside)
        corners = points[cells]
        u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        centroid = corners.mean(axis=1)
        weight = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) / size(centroid) ** 2
        total, count = np.zeros_like(points), np.zeros(len(points))
        for corner in range(3):
            np.add.at(total, cells[:, corner], weight[:, None] * centroid)
            np.add.at(count, cells[:, corner], weight)
        points[fixed:] += 0.5 * (total[fixed:] / count[fixed:, None] - points[fixed:])
    return points, _triangulate(points, inside)


def _check_positive(name: str, **values: float) -> None:
    wrong = {key: value for key, value in values.items() if not (math.isfinite(value) and value > 0)}
    if wrong:
        raise ValueError(f"{name} got {wrong}; expected positive numbers.")


def rectangle(lengths: tuple[float, float], spacing: float, seed: int = 0) -> Mesh:
    """An unstructured Delaunay mesh of the rectangle [0, Lx] x [0, Ly]; its sides are WALL_BOUNDARY.

    Args:
        lengths: the sides [length].
        spacing: wished edge length [length].
        seed: of the first arrangement of the points.

    Raises:
        ValueError: a length or the spacing is not positive, or the spacing is more than half a side.
    """
    width, height = (float(length) for length in lengths)
    _check_positive("rectangle", width=width, height=height, spacing=spacing)
    if spacing > min(width, height) / 2:
        raise ValueError(
            f"rectangle got spacing {spacing} for sides {lengths}; it may be half of the shorter at most."
        )

    def size(x: np.ndarray) -> np.ndarray:
        return np.full(len(x), spacing)

    def inside(x: np.ndarray, margin: np.ndarray) -> np.ndarray:
        gap = np.minimum.reduce([x[:, 0], width - x[:, 0], x[:, 1], height - x[:, 1]])
        return gap > margin

    corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    boundary = np.concatenate(
        [_graded_segment(a, b, size) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    )
    points, cells = _relax(boundary, np.zeros(2), np.array([width, height]), size, inside, seed)
    node_type = torch.full((len(points),), int(NodeType.NORMAL))
    node_type[: len(boundary)] = int(NodeType.WALL_BOUNDARY)
    return Mesh(torch.from_numpy(points), torch.from_numpy(cells.astype(np.int64)), node_type)


def box(
    lengths: tuple[float, float, float], shape: tuple[int, int, int], jitter: float = 0.15, seed: int = 0
) -> Mesh:
    """A mesh of tetrahedra of the box [0, Lx] x [0, Ly] x [0, Lz]; its sides are WALL_BOUNDARY.

    Each cuboid of a grid is cut into the six tetrahedra along its diagonal (Kuhn), and inner nodes are
    then moved at random, so that nothing cancels by symmetry.

    Args:
        lengths: the sides [length].
        shape: number of cuboids per axis.
        jitter: largest move of an inner node along an axis, in cuboid sides, 0 to 0.2.
        seed: of the moves.

    Raises:
        ValueError: sizes are not positive, or the jitter is out of its range.
    """
    _check_positive("box", **{f"length_{i}": length for i, length in enumerate(lengths)})
    if len(lengths) != 3 or len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"box got lengths {lengths} and shape {shape}; expected three of each, positive.")
    if not 0 <= jitter <= 0.2:
        raise ValueError(f"box got jitter {jitter}; expected 0 to 0.2, beyond which cells may turn over.")
    index = torch.stack(
        torch.meshgrid(*[torch.arange(n + 1) for n in shape], indexing="ij"), dim=-1
    ).reshape(-1, 3)
    counts = torch.tensor(shape)
    spacing = torch.tensor(lengths, dtype=torch.float64) / counts
    inner = ((index > 0) & (index < counts)).all(dim=1)
    generator = torch.Generator().manual_seed(seed)
    moves = (2 * torch.rand(len(index), 3, generator=generator, dtype=torch.float64) - 1) * jitter
    points = (index + moves * inner.unsqueeze(1)) * spacing
    strides = torch.tensor([(shape[1] + 1) * (shape[2] + 1), shape[2] + 1, 1])
    first = index[(index < counts).all(dim=1)] @ strides
    cells = []
    for order in permutations(range(3)):
        path = [first]
        for axis in order:
            path.append(path[-1] + strides[axis])
        cells.append(torch.stack(path, dim=1))
    node_type = torch.where(inner, int(NodeType.NORMAL), int(NodeType.WALL_BOUNDARY))
    return Mesh(points, torch.cat(cells), node_type)


def channel_with_cylinder(
    length: float = 3.0,
    height: float = 1.0,
    centre: tuple[float, float] = (0.7, 0.48),
    radius: float = 0.15,
    spacing: float = 0.06,
    refinement: float = 2.0,
    seed: int = 0,
) -> Mesh:
    """A channel [0, length] x [0, height] with a circular obstacle, meshed more finely around it.

    The proportions recall the benchmark of Schaefer and Turek (1996), with the channel's height as the
    unit and a wider obstacle, slightly off the middle. About a thousand nodes by default. The left side,
    corners included, is INFLOW, the right one without its corners OUTFLOW, the others WALL_BOUNDARY, the
    circle OBSTACLE; it is a polygon with its corners on the circle.

    Args:
        length, height: sides of the channel [length].
        centre, radius: of the obstacle [length].
        spacing: wished edge length far from the obstacle [length].
        refinement: how many times finer the mesh is at the obstacle.
        seed: of the first arrangement of the points.

    Raises:
        ValueError: a size is not positive, the obstacle comes closer than 1.5 of its edges to a side, or
            the mesh that came out has an angle below 25 degrees or types without nodes.
    """
    sizes = {"length": length, "height": height, "radius": radius, "spacing": spacing}
    _check_positive("channel_with_cylinder", refinement=refinement, **sizes)
    x0, y0 = (float(c) for c in centre)
    fine = min(spacing / refinement, 2 * math.pi * radius / 12)
    gap = min(x0, length - x0, y0, height - y0) - radius
    if gap < 1.5 * fine:
        raise ValueError(
            f"channel_with_cylinder got a circle of radius {radius} at {centre} in a channel of "
            f"{length} x {height}; it must keep a gap of at least {1.5 * fine:.3g} to each side."
        )
    if spacing > height / 4:
        raise ValueError(
            f"channel_with_cylinder got spacing {spacing}; expected at most a quarter of the height {height}."
        )
    origin = np.array([x0, y0])

    def size(x: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(x - origin, axis=1) - radius
        return np.minimum(spacing, fine + 0.2 * np.maximum(distance, 0))

    pieces = math.ceil(2 * math.pi * radius / fine)
    angle = 2 * math.pi * np.arange(pieces) / pieces
    circle = origin + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    apothem = radius * math.cos(math.pi / pieces)

    def inside(x: np.ndarray, margin: np.ndarray) -> np.ndarray:
        side = np.minimum.reduce([x[:, 0], length - x[:, 0], x[:, 1], height - x[:, 1]])
        # Triangles across a chord have their centroid beyond the chord, seen from the centre.
        return np.minimum(side, np.linalg.norm(x - origin, axis=1) - apothem) > margin

    corners = [(0.0, 0.0), (length, 0.0), (length, height), (0.0, height)]
    sides = [_graded_segment(a, b, size) for a, b in zip(corners, corners[1:] + corners[:1], strict=True)]
    boundary = np.concatenate([*sides, circle])
    points, cells = _relax(boundary, np.zeros(2), np.array([length, height]), size, inside, seed)
    node_type = torch.full((len(points),), int(NodeType.NORMAL))
    outer = len(boundary) - pieces
    node_type[:outer] = int(NodeType.WALL_BOUNDARY)
    node_type[outer : len(boundary)] = int(NodeType.OBSTACLE)
    x = torch.from_numpy(points)
    on_side = torch.arange(len(points)) < outer
    on_wall = on_side & ((x[:, 1] == 0) | (x[:, 1] == height))
    node_type[on_side & (x[:, 0] == length) & ~on_wall] = int(NodeType.OUTFLOW)
    node_type[on_side & (x[:, 0] == 0)] = int(NodeType.INFLOW)
    mesh = Mesh(x, torch.from_numpy(cells.astype(np.int64)), node_type)
    angle_found = minimum_angle(mesh)
    if angle_found < 25:
        raise ValueError(
            f"channel_with_cylinder made a mesh whose smallest angle is {angle_found:.1f} degrees, below 25; "
            "take another seed, a smaller spacing, or a refinement closer to 1."
        )
    return mesh


def channel_inflow(height: float = 1.0, mean: float = 1.0) -> Callable[[Tensor], Tensor]:
    """Parabolic profile 6 mean y (H - y)/H^2 along x, a function of points (D, K) -> velocities (D, K)."""

    def profile(x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        out[0] = 6 * mean * x[1] * (height - x[1]) / height**2
        return out

    return profile
