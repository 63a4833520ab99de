"""Which records share a board, and what is said of the others."""

from __future__ import annotations

import json

import pytest
from synthetic_results import write_one_board

from an8flower.ground.digest import with_digest
from benchmark import leaderboard
from benchmark.board.model_set import board_records, model_sets, models_of
from benchmark.board.published import published
from benchmark.board.text import left_out
from benchmark.store import ResultsError, key, readable_records

OTHER_DATA, OTHER_WEIGHTS = "e" * 64, "9" * 64
METHODS = {"grad_cam", "gradient", "vebi"}


@pytest.fixture
def results(tmp_path):
    return write_one_board(tmp_path / "results", ["grad_cam", "gradient", "vebi", "random"])


def changed(results, explainer, only=range(5), *, finished=None, **identity):
    for fold in only:
        path = results / f"single-6c/an8net/records/{explainer}/fold{fold}.json"
        record = json.loads(path.read_text())
        record["identity"] |= identity
        record["finished"] = finished or record["finished"]
        record["key"] = key(record["identity"])
        path.write_text(json.dumps(with_digest(record)))


def shown(board):
    return board.rows.set_index("explainer")["folds"].to_dict()


def test_records_of_one_set_leave_nothing_out(results):
    board = leaderboard(results, "single-6c")
    assert set(shown(board)) == {*METHODS, "random"} and left_out(board) == []
    assert len(board.source.models.weights) == 5 and board.source.others == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("identity", "reason"),
    [
        ({"dataset_digest": OTHER_DATA}, "measured on other data"),
        ({"weights_sha256": OTHER_WEIGHTS}, "measured on other weights"),
        ({"folds": "blocks"}, "measured with the fold scheme 'blocks', not 'interleaved'"),
        ({"protocol_version": 7}, "measured with another version of the protocol"),
    ],
)
def test_a_row_of_other_models_is_left_out_and_named(results, identity, reason):
    changed(results, "grad_cam", **identity)
    board = leaderboard(results, "single-6c")
    assert set(shown(board)) == {"gradient", "vebi", "random"}
    said, choice = left_out(board)
    assert said.startswith(
        f"left out: grad_cam (folds 0, 1, 2, 3, 4): {reason}; to measure again: an8flower "
    )
    assert said.endswith(f"--results {results} --folds 0,1,2,3,4 --explainer grad_cam")
    assert "1 explainer measured on 5 trained models of another set" in choice
    name = board.source.others[0].models.name
    assert f"--model-set {name}" in choice
    other = leaderboard(results, "single-6c", models=name)
    assert set(shown(other)) == {"grad_cam"} and other.source.models.name == name


def test_the_folds_that_belong_stay(results):
    changed(results, "grad_cam", [1, 3], weights_sha256=OTHER_WEIGHTS)
    board = leaderboard(results, "single-6c")
    assert shown(board)["grad_cam"] == 3
    assert left_out(board)[0].startswith("left out: grad_cam (folds 1, 3): measured on other weights")


def test_of_two_complete_sets_the_last_is_shown_and_the_other_can_be_chosen(results):
    changed(results, "grad_cam", finished="2030-01-01", weights_sha256=OTHER_WEIGHTS)
    changed(results, "vebi", finished="2030-01-01", weights_sha256=OTHER_WEIGHTS)
    board = leaderboard(results, "single-6c")
    assert set(shown(board)) == {"grad_cam", "vebi"}
    first, choice, certificates = left_out(board)
    assert "it is for other weights" in certificates
    assert first.startswith("left out: gradient, random (folds 0, 1, 2, 3, 4): measured on other weights")
    assert "2 explainers measured on 5 trained models of another set" in choice
    other = leaderboard(results, "single-6c", models=board.source.others[0].models.name[:4])
    assert set(shown(other)) == {"gradient", "random"}
    with pytest.raises(ResultsError, match=r"no set of models .* has the name 'xyz'; known: "):
        leaderboard(results, "single-6c", models="xyz")


def test_a_run_shows_its_own_models_however_few_rows_they_have(results):
    changed(results, "grad_cam", [0], weights_sha256=OTHER_WEIGHTS)
    identity = json.loads((results / "single-6c/an8net/records/vebi/fold0.json").read_text())["identity"]
    trained = {"identity": {**identity, "fold": 0, "seed": 0}, "weights_sha256": OTHER_WEIGHTS}
    board = leaderboard(results, "single-6c", models=models_of([trained], 1))
    assert shown(board)["grad_cam"] == 5 and shown(board)["vebi"] == 4
    assert "vebi" in left_out(board)[0] and "(fold 0): measured on other weights" in left_out(board)[0]


def test_statistics_and_certificate_are_of_the_shown_models_alone(results):
    whole = leaderboard(results, "single-6c")
    assert len(whole.certificate) > 0
    for fold in range(5):
        changed(results, "gradient", [fold], weights_sha256="abcde"[fold] * 64)
    board = leaderboard(results, "single-6c")
    assert "gradient" not in shown(board)
    assert board.rows.set_index("explainer")["iou_auc"]["vebi"] == pytest.approx(
        whole.rows.set_index("explainer")["iou_auc"]["vebi"]
    )
    other = leaderboard(results, "single-6c", models=board.source.others[0].models.name)
    assert len(other.certificate) == 0
    assert any(
        "it is for other weights; to certify again: an8flower certify" in one for one in left_out(other)
    )


def test_a_file_that_cannot_be_read_costs_no_other_row(results):
    path = results / "single-6c/an8net/records/vebi/fold2.json"
    path.write_text("{")
    certificate = next((results / "single-6c/an8net/certificate").glob("*.json"))
    certificate.write_text("[")
    board = leaderboard(results, "single-6c")
    assert shown(board)["vebi"] == 4 and shown(board)["grad_cam"] == 5
    failed = board.rows.set_index("explainer")["failed"]
    assert failed["vebi"].startswith(f"fold 2: {path} is not a valid record")
    assert (failed.drop("vebi") == "").all()
    (told,) = left_out(board)
    assert told.startswith(f"left out: a certificate: {certificate} ") and len(board.certificate) == 4


def test_every_record_belongs_to_one_set(results):
    changed(results, "grad_cam", [0, 1], weights_sha256=OTHER_WEIGHTS)
    changed(results, "vebi", dataset_digest=OTHER_DATA)
    records, _ = readable_records(results, "single-6c", "an8net")
    sets = model_sets(records)
    assert [sum(record in models for models in sets) for record in records] == [1] * len(records)
    found = board_records(results, "single-6c", "an8net")
    assert found.models == sets[0] and [one.models for one in found.others] == sets[1:]


def test_of_two_sets_one_is_shown_whole_after_one_cell_was_measured_again(results):
    for name in ("grad_cam", "random"):
        changed(results, name, finished="2030-01-01", weights_sha256=OTHER_WEIGHTS)
    changed(results, "vebi", [0], finished="2031-01-01")
    board = leaderboard(results, "single-6c")
    assert len(set(board.source.models.weights.values())) == 1
    assert set(shown(board)) in ({"grad_cam", "random"}, {"gradient", "vebi"})
    assert set(shown(board).values()) == {5}


def test_the_command_measures_just_what_was_left_out(results):
    changed(results, "grad_cam", [1, 3], weights_sha256=OTHER_WEIGHTS)
    said = left_out(leaderboard(results, "single-6c"))[0]
    assert said.endswith(f"--results {results} --folds 1,3 --explainer grad_cam")


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        {"schema_version": 3},
        {"schema_version": 1},
        {"schema_version": []},
        {"identity": None},
        {"identity": {}},
        {"explainer": "gradient"},
        {"key": "0" * 64},
        {"fold": 1},
        {"fold": "0"},
        {"variant": "part-2c"},
        {"role": "king"},
        {"status": "fine"},
        {"scores": [1]},
        {"scores": {"iou_auc": "much"}},
        {"views": 3},
        {"accuracy": "good"},
    ],
    ids=str,
)
def test_a_damaged_record_costs_its_own_cell_alone(results, damage):
    path = results / "single-6c/an8net/records/vebi/fold0.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps(damage if "schema_version" in damage else with_digest(whole | damage)))
    board = leaderboard(results, "single-6c")
    assert shown(board) == {"grad_cam": 5, "gradient": 5, "random": 5, "vebi": 4} and left_out(board) == []
    said = board.rows.set_index("explainer")["failed"]["vebi"]
    assert said.startswith(f"fold 0: {path} ") and said.endswith(
        f"run 'an8flower evaluate --variant single-6c --model an8net --explainer vebi --folds 0 "
        f"--results {results}'"
    )


def test_a_folder_in_the_place_of_a_record_is_no_record(results):
    path = results / "single-6c/an8net/records/vebi/fold0.json"
    path.unlink()
    path.mkdir()
    assert shown(leaderboard(results, "single-6c"))["vebi"] == 4


def test_a_failed_row_stands_next_to_published_scores(results):
    for fold in range(5):
        path = results / f"single-6c/an8net/records/gradient/fold{fold}.json"
        record = json.loads(path.read_text())
        kept = (
            "schema_version",
            "variant",
            "model",
            "seed",
            "fold",
            "explainer",
            "key",
            "identity",
            "metrics",
        )
        failed = {
            "status": "failed",
            "cause": "raised",
            "reason": "ValueError: x",
            "cost": None,
            "library": "",
        }
        failed |= {name: record[name] for name in (*kept, "role", "source")}
        path.write_text(json.dumps(with_digest(failed)))
    board = leaderboard(results, "single-6c")
    assert "ValueError: x" in board.rows.set_index("explainer")["failed"]["gradient"]
    published(board)
