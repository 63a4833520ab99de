"""Folders, scripts, names and signals as they come up every day."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import explainers
from an8flower.ground import progress as progress_module
from an8flower.ground.moved import MOVED
from an8flower.ground.progress import progress
from benchmark import evaluate
from benchmark.measuring.code_digest import code_digest
from benchmark.metrics import MetricSpec, iou_auc, iou_curve, metrics
from explainers.names import Reference, reference_of
from explainers.scripts import file_of

HANG_S = 120
PROJECT = Path(explainers.__file__).parents[1]


@pytest.fixture(autouse=True)
def registry():
    """What a test registers is gone after it."""
    with explainers.registry.temporarily():
        yield explainers.registry


def run(*command: object, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(PROJECT), environment.pop("PYTHONPATH", "")]).strip(os.pathsep)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env={**os.environ, "PYTHONPATH": path, **environment}, capture_output=True, text=True,
        check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


# Folders named like ours, and modules named like those that we need, in a user's working directory.


@pytest.fixture(params=["packages", "namespaces", "modules"])
def research(request, tmp_path):
    """A folder that holds `benchmark`, `explainers` and `torch` of its own."""
    for name in ("benchmark", "explainers"):
        if request.param == "modules":
            (tmp_path / f"{name}.py").write_text("mine = 1\n")
            continue
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.py").write_text("mine = 1\n")
        if request.param == "packages":
            (tmp_path / name / "__init__.py").write_text("mine = 1\n")
    return tmp_path


OURS = """
from an8flower import An8Flower, benchmark, explainers
from an8flower.benchmark import evaluate, load_model
from an8flower.benchmark.metrics import iou_auc
from an8flower.explainers import explainer
from an8flower.explainers.maps import scaled
import benchmark as theirs
print(explainers.get("grad_cam").name, iou_auc.__name__, theirs is benchmark)
"""


@pytest.mark.parametrize("how", ["-c", "script", "pytest"])
def test_ours_are_found_under_an8flower_in_any_folder(research, how):
    # The folder comes before everything else, as it does for python -c, a script, or a notebook.
    first = {"PYTHONPATH": str(PROJECT)}
    if how == "-c":
        shown = run(sys.executable, "-c", f"import sys\nsys.path.insert(0, '')\n{OURS}", cwd=research).stdout
    elif how == "script":
        (research / "mine.py").write_text(OURS)
        shown = run(sys.executable, "mine.py", cwd=research, **first).stdout
    else:
        lines = "".join(f"    {line}\n" for line in OURS.strip().splitlines())
        (research / "test_mine.py").write_text(f"def test_mine():\n{lines}")
        shown = run(sys.executable, "-m", "pytest", "-s", "-q", "test_mine.py", cwd=research, **first).stdout
    assert "grad_cam iou_auc True" in shown


@pytest.mark.parametrize("research", ["packages", "modules"], indirect=True)
def test_their_own_package_stays_theirs_as_long_as_ours_is_not_used(research):
    code = (
        "import sys\nsys.path.insert(0, '')\nfrom an8flower import An8Flower\nimport benchmark, explainers\n"
    )
    shown = run(
        sys.executable, "-c", f"{code}print(benchmark.__spec__.origin, benchmark)", cwd=research
    ).stdout
    assert str(PROJECT) not in shown and str(research) in shown


@pytest.mark.parametrize("research", ["packages", "modules"], indirect=True)
@pytest.mark.parametrize("name", ["benchmark", "explainers"])
def test_two_packages_of_one_name_are_one_clear_error(research, name):
    code = f"import sys\nsys.path.insert(0, '')\nimport {name}\nfrom an8flower import {name}\n"
    line = run(sys.executable, "-c", code, cwd=research, code=1).stderr.splitlines()[-1]
    assert line.startswith(f"ImportError: another module '{name}' is already imported, from {research}")
    assert "rename yours" in line


@pytest.mark.parametrize(
    "command",
    [
        ["an8flower.benchmark", "list", "models"],
        ["an8flower.benchmark.experiments.speed.lasso", "--help"],
        ["benchmark.experiments.lasso", "--help"],
    ],
)
def test_modules_run_under_their_aliases(tmp_path, command):
    assert run(sys.executable, "-m", *command, cwd=tmp_path).stdout.strip()


def test_type_checkers_see_the_aliases(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "typed.py").write_text(
        "from an8flower import benchmark, explainers\n"
        "from an8flower.benchmark.metrics import iou_auc\n"
        "from an8flower.explainers.backprop import backpropagate\n"
        "from explainers.backprop import backpropagate as same\n"
        "a: int = explainers.get('grad_cam')\nb: int = same\nc: int = backpropagate\n"
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", "--no-incremental", "typed.py"]
    said = run(*command, cwd=tmp_path, code=1, MYPYPATH=str(PROJECT)).stdout
    assert "import" not in said and said.count("Incompatible types in assignment") == 3


@pytest.mark.parametrize("name", ["torch", "numpy", "pandas", "random"])
def test_a_file_beside_a_script_does_not_stand_for_a_library(data, tiny, checkpoints, tmp_path, name):
    (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')\n")
    (tmp_path / "mine.py").write_text(f"import {name}\n{SCRIPT}")
    where = ("--root", data, "--checkpoints", checkpoints, "--folds", "0", "--workers", "1", "--json")
    command = ("evaluate", "--variant", tiny.name, "--explainer", "mine.py:mine", *where)
    code = "from benchmark.cli import main; main()"
    done = run(sys.executable, "-P", "-c", code, *command, cwd=tmp_path)
    assert json.loads(done.stdout)["records"][0]["status"] == "ok"


# Scripts and the modules beside them.

SCRIPT = """
def mine(model, images, targets):
    return images.mean(dim=1)
"""


def script(folder: Path, name: str, helper: str, value: float, *, late: bool = False) -> Path:
    """Write a script whose method returns the `VALUE` of a module beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{helper}.py").write_text(f"VALUE = {value}\n")
    above, inside = ("", f"    from {helper} import VALUE\n") if late else (f"import {helper}\n", "")
    used = "VALUE" if late else f"{helper}.VALUE"
    path = folder / f"{name}.py"
    path.write_text(
        f"{above}\ndef {name}(model, images, targets):\n{inside}    return 0 * images.sum(1) + {used}\n"
    )
    return path


def value(path: Path, name: str) -> float:
    images, targets = torch.rand(1, 3, 8, 8), torch.tensor([0])
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    return explainers.get(f"{path}:{name}")(model, images, targets).mean().item()


@pytest.mark.parametrize("late", [False, True], ids=["at import", "in the call"])
@pytest.mark.parametrize("helper", ["tools", "utils", "config"])
def test_two_scripts_have_their_own_helpers_of_one_name(tmp_path, helper, late):
    first = script(tmp_path / "a", "first", helper, 1.0, late=late)
    second = script(tmp_path / "b", "second", helper, 2.0, late=late)
    assert (value(first, "first"), value(second, "second"), value(first, "first")) == (1.0, 2.0, 1.0)
    assert helper not in sys.modules and str(tmp_path / "a") not in sys.path


def test_helpers_may_be_packages_and_import_each_other(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts/__init__.py").write_text("from parts.inner import half\n")
    (tmp_path / "parts/inner.py").write_text(
        "from . import deep\nimport other_one\nhalf = other_one.X / deep.Y\n"
    )
    (tmp_path / "parts/deep.py").write_text("Y = 2\n")
    (tmp_path / "other_one.py").write_text("X = 3\n")
    (tmp_path / "mine.py").write_text(
        "import parts.inner\nfrom parts import half, deep\nfrom parts.deep import *\n\n"
        "def mine(model, images, targets):\n    assert Y == deep.Y and parts.inner.half == half\n"
        "    return 0 * images.sum(1) + half\n"
    )
    assert value(tmp_path / "mine.py", "mine") == 1.5


def test_a_method_that_lies_beside_its_script_is_found_and_keyed(tmp_path):
    (tmp_path / "methods.py").write_text("class learned:\n    def __call__(self, m, i, t): return i[:, 0]\n")
    (tmp_path / "mine.py").write_text("from methods import learned\n")
    spec = explainers.get(f"{tmp_path}/mine.py:learned").spec
    assert file_of(spec) == tmp_path / "mine.py" and code_digest(spec.build)


@pytest.mark.parametrize("late", [False, True], ids=["at import", "in the call"])
def test_helpers_are_found_by_check_and_by_evaluate(data, tiny, checkpoints, tmp_path, late):
    path = script(tmp_path / "elsewhere", "mine", "tools", 1.0, late=late)
    from explainers.conformance import check

    assert {result.check: result.status for result in check(f"{path}:mine").results}["runs"] == "pass"
    records = evaluate(
        data, tiny.name, explainers=[f"{path}:mine"], folds=[0], checkpoints=checkpoints,
        results=tmp_path / "runs", workers=1,
    )  # fmt: skip
    assert [(record.status, record.reason) for record in records] == [("ok", None)]


@pytest.mark.parametrize("folder", ["what?", "a?b=c", "me@home", "a&b", "a b", "x.py:y", "ünï"])
@pytest.mark.parametrize("written", ["mine", "mine@conv1", "mine?k=2", "mine@conv1?k=2"])
def test_a_path_may_hold_any_sign(tmp_path, folder, written):
    path = tmp_path / folder / "mine.py"
    path.parent.mkdir()
    path.write_text("def mine(model, images, targets, *, layer='conv2', k=1):\n    return k * images[:, 0]\n")
    one = explainers.get(f"{path}:{written}")
    assert one.name == written
    assert explainers.get(reference_of(one)).parameters == one.parameters


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("grad_cam?mode=a.py:b", "grad_cam", {"mode": "a.py:b"}),
        ("captum:Saliency?reduce=abs", "captum:Saliency", {"reduce": "abs"}),
        ("gone.py:f@conv1?x=y.py:z", "gone.py:f", {"layer": "conv1", "x": "y.py:z"}),
    ],
)
def test_what_only_looks_like_a_path_is_none(text, name, parameters):
    assert Reference.parse(text) == Reference(name, parameters)


def test_what_a_script_prints_is_no_result(data, tiny, checkpoints, tmp_path, called):
    (tmp_path / "mine.py").write_text(f"print('hello')\n{SCRIPT}")
    where = ("--root", data, "--checkpoints", checkpoints, "--folds", "0", "--json")
    done = called("evaluate", "--variant", tiny.name, "--explainer", "mine.py:mine", *where)
    assert json.loads(done.stdout)["records"][0]["explainer"] == "mine" and "hello" in done.stderr


# Keys and old names.


@pytest.mark.parametrize(
    "line",
    [
        "from explainers import explainer",
        "from an8flower.explainers import explainer",
        "from explainers.base import explainer",
    ],
)
def test_a_script_that_imports_explainers_keeps_its_key_over_releases(tmp_path, monkeypatch, line):
    from benchmark.measuring import code_digest as module

    (tmp_path / "mine.py").write_text(f"{line}\n\n@explainer(source='me'){SCRIPT.replace(chr(10), '', 0)}")
    build = explainers.get(f"{tmp_path}/mine.py:mine").spec.build
    before = code_digest(build)
    changed = (
        "explainers/__init__.py",
        "explainers/names.py",
        "explainers/together.py",
        "explainers/scripts.py",
    )
    digest = module._tree_digest

    def altered(file):
        return f"altered {digest(file)}" if str(file).endswith(changed) else digest(file)

    monkeypatch.setattr(module, "_tree_digest", altered)
    module._reached.cache_clear()
    assert code_digest(build) == before
    module._reached.cache_clear()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("benchmark", "explain"),
        ("benchmark.subject", "Subject"),
        ("benchmark.store", "found"),
        ("benchmark.survey", "survey"),
        ("an8flower.augment", "resize_image"),
        ("an8flower.augment", "resize_mask"),
        ("an8flower.augment", "resize_ids"),
        ("benchmark.submission.archive", "read_submission"),
        ("benchmark.submission.schema", "SCHEMA"),
        ("benchmark.submission.arrays", "COLUMNS"),
        ("benchmark.watch", "Watch"),
        ("benchmark.board", "boards_in"),
        ("benchmark.measuring", "measure"),
        ("benchmark.unfinished", "State"),
    ],
)
def test_an_old_name_is_found_with_one_warning_for_it(module, name):
    if module in MOVED:  # its first import warns
        sys.modules.pop(module, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(f"from {module} import {name}", {})
    told = [str(one.message) for one in caught]
    moved = [text for text in told if text.startswith(f"{module} is now")]
    renamed = [text for text in told if f".{name} is now" in text and text not in moved]
    assert told == [*moved, *renamed] and len(moved) <= 1 and len(renamed) <= 1 and told


# Progress.


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


@pytest.mark.parametrize("steps", [[20, -20, 5, 20], [10, 10, -20, 0, 30], [30, -10, -10, 25], [0, 0, 5]])
def test_counts_never_run_back_and_nothing_done_has_no_rate(clock, capsys, steps):
    with progress("evaluate", 100, "maps") as advance:
        for step in steps:
            clock(6)
            advance(step)
    lines = capsys.readouterr().err.splitlines()
    counts = [int(line.partition(": ")[2].partition("/")[0]) for line in lines]
    assert counts == sorted(counts)
    done = 0
    for step, line in zip(steps, lines, strict=True):
        done += step
        assert ("/s" in line or "s/map" in line) == (done > 0), line


@pytest.mark.parametrize("name", ["an8flower", "an8flower.ground", "an8flower.ground.progress"])
def test_the_level_of_any_logger_above_silences_progress(clock, capsys, name):
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with progress("draw", 2, "frames") as advance:
            clock(60)
            advance(2)
    finally:
        logger.setLevel(before)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["an8flower", "an8flower.ground.progress"])
def test_a_level_that_was_set_before_the_import_stays(tmp_path, name):
    code = (
        f"import logging\nlogging.getLogger('{name}').setLevel('ERROR')\n"
        f"import an8flower.ground.progress\nprint(logging.getLogger('{name}').level)"
    )
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout.strip() == str(logging.ERROR)


# Masks that are none.


@pytest.mark.parametrize("wrong", [np.nan, -1, 0.5, 2, np.inf])
@pytest.mark.parametrize("name", ["iou_auc", "pointing_game", "roc_auc", "relevance_mass"])
def test_masks_that_are_not_boolean_are_one_error(name, wrong):
    masks = np.zeros((2, 4, 4))
    masks[:, 1, 1], masks[1, 2, 3] = 1, wrong
    with pytest.raises(ValueError, match=r"masks must be bool, or 0 outside .* at \(1, 2, 3\) there is"):
        metrics.get(name).compute(np.random.default_rng(0).random((2, 4, 4)), masks)
    with pytest.raises(ValueError, match="masks must be bool"):
        iou_curve(np.zeros((2, 4, 4)), masks=masks)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("inside", [1, 255])
def test_masks_of_zeros_and_one_other_usual_number_are_taken(dtype, inside):
    maps, masks = np.random.default_rng(0).random((1, 4, 4)), np.zeros((1, 4, 4), dtype)
    masks[0, 1, 1] = inside if dtype is not bool else True
    assert iou_auc(maps, masks) == iou_auc(maps, masks > 0) == iou_auc(maps, torch.from_numpy(masks > 0))


def test_metrics_of_others_get_checked_masks_too():
    spec = MetricSpec("mine", lambda maps, masks: np.zeros(len(maps)), "tests")
    with pytest.raises(ValueError, match="masks must be bool"):
        spec.compute(np.zeros((1, 2, 2)), np.full((1, 2, 2), np.nan))


# The command line.


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["new-explainer", "foo", "--out", "--folder"], "--folder/foo.py"),
        (["new-explainer", "foo", "--folder", "--folder"], "--folder/foo.py"),
        (["new-explainer", "foo", "--out=--folder"], "--folder/foo.py"),
        (["new-explainer", "foo", "--folder", "mine"], "mine/foo.py"),
    ],
)
def test_a_value_that_looks_like_an_old_option_stays_a_value(called, tmp_path, arguments, file):
    assert called(*arguments).returncode == 0
    assert (tmp_path / file).is_file()


@pytest.mark.parametrize(
    ("arguments", "right", "wrong"),
    [
        (["check", "sobel", "--second", "5"], "--limit-s", "--json"),
        (["check", "sobel", "--gibs", "5"], "--limit-gib", "--json"),
        (["run", "--secondes", "5"], "--limit-s", "--seed"),
        (["check", "sobel", "--jsno"], "--json", "--limit-s"),
    ],
)
def test_an_unknown_option_is_answered_with_what_was_meant(called, arguments, right, wrong):
    said = " ".join(called(*arguments).stderr.split())
    assert right in said and wrong not in said


# Ctrl-C.


@pytest.mark.parametrize("after_s", [0.3, 1.5, 4.0, 7.0])
@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_ends_training_without_a_traceback(copied, tiny, tmp_path, after_s, times):
    command = ["train", "--variant", tiny.name, "--root", copied, "--checkpoints", tmp_path / "models"]
    process = subprocess.Popen(
        [sys.executable, "-m", "an8flower.benchmark", *map(str, command), "--workers", "2"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    time.sleep(after_s)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    _, said = process.communicate(timeout=HANG_S)
    # In its first moments Python itself is starting, and no code of ours can catch the signal.
    assert process.returncode in (0, 130) or "an8flower" not in said
    assert "Traceback" not in said or "an8flower" not in said


def test_ctrl_c_that_a_library_takes_for_a_failed_import_still_ends_the_program(tmp_path):
    # As trimesh does, whose later use of the package then fails.
    (tmp_path / "trimesh.py").write_text(
        "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(5)\n"
        "except BaseException as error:\n    missing = error\nmissing | None\n"
    )
    command = ["generate", "--root", str(tmp_path / "data")]
    program = [sys.executable, "-m", "an8flower.benchmark", *command]
    done = run(*program, cwd=tmp_path, code=130, PYTHONPATH=str(tmp_path))
    assert "TypeError" not in done.stderr and "interrupted" in done.stderr


def test_scripts_are_measured_in_a_folder_with_packages_of_our_names(research, data, tiny, checkpoints):
    (research / "mine.py").write_text(f"from an8flower.explainers import explainer\n{SCRIPT}")
    code = (
        "import sys\nsys.path.insert(0, '')\nfrom an8flower.benchmark import evaluate\n"
        f"(record,) = evaluate({str(data)!r}, {tiny.name!r}, explainers=['mine.py:mine'], folds=[0],"
        f" checkpoints={str(checkpoints)!r}, results='runs', workers=1)\nprint(record.status, record.reason)"
    )
    assert run(sys.executable, "-c", code, cwd=research).stdout.strip() == "ok None"
