"""The device that models run on, and how many images fit into its memory at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

Name = Literal["auto", "cpu", "cuda", "mps"]
MOST = 100  # larger batches are not faster
SHARE = 0.5  # of the free memory: the rest is for other processes that grow
# An explanation holds gradients and maps in addition to what its forward pass keeps.
HELD = 4

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")

Result = TypeVar("Result")


def device_of(name: str | torch.device) -> torch.device:
    """Return the device with a name, if it is available.

    Args:
        name: "cpu", "cuda" (or e.g. "cuda:1"), "mps", or "auto" for the first available of CUDA, MPS and CPU.
    Raises:
        ValueError: for another name, or a device that this machine or this PyTorch does not have.

    >>> device_of("cpu")
    device(type='cpu')
    """
    kind, _, index = str(name).partition(":")
    if kind not in get_args(Name) or (index and not index.isdecimal()):
        raise ValueError(f"unknown device {str(name)!r}; known are {', '.join(get_args(Name))}")
    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if kind == "auto":
        return torch.device(next(kind for kind, count in counts.items() if count))
    if int(index or 0) >= counts[kind]:
        others = ", ".join(other for other, count in counts.items() if count)
        raise ValueError(f"device {str(name)!r} is not available here; available: {others}")
    return torch.device(str(name))


def device_holding(model: nn.Module) -> torch.device:
    """Return the device of a model's weights; the CPU if it has none."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def batch_that_fits(device: torch.device, bytes_an_image: int, *, most: int = MOST) -> int:
    """Return how many images may go through a model at once, from the memory that is free now.

    Args:
        device: the device that the model runs on.
        bytes_an_image: memory for one image; see `bytes_an_image`.
        most: upper limit.
    Returns:
        from 1 to `most`; `most` where the system does not report how much memory is free.
    """
    free = free_bytes(device)
    if free is None:
        return most
    return min(most, max(1, int(SHARE * free) // max(1, bytes_an_image)))


def bytes_an_image(model: nn.Module, image: torch.Tensor) -> int:
    """Estimate the memory for explaining one image from what its forward pass keeps for backpropagation.

    Args:
        model: left as it is, except for the state that layers such as batch norm keep in train mode.
        image: (1, 3, H, W), on the model's device.
    """
    weights = {tensor.untyped_storage().data_ptr() for tensor in chain(model.parameters(), model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(image.detach().clone().requires_grad_())
    # The graph of the logits holds all tensors until here, so that no address counts for two of them.
    return HELD * (sum(kept.values()) + int(image.nbytes) + int(logits.nbytes))


def free_bytes(device: torch.device) -> int | None:
    """Return the memory that could be allocated now on `device`; None if the system does not report it."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    known = [free for free in (_free_of_machine(), _free_of_container()) if free is not None]
    return max(0, min(known)) if known else None


def _free_of_machine() -> int | None:
    if not _MEMINFO.is_file():
        return None
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _free_of_container() -> int | None:
    """Return what a container may still take (cgroup v2); cached files count as free."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except OSError:
        return None
    if limit == "max":
        return None
    return int(limit) - used + int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))


def halving(batch: int, run: Callable[[int], Result]) -> tuple[Result, int]:
    """Call `run` with a batch size; while memory runs out, call it again with half the size.

    Args:
        batch: the size to start with.
        run: does the work with this many images at a time; it must be possible to start it again.
    Returns:
        what `run` returns, and the batch size that worked, to start with the next time.
    Raises:
        RuntimeError: if there is not enough memory for one image.

    >>> def run(size):
    ...     if size > 30:
    ...         raise torch.OutOfMemoryError("out of memory")
    ...     return "done"
    >>> halving(100, run)
    ('done', 25)
    """
    while True:
        try:
            return run(batch), batch
        except (MemoryError, RuntimeError) as error:
            if batch <= 1 or not _out_of_memory(error):
                raise
        # After the handler, because until then the traceback keeps the tensors of the failed call.
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator and MPS raise a plain RuntimeError.
    return "can't allocate memory" in str(error) or "out of memory" in str(error)
