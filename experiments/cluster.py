"""Jobs on the workers of a Dask cluster that sees this machine's folders, each in a process of its own there.

Dask decides where and when; a worker starts a fresh interpreter for each job, so that a job that dies does not take
the worker with it, several threads of a worker do not share one torch, and memory and processor time are the job's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any

from sciml.errors import UserError
from sciml.experiments.pool import GRACE, Call, Done, Event, Failed, Told, died, serve
from sciml.extras import require

AHEAD = 2
"""Jobs given to the scheduler for every thread of the cluster; those after them can still be overtaken."""


class Cluster:
    """Jobs on the workers of the Dask scheduler at an address, one for each of their threads at a time.

    Raises:
        ModuleNotFoundError: Dask is missing; the message names the extra.
        UserError: no scheduler answers at the address.
    """

    def __init__(self, address: str) -> None:
        distributed = require("distributed", extra="distributed", purpose="a study on a cluster")
        try:
            self._client = distributed.Client(address, timeout="20s", set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(
                f"no Dask scheduler answers at {address!r} ({error}); start one with `dask scheduler`, and workers with "
                "`dask worker ADDRESS`."
            ) from error
        self._address = address
        self._waiting: deque[tuple[str, Call, Sequence[Any]]] = deque()
        self._futures: dict[str, Any] = {}
        self._heard: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()
        self._topic = f"sciml-{uuid.uuid4().hex}"
        self._client.subscribe_topic(self._topic, self._listen)
        self._begun: set[str] = set()
        self._until: float | None = None  # once stopping, when to wait no longer

    @property
    def size(self) -> int:
        """Threads of all workers now; they may come and go."""
        return sum(self._client.nthreads().values())

    def submit(self, name: str, call: Call, arguments: Sequence[Any], first: bool = False) -> None:
        (self._waiting.appendleft if first else self._waiting.append)((name, call, arguments))

    def events(self, seconds: float) -> Iterator[tuple[str, Event]]:
        self._hand_out()
        end = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while True:
                name, event = self._heard.get(timeout=max(0.0, end - time.monotonic()))
                if isinstance(event, Told):
                    self._begun.add(name)
                elif name not in self._futures:
                    continue  # told twice: by the job's worker, and by the scheduler
                else:
                    del self._futures[name]
                    self._hand_out()
                yield name, event
        if self._client.status != "running":
            raise UserError(
                f"the Dask scheduler at {self._address!r} was lost. Start it again and run the same command."
            )
        if self._until is not None and time.monotonic() > self._until:
            for name in list(self._futures):
                del self._futures[name]
                yield name, Failed("its worker does not answer", stopped=True)

    def _hand_out(self) -> None:
        if self._until is not None:
            return
        room = max(1, AHEAD * self.size) - len(self._futures) if self._waiting else 0
        for _ in range(min(room, len(self._waiting))):
            name, call, arguments = self._waiting.popleft()
            future = self._client.submit(
                on_worker,
                name,
                self._topic,
                os.getcwd(),
                call,
                tuple(arguments),
                key=f"{name} {uuid.uuid4().hex}",
            )
            self._futures[name] = future
            future.add_done_callback(functools.partial(self._ended, name))

    def _ended(self, name: str, future: Any) -> None:
        """A future ended; that it was cancelled says nothing of its process."""
        if future.status in ("finished", "error") or self._until is None:
            self._heard.put((name, _outcome(future)))

    def _listen(self, event: Any) -> None:
        """What a worker tells of a job: how far it is, or that its process has ended."""
        name, done, total, note = event[1]
        told = Failed("stopped", stopped=True) if total is None else Told(done, total, note)
        if isinstance(told, Told) or self._until is not None:  # otherwise the future will say more
            self._heard.put((name, told))

    def stop(self) -> None:
        self._until = time.monotonic() + GRACE
        idle = {name: future for name, future in self._futures.items() if name not in self._begun}
        self._futures |= {name: None for name, _, _ in self._waiting}
        for name in [*idle, *(name for name, _, _ in self._waiting)]:
            self._heard.put((name, Failed("not begun", stopped=True)))
        self._waiting.clear()
        # The workers see that nobody waits for these any more, and ask their processes to stop.
        self._client.cancel([f for f in self._futures.values() if f is not None], force=True)

    def close(self) -> None:
        self._waiting.clear()
        with contextlib.suppress(Exception):
            self._client.cancel([f for f in self._futures.values() if f is not None], force=True)
        with contextlib.suppress(Exception):
            self._client.close(timeout=5)


def _outcome(future: Any) -> Event:
    """How a future ended."""
    if future.status == "finished":
        found: Event = future.result()
        return found
    if future.status == "error":
        error = future.exception()
        if type(error).__name__ == "KilledWorker":
            return Failed(f"the Dask workers that had it died: {' '.join(str(error).split())}")
        return Failed(f"{type(error).__name__}: {error}")
    return Failed("the scheduler dropped it", stopped=True)


def on_worker(
    name: str, topic: str, folder: str, call: Call, arguments: Sequence[Any], every: float = 0.5
) -> Done | Failed:
    """In a thread of a worker: do a job in a fresh interpreter, and see to it that it ends when nobody waits for it."""
    import distributed

    worker = distributed.get_worker()
    key = worker.get_current_task()
    ours, theirs = Pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "sciml.experiments.cluster", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        cwd=folder if os.path.isdir(folder) else None,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    asked: float | None = None
    worker.log_event(topic, (name, 0, 1, ""))
    try:
        ours.send((call, arguments))
        while True:
            while ours.poll(every):
                event = ours.recv()
                if not isinstance(event, Told):
                    return event  # type: ignore[no-any-return]
                worker.log_event(topic, (name, event.done, event.total, event.note))
            if process.poll() is not None and not ours.poll():
                return Failed(died(process.returncode))
            if asked is None and _forgotten(worker, key):
                asked = time.monotonic()
                ours.send(None)
            if asked is not None and time.monotonic() - asked > GRACE:
                return Failed("did not stop when it was asked to", stopped=True)
    except (EOFError, OSError):
        process.wait(GRACE)
        return Failed(died(process.returncode))
    finally:
        process.kill()
        process.wait()
        ours.close()
        worker.log_event(topic, (name, None, None, ""))


def _forgotten(worker: Any, key: object) -> bool:
    """Whether the scheduler has dropped a task: cancelled, or its client is gone."""
    if worker.status.name in ("closing", "closed", "failed"):
        return True
    task = worker.state.tasks.get(key)
    return task is None or task.state in ("cancelled", "released", "forgotten")


def main() -> None:
    """In the fresh interpreter: the job comes through the pipe, and how it goes is told there."""
    pipe = Connection(int(sys.argv[1]))
    call, arguments = pipe.recv()
    serve(pipe, call, arguments)


if __name__ == "__main__":
    main()
