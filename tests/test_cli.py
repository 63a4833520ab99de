"""The command line as a user meets it: in processes of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANG_S

import explainers
from an8flower.variants import variants


def an8flower(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=HANG_S)


@pytest.mark.parametrize(
    "command",
    [
        "generate",
        "verify",
        "export",
        "gallery",
        "train",
        "evaluate",
        "certify",
        "leaderboard",
        "run",
        "explain",
        "interpret",
        "list",
        "check",
        "new-explainer",
    ],
)
def test_every_command_has_help_with_an_example(command):
    done = an8flower(command, "--help")
    assert done.returncode == 0
    assert f"Example: an8flower {command}" in " ".join(done.stdout.split())


def test_lists_what_is_registered():
    listed = json.loads(an8flower("list", "explainers", "--json").stdout)["explainers"]
    own = tuple(entry["name"] for entry in listed if ":" not in entry["name"])
    assert own == explainers.names() and len(listed) > len(own) + 30
    assert all(entry["source"] for entry in listed)
    listed = json.loads(an8flower("list", "variants", "--json").stdout)["variants"]
    assert tuple(entry["name"] for entry in listed) == variants.names()
    for what, name in (("models", "an8net"), ("metrics", "iou_auc"), ("explainers", "grad_cam")):
        assert name in an8flower("list", what).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--variant", "single-6"], "unknown variant 'single-6'; did you mean 'single-6c'?"),
        (["train", "--variant", "nothing"], "unknown variant 'nothing'; known are 'double-12c'"),
        (["train", "--model", "an8nett"], "unknown model 'an8nett'; did you mean 'an8net', 'mnistnet'?"),
        (["evaluate", "--explainer", "gradcam"], "unknown explainer 'gradcam'; did you mean 'grad_cam'"),
        (["evaluate", "--folds", "9"], "--folds 9: there is no fold 9, there are 5, from 0 to 4"),
        (["train", "--folds", "a"], "--folds takes numbers with commas between them, e.g. '1,2', not 'a'"),
        (["generate", "--viewpoints", "41"], "viewpoints are numbered from 1 to 40, got [41]"),
        (
            ["train"],
            "no complete dataset in data/single-6c; run 'an8flower generate --variant single-6c",
        ),
        (["leaderboard"], "no records of an8net on single-6c in runs; run 'an8flower evaluate"),
        (["verify"], "no complete dataset in data/single-6c"),
        (["generate", "--root", "/proc/nowhere"], "cannot use /proc/nowhere: no such file or directory"),
        (
            ["generate", "--root", "file/data"],
            "cannot use file/data/single-6c: a part of the path is a file",
        ),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, message):
    (tmp_path / "file").touch()
    done = an8flower(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path):
    for arguments in (["--debug", "train"], ["train", "--debug"]):
        assert "Traceback" in an8flower(*arguments, cwd=tmp_path).stderr


@pytest.mark.parametrize("arguments", [["nothing"], ["generate", "--workers", "0"], ["list", "things"]])
def test_wrong_usage_exits_with_2(arguments):
    done = an8flower(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "Error:" in done.stderr


def test_damage_is_named_and_mended(tmp_path):
    at = ("--root", tmp_path, "--variant", "single-6c")
    made = json.loads(an8flower("generate", *at, "--viewpoints", "1", "--json").stdout)
    assert made["files"] == {"frame": 6, "frame_parts": 6, "image": 150, "mask": 150, "parts": 150}
    assert an8flower("verify", *at).returncode == 0
    image = tmp_path / "single-6c/images/class3/class3_img1_p2_r4.png"
    image.write_bytes(image.read_bytes()[:100])
    told = an8flower("verify", *at)
    assert told.returncode == 1
    assert told.stdout.splitlines()[0] == f"altered: {image}"
    assert f"run 'an8flower generate --variant single-6c --root {tmp_path}'" in told.stdout
    refused = an8flower("train", *at)
    assert refused.returncode == 1
    assert f"{image} has 100 bytes instead of" in refused.stderr and len(refused.stderr.splitlines()) == 1
    mended = json.loads(an8flower("generate", *at, "--viewpoints", "1", "--json").stdout)
    assert mended["digest"] == made["digest"]
    assert an8flower("verify", *at).returncode == 0
