"""Meshes and particles of other projects: records assembled here by hand, by the layout's own words, and damaged."""

from __future__ import annotations

import json
import os
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import sciml.datasets as datasets
from sciml import Cloud, Field, Grid, Mesh, Trajectory
from sciml.datasets import Dataset, Hints, Split
from sciml.datasets.blocks import ArrayBlock
from sciml.datasets.interop import tfrecord
from sciml.datasets.interop.lagrangebench import write_lagrangebench
from sciml.datasets.interop.meshgraphnets import write_meshgraphnets
from sciml.datasets.interop.tfrecord import crc32c
from sciml.errors import UserError

RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


# Records by hand -----------------------------------------------------------------------------------------------


def bitwise_crc(data: bytes) -> int:
    """CRC-32C bit by bit, as RFC 3720 defines it."""
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    crc = bitwise_crc(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % (1 << 32))


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def part(number: int, content: bytes) -> bytes:
    return varint(number * 8 + 2) + varint(len(content)) + content


def feature(*arrays: np.ndarray) -> bytes:
    return part(1, b"".join(part(1, array.tobytes()) for array in arrays))


def named(entries: dict[str, bytes]) -> bytes:
    return b"".join(part(1, part(1, name.encode()) + part(2, body)) for name, body in entries.items())


def example(arrays: dict[str, np.ndarray]) -> bytes:
    return part(1, named({name: feature(array) for name, array in arrays.items()}))


SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.5]], dtype="<f4")
TRIANGLES = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]], dtype="<i4")
TYPES = np.array([[6], [4], [5], [6], [0]], dtype="<i4")


def entry(kind: str, shape: list[int], dtype: str = "float32") -> dict[str, Any]:
    return {"type": kind, "shape": shape, "dtype": dtype}


def meta_file(folder: Path, features: dict[str, Any], frames: int = 4, dt: float | None = 0.01) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"simulator": "comsol", "trajectory_length": frames, "features": features}
    content |= {"field_names": list(features), "dt": dt}
    (folder / "meta.json").write_text(json.dumps(content))


CYLINDER = {
    "cells": entry("static", [1, -1, 3], "int32"),
    "mesh_pos": entry("static", [1, -1, 2]),
    "node_type": entry("static", [1, -1, 1], "int32"),
    "velocity": entry("dynamic", [4, -1, 2]),
    "pressure": entry("dynamic", [4, -1, 1]),
}


def cylinder_flow(folder: Path) -> list[dict[str, np.ndarray]]:
    """Two trajectories of 5 and 4 nodes for training and one for the test."""
    meta_file(folder, CYLINDER)
    small = {"cells": TRIANGLES[:2].copy(), "mesh_pos": SQUARE.copy(), "node_type": TYPES}
    small["cells"][1] = [0, 2, 3]
    small["cells"][0] = [0, 1, 2]
    small["mesh_pos"], small["node_type"] = SQUARE[:4], TYPES[:4]
    large = {"cells": TRIANGLES, "mesh_pos": SQUARE, "node_type": TYPES}
    found = []
    for mesh in (large, small, large):
        nodes = len(mesh["mesh_pos"])
        found.append(mesh | {"velocity": values(4, nodes, 2), "pressure": values(4, nodes, 1)})
    (folder / "train.tfrecord").write_bytes(b"".join(record(example(a)) for a in found[:2]))
    (folder / "test.tfrecord").write_bytes(record(example(found[2])))
    return found


def test_the_checksum_is_the_standard_one() -> None:
    assert (
        crc32c(b"123456789") == 0xE3069283 == bitwise_crc(b"123456789")
    )  # RFC 3720, appendix B.4, and its check value
    for count in (0, 1, 3, 4, 10_642, 10_643, 10_649, 60_000):
        data = RNG.integers(0, 256, count, dtype=np.uint8).tobytes()
        assert crc32c(data) == bitwise_crc(data)
        assert crc32c(data[count // 3 :], crc32c(data[: count // 3])) == crc32c(data)


def test_cylinder_flow_is_read_where_it_lies(tmp_path: Path) -> None:
    arrays = cylinder_flow(tmp_path)
    found = datasets.open(tmp_path)
    assert found.kind == "meshgraphnets" and list(found.splits) == ["train", "test"]
    assert found.channels == ("velocity_x", "velocity_y", "pressure") and found.dt == pytest.approx(0.01)
    places = (("train", 0), ("train", 1), ("test", 0))
    for (split, sample), wanted in zip(places, arrays, strict=True):
        trajectory = found[split][sample]
        assert np.array_equal(trajectory.data[0, :, :2].numpy(), wanted["velocity"].transpose(0, 2, 1))
        assert np.array_equal(trajectory.data[0, :, 2].numpy(), wanted["pressure"][..., 0])
        mesh = trajectory.domain
        assert isinstance(mesh, Mesh) and np.array_equal(mesh.points.numpy(), wanted["mesh_pos"])
        assert np.array_equal(mesh.cells.numpy(), wanted["cells"])
        assert np.array_equal(mesh.types.numpy(), wanted["node_type"][:, 0])
    # Equal meshes of different splits are one, and a file alone is one split.
    assert found["train"].domain_of(0) is found["test"].domain_of(0)
    assert list(datasets.open(tmp_path / "test.tfrecord").splits) == ["test"]
    window = found["test"].windows(1, 1).__getitems__([2])[0].numpy()
    assert np.array_equal(window[:, :2], arrays[2]["velocity"][2:4].transpose(0, 2, 1))
    again = pickle.loads(pickle.dumps(found["train"].blocks[1]))
    assert np.array_equal(again.parts()[0][1][0, slice(0, 4)], arrays[1]["velocity"].transpose(0, 2, 1))


def test_a_plate_and_a_flag_move_in_space(tmp_path: Path) -> None:
    plate = {
        "cells": entry("static", [1, -1, 4], "int32"),
        "mesh_pos": entry("static", [1, -1, 3]),
        "node_type": entry("static", [1, -1, 1], "int32"),
        "world_pos": entry("dynamic", [3, -1, 3]),
        "stress": entry("dynamic", [3, -1, 1]),
    }
    meta_file(tmp_path / "plate", plate, frames=3, dt=0)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype="<f4")
    arrays = {
        "cells": np.array([[0, 1, 2, 3]], dtype="<i4"),
        "mesh_pos": corners,
        "node_type": np.array([[0], [1], [3], [3]], dtype="<i4"),
        "world_pos": values(3, 4, 3),
        "stress": values(3, 4, 1),
    }
    (tmp_path / "plate/valid.tfrecord").write_bytes(record(example(arrays)))
    found = datasets.open(tmp_path / "plate")
    assert found.dimension == 3 if hasattr(found, "dimension") else found.domain.dimension == 3
    assert found.fields == (Field("world_pos", rank=1), Field("stress"))
    assert found.times.tolist() == [0.0, 1.0, 2.0] and any("series of loads" in n for n in found.notes)
    assert np.array_equal(found["valid"][0].data[0, :, :3].numpy(), arrays["world_pos"].transpose(0, 2, 1))

    flag = {k: v for k, v in CYLINDER.items() if k not in ("velocity", "pressure")}
    meta_file(tmp_path / "flag", flag | {"world_pos": entry("dynamic", [3, -1, 3])}, frames=3, dt=None)
    cloth = {"cells": TRIANGLES, "mesh_pos": SQUARE, "node_type": TYPES, "world_pos": values(3, 5, 3)}
    (tmp_path / "flag/train.tfrecord").write_bytes(record(example(cloth)))
    with pytest.raises(UserError, match="does not say the time between frames.*hints=Hints\\(dt=...\\)"):
        datasets.open(tmp_path / "flag")
    there = datasets.open(tmp_path / "flag", Hints(dt=0.02))
    assert there.channels == (
        "world_pos_x",
        "world_pos_y",
        "world_pos_z",
    )  # a surface in 2D that moves in 3D
    assert np.array_equal(there["train"][0].data[0].numpy(), cloth["world_pos"].transpose(0, 2, 1))
    # Written again, the three are one array, as programs for these sets want it.
    write_meshgraphnets(there, tmp_path / "flag2", lambda done: None)
    features = json.loads((tmp_path / "flag2/meta.json").read_text())["features"]
    assert features["world_pos"] == entry("dynamic", [3, -1, 3])
    assert torch.equal(datasets.open(tmp_path / "flag2")["train"][0].data, there["train"][0].data)


def test_meshes_that_change_are_read_as_stretches(tmp_path: Path) -> None:
    """Frames 0 and 1 share a mesh of 4 nodes, frame 2 has one of 5: rows per frame in length_<name>."""
    kinds = {
        "cells": (3, "int32"),
        "mesh_pos": (2, "float32"),
        "node_type": (1, "int32"),
        "world_pos": (3, "float32"),
    }
    features = {n: entry("dynamic_varlen", [-1, width], dtype) for n, (width, dtype) in kinds.items()}
    # The published files say this of an array of three float32.
    features["sizing_field"] = entry("dynamic_varlen", [-1, 4], "(float32)")
    meta_file(tmp_path, features, frames=3)
    two = TRIANGLES[:2].copy()
    two[0], two[1] = [0, 1, 2], [0, 2, 3]
    nodes, cells = [4, 4, 5], [2, 2, 4]
    position, sizing = values(13, 3), values(13, 3)
    arrays = {
        "cells": np.concatenate([two, two, TRIANGLES]),
        "mesh_pos": np.concatenate([SQUARE[:4], SQUARE[:4], SQUARE]),
        "node_type": np.concatenate([TYPES[:4], TYPES[:4], TYPES]),
        "world_pos": position,
        "sizing_field": sizing,
    }
    lengths = {f"length_{n}": np.array(cells if n == "cells" else nodes, dtype="<i4") for n in arrays}
    (tmp_path / "train.tfrecord").write_bytes(record(example(arrays | lengths)))
    found = datasets.open(tmp_path)
    split = found["train"]
    assert [split[i].data.shape for i in range(len(split))] == [(1, 2, 6, 4), (1, 1, 6, 5)]
    assert split[1].times.tolist() == pytest.approx([0.02]) and split.parameters["trajectory"].tolist() == [
        0,
        0,
    ]
    assert np.array_equal(split[0].data[0, 1, :3].numpy(), position[4:8].T)
    assert np.array_equal(split[1].data[0, 0, 3:].numpy(), sizing[8:].T)
    assert any("mesh changes along" in n for n in found.notes)
    assert any("wrong of sizing_field" in n for n in found.notes)
    # Of different length, they can be kept, and not be written as one folder of this kind.
    converted = datasets.convert(tmp_path, tmp_path / "native", "native")
    assert torch.equal(datasets.open(converted)["train"][1].data, split[1].data)
    with pytest.raises(UserError, match="have different times.*Choose native"):
        datasets.convert(tmp_path, tmp_path / "again", "meshgraphnets")


def test_static_fields_are_repeated_without_being_stored(tmp_path: Path) -> None:
    meta_file(tmp_path, CYLINDER | {"friction": entry("static", [1, -1, 1])})
    arrays = {"cells": TRIANGLES, "mesh_pos": SQUARE, "node_type": TYPES, "friction": values(1, 5, 1)}
    arrays |= {"velocity": values(4, 5, 2), "pressure": values(4, 5, 1)}
    (tmp_path / "train.tfrecord").write_bytes(record(example(arrays)))
    found = datasets.open(tmp_path)
    assert found.channels[-1] == "friction" and any("repeated in every frame" in n for n in found.notes)
    _, source = found["train"].blocks[0].parts()[2]
    assert source.array.strides[1] == 0
    assert np.array_equal(found["train"][0].data[0, 3, 3].numpy(), arrays["friction"][0, :, 0])


# Damage --------------------------------------------------------------------------------------------------------


def opened_and_read(path: Path, hints: Hints) -> list[tuple[torch.Tensor, ...]]:
    found = datasets.open(path, hints)
    states = []
    for split in found.splits.values():
        for i in range(len(split)):
            domain = split.domain_of(i)
            places = (domain.points, domain.cells) if isinstance(domain, Mesh) else ()
            states.append((split[i].data, *places))
    return states


def test_hostile_records_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cylinder_flow(tmp_path)
    file = tmp_path / "test.tfrecord"
    good = file.read_bytes()

    def refused(content: bytes, why: str) -> None:
        file.write_bytes(content)
        with pytest.raises(UserError, match=why):
            opened_and_read(tmp_path, Hints())

    refused(good[:-5], "cut off")
    refused(good[:7], "cut off")
    refused(good[:3] + b"\x01" + good[4:], "length that does not match its checksum")
    huge = struct.pack("<Q", 1 << 62)
    refused(huge + masked(huge) + good[12:], "is cut off: 4611686018427387904 bytes are promised")
    refused(b"", "holds no trajectory")
    flipped = bytearray(good)
    flipped[-30] ^= 4
    refused(bytes(flipped), "does not match its checksum: it was damaged")
    # A part that ends behind its record, numbers that do not end, more entries than any trajectory has.
    refused(record(b"\x0a\xff\xff\xff\xff\x07"), "would end behind it")
    refused(record(b"\x80" * 12), "does not end")
    monkeypatch.setattr(tfrecord, "ENTRIES", 1000)
    refused(record(part(1, part(1, b"") * 2000)), "more than 1000 entries")
    refused(record(b""), "has 0 bytes, which cannot hold 4 frames")
    refused(record(example({"velocity": values(4, 5, 2)})), "has 0 arrays of raw bytes under 'cells'")
    arrays = {"cells": TRIANGLES + 7, "mesh_pos": SQUARE, "node_type": TYPES}
    arrays |= {"velocity": values(4, 5, 2), "pressure": values(4, 5, 1)}
    refused(record(example(arrays)), "node numbers from 7 to 11 for 5 points")
    refused(record(example(arrays | {"velocity": values(3, 5, 2)})), "no whole number of frames")
    refused(
        record(example(arrays | {"cells": TRIANGLES, "pressure": values(4, 4, 1)})),
        "4 values of 'pressure' on a mesh",
    )


def test_meta_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    cylinder_flow(tmp_path)
    place = tmp_path / "meta.json"
    good = json.loads(place.read_text())
    for change, why in (
        ({"features": {}}, "no mapping 'features'"),
        ({"features": {"velocity": entry("dynamic", [4, -1, 2])}}, "describes no mesh_pos and no cells"),
        ({"features": CYLINDER | {"u": entry("later", [1, -1, 1])}}, "feature 'u' is described as"),
        (
            {"features": CYLINDER | {"u": entry("dynamic", [4, -1, 1], "object")}},
            "feature 'u' is described as",
        ),
        ({"features": CYLINDER | {"u": entry("dynamic", [4, -1, 0])}}, "is 0 wide"),
        ({"trajectory_length": -1}, "trajectory_length -1"),
        ({"trajectory_length": 5}, "4 values of 'velocity' on a mesh of 5 nodes"),
        ({"trajectory_length": 1 << 31}, "cannot hold 2147483648 frames"),
        ({"dt": "soon"}, "does not say the time between frames"),
        ({"sciml": {"fields": [{"name": 1}]}}, "are damaged"),
    ):
        place.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=why):
            datasets.open(tmp_path)
    for content in ("[" * 100_000, "{", "[]", b"\xff\xfe{}"):
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError):
            datasets.open(tmp_path)
    place.unlink()
    with pytest.raises(UserError, match="neither the meta.json of meshes nor the metadata.json"):
        datasets.open(tmp_path / "test.tfrecord")


def test_mutated_files_are_read_right_or_refused(tmp_path: Path) -> None:
    """200 files with flipped, removed and added bytes: the truth or an error, and nothing else."""
    cylinder_flow(tmp_path)
    file = tmp_path / "train.tfrecord"
    good, truth = file.read_bytes(), opened_and_read(tmp_path, Hints())
    generator, complaints = random.Random(0), 0
    for _ in range(200):
        content = bytearray(good)
        for _ in range(generator.choice([1, 1, 3])):
            place = generator.randrange(len(content))
            match generator.randrange(3):
                case 0:
                    content[place] ^= 1 << generator.randrange(8)
                case 1:
                    del content[place : place + generator.randrange(1, 40)]
                case 2:
                    content[place:place] = generator.randbytes(generator.randrange(1, 9))
        file.write_bytes(content)
        try:
            read = opened_and_read(tmp_path, Hints())
        except UserError:
            complaints += 1
            continue
        assert all(
            torch.equal(a, b) for x, y in zip(read, truth, strict=True) for a, b in zip(x, y, strict=True)
        )
    assert complaints > 190  # only what cancels itself passes


# Other folders of meshes ---------------------------------------------------------------------------------------


def mesh_memory(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two meshes of 5 and 4 nodes one after the other, velocities (9, 3, 2) beside them."""
    cells = np.concatenate([TRIANGLES, [[0, 1, 2], [0, 2, 3]]]).astype("i4")
    arrays = {
        "pos": np.concatenate([SQUARE, SQUARE[:4]]),
        "node_type": np.concatenate([TYPES, TYPES[:4]]),
        "cells": cells,
        "indices": np.array([0, 5, 9]),
        "cindices": np.array([0, 4, 6]),
        "all_velocity_shape": np.array([9, 3, 2]),
    }
    velocity = values(9, 3, 2)
    folder.mkdir(exist_ok=True)
    np.savez(folder / "train.npz", **arrays)
    velocity.tofile(folder / "train.dat")
    return arrays, velocity


def test_meshes_in_npz_with_velocities_in_dat(tmp_path: Path) -> None:
    arrays, velocity = mesh_memory(tmp_path / "set")
    with pytest.raises(UserError, match="hints=Hints\\(dt=...\\)"):
        datasets.open(tmp_path / "set")
    for path in (tmp_path / "set", tmp_path / "set/train.npz"):
        split = datasets.open(path, Hints(dt=0.01))["train"]
        assert len(split) == 2 and split.channels == ("velocity_x", "velocity_y")
        assert np.array_equal(split[1].data[0].numpy(), velocity[5:].transpose(1, 2, 0))
        assert isinstance(split.domain_of(1), Mesh) and split.domain_of(1).cells.tolist() == [
            [0, 1, 2],
            [0, 2, 3],
        ]
    for change, why in (
        ({"indices": np.array([0, 5, 10])}, "do not fit together"),
        ({"cindices": np.array([0, 9, 6])}, "do not fit together"),
        ({"all_velocity_shape": np.array([9, 1 << 40, 2])}, "are expected of velocities"),
        ({"cells": arrays["cells"] + 3}, "node numbers"),
        ({"pos": np.array([{"a": 1}], dtype=object)}, "pickled objects, which can run any code"),
    ):
        np.savez(tmp_path / "set/train.npz", **(arrays | change))
        with pytest.raises(UserError, match=why):
            datasets.open(tmp_path / "set", Hints(dt=0.01))


def test_groups_that_are_links_or_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.h5"

    def write(**arrays: Any) -> None:
        with h5py.File(path, "w") as file:
            group = file.create_group("0")
            for name, array in arrays.items():
                group[name] = array

    good = {
        "pos": SQUARE[None],
        "cells": TRIANGLES[None],
        "node_type": TYPES[None],
        "velocity": values(3, 5, 2),
    }
    write(**good)
    assert datasets.open(path, Hints(dt=0.1))["train"][0].data.shape == (1, 3, 2, 5)
    outside = tmp_path / "secret.h5"
    with h5py.File(outside, "w") as file:
        file["pos"] = SQUARE[None]
    for change, why in (
        ({"pos": h5py.ExternalLink(str(outside), "/pos")}, "points to another file"),
        ({"cells": TRIANGLES}, "has shape"),
        ({"velocity": values(3, 4, 2)}, "expected \\(3, 5, 2\\)"),
        ({"cells": np.array([[b"a"]])}, "numbers"),
        ({"pos": SQUARE[None] * np.nan}, "not finite"),
    ):
        write(**(good | change))
        with pytest.raises(UserError, match=why):
            datasets.open(path, Hints(dt=0.1))


# Particles -----------------------------------------------------------------------------------------------------


def gns(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """A trajectory of 4 frames and 3 particles, with one input per step."""
    folder.mkdir()
    position, context = values(4, 3, 2), values(4, 1)
    types = np.array([5, 5, 3], dtype="<i8")
    key = part(1, b"") + b""  # an int64 list, of which only bytes matter to a reader: empty here
    context_features = named({"particle_type": feature(types), "key": part(3, key)})
    lists = named(
        {
            "position": b"".join(part(1, feature(frame)) for frame in position),
            "step_context": b"".join(part(1, feature(frame)) for frame in context),
        }
    )
    (folder / "train.tfrecord").write_bytes(record(part(1, context_features) + part(2, lists)))
    metadata = {"bounds": [[-1, 1], [0, 2]], "sequence_length": 3, "dt": 0.0025, "dim": 2}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return position, context


def test_particles_in_records_are_read_where_they_lie(tmp_path: Path) -> None:
    position, context = gns(tmp_path / "sand")
    found = datasets.open(tmp_path / "sand")
    assert found.kind == "gns" and found.channels == ("position_x", "position_y", "step_context")
    trajectory = found["train"][0]
    assert np.array_equal(trajectory.data[0, :, :2].numpy(), position.transpose(0, 2, 1))
    assert np.array_equal(trajectory.data[0, :, 2].numpy(), np.repeat(context, 3, axis=1))
    cloud = trajectory.domain
    assert (
        isinstance(cloud, Cloud)
        and cloud.box == ((-1.0, 1.0), (0.0, 2.0))
        and cloud.flags == (False, False)
    )
    assert cloud.particle_type is not None and cloud.particle_type.tolist() == [5, 5, 3]
    assert found.dt == pytest.approx(0.0025) and any("took none" in n for n in found.notes)
    file = tmp_path / "sand/train.tfrecord"
    good = file.read_bytes()
    for cut in (good[:-1], good[: len(good) // 2]):
        file.write_bytes(cut)
        with pytest.raises(UserError, match="cut off"):
            datasets.open(tmp_path / "sand")
    file.write_bytes(
        record(
            part(2, named({"position": part(1, feature(values(3, 2))) + part(1, feature(values(2, 2)))}))
        )
    )
    with pytest.raises(UserError, match="expected one per frame"):
        datasets.open(tmp_path / "sand")


def lagrangebench(folder: Path, **more: Any) -> dict[str, np.ndarray]:
    folder.mkdir()
    arrays = {}
    for split in ("train", "valid", "test"):
        arrays[split] = np.abs(values(6, 4, 2)) % 1
        with h5py.File(folder / f"{split}.h5", "w") as file:
            file.create_dataset("00000/position", data=arrays[split], compression="gzip")
            file["00000/particle_type"] = np.array([0, 0, 1, 2], dtype="i4")
    metadata = {"bounds": [[0, 1], [0, 1]], "periodic_boundary_conditions": [True, False], "dt": 0.0004}
    metadata |= {"write_every": 100, "dim": 2, "dx": 0.02} | more
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return arrays


def test_particles_keep_their_types(tmp_path: Path) -> None:
    arrays = lagrangebench(tmp_path / "2D_LDC")
    found = datasets.open(tmp_path / "2D_LDC")
    assert found.dt == pytest.approx(0.04) and found.notes == () and found.constants == {"dx": 0.02}
    for name in ("native", "lagrangebench"):
        datasets.convert(tmp_path / "2D_LDC", tmp_path / name, name)  # type: ignore[arg-type]
        again = datasets.open(tmp_path / name)
        for split, array in arrays.items():
            trajectory = again[split][0]
            assert np.array_equal(trajectory.data[0].numpy(), array.transpose(0, 2, 1))
            assert trajectory.domain.particle_type.tolist() == [0, 0, 1, 2]
            assert trajectory.domain == found[split][0].domain
            assert torch.equal(trajectory.times, found[split][0].times)
        assert again.constants == {"dx": 0.02}
    metadata = json.loads((tmp_path / "lagrangebench/metadata.json").read_text())
    assert metadata["dx"] == 0.02 and metadata["default_connectivity_radius"] == 0.029
    with h5py.File(tmp_path / "lagrangebench/train.h5") as file:
        assert list(file) == ["00000"] and file["00000/particle_type"].shape == (4,)
        assert file["00000/position"].dtype == np.float32 and file["00000/position"].compression == "gzip"


def test_statistics_of_particles_are_of_the_training_split_and_the_shortest_way(tmp_path: Path) -> None:
    cloud = Cloud(((0.0, 1.0), (0.0, 2.0)), (True, False), torch.tensor([0, 0, 0, 1]))
    moving = RNG.standard_normal((2, 7, 2, 4)) * 0.03
    positions = cloud.wrap(torch.from_numpy(np.cumsum(moving, axis=1) + 0.5)).float().numpy()
    far = np.zeros((1, 3, 2, 4), dtype="f4")
    times = torch.arange(7, dtype=torch.float64) * 0.1
    fields = (Field("position", "m", 1),)
    splits = {
        "train": Split("train", fields, (ArrayBlock(positions),), (cloud,), (times,)),
        "test": Split("test", fields, (ArrayBlock(far),), (cloud,), (times[:3],)),
    }
    notes = write_lagrangebench(Dataset(tmp_path, "flow", "x", splits), tmp_path / "out", lambda done: None)
    metadata = json.loads((tmp_path / "out/metadata.json").read_text())
    moved = np.diff(positions[..., :3].astype("f8"), axis=1)  # of the fluid
    moved[:, :, 0] -= np.round(moved[:, :, 0])
    assert metadata["vel_mean"] == pytest.approx(moved.mean(axis=(0, 1, 3)).tolist(), abs=1e-12)
    assert metadata["vel_std"] == pytest.approx(moved.std(axis=(0, 1, 3)).tolist(), rel=1e-9)
    gained = np.diff(moved, axis=1)
    assert metadata["acc_std"] == pytest.approx(gained.std(axis=(0, 1, 3)).tolist(), rel=1e-9)
    assert metadata["num_particles_max"] == 4 and metadata["sequence_length_train"] == 7
    # Four particles in an area of two, and 1.45 times the side of the room of one.
    assert metadata["dx"] == pytest.approx(0.5**0.5) and metadata["default_connectivity_radius"] == 1.0
    assert any("dx 0.7071" in n for n in notes) and any("'train' alone" in n for n in notes)
    again = datasets.open(tmp_path / "out")
    assert again.fields == fields and torch.equal(again["train"].times, times)


def test_boxes_and_groups_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for number, (change, why) in enumerate(
        (
            ({"bounds": [[1, 0], [0, 1]]}, "describe no box"),
            ({"bounds": "wide"}, "describe no box"),
            ({"periodic_boundary_conditions": [True]}, "describe no box"),
            ({"dt": None}, "does not say the time between frames"),
            (
                {"bounds": [[0, 1]] * 3, "periodic_boundary_conditions": [True] * 3},
                "2 components in a box of 3",
            ),
            ({"sciml": {"fields": [1]}}, "is damaged"),
        )
    ):
        folder = tmp_path / str(number)
        lagrangebench(folder, **change)
        with pytest.raises(UserError, match=why):
            datasets.open(folder)
    folder = tmp_path / "types"
    lagrangebench(folder)
    with h5py.File(folder / "train.h5", "a") as file:
        del file["00000/particle_type"]
        file["00000/particle_type"] = np.zeros(3, dtype="i4")
    with pytest.raises(UserError, match="types of 4 particles"):
        datasets.open(folder)
    content = (folder / "valid.h5").read_bytes()
    (folder / "train.h5").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cut off"):
        datasets.open(folder)


@pytest.mark.external
def test_real_particles_come_back_as_they_were(tmp_path: Path) -> None:
    source = Path(os.environ.get("SCIML_EXTERNAL_DATA", "")) / "lagrangebench/3D_LJ_3_1214every1"
    if not source.is_dir():
        pytest.skip("SCIML_EXTERNAL_DATA is not set: it names the folder with the files of other projects")
    datasets.convert(source, tmp_path / "out", "lagrangebench")
    for split in ("train", "valid", "test"):
        with h5py.File(source / f"{split}.h5") as theirs, h5py.File(tmp_path / f"out/{split}.h5") as ours:
            assert np.array_equal(theirs["00000/position"][()], ours["00000/position"][()])
            assert np.array_equal(theirs["00000/particle_type"][()], ours["00000/particle_type"][()])
    theirs_of, ours_of = (
        json.loads((place / "metadata.json").read_text()) for place in (source, tmp_path / "out")
    )
    for key in ("bounds", "periodic_boundary_conditions", "dim", "num_particles_max"):
        assert theirs_of[key] == ours_of[key]


# Out again -----------------------------------------------------------------------------------------------------


def meshes(dimension: int, exact: bool) -> Dataset:
    """Two splits on meshes of different sizes, with a parameter and a constant; coordinates that float32 rounds."""
    from scipy.spatial import Delaunay

    fields = (Field("velocity", "m/s", 1), Field("pressure", "Pa"))
    splits = {}
    for split, frames in (("train", 4), ("valid", 4), ("test", 7)):
        domains, blocks = [], []
        for nodes in (12, 15):
            points = RNG.random((nodes, dimension))
            points = points if exact else points.astype("f4").astype("f8")
            cells = Delaunay(points).simplices.astype("i8")
            domains.append(Mesh(torch.from_numpy(points), torch.from_numpy(cells), torch.arange(nodes) % 7))
            blocks.append(ArrayBlock(values(1, frames, dimension + 1, nodes)))
        times = torch.arange(frames, dtype=torch.float64) * 0.1 + 1 / 3
        parameters = {"nu": torch.tensor([0.1, 1 / 3], dtype=torch.float64)}
        splits[split] = Split(split, fields, tuple(blocks), tuple(domains), (times,), parameters)
    return Dataset(Path("nowhere"), "flow", "memory", splits, {"gamma": 1.4})


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("exact", [False, True])
def test_meshes_come_back_bit_for_bit(tmp_path: Path, dimension: int, exact: bool) -> None:
    source = meshes(dimension, exact)
    done: list[int] = []
    notes = write_meshgraphnets(source, tmp_path, done.append)
    assert done == [1, 2, 3, 4, 5, 6] and not list(tmp_path.rglob("*.part"))
    assert any("'mesh_pos_float64'" in n for n in notes) == exact
    assert any("'test' has 7 frames" in n for n in notes)
    again = datasets.open(tmp_path)
    assert again.name == "flow" and again.constants == {"gamma": 1.4} and again.fields == source.fields
    for name, split in source.splits.items():
        assert torch.equal(again[name].times, split.times)
        assert torch.equal(again[name].parameters["nu"], split.parameters["nu"])
        for i in range(2):
            assert torch.equal(again[name][i].data, split[i].data)
            there, here = again[name].domain_of(i), split.domain_of(i)
            assert torch.equal(there.points, here.points) and torch.equal(there.cells, here.cells)
            assert torch.equal(there.types, here.types)
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["field_names"] == list(meta["features"]) and meta["trajectory_length"] == 4
    assert meta["features"]["cells"] == entry("static", [1, -1, dimension + 1], "int32")
    # Every record is whole by the rules of the format, checked by other code.
    content = (tmp_path / "train.tfrecord").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    assert content[8:12] == masked(content[:8])
    assert content[12 + length : 16 + length] == masked(content[12 : 12 + length])


def test_records_are_understood_by_protocol_buffers_themselves(tmp_path: Path) -> None:
    pytest.importorskip("google.protobuf")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    source = meshes(2, True)
    write_meshgraphnets(source, tmp_path, lambda done: None)
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tf", syntax="proto3")

    def message(name: str, **parts: tuple[int, str | None, bool]) -> Any:
        added = file.message_type.add(name=name)
        for part_name, (number, kind, many) in parts.items():
            f = added.field.add(name=part_name, number=number)
            f.label = f.LABEL_REPEATED if many else f.LABEL_OPTIONAL
            f.type = f.TYPE_MESSAGE if kind else f.TYPE_BYTES
            if kind:
                f.type_name = f".tf.{kind}"
        return added

    message("BytesList", value=(1, None, True))
    message("Feature", bytes_list=(1, "BytesList", False))
    features = message("Features", feature=(1, "Features.FeatureEntry", True))
    entry_type = features.nested_type.add(name="FeatureEntry")
    entry_type.options.map_entry = True
    key = entry_type.field.add(name="key", number=1)
    key.type, key.label = key.TYPE_STRING, key.LABEL_OPTIONAL
    value = entry_type.field.add(name="value", number=2, type_name=".tf.Feature")
    value.type, value.label = value.TYPE_MESSAGE, value.LABEL_OPTIONAL
    message("Example", features=(1, "Features", False))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    content = (tmp_path / "train.tfrecord").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("tf.Example"))
    found = kind.FromString(content[12 : 12 + length]).features.feature
    assert set(found) == set(json.loads((tmp_path / "meta.json").read_text())["field_names"])
    (velocity,) = found["velocity"].bytes_list.value
    stored = np.frombuffer(velocity, "<f4").reshape(4, 12, 2)
    assert np.array_equal(stored.transpose(0, 2, 1), source["train"][0].data[0, :, :2].numpy())


def test_what_is_no_mesh_is_not_written_as_one(tmp_path: Path) -> None:
    grid = Grid((4, 4), (1.0, 1.0))
    times = torch.arange(2, dtype=torch.float64)
    data = ArrayBlock(np.zeros((1, 2, 1, 4, 4), dtype="f4"))
    on_grid = Dataset(
        tmp_path, "g", "x", {"train": Split("train", (Field("u"),), (data,), (grid,), (times,))}
    )
    for write, where in (
        (write_meshgraphnets, "trajectories on meshes"),
        (write_lagrangebench, "trajectories of particles"),
    ):
        with pytest.raises(UserError, match=where):
            write(on_grid, tmp_path / "out", lambda done: None)
    source = meshes(2, False)
    split = source["train"]
    named_badly = Split(
        "train", (Field("cells", rank=1), Field("p")), split.blocks, split.domains, split.block_times
    )
    with pytest.raises(UserError, match="names that mean something else"):
        write_meshgraphnets(
            Dataset(tmp_path, "x", "x", {"train": named_badly}), tmp_path / "out", lambda done: None
        )
    cloud = Cloud(((0.0, 1.0), (0.0, 1.0)))
    block = ArrayBlock(np.zeros((1, 3, 2, 5), dtype="f4"))
    uneven = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    for fields, clock, why in (
        ((Field("position", rank=1),), uneven, "uneven times"),
        ((Field("velocity", rank=1),), torch.arange(3, dtype=torch.float64), "no vector field 'position'"),
    ):
        particles = Dataset(
            tmp_path, "x", "x", {"train": Split("train", fields, (block,), (cloud,), (clock,))}
        )
        with pytest.raises(UserError, match=why):
            write_lagrangebench(particles, tmp_path / "out", lambda done: None)
    assert not (tmp_path / "out").exists()


def test_clouds_with_types_are_equal_only_with_equal_types() -> None:
    box = ((0.0, 1.0),)
    one, two = Cloud(box, True, torch.tensor([0, 1])), Cloud(box, True, torch.tensor([1, 1]))
    assert one != two and one != Cloud(box, True) and one == Cloud(box, True, torch.tensor([0, 1]))
    assert Cloud(box, True) == Cloud(box, (True,)) and len({Cloud(box), Cloud(box)}) == 1
    with pytest.raises(ValueError, match="expected \\(N,\\)"):
        Cloud(box, True, torch.zeros(1, 2))


def test_particles_are_drawn_at_their_positions() -> None:
    pytest.importorskip("pyvista")
    cloud = Cloud(((0.0, 1.0), (0.0, 1.0)), False, torch.tensor([0, 1, 1]))
    data = torch.rand(1, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    fields = (Field("density"), Field("position", "m", 1))
    drawn = Trajectory(data, cloud, torch.arange(2.0), fields).to_pyvista(0, 1)
    assert np.array_equal(drawn.points[:, :2], data[0, 1, 1:].T.numpy()) and not drawn.points[:, 2].any()
    assert np.array_equal(drawn.point_data["density"], data[0, 1, 0].numpy())
    assert drawn.point_data["particle_type"].tolist() == [0, 1, 1]
