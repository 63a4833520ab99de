"""How every command prints: results on stdout, notes on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console

out = Console()
notes = Console(stderr=True, highlight=False)


def say(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a result as JSON, or else its text."""
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)
