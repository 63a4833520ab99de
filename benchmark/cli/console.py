"""What all commands share: the application, its options, and how it speaks."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    name="an8flower",
    help="Does this heatmap show what the network really uses? Draw the dataset, train, explain, score.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

out = Console()
notes = Console(stderr=True, highlight=False)


class GLPlatform(StrEnum):
    auto = "auto"
    egl = "egl"
    osmesa = "osmesa"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Regenerate(StrEnum):
    no = "no"
    sample = "sample"
    all = "all"


VARIANT = Annotated[str, typer.Option("--variant", help="Dataset variant; see 'list variants'.")]
MODEL = Annotated[str, typer.Option("--model", help="Architecture; see 'list models'.")]
ROOT = Annotated[Path, typer.Option("--root", help="Folder that holds a folder for each variant.")]
CHECKPOINTS = Annotated[Path, typer.Option("--checkpoints", help="Folder for trained weights.")]
RESULTS = Annotated[Path, typer.Option("--results", help="Folder for records, boards and pictures.")]
TABLES = Annotated[
    bool,
    typer.Option(
        "--tables", help="Also redo what has no table of per-image scores, which --certified-only needs."
    ),
]
FOLDS = Annotated[str, typer.Option("--folds", help="Folds from 0 to 4, e.g. '0' or '0,2'; all by default.")]
EXPLAINERS = Annotated[
    list[str] | None,
    typer.Option(
        "--explainer",
        help="May be repeated: a name, 'grad_cam@conv1', 'grad_cam@all', 'captum:Saliency', 'my.py:method'; "
        "by default all that are registered and not costly.",
    ),
]
METRICS = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        help="May be repeated: a name, or 'localisation' or 'faithfulness' for all of a kind; by default "
        "all that compare with the mask.",
    ),
]
SECONDS = Annotated[float, typer.Option("--seconds", min=0.1, help="What a method may take for a call.")]
GIB = Annotated[float, typer.Option("--gib", min=0.1, help="What a method may allocate for a call.")]
WORKERS = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes, one thread each; one a core by default."),
]
SCHEDULER = Annotated[
    str | None,
    typer.Option("--scheduler", help="Dask scheduler whose workers do it instead, e.g. tcp://10.0.0.1:8786."),
]
SEED = Annotated[int, typer.Option("--seed", min=0, help="Of the plant's shape, or of the training.")]
RETRY = Annotated[bool, typer.Option("--retry-failed", help="Measure again what failed before.")]
DEVICE = Annotated[Device, typer.Option("--device", help="Where models run.")]
PLATFORM = Annotated[GLPlatform, typer.Option("--platform", help="Off-screen OpenGL.")]
VIEWS = Annotated[str, typer.Option("--viewpoints", help="Views from 1 to 40, e.g. '1,2,3'; all by default.")]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(workers: int | None, device: Device) -> int:
    """As many as asked for; else one a core, or one for a device that all would share."""
    if workers is not None:
        return workers
    from benchmark.device import device_of

    return cores() if device_of(device.value).type == "cpu" else 1


def say(result: dict[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")
    else:
        out.print(text, markup=False, highlight=False, soft_wrap=True)


def numbers_of(text: str, option: str) -> list[int] | None:
    if not text:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option} takes numbers with commas between them, e.g. '1,2', not {text!r}"
        ) from None


def folds_of(text: str) -> list[int] | None:
    from an8flower.protocol import FOLDS

    numbers = numbers_of(text, "--folds")
    for fold in numbers or []:
        if fold not in range(FOLDS):
            raise ValueError(
                f"--folds {text}: there is no fold {fold}, there are {FOLDS}, from 0 to {FOLDS - 1}"
            )
    return numbers
