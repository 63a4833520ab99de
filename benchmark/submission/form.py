"""A submission: what its one file says, once it is found harmless and whole."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from an8flower.protocol import Scheme
from benchmark.plan import Setup
from benchmark.submission.archive import Archive, Caps, opened, sha256_of
from benchmark.submission.checking import must_fit, read_json
from benchmark.submission.errors import SubmissionError, shown
from benchmark.submission.schema import SCHEMA, SCHEMA_VERSION

ABOUT = "submission.json"
SUFFIX = ".an8sub.zip"
ABOUT_BYTES = 2**20
SCRIPT_BYTES = 2**20
MEMBER_BYTES = 2**31
_OPTIONAL = ("licence", "contact", "note")

Kind = Literal["plugin", "heatmaps"]


@dataclass(frozen=True)
class Method:
    """Whose method it is; all one line of plain text each.

    Args:
        name: on the board, after "submitted:".
        authors: one or more.
        paper, code, commit: "none" where there is none; code is an http(s) address.
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

    def entries(self) -> dict[str, Any]:
        """As in JSON."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }


@dataclass(frozen=True)
class Claim:
    """What is claimed of one fold.

    Args:
        setup: variant, model, seed, fold.
        scheme: how views are grouped into folds.
        dataset_digest, weights_sha256: of the data and the model that were explained.
        images: how many were.
        scores: mean of each metric over them, as in a record.
        heatmaps: the member with the maps, of the kind "heatmaps".
    """

    setup: Setup
    scheme: Scheme
    dataset_digest: str
    weights_sha256: str
    images: int
    scores: Mapping[str, float | None]
    heatmaps: str = ""

    def entries(self) -> dict[str, Any]:
        """As in JSON."""
        found = {name: value for name, value in asdict(self).items() if name not in ("setup", "scheme")}
        entries = {**asdict(self.setup), "folds": self.scheme, **found}
        return entries if self.heatmaps else {n: v for n, v in entries.items() if n != "heatmaps"}


@dataclass(frozen=True)
class Described:
    """What submission.json says.

    Args:
        kind: "plugin" or "heatmaps".
        method: whose it is.
        command, hardware, created, versions: how, where, when and with what it was made.
        metrics: for each metric the SHA-256 of the code that computed the claimed scores.
        claims: a fold each.
        reference: the method as `explainers.get` reads it, without a path; of the kind "plugin".
        script: the member that holds it, if it is in none of the packages.
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

    def entries(self, files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """As in JSON, with size and hash of the other members."""
        explainer = {"reference": self.reference} | ({"script": self.script} if self.script else {})
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": self.kind,
            "method": self.method.entries(),
            "command": self.command,
            "hardware": self.hardware,
            "created": self.created,
            "versions": dict(self.versions),
            "metrics": dict(self.metrics),
            "cells": [claim.entries() for claim in self.claims],
            **({"explainer": explainer} if self.reference else {}),
            "files": {name: dict(about) for name, about in files.items()},
        }

    @property
    def explainer(self) -> str:
        """Its name on the board and in records."""
        return f"submitted:{self.method.name}"


@dataclass(frozen=True)
class Submission:
    """A submission's file that has passed all checks that need no dataset.

    Args:
        path: the file.
        sha256: of the file.
        described: what it says.
        files: size and SHA-256 of each other member.
    """

    path: Path
    sha256: str
    described: Described
    files: Mapping[str, Mapping[str, Any]]

    def read(self, member: str, most: int = MEMBER_BYTES) -> bytes:
        """A member, if it is what submission.json says.

        Args:
            member: one of `files`.
            most: bytes that it may have.
        Raises:
            SubmissionError: if it is not, or the file has changed.
        """
        with opened(self.path, str(self.path), Caps()) as archive:
            about = self.files[member]
            if archive.members.get(member) != about["bytes"]:
                raise SubmissionError(f"{self.path} has changed while it was read")
            data = archive.read(member, most)
        if hashlib.sha256(data).hexdigest() != about["sha256"]:
            raise SubmissionError(f"{self.path}: {member} is not the file whose SHA-256 {ABOUT} gives")
        return data


def read_submission(path: str | Path) -> Submission:
    """Read a submission; nothing is unpacked to disk, unpickled or run.

    Args:
        path: as `an8flower submit` wrote it.
    Raises:
        SubmissionError: naming the first thing that is wrong, where, and what would be right.
        OSError: if there is no such file, or it cannot be read.
    """
    path = Path(path)
    with opened(path, str(path), Caps()) as archive:
        if ABOUT not in archive.members:
            raise SubmissionError(f"{path} has no {ABOUT}; write submissions with 'an8flower submit'")
        entries = read_json(archive.read(ABOUT, ABOUT_BYTES), f"{path}: {ABOUT}")
        described = describe(entries, f"{path}: {ABOUT}: ")
        _check_files(archive, described, entries["files"])
    return Submission(path, sha256_of(path), described, entries["files"])


def describe(entries: Any, where: str) -> Described:
    """What the entries of a submission.json say.

    Args:
        entries: as `read_json` gives them.
        where: what messages call them, e.g. "submission.json: ".
    Raises:
        SubmissionError: for the first entry that is not as docs/submission.schema.json says.
    """
    if isinstance(entries, dict) and "schema_version" in entries:
        version = entries["schema_version"]
        if type(version) is int and version != SCHEMA_VERSION:
            raise SubmissionError(
                f"{where}schema_version is {shown(version)}, this release reads {SCHEMA_VERSION}; "
                "install the release that it was written with, or submit again"
            )
    must_fit(entries, SCHEMA, where)
    about = entries["method"]
    method = Method(
        about["name"], tuple(about["authors"]), about["paper"], about["code"], about["commit"],
        **{name: about.get(name, "") for name in _OPTIONAL},
    )  # fmt: skip
    claims = tuple(_claim(cell) for cell in entries["cells"])
    if len({claim.setup for claim in claims}) != len(claims):
        raise SubmissionError(f"{where}cells has the same variant, model, seed and fold twice")
    explainer = entries.get("explainer", {})
    described = Described(
        entries["kind"], method, entries["command"], entries["hardware"], entries["created"],
        entries["versions"], entries["metrics"], claims,
        explainer.get("reference", ""), explainer.get("script", ""),
    )  # fmt: skip
    _check_kind(described, where)
    return described


def member_of(setup: Setup) -> str:
    """Where the heatmaps of a fold lie."""
    seed = f"seed{setup.seed}/" if setup.seed else ""
    return f"heatmaps/{setup.variant}/{setup.model}/{seed}fold{setup.fold}.npz"


def _claim(cell: Mapping[str, Any]) -> Claim:
    setup = Setup(cell["variant"], cell["model"], cell["seed"], cell["fold"])
    return Claim(
        setup, cast(Scheme, cell["folds"]), cell["dataset_digest"], cell["weights_sha256"], cell["images"],
        cell["scores"], cell.get("heatmaps", ""),
    )  # fmt: skip


def _check_kind(described: Described, where: str) -> None:
    """What goes with which kind, which the schema leaves open."""
    plugin = described.kind == "plugin"
    if plugin != bool(described.reference):
        rule = "needs an entry 'explainer'" if plugin else "has no entry 'explainer'"
        raise SubmissionError(f"{where}a submission of the kind {described.kind!r} {rule}")
    for claim in described.claims:
        right = "" if plugin else member_of(claim.setup)
        if claim.heatmaps != right:
            what = f"must be {right!r}" if right else "must be left out of a plug-in"
            raise SubmissionError(f"{where}heatmaps of {claim.setup} is {shown(claim.heatmaps)}; it {what}")
        if "iou_auc" not in claim.scores:
            raise SubmissionError(
                f"{where}scores of {claim.setup} lack 'iou_auc', which the board is sorted by"
            )
        for name in claim.scores:
            if name not in described.metrics:
                raise SubmissionError(f"{where}metrics lacks {name!r}, of which {claim.setup} claims a score")


def _check_files(archive: Archive, described: Described, files: Mapping[str, Mapping[str, Any]]) -> None:
    wanted = {described.script, *(claim.heatmaps for claim in described.claims)} - {""}
    for name in sorted(wanted | set(files)):
        if name not in files or name not in wanted:
            how = "does not list" if name in wanted else "lists without need"
            raise SubmissionError(f"{archive.where}: {ABOUT} {how} {shown(name)} among its files")
    for name, size in archive.members.items():
        if name != ABOUT and name not in files:
            raise SubmissionError(f"{archive.where} has a member {shown(name)}, which {ABOUT} does not list")
        if name in files and size != files[name]["bytes"]:
            raise SubmissionError(
                f"{archive.where}: {name} has {size} bytes, not the {files[name]['bytes']} that {ABOUT} gives"
            )
        if name == described.script and size > SCRIPT_BYTES:
            raise SubmissionError(f"{archive.where}: {name} has {size} bytes; it may have {SCRIPT_BYTES}")
    for name in files:
        if name not in archive.members:
            raise SubmissionError(f"{archive.where} lacks {shown(name)}, which {ABOUT} lists")
