"""Wait for other processes without a limit that a slow machine could exceed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

HANG_S = 600  # for subprocesses, too: whatever takes longer does not end at all


def until(happened: Callable[[], bool], process: subprocess.Popen | None = None) -> None:
    """Wait until `happened()`; fail if `process` ends before, or if nothing happens for ten minutes."""
    begun = time.monotonic()
    while not happened():
        assert process is None or process.poll() is None, "the process ended too early"
        assert time.monotonic() - begun < HANG_S, "it hangs"
        time.sleep(0.005)


def runs(pid: int) -> bool:
    """Return whether a process still runs; one that waits to be reaped by its parent does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
