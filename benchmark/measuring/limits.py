"""What a method may take while it is measured, and who knows that it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from an8flower.ground.jobs import Tell
from explainers import Explainer, ExplainerError
from explainers.conformance.limits import limited, quiet, unforked

GRACE_S = 15.0  # what a method's own alarm may be late before its process is stopped from outside


@dataclass(frozen=True)
class Watch:
    """What a method may take for a call, and who is told that it runs.

    Args:
        seconds, gib: limits; None for none.
        tell: of the job it runs in.
    """

    seconds: float | None
    gib: float | None
    tell: Tell | None = None

    @contextmanager
    def around(self, explainer: Explainer, calls: int = 1) -> Iterator[None]:
        """Inside, the method that runs keeps to the limits of so many calls.

        Raises:
            ExplainerError: if it does not.
        """
        key, seconds = explainer.key, None if self.seconds is None else self.seconds * calls
        if self.tell is not None:
            self.tell.note(key)
            self.tell.within(None if seconds is None else seconds + GRACE_S)
        try:
            with quiet(key), unforked(key), limited(key, seconds=seconds, gib=self.gib):
                yield
        except SystemExit as error:
            raise ExplainerError(key, "exit", f"it called sys.exit({error.code!r})") from None
        finally:
            if self.tell is not None:
                self.tell.within(None)
                self.tell.note(None)
