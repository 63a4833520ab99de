"""Gates on disk: one JSON file per pair of models, in the folder of the model that cheats.

In the results folder: `<variant>/<model>+<recipe>/gate/fold<k>.json`, written completely or not at all, with
a digest of itself. docs/certificate.md describes its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    SHA256,
    SHARE,
    SHARE_OR_NONE,
    TEXT,
    WHOLE,
    RecordError,
    Rule,
    list_of,
    require_all,
)
from benchmark.setups import Setup, parse_model_name
from benchmark.store import ResultsError, seed_folder

SCHEMA_VERSION = 1


def gate_path(results: str | Path, cheating: Setup) -> Path:
    """Return the path of the gate of a cheating model.

    >>> gate_path("results", Setup("single-6c", "an8net", 0, 1, "cheat_patch")).as_posix()
    'results/single-6c/an8net+cheat_patch/gate/fold1.json'
    """
    folder = Path(results) / cheating.variant / cheating.model_name / "gate"
    return seed_folder(folder, cheating.seed) / f"fold{cheating.fold}.json"


def write_gate(path: Path, found: Gate, identity: Json, about: Json) -> Json:
    """Write a gate, and return its content.

    Args:
        path: as `gate_path` returns it.
        found: what was measured.
        identity: what determines it, apart from the methods: the setup of the cheating model, `honest` (the
            recipe of the other one), digests of weights and data, and numbers.
        about: circumstances.
    """
    rows = [
        {name: None if value != value else value for name, value in asdict(row).items()} for row in found.rows
    ]
    content = with_digest(
        {"schema_version": SCHEMA_VERSION, "identity": identity, **about, **asdict(found), "rows": rows}
    )
    files.write_json(path, content)
    return content


def read_gate(path: Path) -> tuple[Gate, Json]:
    """Read a gate and its identity.

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
        identity = content["identity"]
        require_all(identity, _IDENTITY, "identity.")
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
    cheating = Setup(
        identity["variant"], identity["model"], identity["seed"], identity["fold"], identity["recipe"]
    )
    own = gate_path("", cheating).parts
    if own != path.absolute().parts[-len(own) :]:
        raise ResultsError(f"{path} is the gate of other models; delete it and measure it again")
    rows = tuple(
        GateRow(
            row["explainer"],
            _number(row["honest"]),
            _number(row["cheating"]),
            row["code_sha256"],
            row["reason"],
        )
        for row in content["rows"]
    )
    return Gate(**{name: content[name] for name in _GATE}, rows=rows), identity


def read_gates(
    results: str | Path, variant: str, model: str
) -> tuple[dict[str, list[Gate]], tuple[str, ...]]:
    """Return the gates of an architecture by cheating recipe, and why others cannot be used.

    Args:
        results: the results folder.
        variant: its name.
        model: the architecture, with or without a recipe.
    """
    architecture, _ = parse_model_name(model)
    gates: dict[str, list[Gate]] = {}
    broken = []
    for path in sorted((Path(results) / variant).glob(f"{architecture}+*/gate/**/fold*.json")):
        try:
            found, identity = read_gate(path)
        except (ResultsError, OSError) as error:
            broken.append(str(error))
        else:
            if found.fault:
                broken.append(f"{path}: {found.fault}")
            else:
                gates.setdefault(identity["recipe"], []).append(found)
    return gates, tuple(broken)


def same_code(found: Gate, codes: Mapping[str, str]) -> dict[str, GateRow]:
    """Return the rows of a gate that are of the present code of their methods, by name.

    Args:
        found: a gate.
        codes: SHA-256 of the code of each method, by name.
    """
    return {row.explainer: row for row in found.rows if codes.get(row.explainer) == row.code_sha256}


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


_GATE: dict[str, Rule] = {
    "images": WHOLE, "follows": SHARE, "honest_follows": SHARE, "explained": WHOLE
}  # fmt: skip
_FIELDS: dict[str, Rule] = {**_GATE, "identity": OBJECT, "rows": list_of(OBJECT)}
_IDENTITY: dict[str, Rule] = {
    **dict.fromkeys(("variant", "model", "recipe", "honest"), NAME),
    "seed": WHOLE,
    "fold": FOLD,
    **dict.fromkeys(("weights_sha256", "honest_weights_sha256", "dataset_digest"), SHA256),
}
_ROW: dict[str, Rule] = {
    "explainer": NAME,
    **dict.fromkeys(("honest", "cheating"), SHARE_OR_NONE),
    "code_sha256": SHA256,
    "reason": TEXT,
}
