"""What a board says about its records, one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmark.board.unusable import CAUSE
from benchmark.record import Record


def notes_on(records: Sequence[Record]) -> list[str]:
    """Return lines on records without a digest, and on explainers whose heatmaps are zero everywhere."""
    return [*_without_digest(records), *_zeros(records)]


def _without_digest(records: Sequence[Record]) -> list[str]:
    older = sum(record.digest is None and record.cause != CAUSE for record in records)
    if not older:
        return []
    return [
        f"{older} of {len(records)} records are from an older release and have no digest, so that a change "
        "to one of them may not be found; --add-digests writes them again with a digest"
    ]


def _zeros(records: Sequence[Record]) -> list[str]:
    images: Counter[str] = Counter()
    zeros: Counter[str] = Counter()
    for record in records:
        images[record.explainer] += record.images
        zeros[record.explainer] += record.zeros or 0
    listed = [f"{name} {count} of {images[name]}" for name, count in zeros.items() if count]
    return [f"heatmaps that are zero everywhere: {', '.join(listed)}"] if listed else []
