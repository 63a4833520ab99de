"""The command that makes a dataset folder whole, as error messages advise it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from an8flower.protocol import VIEWPOINTS


def command(root: str | Path, variant: str, header: Mapping[str, Any] | None = None) -> str:
    """Return the command that generates, completes or repairs a dataset folder.

    Args:
        root: folder that holds the variant's folder.
        variant: name of the variant.
        header: of the dataset in that folder; its seed, factors and views are asked for again.

    >>> command("my data", "part-2c", {"seed": 7, "factors": {}, "views": [1, 2]})
    "an8flower generate --variant part-2c --root 'my data' --viewpoints 1,2 --drawing-seed 7"
    """
    words = ["an8flower", "generate", "--variant", variant, "--root", str(root)]
    if header:
        if len(header["views"]) < VIEWPOINTS:
            words += ["--viewpoints", ",".join(map(str, header["views"]))]
        if header["seed"]:
            words += ["--drawing-seed", str(header["seed"])]
        for name, value in header["factors"].items():
            text = "..".join(map(str, value)) if isinstance(value, list) else value
            words += ["--factor", f"{name}={text}"]
    return shlex.join(words)
