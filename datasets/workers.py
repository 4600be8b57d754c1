"""Do many independent jobs in processes that may die: own ones, or those of a Dask cluster.

A job is a call by name with plain arguments. A process that dies (killed, out of memory) takes only the job
with it that it had: a new process takes its place, and the job is tried again. What a job raises is its
result; the other jobs go on.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from sciml.errors import UserError
from sciml.extras import require

RETRIES = 2
"""How often a job is tried again after the process that did it died."""

_FALSE_STARTS = 3  # processes in a row that die before they can take a job


@dataclass(frozen=True)
class Failure:
    """A job that could not be done.

    Args:
        message: why, for people.
        details: a traceback where the fault may be in the code, else empty.
        fatal: no other job can succeed either, such as on a full disk.
        error: the exception itself where it was raised in this process.
    """

    message: str
    details: str = ""
    fatal: bool = False
    error: BaseException | None = None


def failure_of(error: BaseException) -> Failure:
    """What to tell of an exception."""
    from sciml.datasets.writer import DiskFull

    if isinstance(error, UserError):
        return Failure(str(error), fatal=isinstance(error, DiskFull), error=error)
    name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
    return Failure(f"{name}{error}", "".join(traceback.format_exception(error)), error=error)


def attempt(call: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """The result of a call, or its `Failure`."""
    try:
        return call(*arguments)
    except Exception as error:
        return failure_of(error)


def run_here(
    call: Callable[..., Any], jobs: Sequence[Sequence[Any]]
) -> Generator[tuple[int, Any], None, None]:
    """Do the jobs one after the other in this process; (number of the job, result or `Failure`)."""
    for number, job in enumerate(jobs):
        yield number, attempt(call, job)


class _Worker:
    """A process of ours and the job that it does."""

    def __init__(self, call: Callable[..., Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, call))
        self.process.start()
        theirs.close()
        self.ready, self.job = False, None  # type: bool, int | None


def _serve(pipe: Connection, call: Callable[..., Any]) -> None:
    """In a worker: do what comes through the pipe until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send(None)
        while True:
            found = attempt(call, pipe.recv())
            if isinstance(found, Failure):  # whatever was raised here may not be sendable
                found = Failure(found.message, found.details, found.fatal)
            pipe.send(found)


def _end_with_parent() -> None:
    """A parent that was killed cannot end its workers, so they watch it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def run_in_processes(
    call: Callable[..., Any], jobs: Sequence[Sequence[Any]], workers: int
) -> Generator[tuple[int, Any], None, None]:
    """Do the jobs in processes of our own, yielding (number of the job, result or `Failure`) as they are done.

    Raises:
        UserError: processes die before they can begin.
    """
    open_jobs, deaths = deque(range(len(jobs))), [0] * len(jobs)
    crew: list[_Worker] = []
    false_starts = 0
    try:
        crew += [_Worker(call) for _ in range(min(workers, len(jobs)))]
        left = len(jobs)
        while left:
            wait([*(w.pipe for w in crew), *(w.process.sentinel for w in crew)])
            for place, worker in enumerate(crew):
                alive = True
                while alive and worker.pipe.poll():
                    try:
                        found = worker.pipe.recv()
                    except (EOFError, OSError, pickle.UnpicklingError):
                        alive = False
                        continue
                    if worker.job is None:
                        worker.ready, false_starts = True, 0
                    else:
                        done, worker.job = worker.job, None
                        left -= 1
                        yield done, found
                if alive and worker.process.is_alive():
                    if worker.ready and worker.job is None and open_jobs:
                        worker.job = open_jobs.popleft()
                        with contextlib.suppress(OSError):  # died just now: seen in the next round
                            worker.pipe.send(jobs[worker.job])
                    continue
                worker.process.join()
                worker.pipe.close()
                if not worker.ready:
                    false_starts += 1
                    if false_starts >= _FALSE_STARTS:
                        raise UserError(
                            f"Worker processes end with status {worker.process.exitcode} before they begin. In a "
                            'script, put what starts them under `if __name__ == "__main__":`; or use workers=1.'
                        )
                lost = worker.job
                crew[place] = _Worker(call)
                if lost is not None:
                    deaths[lost] += 1
                    if deaths[lost] <= RETRIES:
                        open_jobs.appendleft(lost)
                    else:
                        left -= 1
                        yield lost, Failure(_death(worker.process.exitcode, deaths[lost]))
    finally:
        for worker in crew:
            worker.process.terminate()
        for worker in crew:
            worker.process.join()
            worker.pipe.close()


def _death(status: int | None, times: int) -> str:
    how = f"ended with status {status}"
    if status is not None and status < 0:
        with contextlib.suppress(ValueError):
            how = f"was ended by {signal.Signals(-status).name}"
    memory = ", as the system does where memory runs out" if status == -signal.SIGKILL else ""
    return f"its worker process {how}{memory}, {times} times; use fewer workers or smaller shards"


def run_on_cluster(
    call: Callable[..., Any], jobs: Sequence[Sequence[Any]], scheduler: str
) -> Generator[tuple[int, Any], None, None]:
    """Do the jobs on a Dask cluster, whose workers see the same files, as `run_in_processes` does.

    The scheduler itself gives the job of a worker that died to another one, three times in its usual settings.

    Raises:
        UserError: no scheduler answers, or it is lost.
    """
    distributed = require("distributed", extra="distributed", purpose="generate(scheduler=...)")
    try:
        client = distributed.Client(scheduler, timeout="20s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise UserError(f"No Dask scheduler answers at {scheduler!r}: {error}.") from error
    with client:
        numbers = iter(range(len(jobs)))
        running: dict[Any, int] = {}
        under_way = distributed.as_completed(loop=client.loop)

        def submit(count: int) -> None:
            for _, number in zip(range(count), numbers, strict=False):  # in this order none is skipped
                future = client.submit(call, *jobs[number], pure=False)
                running[future] = number
                under_way.add(future)

        try:
            # Enough for all to be busy; more would only fill the scheduler's memory.
            submit(max(16, 4 * sum(client.nthreads().values())))
            for future in under_way:
                number = running.pop(future)
                raised = future.exception() if future.status == "error" else None
                if future.status in ("cancelled", "lost"):
                    raise UserError(_lost(scheduler))
                if raised is None:
                    found = future.result()
                elif type(raised).__name__ == "KilledWorker":
                    found = Failure(f"the Dask workers that had it died: {' '.join(str(raised).split())}")
                else:
                    found = failure_of(raised)
                yield number, found
                submit(1)
        except (CancelledError, OSError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(_lost(scheduler)) from error
        finally:
            with contextlib.suppress(Exception):
                client.cancel(list(running), force=True)


def _lost(scheduler: str) -> str:
    return f"The Dask scheduler at {scheduler!r} was lost. Start it again and run the same command."
