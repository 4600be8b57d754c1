"""Named fields on a domain over time: what is stored, read, drawn and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from sciml.domains import AXIS_NAMES, Cloud, Domain, Grid, Mesh, Point
from sciml.extras import require

if TYPE_CHECKING:
    import pyvista
    import xarray


@dataclass(frozen=True)
class Field:
    """A physical quantity: its name, its unit, and its tensor rank.

    Rank 0 is a scalar and fills one channel, rank 1 a vector of D channels, rank 2 a tensor of D*D.

    Raises:
        ValueError: the rank is another one.
    """

    name: str
    unit: str = "1"
    rank: int = 0

    def __post_init__(self) -> None:
        if self.rank not in (0, 1, 2):
            raise ValueError(f"Field {self.name!r} got rank {self.rank!r}; expected 0, 1 or 2.")

    def channels(self, dimension: int) -> tuple[str, ...]:
        """Channel names, "velocity_x", "velocity_y" for a vector in 2D."""
        names = [self.name]
        for order in range(self.rank):
            separator = "_" if order == 0 else ""
            names = [f"{n}{separator}{axis}" for n in names for axis in AXIS_NAMES[:dimension]]
        return tuple(names)


def channel_names(fields: Sequence[Field], dimension: int) -> tuple[str, ...]:
    """Names of the channels (C,) that `fields` fill in `dimension` space axes."""
    return tuple(name for f in fields for name in f.channels(dimension))


@dataclass(frozen=True, eq=False)
class Trajectory:
    """States over time.

    Args:
        data: (B, T, C, *points); (B, T, C) for a system without space.
        domain: where the points lie.
        times: (T,) [time].
        fields: the quantities behind the C channels, in order.
        parameters: numbers that differ between samples, name -> (B,).

    Raises:
        ValueError: the number of channels, times, points or parameter values does not fit.
    """

    data: Tensor
    domain: Domain
    times: Tensor
    fields: tuple[Field, ...]
    parameters: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = len(channel_names(self.fields, self.domain.dimension))
        least = 3 if isinstance(self.domain, Point) else 4
        if self.data.ndim < least or self.data.shape[2] != expected:
            raise ValueError(
                f"Trajectory got data of shape {tuple(self.data.shape)}; expected (B, T, C, *points) "
                f"with C = {expected} channels {self.channels}."
            )
        if self.times.shape != self.data.shape[1:2]:
            raise ValueError(
                f"Trajectory got {tuple(self.times.shape)} times for {self.data.shape[1]} frames."
            )
        if not isinstance(self.domain, Cloud) and tuple(self.data.shape[3:]) != self.domain.shape:
            raise ValueError(
                f"Trajectory got points {tuple(self.data.shape[3:])} on a domain of {self.domain.shape}."
            )
        for name, values in self.parameters.items():
            if values.shape[:1] != self.data.shape[:1]:
                raise ValueError(
                    f"Trajectory got {tuple(values.shape)} values of parameter {name!r} for "
                    f"{self.data.shape[0]} samples."
                )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels (C,)."""
        return channel_names(self.fields, self.domain.dimension)

    def __len__(self) -> int:
        return self.data.shape[0]

    def __getitem__(self, index: int | slice) -> Trajectory:
        """One sample (kept as a batch of one) or several."""
        if isinstance(index, int):
            if not -len(self) <= index < len(self):
                raise IndexError(f"Trajectory has {len(self)} samples; got index {index}.")
            index = slice(index, index + 1 or None)
        parameters = {name: values[index] for name, values in self.parameters.items()}
        return replace(self, data=self.data[index], parameters=parameters)

    def to_xarray(self) -> xarray.Dataset:
        """One labelled variable per channel, with coordinates, times, units and parameters."""
        import xarray

        if isinstance(self.domain, Grid):
            points: tuple[str, ...] = self.domain.axis_names
            coordinates: dict[str, Any] = {
                name: (name, axis.numpy()) for name, axis in zip(points, self.domain.axes(), strict=True)
            }
        elif isinstance(self.domain, Point):
            points, coordinates = (), {}
        else:
            points = ("node",)
            coordinates = {}
            if isinstance(self.domain, Mesh):
                for name, axis in zip(AXIS_NAMES, self.domain.coordinates(), strict=False):
                    coordinates[name] = ("node", axis.numpy())
                coordinates["node_type"] = ("node", self.domain.types.numpy())
        coordinates["time"] = ("time", self.times.cpu().numpy())
        for name, values in self.parameters.items():
            coordinates[name] = ("sample", values.reshape(len(self)).cpu().numpy())
        variables, channel = {}, 0
        data = self.data.detach().cpu().numpy()
        for f in self.fields:
            for name in f.channels(self.domain.dimension):
                variables[name] = (
                    ("sample", "time", *points),
                    data[:, :, channel],
                    {"units": f.unit},
                )
                channel += 1
        return xarray.Dataset(variables, coords=coordinates)

    def to_pyvista(self, sample: int = 0, frame: int = -1) -> pyvista.DataSet:
        """One frame of one sample as a VTK data set with an array per field.

        Values on nodes are point data; those of a cell-centred grid are cell data. Particles are points at the
        field "position". Types of nodes and particles come along; parameters and the time are field data.

        Raises:
            ModuleNotFoundError: pyvista is missing; the message names the extra.
            TypeError: a system without space, or particles without the vector field "position".
        """
        import numpy as np

        pyvista = require("pyvista", extra="report3d", purpose="to_pyvista")
        state = self.data[sample, frame].detach().cpu().numpy()
        dimension = self.domain.dimension
        names = [f.name for f in self.fields]
        if isinstance(self.domain, Grid):
            cells = self.domain.centering == "cell"
            axes = [
                _faces(self.domain, axis) if cells else a.numpy()
                for axis, a in enumerate(self.domain.axes())
            ]
            axes += [np.zeros(1)] * (3 - dimension)
            out: Any = pyvista.RectilinearGrid(*axes)
            arrays = out.cell_data if cells else out.point_data
            state = _columns(state)
        elif isinstance(self.domain, Mesh):
            points = np.zeros((self.domain.shape[0], 3))
            points[:, :dimension] = self.domain.points.numpy()
            corners = self.domain.cells.numpy()
            kind = pyvista.CellType.TRIANGLE if dimension == 2 else pyvista.CellType.TETRA
            out = pyvista.UnstructuredGrid({kind: corners}, points)
            arrays = out.point_data
            arrays["node_type"] = self.domain.types.numpy()
        elif isinstance(self.domain, Cloud) and "position" in names:
            start = sum(dimension**f.rank for f in self.fields[: names.index("position")])
            points = np.zeros((state.shape[1], 3), dtype=state.dtype)
            points[:, :dimension] = state[start : start + dimension].T
            out = pyvista.PolyData(points)
            arrays = out.point_data
            if self.domain.particle_type is not None:
                arrays["particle_type"] = self.domain.particle_type.numpy()
        else:
            raise TypeError(
                "to_pyvista draws grids, meshes, and particles by their field 'position'; a system without space "
                "has no place for its values."
            )
        channel = 0
        for f in self.fields:
            count = dimension**f.rank
            columns = state[channel : channel + count].T
            channel += count
            if f.rank == 1:
                columns = np.pad(columns, ((0, 0), (0, 3 - dimension)))
            arrays[f.name] = np.ascontiguousarray(columns[:, 0] if f.rank == 0 else columns)
        out.field_data["time"] = [float(self.times[frame])]
        for name, values in self.parameters.items():
            out.field_data[name] = [float(values.reshape(len(self))[sample])]
        return out


def _faces(grid: Grid, axis: int) -> Any:
    """Coordinates of the N + 1 faces of the cells along one axis."""
    import numpy as np

    origins = cast("tuple[float, ...]", grid.origin)  # expanded by the constructor
    return origins[axis] + grid.spacing[axis] * np.arange(grid.shape[axis] + 1)


def _columns(state: Any) -> Any:
    """(C, *points) -> (C, N) with the first axis of the points running fastest, as VTK counts them."""
    return state.transpose(0, *range(state.ndim - 1, 0, -1)).reshape(len(state), -1)


def first_non_finite(data: Tensor) -> Tensor:
    """Index (B,) of the first frame of (B, T, ...) with a value that is not finite; T where all are.

    A rollout that blows up is a result, and this is how it is told.
    """
    finite = torch.isfinite(data.flatten(2)).all(dim=2)
    frames = torch.arange(data.shape[1], device=data.device)
    return torch.where(finite, data.shape[1], frames).amin(dim=1)
