"""The digest that a JSON file carries of itself, by which a later change to the file is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

FIELD = "digest"


class AlteredError(ValueError):
    """Content that is not what was written; the message says how that is known."""


def digest_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all entries of a JSON object except "digest", whatever their order and spacing.

    Raises:
        ValueError: for NaN or an infinity, which JSON does not have.

    >>> digest_of({"a": 1, "b": [2.5]}) == digest_of({"b": [2.5], "a": 1, "digest": "x"})
    True
    """
    rest = {name: value for name, value in content.items() if name != FIELD}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def with_digest(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is to be written: `content` as JSON holds it, and its digest as the last entry.

    >>> list(with_digest({"digest": "old", "shape": (1, 2)}).items())[0]
    ('shape', [1, 2])
    """
    rest = {name: value for name, value in content.items() if name != FIELD}
    as_read: dict[str, Any] = json.loads(json.dumps(rest, allow_nan=False))
    return as_read | {FIELD: digest_of(as_read)}


def check_digest(content: Mapping[str, Any]) -> None:
    """Check what was read against its own digest.

    Raises:
        AlteredError: if it has none, or was altered since it was written.
    """
    recorded = content.get(FIELD)
    if not isinstance(recorded, str):
        raise AlteredError("it has no digest of itself")
    actual = digest_of(content)
    if actual != recorded:
        raise AlteredError(
            f"it was altered after it was written: its digest is {actual[:12]}, not {recorded[:12]!r}"
        )


def read_json(data: bytes) -> Any:
    """Read JSON; refuse NaN and infinities.

    Raises:
        ValueError: if it is not JSON; the message is one line.

    >>> read_json(b'{"a": NaN}')
    Traceback (most recent call last):
    ValueError: it has NaN, which is not JSON
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"it has {constant}, which is not JSON")

    try:
        return json.loads(data, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
