"""What a method may take, in seconds and GiB, and what it must leave alone: standard output, its process."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from types import FrameType

from explainers.base import ExplainerError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

GIB = 2**30
# How long after the alarm it rings again, should the method have caught it.
AGAIN_S = 5.0


@contextmanager
def limited(name: str, *, seconds: float | None, gib: float | None) -> Iterator[None]:
    """Inside, a method that takes too long or too much memory is stopped.

    The time is watched in the main thread of systems with SIGALRM, and memory where Linux' /proc tells
    how much there is; elsewhere there is no such limit. An alarm waits for the end of a call into
    compiled code. The memory is that of the whole process, other threads included.

    Args:
        name: the method's, for the message.
        seconds: what it may take; None for no limit.
        gib: what it may allocate above what the process has at the start; None for no limit.
    Raises:
        ExplainerError: for "time" or "memory".
    """
    with ExitStack() as limits:
        if seconds is not None and hasattr(signal, "SIGALRM") and _in_main_thread():
            limits.enter_context(_time(name, seconds))
        if gib is not None and resource is not None and _STATM.exists():
            limits.enter_context(_memory(name, gib))
        yield


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Inside, nothing that is printed reaches standard output, by Python code or compiled code.

    Args:
        name: the method's, for the message.
    Raises:
        ExplainerError: for "stdout", at the end, if something was printed.
    """
    with _descriptor() as below, redirect_stdout(io.StringIO()) as printed:
        yield
    said = printed.getvalue() + below.getvalue().decode(errors="replace")
    if said:
        first = said.strip().partition("\n")[0]
        shown = first if len(first) <= 60 else f"{first[:57]}..."
        raise ExplainerError(
            name, "stdout", f"it printed {shown!r}; a method must leave standard output to the command"
        )


@contextmanager
def _descriptor() -> Iterator[io.BytesIO]:
    """What is written to the descriptor of standard output inside, known at the end."""
    written = io.BytesIO()
    if not hasattr(os, "memfd_create"):  # macOS, Windows
        yield written
        return
    sys.stdout.flush()
    kept = os.dup(STDOUT)
    with os.fdopen(os.memfd_create("stdout"), "w+b", buffering=0) as taken:
        os.dup2(taken.fileno(), STDOUT)
        try:
            yield written
        finally:
            _libc().fflush(None)  # what compiled code has printed so far
            os.dup2(kept, STDOUT)
            os.close(kept)
        if taken.tell():
            taken.seek(0)
            written.write(taken.read(SHOWN))


STDOUT = 1
SHOWN = 1000  # bytes of what was printed that are kept


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@contextmanager
def unforked(name: str) -> Iterator[None]:
    """Inside, a method must not copy the process it runs in; a copy ends at once.

    A copy would go on with the caller's own work beside it, and threads of compiled libraries do not
    survive in one. Starting another program, as `subprocess` does, is no copy.

    Raises:
        ExplainerError: for "fork", at the end.
    """
    global _forks
    before, _forks = _forks, 0
    try:
        yield
    finally:
        forks, _forks = _forks, before
    if forks:
        raise ExplainerError(
            name, "fork", "it copied its process; use subprocess, or threads, for what must run beside it"
        )


# How often the method that runs now has forked; None while none runs.
_forks: int | None = None


def _count() -> None:
    global _forks
    if _forks is not None:
        _forks += 1


def _leave() -> None:
    if _forks is not None:
        os._exit(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_count, after_in_child=_leave)


def kept_gib() -> float:
    """How much memory the data of this process takes, in GiB; 0 where Linux' /proc does not tell."""
    if resource is None or not _STATM.exists():
        return 0.0
    return int(_STATM.read_text().split()[5]) * resource.getpagesize() / GIB


class _Overdue(BaseException):
    """The alarm, of a kind that `except Exception` does not catch."""


@contextmanager
def _time(name: str, seconds: float) -> Iterator[None]:
    rung = over = False

    def ring(number: int, frame: FrameType | None) -> None:
        nonlocal rung
        if not over:
            rung = True
            raise _Overdue

    handler = signal.signal(signal.SIGALRM, ring)
    timer = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
    try:
        yield
    except (_Overdue, Exception):
        if not rung:
            raise
    finally:
        over = True
        # What is left of a timer that ran before; it is late by what was spent in here.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    if rung:  # also if the method caught the alarm and ended in its own way
        raise ExplainerError(name, "time", f"it took longer than {seconds:g} s a batch")


_STATM = Path("/proc/self/statm")


@contextmanager
def _memory(name: str, gib: float) -> Iterator[None]:
    # Data, not address space: that would count what threads and CUDA merely set aside. The stacks of new
    # threads do count, 8 MiB each: a limit far below 1 GiB is for tests.
    pages = int(_STATM.read_text().split()[5])
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = pages * resource.getpagesize() + int(gib * GIB)
    lower = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([wanted, *lower]), hard))
    short = False
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        short = isinstance(error, MemoryError) or any(sign in str(error) for sign in _SHORT)
        if not short:
            raise
        # The frames the error came through hold what was allocated.
        traceback.clear_frames(error.__traceback__)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    if short:
        raise ExplainerError(name, "memory", f"it asked for more than {gib:g} GiB above what was in use")


# How PyTorch says that the system gave it no memory.
_SHORT = ("DefaultCPUAllocator", "can't allocate memory", "std::bad_alloc")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
