"""Optional parts: imported where they are used, and asked for by the name of their extra."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """The module, or a message that says which extra brings it.

    Args:
        module: dotted name to import.
        extra: the extra of this package that installs it.
        purpose: what needs it, the subject of the message.

    Raises:
        ModuleNotFoundError: the module is not installed. A module that is there but lacks one of its
            own parts raises its own error unchanged.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        if error.name not in (module, root):
            raise
        raise ModuleNotFoundError(
            f"{purpose} needs the package {root!r}, which is not installed; install it with the extra: "
            f"pip install 'sciml[{extra}]'.",
            name=error.name,
        ) from error
