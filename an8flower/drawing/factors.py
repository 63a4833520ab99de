"""Controlled factors: what may vary beside the class, as data, all off by default.

A factor is set to a value, or to a range from which every viewpoint draws its own; the classes of
one viewpoint always share it, so that no factor tells the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from an8flower.ground.registry import unknown

Value = float | int | str
Range = tuple[float, float]
Settings = Mapping[str, Value | Range]
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Factor:
    """One thing that may vary.

    Args:
        name: as in `--factor name=value`.
        default: its value in the paper's dataset.
        choices: the words it takes, or
        low, high: the numbers it takes.
        whole: whether these are whole numbers.
        meaning: for people, with its unit.
    """

    name: str
    default: Value
    meaning: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    whole: bool = False

    @property
    def allowed(self) -> str:
        """What it takes, for people."""
        return " | ".join(self.choices) if self.choices else f"{self.low:g} to {self.high:g}"


FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("light_azimuth", 0.0, "degrees the key light is turned about the plant", -150, 150),
        Factor("light_elevation", 0.0, "degrees added to the key light's height, 46", -30, 30),
        Factor("light_strength", 1.0, "times the key light's usual strength", 0.4, 1.6),
        Factor("background", "graded", "what is behind", choices=("plain", "graded", "textured")),
        Factor("elevation", 24.0, "degrees the camera looks down", 5, 60),
        Factor("size", 1.0, "of the plant, of the most that fits every crop", 0.3, 1.0),
        Factor("flower_size", 1.0, "of the flower, times its usual size", 0.5, 1.5),
        Factor("extra_leaves", 0, "leaves more on the stem", 0, 4, whole=True),
        Factor("second_plant", 0, "1 puts a plant without flower behind", 0, 1, whole=True),
        Factor("occlusion", 0.0, "share of the discriminative part behind a board", 0, 0.7),
    )
}
DEFAULTS: dict[str, Value] = {name: factor.default for name, factor in FACTORS.items()}


def parse(texts: Iterable[str]) -> dict[str, Value | Range]:
    """Settings from texts like "size=0.6", "size=0.5..1" or "background=textured".

    Raises:
        UnknownNameError: for an unknown factor, with the closest matches.
        ValueError: for a value that the factor does not take.

    >>> parse(["size=0.5..1", "background=plain"])
    {'size': (0.5, 1.0), 'background': 'plain'}
    """
    settings: dict[str, Value | Range] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"a factor is given as name=value, e.g. size=0.6, not {text!r}")
        settings[name] = _parsed(name, value)
    return checked(settings)


def checked(settings: Settings) -> dict[str, Value | Range]:
    """The same settings, if every one is known and within its range.

    Raises:
        UnknownNameError: for an unknown factor.
        ValueError: for a value that the factor does not take.
    """
    for name, value in settings.items():
        if name not in FACTORS:
            raise unknown("factor", name, FACTORS)
        factor = FACTORS[name]
        if factor.choices:
            good = value in factor.choices
        else:
            ends = value if isinstance(value, tuple) else (value,)
            good = all(isinstance(end, int | float) and factor.low <= end <= factor.high for end in ends)
            good = good and list(ends) == sorted(ends)
            good = good and not (factor.whole and any(float(end) % 1 for end in ends))
        if not good:
            shown = "..".join(map(str, value)) if isinstance(value, tuple) else value
            whole = "whole numbers " if factor.whole else ""
            raise ValueError(f"factor {name} takes {whole}{factor.allowed}, or a range within, not {shown}")
    return dict(settings)


def values_of(settings: Settings, *, seed: int, view: int) -> dict[str, Value]:
    """The value of every factor in one viewpoint, drawn where a range is set.

    >>> values_of({"size": (0.5, 1.0)}, seed=0, view=3) == values_of({"size": (0.5, 1.0)}, seed=0, view=3)
    True
    """
    values = dict(DEFAULTS)
    for position, name in enumerate(FACTORS):
        value = settings.get(name, values[name])
        if isinstance(value, tuple):
            # A stream of its own for each factor and view: setting one moves no other.
            rng = np.random.default_rng([seed, view, position])
            low, high = value
            value = (
                int(rng.integers(int(low), int(high) + 1))
                if FACTORS[name].whole
                else float(rng.uniform(low, high))
            )
        values[name] = value
    return values


def _parsed(name: str, text: str) -> Value | Range:
    if name not in FACTORS:
        raise unknown("factor", name, FACTORS)
    factor = FACTORS[name]
    if factor.choices:
        return text
    try:
        numbers = tuple(float(part) for part in text.split(".."))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise ValueError(
            f"factor {name} takes {factor.allowed}, or a range like {factor.low:g}..{factor.high:g}"
        )
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    return int(numbers[0]) if factor.whole and not numbers[0] % 1 else numbers[0]
