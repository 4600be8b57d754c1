"""Finite-volume steps for conservation laws on meshes of triangles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
from torch import Tensor

from sciml.calculus.base import Calculus
from sciml.domains import Conditions, Inflow, Mesh
from sciml.errors import UserError
from sciml.pdes.admissible import HasAdmissible
from sciml.pdes.base import ConservationLaw
from sciml.pdes.scalar_law import ScalarLaw
from sciml.pdes.shallow_water import ShallowWater
from sciml.solvers.finite_volume.diffusion import HasDiffusion
from sciml.solvers.finite_volume.formulas import half_slope
from sciml.solvers.finite_volume.march import CellStep, TimeName, check_options
from sciml.solvers.finite_volume.mesh_dual import MedianDual, at, median_dual
from sciml.solvers.finite_volume.mesh_faces import Faces, vector_channels
from sciml.solvers.finite_volume.mesh_limiters import LIMITERS, along
from sciml.solvers.finite_volume.mesh_sides import WALL, checked_sides, entering
from sciml.solvers.finite_volume.riemann import (
    RIEMANN,
    RiemannName,
    choose_riemann,
    fastest,
    rusanov,
)
from sciml.solvers.finite_volume.step import HasPrimitive

if TYPE_CHECKING:
    from sciml.solvers.build import Solver

LimiterName = Literal["monotonised", "barth-jespersen", "venkatakrishnan", "none"]


class MeshFiniteVolume(CellStep):
    """A Step that advances averages over the control volumes of nodes (B, C, N) by `dt`.

    Use `finite_volume_on_mesh` to make one. See `CellStep` for what it tells of itself.

    Attributes:
        dual: the control volumes.
        sides: what each boundary facet is, in words.
    """

    domain: Mesh
    maker = "finite_volume_on_mesh"

    def __init__(
        self,
        pde: ConservationLaw,
        mesh: Mesh,
        dt: float,
        *,
        cfl: float,
        limiter: LimiterName,
        riemann: str,
        time: TimeName,
        sides: Sequence[str],
        conditions: Conditions,
        substeps: int | None,
        max_substeps: int,
        calculus: Calculus | None,
    ) -> None:
        super().__init__(pde, mesh, dt, cfl=cfl, substeps=substeps, max_substeps=max_substeps, time=time)
        self.limiter, self.riemann = limiter, riemann
        self.method = f"finite volumes around nodes, {limiter} gradients + {riemann} + {time.upper()}"
        self.dual = median_dual(mesh)
        self.sides = tuple(sides)
        self._flux = RIEMANN[riemann]
        self._primitive = pde if isinstance(pde, HasPrimitive) else None
        self._admissible = pde if isinstance(pde, HasAdmissible) else None
        self._calculus = calculus
        # The halves of the boundary facets by what they are.
        halves = [self.sides[facet] for facet in self.dual.facet.tolist()]
        self._walls = torch.tensor([name == WALL for name in halves], dtype=torch.bool)
        self._entering: list[tuple[Tensor, Tensor]] = []
        for name, condition in conditions.items():
            assert isinstance(condition, Inflow)  # refused at the door otherwise
            value = entering(name, condition, self.channels, len(mesh.points))
            self._entering.append((torch.tensor([i for i, n in enumerate(halves) if n == name]), value))
        self._duals: dict[tuple[torch.dtype, torch.device], MedianDual] = {}

    def __repr__(self) -> str:
        return f"MeshFiniteVolume({self.pde}, {self.domain.shape[0]} nodes, dt={self.dt}, {self.method})"

    def admissible(self, u: Tensor) -> Tensor | None:
        return None if self._admissible is None else self._admissible.admissible(u)

    def rate(self, u: Tensor, first_order: Tensor | None = None) -> Tensor:
        """Right-hand side of the semi-discrete scheme, (B, C, N) -> (B, C, N) [u / time].

        Args:
            u: averages around the nodes.
            first_order: (B, 1, N), nodes of which all fluxes are Rusanov's of averages: those keep density and pressure
                of a gas positive, and scalars within bounds, at CFL numbers up to one.
        """
        dual = self._dual(u)
        rate = -dual.divergence(self.fluxes(u, first_order) * dual.area)
        if self._calculus is not None or self.pde.source_is_local:
            # Local sources leave it alone.
            source = self.pde.source(u, cast(Calculus, self._calculus))
            rate = rate if source is None else rate + source
        return rate

    def fluxes(self, u: Tensor, first_order: Tensor | None = None) -> Tensor:
        """Flux per area through each face along its normal, (B, C, N) -> (B, C, E + 2K), see `MedianDual`."""
        dual = self._dual(u)
        faces = Faces(self.pde, dual.normal)
        primitive = self._primitive is not None
        w = self._primitive.primitive(u) if self._primitive is not None else u
        marked = None
        if first_order is not None:
            marked = at(first_order, dual.owner) | at(first_order, dual.other)
        left, right = self._states(w, dual, faces, marked)
        flux = self._flux.flux(faces.law, *self._as(left, right, primitive, self._flux.primitive), 0)
        if marked is not None:
            robust = rusanov(faces.law, *self._as(left, right, primitive, False), 0)
            flux = torch.where(marked, robust, flux)
        if isinstance(self.pde, ScalarLaw):  # a mirror would close walls to vectors alone
            flux = torch.where(self._on_walls(dual), 0.0, flux)
        return faces.restored(flux)

    def courant(self, u: Tensor) -> Tensor:
        """Largest sum over the faces of a node of fastest wave times area, by twice its volume, (B,) [1/time].

        On squares cut into triangles it is that of `finite_volume`, the sum over axes of speed by spacing. The rate at
        which a source damps is added.
        """
        dual = self._dual(u)
        faces = Faces(self.pde, dual.normal)
        left, right = faces.turned(at(u, dual.owner)), faces.turned(at(u, dual.other))
        count = dual.edges
        right = torch.cat(
            (right[..., :count], self._beyond(left[..., count:], dual, faces, primitive=False)), dim=2
        )
        speed = fastest(faces.law, left, right, 0)
        rate = dual.gathered(speed * dual.area) / (2.0 * dual.volume)
        return (rate + self.pde.source_rate(u)).flatten(1).amax(dim=1)

    def _states(
        self, w: Tensor, dual: MedianDual, faces: Faces, marked: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """States on both sides of each face, turned, (B, C, E + 2K)."""
        count = dual.edges
        edges, halves = slice(0, count), slice(count, None)
        near, far = at(w, dual.owner), at(w, dual.other)
        gradient = dual.gradient_of_jumps(far[..., edges] - near[..., edges])
        if self.limiter in LIMITERS:
            gradient = gradient * LIMITERS[self.limiter](w, gradient, dual).unsqueeze(2)
        ahead, behind = (
            faces.turned(along(gradient, dual, node[edges]), edges) for node in (dual.owner, dual.other)
        )
        near, far = faces.turned(near), faces.turned(far)
        jump = far - near
        step = jump[..., edges]
        if self.limiter == "monotonised":
            # Along the edge, with the jump that a node would see behind itself if its gradient lay between the two.
            # Turned, so that nothing depends on how the axes lie.
            to_middle, to_here = half_slope(2.0 * ahead - step, step), half_slope(2.0 * behind - step, step)
        else:
            to_middle, to_here = 0.5 * ahead, 0.5 * behind
        left, right = near[..., edges] + to_middle, far[..., edges] - to_here
        # Linear functions are integrated exactly around a boundary node with what is found a sixth of the way along its
        # facet: with fluxes at the middles of edges that makes Galerkin's elements of them.
        inside = near[..., halves] + jump[..., halves] / 6.0
        if marked is not None:
            left, right = (
                torch.where(marked[..., edges], own, w)
                for own, w in ((near[..., edges], left), (far[..., edges], right))
            )
            inside = torch.where(marked[..., halves], near[..., halves], inside)
        outside = self._beyond(inside, dual, faces, primitive=self._primitive is not None)
        return torch.cat((left, inside), dim=2), torch.cat((right, outside), dim=2)

    def _beyond(self, inside: Tensor, dual: MedianDual, faces: Faces, *, primitive: bool) -> Tensor:
        """States beyond the boundary, turned: mirrored at walls, as inside at outflows, or what enters."""
        count = dual.edges
        halves = slice(count, None)
        walls = self._on_walls(dual)[count:]
        outside = torch.where(walls, faces.mirrored(inside, halves), inside)
        for index, value in self._entering:
            index, state = index.to(inside.device), value.to(inside).unsqueeze(0)
            if primitive and self._primitive is not None:
                # Here, not at the door: a tensor that learns gets its gradient in every call.
                state = self._primitive.primitive(state)
            here, there = dual.owner[count:][index], dual.other[count:][index]
            if state.shape[2] == 1:
                state = state.expand(-1, -1, len(index))
            else:
                state = (5.0 * at(state, here) + at(state, there)) / 6.0
            whole = state.new_zeros(*state.shape[:2], inside.shape[2]).index_copy(2, index, state)
            enters = torch.zeros_like(walls).index_fill(0, index, True)
            outside = torch.where(enters, faces.turned(whole, halves), outside)
        return outside

    def _on_walls(self, dual: MedianDual) -> Tensor:
        """Which faces are walls, (E + 2K,) of bools."""
        walls = self._walls.to(dual.area.device)
        return torch.cat((torch.zeros(dual.edges, dtype=torch.bool, device=walls.device), walls))

    def _as(self, left: Tensor, right: Tensor, given: bool, wanted: bool) -> tuple[Tensor, Tensor]:
        """Face states as primitive or conserved variables."""
        law = self._primitive
        if law is None or given == wanted:
            return left, right
        convert = law.primitive if wanted else law.conservative
        return convert(left), convert(right)

    def _spread(self, marked: Tensor) -> Tensor:
        """The nodes and their neighbours along every edge."""
        dual = self._dual(marked)
        count = dual.edges
        owner, other = dual.owner[:count], dual.other[:count]
        found = marked.to(torch.int8)
        for node, far in ((owner, other), (other, owner)):
            near = at(marked, far).to(torch.int8)
            found = found.scatter_reduce(2, node.expand_as(near), near, "amax")
        return found.bool()

    def _dual(self, u: Tensor) -> MedianDual:
        """The control volumes in the precision and on the device of a state."""
        dtype = u.dtype if u.is_floating_point() else torch.float64
        key = (dtype, u.device)
        if key not in self._duals:
            self._duals[key] = self.dual.like(torch.empty(0, dtype=dtype, device=u.device))
        return self._duals[key]


def finite_volume_on_mesh(
    pde: ConservationLaw,
    mesh: Mesh,
    dt: float,
    *,
    cfl: float = 0.8,
    limiter: LimiterName = "monotonised",
    riemann: RiemannName = "auto",
    time: TimeName = "ssprk2",
    sides: str | Sequence[str] | None = None,
    conditions: Conditions | None = None,
    substeps: int | None = None,
    max_substeps: int = 100_000,
    calculus: Calculus | None = None,
) -> MeshFiniteVolume:
    """A Step that solves u_t + div F(u) = S(u) on a mesh of triangles, for averages around its nodes.

    States are (B, C, N) with one value per node, as finite elements and graph networks have them: the control volumes
    are those of the median dual, one flux goes along each edge of the mesh, and `Mesh.weights` are their volumes.
    Linear reconstruction along edges from least-squares gradients, in primitive variables where the law has them; a
    Riemann solver in the direction of each face; a strong-stability-preserving method in time. On the boundary fluxes
    are those between the state found on the facet and what lies beyond, so that values of boundary nodes are not held:
    a supersonic inflow sets what enters, a subsonic one also lets sound out.

    Conserves the weighted sum over nodes to rounding: within walls mass and energy, and of scalars all. Preserves a
    uniform state to rounding, except at walls that it runs into. Second order on smooth flows, also on irregular
    meshes, first order at shocks. Corners of walls and shocks leave traces of the size of a cell. Differentiable, also
    in the states that enter; limiters have kinks. What `finite_volume` says of blow-up, of first-order fluxes where
    states would not be admissible (`fallbacks`, `lost`) and of substeps of each sample for itself holds here too.

    The sides of the mesh follow from its node types: WALL_BOUNDARY, OBSTACLE and AIRFOIL are walls with slip (of a
    scalar nothing passes them), through INFLOW a given state enters, through OUTFLOW what comes leaves (zero gradient).
    Types of other boundary nodes, NORMAL among them, say nothing and are refused. Where types do not say enough, `sides`
    names each facet:

        middles = mesh.points[mesh.boundary_facets].mean(dim=1)
        sides = ["inflow" if x < 1e-9 else "wall" for x, y in middles.tolist()]
        step = finite_volume_on_mesh(
            CompressibleEuler(), mesh, dt=0.1, sides=sides, conditions={"inflow": Inflow((1.4, 4.2, 0.0, 8.8))}
        )

    Args:
        pde: the law; of shallow water that over a flat bed without friction, of gases that without.
        mesh: triangles.
        dt: time of one Step [time].
        cfl: Courant number of a substep, at most 1: see `MeshFiniteVolume.courant`.
        limiter: "monotonised" (central along each edge, at most twice the smaller jump and none at extrema; turned with
            the mesh the solution turns), "barth-jespersen" or "venkatakrishnan" (one factor per node and channel; they
            look at components along the axes), or "none" for smooth flows.
        riemann: "rusanov" (any law), "hll" (laws with `wave_bounds`), "hllc" and "roe" (ideal gases), "hlld" (IdealMHD),
            "exact" (scalar laws with `sonic_points`), or "auto": HLLC for gases, HLLD for IdealMHD, exact or HLL for
            scalars, else Rusanov.
        time: "ssprk2" or "ssprk3".
        sides: "wall", "outflow", or the name of a state that enters, for each of `mesh.boundary_facets` or one for all;
            None goes by the types of nodes.
        conditions: what enters, by the name of its side: `{"inflow": Inflow(state)}` with a conserved state (C,), or a
            field (C, N) of which the nodes of the side are read.
        substeps: equal substeps of each Step; None chooses.
        max_substeps: samples that need more in one Step are taken as blown up and become NaN.
        calculus: given to the law's source, such as `P1(mesh)`; needed only by laws that have one with derivatives.

    Raises:
        ValueError: an argument is out of range or unknown, the domain is no mesh of triangles, its boundary is not
            told, a scheme is asked of a law that it does not know; on a call, that the state is not admissible, or with
            fixed `substeps` has a CFL number above 1.

    Barth and Jespersen, AIAA paper 89-0366 (1989); for the boundary and for edges: Selmin and Formaggia, Int. J. Numer.
    Methods Eng. 39 (1996).
    """
    name = type(pde).__name__
    if not isinstance(mesh, Mesh):
        raise ValueError(
            f"finite_volume_on_mesh got a {type(mesh).__name__}; expected a Mesh. On a Grid use finite_volume."
        )
    check_options(
        "finite_volume_on_mesh",
        dt,
        cfl,
        substeps,
        max_substeps,
        {
            "limiter": (limiter, get_args(LimiterName)),
            "riemann": (riemann, get_args(RiemannName)),
            "time": (time, get_args(TimeName)),
        },
    )
    if mesh.dimension != 2 or 2 not in pde.dimensions:
        raise ValueError(
            f"finite_volume_on_mesh got {name} on a mesh in {mesh.dimension}D; expected triangles in 2D and a law that "
            "lives there. In 3D there are grids: use finite_volume."
        )
    vector_channels(pde)
    if isinstance(pde, HasDiffusion):
        raise ValueError(
            f"finite_volume_on_mesh got {name}, whose friction it does not know. Use a law without, such as "
            "CompressibleEuler, or finite_volume on a grid."
        )
    if isinstance(pde, ShallowWater):
        if not pde.is_flat or pde.has_friction:
            raise ValueError(
                "finite_volume_on_mesh got ShallowWater with a bed or friction; it keeps no lake at rest over a bed. Use a "
                "flat one without friction, or shallow_water on a grid."
            )
    elif type(pde).source is not ConservationLaw.source and not pde.source_is_local and calculus is None:
        raise ValueError(
            f"{name} has a source; give finite_volume_on_mesh the calculus to evaluate it with, such as P1(mesh)."
        )
    names = checked_sides(mesh, sides, conditions)
    step = MeshFiniteVolume(
        pde,
        mesh,
        dt,
        cfl=cfl,
        limiter=limiter,
        riemann=choose_riemann(pde, riemann, "finite_volume_on_mesh"),
        time=time,
        sides=names,
        conditions=conditions or {},
        substeps=substeps,
        max_substeps=max_substeps,
        calculus=calculus,
    )
    for side, condition in (conditions or {}).items():
        assert isinstance(condition, Inflow)  # checked with the sides
        state = entering(side, condition, step.channels, len(mesh.points)).detach().unsqueeze(0)
        if state.shape[2] > 1:
            facets = [facet for facet, other in enumerate(names) if other == side]
            state = state[..., torch.unique(mesh.boundary_facets[facets])]
        if isinstance(pde, HasAdmissible) and not bool(pde.admissible(state).all()):
            bad = state[0][:, ~pde.admissible(state)[0, 0]][:, 0]
            raise ValueError(
                f"What enters through {side!r} is no state of {name}: {bad.tolist()}. Inflow takes the conserved channels "
                f"{step.channels}."
            )
    return step


def build_on_mesh(
    pde: ConservationLaw,
    mesh: Mesh,
    dt: float,
    cfl: float | None,
    substeps: int | None,
    conditions: Conditions | None,
) -> Solver:
    """What `build` takes: monotonised gradients, HLLC or the law's own flux, SSPRK2.

    Raises:
        UserError: no sound scheme; the message names the limit.
    """
    from sciml.solvers.build import Solver

    try:
        step = finite_volume_on_mesh(
            pde, mesh, dt, cfl=0.8 if cfl is None else cfl, substeps=substeps, conditions=conditions
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    count = (
        f"the substeps follow the fastest wave at CFL {step.cfl:g}"
        if substeps is None
        else f"{substeps} substeps were asked for"
    )
    reason = (
        f"{type(pde).__name__} is a conservation law, whose shocks finite volumes capture, here around the nodes of the "
        f"mesh; {count}."
    )
    return Solver(step, substeps, step.method, reason)
