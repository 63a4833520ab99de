"""A run as data: read, checked, looked through, carried out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANG_S

from an8flower import generate
from an8flower.ground.registry import UnknownNameError
from benchmark.metrics import metrics
from benchmark.plan import Plan, PlanError, read_plan
from benchmark.running import train_all
from benchmark.setups import Setup
from benchmark.training.recipes import Recipe
from benchmark.training.weights import weights_path


def write(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return path


def test_a_file_gives_what_it_says_and_defaults_for_the_rest(tmp_path):
    plan = read_plan(write(tmp_path, 'models = ["mnistnet"]\nfolds = [1]\nroot = "d"\nlimit_gib = 0\n'))
    assert plan == Plan(models=("mnistnet",), folds=(1,), root=tmp_path / "d", limit_gib=None).with_(
        checkpoints=tmp_path / "checkpoints", results=tmp_path / "runs"
    )
    changed = plan.with_(folds=[0, 2], device="auto", metrics=None)
    assert changed.folds == (0, 2) and changed.device == "auto" and changed.metrics == plan.metrics


def test_setups_are_the_product_in_order():
    plan = Plan(variants=("a", "b"), seeds=(0, 3), folds=(1, 4))
    assert len(list(plan.setups())) == 8
    assert next(plan.setups()) == Setup("a", "an8net", 0, 1)
    assert list(map(str, plan.setups()))[3] == "a an8net seed 3 fold 4"


def test_what_is_named_twice_is_measured_once():
    plan = Plan(recipes=("plain", "plain"), folds=(1, 0, 1))
    assert [(setup.recipe, setup.fold) for setup in plan.setups()] == [("plain", 1), ("plain", 0)]


def test_metrics_are_names_or_whole_kinds():
    localisation = Plan().metric_names()
    assert {metrics.get(name).kind for name in localisation} == {"localisation"}
    assert Plan(metrics=("deletion", "iou_auc")).metric_names() == ("deletion", "iou_auc")
    every = Plan(metrics=("localisation", "faithfulness")).metric_names()
    assert every == metrics.names() and len(every) > len(localisation)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("variants = ", PlanError, "is not TOML"),
        ('variant = ["a"]', PlanError, "unknown entry 'variant'; did you mean 'variants'"),
        ('variants = "a"', PlanError, r"variants is 'a'; it must be a list"),
        ("folds = [true]", PlanError, r"folds is \[True\]; it must be a list, e.g. \[0, 1\]"),
        ("folds = [7]", PlanError, "fold 7 does not exist; there are 5, from 0 to 4"),
        ("folds = []", PlanError, "folds is empty"),
        ("root = 3", PlanError, "root is 3; it must be a path"),
        ("limit_s = -1", PlanError, "limit_s is -1; it must be a number, 0 for no limit"),
        ("device = 3", PlanError, "device is 3; it must be a text"),
        ('scheme = "views"', PlanError, "unknown scheme 'views'; known are interleaved, blocks"),
        ('models = ["an8nett"]', UnknownNameError, "unknown model 'an8nett'"),
        ('metrics = ["iou"]', UnknownNameError, "unknown metric 'iou'"),
        ('explainers = ["gradcam"]', UnknownNameError, "unknown explainer 'gradcam'"),
    ],
)
def test_a_wrong_entry_is_named_with_what_it_may_be(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        read_plan(write(tmp_path, text))


def test_the_projects_own_plan_can_be_read():
    plan = read_plan(Path(__file__).parents[1] / "results/board.toml")
    assert plan.variants == ("single-6c", "double-12c", "part-2c") and plan.results.name == "results"


@pytest.mark.slow
def test_workers_and_a_cluster_train_the_same_bytes(part_2c, tmp_path, dask_cluster):
    recipe = Recipe(epochs=2, batch=25)

    def weights(name, **where):
        plan = Plan(variants=("part-2c",), folds=(0, 1), root=part_2c, checkpoints=tmp_path / name)
        records = train_all(plan, recipe=recipe, **where)
        assert [setup.fold for setup in records] == [0, 1]
        files = [weights_path(plan.checkpoints, "part-2c", "an8net", fold) for fold in (0, 1)]
        return [path.read_bytes() for path in files]

    one = weights("one", workers=1, scheduler=None)
    assert one == weights("two", workers=2, scheduler=None)
    assert one == weights("cluster", workers=0, scheduler=dask_cluster.address)


@pytest.mark.slow
def test_a_cluster_draws_the_same_bytes(part_2c, tmp_path, dask_cluster):
    here = generate(tmp_path / "here", "part-2c", viewpoints=[2], workers=1)
    there = generate(tmp_path / "there", "part-2c", viewpoints=[2], scheduler=dask_cluster.address)
    assert here.digest == there.digest


@pytest.mark.slow
def test_a_plan_is_shown_carried_out_and_then_all_there(part_2c, tmp_path):
    path = write(
        tmp_path,
        'variants = ["part-2c"]\nviewpoints = [1, 2, 3, 4, 5]\nfolds = [0]\nseeds = [0, 1]\n'
        f'explainers = ["grad_cam", "oracle"]\nroot = "{part_2c}"\n',
    )

    def run(*options):
        command = [sys.executable, "-m", "benchmark", "run", str(path), "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=True)
        return json.loads(done.stdout)

    before = run("--plan")
    assert before["drawn"]["part-2c"] == {"there": 5, "wanted": 5}
    assert before["trained"] == [{"variant": "part-2c", "model": "an8net", "there": 0, "wanted": 2}]
    assert [cell["new"] for cell in before["cells"]] == [2, 2]
    assert not (tmp_path / "runs").exists()

    done = run()
    assert [row["explainer"] for row in done["rows"]] == ["grad_cam", "oracle"]
    assert done["rows"][1]["iou_auc"] == 100 and done["rows"][0]["folds"] == 1
    assert all(Path(file).exists() for file in done["files"])
    assert len(list((tmp_path / "runs").rglob("seed1/fold0.json"))) == 2

    after = run("--plan", "--metric", "localisation")
    assert [cell["done"] for cell in after["cells"]] == [2, 2]
    more = run("--plan", "--metric", "localisation", "--metric", "deletion")
    assert [cell["changed"] for cell in more["cells"]] == [2, 2]
