"""The record of a measured cell as a dataclass and as JSON; `store` reads and writes the files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from explainers.base import Role

SCHEMA_VERSION = 3

Json = dict[str, Any]  # an object as JSON holds it
# A planned record belongs to a cell that is not measured yet; it is never written.
Status = Literal["planned", "ok", "invalid", "failed"]


class RecordError(ValueError):
    """Content that is not a valid record; the message says which field is wrong."""


@dataclass(frozen=True)
class Record:
    """All that is known of one cell: what was measured, with what result, when and where.

    Args:
        variant, model, seed, fold, explainer: the cell.
        key: SHA-256 of `identity`; equal keys have equal heatmaps.
        identity: everything that determines the heatmaps.
        metrics: for each metric, the SHA-256 of the code that computes it.
        role, source, library, reduction, resize: what the explainer declares.
        command: the command line that measured the cell.
        status: "ok"; "invalid" if some heatmaps hold NaN or infinities, which score 0; "failed" if there are
            no scores.
        cause, reason: the check that failed, and one line of text; None for "ok".
        layer: the layer that "last_conv" and similar names stand for.
        images, invalid, undefined: number of images, of invalid heatmaps, and of images with an empty mask.
        accuracy: of the model on these images, in [0, 1].
        scores: mean of each metric over the images; None where it is undefined for all of them.
        views: the same for each view, as `scores.by_view` returns it.
        curve: mean IoU at 100 thresholds.
        cost: of the explainer, as `cost.Cost` names it.
        timing: seconds that fitting and scoring took.
        finished: time in UTC, ISO 8601.
        host, versions: the machine, and the versions of Python and of the packages.
        scores_file: size and SHA-256 of the table of per-image scores.
        submission: for a submitted explainer, by whom and how it was checked.
    """

    variant: str
    model: str
    seed: int
    fold: int
    explainer: str
    key: str
    identity: Json
    metrics: dict[str, str]
    role: Role
    source: str
    library: str = ""
    reduction: str = ""
    resize: str = ""
    command: str = ""
    status: Status = "planned"
    cause: str | None = None
    reason: str | None = None
    layer: str | None = None
    images: int = 0
    invalid: int = 0
    undefined: int = 0
    accuracy: float | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    views: Json | None = None
    curve: list[float] | None = None
    cost: Json | None = None
    timing: Json | None = None
    finished: str | None = None
    host: Json | None = None
    versions: Json | None = None
    scores_file: Json | None = None
    submission: Json | None = None

    def __getitem__(self, name: str) -> Any:
        """Deprecated: records were dictionaries in version 0.1."""
        warnings.warn(f'write record.{name} instead of record["{name}"]', DeprecationWarning, stacklevel=2)
        if name not in _FIELDS:
            raise KeyError(name)
        return getattr(self, name)

    @property
    def place(self) -> str:
        """The fold, and the seed if it is not 0, as text."""
        return f"fold {self.fold}" + (f" seed {self.seed}" if self.seed else "")


_FIELDS = {field.name for field in fields(Record)}
# Fields that only a measured cell has.
_MEASURED = ("images", "invalid", "undefined", "accuracy", "scores", "views", "curve", "cost", "timing")


def to_json(record: Record) -> Json:
    """Return a record as it is written.

    Raises:
        RecordError: for a record that is only planned.
    """
    if record.status == "planned":
        raise RecordError(f"{record.explainer} on {record.place} is not measured yet")
    content = asdict(record)
    left_out = {name for name in _MEASURED if record.status == "failed"}
    left_out |= {"submission"} if record.submission is None else set()
    kept = {name: value for name, value in content.items() if name not in left_out}
    return {"schema_version": SCHEMA_VERSION, **kept}


def from_json(content: Any) -> Record:
    """Return the record that JSON holds, also one of an older schema version.

    Raises:
        RecordError: naming the first field that is missing or of another type, or the version.
    """
    try:
        version = content["schema_version"]
        while version in list(_MIGRATIONS):
            content = _MIGRATIONS[version](content)
            version = content["schema_version"]
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{type(error).__name__}: {error}") from error
    if version != SCHEMA_VERSION:
        raise RecordError(
            f"it has schema version {version!r}, this release reads 1 to {SCHEMA_VERSION}; "
            "install a newer release"
        )
    _check(content)
    return Record(**{name: value for name, value in content.items() if name in _FIELDS})


_NONE = type(None)
# Types of the fields that boards read: in every record, and in those of measured cells.
_ALWAYS: dict[str, Any] = {
    "variant": str, "model": str, "explainer": str, "fold": int, "seed": int, "key": str, "identity": dict,
    "metrics": dict, "role": str, "status": str, "source": str, "reason": (str, _NONE),
}  # fmt: skip
_OF_MEASURED: dict[str, Any] = {
    "scores": dict, "images": int, "invalid": int, "accuracy": (float, int, _NONE), "layer": (str, _NONE),
    "cost": (dict, _NONE), "views": (dict, _NONE), "curve": (list, _NONE),
}  # fmt: skip


def _check(content: Mapping[str, Any]) -> None:
    types = {**_ALWAYS, **({} if content.get("status") == "failed" else _OF_MEASURED)}
    for name, kind in types.items():
        if name not in content:
            raise RecordError(f"{name} is missing")
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            raise RecordError(f"{name} is {str(content[name])[:40]!r}")
    if content["status"] not in get_args(Status)[1:] or content["role"] not in get_args(Role):
        raise RecordError(f"status is {content['status']!r} and role {content['role']!r}")
    if not isinstance(content["identity"].get("dataset_digest"), str):
        raise RecordError("identity has no dataset_digest")
    scores = content.get("scores") or {}
    if not all(value is None or isinstance(value, int | float) for value in scores.values()):
        raise RecordError("a score is not a number")


def _from_1(content: Json) -> Json:
    """Version 1 had no seeds, causes and costs, and did not describe the file with the scores."""
    failed = content["status"] == "failed"
    identity = content["identity"]
    moved = {name: value for name, value in content.items() if name not in ("explain_ms_per_image", "fit_s")}
    return moved | {
        "schema_version": 2,
        "variant": identity["variant"],
        "model": identity["model"],
        "seed": 0,
        "status": "failed" if failed else "invalid" if content["invalid"] else "ok",
        "cause": "raised" if failed else None,
        "reason": content.get("reason"),
        "metrics": {},
        "cost": None if failed else {"ms_per_image": content["explain_ms_per_image"]},
        "timing": None if failed else {"fit_s": content["fit_s"]},
        "scores_file": None,
    }


def _from_2(content: Json) -> Json:
    """Version 2 had no means for each view, so a board has no intervals for it."""
    return content | {"schema_version": 3, "views": None}


_MIGRATIONS: dict[int, Callable[[Json], Json]] = {1: _from_1, 2: _from_2}
