"""Methods that do something wrong are told so: which one, which check, and what was seen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import faulty_methods as faulty
import pytest
import torch
from torch import nn
from waiting import HANG_S

import explainers
from explainers.base import ExplainerSpec
from explainers.conformance import checking, checks, limits, probes
from explainers.conformance.checking import CHECKS, assert_conforms, check
from explainers.names import Reference, every

BAD = [
    (faulty.raises, "runs", "KeyError: 'no such\\nthing'"),
    (faulty.exits, "runs", "SystemExit: 3"),
    (faulty.gives_nothing, "tensor", "it returned a NoneType, not a torch.Tensor"),
    (faulty.gives_numpy, "tensor", "it returned a NumPy array, not a torch.Tensor"),
    (faulty.gives_negative_strides, "runs", "negative"),
    (faulty.gives_wrong_shape, "shape", "it returned (4, 1, 28, 28), not (4, 28, 28)"),
    (faulty.gives_float64, "dtype", "it returned torch.float64, not torch.float32"),
    (faulty.gives_graph, "detached", "its heatmaps carry a gradient graph; return heatmaps.detach()"),
    (faulty.gives_nan, "finite", "112 values are not finite, e.g. nan at (0, 0, 4)"),
    (faulty.changes_weights, "model", "it changed the values of conv1.weight (now restored)"),
    (faulty.changes_a_buffer, "model", "it changed the values of norm.running_mean (now restored)"),
    (faulty.changes_weights_behind_the_back, "model", "it changed the values of conv1.weight"),
    (faulty.leaves_a_hook, "model", "it changed the forward hooks of relu1 (now restored)"),
    (faulty.sets_train_mode, "model", "it changed the mode of the model"),
    (faulty.leaves_gradients, "model", "it changed the gradient of conv1.weight"),
    (faulty.leaves_an_attribute, "model", "it changed the attribute 'note' of the model"),
    (faulty.writes_into_the_images, "input", "it wrote into the images; work on a copy of them"),
    (faulty.writes_behind_the_back, "input", "it wrote into the images; work on a copy of them"),
    (faulty.depends_on_global_seed, "repeatable", "another map called twice: largest difference"),
    (
        faulty.depends_on_global_seed,
        "seed",
        "it draws from the global generator of PyTorch; take a seed instead",
    ),
    (
        faulty.depends_on_numpys_seed,
        "seed",
        "it draws from the global generator of NumPy; take a seed instead",
    ),
    (faulty.normalises_over_the_batch, "singles", "another map one image at a time: largest difference"),
    (faulty.first_is_special, "order", "another map in another order: largest difference"),
    (
        faulty.ignores_the_target,
        "targets",
        "the heatmaps are the same for every target; declare class_agnostic=True",
    ),
    (
        faulty.needs_modules,
        "re-used ReLU",
        "another map of the model written with modules: largest difference",
    ),
]


@pytest.mark.parametrize(
    ("method", "failing", "seen"), BAD, ids=[f"{method.__name__}-{failing}" for method, failing, _ in BAD]
)
def test_a_fault_is_named_with_the_method_the_check_and_the_value(method, failing, seen):
    report = check(method)
    assert not report.passed
    (result,) = [one for one in report.results_with("fail") if one.check == failing]
    assert seen in result.detail
    assert len(result.detail.splitlines()) == 1
    assert report.explainer == method.__name__
    assert f"fails {failing!r}: {result.detail}" in report.summary and len(report.summary.splitlines()) == 1


def test_a_note_left_on_the_model_when_it_raises_is_removed():
    (result,) = [one for one in check(faulty.leaves_a_note_if_it_raises).results if "exception" in one.check]
    assert result.status == "pass" and "raised in" in result.detail


def test_a_method_that_fails_at_once_has_one_failing_check():
    report = check(faulty.raises)
    assert [one.check for one in report.results_with("fail")] == ["runs"]
    assert {one.check for one in report.results_with("skipped")} == set(CHECKS) - {"runs"}
    assert "other checks: the first call failed" in str(report)


@pytest.mark.parametrize(
    "method", [faulty.hangs, faulty.hangs_and_catches, faulty.catches_the_alarm_and_ends]
)
def test_a_method_that_hangs_is_stopped(method):
    before = signal.getsignal(signal.SIGALRM)
    report = check(method, limit_s=0.3)
    (result,) = report.results_with("fail")
    assert {one.check for one in report.results_with("skipped")} == set(CHECKS) - {"time"}  # called once
    assert (result.check, result.detail) == ("time", "it took longer than 0.3 s")
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("method", [faulty.fills_memory, faulty.fills_memory_with_lists])
def test_a_method_that_allocates_without_end_is_stopped_and_leaves_room(method):
    for _ in range(2):  # what the first try took is free again
        (result,) = check(method, limit_gib=0.3).results_with("fail")
        assert (result.check, result.detail) == (
            "memory",
            "it allocated more than 0.3 GiB in addition to what was in use",
        )
    assert len(torch.ones(2**26)) == 2**26


def test_limits_leave_an_outer_timer_running():
    rung = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with limits.limited("mine", seconds=30, gib=None):
            pass
        time.sleep(0.4)
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_there_is_no_time_limit_in_another_thread():
    done = []

    def run():
        with limits.limited("mine", seconds=0.01, gib=None):
            time.sleep(0.1)
        done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done


def test_limits_pass_other_errors_on():
    with pytest.raises(RuntimeError, match="shapes differ"), limits.limited("mine", seconds=5, gib=1):
        raise RuntimeError("shapes differ")


def test_a_method_that_prints_is_a_fact_with_its_text(capfd):
    report = check(faulty.prints)
    assert report.passed
    (result,) = [one for one in report.results_with("fact") if one.check == "stdout"]
    assert result.detail == (
        "it printed 'explaining 4 images'; use logging, standard output is for the command"
    )
    total = len(CHECKS) - len(checks.MEASUREMENTS)
    assert f"prints: {total - 1} of {total} checks pass; warning 'stdout': {result.detail}" == report.summary
    assert capfd.readouterr().out == ""


def test_printed_text_becomes_one_warning_per_explainer(capfd, recwarn, monkeypatch):
    monkeypatch.setattr(limits, "_warned", set())
    for text in ("\n first \nsecond\n", "third\n"):
        with limits.quiet("mine"):
            sys.stdout.write(text)
            os.write(1, b"from compiled code\n")
    with pytest.raises(KeyError), limits.quiet("yours"):  # the text may say why it raises
        sys.stdout.write("x" * 1000)
        raise KeyError
    with limits.quiet("silent"):
        sys.stdout.write("\n")
    mine, yours = recwarn.list
    assert mine.category is yours.category is limits.PrintedWarning
    assert str(mine.message) == (
        "explainer 'mine' printed 'first'; use logging, standard output is for the command"
    )
    assert f"explainer 'yours' printed '{'x' * 57}...'" in str(yours.message)
    assert capfd.readouterr().out == ""


def test_old_names_still_work_with_a_warning():
    explainer = explainers.get("grad_cam@conv1")
    with pytest.warns(DeprecationWarning, match=r"Explainer\.key is now Explainer\.name"):
        assert explainer.key == explainer.name == "grad_cam@conv1"
    with pytest.warns(DeprecationWarning, match=r"Explainer\.of is now Explainer\.from_spec"):
        assert explainers.Explainer.of(explainer.spec, {"layer": "conv1"}).name == explainer.name
    with pytest.warns(DeprecationWarning, match=r"Reference\.read is now Reference\.parse"):
        assert Reference.read("sobel") == Reference("sobel", {})
    model, batch = probes.model(probes.Modular), probes.ProbeBatch.drawn()
    with pytest.warns(DeprecationWarning, match="every is now explainers.names.explainers_named"):
        (one,) = every(["sobel"], model, batch.images)
    assert one.name == "sobel"
    report = checking.ConformanceReport("mine", "", "", ())
    with pytest.warns(DeprecationWarning, match="results_with"):
        assert report.of("fail") == ()
    for module, old, new in (
        (explainers.conformance, "Report", checking.ConformanceReport),
        (checking, "Report", checking.ConformanceReport),
        (checks, "Subject", checks.MethodUnderTest),
        (probes, "Batch", probes.ProbeBatch),
        (probes, "Watched", probes.Instrumented),
    ):
        with pytest.warns(DeprecationWarning, match=f"{module.__name__}.{old} is now {new.__name__}"):
            assert getattr(module, old) is new
        with pytest.raises(AttributeError, match="has no attribute 'missing'"):
            _ = module.missing


@pytest.mark.parametrize(
    "method", [faulty.good, faulty.Learning, "grad_cam@conv1", "oracle", explainers.get("vebi")]
)
def test_good_methods_pass(method):
    report = check(method)
    assert report.passed, str(report)
    assert not report.results_with("skipped")
    assert tuple(one.check for one in report.results) == CHECKS
    assert [one.check for one in report.results_with("fact")] == ["cost"]


def test_a_clear_refusal_passes():
    (result,) = [one for one in check(faulty.refuses_reused).results if one.check == "re-used ReLU"]
    assert (result.status, result.detail) == ("pass", "refuses: a ReLU is used twice; write two")


def test_another_seed_of_a_methods_own_is_a_fact():
    results = {one.check: one for one in check("random").results}
    assert results["seed"].detail == "the same; seed=1 gives another"


def test_checking_leaves_the_global_generators_and_the_threads_alone():
    before, threads = probes.random_states(), torch.get_num_threads()
    check(faulty.good)
    check(faulty.raises)
    assert probes.random_states() == before
    assert torch.get_num_threads() == threads


def test_a_users_pytest_is_told_what_fails():
    assert_conforms(faulty.good)
    with pytest.raises(AssertionError, match=r"^ignores_the_target\nfail +targets +the heatmaps are"):
        assert_conforms(faulty.ignores_the_target)


def test_known_defects_of_an_adapted_method_are_facts(monkeypatch):
    class Adapter:
        known = staticmethod(lambda name: "it looks at modules alone" if name == "Old" else "")

    monkeypatch.setattr(checking.importlib, "import_module", lambda name: Adapter)
    for name, passed in (("Old", True), ("New", False)):
        spec = ExplainerSpec(
            f"captum:{name}", faulty.ignores_the_target, source="a paper", library="captum 0"
        )
        report = check(explainers.Explainer(spec, {}, faulty.ignores_the_target))
        (result,) = [one for one in report.results if one.check == "targets"]
        assert report.passed == passed
        assert result.status == ("fact" if passed else "fail")
        assert ("(known: it looks at modules alone)" in result.detail) == passed
        assert ("known: 'targets': it looks at modules alone" in report.summary) == passed


def test_the_ways_of_writing_the_probe_are_one_network():
    images = probes.ProbeBatch.drawn().images
    ways = (probes.Modular, probes.Functional, probes.InPlace, probes.ReUsed, probes.Instrumented)
    logits = [probes.model(kind)(images) for kind in ways]
    assert all(torch.equal(one, logits[0]) for one in logits)
    assert isinstance(probes.model(probes.InPlace), nn.Module)
    assert all(mask.any() for mask in probes.ProbeBatch.drawn(12, seed=1).masks)


SCRIPT = '''
def mine(model, images, targets):
    """Grey values, whatever the target."""
    return images.mean(dim=1){extra}
'''


def an8flower(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANG_S)


def test_command_passes_good_methods_and_fails_bad_ones(called, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT.format(extra=""))
    done = called("check", "grad_cam@conv1", f"{path}:mine")
    assert done.returncode == 1 and done.stderr == ""
    lines = done.stdout.splitlines()
    total = len(CHECKS) - len(checks.MEASUREMENTS)
    assert lines[0] == f"grad_cam@conv1: {total} of {total} checks pass"
    assert lines[-1] == "2 checked, 1 fail: mine"
    assert "  fail    targets                   the heatmaps are the same for every target" in done.stdout
    assert sum(" fail " in line for line in lines[:-1]) == 1
    assert called("check", "sobel").returncode == 0


@pytest.mark.slow
def test_command_speaks_json_and_takes_limits(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SCRIPT.format(extra=" if print('hi') else __import__('time').sleep(60)"))
    done = an8flower("check", f"{path}:mine", "--limit-s", "0.5", "--json")
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert result["passed"] is False
    (report,) = result["explainers"]
    failing = {one["check"]: one["detail"] for one in report["results"] if one["status"] == "fail"}
    assert failing == {"time": "it took longer than 0.5 s"}


def test_command_says_what_it_cannot_check(called, tmp_path):
    for arguments, code, message in (
        (["check"], 2, "name one explainer or more, or give --all"),
        (["check", "sobel", "--all"], 2, "name one explainer or more, or give --all"),
        (["check", "sobell"], 1, "unknown explainer 'sobell'; did you mean 'sobel'?"),
        (["check", f"{tmp_path}/none.py:f"], 1, "none.py: no such file"),
    ):
        done = called(*arguments)
        assert done.returncode == code
        assert message in done.stderr and done.stdout == ""
