"""Where models run, and how many images at once its memory allows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

Name = Literal["auto", "cpu", "cuda", "mps"]
MOST = 100  # beyond that a batch gains nothing
SHARE = 0.5  # of the free memory: the rest is for what else grows meanwhile
# An explanation holds gradients and maps beside what its forward pass keeps.
HELD = 4

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")

Result = TypeVar("Result")


def device_of(name: str | torch.device) -> torch.device:
    """The device of that name, which is there.

    Args:
        name: "cpu", "cuda" (or e.g. "cuda:1"), "mps", or "auto" for the first there is of CUDA, MPS and CPU.
    Raises:
        ValueError: for another name, or a device that this machine or this PyTorch does not have.

    >>> device_of("cpu")
    device(type='cpu')
    """
    kind, _, index = str(name).partition(":")
    if kind not in get_args(Name) or (index and not index.isdecimal()):
        raise ValueError(f"unknown device {str(name)!r}; known are {', '.join(get_args(Name))}")
    there = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    if kind == "auto":
        return torch.device(next(one for one, count in there.items() if count))
    if int(index or 0) >= there[kind]:
        others = ", ".join(one for one, count in there.items() if count)
        raise ValueError(f"there is no device {str(name)!r} here; there is {others}")
    return torch.device(str(name))


def device_holding(model: nn.Module) -> torch.device:
    """Where a model's weights are; the CPU if it has none."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


def batch_that_fits(device: torch.device, bytes_an_image: int, *, most: int = MOST) -> int:
    """How many images may go through a model together, by the memory that is free now.

    Args:
        device: where.
        bytes_an_image: what one of them takes; see `bytes_an_image`.
        most: never more than this.
    Returns:
        from 1 to `most`; `most` where the system does not tell how much memory is free.
    """
    free = free_bytes(device)
    if free is None:
        return most
    return min(most, max(1, int(SHARE * free) // max(1, bytes_an_image)))


def bytes_an_image(model: nn.Module, image: torch.Tensor) -> int:
    """Memory that explaining one image takes, a bound from what its forward pass keeps for going back.

    Args:
        model: left as it is but for the state that layers such as batch norm keep in train mode.
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
    # Held until here by what computed the logits, so that no address counts for two tensors.
    return HELD * (sum(kept.values()) + int(image.nbytes) + int(logits.nbytes))


def free_bytes(device: torch.device) -> int | None:
    """Memory that could be allocated now on `device`; None if the system does not tell."""
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    found = [free for free in (_free_of_machine(), _free_of_container()) if free is not None]
    return max(0, min(found)) if found else None


def _free_of_machine() -> int | None:
    if not _MEMINFO.is_file():
        return None
    fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in fields else None


def _free_of_container() -> int | None:
    """What a container may still take (cgroup v2): files that it has read are given up when needed."""
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
    """Call `run` with a number of images, and with half as many for as long as memory runs out.

    Args:
        batch: to begin with.
        run: does the work, this many images at a time; must be such that it can be begun again.
    Returns:
        what `run` returns, and with how many images it did: what to begin with the next time.
    Raises:
        RuntimeError: if memory does not suffice for one image.

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
        # After the handler: until then the error's traceback keeps the tensors of the failed call.
        batch //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # The CPU's allocator and MPS raise a plain RuntimeError.
    return "can't allocate memory" in str(error) or "out of memory" in str(error)
