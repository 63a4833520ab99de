"""The record of a measured cell as a dataclass and as JSON; `store` reads and writes the files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from an8flower.ground.deprecated import OnceDict
from an8flower.ground.digest import AlteredError, check_digest, with_digest
from an8flower.ground.shown import html_table
from benchmark.record_checks import Json, RecordError, Status, check
from benchmark.setups import PLAIN, model_name
from explainers.base import Role

__all__ = ["SCHEMA_VERSION", "Json", "Record", "RecordError", "Status", "from_json", "to_json"]

SCHEMA_VERSION = 4
_SELF_CHECKED = 4  # records have had a digest since this schema version


class NewerRecordError(RecordError):
    """A record that a newer release has written."""


@dataclass(frozen=True)
class Record(OnceDict):
    """All that is known of one cell: what was measured, with what result, when and where.

    Args:
        variant, model, seed, fold, explainer, recipe: the cell.
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
        zeros: number of heatmaps that are zero everywhere; None in a record of a release that did not count
            them.
        accuracy: of the model on these images, in [0, 1].
        scores: mean of each metric over the images; None where it is undefined for all of them.
        views: the same for each view, as `scores.by_view` returns it.
        classes: the same for each class, as `scores.by_class` returns it; None in a record of an older
            release.
        curve: mean IoU at 100 thresholds.
        cost: of the explainer, as `cost.Cost` names it.
        timing: seconds that fitting and scoring took.
        finished: time in UTC, ISO 8601.
        host, versions: the machine, and the versions of Python and of the packages.
        scores_file: size and SHA-256 of the table of per-image scores.
        submission: for a submitted explainer, by whom and how it was checked.
        digest: SHA-256 of the record as it was read or written; None for one that is in no file yet, or that
            a release before schema version 4 wrote.
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
    recipe: str = PLAIN
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
    zeros: int | None = None
    accuracy: float | None = None
    scores: dict[str, float | None] = field(default_factory=dict)
    views: Json | None = None
    classes: Json | None = None
    curve: list[float] | None = None
    cost: Json | None = None
    timing: Json | None = None
    finished: str | None = None
    host: Json | None = None
    versions: Json | None = None
    scores_file: Json | None = None
    submission: Json | None = None
    digest: str | None = None

    def _as_dict(self) -> Json:
        return {"schema_version": SCHEMA_VERSION} | {
            name: getattr(self, name) for name in _FIELDS if name not in _left_out(self)
        }

    def __repr__(self) -> str:
        scores = "".join(
            f", {name} {value:.3f}" for name, value in list(self.scores.items())[:3] if value is not None
        )
        why = f", {self.reason}" if self.reason else ""
        of = f"{self.explainer}, {self.variant} {self.model_name} {self.place}"
        return f"Record({of}: {self.status}{scores}{why})"

    def _repr_html_(self) -> str:
        names = ["explainer", "variant", "model", "recipe", "fold", "seed", "status", "reason", "layer"]
        facts = [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]
        facts.append(("images", self.images))
        scores = [(name, "undefined" if v is None else f"{v:.4f}") for name, v in self.scores.items()]
        return html_table(["", "record"], [*facts, *scores])

    @property
    def model_name(self) -> str:
        """The architecture with the recipe, see `setups.model_name`."""
        return model_name(self.model, self.recipe)

    @property
    def place(self) -> str:
        """The fold, and the seed if it is not 0, as text."""
        return f"fold {self.fold}" + (f" seed {self.seed}" if self.seed else "")


_FIELDS = tuple(field.name for field in fields(Record))
# Fields that only a measured cell has.
_MEASURED = (
    "images",
    "invalid",
    "undefined",
    "zeros",
    "accuracy",
    "scores",
    "views",
    "classes",
    "curve",
    "cost",
    "timing",
)


def _left_out(record: Record) -> set[str]:
    """Return the fields that the file of a record does not have."""
    left_out = {name for name in _MEASURED if record.status in ("planned", "failed")}
    optional = ("zeros", "classes", "submission", "digest")
    return left_out | {name for name in optional if getattr(record, name) is None}


def to_json(record: Record) -> Json:
    """Return a record as it is written, with its digest.

    Raises:
        RecordError: for a record that is only planned.
    """
    if record.status == "planned":
        raise RecordError(f"{record.explainer} on {record.place} is not measured yet")
    content, left_out = asdict(record), _left_out(record)
    kept = {name: value for name, value in content.items() if name not in left_out}
    return with_digest({"schema_version": SCHEMA_VERSION, **kept})


def from_json(content: Any) -> Record:
    """Return the record that JSON holds, also one of an older schema version.

    Raises:
        RecordError: naming what is wrong: the first field that is missing or has another type or range,
            fields that contradict each other, a digest that does not fit, or the version.
    """
    version = content.get("schema_version") if isinstance(content, dict) else None
    if type(version) is not int or version < 1:
        raise RecordError(f"its schema_version must be from 1 to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise NewerRecordError(f"it has schema version {version}, this release reads 1 to {SCHEMA_VERSION}")
    try:
        if version >= _SELF_CHECKED:
            check_digest(content)
        for older in range(version, SCHEMA_VERSION):
            content = _MIGRATIONS[older](content)
    except AlteredError as error:
        raise RecordError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{type(error).__name__}: {error}") from error
    check(content)
    return Record(**{name: value for name, value in content.items() if name in _FIELDS})


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


def _from_3(content: Json) -> Json:
    """Version 3 had no digest of the record itself."""
    return {name: value for name, value in content.items() if name != "digest"} | {"schema_version": 4}


_MIGRATIONS: dict[int, Callable[[Json], Json]] = {1: _from_1, 2: _from_2, 3: _from_3}
