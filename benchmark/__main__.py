"""The program `an8flower`, also called by `python -m an8flower.benchmark`."""

import signal
import sys
from types import FrameType

INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C


def main() -> None:
    """Run the command. Ctrl-C ends it without a traceback, also while modules are still being imported."""
    pressed: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        from benchmark.cli import main as run

        run(interrupted=lambda: bool(pressed))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception:
        # Some libraries take Ctrl-C for a failed import of an optional package, and fail later.
        if pressed:
            sys.exit(INTERRUPTED)
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python ends: another Ctrl-C would only show where


if __name__ == "__main__":
    main()
