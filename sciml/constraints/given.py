"""Arrays that a constraint is given: as numbers, as a file, or by a function."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciml.domains import Domain
from sciml.errors import UserError

Given = Tensor | Sequence[Any] | float | str | Callable[..., Any]
"""Numbers, a file `.npy` or `.npz`, or a function of the domain that gives them."""


def given_tensor(value: object, what: str, owner: str) -> Tensor:
    """Numbers as a tensor on the CPU, float64 or of booleans; sparse ones stay sparse.

    Args:
        value: a tensor, an array, a number, nested lists, or the path of a `.npy` file, or of a `.npz` file with an array
            called `what` or with a matrix that scipy.sparse.save_npz wrote. Files are read without pickle.
        what: "rows", "values", ..., for messages and as the name in a `.npz` file.
        owner: for messages.

    Raises:
        UserError: a file is missing, is none of these, or holds no such array.
        ValueError: the value is none of these, or numbers are not finite.
    """
    if isinstance(value, str | Path):
        value = _read(Path(value).expanduser(), what, owner)
    try:
        found = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{owner} got {what} of type {type(value).__name__} that is no array ({error}); expected numbers, lists of "
            "equal length, or a .npy or .npz file."
        ) from error
    if found.is_complex():
        raise ValueError(f"{owner} got complex {what}; expected real numbers.")
    found = found.detach().cpu()
    found = found.clone() if found.dtype == torch.bool else found.to(torch.float64, copy=True)
    numbers = found.to_sparse_coo().coalesce().values() if found.layout != torch.strided else found
    if not bool(torch.isfinite(numbers).all()):
        raise ValueError(f"{owner} got {what} that are not all finite.")
    return found


def _read(path: Path, what: str, owner: str) -> object:
    if path.suffix not in (".npy", ".npz"):
        raise UserError(
            f"{owner} got {what}={str(path)!r}; expected numbers, a file .npy or .npz, or path/to/file.py:function."
        )
    if not path.is_file():
        raise UserError(f"{owner}: there is no file {str(path)!r} (looked for {path.resolve()}).")
    try:
        content = np.load(path, allow_pickle=False)
        if not isinstance(content, np.lib.npyio.NpzFile):
            return content
        with content:
            arrays = {name: content[name] for name in content.files if name != "format"}
            if "format" in content.files:
                return _scipy(arrays, content["format"].item().decode())
    except (
        *(ValueError, OSError, EOFError, KeyError, AttributeError, RuntimeError, IndexError),
        zipfile.BadZipFile,
    ) as error:
        raise UserError(
            f"{owner}: {path} holds no array that can be read safely ({error}); write it by numpy.save or numpy.savez "
            "from an array of numbers."
        ) from error
    if what not in arrays:
        raise UserError(f"{owner}: {path} holds {sorted(arrays)}; expected an array called {what!r}.")
    return arrays[what]


def _scipy(arrays: dict[str, np.ndarray], layout: str) -> Tensor:
    """A matrix as scipy.sparse.save_npz stores it."""
    shape = tuple(int(n) for n in arrays["shape"])
    values = torch.as_tensor(arrays["data"])
    if layout == "coo":
        pairs = np.stack([arrays["row"], arrays["col"]]).astype(np.int64)
    elif layout in ("csr", "csc"):
        pointer = arrays["indptr"].astype(np.int64)
        outer = np.repeat(np.arange(len(pointer) - 1), np.diff(pointer))
        inner = arrays["indices"].astype(np.int64)
        pairs = np.stack([outer, inner] if layout == "csr" else [inner, outer])
    else:
        raise ValueError(f"a sparse matrix in the layout {layout!r}; expected 'csr', 'csc' or 'coo'")
    return torch.sparse_coo_tensor(torch.as_tensor(pairs), values, shape, check_invariants=True).coalesce()


def called(value: object, domain: Domain, what: str, owner: str) -> object:
    """What a function of the domain gives, or the value itself.

    Raises:
        ValueError: the function gives nothing.
    """
    if isinstance(value, torch.nn.Module) or not callable(value):
        return value
    found = value(domain)
    if found is None:
        raise ValueError(f"{owner} got {what} by a function that gave nothing; let it return the array.")
    return found
