"""Options under their old names, which work for one more release."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

_LIMITS = {"--seconds": "--limit-s", "--gib": "--limit-gib"}
# What options were called in version 0.1, by command; to be removed in 0.3.
RENAMED: dict[str, dict[str, str]] = {
    "run": _LIMITS,
    "generate": {"--seed": "--drawing-seed"},
    "evaluate": _LIMITS,
    "explain": {"--top": "--top-features"},
    "interpret": {"--top": "--top-images"},
    "new-explainer": {"--folder": "--out"},
    "check": _LIMITS,
    "leaderboard": {"--models": "--model-set"},
    "report": {"--size": "--size-results"},
    "verify-submission": _LIMITS,
    "board add": _LIMITS,
}


def with_new_names(
    arguments: Sequence[str], with_value: Collection[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Replace the old names of options in the arguments of a command line.

    Args:
        arguments: of the program.
        with_value: options of the command that are followed by a value, which is not an option.
    Returns:
        the arguments with new names, and the new name of each old one that was there.

    >>> with_new_names(["check", "sobel", "--seconds=5"])
    (['check', 'sobel', '--limit-s=5'], {'--seconds': '--limit-s'})
    """
    renamed = _renamed_in(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    replaced: dict[str, str] = {}
    new: list[str] = []
    is_value = False
    for argument in arguments[:end]:
        option, sign, value = argument.partition("=")
        if is_value or option not in renamed:
            new.append(argument)
        else:
            replaced[option] = renamed[option]
            new.append(renamed[option] + sign + value)
        is_value = not is_value and not sign and (option in with_value or option in renamed)
    return [*new, *arguments[end:]], replaced


def closest(option: str, arguments: Sequence[str], options: Collection[str]) -> list[str]:
    """Return the option that an unknown one resembles most; if that is an old name, the new one.

    Args:
        option: as the user wrote it.
        arguments: of the program; they begin with the command.
        options: that the command has.

    >>> closest("--second", ["check", "sobel", "--second", "5"], ["--json", "--limit-s"])
    ['--limit-s']
    """
    renamed = _renamed_in(arguments)
    known = {**{name: name for name in options}, **renamed}
    return [known[name] for name in difflib.get_close_matches(option, known, n=1, cutoff=0.7)]


def _renamed_in(arguments: Sequence[str]) -> dict[str, str]:
    return RENAMED.get(" ".join(arguments[:2])) or RENAMED.get(" ".join(arguments[:1]), {})
