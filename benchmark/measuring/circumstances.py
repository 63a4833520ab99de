"""When and where something was measured: time, machine, versions. Every record holds it."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime

import torch

from an8flower.ground.versions import versions
from benchmark.record import Json


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def host(device: str | torch.device) -> Json:
    """Return what is known of the machine, with the device that models run on."""
    return {
        "device": str(device),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def circumstances(device: str | torch.device) -> Json:
    """Return the fields "finished", "host" and "versions" of a record that is written now."""
    return {"finished": now(), "host": host(device), "versions": versions()}
