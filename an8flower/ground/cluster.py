"""Run jobs on a Dask cluster: each Dask worker runs them in a separate process, which may die alone."""

from __future__ import annotations

import queue
import threading
import uuid
from collections.abc import Iterable
from typing import Any

from an8flower.ground.job import FINAL, Event, Job, Listener
from an8flower.ground.registry import MissingExtraError
from an8flower.ground.worker import Worker

ANSWER_S = 20


def run_on_cluster(jobs: Iterable[Job], heard: Listener, scheduler: str) -> None:
    """Do what `jobs.run` does with the workers of a Dask scheduler.

    The loss of a Dask worker is not an event: Dask gives its job to another worker, a few times.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise MissingExtraError(
            "a Dask scheduler needs the extra 'cluster': pip install 'an8flower[cluster]'"
        ) from error
    try:
        client = Client(scheduler, timeout=ANSWER_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"no Dask scheduler answers at {scheduler} within {ANSWER_S} s ({error})") from error
    events: queue.SimpleQueue[tuple[str, Event]] = queue.SimpleQueue()
    topic = f"an8flower-{uuid.uuid4().hex}"
    known: dict[str, Job] = {}
    futures: dict[str, Any] = {}

    def submit(job: Job) -> None:
        name = f"{topic}-{len(known)}"
        known[name] = job
        futures[name] = client.submit(_host, job, name, topic, key=name, pure=False)
        futures[name].add_done_callback(lambda future: events.put((name, _last(future))))

    def _last(future: Any) -> Event:
        error = future.exception()
        if error is None:
            event: Event = future.result()
            return event
        if isinstance(error, KilledWorker):
            return Event("died", "each Dask worker that ran it was lost")
        return Event("raised", error)

    try:
        client.subscribe_topic(topic, lambda event: events.put((event[1][0], Event("told", event[1][1]))))
        for job in jobs:
            submit(job)
        while futures:
            name, event = events.get()
            if event.kind in FINAL:
                del futures[name]
            for more in heard(known[name], event):
                submit(more)
    finally:
        client.cancel(list(futures.values()), force=True)
        client.close()


_mine = threading.local()


def _host(job: Job, name: str, topic: str) -> Event:
    """Run a job in this Dask thread's own process; its messages go through the scheduler."""
    from distributed import get_worker

    dask = get_worker()
    if not hasattr(_mine, "worker"):
        _mine.worker = Worker()
    last = Event("died", "")
    for last in _mine.worker.run(job):
        if last.kind not in FINAL:
            dask.log_event(topic, (name, last.value))
    return last
