"""Where the code of an explainer comes from."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

_OURS = Path(__file__).resolve().parent


def is_ours(build: Any) -> bool:
    """Return whether a function or class, and all that it wraps, is defined in the files of this package.

    >>> from explainers.gradients import gradient
    >>> is_ours(gradient), is_ours(print)
    (True, False)
    """
    layer = build
    while layer is not None:
        following = getattr(layer, "func", None) or getattr(layer, "__wrapped__", None)
        code = layer if inspect.isroutine(layer) or inspect.isclass(layer) else type(layer)
        if following is None or code is layer:  # a functools.partial is of Python
            try:
                file = Path(inspect.getfile(code)).resolve()
            except (TypeError, OSError):  # built in, or of an interactive session
                return False
            if not file.is_relative_to(_OURS):
                return False
        layer = following
    return True
