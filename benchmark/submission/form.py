"""The form of a submission: who made the method, how it was run, and which scores are claimed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

from an8flower.ground.deprecated import renamed
from an8flower.protocol import Scheme
from benchmark.record import Json
from benchmark.setups import PLAIN, Setup
from benchmark.submission.errors import SubmissionError, shown

SCHEMA = Path(__file__).with_name("submission.schema.json")
SCHEMA_VERSION = 2

Kind = Literal["plugin", "heatmaps"]


@dataclass(frozen=True)
class Method:
    """Whose method it is; each entry is one line of plain text.

    Args:
        name: on the board, after "submitted:".
        authors: at least one.
        paper, code, commit: "none" if the method has none; code is an http(s) address.
        licence, contact, note: may be empty.
    """

    name: str
    authors: tuple[str, ...]
    paper: str
    code: str
    commit: str
    licence: str = ""
    contact: str = ""
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """What is claimed for one fold.

    Args:
        setup: variant, model, seed and fold.
        folds: scheme by which views are grouped into folds.
        dataset_digest, weights_sha256: of the data and of the model that were explained.
        images: number of images that were explained.
        scores: mean of each metric over the images, as in a record.
        heatmaps_sha256: of the heatmaps, as `heatmaps.digest` computes it; empty for a plug-in.
    """

    setup: Setup
    folds: Scheme
    dataset_digest: str
    weights_sha256: str
    images: int
    scores: Mapping[str, float | None]
    heatmaps_sha256: str = ""

    def to_json(self) -> Json:
        """Return the claim as the form holds it."""
        content = asdict(self)
        setup = content.pop("setup")
        if self.setup.recipe == PLAIN:  # as in files of older releases
            del setup["recipe"]
        return _without_empty(setup | content)


@dataclass(frozen=True)
class Form:
    """The form of a submission.

    Args:
        kind: "heatmaps", or "plugin" for a method that others can run.
        method: whose it is.
        command, hardware, created, versions: how, where, when and with what the scores were computed.
        metrics: for each metric, the SHA-256 of the code that computed the claimed scores.
        claims: one for each fold.
        reference: name of the method as `explainers.get` reads it, without a path; empty for heatmaps.
        script: file name of the script that defines the method; empty if an installed package does.
    """

    kind: Kind
    method: Method
    command: str
    hardware: str
    created: str
    versions: Mapping[str, str]
    metrics: Mapping[str, str]
    claims: tuple[Claim, ...]
    reference: str = ""
    script: str = ""

    @property
    def explainer(self) -> str:
        """Name of the method on the board and in records."""
        return f"submitted:{self.method.name}"

    def to_json(self) -> Json:
        """Return the form as a submission holds it."""
        content = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        del content["claims"]
        content["method"] = _without_empty(content["method"] | {"authors": list(self.method.authors)})
        content["cells"] = [claim.to_json() for claim in self.claims]
        return _without_empty(content)


def parse_form(text: str, where: str) -> Form:
    """Read a form from JSON and check it against docs/submission.schema.json.

    Args:
        text: JSON.
        where: the start of an error message, usually the path of the file.
    Raises:
        SubmissionError: for the first entry that is wrong.
    """
    content = parse_json(text, where)
    try:
        error = next(_errors(content), None)
    except RecursionError:  # the library shows deeply nested values
        raise SubmissionError(f"{where} is nested too deeply") from None
    if error is not None:
        raise SubmissionError(f"{where}: {_message(error)}")
    del content["schema_version"]
    method = content.pop("method")
    method["authors"] = tuple(method["authors"])
    claims = tuple(_claim(cell) for cell in content.pop("cells"))
    form = Form(method=Method(**method), claims=claims, **content)
    if len({claim.setup for claim in claims}) != len(claims):
        raise SubmissionError(f"{where}: cells has the same variant, model, seed and fold twice")
    for claim in claims:
        for name in claim.scores:
            if name not in form.metrics:
                raise SubmissionError(f"{where}: metrics lacks {name!r}, a score that {claim.setup} claims")
    return form


def parse_json(text: str, where: str) -> Any:
    """Read JSON; refuse NaN, infinities, and names that are twice in one object.

    Raises:
        SubmissionError: with the reason.
    """

    def without_repeated_names(pairs: list[tuple[str, Any]]) -> Json:
        content = dict(pairs)
        if len(content) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise SubmissionError(f"{where}: {shown(twice)} appears twice in one JSON object")
        return content

    def refuse(constant: str) -> Any:
        raise SubmissionError(f"{where} has {constant}, which is not JSON; numbers must be finite")

    try:
        return json.loads(text, object_pairs_hook=without_repeated_names, parse_constant=refuse)
    except SubmissionError:
        raise
    except RecursionError:
        raise SubmissionError(f"{where} is nested too deeply") from None
    except ValueError as error:
        raise SubmissionError(f"{where} is not JSON: {shown(str(error))}") from None


@cache
def _validator() -> Any:
    def whole_match(_: object, pattern: str, value: Any, __: object) -> Iterator[ValidationError]:
        # Python's $ also matches before a line break at the end.
        if isinstance(value, str) and not re.fullmatch(pattern, value):
            yield ValidationError(f"{value!r} does not match {pattern!r}")

    # JSON Schema also counts 1.0 as an integer; here it would become part of a path.
    integers = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
    strict = extend(Draft202012Validator, {"pattern": whole_match}, type_checker=integers)
    return strict(json.loads(SCHEMA.read_text()))


def _errors(content: Any) -> Iterator[ValidationError]:
    errors: Iterator[ValidationError] = _validator().iter_errors(content)
    return errors


def _message(error: ValidationError) -> str:
    """Return where an entry is, what is wrong with it, and what would be right."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    place = "".join(parts).removeprefix(".") or "the form"
    schema: Any = error.schema
    if error.validator == "required":
        return f"{place} lacks {next(name for name in schema['required'] if name not in error.instance)!r}"
    if error.validator == "additionalProperties":
        unknown = next(name for name in error.instance if name not in schema["properties"])
        return f"{place} has an unknown entry {shown(unknown)}; known are {', '.join(schema['properties'])}"
    if "propertyNames" in error.absolute_schema_path:
        return f"{place} has an entry {shown(error.instance)}; its names must be {schema['description']}"
    return f"{place} is {shown(error.instance)}; it must be {schema['description']}"


def _claim(cell: Json) -> Claim:
    names = ("variant", "model", "seed", "fold", "recipe")
    setup = Setup(**{name: cell.pop(name) for name in names if name in cell})
    return Claim(setup, **cell)


def _without_empty(content: Json) -> Json:
    return {name: value for name, value in content.items() if value != ""}


__getattr__ = renamed(
    __name__,
    {
        "SUFFIX": "benchmark.submission.file.SUFFIX",
        "SCRIPT_BYTES": "benchmark.submission.file.SCRIPT_BYTES",
        "Submission": "benchmark.submission.file.Submission",
        "read_submission": "benchmark.submission.file.read_submission",
        "Described": "Form",
    },
)
