"""Give records that were keyed by the bytes of whole packages the digests of what their code computes.

Run once, on the records of release 0.1.0's code, with a checkout of that code:

    python -m benchmark.experiments.rekey results --code CHECKOUT

A record is changed only if the old digest of the checkout is the one it was measured under, and the new digest
of the method is the same in the checkout and here. Then its scores are those of today's code, and nothing is
measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from an8flower import files
from benchmark import code_digest as digests
from benchmark.certificate import certify
from benchmark.metrics import metrics
from benchmark.store import Record, key
from explainers.reference import spec_of

HERE = Path(__file__).resolve().parents[2]


def main() -> None:
    """Change the records of a results folder."""
    parser = argparse.ArgumentParser(description="Give records the digests of what their code computes.")
    parser.add_argument("results", type=Path)
    parser.add_argument("--code", type=Path, required=True, help="checkout that measured the records")
    arguments = parser.parse_args()
    checkout = arguments.code.resolve()
    old = {name: _bytes_digest(checkout / name) for name in _PACKAGES}
    counts: Counter[str] = Counter()
    for path in sorted(arguments.results.rglob("fold*.json")):
        kind = "certificate" if "certificate" in path.parts else "record"
        if kind == "record" and "records" not in path.parts:
            continue
        record = json.loads(path.read_text())
        counts[kind] += 1
        changed = (
            _certificate(record, old, checkout) if kind == "certificate" else _record(record, old, checkout)
        )
        files.write_json(path, changed)
    print(", ".join(f"{count} {kind}s changed" for kind, count in counts.items()))  # noqa: T201


_PACKAGES = ("explainers", "benchmark/metrics", "benchmark/certificate")


def _record(record: Record, old: dict[str, str], checkout: Path) -> Record:
    identity = record["identity"]
    _must_equal(identity["code_sha256"], old["explainers"], record)
    build = spec_of(identity["explainer"]).build
    identity = {**identity, "code_sha256": _same(build, checkout)}
    measured = {}
    for name, digest in record["metrics"].items():
        _must_equal(digest, old["benchmark/metrics"], record)
        measured[name] = _same(metrics.get(name).compute, checkout)
    return {**record, "identity": identity, "key": key(identity), "metrics": measured}


def _certificate(record: Record, old: dict[str, str], checkout: Path) -> Record:
    _must_equal(record["identity"]["code_sha256"], old["benchmark/certificate"], record)
    identity = {**record["identity"], "code_sha256": _same(certify, checkout)}
    return {**record, "identity": identity, "key": key(identity)}


def _must_equal(recorded: str, found: str, record: Record) -> None:
    if recorded != found:
        raise SystemExit(f"{record.get('explainer', 'certificate')} was measured with other code: {recorded}")


def _same(build: Callable[..., Any], checkout: Path) -> str:
    """The digest of a method here, which must be that in the checkout too."""
    here = digests.code_digest(build)
    file = Path(inspect.getfile(getattr(build, "func", build))).resolve()
    places = (digests._Place(checkout, digests.OURS),)
    there = digests._reached(checkout / file.relative_to(HERE), places)
    if here != there:
        raise SystemExit(f"{file} computes something else than in {checkout}")
    return here


def _bytes_digest(folder: Path) -> str:
    """The digest of release 0.1.0: the bytes of every file of a package."""
    sources = sorted(folder.rglob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()


if __name__ == "__main__":
    main()
