"""Select the records that share a board: one dataset and, for each fold and seed, one trained model."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from an8flower.ground.deprecated import renamed
from benchmark.board.unusable import failed_records
from benchmark.record import Json, Record
from benchmark.setups import model_options, parse_model_name
from benchmark.store import SUBMITTED, ResultsError, readable_records
from benchmark.training.recipes import recipes

Place = tuple[int, int]  # fold, seed


@dataclass(frozen=True)
class ModelSet:
    """The data and the trained models that all rows of a board share.

    Args:
        dataset_digest: of the images and masks.
        scheme: how views are grouped into folds.
        protocol_version: version of the measuring protocol.
        weights: SHA-256 of the model for each fold and seed.
    """

    dataset_digest: str
    scheme: str
    protocol_version: int
    weights: Mapping[Place, str] = field(default_factory=dict)

    def __contains__(self, record: Record) -> bool:
        """Return whether a record was measured on these data and models."""
        return self.difference(record) == ""

    def difference(self, record: Record) -> str:
        """Return why a record does not belong to the set, as text; empty if it does."""
        digest, scheme, protocol_version = _ground(record)
        if digest != self.dataset_digest:
            return "measured on other data"
        if scheme != self.scheme:
            return f"measured with the fold scheme {scheme!r}, not {self.scheme!r}"
        if protocol_version != self.protocol_version:
            return "measured with another version of the protocol"
        return "" if _weights(record) == self.weights.get(_place(record)) else "measured on other weights"

    @property
    def shared(self) -> Json:
        """The entries of `Record.identity` that all records of the set share."""
        return {
            "dataset_digest": self.dataset_digest,
            "folds": self.scheme,
            "protocol_version": self.protocol_version,
        }

    @property
    def name(self) -> str:
        """Eight hexadecimal digits, equal for equal data and models."""
        weights = [[*place, digest] for place, digest in sorted(self.weights.items())]
        content = [self.dataset_digest, self.scheme, self.protocol_version, weights]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def models_of(trained: Iterable[Json], protocol_version: int) -> ModelSet:
    """Return the set of some trained models, from the records of their weights.

    Args:
        trained: records of the weights, all of one variant and architecture.
        protocol_version: version of the measuring protocol.
    """
    weights = {}
    for record in trained:
        identity = record["identity"]
        weights[identity["fold"], identity["seed"]] = record["weights_sha256"]
    return ModelSet(identity["dataset_digest"], identity["folds"], protocol_version, weights)


@dataclass(frozen=True)
class LeftOut:
    """Records that are not on a board, for one reason.

    Args:
        what: the explainers, or the name of the file that cannot be read.
        folds: the folds, as text.
        reason: why they are left out.
        again: the command that measures them again on the present models; empty if `reason` contains it.
    """

    what: tuple[str, ...]
    folds: str
    reason: str
    again: str

    def __str__(self) -> str:
        text = f"left out: {', '.join(self.what)}{self.folds}: {self.reason}"
        return f"{text}; to measure again: {self.again}" if self.again else text


@dataclass(frozen=True)
class OtherSet:
    """Another set of models for which the folder holds records.

    Args:
        models: the set.
        rows: number of explainers measured on it.
        places: number of trained models: folds times seeds.
    """

    models: ModelSet
    rows: int
    places: int


@dataclass(frozen=True)
class BoardRecords:
    """The records in a results folder that belong to one board, and those that do not.

    Args:
        records: the records of one set of models, sorted by explainer, seed and fold. A file that cannot be
            used is among them as a failed record with the cause "record" and the reason.
        models: this set.
        left_out: records of other data or models, and files that are in no place of a record.
        others: the sets of models of the records that are left out, the largest first.
    """

    records: list[Record]
    models: ModelSet
    left_out: tuple[LeftOut, ...] = ()
    others: tuple[OtherSet, ...] = ()


def board_records(
    results: str | Path, variant: str, model: str, *, models: ModelSet | str | None = None
) -> BoardRecords:
    """Return the records of one variant and model that share a board.

    Args:
        results: the results folder.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
        models: the set of models; a `ModelSet`, or its name or the first digits of it. By default the set
            with the most explainers; of sets with equal numbers, the one that was measured last.
    Raises:
        ResultsError: if there are no records, or none for `models`.
        UnknownNameError: if there are no records because no recipe has this name.
    """
    records, broken = readable_records(results, variant, model)
    again = (
        f"an8flower evaluate --variant {variant} {model_options(model)} --results {shlex.quote(str(results))}"
    )
    if not records:
        _, recipe = parse_model_name(model)
        recipes.get(recipe)  # names the recipe that was meant, if there is none of this name
        why = f"; {next(iter(broken.values()))}" if broken else ""
        raise ResultsError(f"no records of {model} on {variant} in {results}{why}; run '{again}' first")
    sets = model_sets(records)
    if isinstance(models, str) and models:
        named = [candidate for candidate in sets if candidate.name.startswith(models)]
        if len(named) != 1:
            known = ", ".join(candidate.name for candidate in sets)
            raise ResultsError(
                f"{'no set' if not named else 'more than one set'} of models in {results} has the name "
                f"{models!r}; known: {known}"
            )
        chosen = named[0]
    else:
        chosen = _completed(models, records) if isinstance(models, ModelSet) else sets[0]
    mine = [record for record in records if record in chosen]
    if not mine:
        raise ResultsError(
            f"{results} has no records of {model} on {variant} of these models; run '{again}' first"
        )
    rest = [record for record in records if record not in chosen]
    unusable, elsewhere = failed_records(broken, chosen.shared, chosen.weights, records)
    mine = sorted([*mine, *unusable], key=lambda record: (record.explainer, record.seed, record.fold))
    left_out = _left_out(rest, chosen, again)
    left_out += [LeftOut((path.parent.name,), f" ({path.stem})", why, "") for path, why in elsewhere.items()]
    return BoardRecords(mine, chosen, tuple(left_out), tuple(_counted(rest)))


def model_sets(records: Sequence[Record]) -> list[ModelSet]:
    """Return the sets of models that records were measured on, the one with the most explainers first.

    Args:
        records: of one variant and model. Each belongs to one of the sets.
    """
    sets, remaining = [], list(records)
    while remaining:
        sets.append(_completed(None, remaining))
        remaining = [record for record in remaining if record not in sets[-1]]
    return sets


def _completed(models: ModelSet | None, records: Sequence[Record]) -> ModelSet:
    """Return a set with a model for each fold and seed of the records with the same data.

    The models that most explainers share are taken together, so that one of two complete sets is shown as a
    whole. Models of other records are used only for folds and seeds that are missing.
    """
    recent = _by_age(records)
    if models is None:
        models = ModelSet(*_most_used(_ground(record) for record in recent))
    ground = models.dataset_digest, models.scheme, models.protocol_version
    measured: dict[str, dict[Place, str]] = {}
    for record in recent:
        if _ground(record) == ground:
            measured.setdefault(record.explainer, {})[_place(record)] = _weights(record)
    chosen = dict(models.weights)
    counted = Counter(frozenset(weights.items()) for weights in measured.values())
    for weights, _ in counted.most_common():
        chosen = dict(weights) | chosen
    return replace(models, weights=chosen)


def _by_age(records: Sequence[Record]) -> list[Record]:
    """Sort records by time, the latest first: among equally frequent values the latest one counts."""
    return sorted(records, key=lambda record: record.finished or "", reverse=True)


T = TypeVar("T")


def _most_used(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def _counted(records: Sequence[Record]) -> list[OtherSet]:
    others = []
    for models in model_sets(records):
        mine = [record for record in records if record in models]
        rows = len({record.explainer for record in mine})
        others.append(OtherSet(models, rows, len({_place(record) for record in mine})))
    return others


def _left_out(records: Sequence[Record], chosen: ModelSet, again: str) -> list[LeftOut]:
    """Group records by explainer; explainers with the same folds and reason share a line."""
    places: dict[str, dict[Place, str]] = {}
    for record in records:
        places.setdefault(record.explainer, {})[_place(record)] = chosen.difference(record)
    together: dict[tuple[str, tuple[Place, ...]], list[str]] = {}
    for name, reasons in places.items():
        for reason in dict.fromkeys(reasons.values()):
            where = tuple(sorted(place for place, why in reasons.items() if why == reason))
            together.setdefault((reason, where), []).append(name)
    return [
        LeftOut(tuple(names), f" ({places_as_text(where)})", reason, _again(again, names, where))
        for (reason, where), names in together.items()
    ]


def _again(command: str, names: Sequence[str], places: Sequence[Place]) -> str:
    """Return the commands that measure some explainers on some folds, one command per seed."""
    if all(name.startswith(SUBMITTED) for name in names):
        return "submit the method again for these models"
    commands = []
    for seed in sorted({seed for _, seed in places}):
        folds = ",".join(str(fold) for fold, of_seed in places if of_seed == seed)
        options = ["--folds", folds, *(["--seed", str(seed)] if seed else [])]
        options += [part for name in names for part in ("--explainer", name)]
        commands.append(f"{command} {shlex.join(options)}")
    return "; ".join(commands)


def places_as_text(places: Iterable[Place]) -> str:
    """Return folds as text, with the seed if it is not 0.

    >>> places_as_text([(0, 0), (2, 0)]), places_as_text([(1, 0), (1, 3)])
    ('folds 0, 2', 'fold 1, fold 1 of seed 3')
    """
    by_seed: dict[int, list[int]] = {}
    for fold, seed in sorted(places, key=lambda place: place[::-1]):
        by_seed.setdefault(seed, []).append(fold)
    return ", ".join(
        f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
        + (f" of seed {seed}" if seed else "")
        for seed, folds in by_seed.items()
    )


__getattr__ = renamed(__name__, {"places_in_words": "places_as_text"})


def _ground(record: Record) -> tuple[str, str, int]:
    identity = record.identity
    # Records of the first release do not name the scheme and protocol; only these existed.
    return (
        identity["dataset_digest"],
        identity.get("folds", "interleaved"),
        identity.get("protocol_version", 1),
    )


def _place(record: Record) -> Place:
    return record.fold, record.seed


def _weights(record: Record) -> str:
    return str(record.identity.get("weights_sha256", ""))
