"""Run jobs: in this process, in worker processes on this machine, or on a Dask cluster.

A job is a function that a worker can import, and its arguments. A worker runs one job at a time, on one
thread, so that workers do not compete for cores and any number of them gives the same bits. A worker that
dies is replaced and its job runs again, as often as the job allows; a worker that sends nothing for longer
than its job announced is stopped. Jobs write their own results to disk.
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
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe
from typing import Any, Literal

Kind = Literal["told", "retried", "done", "raised", "died", "overdue"]
FINAL: tuple[Kind, ...] = ("done", "raised", "died", "overdue")
ATTEMPTS = 3  # at a job whose workers die, e.g. because memory runs out, before it is the job's fault
# One thread per worker in each library that would start its own.
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
# glibc returns large blocks to the system at once, so that each batch touches new pages, which takes a third
# of the time of a small CNN. Other C libraries ignore these variables.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**28), "MALLOC_TRIM_THRESHOLD_": str(2**29)}


@dataclass(frozen=True)
class Job:
    """A call to make.

    Args:
        call: a function of a module, called as `call(tell, **arguments)`; see `Tell`.
        arguments: its keyword arguments; pickled for a worker.
        fresh: run it in a worker that has run nothing before.
        attempts: how many workers may die while they run it before the job counts as "died".
    """

    call: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False
    attempts: int = 1


@dataclass(frozen=True)
class Event:
    """News of a job.

    Args:
        kind: "told" is a message on the way, "retried" that its worker died and it starts again. The last
            event is "done", "raised", "died" (its worker), or "overdue" (its worker was stopped).
        value: what it sent or returned; the exception; otherwise how the worker ended, as text.
        after: the last note of what the job was doing.
    """

    kind: Kind
    value: Any = None
    after: Any = None


class Tell:
    """The channel from a job to the process that started it.

    `tell(value)` reports progress. `tell.note(value)` notes what the job is doing now; the note is read only
    if the worker ends. `tell.within(seconds)` sets the time within which the next message must come, None for
    no limit. `tell.retire()` asks that the worker run no other job afterwards.
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


# Called with each event of a job; returns further jobs to run.
Listener = Callable[[Job, Event], Iterable[Job]]


class WorkerDiedError(RuntimeError):
    """A job whose workers died; its text says how.

    Args:
        job: which one.
        reason: how the last worker ended.
    """

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(reason)
        self.job = job


def run_all(
    jobs: Iterable[Job],
    heard: Callable[[Job, Event], object],
    *,
    workers: int = 0,
    scheduler: str | None = None,
) -> None:
    """Run jobs that must all succeed.

    Args:
        jobs: in the order in which to start them.
        heard: called in this thread with every event of every job.
        workers, scheduler: as in `run`.
    Raises:
        Exception: what a job raises.
        WorkerDiedError: if a job's workers die as often as the job allows.
    """

    def listen(job: Job, event: Event) -> tuple[Job, ...]:
        if event.kind == "raised":
            raise event.value
        heard(job, event)
        if event.kind in ("died", "overdue"):
            raise WorkerDiedError(job, event.value)
        return ()

    run(jobs, listen, workers=workers, scheduler=scheduler)


def run(jobs: Iterable[Job], heard: Listener, *, workers: int = 0, scheduler: str | None = None) -> None:
    """Run jobs, and the further jobs that `heard` returns, until all have ended.

    Args:
        jobs: in the order in which to start them.
        heard: called in this thread with every event of every job.
        workers: processes on this machine; 0 for this process, where no job can be stopped.
        scheduler: address of a Dask scheduler, e.g. "tcp://10.0.0.1:8786", whose workers run the jobs
            instead.
    Raises:
        MissingExtraError: for a scheduler without the extra "cluster".
        OSError: if no scheduler answers at that address.
        Exception: what `heard` raises; running jobs are stopped then.
    """
    deaths: Counter[int] = Counter()

    def listen(job: Job, event: Event) -> list[Job]:
        if event.kind != "died":
            return list(heard(job, event))
        deaths[id(job)] += 1
        if deaths[id(job)] < job.attempts:
            return [job, *heard(job, replace(event, kind="retried"))]
        times = f", {job.attempts} times" if job.attempts > 1 else ""
        return list(heard(job, replace(event, value=f"{event.value}{times}")))

    if scheduler is not None:
        from an8flower.ground.cluster import run_on_cluster

        run_on_cluster(jobs, listen, scheduler)
    elif workers == 0:
        _run_in_this_process(jobs, listen)
    else:
        _run_in_workers(jobs, listen, workers)


def _run_in_this_process(jobs: Iterable[Job], heard: Listener) -> None:
    waiting = deque(jobs)

    def outcome_of(job: Job) -> Event:
        def send(message: tuple[str, Any]) -> None:
            if message[0] == "told":
                waiting.extend(heard(job, Event("told", message[1])))

        try:
            return Event("done", job.call(Tell(send), **job.arguments))
        except Exception as error:
            return Event("raised", error)

    while waiting:
        job = waiting.popleft()
        waiting.extend(heard(job, outcome_of(job)))


def _run_in_workers(jobs: Iterable[Job], heard: Listener, workers: int) -> None:
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
    """A process that runs one job at a time; started for the first job, and again after it has ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._used = self._stopped = False

    def run(self, job: Job) -> Iterator[Event]:
        """Yield all events of a job; the last one is final."""
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
        """End the process and never start it again; called from another thread than `run`."""
        self._stopped = True
        if (process := self._process) is not None:
            process.kill()  # which ends the wait for its next message

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
                stdout=2,  # its standard output is not a result of the command
                env=environment,
                start_new_session=True,  # Ctrl-C is for the process that starts the jobs
            )
        self._line, self._used = mine, False
        return mine

    def _end(self) -> str:
        """Stop the process if it still runs, and return how it ended, as text."""
        if self._process is None or self._line is None:
            return ""
        self._line.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)  # if it has just died, its status says from what
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
    """Make a call and return its outcome in the form in which a worker sends it back."""
    try:
        return "done", call(tell, **arguments)
    except Exception as error:
        told = traceback.format_exc()
        error.__traceback__ = error.__cause__ = error.__context__ = None
        error.add_note(f"in a worker:\n{told}")
        return "raised", error
