"""The command `an8flower`."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Annotated, TextIO

import typer

from an8flower.ground.registry import PlugInWarning

# Each adds its commands, in the order of the help.
from benchmark.cli import (  # noqa: F401
    certifying,
    checking,
    data,
    listing,
    measuring,
    reporting,
    showing,
    starting,
    submitting,
)
from benchmark.cli.console import app, notes

INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """See the example in each command's help. 'an8flower run' does everything."""


def main() -> None:
    """Run the command; an error is one line, with its traceback only under --debug."""
    debug = "--debug" in sys.argv[1:]
    # Wherever it stands, so that a failed command can be repeated with it at the end.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    warnings.showwarning = _show_warning
    try:
        code = app(arguments, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # a wrong option, Typer explains
            error.show()
            sys.exit(error.exit_code)
        if debug:
            raise
        notes.print(f"an8flower: {_one_line(error)}", markup=False, soft_wrap=True)
        sys.exit(1)
    if code == INTERRUPTED:  # some releases of Typer return it
        notes.print("interrupted: what is done is kept, the same command goes on from there", soft_wrap=True)
    sys.exit(code if isinstance(code, int) else 0)


_usual = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What is said of a plug-in is one line for the user; other warnings are for programmers."""
    if issubclass(category, PlugInWarning):
        notes.print(f"an8flower: {message}", markup=False, soft_wrap=True)
    else:
        _usual(message, category, filename, lineno, file, line)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        reason = _DISK.get(error.errno, (error.strerror or "failed").lower())
        return f"cannot use {error.filename or 'the output folder'}: {reason}"
    text = " ".join(str(error).split())
    expected = isinstance(error, ValueError | LookupError | OSError) or type(error).__name__ in (
        "NoGraphicsError",
        "MissingExtraError",
    )
    return text if expected and text else f"unexpected {type(error).__name__}: {text} (--debug shows where)"


_DISK = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder, what is done is kept",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder",
    errno.EPERM: "permission denied; choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}
