"""What a certificate must contain, and which of its fields must not contradict each other."""

from __future__ import annotations

from an8flower.ground.digest import check_digest
from benchmark.certificate.answers import KEPT, WITHOUT
from benchmark.certificate.judging import ENOUGH, SHARES
from benchmark.record import Json
from benchmark.record_checks import (
    FOLD,
    NAME,
    OBJECT,
    SHA256,
    SHARE,
    TEXT,
    WHOLE,
    RecordError,
    Rule,
    key,
    list_of,
    require_all,
)
from benchmark.setups import PLAIN

SCHEMA_VERSION = 3
SELF_CHECKED = 2  # certificates have had a digest since this schema version
STRICT = 3  # they have had the verdict of the protocol, with probabilities and interventions, since this one


class NewerError(RecordError):
    """A certificate that a newer release has written."""


def check(record: Json) -> None:
    """Check a certificate against its own digest, and its content.

    Raises:
        RecordError, AlteredError: for the first thing that is wrong.
    """
    version = record.get("schema_version") if isinstance(record, dict) else None
    if type(version) is not int or version < 1:
        raise RecordError(f"its schema_version must be from 1 to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise NewerError(f"it has schema version {version}, this release reads 1 to {SCHEMA_VERSION}")
    if version >= SELF_CHECKED:
        check_digest(record)
    require_all(record, _FIELDS)
    require_all(record["identity"], {"weights_sha256": SHA256}, "identity.")
    require_all(record["shares"], _SHARES, "shares.")
    if version >= STRICT:
        require_all(record, {"kept": list_of(OBJECT), "without": list_of(OBJECT)})
        for name, rules in (("kept", _KEPT), ("without", _WITHOUT)):
            for one in record[name]:
                require_all(one, rules, f"{name}: ")
        for name, pictures in (("kept", KEPT), ("without", WITHOUT)):
            for missing in sorted({*pictures} - {one["picture"] for one in record[name]}):
                raise RecordError(f"{name} lacks the picture {missing!r}")
    if record["key"] != key(record["identity"]):
        raise RecordError("key is not the SHA-256 of identity")
    for name in _PLACE:
        if record["identity"].get(name, record[name]) != record[name]:
            raise RecordError(f"it is of {name} {record[name]!r}, its identity of another")
    ours, its = (which.get("recipe", PLAIN) for which in (record, record["identity"]))
    if ours != its:
        raise RecordError(f"it is of recipe {ours!r}, its identity of {its!r}")
    if record["certified"] != (record["reason"] == ""):
        raise RecordError("certified contradicts reason")
    if version >= STRICT and record["certified"]:
        for one in (*record["kept"], *record["without"]):
            failed = (
                one["share"] < ENOUGH if "share" in one else max(one["own"], one["largest"]) > one["limit"]
            )
            if failed:
                raise RecordError(f"certified is true, but {one['picture']} fails")


_BOOL: Rule = (lambda value: isinstance(value, bool), "true or false")
_PLACE = {"variant": NAME, "model": NAME, "seed": WHOLE, "fold": FOLD}
_FIELDS: dict[str, Rule] = {
    **_PLACE,
    "key": SHA256,
    "identity": OBJECT,
    "certified": _BOOL,
    "reason": TEXT,
    "shares": OBJECT,
    "flags_file": OBJECT,
}
_KEPT: dict[str, Rule] = {
    "picture": NAME,
    **dict.fromkeys(("share", "probability", "probability_5"), SHARE),
    "held_out": _BOOL,
}
_WITHOUT: dict[str, Rule] = {
    "picture": NAME,
    **dict.fromkeys(("own", "largest", "limit"), SHARE),
    "favoured": WHOLE,
    "held_out": _BOOL,
}
_SHARES: dict[str, Rule] = {"images": WHOLE, "necessity_expected": SHARE, **dict.fromkeys(SHARES, SHARE)}
