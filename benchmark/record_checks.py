"""What the content of a record must be: types and ranges of its fields, and how they hang together.

A results folder may be from anyone, and a file in it may have been edited; what passes here can be shown.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

from an8flower.ground.text import one_line
from an8flower.protocol import FOLDS
from benchmark.metrics import metrics
from benchmark.setups import PLAIN
from explainers.base import Role
from explainers.names import Reference

Json = dict[str, Any]  # an object as JSON holds it
# A planned record belongs to a cell that is not measured yet; it is never written.
Status = Literal["planned", "ok", "invalid", "failed"]

LARGEST = 1e300  # of a number
TOLERANCE = 1e-9  # between a mean and what it is the mean of: they are added in different orders


class RecordError(ValueError):
    """Content that is not a valid record; the message says what is wrong."""


Test = Callable[[Any], bool]
Rule = tuple[Test, str]  # and what passes it, as text


def key(identity: Json) -> str:
    """Return the SHA-256 of everything that determines the heatmaps of a cell."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def check(content: Mapping[str, Any]) -> None:
    """Check the content of a record of the present schema version, its digest aside.

    Raises:
        RecordError: for the first thing that is wrong.
    """
    failed = content.get("status") == "failed"
    require_all(content, _ALWAYS if failed else _ALWAYS | _OF_MEASURED)
    require_all(content, _those_in(content, _OF_MEASURED | _OPTIONAL))
    for name in ("invalid", "undefined", "zeros"):
        if content.get(name, 0) > content.get("images", 0):
            raise RecordError(f"{name} is {content[name]} of {content['images']} images")
    _check_identity(content)
    if not failed:
        _check_scores(content)
    if content.get("submission") is not None:
        require_all(content["submission"], _OF_SUBMISSION, "submission.")


def _check_identity(content: Mapping[str, Any]) -> None:
    """Check that the identity is that of the key, and of the cell."""
    identity = content["identity"]
    require_all(identity, _IDENTITY, "identity.")
    require_all(identity, _those_in(identity, _OPTIONAL_IN_IDENTITY), "identity.")
    if content["key"] != key(identity):
        raise RecordError("key is not the SHA-256 of identity")
    for name in ("variant", "model", "fold"):
        if identity.get(name, content[name]) != content[name]:
            raise RecordError(f"it is of {name} {content[name]!r}, its identity of {identity[name]!r}")
    ours, its = (which.get("recipe", PLAIN) for which in (content, identity))
    if ours != its:
        raise RecordError(f"it is of recipe {ours!r}, its identity of {its!r}")
    name, method = content["explainer"], identity.get("explainer", content["explainer"])
    if name == method:
        return
    if not name.startswith((f"{method}@", f"{method}?")):
        raise RecordError(f"it is of explainer {name!r}, its identity of {method!r}")
    try:
        written = Reference.parse(name).parameters
    except ValueError:  # a value with signs that have a meaning in a name
        return
    stored = identity.get("parameters", {})
    for parameter, value in written.items():
        if parameter in stored and not _same(value, stored[parameter]):
            raise RecordError(
                f"it is of explainer {name!r}, but {parameter} is {stored[parameter]!r} in its identity"
            )


def _same(written: Any, stored: Any) -> bool:
    return str(written) == str(stored) or json.loads(json.dumps(written, default=str)) == stored


def _check_scores(content: Mapping[str, Any]) -> None:
    """Check scores against the bounds of their metrics, and against their means for each view."""
    names = {*metrics.names()}
    bounds = {name: metrics.get(name).bounds for name in content["scores"] if name in names}
    for name, score in content["scores"].items():
        _require_within(name, [score], bounds)
    if content["views"] is not None:
        require_all(content["views"], _VIEWS, "views.")
        _check_groups(content, "views", "view", bounds)
    if content.get("classes") is not None:
        require_all(content["classes"], _CLASSES, "classes.")
        _check_groups(content, "classes", "class", bounds)


def _check_groups(
    content: Mapping[str, Any], field: str, one: str, bounds: Mapping[str, tuple[float, float]]
) -> None:
    """Check means for each view or class: `field` has lists with one entry for each `one`."""
    groups = content[field]
    columns = [groups["images"], *groups.get("factors", {}).values(), *groups["scores"].values()]
    if any(len(column) != len(groups[one]) for column in columns) or len({*groups[one]}) != len(groups[one]):
        raise RecordError(f"the lists in {field} must have one entry for each {one}")
    if sum(groups["images"]) != content["images"]:
        raise RecordError(f"{field} has {sum(groups['images'])} images, not {content['images']}")
    for name, scores in groups["scores"].items():
        _require_within(name, scores, bounds)
        known = [value for value in scores if value is not None]
        score = content["scores"].get(name)
        if (score is None) != (not known) or (
            score is not None and not min(known) - TOLERANCE <= score <= max(known) + TOLERANCE
        ):
            raise RecordError(f"the score {name} is {score}, which is no mean of its scores for each {one}")


def _require_within(
    name: str, scores: Iterable[float | None], bounds: Mapping[str, tuple[float, float]]
) -> None:
    least, most = bounds.get(name, (-LARGEST, LARGEST))
    for score in scores:
        if score is not None and not least - TOLERANCE <= score <= most + TOLERANCE:
            raise RecordError(f"the score {name} is {score:g}; it must be from {least:g} to {most:g}")


def require_all(content: Mapping[str, Any], rules: Mapping[str, Rule], prefix: str = "") -> None:
    """Check entries that must all be there.

    Args:
        content: a JSON object.
        rules: by the names of the entries.
        prefix: of the names in a message.
    Raises:
        RecordError: for the first entry that is missing or wrong.
    """
    for name, rule in rules.items():
        if name not in content:
            raise RecordError(f"{prefix}{name} is missing")
        _require(f"{prefix}{name}", content[name], rule)


def _require(name: str, value: Any, rule: Rule) -> None:
    passes, right = rule
    if not passes(value):
        raise RecordError(f"{name} is {_shown(value)}; it must be {right}")


def _those_in(content: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {name: rule for name, rule in rules.items() if name in content}


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return one_line(json.dumps(value, default=str), 60)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    """Return whether a value is a text that a path can hold, so without halves of characters."""
    return _is_text(value) and value != "" and value == value.encode(errors="replace").decode()


def _is_whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST <= value <= LARGEST


def list_of(rule: Rule) -> Rule:
    """Return the rule for a list of at least one value that passes a rule."""
    return lambda value: _list_of(rule[0])(value) and len(value) > 0, f"a list, each entry {rule[1]}"


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _object_of(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _anything(_: Any) -> bool:
    return True


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1 + TOLERANCE


def _is_amount(value: Any) -> bool:
    return _is_number(value) and value >= 0


TEXT: Rule = (_is_text, "a text")
TEXT_OR_NONE: Rule = (_or_none(_is_text), "a text or null")
NAME: Rule = (_is_name, "a name")
SHA256: Rule = (
    lambda value: _is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None,
    "a SHA-256, 64 hexadecimal digits",
)
WHOLE: Rule = (_is_whole, "a whole number from 0")
FOLD: Rule = (lambda value: _is_whole(value) and value < FOLDS, f"a whole number from 0 to {FOLDS - 1}")
AMOUNT: Rule = (_is_amount, "a number from 0")
SHARE: Rule = (_is_share, "a number from 0 to 1")
SHARE_OR_NONE: Rule = (_or_none(_is_share), "a number from 0 to 1, or null")
OBJECT: Rule = (_object_of(_anything), "an object")
OBJECT_OR_NONE: Rule = (_or_none(_object_of(_anything)), "an object or null")

# In every record.
_ALWAYS: dict[str, Rule] = {
    "variant": NAME,
    "model": NAME,
    "seed": WHOLE,
    "fold": FOLD,
    "explainer": NAME,
    "key": TEXT,
    "identity": OBJECT,
    "metrics": (_object_of(_is_text), "an object of texts"),
    "role": (lambda value: value in get_args(Role), f"one of {', '.join(get_args(Role))}"),
    "source": TEXT,
    "status": (lambda value: value in get_args(Status)[1:], f"one of {', '.join(get_args(Status)[1:])}"),
    "reason": TEXT_OR_NONE,
}
# In every record of a cell that has scores.
_OF_MEASURED: dict[str, Rule] = {
    "layer": TEXT_OR_NONE,
    "images": WHOLE,
    "invalid": WHOLE,
    "accuracy": SHARE_OR_NONE,
    "scores": (_object_of(_or_none(_is_number)), "an object of numbers or null"),
    "views": OBJECT_OR_NONE,
    "curve": (_or_none(_list_of(_is_share)), "a list of numbers from 0 to 1, or null"),
    "cost": (_or_none(_object_of(_or_none(_is_amount))), "an object of numbers from 0, or null"),
}
# May be missing, above all in records of older releases.
_OPTIONAL: dict[str, Rule] = {
    "recipe": NAME,
    "classes": OBJECT_OR_NONE,
    "undefined": WHOLE,
    "zeros": WHOLE,
    "cause": TEXT_OR_NONE,
    "library": TEXT,
    "reduction": TEXT,
    "resize": TEXT,
    "command": TEXT,
    "timing": (_or_none(_object_of(_or_none(_is_amount))), "an object of seconds, or null"),
    "finished": TEXT_OR_NONE,
    "host": OBJECT_OR_NONE,
    "versions": (_or_none(_object_of(_is_text)), "an object of texts, or null"),
    "scores_file": (
        lambda value: (
            value is None
            or (isinstance(value, dict) and _is_whole(value.get("bytes")) and SHA256[0](value.get("sha256")))
        ),
        "an object with bytes and sha256, or null",
    ),
    "submission": OBJECT_OR_NONE,
}
_IDENTITY: dict[str, Rule] = {"dataset_digest": SHA256, "weights_sha256": SHA256}
_OPTIONAL_IN_IDENTITY: dict[str, Rule] = {
    **dict.fromkeys(("variant", "model", "recipe", "folds", "explainer", "code_sha256", "device"), NAME),
    "library": TEXT,
    "fold": WHOLE,
    "parameters": OBJECT,
    "protocol_version": WHOLE,
}
_VIEWS: dict[str, Rule] = {
    "view": (_list_of(_is_whole), "a list of views"),
    "images": (_list_of(_is_whole), "a list of whole numbers from 0"),
    "factors": (_object_of(_list_of(_anything)), "an object of lists"),
    "scores": (_object_of(_list_of(_or_none(_is_number))), "an object of lists of numbers or null"),
}
_CLASSES: dict[str, Rule] = {
    "class": (_list_of(_is_name), "a list of names of classes"),
    "images": _VIEWS["images"],
    "scores": _VIEWS["scores"],
}
_OF_SUBMISSION: dict[str, Rule] = {
    "status": (lambda value: value in ("verified", "self-reported"), "verified or self-reported"),
    "sha256": SHA256,
    "authors": (_list_of(_is_text), "a list of texts"),
    **dict.fromkeys(("kind", "method", "paper", "code", "commit"), TEXT),
}
