"""Does a model go by the part? Flags an image, shares of them, and a verdict in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

from benchmark.certificate.pictures import PLACE, Twinned

# Chosen before any model was looked at: one image in ten may be an exception, as a part seen edge-on is.
NECESSITY = 0.9  # of what can be reached, see `expected_necessity`
SUFFICIENCY = 0.9
SWAP = 0.9

SHARES = ("necessity", "sufficiency", "swap", "passed")


def certify(
    model: nn.Module,
    pictures: Twinned,
    *,
    batch: int = 96,
    device: torch.device | str = "cpu",
    done: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Ask a model about images, their twins, and images with another class's part.

    Args:
        model: any classifier from (N, 3, H, W) float32 in [0, 1] to logits (N, C), in eval mode.
        pictures: images with their twins.
        batch: images at once, each in four pictures.
        device: where the model is.
        done: told how many more images were asked about.
    Returns:
        a row an image: class, view, crop, rotation (from 1), and the classes (from 0) `predicted` on the
        image, `without_part`, `part_only` and `swapped` on the other three, `partner`; then `judged`'s flags.
    """
    parts: list[pd.DataFrame] = []
    for one in pictures.batches(batch):
        given = torch.cat([one.image, one.all_but_part, one.part_only, one.swapped]).to(device)
        with torch.no_grad():
            answers = model(given).argmax(1).cpu().numpy().reshape(4, -1)
        about = pictures.images.table.iloc[one.rows][["class", *PLACE]].reset_index(drop=True)
        columns = ("predicted", "without_part", "part_only", "swapped")
        named = dict(zip(columns, answers, strict=True))
        parts.append(about.assign(**named, partner=one.partner))
        if done is not None:
            done(len(one.rows))
    return judged(pd.concat(parts, ignore_index=True))


def judged(answers: pd.DataFrame) -> pd.DataFrame:
    """Answers with what they come to, a row an image.

    Adds flags: `lost`: without the part the predicted class is not predicted any more; `default`: without
    it the answer is the same for the images of all classes in this view, crop and rotation, so that it
    tells nothing of the class; `kept`: the part alone is enough; `follows`: with another class's part the
    prediction is that class; `passed`: (lost or default), kept, and follows.
    """
    lost = answers["without_part"] != answers["predicted"]
    default = answers.groupby(PLACE)["without_part"].transform("nunique") == 1
    kept = answers["part_only"] == answers["predicted"]
    follows = answers["swapped"] == answers["partner"]
    flags = {"lost": lost, "default": default, "kept": kept, "follows": follows}
    return answers.assign(**flags, passed=(lost | default) & kept & follows)


def expected_necessity(classes: int) -> float:
    """The share of images that lose their class, in a model that knows nothing of it without the part.

    It must still name a class, and names the same one on the plants without part of all C classes of a view,
    which are the same picture. The one image of these C that was of this class keeps it: 1 - 1/C lose it.

    >>> expected_necessity(2)
    0.5
    """
    return 1 - 1 / classes


@dataclass(frozen=True)
class Shares:
    """Of a fold's test images, in [0, 1].

    Args:
        images: how many.
        necessity: lose the predicted class without the part.
        necessity_expected: would lose it, if the model knew the class by the part alone.
        default: keep it, but by default: so do those of all other classes in that view, crop and rotation.
        sufficiency: keep it with the part alone.
        swap: get the class whose part they are given.
        passed: pass all three.
    """

    images: int
    necessity: float
    necessity_expected: float
    default: float
    sufficiency: float
    swap: float
    passed: float


def failures(found: Shares, flags: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """What is not as it must be, in words, one text a test; none for a model that is certified.

    Args:
        found: of these flags.
        flags: as `certify` gives them.
        classes: names of the classes, in their order.
    """
    texts = []
    lost = flags["lost"] | flags["default"]
    wanted = NECESSITY * found.necessity_expected
    if found.necessity < wanted:
        texts.append(
            f"necessity {found.necessity:.1%} is below {wanted:.1%}: images keep their class without the "
            f"part, so something else tells it{_worst(lost, flags, classes)}"
        )
    if found.sufficiency < SUFFICIENCY:
        texts.append(
            f"sufficiency {found.sufficiency:.1%} is below {SUFFICIENCY:.0%}: images lose their class with "
            f"the part alone, so it takes more{_worst(flags['kept'], flags, classes)}"
        )
    if found.swap < SWAP:
        texts.append(
            f"swap {found.swap:.1%} is below {SWAP:.0%}: images with another class's part are not taken for "
            f"it, so the part does not decide{_worst(flags['follows'], flags, classes)}"
        )
    return texts


def _worst(good: pd.Series, flags: pd.DataFrame, classes: Sequence[str]) -> str:
    """Where a test fails most: the classes of which it fails for more than one image in ten."""
    by_class = (~good).groupby(flags["class"]).mean().sort_values(ascending=False, kind="stable")
    named = [f"{classes[one - 1]}: {share:.0%}" for one, share in by_class.items() if share > 0.1]
    return f" ({', '.join(named)})" if 0 < len(named) < len(classes) else ""


def shares(flags: pd.DataFrame, classes: int) -> Shares:
    """What the flags of `certify` come to in all."""
    share = {name: float(flags[column].mean()) for name, column in _COLUMNS.items()}
    by_default = float((flags["default"] & ~flags["lost"]).mean())
    return Shares(
        images=len(flags), necessity_expected=expected_necessity(classes), default=by_default, **share
    )


def shares_by_view(flags: pd.DataFrame) -> dict[str, list[int] | list[float]]:
    """The same by viewpoint, for statistics: images of one view are alike, views less so.

    Returns:
        lists of equal length: "view", "images", and each of `SHARES`.
    """
    grouped = flags.groupby("view")
    means = {name: grouped[column].mean().tolist() for name, column in _COLUMNS.items()}
    return {"view": [int(view) for view in grouped.groups], "images": grouped.size().tolist(), **means}


_COLUMNS = dict(zip(SHARES, ("lost", "kept", "follows", "passed"), strict=True))
