"""Records, tables, certificates and weights that are not what was written are never believed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic_results import write_one_board
from torch import nn

from an8flower.manifest import read_manifest
from benchmark import evaluate, leaderboard, load_model, train
from benchmark.board.text import left_out
from benchmark.certificate.certifying import certify_all
from benchmark.certificate.records import lookup, record_path
from benchmark.plan import Plan
from benchmark.report.gallery import Gallery, Picture, Strip, keep, kept
from benchmark.report.order_panels import ranks_panel
from benchmark.report.page import write_report
from benchmark.setups import Setup
from benchmark.store import Cell, OccupiedError, ResultsError, read_record, read_scores
from benchmark.training.recipes import Recipe
from benchmark.training.state import TrainingState, read_state, write_state
from benchmark.training.trainer import trained_record
from benchmark.training.weights import WeightsError, weights_path
from explainers.vebi import Selection, SelectionError, select

METHODS = ["vebi", "grad_cam", "gradient", "random", "oracle"]
# What a damaged record of another row must not change.
OWN = ["role", "layer", "folds", "images", "iou_auc", "iou_auc_std", "max_iou", "ms_per_image", "failed"]


def digest(content: dict[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def key(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def rewrite(path: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = False) -> None:
    """Change the JSON in a file; `sealed` gives it a new digest, as one who means harm would."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content | ({"digest": digest(content)} if sealed else {})))


def put(*names: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one entry, by its path."""

    def change(content: Any) -> None:
        for name in names[:-1]:
            content = content[name]
        content[names[-1]] = value

    return change


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A board of five methods on five folds. Not to be changed."""
    return write_one_board(tmp_path_factory.mktemp("whole"), METHODS)


@pytest.fixture(scope="module")
def before(whole):
    """Its rows."""
    return leaderboard(whole, "single-6c").rows.set_index("explainer")[OWN]


@pytest.fixture
def results(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "results"))


def record(results: Path, method: str = "vebi", fold: int = 0) -> Path:
    return results / f"single-6c/an8net/records/{method}/fold{fold}.json"


def check_one_row_failed(results: Path, before: Any, path: Path, row: str = "vebi", fold: int = 0) -> str:
    """Check that one fold of one row is failed, its reason naming the file, and nothing else changed."""
    after = leaderboard(results, "single-6c").rows.set_index("explainer")[OWN]
    others = after.drop(index=row)
    assert others.equals(before.loc[others.index]) and {*others.index} == {*before.index} - {row}
    reason = str(after["failed"][row])
    assert reason.startswith(f"fold {fold}: {path} ") and "\n" not in reason
    assert after["folds"][row] == before["folds"].get(row, 1) - 1
    return reason


EDITS = {
    "a better score": put("scores", "iou_auc", value=0.97),
    "a slightly better score": put("scores", "iou_auc", value=0.3),
    "a better score in a view": put("views", "scores", "iou_auc", value=[0.9] * 8),
    "another number of images": put("images", value=1201),
    "another accuracy": put("accuracy", value=0.5),
    "another time": put("finished", value="2030-01-01T00:00:00+00:00"),
    "other weights": put("identity", "weights_sha256", value="7" * 64),
    "a field of its own": put("more", value=1),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_makes_one_failed_row(results, before, edit):
    path = record(results)
    rewrite(path, edit)
    reason = check_one_row_failed(results, before, path)
    assert "altered after it was written" in reason and "an8flower evaluate" in reason


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_is_found(results, before, seed):
    path = record(results)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(7))
    try:
        same = json.loads(data) == json.loads(path.read_bytes())
    except ValueError:
        same = False
    path.write_bytes(data)
    if not same:  # a space may have become another one
        check_one_row_failed(results, before, path)


SEALED = {
    "a score above 1": put("scores", "iou_auc", value=1.5),
    "a score below 0": put("scores", "iou_auc", value=-0.1),
    "a score that is true": put("scores", "iou_auc", value=True),
    "a score that is text": put("scores", "iou_auc", value="0.97"),
    "a huge score": put("scores", "iou_auc", value=10**400),
    "a score that its views contradict": put("scores", "iou_auc", value=0.97),
    "no score": put("scores", "iou_auc", value=None),
    "fewer images than none": put("images", value=-1),
    "half an image": put("images", value=0.5),
    "more images than its views have": put("images", value=5000),
    "more invalid maps than maps": put("invalid", value=10_000),
    "an accuracy of 2": put("accuracy", value=2),
    "a curve of text": put("curve", value=["much"] * 100),
    "a curve of numbers above 1": put("curve", value=[7] * 100),
    "views without scores": put("views", value={"view": [1]}),
    "views of text": put("views", "scores", "iou_auc", value=["x"] * 8),
    "views of other lengths": put("views", "images", value=[1200]),
    "a view twice": lambda content: content["views"]["view"].__setitem__(1, content["views"]["view"][0]),
    "a cost of text": put("cost", "ms_per_image", value="fast"),
    "a list of costs": put("cost", value=[1]),
    "a submission of text": put("submission", value="mine"),
    "a submission without authors": put("submission", value={"status": "verified"}),
    "a number as time": put("finished", value=7),
    "a timing of text": put("timing", value={"fit_s": "long"}),
    "a host of text": put("host", value="mine"),
    "versions of numbers": put("versions", value={"torch": 2}),
    "a list of layers": put("layer", value=["relu3"]),
    "a fold that does not exist": put("fold", value=5),
    "a fold that is true": put("fold", value=True),
    "a key that is not of its identity": put("key", value="0" * 64),
    "an identity of another method": put("identity", "explainer", value="grad_cam"),
    "a fold scheme that is a list": put("identity", "folds", value=["interleaved"]),
    "no weights": put("identity", "weights_sha256", value=None),
    "metrics of numbers": put("metrics", value={"iou_auc": 1}),
}  # fmt: skip


@pytest.mark.parametrize("change", SEALED.values(), ids=SEALED)
def test_content_of_another_type_or_range_is_one_failed_row_whatever_its_digest(results, before, change):
    path = record(results)

    def changed(content: dict[str, Any]) -> None:
        change(content)
        if content["key"] != "0" * 64:
            content["key"] = key(content["identity"])

    rewrite(path, changed, sealed=True)
    check_one_row_failed(results, before, path)


CONTENTS = {
    "nothing": b"", "no JSON": b"{", "a list": b"[]", "a number": b"3", "null": b"null",
    "binary": bytes(range(256)), "nested": b"[" * 100_000, "NaN": b'{"schema_version": NaN}',
    "a version of text": b'{"schema_version": "4"}', "a version that is true": b'{"schema_version": true}',
    "a huge number": b'{"schema_version": ' + b"9" * 5000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_file_that_is_no_record_is_one_failed_row(results, before, content):
    path = record(results)
    path.write_bytes(content)
    check_one_row_failed(results, before, path)


@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_score_that_is_not_finite_is_one_failed_row(results, before, score):
    path = record(results)
    content = json.loads(path.read_text())
    content["scores"]["iou_auc"] = "here"
    path.write_text(json.dumps(content).replace('"here"', score))
    check_one_row_failed(results, before, path)


def test_a_newer_record_has_one_remedy(results, before):
    path = record(results)
    rewrite(path, put("schema_version", value=99))
    reason = check_one_row_failed(results, before, path)
    assert "install the release that wrote it" in reason and reason.endswith("move it away")
    assert "delete" not in reason and "evaluate" not in reason


def test_a_fold_that_does_not_exist_is_to_be_deleted(results, before):
    for name in ("fold9", "fold5", "fold00"):
        shutil.copy(record(results), record(results).with_stem(name))
    board = leaderboard(results, "single-6c")
    assert board.rows.set_index("explainer")[OWN].equals(before)
    lines = [line for line in left_out(board) if "fold" in line]
    assert len(lines) == 3 and all("delete it" in line and "evaluate" not in line for line in lines)


def test_a_folder_in_the_place_of_a_record_is_one_failed_row(results, before):
    path = record(results)
    path.unlink()
    path.mkdir()
    assert check_one_row_failed(results, before, path).endswith("is a folder, not a file; move it away")


def test_a_dangling_link_is_one_failed_row(results, before):
    path = record(results)
    path.unlink()
    path.symlink_to("/nowhere/fold0.json")
    reason = check_one_row_failed(results, before, path)
    assert "link to a file that does not exist" in reason and "an8flower evaluate" in reason


def test_a_missing_table_is_said_to_be_missing(results):
    cell = Cell(results, "single-6c", "an8net", "vebi", 0)
    cell.scores_path.unlink(missing_ok=True)
    with pytest.raises(ResultsError, match=r"fold0\.parquet is missing; .*evaluate .*--tables"):
        read_scores(cell)


def test_a_board_that_cannot_be_written_names_the_file_and_fails(results, called):
    (results / "single-6c/an8net/leaderboard.csv").mkdir()
    done = called("leaderboard", "--results", results)
    assert done.returncode == 1 and "vebi" in done.stdout
    assert "an8net/leaderboard.csv: Is a directory" in done.stderr and ".tmp" not in done.stderr


@pytest.mark.parametrize("damage", ["broken", "old"])
def test_a_figure_is_missing_for_the_true_reason(results, damage):
    for fold in range(5):
        path = record(results, fold=fold)
        if damage == "broken":
            path.write_text("{")
        else:
            rewrite(path, lambda content: (content.update(schema_version=2), content.pop("digest")))
    board = leaderboard(results, "single-6c")
    assert board.friedman is None
    why = ranks_panel(board, "key").missing
    assert "the board has 2;" in why and ("because a fold failed: 1" in why) == (damage == "broken")
    assert ("schema versions before 3" in why) == (damage == "old")


def test_a_newer_certificate_is_not_overwritten(results):
    path = record_path(results, Setup("single-6c", "an8net", seed=0, fold=0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"schema_version": 99}')
    with pytest.raises(OccupiedError, match=r"fold0\.json .*move it away"):
        lookup(path, "0" * 64)


def test_a_record_copied_within_its_folder_is_refused(results, before):
    shutil.copy(record(results, fold=1), record(results, fold=0))
    reason = check_one_row_failed(results, before, record(results))
    assert "record of another cell (single-6c an8net fold 1: vebi)" in reason


@pytest.mark.parametrize("name", ["mine", "vebi_all", "vebi@conv1", "submitted%3Amine"])
def test_a_folder_copied_under_another_name_is_a_row_without_score(results, before, name):
    shutil.copytree(record(results).parent, record(results, name).parent)
    after = leaderboard(results, "single-6c").rows.set_index("explainer")
    (row,) = {*after.index} - {*before.index}
    assert (
        np.isnan(after["iou_auc"][row])
        and after["folds"][row] == 0
        and after["failed"][row].count("another cell") == 5
    )
    assert after.loc[before.index, OWN].equals(before.loc[before.index])  # fmt: skip


def test_swapped_records_are_two_failed_rows(results, before):
    one, other = record(results, "vebi"), record(results, "gradient")
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)
    after = leaderboard(results, "single-6c").rows.set_index("explainer")[OWN]
    assert "another cell" in after["failed"]["vebi"] and "another cell" in after["failed"]["gradient"]
    rest = before.index.difference(["vebi", "gradient"])
    assert after.loc[rest].equals(before.loc[rest])


def test_records_copied_to_another_variant_or_seed_are_refused(results):
    shutil.copytree(results / "single-6c", results / "part-2c")
    with pytest.raises(ResultsError, match="record of another cell") as refused:
        leaderboard(results, "part-2c")
    assert "\n" not in str(refused.value)
    shutil.copytree(record(results).parent, record(results).parent / "seed1")
    board = leaderboard(results, "single-6c")
    assert board.rows.set_index("explainer")["folds"]["vebi"] == 5
    assert sum("record of another cell" in line for line in left_out(board)) == 5


@pytest.mark.parametrize("damage", [b"{", b"[]", b"\x00"], ids=ascii)
def test_page_and_commands_show_the_rest(results, damage, tmp_path, called):
    path = record(results)
    path.write_bytes(damage)
    page = write_report(results, tmp_path / "page.html", gallery=False).path.read_text()
    assert "grad_cam" in page and str(path) in page
    done = called("leaderboard", "--results", results)
    assert (
        done.returncode == 0 and "gradient" in done.stdout and f"failed: vebi: fold 0: {path}" in done.stderr
    )
    assert (results / "single-6c/an8net/leaderboard.csv").exists()
    assert called("board", "list", "--results", results).returncode == 0


class TestOlderRecords:
    def older(self, path: Path) -> None:
        rewrite(path, lambda content: (content.update(schema_version=3), content.pop("digest", None)))

    def test_they_are_shown_and_counted(self, results, before):
        for fold in range(3):
            self.older(record(results, fold=fold))
        board = leaderboard(results, "single-6c")
        assert board.rows.set_index("explainer")[OWN].equals(before)
        assert [line for line in left_out(board) if line.startswith("3 of 25 records")]

    def test_the_command_gives_them_a_digest(self, results, before, called):
        kept = json.loads(record(results).read_text())
        self.older(record(results))
        done = called("leaderboard", "--results", results, "--add-digests")
        assert done.returncode == 0 and "1 files have a digest now" in done.stderr
        assert json.loads(record(results).read_text()) == kept
        assert left_out(leaderboard(results, "single-6c")) == []

    def test_every_other_check_applies(self, results, before):
        self.older(record(results))
        rewrite(record(results), put("scores", "iou_auc", value=0.97))
        assert "no mean of its scores" in check_one_row_failed(results, before, record(results))

    def test_a_new_record_needs_its_digest(self, results, before):
        rewrite(record(results), lambda content: content.pop("digest"))
        assert "no digest" in check_one_row_failed(results, before, record(results))


def test_a_record_is_still_the_dictionary_it_was(results):
    known = read_record(record(results))
    with pytest.warns(DeprecationWarning, match=r"write \.scores instead"):
        assert known["scores"] == known.scores
    with pytest.warns(DeprecationWarning):
        assert known.get("nothing", 7) == 7 and known.get("fold") == 0
    with pytest.warns(DeprecationWarning):
        assert "scores" in known and "nothing" not in known
    with pytest.warns(DeprecationWarning):
        assert {*known} == {*known.keys()} == {*dict(known)} == {name for name, _ in known.items()}
    with pytest.warns(DeprecationWarning):
        assert known["schema_version"] == 4 and len(known) == len([*known.values()])
    with pytest.warns(DeprecationWarning), pytest.raises(KeyError):
        known["nothing"]
    assert known and replace(known, fold=1) != known


class TestCertificates:
    @pytest.mark.parametrize(
        "change",
        [
            put("certified", value=True), put("shares", "necessity", value=1.0),
            put("shares", value=[1]), put("fold", value=3), put("reason", value=None),
            put("identity", "weights_sha256", value="2" * 64), put("key", value="0" * 64),
            put("flags_file", value=None),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("sealed", [False, True])
    def test_an_altered_one_is_left_out_and_named(self, results, change, sealed):
        path = results / "single-6c/an8net/certificate/fold4.json"
        rewrite(path, change, sealed=sealed)
        board = leaderboard(results, "single-6c")
        if not sealed:
            (line,) = left_out(board)
            assert str(path) in line and line.endswith("delete it and certify again")
        assert board.certificate["fold"].tolist()[:4] == [0, 1, 2, 3]

    def test_one_of_another_fold_is_left_out(self, results):
        folder = results / "single-6c/an8net/certificate"
        shutil.copy(folder / "fold0.json", folder / "fold4.json")
        board = leaderboard(results, "single-6c")
        assert len(board.certificate) == 4 and "of another model" in left_out(board)[0]


@pytest.fixture(scope="module")
def measured(data, checkpoints, tiny, tmp_path_factory):
    """Two quick methods on one fold, with their tables. Not to be changed."""
    folder = tmp_path_factory.mktemp("measured")
    asked = {"explainers": ["sobel", "centre"], "folds": [0], "metrics": ["iou_auc"]}
    evaluate(data, tiny.name, checkpoints=checkpoints, results=folder, **asked)
    return folder


class TestOccupied:
    """What is in the place of a record and must stay is one failed row of a run; the others continue."""

    def measure(self, data, tiny, checkpoints, folder):
        asked = {"explainers": ["sobel", "centre"], "folds": [0], "metrics": ["iou_auc"]}
        return evaluate(data, tiny.name, checkpoints=checkpoints, results=folder, **asked)

    @pytest.mark.parametrize("what", ["newer", "folder", "folder of scores", "file", "link of a folder"])
    def test_it_is_one_failed_row(self, measured, data, checkpoints, tiny, tmp_path, what):
        folder = Path(shutil.copytree(measured, tmp_path / "measured"))
        cell = Cell(folder, tiny.name, "an8net", "sobel", 0)
        named = cell.record_path
        if what == "newer":
            rewrite(named, put("schema_version", value=99))
        elif what == "folder":
            named.unlink()
            named.mkdir()
        elif what == "folder of scores":
            named.unlink()
            named = cell.scores_path
            named.unlink()
            named.mkdir()
        else:
            named = named.parent
            shutil.rmtree(named)
            named.symlink_to("/nowhere") if what.startswith("link") else named.write_text("mine")
        kept = named.read_text() if named.is_file() else None
        first, second = self.measure(data, tiny, checkpoints, folder)
        assert (first.explainer, first.status) == ("sobel", "failed") and second.status == "ok", second
        assert first.reason.startswith(f"{named} ") and first.reason.endswith("move it away")
        assert kept == (named.read_text() if named.is_file() else None)
        named.rename(tmp_path / "away")
        assert [one.status for one in self.measure(data, tiny, checkpoints, folder)] == ["ok", "ok"]

    def test_a_dangling_link_is_replaced(self, measured, data, checkpoints, tiny, tmp_path):
        folder = Path(shutil.copytree(measured, tmp_path / "measured"))
        path = Cell(folder, tiny.name, "an8net", "sobel", 0).record_path
        path.unlink()
        path.symlink_to(tmp_path / "nowhere.json")
        assert [one.status for one in self.measure(data, tiny, checkpoints, folder)] == ["ok", "ok"]


class TestTables:
    @pytest.fixture
    def again(self, measured, data, checkpoints, tiny, tmp_path):
        folder = Path(shutil.copytree(measured, tmp_path / "measured"))
        cell = Cell(folder, tiny.name, "an8net", "sobel", 0)
        kept = cell.scores_path.read_bytes()
        stamp = cell.record_path.stat().st_mtime_ns

        def check(measured_again: bool) -> None:
            if measured_again and cell.scores_path.exists():
                with pytest.raises(ResultsError, match=r"fold0\.parquet .* run 'an8flower evaluate"):
                    read_scores(cell)
            asked = {"explainers": ["sobel", "centre"], "folds": [0], "metrics": ["iou_auc"]}
            records = evaluate(data, tiny.name, checkpoints=checkpoints, results=folder, **asked)
            assert [one.status for one in records] == ["ok", "ok"]
            assert (cell.record_path.stat().st_mtime_ns > stamp) == measured_again
            if measured_again:
                assert cell.scores_path.read_bytes() == kept
                read_scores(cell)

        return cell, check

    @pytest.mark.parametrize("at", [0, 100, -20, -1])
    def test_one_with_a_flipped_byte_is_measured_again(self, again, at):
        cell, check = again
        data = bytearray(cell.scores_path.read_bytes())
        data[at] ^= 1
        cell.scores_path.write_bytes(data)
        check(True)

    def test_the_table_of_another_method_is_measured_again(self, again):
        cell, check = again
        shutil.copy(replace(cell, explainer="centre").scores_path, cell.scores_path)
        check(True)

    def test_a_missing_one_is_not_needed(self, again):
        cell, check = again
        cell.scores_path.unlink()
        check(False)

    @pytest.mark.parametrize("change", [put("scores", "iou_auc", value=0.97), put("images", value=1)])
    def test_an_altered_record_is_measured_again(self, again, change):
        cell, check = again
        kept = json.loads(cell.record_path.read_text())["scores"]
        rewrite(cell.record_path, change)
        with pytest.raises(ResultsError, match="altered after it was written"):
            read_record(cell.record_path)
        cell.scores_path.unlink()
        check(True)
        assert json.loads(cell.record_path.read_text())["scores"] == kept


class TestWeights:
    @pytest.fixture
    def weights(self, checkpoints, tiny, tmp_path):
        shutil.copytree(checkpoints, tmp_path / "checkpoints")
        return weights_path(tmp_path / "checkpoints", tiny.name, "an8net", 0)

    def evaluated(self, data, weights, tmp_path, **options):
        asked = {"explainers": ["sobel"], "folds": [0], "metrics": ["iou_auc"]} | options
        folders = {"checkpoints": weights.parents[2], "results": tmp_path / "results"}
        return evaluate(data, weights.parents[1].name, **folders, **asked)

    def test_those_of_another_fold_are_refused(self, data, weights, tmp_path):
        for suffix in (".safetensors", ".json"):
            shutil.copy(weights.with_name(f"fold1{suffix}"), weights.with_suffix(suffix))
        with pytest.raises(
            WeightsError, match=r"fold0\.safetensors has the weights of another model .*fold 1.*train"
        ):
            self.evaluated(data, weights, tmp_path)

    def test_those_of_another_seed_are_refused(self, data, weights, tmp_path):
        (weights.parent / "seed1").mkdir()
        for suffix in (".safetensors", ".json"):
            shutil.copy(weights.with_suffix(suffix), weights.parent / f"seed1/fold0{suffix}")
        with pytest.raises(WeightsError, match=r"seed1/fold0\.safetensors has the weights of another model"):
            self.evaluated(data, weights, tmp_path, seed=1)

    @pytest.mark.parametrize("entry", [("variant", "part-2c"), ("model", "mnistnet")])
    def test_those_of_another_variant_or_model_are_refused(self, data, weights, tmp_path, entry):
        name, value = entry
        rewrite(weights.with_suffix(".json"), put("identity", name, value=value), sealed=True)
        with pytest.raises(WeightsError, match=f"another model .*{value}"):
            self.evaluated(data, weights, tmp_path)

    def test_a_record_that_says_another_fold_is_altered(self, weights):
        for suffix in (".safetensors", ".json"):
            shutil.copy(weights.with_name(f"fold1{suffix}"), weights.with_suffix(suffix))
        rewrite(weights.with_suffix(".json"), put("identity", "fold", value=0))
        with pytest.raises(WeightsError, match="altered after it was written"):
            load_model(weights)

    @pytest.mark.parametrize("at", [9, 200, -1])
    def test_a_flipped_byte_is_refused(self, weights, at):
        data = bytearray(weights.read_bytes())
        data[at] ^= 1
        weights.write_bytes(data)
        with pytest.raises(
            WeightsError,
            match=r"not the file that its record describes; "
            r"delete \S+fold0\.safetensors and \S+fold0\.json and train again$",
        ):
            load_model(weights)

    FIELDS = ("identity", "classes", "curve", "test_accuracy", "weights_sha256")

    @pytest.mark.parametrize("field", [*FIELDS, "schema_version", "digest"])
    @pytest.mark.parametrize("sealed", [False, True])
    def test_a_record_without_a_field_is_one_error(self, weights, field, sealed):
        if sealed and field == "digest":
            return
        rewrite(weights.with_suffix(".json"), lambda content: content.pop(field), sealed=sealed)
        with pytest.raises(WeightsError, match=r"fold0\.json is not a valid record") as refused:
            load_model(weights)
        assert "\n" not in str(refused.value) and str(refused.value).endswith(
            f"delete {weights} and {weights.with_suffix('.json')} and train again"
        )

    @pytest.mark.parametrize(
        "name", ["variant", "model", "fold", "seed", "folds", "dataset_digest", "recipe"]
    )
    @pytest.mark.parametrize("value", [None, [], {}, True, -1], ids=str)
    def test_an_identity_of_other_types_is_one_error(self, weights, name, value):
        if name == "recipe" and value == {}:
            value = {"enough_loss": "little"}
        rewrite(weights.with_suffix(".json"), put("identity", name, value=value), sealed=True)
        with pytest.raises(WeightsError, match=f"identity.{name}"):
            load_model(weights)

    CONTENTS = (
        "[]",
        "3",
        "null",
        "{",
        "",
        "[" * 100_000,
        '{"schema_version": 99}',
        '{"schema_version": [1]}',
    )

    @pytest.mark.parametrize("content", CONTENTS, ids=lambda text: text[:20])
    def test_content_that_is_no_record_is_one_error(self, weights, content, called):
        weights.with_suffix(".json").write_text(content)
        with pytest.raises(WeightsError, match=r"fold0\.json is not a valid record"):
            load_model(weights)
        picture = weights.parents[2] / "tiny-2c.png"
        picture.write_bytes(b"")
        done = called("explain", picture, "--checkpoint", weights)
        assert done.returncode == 1 and "unexpected" not in done.stderr

    def test_older_records_are_read(self, weights):
        old = weights.with_suffix(".json")
        rewrite(old, lambda content: (content.update(schema_version=1), content.pop("digest", None)))
        assert load_model(weights).record == json.loads(old.read_text())

    @pytest.mark.parametrize("damage", ["flipped", "appended", "emptied"])
    def test_altered_weights_are_trained_again(self, data, weights, tiny, damage, caplog):
        kept = weights.read_bytes()
        recipe = Recipe(**json.loads(weights.with_suffix(".json").read_text())["identity"]["recipe"])
        changed = {"flipped": kept[:-1] + bytes([kept[-1] ^ 1]), "appended": kept + b"junk", "emptied": b""}
        weights.write_bytes(changed[damage])
        manifest, folder = read_manifest(data, tiny.name), weights.parents[2]
        assert trained_record(weights, manifest, "an8net", fold=0, recipe=recipe) is None
        train(data, tiny.name, fold=0, checkpoints=folder, recipe=recipe, report=lambda _: None)
        assert weights.read_bytes() == kept and f"{weights} is not the file" in caplog.text
        assert trained_record(weights, manifest, "an8net", fold=0, recipe=recipe) is not None

    def test_altered_weights_have_no_certificate(self, twinned, weights, tiny, tmp_path):
        plan = Plan().with_(
            variants=tiny.name,
            folds=0,
            root=twinned,
            checkpoints=weights.parents[2],
            results=tmp_path / "runs",
        )
        certify_all(plan)
        weights.write_bytes(weights.read_bytes() + b"junk")
        with pytest.raises(WeightsError, match=r"fold0\.safetensors is not the file"):
            certify_all(plan)

    def test_training_again_repairs_what_lies_in_the_wrong_place(self, data, weights, tiny):
        kept = weights.read_bytes()
        recipe = Recipe(**json.loads(weights.with_suffix(".json").read_text())["identity"]["recipe"])
        for suffix in (".safetensors", ".json"):
            shutil.copy(weights.with_name(f"fold1{suffix}"), weights.with_suffix(suffix))
        train(data, tiny.name, fold=0, checkpoints=weights.parents[2], recipe=recipe)
        assert weights.read_bytes() == kept


@pytest.fixture(scope="module")
def selection(tmp_path_factory):
    """A selection of a small network. Not to be changed."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 2)).eval()
        images, labels = torch.rand(12, 3, 16, 16), torch.arange(12) % 2
    path = tmp_path_factory.mktemp("selection") / "fold0.selection.json"
    select(model, [(images, labels)]).save(path)
    return path


class TestSelections:
    @pytest.fixture
    def path(self, selection, tmp_path):
        for suffix in (".json", ".npz"):
            shutil.copy(selection.with_suffix(suffix), tmp_path)
        return tmp_path / selection.name

    def refused(self, path: Path) -> str:
        with pytest.raises(SelectionError) as error:
            Selection.load(path)
        line = str(error.value)
        assert line.startswith(f"{path} is not a valid selection: ") and line.endswith("; fit it again")
        assert "\n" not in line and "out of range" not in line
        return line

    def test_what_was_saved_is_read(self, path):
        assert Selection.load(path).features

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
    @pytest.mark.parametrize("suffix", [".npz", ".json"])
    def test_a_flipped_bit_is_refused(self, path, suffix, share):
        data = bytearray(path.with_suffix(suffix).read_bytes())
        at = int(share * len(data))
        while suffix == ".json" and chr(data[at]).isspace():  # which changes nothing
            at += 1
        data[at] ^= 1
        path.with_suffix(suffix).write_bytes(data)
        self.refused(path)

    @pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 0.99])
    @pytest.mark.parametrize("suffix", [".npz", ".json"])
    def test_a_file_that_was_cut_is_refused(self, path, suffix, share):
        data = path.with_suffix(suffix).read_bytes()
        path.with_suffix(suffix).write_bytes(data[: int(share * len(data))])
        self.refused(path)

    @pytest.mark.parametrize("content", ["[]", "3", "null", "{}", "[" * 100_000, '{"schema_version": [2]}'])
    def test_other_content_is_refused(self, path, content):
        path.write_text(content)
        self.refused(path)

    EDITS = (
        put("mu", value=50.0), put("classes", value=3), put("norm", value="l2"), put("only_conv", value=True),
        put("weights_sha256", value="0" * 64), put("layers", value=[]), put("images", value=1),
    )  # fmt: skip

    @pytest.mark.parametrize("edit", EDITS)
    def test_an_edit_is_refused(self, path, edit):
        rewrite(path, edit)
        assert "altered after it was written" in self.refused(path)

    SEALED = (
        put("mu", value="5"), put("mu", value=-1), put("classes", value=0), put("classes", value=1),
        put("norm", value="l3"), put("only_conv", value=1), put("scores", value=3), put("images", value=-1),
        put("gap", value=None), put("weights_sha256", value="x"), put("layers", value=[]),
        put("layers", value={}), put("layers", value=[1]), put("layers", value="conv1"),
        put("features_sha256", value=None), put("schema_version", value=99),
    )  # fmt: skip
    LAYERS = (
        put("shape", value=[]), put("shape", value=[0]), put("shape", value=8), put("shape", value=[8.5]),
        put("shape", value=["8"]), put("number", value=7), put("kind", value="king"), put("name", value=None),
        put("receptive_field", value=None), put("receptive_field", value={"size_px": [1]}),
        put("receptive_field", "size_px", value=[1, 2, 3]),
        put("receptive_field", "size_px", value=["a", "b"]),
    )  # fmt: skip

    @pytest.mark.parametrize("change", SEALED)
    def test_wrong_content_is_refused_whatever_its_digest(self, path, change):
        rewrite(path, change, sealed=True)
        self.refused(path)

    @pytest.mark.parametrize("change", LAYERS)
    def test_a_wrong_layer_is_refused_whatever_its_digest(self, path, change):
        rewrite(path, lambda content: change(content["layers"][0]), sealed=True)
        assert "layer 1 is wrong" in self.refused(path)

    FEATURES = (
        ("target", np.array([7])), ("target", np.array([-1])), ("layer", np.array([0])),
        ("layer", np.array([99])), ("channel", np.array([-1])), ("channel", np.array([10**6])),
        ("weight", np.array([np.nan])),
        ("relevance", np.array([np.inf])), ("weight", np.array(["much"])), ("layer", np.array([1.0])),
        ("layer", np.zeros((1, 1), int)), ("weight", np.zeros(2)), ("relevance", np.array([{}], object)),
    )  # fmt: skip

    @pytest.mark.parametrize(("name", "values"), FEATURES)
    def test_features_that_cannot_be_are_refused_whatever_their_digest(self, path, name, values):
        ints = {"target": np.array([0]), "layer": np.array([1]), "channel": np.array([0])}
        usual = ints | {"weight": np.array([1.0]), "relevance": np.array([1.0])}
        for columns, right in ((usual, True), (usual | {name: values}, False)):
            np.savez(path.with_suffix(".npz"), **columns)
            sha256 = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
            rewrite(path, put("features_sha256", value=sha256), sealed=True)
            if right:
                assert len(Selection.load(path).features) == 1
        self.refused(path)

    def test_older_selections_are_read(self, path):
        before = Selection.load(path)
        rewrite(path, lambda content: (content.update(schema_version=1), content.pop("digest", None)))
        assert Selection.load(path) == before

    def test_a_missing_file_is_one_error(self, path):
        path.with_suffix(".npz").unlink()
        self.refused(path)


class TestGallery:
    @pytest.fixture
    def folder(self, tmp_path):
        pictures = (Picture("red", "blue", 1, 2, 3, "AAAA", "M0 0L1 1Z", 1.5),)
        strips = {"vebi": Strip("vebi", "k", "AAAA", (12.5,))}
        keep(tmp_path, "single-6c", "an8net", Gallery(32, "0" * 64, pictures, strips), ["vebi"])
        return tmp_path / "single-6c/an8net/gallery"

    def read(self, folder: Path) -> Gallery:
        return kept(folder.parents[2], "single-6c", "an8net", "0" * 64, {"vebi": "k"})

    def test_what_was_kept_is_read(self, folder):
        gallery = self.read(folder)
        assert gallery.strips["vebi"].scores == (12.5,) and gallery.pictures[0].rotation == 3

    STRIPS = (put("scores", value=[97.0]), put("webp", value="BBBB"), put("key", value="k2"))

    @pytest.mark.parametrize("change", STRIPS)
    def test_heatmaps_that_were_altered_are_drawn_again(self, folder, change):
        rewrite(folder / "heatmaps/vebi.json", change)
        assert self.read(folder).strips == {} and self.read(folder).pictures

    @pytest.mark.parametrize("name", ["webp", "outline", "label", "view"])
    def test_pictures_that_were_altered_are_drawn_again(self, folder, name):
        value = {"webp": "BBBB", "outline": "M0 0Z", "label": "pink", "view": 7}[name]
        rewrite(folder / "pictures.json", lambda content: content["pictures"][0].update({name: value}))
        assert self.read(folder) == Gallery()

    @pytest.mark.parametrize("value", [3, ["x"], None, {}, []], ids=str)
    @pytest.mark.parametrize("name", ["scores", "webp"])
    def test_wrong_types_are_no_heatmaps_whatever_their_digest(self, folder, name, value):
        rewrite(folder / "heatmaps/vebi.json", put(name, value=value), sealed=True)
        assert self.read(folder).strips == {}

    @pytest.mark.parametrize("name", ["label", "view", "area", "outline", "webp"])
    def test_wrong_types_are_no_pictures_whatever_their_digest(self, folder, name):
        rewrite(
            folder / "pictures.json", lambda content: content["pictures"][0].update({name: []}), sealed=True
        )
        assert self.read(folder) == Gallery()

    def test_older_files_are_read(self, folder):
        def older(content: dict[str, Any]) -> None:
            del content["digest"], content["schema_version"]

        rewrite(folder / "heatmaps/vebi.json", older)
        assert self.read(folder).strips


def test_an_altered_state_of_a_training_is_not_continued(tmp_path, caplog):
    terms = {"identity": {"fold": 0}}
    path = tmp_path / "fold0.partial.safetensors"
    weights, best, momenta = ({"weight": torch.full((3,), float(k))} for k in range(3))
    write_state(path, TrainingState(weights, best, momenta, [{"validation_loss": 1.0}]), terms)
    assert read_state(path, terms) is not None
    whole = path.read_bytes()
    for at in (-1, len(whole) // 2, whole.index(b"validation_loss")):
        data = bytearray(whole)
        data[at] ^= 1
        path.write_bytes(data)
        assert read_state(path, terms) is None
    assert all("training starts from the beginning" in one.getMessage() for one in caplog.records)
