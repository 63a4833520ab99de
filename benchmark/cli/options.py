"""The options that several commands share: each has one name, one meaning and one help text."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmark.cli import completion

# Panels of a command's help; what it works on comes before them, in the panel "Options".
WORK = "What to do"
FILES = "Where files are"
EXECUTION = "How it runs"
OUTPUT = "Output"


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


# The same option may stand for one value or for several, and a plan may give its default.
_variant: dict[str, Any] = {"metavar": "NAME", "autocompletion": completion.variants}
_model: dict[str, Any] = {"metavar": "NAME", "autocompletion": completion.models}
_recipe: dict[str, Any] = {"metavar": "NAME", "autocompletion": completion.recipes}
_seed: dict[str, Any] = {"metavar": "N", "min": 0}
_root: dict[str, Any] = {
    "metavar": "FOLDER", "rich_help_panel": FILES,
    "help": "Folder of the datasets; each variant has a subfolder.",
}  # fmt: skip
_checkpoints: dict[str, Any] = {
    "metavar": "FOLDER", "rich_help_panel": FILES, "help": "Folder of the trained weights.",
}  # fmt: skip
_results: dict[str, Any] = {
    "metavar": "FOLDER", "rich_help_panel": FILES, "help": "Folder of the records, boards and pictures.",
}  # fmt: skip
_limit_s: dict[str, Any] = {
    "metavar": "SECONDS", "min": 0.1, "rich_help_panel": EXECUTION,
    "help": "Time limit for one call of an explainer, in seconds.",
}  # fmt: skip
_limit_gib: dict[str, Any] = {
    "metavar": "GIB", "min": 0.1, "rich_help_panel": EXECUTION,
    "help": "Memory limit for one call of an explainer, in GiB.",
}  # fmt: skip
_device: dict[str, Any] = {"rich_help_panel": EXECUTION, "help": "Device that runs models and explainers."}

VARIANT = Annotated[str, typer.Option("--variant", help="Dataset variant; see 'list variants'.", **_variant)]
VARIANTS = Annotated[
    list[str] | None,
    typer.Option("--variant", show_default="single-6c", help="Dataset variant; may be repeated.", **_variant),
]
SHOWN_VARIANTS = Annotated[
    list[str] | None,
    typer.Option(
        "--variant", show_default="all in the results", help="Dataset variant; may be repeated.", **_variant
    ),
]
MODEL = Annotated[str, typer.Option("--model", help="Architecture; see 'list models'.", **_model)]
MODELS = Annotated[
    list[str] | None,
    typer.Option("--model", show_default="an8net", help="Architecture; may be repeated.", **_model),
]
SHOWN_MODELS = Annotated[
    list[str] | None,
    typer.Option(
        "--model", show_default="all in the results", help="Architecture; may be repeated.", **_model
    ),
]
RECIPE = Annotated[
    str, typer.Option("--recipe", help="Recipe of the training; see 'list recipes'.", **_recipe)
]
RECIPES = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe", show_default="plain", help="Recipe of the training; may be repeated.", **_recipe
    ),
]
SHOWN_RECIPES = Annotated[
    list[str] | None,
    typer.Option(
        "--recipe", show_default="all in the results", help="Recipe of the training; may be repeated.",
        **_recipe,
    ),
]  # fmt: skip
EXPLAINERS = Annotated[
    list[str] | None,
    typer.Option(
        "--explainer", metavar="NAME", autocompletion=completion.explainers,
        show_default="all registered ones that are not costly",
        help="Explainer: a name from 'list explainers', grad_cam@conv1, grad_cam@all, captum:Saliency or "
        "my.py:my_method; may be repeated.",
    ),
]  # fmt: skip
METRICS = Annotated[
    list[str] | None,
    typer.Option(
        "--metric", metavar="NAME", autocompletion=completion.metrics, show_default="localisation",
        help="Metric: a name from 'list metrics', or a kind of metrics, 'localisation' or 'faithfulness'; "
        "may be repeated.",
    ),
]  # fmt: skip
FOLDS = Annotated[
    str,
    typer.Option(
        "--folds", metavar="N,...", show_default="all", help="Folds, from 0 to 4, separated by commas."
    ),
]
VIEWPOINTS = Annotated[
    str,
    typer.Option(
        "--viewpoints", metavar="N,...", show_default="all", help="Views, from 1 to 40, separated by commas."
    ),
]
SEED = Annotated[int, typer.Option("--seed", help="Seed of the training.", **_seed)]
SEEDS = Annotated[
    list[int] | None,
    typer.Option("--seed", show_default="0", help="Seed of the training; may be repeated.", **_seed),
]
DRAWING_SEED = Annotated[int, typer.Option("--drawing-seed", help="Seed of the plant's shape.", **_seed)]
PLAN_DRAWING_SEED = Annotated[
    int | None,
    typer.Option("--drawing-seed", show_default="0", help="Seed of the plant's shape.", **_seed),
]
CHECKPOINT = Annotated[
    Path,
    typer.Option(
        "--checkpoint", metavar="FILE", help="Weights of the model: a .safetensors file that 'train' wrote."
    ),
]

ROOT = Annotated[Path, typer.Option("--root", **_root)]
PLAN_ROOT = Annotated[Path | None, typer.Option("--root", show_default="data", **_root)]
CHECKPOINTS = Annotated[Path, typer.Option("--checkpoints", **_checkpoints)]
PLAN_CHECKPOINTS = Annotated[
    Path | None, typer.Option("--checkpoints", show_default="checkpoints", **_checkpoints)
]
RESULTS = Annotated[Path, typer.Option("--results", **_results)]
PLAN_RESULTS = Annotated[Path | None, typer.Option("--results", show_default="runs", **_results)]

LIMIT_S = Annotated[float, typer.Option("--limit-s", **_limit_s)]
PLAN_LIMIT_S = Annotated[float | None, typer.Option("--limit-s", show_default="600", **_limit_s)]
LIMIT_GIB = Annotated[float, typer.Option("--limit-gib", **_limit_gib)]
PLAN_LIMIT_GIB = Annotated[float | None, typer.Option("--limit-gib", show_default="8", **_limit_gib)]
DEVICE = Annotated[Device, typer.Option("--device", **_device)]
PLAN_DEVICE = Annotated[Device | None, typer.Option("--device", show_default="cpu", **_device)]
WORKERS = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=1, rich_help_panel=EXECUTION, show_default="one per core; 1 on a GPU",
        help="Number of processes, with one thread each.",
    ),
]  # fmt: skip
SCHEDULER = Annotated[
    str | None,
    typer.Option(
        "--scheduler", metavar="ADDRESS", rich_help_panel=EXECUTION,
        help="Dask scheduler whose workers run the jobs instead, e.g. tcp://10.0.0.1:8786.",
    ),
]  # fmt: skip
PLATFORM = Annotated[
    GLPlatform,
    typer.Option("--platform", rich_help_panel=EXECUTION, help="Off-screen OpenGL that draws the plants."),
]
RETRY_FAILED = Annotated[
    bool,
    typer.Option("--retry-failed", rich_help_panel=WORK, help="Measure again what failed in an earlier run."),
]
TABLES = Annotated[
    bool,
    typer.Option(
        "--tables", rich_help_panel=WORK,
        help="Also repeat finished work whose table of per-image scores is missing; 'leaderboard "
        "--certified-only' needs these tables.",
    ),
]  # fmt: skip
JSON = Annotated[bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print the result as JSON.")]


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(workers: int | None, device: Device) -> int:
    """Return the number of processes: as given, or else one per core, or one if they would share a GPU."""
    if workers is not None:
        return workers
    from benchmark.device import device_of

    return cores() if device_of(device.value).type == "cpu" else 1


def numbers_of(text: str, option: str) -> list[int] | None:
    """Return the numbers in the value of an option; None if it is empty.

    >>> numbers_of("1,2", "--folds"), numbers_of("", "--folds")
    ([1, 2], None)
    """
    if not text:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"{option} takes whole numbers separated by commas, e.g. '1,2', not {text!r}"
        ) from None


def folds_of(text: str) -> list[int] | None:
    """Return the numbers in the value of --folds; None if it is empty.

    Raises:
        ValueError: if one of them is not a fold.
    """
    from an8flower.protocol import FOLDS

    numbers = numbers_of(text, "--folds")
    for fold in numbers or []:
        if fold not in range(FOLDS):
            raise ValueError(
                f"--folds {text}: fold {fold} does not exist; folds are numbered 0 to {FOLDS - 1}"
            )
    return numbers
