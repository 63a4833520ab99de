"""The command line as a user meets it, mostly in processes of its own."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner
from waiting import HANG_S

import explainers
from an8flower.export import exports
from an8flower.variants import variants
from benchmark.cli import BOARD, PANELS, app, completion
from benchmark.cli.renamed import RENAMED, with_new_names
from benchmark.metrics import metrics
from benchmark.models import models
from benchmark.plan import Plan

COMMANDS = {
    **{name: command for panel in PANELS.values() for name, command in panel.items()},
    **{f"board {name}": command for name, command in BOARD.items()},
}


def an8flower(
    *arguments: object, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, check=False, timeout=HANG_S,
        env={**os.environ, **environment},
    )  # fmt: skip


def options(name: str) -> dict[str, object]:
    """The options of a command by name, e.g. "--root"."""
    command = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    return {spelling: parameter for parameter in command.params for spelling in parameter.opts}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = CliRunner().invoke(app, [*command.split(), "--help"])
    assert done.exit_code == 0
    assert f"Example: an8flower {command}" in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_of_a_description_is_broken_at_80_columns(command):
    description = inspect.getdoc(COMMANDS[command])
    assert all(len(line) <= 78 for line in description.partition("Example:")[0].splitlines())
    assert description.splitlines()[0].endswith(".") and not description.splitlines()[1]


def test_help_has_a_panel_for_each_task_and_run_first():
    lines = an8flower("--help", COLUMNS="80").stdout.splitlines()
    panels = [line.strip("╭╮─ ") for line in lines if line.startswith("╭")]
    assert panels == ["Options", *PANELS]
    commands = lines[lines.index(next(line for line in lines if "Start here" in line)) + 1 :]
    named = [line[2:].split()[0] for line in commands if line.startswith("│") and line[2] != " "]
    assert named == [*(name for panel in PANELS.values() for name in panel), "board"]
    assert named[0] == "run"
    assert not any(line.startswith("│  ") for line in commands)  # each fits on its line
    assert "--install-completion" in "".join(commands)


# What one command takes once and another repeatedly, or what is a file of the command's own.
DIFFERENT = {"--variant", "--model", "--recipe", "--seed", "--fold", "--explainer", "--out"}


@pytest.mark.slow
def test_an_option_is_the_same_in_every_command():
    seen = defaultdict(set)
    for command in COMMANDS:
        for name, option in options(command).items():
            if name.startswith("--"):
                seen[name].add((option.help, option.metavar))
    assert {name for name, uses in seen.items() if len(uses) > 1} == DIFFERENT
    assert all(text for uses in seen.values() for text, _ in uses)


def test_the_defaults_that_run_shows_are_the_plans():
    shown = {
        "--variant": Plan.variants[0], "--model": Plan.models[0], "--metric": Plan.metrics[0],
        "--seed": Plan.seeds[0], "--drawing-seed": Plan.drawing_seed, "--root": Plan.root,
        "--checkpoints": Plan.checkpoints, "--results": Plan.results, "--device": Plan.device,
        "--limit-s": f"{Plan.limit_s:g}", "--limit-gib": f"{Plan.limit_gib:g}",
    }  # fmt: skip
    of_run, of_evaluate = options("run"), options("evaluate")
    assert {name: of_run[name].show_default for name in shown} == {n: str(v) for n, v in shown.items()}
    assert (of_evaluate["--limit-s"].default, of_evaluate["--limit-gib"].default) == (
        Plan.limit_s,
        Plan.limit_gib,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "old", "new"), [(c, old, new) for c, names in RENAMED.items() for old, new in names.items()]
)
def test_an_old_name_of_an_option_stands_for_the_new_one(command, old, new):
    assert new in options(command) and old not in options(command)
    assert with_new_names([*command.split(), f"{old}=3", "--", old]) == (
        [*command.split(), f"{new}=3", "--", old],
        {old: new},
    )
    assert with_new_names([*command.split(), new, "3"]) == ([*command.split(), new, "3"], {})


@pytest.mark.slow
def test_an_old_name_works_with_a_note(tmp_path):
    done = an8flower("new-explainer", "mine", "--folder", tmp_path)
    assert done.returncode == 0 and (tmp_path / "mine.py").is_file()
    assert done.stderr == (
        "an8flower: --folder is now called --out; old names will stop working in version 0.3\n"
    )
    assert an8flower("train", "--seed", "-1").returncode == 2  # --seed was renamed in 'generate' alone


def completed(words: str) -> list[str]:
    """What bash offers for the last word; "" for a new one."""
    position = str(len(words.split(" ")) - 1)
    asked = {"COMP_WORDS": words, "COMP_CWORD": position, "_AN8FLOWER_COMPLETE": "complete_bash"}
    done = an8flower(**asked)
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.split()


@pytest.mark.slow
def test_the_shell_completes_commands_options_and_names():
    assert completed("an8flower ev") == ["evaluate"]
    assert completed("an8flower generate --dr") == ["--drawing-seed"]
    assert completed("an8flower evaluate --explainer grad_cam") == ["grad_cam", "grad_cam_pp"]
    assert completed("an8flower run --variant sin") == ["single-6c"]
    assert completed("an8flower run plan.toml --metric faith") == ["faithfulness"]
    assert completed("an8flower board ") == ["add", "list"]
    assert completed("an8flower explain pic") == []  # bash then completes files


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_completion_script(shell):
    done = an8flower(_AN8FLOWER_COMPLETE=f"source_{shell}")
    assert done.returncode == 0 and f"_AN8FLOWER_COMPLETE=complete_{shell}" in done.stdout


def test_completion_knows_every_registered_name():
    kinds = ["localisation", "faithfulness"]
    assert completion.explainers("") == list(explainers.names())
    assert completion.variants("") == list(variants.names())
    assert completion.models("") == list(models.names())
    assert completion.metrics("") == sorted([*metrics.names(), *kinds])
    assert completion.exports("") == list(exports.names())
    assert completion.selecting("v") == ["vebi", "vebi_all", "vebi_nearest"]


def test_completion_loads_no_torch():
    code = (
        "import sys\n"
        "from benchmark.cli import completion as c\n"
        "for names in (c.variants, c.models, c.explainers, c.selecting, c.metrics, c.exports, c.factors):\n"
        "    assert names('')\n"
        "print([name for name in ('torch', 'pandas', 'matplotlib') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_lists_what_is_registered(called):
    listed = json.loads(called("list", "explainers", "--json").stdout)["explainers"]
    own = tuple(entry["name"] for entry in listed if ":" not in entry["name"])
    assert own == explainers.names() and len(listed) > len(own) + 30
    assert all(entry["source"] for entry in listed)
    listed = json.loads(called("list", "variants", "--json").stdout)["variants"]
    assert tuple(entry["name"] for entry in listed) == variants.names()
    for what, name in (("models", "an8net"), ("metrics", "iou_auc"), ("explainers", "grad_cam")):
        assert name in called("list", what).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "--variant", "single-6"], "unknown variant 'single-6'; did you mean 'single-6c'?"),
        (["train", "--variant", "nothing"], "unknown variant 'nothing'; known are 'double-12c'"),
        (["train", "--model", "an8nett"], "unknown model 'an8nett'; did you mean 'an8net', 'mnistnet'?"),
        (["evaluate", "--explainer", "gradcam"], "unknown explainer 'gradcam'; did you mean 'grad_cam'"),
        (["evaluate", "--folds", "9"], "--folds 9: fold 9 does not exist; folds are numbered 0 to 4"),
        (["train", "--folds", "a"], "--folds takes whole numbers separated by commas, e.g. '1,2', not 'a'"),
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
def test_bad_input_is_one_clear_line(called, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    done = called(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.slow
def test_an_error_is_all_that_a_process_prints(tmp_path):
    done = an8flower("train", cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)


@pytest.mark.slow
def test_debug_shows_the_traceback_wherever_it_stands(tmp_path):
    for arguments in (["--debug", "train"], ["train", "--debug"]):
        assert "Traceback" in an8flower(*arguments, cwd=tmp_path).stderr


@pytest.mark.parametrize("arguments", [["nothing"], ["generate", "--workers", "0"], ["list", "things"]])
def test_wrong_usage_exits_with_2(called, arguments):
    done = called(*arguments)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "Error:" in done.stderr


@pytest.mark.slow
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
    remedy = f"an8flower generate --variant single-6c --root {tmp_path} --viewpoints 1"
    assert f"run '{remedy}'" in told.stdout
    refused = an8flower("train", *at)
    assert refused.returncode == 1
    assert f"{image} has 100 bytes instead of" in refused.stderr and len(refused.stderr.splitlines()) == 1
    mended = json.loads(an8flower("generate", *at, "--viewpoints", "1", "--json").stdout)
    assert mended["digest"] == made["digest"]
    assert an8flower("verify", *at).returncode == 0
