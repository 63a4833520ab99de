"""JSON of a stranger against a schema: read strictly, then checked, with messages for people.

The checker knows the part of JSON Schema (draft 2020-12) that `schema.SCHEMA` uses, and no more.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from benchmark.submission.errors import SubmissionError, shown

_TYPES: dict[str, tuple[Any, str]] = {
    "object": (dict, "an object"),
    "array": (list, "a list"),
    "string": (str, "a text"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "null": (type(None), "null"),
}
KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "propertyNames", "maxProperties", "items",
    "minItems", "maxItems", "pattern", "minLength", "maxLength", "enum", "minimum", "maximum",
}  # fmt: skip
_NOTES = {"$schema", "$id", "title", "description"}


def read_json(data: bytes, where: str) -> Any:
    """JSON as it is meant: UTF-8, no NaN, no infinity, no name twice, not too deep.

    Raises:
        SubmissionError: with the reason.
    """
    try:
        return json.loads(data.decode(), object_pairs_hook=_object, parse_constant=_constant)
    except SubmissionError as error:
        raise SubmissionError(f"{where} {error}") from None
    except RecursionError:
        raise SubmissionError(f"{where} is nested too deeply") from None
    except ValueError as error:
        raise SubmissionError(f"{where} is no JSON: {shown(str(error))}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise SubmissionError(f"has {shown(twice)} twice in one object; each name may be there once")
    return found


def _constant(name: str) -> Any:
    raise SubmissionError(f"holds {name}, which is no JSON; numbers must be finite")


def must_fit(value: Any, schema: dict[str, Any], where: str) -> None:
    """Check `value` against a schema.

    Args:
        value: what `read_json` gave.
        schema: of the keywords in `KEYWORDS`.
        where: what messages call it; entries follow as in "cells[0].fold".
    Raises:
        SubmissionError: for the first entry that does not fit, with what it must be.
    """
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    # True is an int to Python, not to JSON.
    if isinstance(value, bool) or not any(isinstance(value, _TYPES[kind][0]) for kind in kinds):
        raise _refused(value, schema, where)
    if isinstance(value, dict):
        _check_object(value, schema, where)
    elif isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
            raise _refused(value, schema, where)
        for k, item in enumerate(value):
            must_fit(item, schema["items"], f"{where}[{k}]")
    elif isinstance(value, str):
        long = not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)
        # fullmatch, since Python's $ lets a line break pass.
        if long or not re.fullmatch(schema.get("pattern", "(?s:.*)"), value):
            raise _refused(value, schema, where)
    elif isinstance(value, int | float):
        least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
        if (isinstance(value, float) and not math.isfinite(value)) or not least <= value <= most:
            raise _refused(value, schema, where)
    if "enum" in schema and value not in schema["enum"]:
        raise _refused(value, schema, where)


def _check_object(value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
    at, inside = _at(where), where if not where or where.endswith(": ") else f"{where}."
    for name in schema.get("required", ()):
        if name not in value:
            raise SubmissionError(f"{at} lacks {name!r}")
    if len(value) > schema.get("maxProperties", math.inf):
        raise _refused(value, schema, where)
    others = schema.get("additionalProperties", False)
    for name, one in value.items():
        if name in schema.get("properties", {}):
            must_fit(one, schema["properties"][name], f"{inside}{name}")
        elif others is False:
            known = ", ".join(schema["properties"])
            raise SubmissionError(f"{at} has an unknown entry {shown(name)}; known are {known}")
        else:
            if "propertyNames" in schema and not re.fullmatch(schema["propertyNames"]["pattern"], name):
                raise SubmissionError(f"{at} has an entry {shown(name)}, which it cannot have")
            must_fit(one, others, f"{inside}{name}")


def _refused(value: Any, schema: dict[str, Any], where: str) -> SubmissionError:
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    right = schema.get("description") or " or ".join(_TYPES[kind][1] for kind in kinds)
    return SubmissionError(f"{_at(where)} is {shown(value)}; it must be {right}")


def _at(where: str) -> str:
    return where.removesuffix(": ") or "the submission"


def keywords_of(schema: Any) -> set[str]:
    """Every keyword that a schema uses, for the test that the checker knows them all."""
    found: set[str] = set()
    if not isinstance(schema, dict):
        return found
    for name, value in schema.items():
        found.add(name)
        if name == "properties":
            found.update(*(keywords_of(one) for one in value.values()))
        elif name in ("items", "additionalProperties", "propertyNames"):
            found |= keywords_of(value)
    return found - _NOTES
