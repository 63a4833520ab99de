"""Explainers of one's own: in an installed package, in a script, and when something is wrong with them."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner
from waiting import HANG_S

import explainers
from an8flower.ground.registry import DuplicateNameError, UnknownNameError
from benchmark import evaluate, leaderboard
from benchmark.cli import app
from benchmark.cli.starting import METHOD
from explainers.conformance.checking import CHECKS, MEASUREMENTS, assert_conforms
from explainers.scripts import ScriptError

PROJECT = Path(__file__).parent.parent
EXAMPLE = PROJECT / "docs/examples/an8flower-saliency"
GUIDE = PROJECT / "docs/plug_in.md"
TAUGHT = {"hi_res_cam", "gradients_from_mean"}
# In a process of its own, a command finds the project wherever it is called.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture(autouse=True)
def registry():
    """What a test registers is gone after it."""
    with explainers.registry.temporarily():
        yield explainers.registry


def run(*command: object, cwd: Path, path: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "PYTHONPATH": path} if path else ENVIRONMENT
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=HANG_S,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def an8flower(
    *arguments: object, cwd: Path, python: object = sys.executable, path: str = "", code: int = 0
) -> subprocess.CompletedProcess[str]:
    return run(python, "-m", "benchmark", *arguments, cwd=cwd, path=path, code=code)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy to build in."""
    folder = tmp_path_factory.mktemp("source") / EXAMPLE.name
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    return folder


@pytest.fixture(scope="module")
def python(source, tmp_path_factory):
    """A fresh virtual environment's, which borrows this one's packages instead of downloading them."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True, with_pip=False)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    borrowed = [sysconfig.get_path("purelib"), str(PROJECT)]
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    python = folder / "bin/python"
    offline = ("--quiet", "--no-index", "--no-deps", "--no-build-isolation")
    run(python, "-m", "pip", "install", *offline, source, cwd=folder)
    return python


class TestInstalled:
    """The example package, in an environment of its own."""

    @pytest.mark.slow
    def test_it_is_listed_with_its_source_and_needs(self, python, tmp_path):
        listed = json.loads(an8flower("list", "explainers", "--json", python=python, cwd=tmp_path).stdout)[
            "explainers"
        ]
        found = {entry["name"]: entry for entry in listed}
        assert found.keys() > TAUGHT and set(explainers.names()) < found.keys()
        assert found["hi_res_cam"]["source"] == "Draelos and Carin 2020, arXiv 2011.08891"
        assert found["hi_res_cam"]["parameters"] == "layer=last_conv"
        assert [found[name]["needs"] for name in ("hi_res_cam", "gradients_from_mean")] == ["", "fit"]
        assert not TAUGHT & set(explainers.names())  # it is not installed here

    @pytest.mark.slow
    def test_it_is_measured_and_on_the_board(self, python, data, tiny, checkpoints, tmp_path):
        names = (
            "--explainer",
            "hi_res_cam",
            "--explainer",
            "gradients_from_mean?steps=4",
            "--explainer",
            "random",
        )
        where = ("--root", data, "--checkpoints", checkpoints, "--folds", "0")
        an8flower("evaluate", "--variant", tiny.name, *names, *where, python=python, cwd=tmp_path)
        shown = an8flower("leaderboard", "--variant", tiny.name, "--json", python=python, cwd=tmp_path)
        rows = {row["explainer"]: row for row in json.loads(shown.stdout)["rows"]}
        assert rows.keys() == {"hi_res_cam", "gradients_from_mean?steps=4", "random"}
        assert rows["hi_res_cam"]["layer"] == "relu3"
        for name in rows.keys() - {"random"}:
            assert rows[name]["role"] == "method" and not rows[name]["failed"]
            assert rows[name]["iou_auc"] > rows["random"]["iou_auc"]

    @pytest.mark.slow
    def test_its_own_tests_pass(self, python, source):
        assert "2 passed" in run(python, "-m", "pytest", "-q", cwd=source).stdout


PLAIN = '''
import torch

def plain(model, images, targets, *, scale=1.0):
    """Brightness, wherever the score comes from."""
    score = model(images).gather(1, targets[:, None])
    return images.mean(dim=1) + scale * score[:, :, None].detach()
'''
LEARNING = '''
class learning:
    """Distance from the mean training image."""

    def __init__(self, *, power=1.0):
        self.power = power

    def fit(self, model, loader):
        self.mean = sum(images.sum(dim=0) for images, _ in loader)
        return self

    def __call__(self, model, images, targets):
        return (images - self.mean).norm(dim=1) ** self.power
'''
DECLARED = """
from explainers import explainer

@explainer(source="a paper, arXiv 0000.00000", class_agnostic=True, role="floor")
def declared(model, images, targets):
    return images.mean(dim=1)
"""


class TestScript:
    """A file with a method, by its path."""

    @pytest.fixture
    def go(self, data, tiny, checkpoints, tmp_path):
        """evaluate() of scripts on fold 0, giving the records."""

        def evaluated(*names):
            return evaluate(
                data, tiny.name, explainers=names, folds=[0], checkpoints=checkpoints, results=tmp_path
            )

        return evaluated

    @pytest.mark.slow
    def test_is_measured_and_on_the_board(self, go, tmp_path, tiny):
        path = tmp_path / "mine.py"
        path.write_text(PLAIN + LEARNING + DECLARED)
        names = [f"{path}:plain", f"{path}:learning?power=2.0", f"{path}:declared"]
        plain, learning, declared = go(*names)
        assert [record.explainer for record in (plain, learning, declared)] == [
            "plain", "learning?power=2.0", "declared",
        ]  # fmt: skip
        assert all(record.status == "ok" for record in (plain, learning, declared))
        assert plain.source == "Brightness, wherever the score comes from."
        assert (declared.source, declared.role) == ("a paper, arXiv 0000.00000", "floor")
        rows = leaderboard(tmp_path, tiny.name).rows
        assert set(rows["explainer"]) == {"plain", "learning?power=2.0", "declared"}
        assert not rows["failed"].any()

    @pytest.mark.slow
    def test_is_measured_by_the_command(self, data, tiny, checkpoints, tmp_path):
        (tmp_path / "mine.py").write_text(PLAIN)
        where = ("--root", data, "--checkpoints", checkpoints, "--folds", "0", "--json")
        done = an8flower(
            "evaluate", "--variant", tiny.name, "--explainer", "mine.py:plain?scale=2.0", *where, cwd=tmp_path
        )
        (record,) = json.loads(done.stdout)["records"]
        assert (record["explainer"], record["status"]) == ("plain?scale=2.0", "ok")

    def test_parameters_and_signs_in_the_path(self, tmp_path, modular):
        path = tmp_path / "me@home" / "mine@work.py"
        path.parent.mkdir()
        path.write_text(PLAIN + "\ndef at(model, images, targets, *, layer='conv1'): return images[:, 0]")
        one = explainers.get(f"{path}:plain?scale=3")
        assert one.parameters == {"scale": 3} and one.name == "plain?scale=3"
        assert explainers.get(f"{path}:at@conv2").parameters == {"layer": "conv2"}
        images, targets = torch.rand(2, 3, 28, 28), torch.tensor([0, 1])
        expected = images.mean(dim=1) + 3 * modular(images).gather(1, targets[:, None])[:, :, None]
        torch.testing.assert_close(one(modular, images, targets), expected.detach())
        with pytest.raises(
            UnknownNameError, match="unknown parameter of explainer 'plain': 'scales'; did you"
        ):
            explainers.get(f"{path}:plain?scales=3")

    def test_may_use_files_beside_it(self, tmp_path):
        (tmp_path / "beside_a_script.py").write_text("FACTOR = 2\n")
        path = tmp_path / "mine.py"
        path.write_text("from beside_a_script import FACTOR\n" + PLAIN)
        assert explainers.get(f"{path}:plain").spec.name == "plain"

    @pytest.mark.parametrize("content", [PLAIN, DECLARED], ids=["plain", "declared"])
    def test_cannot_take_a_name_that_is_taken(self, tmp_path, content):
        path = tmp_path / "mine.py"
        path.write_text(content.replace("def plain", "def grad_cam").replace("def declared", "def grad_cam"))
        with pytest.raises((ScriptError, DuplicateNameError), match="'grad_cam' is registered twice"):
            explainers.get(f"{path}:grad_cam")
        assert explainers.get("grad_cam").spec.source.startswith("Selvaraju")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("gone.py:plain", "gone.py: no such file"),
            ("mine.py:plane", "unknown function of mine.py 'plane'; did you mean 'plain'?"),
            ("mine.py", "mine.py: name the function too, e.g. mine.py:my_method"),
            ("mine.py:torch", "mine.py:torch is a module; name a function or a class"),
            ("wrong.py:plain", "wrong.py does not run: SyntaxError: "),
            ("raises.py:plain", "raises.py does not run: ZeroDivisionError: division by zero"),
            ("taken.py:grad_cam", "explainer 'grad_cam' is registered twice; give one of them another name"),
        ],
    )
    def test_what_is_wrong_is_said(self, tmp_path, monkeypatch, name, message):
        monkeypatch.chdir(tmp_path)
        for stem, content in {
            "mine": PLAIN,
            "wrong": "def plain(:",
            "raises": "1 / 0",
            "taken": PLAIN.replace("plain", "grad_cam"),
        }.items():
            Path(f"{stem}.py").write_text(content)
        with pytest.raises((ScriptError, DuplicateNameError, UnknownNameError)) as raised:
            explainers.get(name)
        assert str(raised.value).startswith(message)

    @pytest.mark.slow
    def test_what_is_wrong_is_one_line_of_the_command(self, tmp_path):
        (tmp_path / "wrong.py").write_text("def plain(:")
        done = an8flower("evaluate", "--explainer", "wrong.py:plain", cwd=tmp_path, code=1)
        assert done.stdout == "" and len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith("an8flower: wrong.py does not run: SyntaxError: ")


WORKS = """
from explainers import explainer

@explainer(source="tests")
def {name}(model, images, targets):
    return images.mean(dim=1)
"""


def installed(
    folder: Path, package: str, content: str | None, point: str = "mine", attribute: str = ""
) -> None:
    """What an installer leaves in `folder` of a package with one entry point."""
    module = package.replace("-", "_")
    if content is not None:
        (folder / f"{module}.py").write_text(content)
    about = folder / f"{module}-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[an8flower.explainers]\n{point} = {module}{attribute}\n")


# Content, attribute that the entry point names, and what is said of it; in the order of the values.
BROKEN = {
    "absent": (None, "", "'absent' is left out: ModuleNotFoundError: No module named 'absent'"),
    "ends": ("import sys; sys.exit('bye')", "", "'ends' is left out: SystemExit: bye"),
    "lacks": ("import gone_lib", "", "'lacks' is left out: ModuleNotFoundError: No module named 'gone_lib'"),
    "loud": ("raise RuntimeError('no\\nlicence')", "", "'loud' is left out: RuntimeError: no licence"),
    "renamed": (WORKS.format(name="new_name"), ":old_name", "has no attribute 'old_name'"),
    "second": (WORKS.format(name="first"), "", "explainer 'first' is registered twice; give one"),
    "taker": (WORKS.format(name="grad_cam"), "", "explainer 'grad_cam' is registered twice; give one"),
    "undeclared": (
        "def f(model, images, targets): ...",
        ":f",
        "'undeclared:f' is left out: TypeError: it exists, but is not registered as an explainer",
    ),
    "unfinished": ("def f(:", "", "'unfinished' is left out: SyntaxError: "),
}


class TestBroken:
    """Packages with something wrong."""

    @pytest.mark.slow
    def test_each_is_one_clear_line_and_everything_else_is_listed(self, tmp_path):
        installed(tmp_path, "first", WORKS.format(name="first"))
        installed(tmp_path, "works", WORKS.format(name="works"), attribute=":works")
        for package, (content, attribute, _) in BROKEN.items():
            installed(tmp_path, package, content, attribute=attribute)
        done = an8flower("list", "explainers", "--json", path=str(tmp_path), cwd=tmp_path)
        lines = [line for line in done.stderr.splitlines() if "plug-in" in line]
        for line, (_, _, message) in zip(lines, BROKEN.values(), strict=True):
            assert line.startswith("an8flower: explainer plug-in '") and message in line
        assert "Traceback" not in done.stderr and "warn" not in done.stderr
        names = {entry["name"] for entry in json.loads(done.stdout)["explainers"]}
        assert {*explainers.names(), "first", "works"} <= names

    @pytest.mark.slow
    def test_two_wrong_names_in_one_module_are_two_lines(self, tmp_path):
        installed(tmp_path, "works", WORKS.format(name="works"), attribute=":gone\nalso = works:lost")
        done = an8flower("check", "works", path=str(tmp_path), cwd=tmp_path, code=1)
        assert "has no attribute 'gone'" in done.stderr and "has no attribute 'lost'" in done.stderr
        assert done.stdout.startswith("works: ")

    @pytest.mark.slow
    def test_two_points_into_one_broken_module_are_one_line(self, tmp_path):
        installed(tmp_path, "loud", WORKS.format(name="works") + "\n1 / 0", attribute=":works\nalso = loud")
        done = an8flower("check", "sobel", path=str(tmp_path), cwd=tmp_path)
        assert done.stderr.count("plug-in") == 1 and "ZeroDivisionError" in done.stderr


class TestStartingFiles:
    """`an8flower new-explainer`."""

    @pytest.mark.slow
    def test_they_work_as_written(self, tmp_path):
        made = json.loads(an8flower("new-explainer", "my_method", "--json", cwd=tmp_path).stdout)
        assert made["files"] == ["my_method.py", "test_my_method.py"]
        assert made["next"] == [
            "an8flower check my_method.py:my_method",
            "an8flower evaluate --explainer my_method.py:my_method --folds 0",
            "an8flower leaderboard",
        ]
        lines = [line for line in (tmp_path / "my_method.py").read_text().splitlines() if line]
        assert len(lines) == 10
        checks = len(CHECKS) - len(MEASUREMENTS)
        checked = an8flower("check", "my_method.py:my_method", cwd=tmp_path).stdout
        assert f"{checks} of {checks} checks pass" in checked
        assert "1 passed" in run(sys.executable, "-m", "pytest", "-q", cwd=tmp_path).stdout
        command = (sys.executable, "-m", "ruff", "check", "--config", PROJECT / "pyproject.toml", ".")
        run(*command, cwd=tmp_path)

    @pytest.mark.slow
    def test_the_folder_is_made(self, tmp_path):
        done = an8flower("new-explainer", "my_method", "--out", "my methods", cwd=tmp_path)
        assert (tmp_path / "my methods/test_my_method.py").is_file()
        assert "  an8flower check 'my methods/my_method.py':my_method\n" in done.stdout

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("mine", "test_mine.py exists already; choose another name, or another folder with --out"),
            ("2x", "'2x' is not a valid name for a Python function; use letters, digits and _"),
            ("lambda", "'lambda' is not a valid name for a Python function"),
            ("grad_cam", "there is an explainer 'grad_cam' already; choose another name"),
            ("torch", "there is a Python module 'torch' that torch.py would hide; choose another name"),
        ],
    )
    def test_a_name_that_will_not_do_is_refused(self, tmp_path, monkeypatch, name, message):
        monkeypatch.chdir(tmp_path)
        Path("test_mine.py").write_text("mine")
        refused = CliRunner().invoke(app, ["new-explainer", name])
        assert isinstance(refused.exception, ValueError) and message in str(refused.exception)
        assert [path.name for path in tmp_path.iterdir()] == ["test_mine.py"]
        assert Path("test_mine.py").read_text() == "mine"

    @pytest.mark.slow
    def test_a_refusal_is_one_line(self, tmp_path):
        done = an8flower("new-explainer", "my-method", cwd=tmp_path, code=1)
        assert done.stdout == "" and not list(tmp_path.iterdir())
        assert done.stderr.splitlines() == [
            "an8flower: 'my-method' is not a valid name for a Python function; use letters, digits and _"
        ]

    def test_it_has_help_with_an_example(self, tmp_path):
        shown = an8flower("new-explainer", "--help", cwd=tmp_path).stdout
        assert "Example: an8flower new-explainer my_method" in " ".join(shown.split())


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def section(number: int) -> str:
    return GUIDE.read_text().partition(f"## {number}.")[2].partition(f"## {number + 1}.")[0]


class TestGuide:
    """What docs/plug_in.md shows works as it stands there."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        """With the files it shows."""
        for block in blocks("python"):
            if named := re.match(r"# (\w+\.py)\n", block):
                (tmp_path / named[1]).write_text(block[named.end() :])
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_its_methods_pass_the_checks(self, folder):
        files = [path.stem for path in folder.iterdir() if not path.stem.startswith("test_")]
        assert len(files) == 5
        for name in files:
            assert_conforms(f"{name}.py:{name}")

    @pytest.mark.slow
    def test_its_test_passes(self, folder):
        assert "3 passed" in run(sys.executable, "-m", "pytest", "-q", cwd=folder).stdout

    def test_its_other_snippets_run(self, folder):
        rest = [block for block in blocks("python") if not block.startswith("# ")]
        assert len(rest) == 2
        for block in rest:
            exec(compile(block, GUIDE.name, "exec"), {})

    @pytest.mark.slow
    def test_its_methods_are_measured(self, folder, data, tiny, checkpoints):
        names = ["my_learner.py:my_learner", "my_ceiling.py:my_ceiling", "my_cam.py:my_cam@all"]
        where = {"checkpoints": checkpoints, "results": folder, "folds": [0]}
        records = evaluate(data, tiny.name, explainers=names, **where)
        assert {record.status for record in records} == {"ok"}
        assert len(records) > 4

    @pytest.mark.slow
    def test_failures_read_as_it_says(self, folder, data, tiny, checkpoints):
        path = folder / "my_method.py"
        path.write_text(path.read_text().replace("    return", "    1 / 0\n    return"))
        where = ("--variant", tiny.name, "--root", data, "--checkpoints", checkpoints, "--folds", "0")
        for name in ("my_method", "my_metod"):
            done = an8flower("evaluate", *where, "--explainer", f"my_method.py:{name}", cwd=folder, code=1)
            said = (done.stdout + done.stderr).splitlines()
            assert any(block.strip() in said for block in blocks("text")), said

    def test_it_shows_the_starting_file_and_the_examples_entry_point(self):
        assert f"# my_method.py\n{METHOD.substitute(name='my_method')}" in blocks("python")
        (shown,) = blocks("toml")
        assert shown in (EXAMPLE / "pyproject.toml").read_text()

    def test_its_commands_exist(self):
        group = typer.main.get_command(app)
        lines = [line for block in blocks("sh") for line in block.splitlines()]
        assert len(lines) > 6
        for line in lines:
            program, command, *arguments = shlex.split(line)
            assert program == "an8flower"
            group.commands[command].make_context(command, arguments)

    def test_it_explains_every_check(self):
        table = section(8)
        assert tuple(re.findall(r"^\| `([^`]+)` \|[^|]+\|[^|]*\|$", table, re.MULTILINE)) == CHECKS

    def test_it_names_every_declaration(self):
        declared = inspect.signature(explainers.explainer).parameters
        table = section(6)
        assert all(re.search(rf"^\| .*`{name}\b", table, re.MULTILINE) for name in declared)

    def test_its_links_lead_somewhere(self):
        text = GUIDE.read_text()
        headings = [
            re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)", text, re.M)
        ]
        for link in re.findall(r"\]\(([^)]+)\)", text):
            page, _, heading = link.partition("#")
            assert (GUIDE.parent / page).exists() and (page or heading in headings)
