"""The command `sciml`: finds the command, reads its options, and turns a user's mistakes into messages."""

from __future__ import annotations

import difflib
import errno
import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from argparse import Namespace

    import jsonargparse

# Command -> (module with SUMMARY's details, one line). The line stands here so that `sciml --help` imports
# none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "generate what is missing, train, roll out, report: the main job"),
    "generate": ("generate", "write a dataset from a recipe"),
    "train": ("train", "train the variants of a study; goes on where it stopped"),
    "evaluate": ("evaluate", "roll the trained surrogates of a run out and score them"),
    "report": ("report", "write the report of a run, or of several side by side"),
    "study": ("study", "run a matrix of settings and seeds, locally or on a Dask cluster"),
    "verify": ("verify", "measure orders and errors of the solvers"),
    "inspect": ("inspect", "say what is in a dataset, a run or a foreign file"),
    "check": ("check", "look for faults in a dataset"),
    "convert": ("convert", "copy a dataset into another layout"),
    "list": ("listing", "name what there is: equations, recipes, models, studies, ..."),
}

# Commands that compute for long and gain from keeping freed memory in the process.
LONG = ("run", "generate", "train", "evaluate", "study", "verify")

# Large temporaries otherwise go back to the system and come again at each step: measured gains of 1-30 %.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass
class Result:
    """What a command says at its end: `data` for --json, `text` for people, and the exit status."""

    data: Any
    text: str
    status: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 2 wrong input or interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _run(words, as_script=argv is None)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(words: list[str], as_script: bool) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"sciml {version('sciml')}")
        return 0
    name = words[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return _wrong(f"there is no command {name!r}{hint} Expected one of {', '.join(COMMANDS)}.", False)
    if as_script and name in LONG:
        _with_malloc_settings(words)
    as_json = "--json" in words
    try:
        return _execute(name, words[1:], as_json)
    except KeyboardInterrupt:
        return _wrong(
            "interrupted; nothing half-written was left under a final name. The same command goes on from "
            "what is complete.",
            as_json,
        )
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("SCIML_TRACEBACK"):
            raise
        message = _message(error)
        if message is None:
            raise
        return _wrong(message, as_json)


def _execute(name: str, words: list[str], as_json: bool) -> int:
    module = importlib.import_module(f"sciml.experiments.commands.{COMMANDS[name][0]}")
    parser = make_parser(name, module)
    dotted, words = module.take_free_options(words) if hasattr(module, "take_free_options") else ([], words)
    arguments = parse(parser, words)
    if hasattr(module, "take_free_options"):
        arguments.free = dotted
    from sciml.experiments.progress import Reporter

    result = module.execute(arguments, Reporter(quiet=as_json))
    if as_json:
        print(json.dumps(_plain(result.data), indent=2))
    elif result.text:
        print(result.text)
    return result.status


def make_parser(name: str, module: Any) -> jsonargparse.ArgumentParser:
    """The parser of one command, with the options that all have."""
    import argparse

    import jsonargparse

    class Formatter(jsonargparse.DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
        """Keeps the line breaks of descriptions and examples."""

    examples = "\n".join(f"  {line}" for line in module.EXAMPLES)
    parser = jsonargparse.ArgumentParser(
        prog=f"sciml {name}",
        description=module.__doc__,
        epilog=f"examples:\n{examples}",
        formatter_class=Formatter,
        exit_on_error=False,
        default_env=False,
        print_config=None,  # the commands that have it say it of themselves
    )
    module.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and no progress")
    return parser


def parse(parser: jsonargparse.ArgumentParser, words: list[str]) -> Namespace:
    """The options given, and only those.

    Raises:
        UserError: an option is unknown, with the nearest known one, or a value has the wrong type.
    """
    import argparse

    from sciml.errors import UserError

    try:
        return parser.parse_args(words, defaults=False)
    except argparse.ArgumentError as error:
        from sciml.experiments.components import plain_message

        message = plain_message(error)
        known = [option for action in parser._actions for option in action.option_strings]
        wrong = [w.split("=")[0] for w in words if w.startswith("-")]
        for option in [w for w in wrong if w not in known and "unrecognized" in message]:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.6)
            message += f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"{parser.prog}: {message}. See `{parser.prog} --help`.") from error


def _message(error: Exception) -> str | None:
    """What to tell the user, or None where the fault is ours and a traceback is due."""
    from sciml.errors import UserError

    if isinstance(error, UserError):
        return str(error)
    if type(error).__name__ == "Interrupted":
        return str(error)
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full ({error.filename or 'while writing'}); free some space and run again."
        if isinstance(error, FileExistsError):
            return f"{error.filename} is in the way: it exists and is no folder. Give another name or remove it."
        if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
            return f"{error.filename or error}: {error.strerror or 'not found'}."
    if isinstance(error, ModuleNotFoundError) and "extra" in str(error):
        return str(error)
    if isinstance(error, (ValueError, TypeError)) and _is_refusal(error):
        return str(error)
    return None


def _is_refusal(error: Exception) -> bool:
    """Whether our own code refused something by a `raise`; any other error is a fault to be traced."""
    import linecache

    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or not str(trace.tb_frame.f_globals.get("__name__", "")).startswith("sciml"):
        return False
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return line.strip().startswith("raise")


def _wrong(message: str, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": message}))
    print(f"sciml: {message}", file=sys.stderr)
    return 2


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, (_, line) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: sciml COMMAND [options]",
            "",
            "Solvers, datasets, surrogates, long rollouts, and a verdict.",
            "",
            *lines,
            "",
            "`sciml COMMAND --help` explains a command with examples; every command takes --json.",
            "Paths are relative to the current folder; runs go to runs/, generated data to data/.",
            "Exit status: 0 done, 2 wrong input or interrupted (the message says what to do).",
        ]
    )


def _plain(value: Any) -> Any:
    """Values that JSON knows; numbers that are not finite become null."""
    import math
    from collections.abc import Mapping
    from pathlib import Path

    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return _plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _with_malloc_settings(words: list[str]) -> None:
    """Start again with the C library told to keep freed memory, unless that was chosen before."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in MALLOC):
        return
    os.environ.update(MALLOC)
    os.execv(sys.executable, [sys.executable, "-m", "sciml.experiments", *words])
