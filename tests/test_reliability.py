"""What must not lose a run: kills, bad methods, full disks, other runs, damaged files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from waiting import HANG_S

from benchmark import leaderboard
from benchmark.experiments.evidence.reliability import suffer
from benchmark.store import ResultsError, read_scores
from benchmark.training.recipes import Recipe
from benchmark.training.trainer import train

BAD = """
import ctypes, os, sys, time
import torch

kept = []


def raises(model, images, targets):
    raise KeyError("no such thing")


def hangs(model, images, targets):
    time.sleep(600)


def hangs_deaf_to_alarms(model, images, targets):
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    time.sleep(600)


def leaks(model, images, targets):
    kept.append(torch.ones(2**27))  # half a GiB
    return images.mean(1)


def gives_nan(model, images, targets):
    return images.mean(1) * float("nan")


def forks(model, images, targets):
    os.fork()
    return images.mean(1)


def exits(model, images, targets):
    sys.exit(3)


def leaves(model, images, targets):
    os._exit(4)


def crashes(model, images, targets):
    ctypes.string_at(0)


def prints(model, images, targets):
    print("hello")
    return images.mean(1)


def prints_below_python(model, images, targets):
    os.write(1, b"hello from below")
    return images.mean(1)


def good(model, images, targets):
    return images.mean(1)
"""


@pytest.fixture(scope="module")
def small(part_2c, once):
    """A folder with one view per fold of part-2c, and a model trained on fold 0."""

    def fill(folder):
        (folder / "data").symlink_to(part_2c)
        train(part_2c, "part-2c", fold=0, checkpoints=folder / "checkpoints", recipe=Recipe(epochs=1))

    return once("small", fill)


def run(small, results, *arguments, **more):
    command = [
        sys.executable, "-m", "benchmark", "evaluate", "--variant", "part-2c", "--folds", "0",
        "--root", str(small / "data"), "--checkpoints", str(small / "checkpoints"),
        "--results", str(results), "--workers", "2", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False, **more)


def record_of(results, name):
    return json.loads((results / "part-2c/an8net/records" / name / "fold0.json").read_text())


@pytest.mark.slow
def test_plug_ins_that_misbehave_fail_by_name_and_the_rest_complete(small, tmp_path):
    script = tmp_path / "bad.py"
    script.write_text(BAD)
    causes = {
        "raises": ("raised", "KeyError: 'no such thing'"),
        "hangs": ("time", "it took longer than 6 s"),
        "leaks": ("memory", "it keeps what it allocates"),
        "forks": ("fork", "it forked its process"),
        "exits": ("exit", "it called sys.exit(3)"),
        "leaves": ("killed", "its process exited with status 4, 3 times"),
        "crashes": ("killed", "its process ended by SIG"),
    }
    printing = {"prints": "hello", "prints_below_python": "hello from below"}
    chosen = [*causes, "gives_nan", "good", *printing]
    options = [part for name in chosen for part in ("--explainer", f"{script}:{name}")]
    limits = ("--limit-s", "6", "--limit-gib", "1")  # a busy machine is slow, no culprit
    done = run(small, tmp_path, *options, *limits, "--explainer", "grad_cam", "--explainer", "oracle")
    assert done.returncode == 1, done.stderr
    for name, (cause, reason) in causes.items():
        record = record_of(tmp_path, name)
        assert (record["status"], record["cause"]) == ("failed", cause), record["reason"]
        assert reason in record["reason"] and "\n" not in record["reason"]
        assert f"{name} fold 0: failed: " in done.stdout
    record = record_of(tmp_path, "gives_nan")
    assert (record["status"], record["cause"], record["invalid"]) == ("invalid", "nan", 50)
    assert "gives_nan fold 0: IoU-AUC 0.00 % on 50 images; 50 of 50 maps have NaN or inf" in done.stdout
    assert {record_of(tmp_path, name)["status"] for name in ("good", "grad_cam", "oracle", *printing)} == {
        "ok"
    }
    assert "hello" not in done.stdout
    for name, text in printing.items():
        assert f"an8flower: explainer {name!r} printed {text!r}; use logging, " in done.stderr
    rows = leaderboard(tmp_path, "part-2c").rows.set_index("explainer")
    assert rows.loc["oracle", "iou_auc"] == 100 and rows.loc["gives_nan", "iou_auc"] == 0

    # What failed is not tried again, unless asked to; a mended file is another method.
    again = run(small, tmp_path, "--explainer", f"{script}:raises")
    assert again.returncode == 1 and "KeyError" in again.stdout
    script.write_text(BAD.replace('raise KeyError("no such thing")', "return images.mean(1)"))
    assert run(small, tmp_path, "--explainer", f"{script}:raises").returncode == 0


@pytest.mark.slow
def test_a_method_deaf_to_its_alarm_is_stopped_from_outside(small, tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text(BAD)
    name = f"{tmp_path / 'bad.py'}:hangs_deaf_to_alarms"
    done = run(small, tmp_path, "--explainer", name, "--explainer", "random", "--limit-s", "1")
    record = record_of(tmp_path, "hangs_deaf_to_alarms")
    assert done.returncode == 1 and record["cause"] == "time"
    assert "it took longer than 1 s per call and could not be interrupted" in record["reason"]
    assert record_of(tmp_path, "random")["status"] == "ok"


@pytest.mark.slow
def test_runs_killed_at_random_moments_end_in_the_board_of_an_undisturbed_one(tmp_path):
    outcome = suffer(tmp_path, kills=2, rng=np.random.default_rng(0))
    assert sum(outcome.kills.values()) >= 2
    assert len(outcome.expected) == 7 * 2 * 11 and outcome.board == outcome.expected


@pytest.mark.slow
def test_two_runs_on_one_store_end_in_the_same_board(small, tmp_path):
    names = ("--explainer", "grad_cam", "--explainer", "oracle", "--explainer", "random")
    command = [
        sys.executable, "-m", "benchmark", "evaluate", "--variant", "part-2c", "--folds", "0",
        "--root", str(small / "data"), "--checkpoints", str(small / "checkpoints"),
        "--results", str(tmp_path), "--workers", "1", *names,
    ]  # fmt: skip
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=HANG_S) for process in both] == [0, 0]
    alone = tmp_path / "alone"
    assert run(small, alone, *names).returncode == 0
    for name in ("grad_cam", "oracle", "random"):
        first, second = (record_of(folder, name) for folder in (tmp_path, alone))
        assert first["scores"] == second["scores"] and first["key"] == second["key"]
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_a_truncated_table_is_measured_again_and_never_read(small, tmp_path):
    assert run(small, tmp_path, "--explainer", "random").returncode == 0
    table = tmp_path / "part-2c/an8net/scores/random/fold0.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    from benchmark.store import Cell

    with pytest.raises(
        ResultsError, match="is not the file that its record describes; to measure it again, run 'an8flower"
    ):
        read_scores(Cell(tmp_path, "part-2c", "an8net", "random", 0))
    assert run(small, tmp_path, "--explainer", "random").returncode == 0
    assert table.read_bytes() == whole
    assert len(pd.read_parquet(tmp_path / "part-2c/an8net/scores")) == 50


@pytest.mark.slow
def test_a_store_removed_meanwhile_is_one_clear_line(small, tmp_path):
    (tmp_path / "remover.py").write_text(
        "import shutil\n"
        "def removes(model, images, targets):\n"
        f"    shutil.rmtree({str(tmp_path / 'results')!r}, ignore_errors=True)\n"
        "    return images.mean(1)\n"
    )
    results = tmp_path / "results"
    assert run(small, results, "--explainer", "oracle").returncode == 0
    options = ("--explainer", "oracle", "--explainer", f"{tmp_path / 'remover.py'}:removes")
    done = run(small, results, *options)
    assert done.returncode == 1
    assert (
        "oracle/fold0.json was measured but does not exist any more: was" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert run(small, results, "--explainer", "oracle").returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting a small disk takes root")
def test_a_full_disk_is_one_clear_line_and_nothing_is_lost(small, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        names = [part for name in ("random", "oracle", "centre", "sobel") for part in ("--explainer", name)]
        done = run(small, disk, *names, "--explainer", "grad_cam", "--explainer", "gradient")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "the disk is full; free some space" in done.stderr
        for record in disk.rglob("*.json"):
            json.loads(record.read_text())
        for table in disk.rglob("*.parquet"):
            assert len(pd.read_parquet(table)) == 50
        assert not list(disk.rglob("*.tmp"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(small, tmp_path, monkeypatch):
    from benchmark import evaluate

    where = {"checkpoints": small / "checkpoints", "folds": [0], "explainers": ["random", "oracle"]}
    first = evaluate(small / "data", "part-2c", results=tmp_path, **where)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 10 * 365 * 86400)
    for path in tmp_path.rglob("*"):
        os.utime(path, (2e9, 2e9))
    again = evaluate(small / "data", "part-2c", results=tmp_path, **where)
    assert again == first
    fresh = evaluate(small / "data", "part-2c", results=tmp_path / "fresh", **where)
    assert [one.scores for one in fresh] == [one.scores for one in first]


@pytest.mark.slow
def test_the_same_board_from_here_from_workers_and_from_a_cluster_that_loses_one(
    small, tmp_path, dask_cluster
):
    names = ("vebi", "grad_cam", "random", "oracle", "train_mean_mask", "gradient", "sobel")
    options = [part for name in names for part in ("--explainer", name)]
    assert run(small, tmp_path / "one", *options, "--workers", "1").returncode == 0
    assert run(small, tmp_path / "two", *options).returncode == 0
    (tmp_path / "killer.py").write_text(
        "import os, pathlib, signal\n"
        "def kills_its_host(model, images, targets):\n"
        f"    mark = pathlib.Path({str(tmp_path / 'mark')!r})\n"
        "    if not mark.exists():\n"
        "        mark.touch()\n"
        "        os.kill(os.getppid(), signal.SIGKILL)\n"
        "    return images.mean(1)\n"
    )
    killer = ("--explainer", f"{tmp_path / 'killer.py'}:kills_its_host")
    done = run(small, tmp_path / "three", *options, *killer, "--scheduler", dask_cluster.address)
    assert done.returncode == 0 and (tmp_path / "mark").exists(), done.stderr
    for name in names:
        scores = [record_of(tmp_path / place, name)["scores"] for place in ("one", "two", "three")]
        assert scores[0] == scores[1] == scores[2]
    assert record_of(tmp_path / "three", "kills_its_host")["status"] == "ok"
