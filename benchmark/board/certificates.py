"""The certificates of a board: those of its models, and a line on each of the others."""

from __future__ import annotations

import shlex
from pathlib import Path

import pandas as pd

from benchmark.board.model_set import ModelSet, places_as_text
from benchmark.certificate.records import readable_certificates
from benchmark.setups import model_options


def certificates_of_board(
    results: str | Path, variant: str, model: str, models: ModelSet
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the certificates of a board.

    Args:
        results: the results folder.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
        models: the models of the board.
    Returns:
        one row per fold and seed, as `certificate.read_certificates` returns it; and a line on what is left
        out: certificates that cannot be used, and those of other models.
    """
    certificates, broken = readable_certificates(results, variant, model)
    mine, others = certificates_of(certificates, models)
    notes = [f"left out: a certificate: {why}" for why in broken]
    if others:
        again = f"an8flower certify --variant {variant} {model_options(model)}"
        again += f" --results {shlex.quote(str(results))}"
        notes.append(
            f"left out: the certificate of {others}: it is for other weights; to certify again: {again}"
        )
    return mine, tuple(notes)


def certificates_of(certificates: pd.DataFrame, models: ModelSet) -> tuple[pd.DataFrame, str]:
    """Return the certificates of these models, and the folds of other certificates as text."""
    belongs = [
        models.weights.get((int(row.fold), int(row.seed))) == row.weights_sha256
        for row in certificates.itertuples()
    ]
    mine = certificates[belongs].reset_index(drop=True)
    others = certificates[[not mine for mine in belongs]]
    return mine, places_as_text((int(row.fold), int(row.seed)) for row in others.itertuples())


def failed_tests(reason: str) -> str:
    """Return the names of the tests that a certificate's reason reports, for tables.

    >>> failed_tests("textured: the class of ...; inpainted: without the part ...")
    'fails textured, inpainted'
    >>> failed_tests("tested by an older release")
    'tested by an older release'
    """
    names = [part.partition(": ") for part in reason.split("; ")]
    if not reason or not all(colon and name.isidentifier() for name, colon, _ in names):
        return reason
    return f"fails {', '.join(name for name, *_ in names)}"
