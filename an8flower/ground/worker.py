"""A worker process that runs jobs: the side that starts it, and the side that runs in it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from an8flower.ground.job import FINAL, Event, Job, JobWarning, Tell, outcome
from an8flower.ground.text import error_line, one_line

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

# A file in the working directory must not stand for a module of the same name, so Python must not search
# there first (-P), and packages of ours are found wherever the process runs.
_START = """\
import importlib, sys
module, descriptor, *sys.path[:] = sys.argv[1:]
del sys.argv[1:]
from an8flower.ground.moved import install
install("benchmark", "explainers")
importlib.import_module(module).main(int(descriptor))
"""


def process_command(module: str, descriptor: int) -> list[str]:
    """Return the command of a process that finds modules in the same folders and order as this one.

    Args:
        module: whose function `main(descriptor)` it calls.
        descriptor: of the file or connection that it gets.
    """
    folders = [str(Path(folder).absolute()) for folder in sys.path]  # "" is the working directory
    return [sys.executable, "-P", "-c", _START, module, str(descriptor), *folders]


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
                    yield Event("overdue", f"it sent no message for {within:g} s", noted)
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
            elif kind == "warned":
                # Equal warnings of several workers are shown once. An error would end this thread.
                with contextlib.suppress(Warning):
                    warnings.warn(value, stacklevel=1)
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
        with its:
            self._process = subprocess.Popen(
                process_command(__name__, its.fileno()),
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # its standard output is not a result of the command
                env={**KEEP_MEMORY, **os.environ, **ONE_THREAD},
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
            f"its process ended by {_signal(-code)}" if code < 0 else f"its process exited with status {code}"
        )


def _signal(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name


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

    usual = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, JobWarning):
            send(("warned", message))
        else:
            usual(message, category, *where, **more)

    warnings.showwarning = show
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
        except Exception as error:  # whatever its own code for pickling raises
            send(("raised", RuntimeError(f"it cannot be sent: {error_line(error)}: {_shown(last[1])}")))


def _shown(value: Any) -> str:
    try:
        return one_line(repr(value))
    except Exception:
        return f"an object of type {type(value).__name__}"


def _receive(line: Connection, jobs: queue.SimpleQueue[Any]) -> None:
    # In its own thread, so that the end of the process that starts the jobs is noticed at once.
    while True:
        try:
            jobs.put(line.recv())
        except (EOFError, OSError):
            os._exit(0)
        except Exception as error:  # the job cannot be imported here
            jobs.put(error)
