"""Share intermediate results between explainers that explain the same images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from an8flower.ground.deprecated import warn_renamed

T = TypeVar("T")


@dataclass(frozen=True)
class Memory:
    """Stored results of computations on some objects: a model, its images and targets.

    The objects must not change while the results are in use.

    Args:
        objects: compared by identity; results for other objects are not stored.
        results: result by key of the computation and identity of the objects.
    """

    objects: tuple[Any, ...]
    results: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def knows(self, objects: tuple[object, ...]) -> bool:
        """Return whether all `objects` are among those of this memory."""
        return all(any(known is other for known in self.objects) for other in objects)

    @property
    def made(self) -> dict[Hashable, Any]:
        """Deprecated name of `results`."""
        warn_renamed("Memory.made", "Memory.results")
        return self.results


_current: ContextVar[Memory | None] = ContextVar("memory", default=None)


@contextmanager
def sharing(*objects: object, memory: Memory | None = None) -> Iterator[None]:
    """Let `once` store results for `objects` inside a `with` block.

    Args:
        objects: a model, images and targets; compared by identity.
        memory: where to store the results; by default a memory that is discarded at the end of the
            block. Inside another block for the same objects, the memory of that block is used.
    """
    if is_shared(*objects) and memory is None:
        yield
        return
    token = _current.set(memory or Memory(objects))
    try:
        yield
    finally:
        _current.reset(token)


def is_shared(*objects: object) -> bool:
    """Return whether `once` stores results for `objects` here."""
    memory = _current.get()
    return memory is not None and memory.knows(objects)


def once(key: Hashable, make: Callable[[], T], *objects: object) -> T:
    """Return `make()`; inside `sharing` for these objects, compute it once per key and then reuse it.

    Args:
        key: identifies the computation.
        make: computes the result from `objects`.
        objects: what the result depends on; compared by identity.
    """
    memory = _current.get()
    if memory is None or not memory.knows(objects):
        return make()
    full_key = (key, *map(id, objects))
    if full_key not in memory.results:
        memory.results[full_key] = make()
    result: T = memory.results[full_key]
    return result
