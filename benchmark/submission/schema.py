"""What submission.json may say, as JSON Schema; published as docs/submission.schema.json."""

from __future__ import annotations

from typing import Any

SCHEMA_VERSION = 1

# Foreign text is shown on terminals and pages: no control characters, no marks that turn the direction of
# writing, no halves of characters, no line breaks.
_PLAIN = (
    "[^\\u0000-\\u001f\\u007f-\\u009f\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u2069\\ufeff\\ud800-\\udfff]"
)


def _text(most: int, meaning: str, *, least: int = 1) -> dict[str, Any]:
    size = f"one line of plain text, at most {most} characters"
    return {
        "type": "string", "minLength": least, "maxLength": most, "pattern": f"^{_PLAIN}*$",
        "description": f"{meaning}: {size}",
    }  # fmt: skip


def _matching(pattern: str, most: int, meaning: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, "pattern": f"^{pattern}$", "description": meaning}


def _whole(least: int, most: int) -> dict[str, Any]:
    return {
        "type": "integer", "minimum": least, "maximum": most,
        "description": f"a whole number from {least} to {most}",
    }  # fmt: skip


def _object(
    description: str, required: dict[str, Any], optional: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _named(names: str, values: dict[str, Any], most: int, meaning: str) -> dict[str, Any]:
    return {
        "type": "object", "description": meaning, "maxProperties": most,
        "propertyNames": {"pattern": f"^{names}$"}, "additionalProperties": values,
    }  # fmt: skip


_SHA256 = _matching("[0-9a-f]{64}", 64, "a SHA-256, 64 hexadecimal digits")
_NAME = _matching(
    "[A-Za-z0-9][A-Za-z0-9_.-]*", 60, "a name of letters, digits, _ . and -, at most 60 characters"
)
_METRIC = "[a-z][a-z0-9_]{0,59}"
NPZ = "heatmaps/[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*/(seed[0-9]{1,9}/)?fold[0-4]\\.npz"
SCRIPT = "code/[A-Za-z_][A-Za-z0-9_]*\\.py"

METHOD = _object(
    "an object about the method",
    {
        "name": _matching(
            "[A-Za-z0-9][A-Za-z0-9_.+@=?&,:-]*", 60,
            "the method's name on the board: letters, digits and _.+@=?&,:- , at most 60 characters",
        ),
        "authors": {
            "type": "array", "minItems": 1, "maxItems": 50, "items": _text(100, "an author"),
            "description": "a list of 1 to 50 authors",
        },
        "paper": _text(300, "the paper, e.g. with its arXiv number, or none"),
        "code": _matching(
            "(https?://[!#$%&()*+,./:;=?@A-Za-z0-9_~-]+|none)", 300, "an http(s) address, or none"
        ),
        "commit": _matching("([0-9a-f]{7,64}|none)", 64, "a commit, 7 to 64 hexadecimal digits, or none"),
    },
    {
        "licence": _text(100, "the licence", least=0),
        "contact": _text(200, "whom to ask", least=0),
        "note": _text(1000, "what else to know", least=0),
    },
)  # fmt: skip

CELL = _object(
    "an object about one fold of one model and variant",
    {
        "variant": _NAME,
        "model": _NAME,
        "seed": _whole(0, 10**9 - 1),
        "fold": _whole(0, 4),
        "folds": {
            "type": "string", "enum": ["interleaved", "blocks"], "description": "'interleaved' or 'blocks'",
        },
        "dataset_digest": _SHA256,
        "weights_sha256": _SHA256,
        "images": _whole(1, 10**6),
        "scores": _named(
            _METRIC,
            {
                "type": ["number", "null"], "minimum": -1e6, "maximum": 1e6,
                "description": "a finite number, or null where the metric is undefined",
            },
            60, "an object: the claimed mean of each metric over the fold's test images",
        ),
    },
    {"heatmaps": _matching(NPZ, 250, "heatmaps/VARIANT/MODEL/foldK.npz: the member with the maps")},
)  # fmt: skip

SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "an8Flower submission",
    **_object(
        "an object: a method's heatmaps, or the method itself, with the scores that are claimed for it",
        {
            "schema_version": {
                "type": "integer", "enum": [SCHEMA_VERSION], "description": f"{SCHEMA_VERSION}",
            },
            "kind": {
                "type": "string", "enum": ["plugin", "heatmaps"], "description": "'plugin' or 'heatmaps'",
            },
            "method": METHOD,
            "command": _text(2000, "the exact command that made it"),
            "hardware": _text(300, "what it ran on"),
            "created": _matching(
                "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\+00:00", 25,
                "a time in UTC, as in 2026-11-23T10:55:40+00:00",
            ),
            "versions": _named(
                "[a-z0-9_.-]{1,60}", _text(60, "a version"), 50, "an object: the version of each package"
            ),
            "metrics": _named(_METRIC, _SHA256, 60, "an object: for each metric the SHA-256 of its code"),
            "cells": {
                "type": "array", "minItems": 1, "maxItems": 150, "items": CELL,
                "description": "a list of 1 to 150 folds",
            },
            "files": {
                "type": "object",
                "description": "an object: size and SHA-256 of each other member",
                "maxProperties": 150,
                "propertyNames": {"pattern": f"^({NPZ}|{SCRIPT})$"},
                "additionalProperties": _object(
                    "an object with bytes and sha256",
                    {
                        "bytes": _whole(0, 2**31),
                        "sha256": _SHA256,
                    },
                ),
            },
        },
        {
            "explainer": _object(
                "an object that says which method runs, of a plug-in",
                {
                    "reference": _matching(
                        "[A-Za-z_][A-Za-z0-9_]*(:[A-Za-z_][A-Za-z0-9_]*)?(@[A-Za-z0-9_.]+)?(\\?[!-~]*)?", 300,
                        "a method as the command line names it, but without a path",
                    ),
                },
                {"script": _matching(SCRIPT, 100, "code/NAME.py: the member that holds it")},
            )
        },
    ),
}  # fmt: skip
