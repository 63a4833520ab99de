"""Run jobs: in this process, in worker processes on this machine, or on a Dask cluster.

A job is a function that a worker can import, and its arguments. A worker runs one job at a time, on one
thread, so that workers do not compete for cores and any number of them gives the same bits. A worker that
dies is replaced and its job runs again, as often as the job allows; a worker that sends nothing for longer
than its job announced is stopped. Jobs write their own results to disk.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from an8flower.ground.deprecated import renamed
from an8flower.ground.job import FINAL, Event, Job, Listener, Tell
from an8flower.ground.worker import Worker

__all__ = ["ATTEMPTS", "FINAL", "Event", "Job", "Listener", "Tell", "WorkerDiedError", "run", "run_all"]

ATTEMPTS = 3  # at a job whose workers die, e.g. because memory runs out, before the job counts as the cause


class WorkerDiedError(RuntimeError):
    """A job whose workers died; its text says how.

    Args:
        job: which one.
        reason: how the last worker ended.
    """

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(reason)
        self.job = job

    def __reduce__(self) -> tuple[type[WorkerDiedError], tuple[Job, str]]:
        return type(self), (self.job, str(self))


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


__getattr__ = renamed(
    __name__,
    {
        "Kind": "an8flower.ground.job.Kind",
        "outcome": "an8flower.ground.job.outcome",
        "ONE_THREAD": "an8flower.ground.worker.ONE_THREAD",
        "KEEP_MEMORY": "an8flower.ground.worker.KEEP_MEMORY",
    },
)
