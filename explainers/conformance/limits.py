"""Limit the time and memory of an explainer, and guard standard output and the process it runs in."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from types import FrameType

from an8flower.ground.job import JobWarning
from an8flower.ground.process_state import altered
from explainers.base import ExplainerError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

GIB = 2**30
# Interval after which the alarm is repeated, in case the method caught it.
AGAIN_S = 5.0


class PrintedWarning(JobWarning):
    """An explainer printed to standard output; the message quotes the first line."""


@contextmanager
def limited(name: str, *, seconds: float | None, gib: float | None) -> Iterator[None]:
    """Stop the block if it takes too much time or memory.

    The time limit works in the main thread of systems with SIGALRM, the memory limit where /proc of Linux
    reports the memory of the process; elsewhere there is no such limit. During a call into compiled code
    the alarm is delayed until the call returns. The memory is that of the whole process, including other
    threads.

    Args:
        name: name of the explainer, for the message.
        seconds: time limit; None for no limit.
        gib: limit of the memory allocated in addition to that in use at the start, in GiB; None for no
            limit.
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
    """Keep what the block prints from standard output, and warn about it at the end.

    The warning is given once per explainer and process.

    Args:
        name: name of the explainer, for the message.
    Warns:
        PrintedWarning: if the block printed something; with its first line.
    """
    lines: list[str] = []
    try:
        with captured(lines):
            yield
    finally:
        if lines and name not in _warned:
            _warned.add(name)
            warnings.warn(
                f"explainer {name!r} printed {shortened(lines[0])!r}; use logging, standard output is for "
                "the command",
                PrintedWarning,
                stacklevel=3,
            )


_warned: set[str] = set()


@contextmanager
def captured(lines: list[str]) -> Iterator[None]:
    """Redirect what the block prints to standard output, by Python code or compiled code, to a list.

    Args:
        lines: the printed lines are appended to it at the end, without empty ones. Of compiled code's
            output the first 1 000 bytes are kept.
    """
    printed, below = io.StringIO(), io.BytesIO()
    try:
        with _descriptor(below), redirect_stdout(printed):
            yield
    finally:
        text = printed.getvalue() + below.getvalue().decode(errors="replace")
        lines += [line for line in text.splitlines() if line.strip()]


def shortened(line: str) -> str:
    """Return a line without surrounding spaces, of at most 60 characters."""
    line = line.strip()
    return line if len(line) <= 60 else f"{line[:57]}..."


@contextmanager
def _descriptor(written: io.BytesIO) -> Iterator[None]:
    """Redirect the file descriptor of standard output; `written` receives the bytes at the end."""
    if not hasattr(os, "memfd_create"):  # macOS, Windows
        yield
        return
    sys.stdout.flush()
    saved = os.dup(STDOUT)
    with os.fdopen(os.memfd_create("stdout"), "w+b", buffering=0) as buffer:
        os.dup2(buffer.fileno(), STDOUT)
        try:
            yield
        finally:
            _libc().fflush(None)  # compiled code may hold output in its own buffers
            os.dup2(saved, STDOUT)
            os.close(saved)
            if buffer.tell():
                buffer.seek(0)
                written.write(buffer.read(KEPT_BYTES))


STDOUT = 1
KEPT_BYTES = 1000


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@contextmanager
def unforked(name: str) -> Iterator[None]:
    """Raise if the block forks the process; a forked process exits immediately.

    A forked process would continue the caller's work in parallel, and threads of compiled libraries do not
    survive a fork. Starting another program, as `subprocess` does, is allowed.

    Args:
        name: name of the explainer, for the message.
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
            name, "fork", "it forked its process; use subprocess or threads for what must run in parallel"
        )


@contextmanager
def unaltered(name: str) -> Iterator[None]:
    """Raise if the block leaves the process changed: replaced functions, modes, settings, limits.

    What was changed is undone as far as possible.

    Args:
        name: name of the explainer, for the message.
    Raises:
        ExplainerError: for "process", at the end, unless the block raises.
    """
    with altered() as changes:
        yield
    if changes:
        some = ", ".join(changes[:3]) + (", ..." if len(changes) > 3 else "")
        raise ExplainerError(name, "process", f"it changed {some}; undo this before the method returns")


# Number of forks of the explainer that is running; None if none is running.
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
    """Return the size of this process's data in memory, in GiB; 0 where /proc does not report it."""
    if resource is None or not _STATM.exists():
        return 0.0
    return int(_STATM.read_text().split()[5]) * resource.getpagesize() / GIB


class _Overdue(BaseException):
    """Raised by the alarm; `except Exception` does not catch it."""


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
        # Restart a timer that ran before; it is late by the time spent in the block.
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler or signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, *timer)
    if rung:  # also if the method caught the alarm and returned
        raise ExplainerError(name, "time", f"it took longer than {seconds:g} s")


_STATM = Path("/proc/self/statm")


@contextmanager
def _memory(name: str, gib: float) -> Iterator[None]:
    # RLIMIT_DATA, not the address space, which includes memory that threads and CUDA only reserve. The
    # stacks of new threads do count, 8 MiB each: a limit far below 1 GiB is for tests.
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
        # The frames of the traceback hold references to what was allocated.
        traceback.clear_frames(error.__traceback__)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    if short:
        raise ExplainerError(
            name, "memory", f"it allocated more than {gib:g} GiB in addition to what was in use"
        )


# Parts of PyTorch's messages when it cannot allocate memory.
_SHORT = ("DefaultCPUAllocator", "can't allocate memory", "std::bad_alloc")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
