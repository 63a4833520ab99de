"""The process in which jobs run: `python -m an8flower.ground.worker FD`, started only by `jobs.Worker`."""

from __future__ import annotations

import os
import pickle
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from an8flower.ground.jobs import Tell, outcome


def main(descriptor: int) -> None:
    """Run the jobs that arrive, one after the other, until the connection is closed."""
    line = Connection(descriptor)
    jobs: queue.SimpleQueue[tuple[Any, dict[str, Any]] | Exception] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(line, jobs), daemon=True).start()
    mine = os.getpid()
    speaking = threading.Lock()

    def send(message: tuple[str, Any]) -> None:
        if os.getpid() != mine:  # a job forked this process; the copy must not send messages for it
            os._exit(1)
        with speaking:
            line.send(message)

    while True:
        job = jobs.get()
        if isinstance(job, Exception):
            send(("raised", job))
            continue
        try:
            last = outcome(job[0], Tell(send), job[1])
        except SystemExit as error:
            last = ("raised", RuntimeError(f"it called sys.exit({error.code!r})"))
        try:
            send(last)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            send(("raised", RuntimeError(f"{type(error).__name__}: {error}: {last[1]!r:.200}")))


def _receive(line: Connection, jobs: queue.SimpleQueue[Any]) -> None:
    # In its own thread, so that the end of the process that starts the jobs is noticed at once.
    while True:
        try:
            jobs.put(line.recv())
        except (EOFError, OSError):
            os._exit(0)
        except Exception as error:  # the job cannot be imported here
            jobs.put(error)


if __name__ == "__main__":
    main(int(sys.argv[1]))
