"""Where work runs: in this process, in worker processes of this machine, or on a Dask cluster.

A job is a function that a worker can import, and its arguments. Jobs run one at a time in a worker, on one
thread each, so that workers do not fight for cores and any number of them gives the same bits. A worker that
dies, or is silent for longer than its job allowed itself, is replaced, and the job's event says so; what the
jobs write to disk is their own affair.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from typing import Any, Literal

Kind = Literal["told", "done", "raised", "died", "overdue"]
FINAL: tuple[Kind, ...] = ("done", "raised", "died", "overdue")
# One thread a worker in each library that would start its own.
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "OPENCV_FOR_THREADS_NUM",
        "LP_NUM_THREADS",
    ),
    "1",
)
# glibc returns large blocks to the system at once, so that each batch touches new pages: a third of the time
# of a small CNN. Other C libraries ignore these variables.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**29)}


@dataclass(frozen=True)
class Job:
    """A call to make.

    Args:
        call: a module's function, called as `call(tell, **arguments)`; see `Tell`.
        arguments: what it takes; pickled on the way to a worker.
        fresh: run it in a worker that has run nothing before.
    """

    call: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False


@dataclass(frozen=True)
class Event:
    """What became known of a job.

    Args:
        kind: "told" something on its way; it is "done", or it "raised", or its worker "died" or was
            stopped because it was "overdue".
        value: what it told or returned; the exception; else how the worker ended, in words.
        after: the last note it had taken of what it is at.
    """

    kind: Kind
    value: Any = None
    after: Any = None


class Tell:
    """How a job speaks to who gave it out.

    `tell(value)` says how far it is. `tell.note(value)` says what it is at, for nobody to hear unless its
    worker ends now. `tell.within(seconds)` says that something is wrong unless it speaks again within that
    time, None for no limit; `tell.retire()` that its worker should run nothing after it.
    """

    def __init__(self, send: Callable[[tuple[str, Any]], None]) -> None:
        self._send = send

    def __call__(self, value: Any) -> None:
        self._send(("told", value))

    def note(self, value: Any) -> None:
        self._send(("note", value))

    def within(self, seconds: float | None) -> None:
        self._send(("within", seconds))

    def retire(self) -> None:
        self._send(("retire", None))


# Given each event of a job; returns more jobs to do.
Listener = Callable[[Job, Event], Iterable[Job]]


def run(jobs: Iterable[Job], heard: Listener, *, workers: int = 0, scheduler: str | None = None) -> None:
    """Run jobs, and those that `heard` asks for as it hears what becomes of them, until all have ended.

    Args:
        jobs: in the order to begin them.
        heard: called in this thread with every event of every job.
        workers: processes on this machine; 0 for this process itself, where nothing can be watched.
        scheduler: address of a Dask scheduler, e.g. "tcp://10.0.0.1:8786", whose workers run the jobs
            instead.
    Raises:
        MissingExtraError: for a scheduler without the extra "cluster".
        OSError: if no scheduler answers there.
        Exception: what `heard` raises; jobs under way are stopped then.
    """
    if scheduler is not None:
        from an8flower.ground.cluster import run_on_cluster

        run_on_cluster(jobs, heard, scheduler)
    elif workers == 0:
        _run_here(jobs, heard)
    else:
        _run_beside(jobs, heard, workers)


def _run_here(jobs: Iterable[Job], heard: Listener) -> None:
    waiting = deque(jobs)

    def one(job: Job) -> Event:
        def send(message: tuple[str, Any]) -> None:
            if message[0] == "told":
                waiting.extend(heard(job, Event("told", message[1])))

        try:
            return Event("done", job.call(Tell(send), **job.arguments))
        except Exception as error:
            return Event("raised", error)

    while waiting:
        job = waiting.popleft()
        waiting.extend(heard(job, one(job)))


def _run_beside(jobs: Iterable[Job], heard: Listener, workers: int) -> None:
    waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    events: queue.SimpleQueue[tuple[Job, Event]] = queue.SimpleQueue()
    first = list(jobs)
    for job in first:
        waiting.put(job)
    left = len(first)
    crew = [Worker() for _ in range(min(workers, left))]

    def attend(worker: Worker) -> None:
        while (job := waiting.get()) is not None:
            for event in worker.run(job):
                events.put((job, event))

    threads = [threading.Thread(target=attend, args=(worker,), daemon=True) for worker in crew]
    for thread in threads:
        thread.start()
    try:
        while left:
            job, event = events.get()
            left -= event.kind in FINAL
            for more in heard(job, event):
                waiting.put(more)
                left += 1
    finally:
        for worker in crew:
            worker.stop()
        for _ in threads:
            waiting.put(None)
        for worker, thread in zip(crew, threads, strict=True):
            thread.join()
            worker.close()


class Worker:
    """A process that runs one job at a time; started when there is one, and again after it ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._used = self._stopped = False

    def run(self, job: Job) -> Iterator[Event]:
        """All events of a job, the last of them final."""
        if job.fresh and self._used:
            self._end()
        try:
            line = self._begin()
            line.send((job.call, job.arguments))
        except Exception as error:  # it cannot be pickled, or no process can be started
            yield Event("raised", error)
            return
        self._used, within, noted = True, None, None
        retire = False
        while True:
            try:
                if not line.poll(within):
                    self._end()
                    yield Event("overdue", f"it was silent for {within:g} s", noted)
                    return
                kind, value = line.recv()
            except (EOFError, OSError):
                yield Event("died", self._end(), noted)
                return
            if kind == "within":
                within = value
            elif kind == "note":
                noted = value
            elif kind == "retire":
                retire = True
            else:
                if kind in FINAL and retire:
                    self._end()
                yield Event(kind, value)
                if kind in FINAL:
                    return

    def stop(self) -> None:
        """End the process, whatever it does, and start none again; from another thread than `run`'s."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()  # the line then ends for who waits on it

    def close(self) -> None:
        """End the process; the next job starts another."""
        self._end()

    def _begin(self) -> Connection:
        if self._stopped:
            raise InterruptedError("the run was stopped")
        if self._line is not None and self._process is not None and self._process.poll() is None:
            return self._line
        self._end()
        mine, its = Pipe()
        environment = {
            **KEEP_MEMORY,
            **os.environ,
            **ONE_THREAD,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "an8flower.ground.worker", str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what is printed there is no result of the command
                env=environment,
                start_new_session=True,  # Ctrl-C is for the one who gives out the jobs
            )
        self._line, self._used = mine, False
        return mine

    def _end(self) -> str:
        """Stop the process if it still runs; how it ended, in words."""
        if self._process is None or self._line is None:
            return ""
        self._line.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)  # one that has just died tells by what
        self._process.kill()
        code = self._process.wait()
        self._process = self._line = None
        return (
            f"its process ended by {_signal(-code)}" if code < 0 else f"its process left with status {code}"
        )


def _signal(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name


def outcome(call: Callable[..., Any], tell: Tell, arguments: dict[str, Any]) -> tuple[Kind, Any]:
    """What becomes of a call, as a worker sends it back."""
    try:
        return "done", call(tell, **arguments)
    except Exception as error:
        told = traceback.format_exc()
        error.__traceback__ = error.__cause__ = error.__context__ = None
        error.add_note(f"in a worker:\n{told}")
        return "raised", error
