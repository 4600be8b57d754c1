"""Do jobs in processes of their own, one process a job, and hear how far they are.

A job is a call by name with plain arguments; it gets `tell` to say how far it is and `stop`, an event that is set
when it should end. A process that dies (killed, out of memory) takes its own job with it and no other. What a job
raises is its result. One process a job means that the memory and the processor time that are measured in it are
its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from sciml.errors import UserError

Call = Callable[..., Any]
"""(tell, stop, *arguments) -> result; it stands at the top of a module, since other processes look it up by name."""

GRACE = 60.0
"""Seconds that jobs have to write what they need to go on, once they are asked to stop."""

LOADED = ("sciml.experiments.jobs", "sciml.experiments.run", "sciml.experiments.judge")
"""Modules that every job needs, loaded once for all."""


@dataclass(frozen=True)
class Told:
    """How far a job is: units done, units in all, a remark."""

    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Failed:
    """A job that did not succeed.

    Args:
        message: why, for people.
        details: the traceback where the fault may be in the code, else empty.
        stopped: it was asked to stop.
    """

    message: str
    details: str = ""
    stopped: bool = False


@dataclass(frozen=True)
class Done:
    """What a job returned."""

    result: Any


Event = Told | Failed | Done


class Pool(Protocol):
    """Something that does jobs side by side."""

    @property
    def size(self) -> int:
        """How many jobs are done at the same time."""

    def submit(self, name: str, call: Call, arguments: Sequence[Any], first: bool = False) -> None:
        """Queue a job under a name of its own; `first` puts it before those that wait."""

    def events(self, seconds: float) -> Iterator[tuple[str, Event]]:
        """What has happened, by name of the job; waits up to so many seconds for something to happen."""

    def stop(self) -> None:
        """Forget the jobs that wait, and ask those under way to stop; all of them end with `Failed(stopped=True)`."""

    def close(self) -> None:
        """End what is still under way, at once."""


def attempt(call: Call, arguments: Sequence[Any], tell: Any, stop: threading.Event) -> Done | Failed:
    """The outcome of a job; nothing that it raises gets out."""
    from sciml.experiments.training import Interrupted

    try:
        return Done(call(tell, stop, *arguments))
    except Interrupted as error:
        return Failed(str(error), stopped=True)
    except KeyboardInterrupt:
        return Failed("interrupted", stopped=True)
    except UserError as error:
        return Failed(str(error))
    except MemoryError as error:
        return Failed(f"memory ran out ({error})" if str(error) else "memory ran out")
    except Exception as error:
        return Failed(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def serve(pipe: Connection, call: Call, arguments: Sequence[Any]) -> None:
    """In the job's process: do it, send what it tells and how it ended. It stops when a word comes, and dies with
    the process at the other end."""
    _deaf_to_interrupts()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(pipe, stop), daemon=True).start()
    outcome = attempt(call, arguments, _Teller(pipe), stop)
    with contextlib.suppress(BrokenPipeError, ConnectionError):
        try:
            pipe.send(outcome)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            pipe.send(Failed(f"its result cannot be sent: {error}"))


def _deaf_to_interrupts() -> None:
    """A terminal's Ctrl-C reaches every process; here the parent's word decides. Blocked and not ignored, since a
    training puts a handler of its own in."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _listen(pipe: Connection, stop: threading.Event) -> None:
    try:
        pipe.recv()
    except (EOFError, OSError):
        os._exit(
            1
        )  # the parent was killed: what is complete on the disk stays, and somebody else goes on from it
    stop.set()


class _Teller:
    """Sends how far a job is, a few times a second at most."""

    def __init__(self, pipe: Connection, every: float = 0.2) -> None:
        self._pipe, self._every, self._last = pipe, every, 0.0

    def __call__(self, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self._last >= self._every or done >= total:
            self._last = now
            with contextlib.suppress(BrokenPipeError, ConnectionError):
                self._pipe.send(Told(done, total, note))


@dataclass
class _Child:
    process: Any
    pipe: Connection


class Processes:
    """Jobs on this machine, `size` at a time.

    On Linux without an accelerator processes are forked from one that has loaded the modules and done nothing else,
    which takes milliseconds where a fresh interpreter takes seconds; elsewhere they are started afresh.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: deque[tuple[str, Call, Sequence[Any]]] = deque()
        self._children: dict[str, _Child] = {}
        self._stopping = False
        self._forgotten: list[str] = []
        self._context = _context()

    @property
    def size(self) -> int:
        return self._size

    def submit(self, name: str, call: Call, arguments: Sequence[Any], first: bool = False) -> None:
        (self._waiting.appendleft if first else self._waiting.append)((name, call, arguments))

    def events(self, seconds: float) -> Iterator[tuple[str, Event]]:
        while self._forgotten:
            yield self._forgotten.pop(), Failed("not begun", stopped=True)
        while self._waiting and len(self._children) < self._size:
            name, call, arguments = self._waiting.popleft()
            try:
                self._children[name] = self._start(call, arguments)
            except OSError as error:
                yield name, Failed(f"no process can be started for it: {error}")
        if not self._children:
            return
        everything: list[Any] = [c.pipe for c in self._children.values()]
        wait(everything + [c.process.sentinel for c in self._children.values()], timeout=seconds)
        for name, child in list(self._children.items()):
            for event in self._heard(child):
                if not isinstance(event, Told):
                    del self._children[name]
                    child.process.join()
                    child.pipe.close()
                yield name, event

    def _start(self, call: Call, arguments: Sequence[Any]) -> _Child:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=serve, args=(theirs, call, tuple(arguments)))
        with _one_thread_each():
            if self._context.get_start_method() == "forkserver":
                _start_server()
            process.start()
        theirs.close()
        return _Child(process, ours)

    def _heard(self, child: _Child) -> Iterator[Event]:
        """What came from a process, the last thing being how it ended."""
        alive = child.process.is_alive()  # asked first: what it sent before it died is read after that
        try:
            while child.pipe.poll():
                event = child.pipe.recv()
                yield event
                if not isinstance(event, Told):
                    return
        except (EOFError, OSError, pickle.UnpicklingError):
            child.process.join(GRACE)
            alive = False
        if not alive:
            yield Failed(died(child.process.exitcode), stopped=self._stopping)

    def stop(self) -> None:
        self._stopping = True
        self._forgotten += [name for name, _, _ in self._waiting]
        self._waiting.clear()
        for child in self._children.values():
            with contextlib.suppress(OSError):
                child.pipe.send(None)

    def close(self) -> None:
        self._waiting.clear()
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.join()
            child.pipe.close()
        self._children.clear()


def died(status: int | None) -> str:
    """What a process's exit status says."""
    how = f"ended with status {status}"
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            how = f"was ended by {signal.Signals(-status).name}"
    memory = ", as the system does where memory runs out; use fewer workers" if status == -9 else ""
    return f"its process {how}{memory}"


def _context() -> Any:
    if not sys.platform.startswith("linux") or _accelerated():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    return context


def _start_server() -> None:
    """Start the process that others are forked from, deaf to Ctrl-C: it would be so once its modules are loaded, and
    one pressed during those seconds would end it and leave the first job without a process."""
    resource_tracker.ensure_running()  # it takes the block away when it starts its own process, so it goes first
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _accelerated() -> bool:
    """Whether an accelerator's driver may be loaded, which does not survive a fork."""
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """The first process started loads numpy, whose own threads are better not there when it is forked."""
    name = "OPENBLAS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
