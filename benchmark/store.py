"""What has been measured: one JSON record and one Parquet table of per-image scores for each cell.

A cell is one explainer on one fold of one model and variant, for one training seed. In the results folder:
`<variant>/<model>/records/<explainer>/fold<k>.json` and `.../scores/<explainer>/fold<k>.parquet`, in a
subfolder `seed<s>` for seeds other than 0. The folder of a model is named after its architecture, with
"+" and the recipe if it is not plain. docs/results.md describes every field.

A file is written completely or not at all, and the record last, so several processes may write to one folder:
equal keys have equal heatmaps, and the last one wins. What is read is checked: a record against its own
digest and against its place, a table against the digest in its record.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, unquote

import pandas as pd

from an8flower.ground import files
from an8flower.ground.deprecated import renamed
from an8flower.ground.digest import FIELD, read_json
from an8flower.ground.text import one_line
from an8flower.protocol import FOLDS
from benchmark.record import NewerRecordError, Record, RecordError, from_json, to_json
from benchmark.record_checks import key as key
from benchmark.setups import PLAIN, model_name, model_options, parse_model_name
from benchmark.tables import AlteredTableError, is_usable, read_table, write_table

SUBMITTED = "submitted:"  # the names of submitted explainers begin so


class ResultsError(ValueError):
    """Records that cannot be read or do not belong together; the message says what to run."""


class OccupiedError(ResultsError):
    """Something where a record or a table should be that is not overwritten; the message names the remedy."""


def seed_folder(folder: Path, seed: int) -> Path:
    """Return where the files of a training seed are: seed 0 in the folder itself.

    >>> seed_folder(Path("an8net"), 0).as_posix(), seed_folder(Path("an8net"), 3).as_posix()
    ('an8net', 'an8net/seed3')
    """
    return folder / f"seed{seed}" if seed else folder


@dataclass(frozen=True)
class Cell:
    """Where one measurement is stored.

    Args:
        results: the results folder.
        variant, model: registry names.
        explainer: name of the explainer with its parameters, e.g. "grad_cam@conv1".
        fold: from 0 to 4.
        seed: of the training.
        recipe: of the training.
    """

    results: Path
    variant: str
    model: str
    explainer: str
    fold: int
    seed: int = 0
    recipe: str = PLAIN

    @property
    def record_path(self) -> Path:
        """Path of the JSON record."""
        return self._path("records", "json")

    @property
    def scores_path(self) -> Path:
        """Path of the table of per-image scores."""
        return self._path("scores", "parquet")

    @property
    def model_name(self) -> str:
        """The architecture with the recipe, see `setups.model_name`."""
        return model_name(self.model, self.recipe)

    @property
    def board_folder(self) -> Path:
        """Folder of everything that was measured on these models."""
        return self.results / self.variant / self.model_name

    def _path(self, kind: str, suffix: str) -> Path:
        folder = self.board_folder / kind / quote(self.explainer, safe="@=,()&")
        return seed_folder(folder, self.seed) / f"fold{self.fold}.{suffix}"

    def __str__(self) -> str:
        seed = f" seed {self.seed}" if self.seed else ""
        return f"{self.variant} {self.model_name}{seed} fold {self.fold}: {self.explainer}"


def cell_of(results: str | Path, record: Record) -> Cell:
    """Return the cell that a record describes."""
    return Cell(
        Path(results), record.variant, record.model, record.explainer, record.fold, record.seed, record.recipe
    )


def cell_at(path: Path) -> Cell | None:
    """Return the cell whose record belongs at a path, whatever the file contains; None for any other path.

    >>> str(cell_at(Path("runs/single-6c/an8net+certified/records/captum%3ALRP/seed1/fold2.json")))
    'single-6c an8net+certified seed 1 fold 2: captum:LRP'
    """
    fold = re.fullmatch(r"fold(\d)\.json", path.name)
    seed = re.fullmatch(r"seed(\d{1,15})", path.parent.name)
    folder = path.parent.parent if seed else path.parent
    if fold is None or int(fold[1]) >= FOLDS or len(folder.parts) < 4:
        return None
    variant, name, _, explainer = folder.parts[-4:]
    model, recipe = parse_model_name(name)
    cell = Cell(
        folder.parents[3], variant, model, unquote(explainer), int(fold[1]), int(seed[1]) if seed else 0,
        recipe,
    )  # fmt: skip
    return cell if cell.record_path == path else None


def lookup(cell: Cell, wanted: str, metrics: dict[str, str], *, tables: bool = False) -> Record | None:
    """Return the record of a cell that was measured, or failed, under exactly this key; else None.

    A board needs records alone, so the table of per-image scores may be missing. A record or a table that was
    altered counts as not measured.

    Args:
        cell: which one.
        wanted: its key now.
        metrics: the digest of the code of each metric that is wanted; the record may have more.
        tables: whether the table must exist too.
    """
    try:
        record = read_record(cell.record_path)
    except (FileNotFoundError, ResultsError):
        return None
    if record.key != wanted:
        return None
    if record.status == "failed":
        return record
    complete = is_usable(cell.scores_path, record.scores_file, required=tables)
    return record if record.views and complete and metrics.items() <= record.metrics.items() else None


def write(cell: Cell, record: Record, scores: pd.DataFrame | None) -> Record:
    """Write per-image scores, then the record, each completely or not at all.

    Returns:
        the record as it was written, which describes the file with the scores.
    Raises:
        OccupiedError: if something is in the place of one of the files that is not overwritten.
    """
    if why := obstacle(cell):
        raise OccupiedError(why)
    description = None if scores is None else write_table(cell.scores_path, scores)
    return _write_record(cell.record_path, replace(record, scores_file=description))


def obstacle(cell: Cell) -> str | None:
    """Return what keeps a cell from being written, and the remedy; None if nothing does.

    That is a record of a newer release, a folder in the place of a file, or a file in the place of a folder.
    """
    for path in (cell.record_path, cell.scores_path):
        for folder in path.parents[: len(path.parts) - len(cell.results.parts)]:
            if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
                return f"{folder} is not a folder; move it away"
        if path.is_dir():
            return _is_a_folder(path)
    try:
        read_record(cell.record_path)
    except OccupiedError as error:
        return str(error)
    except (ResultsError, OSError):
        return None
    return None


def _is_a_folder(path: Path) -> str:
    return f"{path} is a folder, not a file; move it away"


def _write_record(path: Path, record: Record) -> Record:
    content = to_json(record)
    files.write_json(path, content)
    return replace(record, digest=content[FIELD])


def read_record(path: Path) -> Record:
    """Read one record, also one of an older release.

    Args:
        path: in a results folder, so that its place says of which cell the record must be.
    Raises:
        ResultsError: if it is not a valid record, was altered, is that of another cell, or its schema version
            is not known; the message names the file and the remedy.
        OccupiedError: if it is a folder, or a newer release has written it.
        FileNotFoundError: if the file does not exist.
    """
    try:
        record = from_json(read_json(path.read_bytes()))
    except FileNotFoundError:
        if path.is_symlink():
            raise ResultsError(f"{path} is a link to a file that does not exist; {_remedy(path)}") from None
        raise
    except IsADirectoryError:
        raise OccupiedError(_is_a_folder(path)) from None
    except NewerRecordError as error:
        raise OccupiedError(
            f"{path} cannot be read ({error}); to keep it, install the release that wrote it; to measure it "
            "with this one, move it away"
        ) from None
    except (ValueError, OSError) as error:
        reason = str(error) if isinstance(error, RecordError) else f"{type(error).__name__}: {error}"
        raise ResultsError(f"{path} is not a valid record ({one_line(reason)}); {_remedy(path)}") from error
    own = cell_of("", record)
    if own.record_path.parts != path.absolute().parts[-len(own.record_path.parts) :]:
        raise ResultsError(f"{path} is the record of another cell ({one_line(str(own))}); {_remedy(path)}")
    return record


def _remedy(path: Path) -> str:
    """Return what replaces a record that cannot be used."""
    cell = cell_at(path)
    if cell is None:
        return "delete it"
    if cell.explainer.startswith(SUBMITTED):
        return "delete it and add the submission again"
    return f"to measure it again, run '{_again(cell)}'"


def _again(cell: Cell) -> str:
    seed = ["--seed", str(cell.seed)] if cell.seed else []
    command = f"an8flower evaluate --variant {shlex.quote(cell.variant)} {model_options(cell.model_name)}"
    options = ["--explainer", cell.explainer, "--folds", str(cell.fold), *seed]
    options += ["--results", str(cell.results)]
    return one_line(f"{command} {shlex.join(options)}", 1000)


def read_scores(cell: Cell) -> pd.DataFrame:
    """Read the per-image scores of a measured cell and compare them with its record.

    Raises:
        ResultsError: if they are missing or not what the record describes.
    """
    try:
        return read_table(cell.scores_path, read_record(cell.record_path).scores_file)
    except AlteredTableError as error:
        raise ResultsError(f"{error}; to measure it again, run '{_again(cell)} --tables'") from None


def readable_records(results: str | Path, variant: str, model: str) -> tuple[list[Record], dict[Path, str]]:
    """Read all records of one variant and model.

    Args:
        results: the results folder.
        variant: its name.
        model: name of the models, with the recipe unless it is plain; see `setups.model_name`.
    Returns:
        records sorted by explainer, seed and fold; and for each file that is not a valid record, the reason.
    """
    records: list[Record] = []
    broken: dict[Path, str] = {}
    for path in sorted((Path(results) / variant / model / "records").rglob("fold*.json")):
        try:
            records.append(read_record(path))
        except (ResultsError, OSError) as error:
            broken[path] = str(error)
    return sorted(records, key=lambda record: (record.explainer, record.seed, record.fold)), broken


def add_digests(results: str | Path, variant: str, model: str) -> int:
    """Write records of older releases again, unchanged but with a digest, and return how many there were."""
    records, _ = readable_records(results, variant, model)
    older = [record for record in records if record.digest is None]
    for record in older:
        _write_record(cell_of(results, record).record_path, record)
    return len(older)


__getattr__ = renamed(__name__, {"found": "lookup", "SCHEMA_VERSION": "benchmark.record.SCHEMA_VERSION"})
