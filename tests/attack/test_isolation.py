"""Whatever a foreign method does, the rows of other methods stay the same, bit by bit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import nasty_methods
import pandas as pd
import pytest
import torch
from waiting import until

import explainers
from an8flower.ground.registry import PlugInWarning
from benchmark import evaluate

BYSTANDERS = ["grad_cam", "guided_backprop", "sobel", "oracle", "train_mean_mask"]
METRICS = ["iou_auc", "pointing_game"]


@pytest.fixture(scope="module")
def measured(data, checkpoints, tiny, tmp_path_factory):
    """Measure explainers into an empty folder; return records and tables by name."""

    def measure(names, **options):
        results = tmp_path_factory.mktemp("results")
        with explainers.registry.temporarily(*nasty_methods.SPECS.values()):
            records = evaluate(
                data, tiny.name, explainers=names, folds=[0], metrics=METRICS, checkpoints=checkpoints,
                results=results, **options,
            )  # fmt: skip
        tables = {path.parent.name: pd.read_parquet(path) for path in results.rglob("scores/*/fold0.parquet")}
        shutil.rmtree(results)
        return {record.explainer: record for record in records}, tables

    return measure


@pytest.fixture(scope="module")
def undisturbed(measured):
    """The tables of the bystanders before any attack."""
    return measured(BYSTANDERS)[1]


def assert_same(tables, undisturbed):
    assert tables.keys() >= undisturbed.keys() == set(BYSTANDERS)
    for name, table in undisturbed.items():
        pd.testing.assert_frame_equal(tables[name], table, check_exact=True)


ATTACKS = list(nasty_methods.EXPECTED)
GROUPS = [ATTACKS[k::6] for k in range(6)]


@pytest.mark.filterwarnings("ignore::explainers.conformance.limits.PrintedWarning")
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: f"{names[0]} and others")
def test_no_other_row_changes(names, measured, undisturbed):
    records, _ = measured(names, limit_s=3, limit_gib=2)
    for name in names:
        cause = nasty_methods.EXPECTED[name]
        record = records[name]
        assert (record.status, record.cause) == (("failed", cause) if cause else ("ok", None)), record.reason
    assert_same(measured(BYSTANDERS)[1], undisturbed)


def test_there_are_forty_attacks():
    assert len(nasty_methods.EXPECTED) >= 40


@pytest.mark.filterwarnings("ignore::explainers.conformance.limits.PrintedWarning")
def test_no_other_row_changes_in_a_run_of_all_with_workers(measured, undisturbed):
    quick = [name for name, cause in nasty_methods.EXPECTED.items() if cause not in ("time", "killed")]
    records, tables = measured([*quick[::4], *BYSTANDERS], workers=2)
    assert {records[name].status for name in BYSTANDERS} == {"ok"}
    assert_same(tables, undisturbed)


PATCHES = {
    "a function": ("import torch.nn.functional as F", "F.relu = lambda x, inplace=False: x"),
    "a class": ("from torch import nn", "nn.Conv2d.forward = lambda self, x: x"),
    "a metric": ("import benchmark.metrics.iou as iou", "iou.iou_curve = lambda *given: 1"),
    "a setting": ("import torch", "torch.set_default_dtype(torch.float64)"),
    "a mode": ("import torch", "torch.set_grad_enabled(False)"),
    "a module": ("import sys, math", "sys.modules['explainers.cam'] = math"),
}


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("when", ["loaded", "created"])
def test_what_a_script_changes_before_it_is_called_is_undone(patch, when, measured, undisturbed, tmp_path):
    imported, changing = PATCHES[patch]
    script = tmp_path / "patching.py"
    lines = [imported, "class Mine:"]
    lines += [f"    def __init__(self): {changing if when == 'created' else 'pass'}"]
    lines += ["    def fit(self, model, loader): return self"]
    lines += ["    def __call__(self, model, images, targets): return images.mean(1)"]
    lines += [changing] if when == "loaded" else []
    script.write_text("\n".join(lines))
    with explainers.registry.temporarily(), pytest.warns(PlugInWarning, match="this was undone"):
        records, _ = measured([f"{script}:Mine"])
    assert records["Mine"].status == "ok", records["Mine"].reason
    assert_same(measured(BYSTANDERS)[1], undisturbed)


def test_truth_reaches_only_those_that_declare_it(measured, tmp_path):
    script = tmp_path / "peeping.py"
    script.write_text(
        "import gc, torch\n"
        "def peep(model, images, targets):\n"
        "    masks = [x for x in gc.get_objects() if isinstance(x, torch.Tensor) and x.dtype == torch.bool]\n"
        "    assert not masks, 'found the masks'\n"
        "    return images.mean(1)\n"
    )
    with explainers.registry.temporarily():
        records, _ = measured([f"{script}:peep"])
    assert records["peep"].status == "ok", records["peep"].reason


def test_a_reason_is_one_short_visible_line(measured):
    names = [
        "raises_ten_megabytes",
        "raises_terminal_escapes",
        "raises_surrogates",
        "raises_what_has_no_text",
    ]
    records, _ = measured(names)
    reasons = {name: record.reason for name, record in records.items()}
    assert all(len(reason) <= 320 and reason.isprintable() for reason in reasons.values())
    assert reasons["raises_ten_megabytes"].startswith("ValueError: xxx")
    assert "\\x1b[31mred" in reasons["raises_terminal_escapes"]
    assert "\\ud800 half" in reasons["raises_surrogates"]
    assert reasons["raises_what_has_no_text"].startswith("UnspeakableError: ")


def test_the_process_of_a_method_ends_with_the_one_that_started_it(tmp_path):
    code = (
        "import os, torch, explainers\n"
        "from explainers.isolation import isolated\n"
        "from nasty_methods import SPECS\n"
        "model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))\n"
        "hangs = explainers.Explainer.from_spec(SPECS['hangs'])\n"
        "with isolated(hangs, limit_s=None, limit_gib=None) as remote:\n"
        "    remote.method._started()\n"
        "    print(remote.method._process.pid, flush=True)\n"
        "    remote(model, torch.rand(1, 3, 4, 4), torch.zeros(1, dtype=torch.int64))\n"
    )
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, *sys.path]))}
    starter = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    pid = int(starter.stdout.readline())
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    until(lambda: not Path(f"/proc/{pid}").exists())


def test_methods_that_only_exist_in_this_process_are_sent(measured):
    factor = torch.tensor(2.0)

    def local(model, images, targets, *, power: float = 1.0):
        return images.mean(1) ** power * factor

    with explainers.registry.temporarily(explainers.ExplainerSpec("local", local, "here")):
        alone, tables = measured(["local?power=2.0"])
        workers, same = measured(["local?power=2.0"], workers=1)
    assert alone["local?power=2.0"].status == workers["local?power=2.0"].status == "ok"
    pd.testing.assert_frame_equal(tables["local%3Fpower=2.0"], same["local%3Fpower=2.0"], check_exact=True)


def test_a_method_that_cannot_be_sent_fails_alone(measured):
    lock = threading.Lock()

    def holds_a_lock(model, images, targets):
        with lock:
            return images.mean(1)

    with explainers.registry.temporarily(explainers.ExplainerSpec("holds_a_lock", holds_a_lock, "here")):
        records, _ = measured(["holds_a_lock", "random"])
    assert records["random"].status == "ok"
    assert records["holds_a_lock"].cause == "raised" and "cannot pickle" in records["holds_a_lock"].reason


def test_masks_that_a_method_alters_on_disk_are_found(copied, checkpoints, tiny, tmp_path):
    script = tmp_path / "altering.py"
    cache = copied / tiny.name / "cache/112px/mask.npy"
    script.write_text(
        "import numpy as np\n"
        "def alter(model, images, targets):\n"
        f"    masks = np.load({str(cache)!r}, mmap_mode='r+')\n"
        "    masks[:] = np.roll(masks, 30, 1)\n"
        "    masks.flush()\n"
        "    return images.mean(1)\n"
    )

    def measured(*names):
        with explainers.registry.temporarily():
            return evaluate(
                copied, tiny.name, explainers=names, folds=[0], checkpoints=checkpoints,
                results=tmp_path / "runs" / str(len(names)), metrics=METRICS,
            )  # fmt: skip

    (undisturbed,) = measured("grad_cam")
    altering, bystander = measured(f"{script}:alter", "grad_cam")
    assert (altering.status, altering.cause) == ("failed", "input") and "mask.npy" in altering.reason
    assert bystander.scores == undisturbed.scores
