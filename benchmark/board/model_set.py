"""Which records share a board: those of one dataset and, for each fold and seed, of one trained model."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pandas as pd

from benchmark.store import Record, ResultsError, readable_records

Place = tuple[int, int]  # fold and seed


@dataclass(frozen=True)
class ModelSet:
    """The data and the trained models that all rows of a board share.

    Args:
        dataset_digest: of the images and masks.
        scheme: how views are grouped into folds.
        protocol_version: of the measuring.
        weights: SHA-256 of the model of each fold and seed.
    """

    dataset_digest: str
    scheme: str
    protocol_version: int
    weights: Mapping[Place, str] = field(default_factory=dict)

    def __contains__(self, record: Record) -> bool:
        """Whether a record was measured on these data and models."""
        return self.difference(record) == ""

    def difference(self, record: Record) -> str:
        """Why a record does not belong here, in words; empty if it does."""
        digest, scheme, protocol_version = _ground(record)
        if digest != self.dataset_digest:
            return "measured on other data"
        if scheme != self.scheme:
            return f"measured with views grouped into folds by {scheme!r}, not {self.scheme!r}"
        if protocol_version != self.protocol_version:
            return "measured under another version of the protocol"
        return "" if _weights(record) == self.weights.get(_place(record)) else "measured on other weights"

    @property
    def name(self) -> str:
        """Eight hexadecimal digits, the same for equal data and models."""
        weights = [[*place, digest] for place, digest in sorted(self.weights.items())]
        content = [self.dataset_digest, self.scheme, self.protocol_version, weights]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:8]


def models_of(trained: Iterable[Record], protocol_version: int) -> ModelSet:
    """The set that some models are, by the records of their weights; all of one variant and architecture."""
    every = list(trained)
    identity = every[0]["identity"]
    weights = {_place(record["identity"]): record["weights_sha256"] for record in every}
    return ModelSet(identity["dataset_digest"], identity["folds"], protocol_version, weights)


@dataclass(frozen=True)
class LeftOut:
    """Records that are not on a board, for one reason.

    Args:
        what: the explainers, or the file that cannot be read.
        folds: of which folds, in words.
        reason: why, in words.
        again: the command that measures them on the models that are there now; empty if `reason` says it.
    """

    what: tuple[str, ...]
    folds: str
    reason: str
    again: str

    def __str__(self) -> str:
        told = f"left out: {', '.join(self.what)}{self.folds}: {self.reason}"
        return f"{told}; to measure again: {self.again}" if self.again else told


@dataclass(frozen=True)
class OtherSet:
    """A set of models of which there are records too.

    Args:
        models: the set.
        rows: how many explainers were measured on it.
        places: how many folds, times seeds.
    """

    models: ModelSet
    rows: int
    places: int


@dataclass(frozen=True)
class BoardRecords:
    """What a results folder holds for one board.

    Args:
        records: of one set of models, sorted by explainer, seed and fold.
        models: that set.
        left_out: records of other data or models, and files that cannot be read.
        others: the sets of models that these are of, the largest first.
    """

    records: list[Record]
    models: ModelSet
    left_out: tuple[LeftOut, ...] = ()
    others: tuple[OtherSet, ...] = ()


def board_records(
    results: str | Path, variant: str, model: str, *, models: ModelSet | str | None = None
) -> BoardRecords:
    """The records of one variant and model that share a board.

    Args:
        results: the results folder.
        variant, model: registry names.
        models: whose records; a set, or the name of one or its first digits. By default the set with the
            most explainers, of equal ones the one that was measured last.
    Raises:
        ResultsError: if there are no records, or none of `models`.
    """
    records, broken = readable_records(results, variant, model)
    again = f"an8flower evaluate --variant {variant} --model {model} --results {shlex.quote(str(results))}"
    if not records:
        why = f"; {next(iter(broken.values()))}" if broken else ""
        raise ResultsError(f"no records of {model} on {variant} in {results}{why}; run '{again}' first")
    sets = model_sets(records)
    if isinstance(models, str) and models:
        named = [one for one in sets if one.name.startswith(models)]
        if len(named) != 1:
            known = ", ".join(one.name for one in sets)
            raise ResultsError(
                f"{'no set' if not named else 'more than one set'} of models in {results} is called "
                f"{models!r}; there are {known}"
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
    left_out = [*_left_out(rest, chosen, again), *_unreadable(broken)]
    return BoardRecords(mine, chosen, tuple(left_out), tuple(_counted(rest)))


def model_sets(records: Sequence[Record]) -> list[ModelSet]:
    """The sets of models that records were measured on, the one with the most explainers first.

    Args:
        records: of one variant and model. Each belongs to one of the sets.
    """
    sets, left = [], list(records)
    while left:
        sets.append(_completed(None, left))
        left = [record for record in left if record not in sets[-1]]
    return sets


def _completed(models: ModelSet | None, records: Sequence[Record]) -> ModelSet:
    """A set with a model for each fold and seed of the records on its data.

    The models that most explainers were measured on are taken together, so that of two complete sets one is
    shown; other models only for a fold or seed that these lack.
    """
    recent = _by_age(records)
    if models is None:
        models = ModelSet(*_most_used(_ground(record) for record in recent))
    ground = models.dataset_digest, models.scheme, models.protocol_version
    measured: dict[str, dict[Place, str]] = {}
    for record in recent:
        if _ground(record) == ground:
            measured.setdefault(record["explainer"], {})[_place(record)] = _weights(record)
    chosen = dict(models.weights)
    counted = Counter(frozenset(weights.items()) for weights in measured.values())
    for weights, _ in counted.most_common():
        chosen = dict(weights) | chosen
    return replace(models, weights=chosen)


def _by_age(records: Sequence[Record]) -> list[Record]:
    """The last measured one first: of equally frequent ones, that one counts."""
    return sorted(records, key=lambda record: str(record.get("finished") or ""), reverse=True)


T = TypeVar("T")


def _most_used(values: Iterable[T]) -> T:
    return Counter(values).most_common(1)[0][0]


def _counted(records: Sequence[Record]) -> list[OtherSet]:
    found = []
    for models in model_sets(records):
        mine = [record for record in records if record in models]
        rows = len({record["explainer"] for record in mine})
        found.append(OtherSet(models, rows, len({_place(record) for record in mine})))
    return found


def _left_out(records: Sequence[Record], chosen: ModelSet, again: str) -> list[LeftOut]:
    """Records by explainer; explainers that lack the same folds for the same reason share a line."""
    places: dict[str, dict[Place, str]] = {}
    for record in records:
        places.setdefault(record["explainer"], {})[_place(record)] = chosen.difference(record)
    together: dict[tuple[str, tuple[Place, ...]], list[str]] = {}
    for name, reasons in places.items():
        for reason in dict.fromkeys(reasons.values()):
            where = tuple(sorted(place for place, why in reasons.items() if why == reason))
            together.setdefault((reason, where), []).append(name)
    return [
        LeftOut(tuple(names), f" ({places_in_words(where)})", reason, _again(again, names, where))
        for (reason, where), names in together.items()
    ]


def _again(command: str, names: Sequence[str], places: Sequence[Place]) -> str:
    """The commands, one for each seed, that measure some explainers on some folds."""
    if all(name.startswith("submitted:") for name in names):
        return "submit it again for these models"
    commands = []
    for seed in sorted({seed for _, seed in places}):
        folds = ",".join(str(fold) for fold, of_seed in places if of_seed == seed)
        options = ["--folds", folds, *(["--seed", str(seed)] if seed else [])]
        options += [part for name in names for part in ("--explainer", name)]
        commands.append(f"{command} {shlex.join(options)}")
    return "; ".join(commands)


def places_in_words(places: Iterable[Place]) -> str:
    """Folds, by seed where there are others than 0.

    >>> places_in_words([(0, 0), (2, 0)]), places_in_words([(1, 0), (1, 3)])
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


def _unreadable(broken: Mapping[Path, str]) -> list[LeftOut]:
    return [LeftOut((path.parent.name,), f" ({path.stem})", why, "") for path, why in broken.items()]


def certificates_of(certificates: pd.DataFrame, models: ModelSet) -> tuple[pd.DataFrame, str]:
    """The certificates of just these models, and of which folds there are others, in words."""
    belongs = [
        models.weights.get((int(row.fold), int(row.seed))) == row.weights_sha256
        for row in certificates.itertuples()
    ]
    mine = certificates[belongs].reset_index(drop=True)
    others = certificates[[not one for one in belongs]]
    return mine, places_in_words((int(row.fold), int(row.seed)) for row in others.itertuples())


def _ground(record: Record) -> tuple[str, str, int]:
    identity = record["identity"]
    # Records of the first release do not say by which protocol; there was one.
    return (
        identity["dataset_digest"],
        identity.get("folds", "interleaved"),
        identity.get("protocol_version", 1),
    )


def _place(record: Mapping[str, int]) -> Place:
    return record["fold"], record["seed"]


def _weights(record: Record) -> str:
    return str(record["identity"].get("weights_sha256", ""))
