"""Advection, friction and forces of a flow on a staggered grid."""

from __future__ import annotations

import torch
from torch import Tensor

from sciml.pdes import Boussinesq, NavierStokes
from sciml.pdes.forcings import shear_of
from sciml.pdes.parameters import Parameter, fit
from sciml.staggered.obstacles import Bodies
from sciml.staggered.operators import Staggered
from sciml.staggered.sides import face_coordinates


class Rates:
    """What changes the velocities on faces and the scalar in cells, but for the pressure.

    Terms are added to a state in place, times the length of a step: a stage of a Runge-Kutta method passes over the
    data as few times as it can. `wide` is the state with its ghosts (`Staggered.pad`).
    """

    def __init__(
        self,
        pde: NavierStokes | Boussinesq,
        faces: Staggered,
        bodies: Bodies | None,
        limited: bool,
    ) -> None:
        self.pde, self.faces, self.bodies, self.limited = pde, faces, bodies, limited
        self.grid, self._d = faces.grid, faces.dimension
        self.scalar = isinstance(pde, Boussinesq)
        self._plain: dict[int, Tensor] = {}
        self._force = self._force_on_faces()
        self._curvature = [1.0 / h**2 for h in self.grid.spacing]

    def add_all(self, new: Tensor, u: Tensor, wide: Tensor, h: float, friction: bool) -> Tensor:
        """new + h (everything but the pressure), in place."""
        if friction:
            new = self.add_friction(new, u, wide, h)
        return self.add_explicit(new, u, wide, h)

    def numbers(self, u: Tensor) -> Tensor | None:
        """Viscosity, diffusivity, buoyancy, background gradient and drag of each sample, (B, 5).

        None where they are not one number per sample, or somebody may ask for derivatives by one of them.
        """
        pde, recorded = self.pde, torch.is_grad_enabled()
        if recorded and self._force is not None and self._force.requires_grad:
            return None
        given: tuple[Parameter, ...]
        if isinstance(pde, Boussinesq):
            given = (pde.viscosity, pde.diffusivity, pde.buoyancy, pde.gradient, 0.0)
        else:
            given = (pde.viscosity, 0.0, 0.0, 0.0, pde.drag)
        if u.shape[0] in self._plain:
            return self._plain[u.shape[0]]
        out, plain = torch.zeros(u.shape[0], len(given), dtype=torch.float64), True
        for i, value in enumerate(given):
            if isinstance(value, Tensor):
                plain, value = False, fit(value, u)
                assert isinstance(value, Tensor)
                if value.numel() not in (1, u.shape[0]) or (recorded and value.requires_grad):
                    return None
                value = value.detach().flatten()
            out[:, i] = value
        if plain:
            self._plain[u.shape[0]] = out
        return out

    def force(self) -> Tensor | None:
        """The body force on all faces, (1 or B, D, *cells)."""
        return None if self._force is None else self._force.expand(-1, -1, *self.grid.shape)

    def add_explicit(self, new: Tensor, u: Tensor, wide: Tensor, h: float) -> Tensor:
        """new - h div(momentum and scalar fluxes) + h forces, (B, C, *cells), in place.

        Fluxes are products of two means, which keep the energy wherever the mean divergence of two cells is zero.
        Harlow and Welch, Phys. Fluids 8 (1965) 2182; Morinishi et al., J. Comput. Phys. 143 (1998) 90-124, (43).
        """
        d, shape = self._d, self.grid.shape
        # With gradients, each channel by itself: autograd copies the whole behind a change of a view.
        recorded = torch.is_grad_enabled()
        parts = [new[:, c : c + 1].clone() if recorded else new[:, c : c + 1] for c in range(new.shape[1])]
        # Twice the means of neighbours along each axis, N + 1 of them.
        sums = [wide.narrow(e + 2, 1, n + 1) + wide.narrow(e + 2, 0, n + 1) for e, n in enumerate(shape)]
        for e, n in enumerate(shape):
            own, k = self.inner(sums[e][:, e : e + 1], e), 0.25 * h / self.grid.spacing[e]
            _add_difference(parts[e], own, own, e + 2, n, -k)
            for c in range(e + 1, d):
                m = shape[c]
                # On the edges that low faces of the two axes share: (N_e + 1) x (N_c + 1).
                one = self.inner(sums[c][:, e : e + 1], e, c).narrow(e + 2, 1, n + 1)
                two = self.inner(sums[e][:, c : c + 1], e, c).narrow(c + 2, 1, m + 1)
                first, second = (x.narrow(c + 2, 0, m) for x in (one, two))
                _add_difference(parts[c], first, second, e + 2, n, -k)
                first, second = (x.narrow(e + 2, 0, n) for x in (one, two))
                _add_difference(parts[e], first, second, c + 2, m, -0.25 * h / self.grid.spacing[c])
        if self.scalar:
            self._carry(parts, wide, sums, h)
        self._add_forces(parts[:d], u, h)
        return torch.cat(parts, dim=1) if recorded else new

    def _add_forces(self, parts: list[Tensor], u: Tensor, h: float) -> None:
        """Drag and body force on each component, in place."""
        drag = fit(self.pde.drag, u) if isinstance(self.pde, NavierStokes) else 0.0
        force = None if self._force is None else self._force.to(u)
        for c in range(self._d):
            if isinstance(drag, Tensor) or drag != 0.0:
                parts[c].sub_(u[:, c : c + 1] * drag, alpha=h)
            if force is not None:
                parts[c].add_(force[:, c : c + 1], alpha=h)

    def add_friction(self, new: Tensor, u: Tensor, wide: Tensor, h: float) -> Tensor:
        """new + h nu lap(u), in place."""
        nu = self.coefficients(u)
        plain = self.bodies is None or not self.scalar
        if not isinstance(nu, Tensor) and plain:
            if nu == 0.0:
                return new
            new.sub_(u, alpha=2.0 * h * nu * sum(self._curvature))
            for e, (n, k) in enumerate(zip(self.grid.shape, self._curvature, strict=True)):
                near = self.inner(wide, e)
                new.add_(near.narrow(e + 2, 0, n), alpha=h * nu * k)
                new.add_(near.narrow(e + 2, 2, n), alpha=h * nu * k)
            return new
        gain = self.laplacian(u, wide)
        if not plain:
            gain = torch.cat((gain[:, : self._d], self._insulated(wide)), dim=1)
        return new.add_(nu * gain, alpha=h)

    def laplacian(self, u: Tensor, wide: Tensor) -> Tensor:
        """lap(u) of all channels, (B, C, *cells) [u / length^2]."""
        total = u * (-2.0 * sum(self._curvature))
        for e, (n, k) in enumerate(zip(self.grid.shape, self._curvature, strict=True)):
            near = self.inner(wide, e)
            total.add_(near.narrow(e + 2, 0, n), alpha=k).add_(near.narrow(e + 2, 2, n), alpha=k)
        return total

    def coefficients(self, u: Tensor) -> float | Tensor:
        """Viscosity of the velocity and diffusivity of the scalar, ready to multiply a state."""
        nu = fit(self.pde.viscosity, u)
        if not isinstance(self.pde, Boussinesq):
            return nu
        kappa = fit(self.pde.diffusivity, u)
        ones = u.new_ones(1, self._d, *[1] * self._d)
        nu, kappa = nu * ones, kappa * ones[:, :1]
        batch = max(nu.shape[0], kappa.shape[0])
        return torch.cat((nu.expand(batch, *nu.shape[1:]), kappa.expand(batch, *kappa.shape[1:])), dim=1)

    def exit_rate(self, wide: Tensor, exit: Tensor) -> Tensor:
        """Rate on the faces of the high outflow side, beyond which nothing changes along its axis."""
        axis = self.faces.sides.exit
        assert axis is not None
        n, dim, h = self.grid.shape[axis], axis + 2, self.grid.spacing[axis]
        own = wide[:, axis : axis + 1]
        here, last = own.narrow(dim, n + 1, 1), own.narrow(dim, n, 1)
        middle = self.inner(here, axis)
        mean = 0.5 * (middle + self.inner(last, axis))
        rate = -(middle.square() - mean.square()) / h
        gain = (self.inner(last, axis) - middle) / h**2
        for e, width in enumerate(self.grid.spacing):
            if e == axis:
                continue
            m = self.grid.shape[e]
            line = self.inner(here, axis, e)
            gain = gain + line.diff(n=2, dim=e + 2) / width**2
            speed = self.inner(wide[:, e : e + 1], axis, e).narrow(e + 2, 1, m + 1).narrow(dim, n, 2)
            speed = 0.5 * speed.sum(dim=dim, keepdim=True)
            along = 0.5 * (line.narrow(e + 2, 0, m + 1) + line.narrow(e + 2, 1, m + 1))
            rate = rate - (speed * along).diff(dim=e + 2) / width
        rate = rate + fit(self.pde.viscosity, exit) * gain
        if isinstance(self.pde, NavierStokes):
            rate = rate - fit(self.pde.drag, exit) * exit
        elif axis == self._d - 1:
            rate = rate + fit(self.pde.buoyancy, exit) * self._lift_at(wide, axis, n)
        if self._force is not None:
            force = self._force.to(exit)[:, axis : axis + 1]
            rate = rate + (force.narrow(dim, n - 1, 1) if force.shape[dim] > 1 else force)
        return rate

    def inner(self, x: Tensor, *keep: int) -> Tensor:
        """Without the ghosts, except along the axes to keep."""
        for axis, n in enumerate(self.grid.shape):
            if axis not in keep:
                x = x.narrow(axis + 2, 1, n)
        return x

    def _lift_at(self, wide: Tensor, axis: int, n: int) -> Tensor:
        """The scalar on the faces of the high outflow side."""
        pair = self.inner(wide[:, self._d :], axis).narrow(axis + 2, n, 2)
        return 0.5 * pair.sum(dim=axis + 2, keepdim=True)

    def _carry(self, parts: list[Tensor], wide: Tensor, sums: list[Tensor], h: float) -> None:
        """Transport of the scalar, its buoyancy, and what the background gives it, in place."""
        assert isinstance(self.pde, Boussinesq)
        s = self._d
        for e, (n, width) in enumerate(zip(self.grid.shape, self.grid.spacing, strict=True)):
            speed = self.inner(wide[:, e : e + 1], e).narrow(e + 2, 1, n + 1)
            if self.limited:
                flux = self._limited_flux(self.inner(wide[:, s:], e), speed, e)
                parts[s].sub_(flux.diff(dim=e + 2), alpha=h / width)
            else:
                _add_difference(parts[s], speed, self.inner(sums[e][:, s:], e), e + 2, n, -0.5 * h / width)
        up, n = s - 1, self.grid.shape[s - 1]
        lift = self.inner(sums[up][:, s:], up).narrow(up + 2, 0, n)
        parts[up].add_(fit(self.pde.buoyancy, lift) * lift, alpha=0.5 * h)
        gradient = fit(self.pde.gradient, lift)
        if isinstance(gradient, Tensor) or gradient != 0.0:
            rise = self.inner(sums[up][:, up : up + 1], up).narrow(up + 2, 1, n)
            parts[s].sub_(gradient * rise, alpha=0.5 * h)

    def _limited_flux(self, wide: Tensor, speed: Tensor, axis: int) -> Tensor:
        """Upwind values with monotonised slopes: no new extremes. Van Leer, J. Comput. Phys. 23 (1977) 276-299."""
        dim, n = axis + 2, self.grid.shape[axis]
        step = wide.diff(dim=dim)
        before, after = step.narrow(dim, 0, n), step.narrow(dim, 1, n)
        size = torch.minimum(2 * torch.minimum(before.abs(), after.abs()), 0.5 * (before + after).abs())
        slope = torch.where(before * after > 0, size * torch.sign(before), 0.0)
        if self.grid.periodic[axis]:
            slope = torch.cat((slope.narrow(dim, n - 1, 1), slope, slope.narrow(dim, 0, 1)), dim=dim)
        else:
            none = torch.zeros_like(slope.narrow(dim, 0, 1))
            slope = torch.cat((none, slope, none), dim=dim)
        low = (wide + 0.5 * slope).narrow(dim, 0, n + 1)
        high = (wide - 0.5 * slope).narrow(dim, 1, n + 1)
        return speed.clamp(min=0) * low + speed.clamp(max=0) * high

    def _insulated(self, wide: Tensor) -> Tensor:
        """Laplacian of the scalar without fluxes into bodies."""
        assert self.bodies is not None
        total: Tensor | None = None
        for e, k in enumerate(self._curvature):
            flux = self.inner(wide[:, self._d :], e).diff(dim=e + 2)
            open_, n = self.bodies.open(wide)[e], self.grid.shape[e]
            edge = open_.narrow(e, 0, 1)
            # The face after the last cell is the first one again, or on the side of the box, which says itself.
            if self.grid.periodic[e]:
                passes = torch.cat((open_, edge), dim=e)
            else:
                side = torch.ones_like(edge)
                passes = torch.cat((side, open_.narrow(e, 1, n - 1), side), dim=e)
            part = (flux * passes).diff(dim=e + 2) * k
            total = part if total is None else total + part
        assert total is not None
        return total

    def _force_on_faces(self) -> Tensor | None:
        """The body force where the velocities live, (1 or B, D, *cells)."""
        forcing = self.pde.forcing if isinstance(self.pde, NavierStokes) else None
        if forcing is None:
            return None
        if isinstance(forcing, Tensor):
            wanted = (self._d, *self.grid.shape)
            if forcing.ndim != self._d + 2 or any(
                have not in (1, want) for have, want in zip(forcing.shape[1:], wanted, strict=True)
            ):
                raise ValueError(
                    f"incompressible got a forcing field of shape {tuple(forcing.shape)}; expected (1 or B, *{wanted}), "
                    "on the low faces of the cells."
                )
            return forcing.expand(-1, self._d, *[-1] * self._d)
        shear = shear_of(forcing)
        assert shear is not None  # a pair or a formula
        parts = [
            shear.velocity(face_coordinates(self.grid, d).unsqueeze(0))[:, d : d + 1]
            for d in range(self._d)
        ]
        return torch.cat(parts, dim=1)


def _add_difference(new: Tensor, a: Tensor, b: Tensor, dim: int, n: int, factor: float) -> None:
    """new + factor (a_{i+1} b_{i+1} - a_i b_i) along an axis of n + 1 values, in place."""
    new.addcmul_(a.narrow(dim, 1, n), b.narrow(dim, 1, n), value=factor)
    new.addcmul_(a.narrow(dim, 0, n), b.narrow(dim, 0, n), value=-factor)
