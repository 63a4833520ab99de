"""Options under their old names, which work for one more release."""

from __future__ import annotations

from collections.abc import Sequence

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


def with_new_names(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Replace the old names of options in the arguments of a command line.

    Returns:
        the arguments with new names, and the new name of each old one that was there.

    >>> with_new_names(["check", "sobel", "--seconds=5"])
    (['check', 'sobel', '--limit-s=5'], {'--seconds': '--limit-s'})
    """
    renamed = RENAMED.get(" ".join(arguments[:2])) or RENAMED.get(" ".join(arguments[:1]), {})
    end = arguments.index("--") if "--" in arguments else len(arguments)
    replaced: dict[str, str] = {}
    new = []
    for argument in arguments[:end]:
        option, sign, value = argument.partition("=")
        if option in renamed:
            replaced[option] = renamed[option]
        new.append(renamed.get(option, option) + sign + value)
    return [*new, *arguments[end:]], replaced
