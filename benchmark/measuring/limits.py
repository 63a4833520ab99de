"""The limits that an explainer has while it is measured, and the messages that say which one runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from an8flower.ground.deprecated import renamed
from an8flower.ground.jobs import Tell
from explainers import Explainer, ExplainerError
from explainers.conformance.limits import limited, quiet, unforked
from explainers.isolation.remote import GRACE_S as REMOTE_GRACE_S
from explainers.isolation.remote import START_S, RemoteMethod

GRACE_S = 15.0  # how late an explainer's own alarm may be before its process is stopped


@dataclass(frozen=True)
class Limits:
    """Time and memory for one call of an explainer.

    Args:
        seconds, gib: limits; None for none.
        tell: channel of the job in which it runs.
    """

    seconds: float | None
    gib: float | None
    tell: Tell | None = None

    @contextmanager
    def around(self, explainer: Explainer, calls: int = 1) -> Iterator[None]:
        """Enforce the limits of this number of calls on the code inside the block.

        An explainer in a process of its own has its limits there; here only the time is announced.

        Raises:
            ExplainerError: if it breaks one.
        """
        name, seconds = explainer.name, None if self.seconds is None else self.seconds * calls
        remote = isinstance(explainer.method, RemoteMethod)
        if self.tell is not None:
            self.tell.note(name)
            grace = GRACE_S + (REMOTE_GRACE_S + START_S if remote else 0)
            self.tell.within(None if seconds is None else seconds + grace)
        try:
            if remote:
                yield
            else:
                with quiet(name), unforked(name), limited(name, seconds=seconds, gib=self.gib):
                    yield
        except SystemExit as error:
            raise ExplainerError(name, "exit", f"it called sys.exit({error.code!r})") from None
        finally:
            if self.tell is not None:
                self.tell.within(None)
                self.tell.note(None)


__getattr__ = renamed(__name__, {"Watch": "Limits"})
