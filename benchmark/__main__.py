"""The program `an8flower`, also called by `python -m an8flower.benchmark`."""

import signal
import sys

INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C


def main() -> None:
    """Run the command. Ctrl-C ends it without a traceback, also while modules are still being imported."""
    try:
        from benchmark.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python ends: another Ctrl-C would only show where


if __name__ == "__main__":
    main()
