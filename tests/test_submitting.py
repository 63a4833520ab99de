"""From a method, or heatmaps, to one file, to a verified or self-reported row of the board."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from submissions import changed, npz, plugin
from typer.testing import CliRunner

import explainers
from an8flower import An8Flower
from benchmark import evaluate, leaderboard, load_model, store
from benchmark.board.figures import curves
from benchmark.cli import app
from benchmark.metrics import iou_auc
from benchmark.plan import Plan
from benchmark.record import to_json
from benchmark.submission import adding
from benchmark.submission.adding import NotVerifiedError, add, submissions_in
from benchmark.submission.errors import SubmissionError
from benchmark.submission.file import SUFFIX, Submission, read_submission
from benchmark.submission.form import Method, parse_form
from benchmark.submission.metadata import Metadata, read_metadata
from benchmark.submission.packing import pack_heatmaps, pack_plugin
from benchmark.submission.verification import verify

DOCS = Path(__file__).parent.parent / "docs"
METADATA = Metadata(
    Method("mine", ("A. Author", "B. Author"), "arXiv 1", "https://x.org/a", "0123abc"), "abacus", "run"
)
SCRIPT = '''
import os
import torch
open(os.environ["SEEN"], "a").close()

def my_method(model, images, targets, *, power=1):
    """How dark a pixel is."""
    return (1 - images.mean(dim=1)) ** power
'''


@pytest.fixture
def plan(data, tiny, checkpoints, tmp_path):
    """Two folds of one method."""
    return Plan().with_(
        variants=[tiny.name], folds=[0, 1], explainers=["sobel"], root=data, checkpoints=checkpoints,
        results=tmp_path / "results",
    )  # fmt: skip


@pytest.fixture(scope="session")
def measured(data, tiny, checkpoints, tmp_path_factory):
    """A results folder with a few rows. Not to be changed."""
    folder = tmp_path_factory.mktemp("measured")
    evaluate(
        data, tiny.name, explainers=["sobel", "random", "oracle", "grad_cam"], folds=[0, 1], results=folder,
        checkpoints=checkpoints,
    )  # fmt: skip
    return folder


@pytest.fixture
def board(measured, plan):
    """The plan with results that may be changed."""
    shutil.copytree(measured, plan.results)
    return plan


@pytest.fixture(scope="session")
def packed(data, tiny, checkpoints, tmp_path_factory) -> Submission:
    """The heatmaps of a method."""
    plan = Plan().with_(
        variants=[tiny.name], folds=[0, 1], explainers=["sobel"], root=data, checkpoints=checkpoints
    )
    return pack_heatmaps(tmp_path_factory.mktemp("packed") / f"mine{SUFFIX}", METADATA, plan)


def forged(submission: Submission, path: Path, **changes: object) -> Submission:
    """The same heatmaps with other claims."""
    form = parse_form(json.dumps(changed(submission.form.to_json(), **changes)), "the forged form")
    kept = tuple(f"/fold{claim.setup.fold}/" for claim in form.claims)
    with safe_open(submission.path, "numpy") as tensors:
        names = [name for name in tensors.keys() if any(fold in name for fold in kept)]  # noqa: SIM118
        save_file(
            {name: tensors.get_tensor(name) for name in names}, path, {"form": json.dumps(form.to_json())}
        )
    return read_submission(path)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


@pytest.mark.slow
def test_heatmaps_of_a_method_verify_and_are_scored_as_the_method_is(packed, board, tiny):
    report = verify(packed, board)
    assert report.verified and report.problems == () and report.unchecked == ()
    added = add(packed, board)
    assert (added.status, added.already, len(added.cells)) == ("verified", False, 2)
    own, theirs = (
        store.read_record(board.cell(setup, name).record_path)
        for setup in [next(board.setups())]
        for name in ("sobel", "submitted:mine")
    )
    same = ("scores", "views", "images", "accuracy", "metrics", "undefined", "status")
    assert [getattr(own, name) for name in same] == [getattr(theirs, name) for name in same]
    np.testing.assert_allclose(own.curve, theirs.curve, atol=1e-12)
    assert theirs.key == store.key(theirs.identity) != own.key
    assert theirs.submission | {"verified_by": None} == {
        "status": "verified", "kind": "heatmaps", "sha256": packed.sha256, "method": "mine",
        "authors": ["A. Author", "B. Author"], "paper": "arXiv 1", "code": "https://x.org/a",
        "commit": "0123abc", "licence": "", "contact": "", "note": "", "hardware": "abacus",
        "created": packed.form.created, "verified_by": None,
    }  # fmt: skip
    assert theirs.submission["verified_by"]["torch"] == theirs.versions["torch"]
    columns = ["class", "view", "crop", "rotation", "label", "predicted", "invalid", "iou_auc", "roc_auc"]
    cells = [board.cell(next(board.setups()), name) for name in ("sobel", "submitted:mine")]
    pd.testing.assert_frame_equal(*(store.read_scores(cell)[columns] for cell in cells))
    rows = leaderboard(board.results, tiny.name).rows.set_index("explainer")
    assert rows.loc["submitted:mine", "iou_auc"] == pytest.approx(rows.loc["sobel", "iou_auc"], abs=1e-9)
    assert rows.loc["submitted:mine", "folds"] == 2 and rows.loc["submitted:mine", "role"] == "method"
    assert curves(leaderboard(board.results, tiny.name), board.results / "curves.png").exists()


def test_a_normal_run_leaves_submissions_alone(packed, board, tiny):
    add(packed, board)
    before = files_in(board.results)
    arguments = {"folds": [0, 1], "results": board.results, "checkpoints": board.checkpoints}
    evaluate(board.root, tiny.name, explainers=["sobel", "random"], **arguments)
    assert files_in(board.results) == before


def test_every_field_of_a_submitted_record_is_documented(packed, board):
    documented = set(re.findall(r"`(\w+)`", (DOCS / "results.md").read_text()))
    add(packed, board)
    record = json.loads(board.cell(next(board.setups()), "submitted:mine").record_path.read_text())
    assert {*record, *record["identity"], *record["submission"]} - documented == set()


@pytest.mark.slow
def test_half_floats_take_less_room_and_score_nearly_the_same(plan, packed, tmp_path):
    half = pack_heatmaps(tmp_path / f"half{SUFFIX}", METADATA, plan, half=True)
    assert half.path.stat().st_size < 0.7 * packed.path.stat().st_size
    for one, other in zip(half.form.claims, packed.form.claims, strict=True):
        assert one.scores["iou_auc"] == pytest.approx(other.scores["iou_auc"], abs=1e-3)
    assert verify(half, plan).verified


@pytest.mark.slow
def test_claims_that_are_too_good(packed, board, tmp_path):
    better = forged(packed, tmp_path / "better", cells__1__scores__iou_auc=0.99)
    report = verify(better, board)
    true = packed.form.claims[1].scores["iou_auc"]
    problem = f"tiny-2c an8net fold 1: iou_auc is claimed as 0.990000; it is {true:.6f}"
    assert not report.verified and report.problems == (problem,)
    before = files_in(board.results)
    with pytest.raises(NotVerifiedError, match=re.escape(f"is not verified: {problem}; 'an8flower verify-")):
        add(better, board)
    assert files_in(board.results) == before
    close = forged(packed, tmp_path / "close", cells__1__scores__iou_auc=true + 1e-4)
    assert not verify(close, board).verified and verify(close, board, tolerance=2e-4).verified
    no_iou = {**packed.form.claims[0].scores, "max_iou": None}
    undefined = forged(packed, tmp_path / "undefined", cells__0__scores=no_iou)
    assert "max_iou is claimed as undefined; it is 0." in verify(undefined, board).problems[0]
    impossible = forged(packed, tmp_path / "impossible", cells__0__scores__iou_auc=1.5)
    for do in (verify, add):
        with pytest.raises(SubmissionError, match=r"fold 0 claims iou_auc 1\.5; it must be from 0 to 1"):
            do(impossible, board)
    with pytest.raises(SubmissionError, match="it must be from 0 to 1"):
        add(impossible, board, self_reported=True)


def test_metrics_that_are_not_known_here_are_not_checked(packed, plan, tmp_path):
    said = {
        "cells__0__scores": {**packed.form.claims[0].scores, "my_metric": 3.0},
        "metrics": {**packed.form.metrics, "my_metric": "0" * 64},
    }
    report = verify(forged(packed, tmp_path / "more", **said), plan)
    assert report.verified and report.unchecked == ("my_metric",)


def test_other_data_other_models_and_none(packed, board, tmp_path):
    other = forged(packed, tmp_path / "data", cells__0__dataset_digest="1" * 64)
    report = verify(other, board)
    assert (
        len(report.problems) == 1
        and "fold 0: it is for other data (111111111111) than " in report.problems[0]
    )
    for arguments in ({}, {"self_reported": True}):
        with pytest.raises(SubmissionError, match="so they cannot share a board"):
            add(other, board, **arguments)
    other = forged(packed, tmp_path / "model", cells__0__weights_sha256="1" * 64)
    assert "fold 0: it is for another model (111111111111) than " in verify(other, board).problems[0]
    other = forged(packed, tmp_path / "images", cells__0__images=49)
    assert "fold 0: it claims 49 images; the fold has 50" in verify(other, board).problems[0]
    nowhere = verify(packed, replace(board, checkpoints=tmp_path / "nowhere"))
    assert not nowhere.verified and "no trained model at " in nowhere.problems[0]
    nowhere = verify(packed, replace(board, root=tmp_path / "nowhere"))
    assert not nowhere.verified and "unknown variant 'tiny-2c'" in nowhere.problems[0]


def test_maps_of_another_class_than_the_predicted_one(plan, board, tmp_path, data, tiny):
    own = own_heatmaps(plan, data, tiny, tmp_path, predicted=lambda classes: 1 - classes)
    packed = pack_heatmaps(tmp_path / "mine", METADATA, plan, folder=own)
    assert (
        "50 of 50 heatmaps explain a class that the model does not predict"
        in verify(packed, board).problems[0]
    )


def own_heatmaps(plan, data, tiny, tmp_path, predicted=lambda classes: classes, **changes) -> Path:
    """As a user writes them, in an order of their own."""
    for fold in (0, 1):
        test = An8Flower(data, tiny.name, fold=fold, split="test", size_px=112)
        model = load_model(plan.checkpoints / tiny.name / f"an8net/fold{fold}.safetensors").model
        batch = next(test.batches(len(test)))
        classes = model(batch.images).argmax(1).numpy()
        order = np.random.default_rng(fold).permutation(len(test))
        content = {name: test.table[name].to_numpy() for name in ("class", "view", "crop", "rotation")}
        content |= {"heatmaps": batch.images.mean(1).numpy(), "predicted": predicted(classes)} | changes
        (tmp_path / "own").mkdir(exist_ok=True)
        np.savez(tmp_path / f"own/fold{fold}.npz", **{name: value[order] for name, value in content.items()})
    return tmp_path / "own"


def test_heatmaps_of_ones_own(plan, board, tmp_path, data, tiny):
    own = own_heatmaps(plan, data, tiny, tmp_path)
    packed = pack_heatmaps(tmp_path / "mine", METADATA, replace(plan, explainers=()), folder=own)
    test = An8Flower(data, tiny.name, fold=0, split="test", size_px=112)
    batch = next(test.batches(50))
    expected = iou_auc(batch.images.mean(1).numpy(), batch.masks.numpy()).mean()
    assert packed.form.claims[0].scores["iou_auc"] == pytest.approx(expected, abs=1e-12)
    assert add(packed, board).status == "verified"


def test_heatmaps_of_ones_own_that_are_wrong_are_not_packed(plan, tmp_path, data, tiny):
    out = tmp_path / "mine"
    with pytest.raises(
        SubmissionError, match=r"neither .*fold0\.npz nor .*fold0\.npz exists; write a file for"
    ):
        pack_heatmaps(out, METADATA, plan, folder=tmp_path / "nowhere")
    own = own_heatmaps(plan, data, tiny, tmp_path, heatmaps=np.full((50, 112, 112), np.nan, np.float32))
    with pytest.raises(SubmissionError, match="has NaN or an infinity, and those of 49 more images"):
        pack_heatmaps(out, METADATA, plan, folder=own)
    (own / "fold0.npz").write_bytes(npz())
    with pytest.raises(
        SubmissionError,
        match=r"its images need at most|has the shape \(6, 8, 8\); it must be \(50, 112, 112\)",
    ):
        pack_heatmaps(out, METADATA, plan, folder=own)
    assert not out.exists() and not list(tmp_path.glob(".*"))


# A method.


@pytest.fixture
def script(tmp_path, monkeypatch):
    """A script that leaves a trace when it runs, forgotten after the test."""
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    path = tmp_path / "my_method.py"
    path.write_text(SCRIPT)
    with explainers.registry.temporarily():
        yield path


@pytest.mark.slow
def test_a_script_is_packed_and_run_only_on_request(script, board, data, tiny, checkpoints, tmp_path):
    name = f"{script}:my_method?power=2"
    with explainers.registry.temporarily():
        plan = replace(board, explainers=(name,), folds=(0,))
        with pytest.raises(
            SubmissionError, match=r"is not measured on tiny-2c an8net fold 0; run 'an8flower eval"
        ):
            pack_plugin(tmp_path / "a", METADATA, plan)
        records = evaluate(
            data, tiny.name, explainers=[name], folds=[0], results=board.results, checkpoints=checkpoints
        )
        packed = pack_plugin(tmp_path / "a", replace(METADATA, command=""), plan)
        form = packed.form
        assert (form.reference, form.script) == ("my_method?power=2", "my_method.py")
        assert packed.script == SCRIPT and form.command == records[0].command
        assert [claim.scores for claim in form.claims] == [record.scores for record in records]

        (tmp_path / "seen").unlink()
        report = verify(packed, board)
        assert not report.verified and len(report.problems) == 1
        assert "it is a method that must run on this machine: read my_method.py first" in report.problems[0]
        with pytest.raises(NotVerifiedError, match="then add --run-code"):
            add(packed, board)
        assert not (tmp_path / "seen").exists()

        assert add(packed, board, run_code=True, workers=0).status == "verified"
        assert (tmp_path / "seen").exists()
        record = store.read_record(board.cell(next(board.setups()), "submitted:mine").record_path)
        assert record.explainer == record.identity["explainer"] == "submitted:mine"
        assert record.key == store.key(record.identity) and record.command == form.command
        assert record.identity["code_sha256"] == packed.sha256 and record.cost["ms_per_image"] > 0
        assert set(pd.read_parquet(board.results / tiny.name / "an8net/scores")["explainer"]) >= {
            "submitted:mine"
        }
    # Edited since.
    script.with_name("other.py").write_text(SCRIPT.replace("1 - images", "2 - images"))
    edited = replace(plan, explainers=(f"{script.with_name('other.py')}:my_method?power=2",))
    with pytest.raises(SubmissionError, match="was measured with other code, data or weights on tiny-2c"):
        pack_plugin(tmp_path / "b", METADATA, edited)


@pytest.mark.slow
def test_a_method_of_the_registry_goes_by_its_name(board, tmp_path):
    packed = pack_plugin(tmp_path / "a", METADATA, replace(board, explainers=("grad_cam",)))
    assert (packed.form.reference, packed.form.script, packed.script) == ("grad_cam", "", "")
    assert "the package that has 'grad_cam' here, then add --run-code" in verify(packed, board).problems[0]
    unknown = forged(packed, tmp_path / "b", reference="no_such_method")
    report = verify(unknown, board, run_code=True, workers=0)
    assert report.problems == ("its run ended with status 1 and without a result",)
    for names, message in (((), "name one explainer, not 0"), (("grad_cam@all",), "is for one layer")):
        with pytest.raises(SubmissionError, match=message):
            pack_plugin(tmp_path / "a", METADATA, replace(board, explainers=names))


# The board.


def test_self_reported_rows_hold_the_claims_alone(packed, board, tiny, tmp_path):
    better = forged(packed, tmp_path / "better", cells__1__scores__iou_auc=0.9)
    assert add(better, board, self_reported=True).status == "self-reported"
    record = store.read_record(board.cell(list(board.setups())[1], "submitted:mine").record_path)
    assert record.scores["iou_auc"] == 0.9 and record.submission["status"] == "self-reported"
    assert record.submission["verified_by"] is record.views is record.curve is record.cost is None
    ordinary = store.read_record(board.cell(next(board.setups()), "sobel").record_path)
    # What nobody has measured is missing.
    assert set(to_json(record)) == {*to_json(ordinary), "submission"} - {"zeros", "classes"}
    rows = leaderboard(board.results, tiny.name).rows.set_index("explainer")
    assert rows.loc["submitted:mine", "folds"] == 2 and rows.loc["submitted:mine", "iou_auc"] > 45
    curves(leaderboard(board.results, tiny.name), board.results / "curves.png")
    (listed,) = submissions_in(board.results)
    assert (listed["explainer"], listed["status"], listed["folds"]) == ("submitted:mine", "self-reported", 2)


def test_self_reported_rows_need_measured_ones(packed, plan):
    with pytest.raises(SubmissionError, match="has no measured records of tiny-2c an8net, which a self"):
        add(packed, plan, self_reported=True)
    assert not plan.results.exists()


@pytest.mark.slow
def test_adding_again_changes_nothing_and_another_file_needs_replace(packed, board, tmp_path):
    add(packed, board)
    before = files_in(board.results)
    assert add(packed, board).already
    assert add(packed, board, self_reported=True).status == "verified"  # it is more than was asked for
    assert files_in(board.results) == before
    other = forged(packed, tmp_path / "other", hardware="another abacus")
    with pytest.raises(SubmissionError, match="submitted:mine is on the board already, from another file"):
        add(other, board)
    assert files_in(board.results) == before
    # One fold takes the place of two, and no table stays behind.
    one = forged(other, tmp_path / "one", cells=other.form.to_json()["cells"][:1])
    assert add(one, board, self_reported=True, replacing=True).status == "self-reported"
    left = {path for path in files_in(board.results) if "submitted" in path}
    assert left == {"tiny-2c/an8net/records/submitted%3Amine/fold0.json"}
    # What was self-reported may be verified later.
    assert add(one, board).status == "verified" and add(one, board, replacing=True).already
    assert len([path for path in files_in(board.results) if "submitted" in path]) == 2


@pytest.mark.slow
def test_all_folds_or_none(packed, board, tmp_path, monkeypatch):
    add(packed, board)
    before, move, moves = files_in(board.results), adding._move, 0

    def fails_at(place):
        def moved(source, target):
            nonlocal moves
            moves += 1
            if moves == place:
                raise OSError(28, "No space left on device", str(target))
            move(source, target)

        return moved

    other = forged(packed, tmp_path / "other", hardware="another abacus")
    for place, self_reported in ((1, True), (2, True), (3, True), (4, False)):
        moves = 0
        monkeypatch.setattr(adding, "_move", fails_at(place))
        with pytest.raises(OSError, match="No space left"):
            add(other, board, replacing=True, self_reported=self_reported)
        assert files_in(board.results) == before


def test_a_write_that_fails_leaves_nothing(packed, board, monkeypatch):
    before, write = files_in(board.results), store.write

    def fails(cell, *rest):
        if cell.fold == 1:
            raise OSError(28, "No space left on device")
        return write(cell, *rest)

    monkeypatch.setattr(store, "write", fails)
    with pytest.raises(OSError, match="No space left"):
        add(packed, board)
    assert files_in(board.results) == before


# Metadata and commands.


def test_metadata_from_a_file_and_options(tmp_path):
    file = tmp_path / "submission.toml"
    file.write_text('name = "a"\nauthors = ["A", "B"]\npaper = "none"\ncode = "none"\ncommit = "none"\n')
    metadata = read_metadata({"name": "b", "paper": ""}, file)
    assert metadata.method == Method("b", ("A", "B"), "none", "none", "none") and metadata.hardware
    for text, message in (
        ("x = 1", "unknown entry 'x'"),
        ("authors = 1", r'authors is 1; it must be a list of texts, e.g. \["A. Author"\]'),
        ("paper = 1", "paper is 1; it must be a text"),
        ("paper", "is not TOML"),
        ('authors = "A"', "a submission needs --name, --paper, --code, --commit; write 'none'"),
    ):
        file.write_text(text)
        with pytest.raises(SubmissionError, match=message):
            read_metadata({}, file)


def test_metadata_that_would_be_refused_is_not_packed(plan, tmp_path):
    for method, message in (
        (replace(METADATA.method, commit="main"), "method.commit is 'main'; it must be a commit"),
        (replace(METADATA.method, name="a/b"), "method.name is 'a/b'; it must be the method's name"),
        (replace(METADATA.method, authors=()), r"method.authors is a list of 0"),
    ):
        with pytest.raises(SubmissionError, match=message):
            pack_heatmaps(tmp_path / "a", replace(METADATA, method=method), plan)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_commands(board, tmp_path):
    def an8flower(*arguments):
        return CliRunner().invoke(app, [str(one) for one in arguments])

    out = tmp_path / f"mine{SUFFIX}"
    places = ["--root", board.root, "--checkpoints", board.checkpoints]
    results = ["--results", board.results]
    said = ["--authors", "A. Author", "--paper", "none", "--code", "none", "--commit", "none"]
    what = ["--explainer", "sobel", "--variant", "tiny-2c", "--folds", "0,1", "--out", out]
    done = an8flower("submit", *what, "--heatmaps", *said, *places, *results, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["kind"] == "heatmaps" and len(json.loads(done.stdout)["cells"]) == 2
    done = an8flower("verify-submission", out, *places)
    assert done.exit_code == 0 and "verified: all scores are as claimed, within 1e-06" in done.output
    assert json.loads(an8flower("verify-submission", out, *places, "--json").stdout)["verified"]
    done = an8flower("board", "add", out, *places, *results)
    assert done.exit_code == 0 and "submitted:sobel is now on the board as verified, 2 folds" in done.output
    assert "is already" in an8flower("board", "add", out, *places, *results).output
    assert "submitted:sobel, verified, 2 folds, by A. Author" in an8flower("board", "list", *results).output
    (listed,) = json.loads(an8flower("board", "list", *results, "--json").stdout)["submissions"]
    assert listed["status"] == "verified" and listed["authors"] == ["A. Author"]

    done = an8flower("submit", *what, *said, "--name", "plugged", *places, *results)
    assert done.exit_code == 0 and "fold 1: claims IoU-AUC 0." in done.output
    done = an8flower("verify-submission", out, *places)
    assert done.exit_code == 1 and "not verified" in done.output and "--run-code" in done.output
    done = an8flower("board", "add", out, *places, *results, "--self-reported", "--json")
    assert json.loads(done.stdout)["status"] == "self-reported"
    assert "the file holds no script" in an8flower("verify-submission", out, "--show-code").output
    save_file({}, out, {"form": json.dumps(plugin(script="a.py")), "script": "# \x1b[2J\nimport nowhere"})
    shown = an8flower("verify-submission", out, "--show-code")
    assert (shown.exit_code, shown.output) == (0, "# \\x1b[2J\nimport nowhere\n")


@pytest.mark.slow
@pytest.mark.parametrize("command", [["submit"], ["verify-submission"], ["board", "add"], ["board", "list"]])
def test_every_command_has_help_with_an_example(command):
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0
    assert f"Example: an8flower {' '.join(command)}" in " ".join(done.stdout.split())
