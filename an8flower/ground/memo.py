"""Methods explained together do common work once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Memory:
    """What was made of some objects, a model, its images and targets, which must not change meanwhile.

    Args:
        objects: known by their identity; work on any others is not remembered.
    """

    objects: tuple[Any, ...]
    made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def knows(self, objects: tuple[object, ...]) -> bool:
        return all(any(one is mine for mine in self.objects) for one in objects)


_current: ContextVar[Memory | None] = ContextVar("memory", default=None)


@contextmanager
def sharing(*objects: object, memory: Memory | None = None) -> Iterator[None]:
    """Inside, `once` remembers what is made of `objects`, in `memory` or in one that ends with the block."""
    if is_shared(*objects) and memory is None:
        yield
        return
    token = _current.set(memory or Memory(objects))
    try:
        yield
    finally:
        _current.reset(token)


def is_shared(*objects: object) -> bool:
    """Whether what is made of `objects` is remembered."""
    memory = _current.get()
    return memory is not None and memory.knows(objects)


def once(key: Hashable, make: Callable[[], T], *objects: object) -> T:
    """What `make` makes of `objects`: once for a `key` where they are shared, each time elsewhere."""
    memory = _current.get()
    if memory is None or not memory.knows(objects):
        return make()
    whole = (key, *map(id, objects))
    if whole not in memory.made:
        memory.made[whole] = make()
    made: T = memory.made[whole]
    return made
