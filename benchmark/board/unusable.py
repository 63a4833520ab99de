"""Files in the place of a record that cannot be used: each is a failed cell of the board, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.record import Json, Record
from benchmark.store import cell_at
from explainers import registry
from explainers.base import Role
from explainers.names import Reference

CAUSE = "record"


def failed_records(
    broken: Mapping[Path, str],
    identity: Json,
    weights: Mapping[tuple[int, int], str],
    records: Sequence[Record],
) -> tuple[list[Record], dict[Path, str]]:
    """Return failed records in the place of files that cannot be used.

    Args:
        broken: for each file, why it cannot be used.
        identity: what the records of the board share.
        weights: SHA-256 of the board's model for each fold and seed.
        records: what can be read, from which the role of an explainer is known.
    Returns:
        the records; and the files that belong to no cell of the board, with the reason.
    """
    known = {record.explainer: record for record in records}
    failed: list[Record] = []
    elsewhere: dict[Path, str] = {}
    for path, why in broken.items():
        cell = cell_at(path)
        if cell is None or (cell.fold, cell.seed) not in weights:
            elsewhere[path] = why
            continue
        same = known.get(cell.explainer)
        failed.append(
            Record(
                variant=cell.variant,
                model=cell.model,
                recipe=cell.recipe,
                seed=cell.seed,
                fold=cell.fold,
                explainer=cell.explainer,
                key="",
                identity=identity | {"weights_sha256": weights[cell.fold, cell.seed]},
                metrics={},
                role=same.role if same else role_of(cell.explainer),
                source=same.source if same else "",
                library=same.library if same else "",
                status="failed",
                cause=CAUSE,
                reason=why,
            )
        )
    return failed, elsewhere


def role_of(explainer: str) -> Role:
    """Return the role of an explainer by its name, "method" for one that is not registered here.

    >>> role_of("oracle_lowres@conv1"), role_of("mine")
    ('ceiling', 'method')
    """
    name = Reference.parse(explainer.partition("?")[0]).name
    return registry.get(name).role if name in registry.names() else "method"
