"""The command that writes the files from which a user's own explainer starts."""

from __future__ import annotations

import importlib.util
import keyword
import shlex
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from benchmark.cli.console import say
from benchmark.cli.options import JSON, OUTPUT

METHOD = Template('''\
import torch
from an8flower.explainers import explainer
from an8flower.explainers.maps import reduced


@explainer(source="Simonyan et al. 2014, arXiv 1312.6034", reduction="l2 norm over the 3 channels")
def $name(model, images, targets):
    """Gradient of the class score with respect to the pixels."""
    pixels = images.clone().requires_grad_()
    score = model(pixels).gather(1, targets[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, pixels)
    return reduced(gradient)
''')

TEST = Template('''\
from an8flower.explainers.conformance import assert_conforms

from $name import $name


def test_${name}_conforms():
    """It meets the interface of explainers; 'an8flower check' shows each check."""
    assert_conforms($name)
''')


def new_explainer(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the method, a Python name, e.g. my_cam.")
    ],
    folder: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            rich_help_panel=OUTPUT,
            help="Folder to write the two files to.",
            show_default="the current folder",
        ),
    ] = Path(),
    as_json: JSON = False,
) -> None:
    """Write a working explainer and its test.

    Start your own method from these files.

    Example: an8flower new-explainer my_method
    """
    from an8flower.ground import files

    written = {folder / f"{name}.py": METHOD, folder / f"test_{name}.py": TEST}
    _must_be_free(name, list(written))
    for path, template in written.items():
        files.write(path, template.substitute(name=name).encode())
    method, test = (shlex.quote(str(path)) for path in written)
    following = [
        f"an8flower check {method}:{name}",
        f"an8flower evaluate --explainer {method}:{name} --folds 0",
        "an8flower leaderboard",
    ]
    lines = [f"wrote {method}, and its test {test}", "Next:", *(f"  {command}" for command in following)]
    say({"files": [str(path) for path in written], "next": following}, as_json, "\n".join(lines))


def _must_be_free(name: str, paths: list[Path]) -> None:
    import explainers

    if not name.isidentifier() or keyword.iskeyword(name):
        raise ValueError(f"{name!r} is not a valid name for a Python function; use letters, digits and _")
    for path in paths:
        if path.exists():
            raise ValueError(f"{path} exists already; choose another name, or another folder with --out")
    if name in explainers.names():
        raise ValueError(f"there is an explainer {name!r} already; choose another name")
    if importlib.util.find_spec(name):
        raise ValueError(
            f"there is a Python module {name!r} that {paths[0].name} would hide; choose another name"
        )
