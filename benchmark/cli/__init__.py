"""The command `an8flower`."""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TextIO

import typer

from an8flower.ground.job import JobWarning
from an8flower.ground.registry import PlugInWarning
from benchmark.cli.boards import leaderboard
from benchmark.cli.certifying import certify
from benchmark.cli.checking import check
from benchmark.cli.console import notes
from benchmark.cli.data import export, gallery, generate, verify
from benchmark.cli.gating import gate
from benchmark.cli.listing import list_names
from benchmark.cli.measuring import evaluate, train
from benchmark.cli.renamed import closest, with_new_names
from benchmark.cli.reporting import report
from benchmark.cli.running import run
from benchmark.cli.showing import explain, interpret
from benchmark.cli.starting import new_explainer
from benchmark.cli.submitting import submit
from benchmark.cli.verifying import add, list_submissions, verify_submission

NAME = "an8flower"
INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C

# In the order of the help.
PANELS: dict[str, dict[str, Callable[..., Any]]] = {
    "Start here": {"run": run, "list": list_names},
    "Dataset": {"generate": generate, "verify": verify, "gallery": gallery, "export": export},
    "Measure": {"train": train, "certify": certify, "evaluate": evaluate, "gate": gate},
    "Explain": {"explain": explain, "interpret": interpret},
    "Your method": {"new-explainer": new_explainer, "check": check, "submit": submit},
    "Results": {"leaderboard": leaderboard, "report": report, "verify-submission": verify_submission},
}
BOARD: dict[str, Callable[..., Any]] = {"add": add, "list": list_submissions}


def _application() -> typer.Typer:
    style: dict[str, Any] = {
        "no_args_is_help": True,
        "rich_markup_mode": "rich",
        "context_settings": {"help_option_names": ["-h", "--help"]},
    }
    application = typer.Typer(
        name=NAME,
        help="Measure whether heatmaps show what an image classifier really uses.",
        epilog="Each command's --help has an example. To complete commands, options and names with the "
        "TAB key, run 'an8flower --install-completion' once and open a new terminal.",
        pretty_exceptions_enable=False,
        **style,
    )
    for panel, commands in PANELS.items():
        for name, command in commands.items():
            application.command(name, rich_help_panel=panel)(command)
    board = typer.Typer(help="Add submissions to the board, or list them.", **style)
    for name, command in BOARD.items():
        board.command(name)(command)
    application.add_typer(board, name="board", rich_help_panel="Results")
    application.callback()(_options)
    return application


def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


app = _application()


def main(interrupted: Callable[[], bool] = lambda: False) -> None:
    """Run the command; an error is printed as one line, with its traceback only under --debug.

    Args:
        interrupted: returns whether Ctrl-C was pressed. Some libraries take it for a failed import of an
            optional package, and fail later: such an error is reported as the interruption that it is.
    """
    debug = "--debug" in sys.argv[1:]
    # Anywhere in the line, so that a failed command can be repeated with --debug at its end.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    options = _options_of(arguments)
    with_value = [name for name, has_value in options.items() if has_value]
    arguments, renamed = with_new_names(arguments, with_value)
    if renamed:
        sys.argv[1:] = arguments  # what a submission records as its command
        changes = ", ".join(f"{old} is now called {new}" for old, new in renamed.items())
        notes.print(f"{NAME}: {changes}; old names will stop working in version 0.3", soft_wrap=True)
    warnings.showwarning = _show_warning
    try:
        code = app(arguments, prog_name=NAME, standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # wrong usage, which Typer explains
            if hasattr(error, "possibilities") and hasattr(error, "option_name"):
                error.possibilities = closest(error.option_name, arguments, list(options))
            error.show()
            sys.exit(error.exit_code)
        if debug:
            raise
        if not interrupted():
            notes.print(f"{NAME}: {_one_line(error)}", markup=False, soft_wrap=True)
            sys.exit(1)
        code = INTERRUPTED
    if code == INTERRUPTED:  # some releases of Typer return it
        notes.print(
            "interrupted: finished work is kept; run the same command again to continue", soft_wrap=True
        )
    sys.exit(code if isinstance(code, int) else 0)


def _options_of(arguments: Sequence[str]) -> dict[str, bool]:
    """Return the options of the command that is called, and for each whether a value follows it."""
    command: Any = typer.main.get_command(app)
    for name in arguments:
        if not hasattr(command, "commands") or name not in command.commands:
            break
        command = command.commands[name]
    found = [one for one in command.params if one.param_type_name == "option"]
    return {name: not one.is_flag for one in found for name in (*one.opts, *one.secondary_opts)}


_usual = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning about a plug-in as one line for the user; other warnings are for programmers."""
    if issubclass(category, PlugInWarning | JobWarning):
        notes.print(f"{NAME}: {message}", markup=False, soft_wrap=True)
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
    errno.ENOSPC: "the disk is full; free some space or choose another folder; finished work is kept",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose another folder",
    errno.EPERM: "permission denied; choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
}
