"""From cell averages to the two states at each face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sciml.pdes.euler import IdealGas
from sciml.solvers.finite_volume.formulas import half_slope, weno_face

Faces = tuple[Tensor, Tensor]

# Square of the share of all waves' variation below which that of one of them counts as none.
_SMOOTH = 1e-3


def godunov(w: Tensor, axis: int) -> Faces:
    """Averages themselves; first order, one ghost cell."""
    faces = w.shape[axis] - 1
    return w.narrow(axis, 0, faces), w.narrow(axis, 1, faces)


def muscl(w: Tensor, axis: int) -> Faces:
    """Linear in each cell with the monotonised central slope; second order, two ghost cells.

    The slope is the central difference, at most twice the one-sided ones, and zero at extrema, so
    that faces lie between the averages beside them. van Leer (1977).
    """
    inner = w.shape[axis] - 2
    jump = torch.diff(w, dim=axis)
    left, right = jump.narrow(axis, 0, inner), jump.narrow(axis, 1, inner)
    half = half_slope(left, right)
    middle = w.narrow(axis, 1, inner)
    return (middle + half).narrow(axis, 0, inner - 1), (middle - half).narrow(axis, 1, inner - 1)


def weno5(w: Tensor, axis: int) -> Faces:
    """Fifth-order weighted essentially non-oscillatory faces, three ghost cells.

    WENO-Z weights, Borges, Carmona, Costa and Don, J. Comput. Phys. 227 (2008), equations 28-31.
    Fifth order along an axis for linear problems; averages across an axis and of primitive variables
    limit the order to two for general flows in several dimensions.
    """
    faces = w.shape[axis] - 5
    cells = [w.narrow(axis, i, faces) for i in range(6)]
    return _weno5_face(*cells[:5]), _weno5_face(*cells[:0:-1])


def _weno5_face(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
    """Value at the face between c and d, from the side of c."""
    return weno_face(a, b, c, d, e, _tiny(a))


def _tiny(a: Tensor) -> float:
    """Large enough that the square of tau / b stays finite beside a jump, where b may vanish on one side only."""
    return 1e-40 if a.dtype == torch.float64 else 1e-12


def weno5_characteristic(gas: IdealGas, u: Tensor, axis: int) -> Faces:
    """`weno5` of the waves that the conserved variables of a gas are made of at each face.

    The six cells around a face are projected on the eigenvectors of the flux at the Roe average of the two
    beside it, so that a shock and a contact that meet there do not make each other ring. Fifth order along
    an axis for nonlinear flows too. Conserved states with ghost cells (B, D + 2, *cells) -> conserved states.
    Shu, ICASE report 97-65 (1997), procedure 2.8; eigenvectors of Toro (2009), section 3.2.

    Args:
        gas: the law.
        u: states with three ghost cells.
        axis: tensor axis normal to the faces.
    """
    faces = u.shape[axis] - 5
    cells = [u.narrow(axis, i, faces) for i in range(6)]
    left, right = cells[2], cells[3]
    # Roe average of velocity and total enthalpy.
    roots = [torch.sqrt(side[:, :1]) for side in (left, right)]
    velocities = [side[:, 1:-1] / side[:, :1] for side in (left, right)]
    enthalpies = [(side[:, -1:] + gas.pressure(side)) / side[:, :1] for side in (left, right)]
    total = roots[0] + roots[1]
    velocity = (roots[0] * velocities[0] + roots[1] * velocities[1]) / total
    enthalpy = (roots[0] * enthalpies[0] + roots[1] * enthalpies[1]) / total
    half_square = 0.5 * velocity.square().sum(dim=1, keepdim=True)
    stiffness = gas.gamma - 1.0
    square = stiffness * (enthalpy - half_square)  # of the speed of sound
    sound = torch.sqrt(square)
    normal = axis - 2

    def project(cell: Tensor) -> Tensor:
        """Amplitudes: entropy, then per axis a shear or, on the normal one, the falling sound wave; the rising one."""
        density, momentum, energy = cell[:, :1], cell[:, 1:-1], cell[:, -1:]
        pressure = stiffness * (
            energy - (velocity * momentum).sum(dim=1, keepdim=True) + half_square * density
        )
        shear = momentum - velocity * density
        half = 0.5 * pressure / square
        push = 0.5 * shear[:, normal : normal + 1] / sound
        middle = torch.cat((shear[:, :normal], half - push, shear[:, normal + 1 :]), dim=1)
        return torch.cat((density - 2.0 * half, middle, half + push), dim=1)

    def restore(waves: Tensor) -> Tensor:
        entropy, middle, up = waves[:, :1], waves[:, 1:-1], waves[:, -1:]
        down = middle[:, normal : normal + 1]
        density = entropy + down + up
        push = sound * (up - down)
        shear = torch.cat((middle[:, :normal], push, middle[:, normal + 1 :]), dim=1)
        momentum = velocity * density + shear
        energy = (
            square / stiffness * (down + up)
            + (velocity * momentum).sum(dim=1, keepdim=True)
            - half_square * density
        )
        return torch.cat((density, momentum, energy), dim=1)

    a, b, c, d, e, f = (project(cell) for cell in cells)
    # Of the waves that hardly vary beside others, what is left is curvature of the eigenvectors, with an extremum at
    # every face: weights that follow it make odd and even cells part. They are smooth by the measure of all waves.
    scale = torch.ones_like(sound).expand_as(a).clone()
    scale[:, 1:-1] = sound
    scale[:, 1 + normal : 2 + normal] = 1.0
    varies = torch.stack([(y - x) / scale for x, y in ((a, b), (b, c), (c, d), (d, e), (e, f))])
    floor = _SMOOTH * scale.square() * varies.square().sum(dim=(0, 2)).unsqueeze(1) + _tiny(u)
    return restore(weno_face(a, b, c, d, e, floor)), restore(weno_face(f, e, d, c, b, floor))


@dataclass(frozen=True)
class Reconstruction:
    """Face states from averages.

    Args:
        function: (w with ghost cells, tensor axis) -> states left and right of each of the N + 1 faces; with
            the gas before them where it works on characteristic variables.
        ghosts: how many ghost cells it reads on each side.
        order: formal order on smooth flows along an axis.
        characteristic: whether it takes apart the waves of a gas, from and to conserved variables.
    """

    function: Callable[..., Faces]
    ghosts: int
    order: int
    characteristic: bool = False


RECONSTRUCTIONS = {
    "godunov": Reconstruction(godunov, ghosts=1, order=1),
    "muscl": Reconstruction(muscl, ghosts=2, order=2),
    "weno5": Reconstruction(weno5, ghosts=3, order=5),
    "weno5-characteristic": Reconstruction(weno5_characteristic, ghosts=3, order=5, characteristic=True),
}
