"""How every command prints: results on stdout, notes on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

from an8flower.ground.text import printable


class _SafeConsole(Console):
    """Prints texts of others, e.g. of an error or a record, without what could change the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does; control characters in texts are shown as escapes."""
        super().print(*(printable(one) if isinstance(one, str) else one for one in objects), **options)


out = _SafeConsole()
notes = _SafeConsole(stderr=True, highlight=False)


def say(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a result as JSON, or else its text."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)
