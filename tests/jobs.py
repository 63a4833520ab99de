"""Jobs, good and bad, in a module that a worker can import."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from pathlib import Path

from an8flower.ground.job import JobWarning
from an8flower.ground.jobs import Job, run


def doubled(tell, x):
    return 2 * x


def counts(tell, x):
    for k in range(x):
        tell(k)
    return "counted"


def killed(tell, x):
    tell.note("here")
    os.kill(os.getpid(), signal.SIGKILL)


def left(tell, x):
    tell.note("here")
    os._exit(7)


def overflown(tell, x):
    tell.note("here")
    ctypes.string_at(0)


def silent(tell, x):
    tell.note("here")
    tell.within(0.3)
    time.sleep(60)


def wrong(tell, x):
    raise ValueError("no such\nthing")


def exited(tell, x):
    sys.exit(3)


def unpicklable(tell, x):
    return lambda: x


def surroundings(tell, x):
    import torch

    return {"pid": os.getpid(), "threads": torch.get_num_threads()}


def retires(tell, x):
    tell.retire()
    return os.getpid()


def prints(tell, x):
    sys.stdout.write("hello\n")
    sys.stdout.flush()
    os.write(1, b"hello\n")


def warns(tell, x):
    warnings.warn("take care", JobWarning, stacklevel=1)
    warnings.warn("for programmers", UserWarning, stacklevel=1)


def host_told(tell, x):
    """Tells of its Dask worker, and waits to be killed with it; the second time all is well."""
    tries = Path(x) / "tries"
    seen = len(tries.read_text()) if tries.exists() else 0
    tries.write_text("x" * (seen + 1))
    tell(os.getppid())
    if seen == 0:
        time.sleep(60)
    return seen + 1


def noted(tell, x):
    """Writes its process id, and another file if nobody stops it."""
    Path(x, "pid").write_text(str(os.getpid()))
    time.sleep(600)
    Path(x, "ended").touch()


def begin(folder):
    run([Job(noted, {"x": folder})], lambda job, event: (), workers=1)


def killed_at_first(tell, x):
    """Dies in its first two attempts, which it counts in the file `x`."""
    count = Path(x)
    attempt = int(count.read_text()) if count.exists() else 0
    count.write_text(str(attempt + 1))
    tell(attempt)
    if attempt < 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return attempt
