"""Options for what a foreign file does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

    from sciml.datasets import Hints


def add_hints(parser: jsonargparse.ArgumentParser) -> None:
    """Options under --hints."""
    from sciml.datasets import Hints

    parser.add_class_arguments(Hints, "hints", skip={"fields"}, instantiate=False)


def read(arguments: Namespace) -> Hints:
    """The hints given."""
    from sciml.datasets import Hints

    given = arguments.get("hints")
    values: dict[str, Any] = {
        name: value for name, value in (given.as_dict() if given else {}).items() if value is not None
    }
    typed: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return Hints(**typed)
