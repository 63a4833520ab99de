"""Gates on disk: one JSON file per cheating recipe, in the folder of the models that cheat.

In the results folder: `<variant>/<model>+<recipe>/gate.json`, written completely or not at all, with a digest
of itself. docs/certificate.md describes its fields.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from an8flower.ground import files
from an8flower.ground.digest import AlteredError, check_digest, read_json, with_digest
from an8flower.ground.text import one_line
from benchmark.gates.rows import Gate, GateRow
from benchmark.record import Json
from benchmark.record_checks import (
    FOLD,
    NAME,
    OBJECT,
    SHARE,
    SHARE_OR_NONE,
    TEXT,
    WHOLE,
    RecordError,
    Rule,
    list_of,
    require_all,
)
from benchmark.setups import model_name, parse_model_name
from benchmark.store import ResultsError

SCHEMA_VERSION = 1


def gate_path(results: str | Path, variant: str, model: str, recipe: str) -> Path:
    """Return the path of a gate.

    >>> gate_path("results", "single-6c", "an8net", "cheat_patch").as_posix()
    'results/single-6c/an8net+cheat_patch/gate.json'
    """
    return Path(results) / variant / model_name(model, recipe) / "gate.json"


def write_gate(path: Path, found: Gate, about: Json) -> Json:
    """Write a gate, and return its content.

    Args:
        path: as `gate_path` returns it.
        found: what was measured.
        about: variant, model, recipe, honest (the other recipe), fold, and circumstances.
    """
    rows = [
        {name: None if value != value else value for name, value in asdict(row).items()} for row in found.rows
    ]
    content = with_digest(
        {
            "schema_version": SCHEMA_VERSION,
            **about,
            "images": found.images,
            "follows": found.follows,
            "honest_follows": found.honest_follows,
            "rows": rows,
        }
    )
    files.write_json(path, content)
    return content


def read_gate(path: Path) -> tuple[Gate, Json]:
    """Read a gate and what is known about it.

    Raises:
        ResultsError: if it is not valid, was altered, or is that of other models, with the remedy.
        FileNotFoundError: if it does not exist.
    """
    try:
        content: Json = read_json(path.read_bytes())
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise RecordError(f"its schema version is not {SCHEMA_VERSION}")
        check_digest(content)
        require_all(content, _FIELDS)
        for row in content["rows"]:
            require_all(row, _ROW, "rows: ")
    except FileNotFoundError:
        raise
    except (ValueError, OSError) as error:
        known = isinstance(error, RecordError | AlteredError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        raise ResultsError(
            f"{path} is not a valid gate ({one_line(reason)}); delete it and measure it again"
        ) from error
    own = gate_path("", content["variant"], content["model"], content["recipe"]).parts
    if own != path.absolute().parts[-len(own) :]:
        raise ResultsError(f"{path} is the gate of other models; delete it and measure it again")
    nan = float("nan")
    rows = tuple(
        GateRow(
            row["explainer"],
            nan if row["honest"] is None else row["honest"],
            nan if row["cheating"] is None else row["cheating"],
            row["reason"],
        )
        for row in content["rows"]
    )
    return Gate(content["images"], content["follows"], content["honest_follows"], rows), content


def read_gates(
    results: str | Path, variant: str, model: str
) -> tuple[dict[str, dict[str, GateRow]], tuple[str, ...]]:
    """Return the gates of an architecture: by cheating recipe and explainer; and why others cannot be used.

    Args:
        results: the results folder.
        variant: its name.
        model: the architecture, with or without a recipe.
    """
    architecture, _ = parse_model_name(model)
    gates: dict[str, dict[str, GateRow]] = {}
    broken = []
    for path in sorted((Path(results) / variant).glob(f"{architecture}+*/gate.json")):
        try:
            found, content = read_gate(path)
        except (ResultsError, OSError) as error:
            broken.append(str(error))
        else:
            if found.fault:
                broken.append(f"{path}: {found.fault}")
            else:
                gates[content["recipe"]] = {row.explainer: row for row in found.rows}
    return gates, tuple(broken)


_FIELDS: dict[str, Rule] = {
    **dict.fromkeys(("variant", "model", "recipe", "honest"), NAME),
    "fold": FOLD,
    "images": WHOLE,
    **dict.fromkeys(("follows", "honest_follows"), SHARE),
    "rows": list_of(OBJECT),
}
_ROW: dict[str, Rule] = {
    "explainer": NAME,
    **dict.fromkeys(("honest", "cheating"), SHARE_OR_NONE),
    "reason": TEXT,
}
