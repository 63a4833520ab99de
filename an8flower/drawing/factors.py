"""Controlled factors: what may vary in addition to the class. By default none of them varies.

A factor is set to a value, or to a range from which each view draws its own value. All classes of a view
share the value, so that no factor reveals the class. The one exception is made on purpose: with the factor
"cheat", a patch or the pot has a colour of the class, too; see `cheat`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from an8flower.ground.registry import unknown
from an8flower.protocol import CHEATS

Value = float | int | str
Range = tuple[float, float]
Settings = Mapping[str, Value | Range]
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Factor:
    """A property of the scene that may vary.

    Args:
        name: as in `--factor name=value`.
        default: its value in the dataset of the paper.
        meaning: description with the unit.
        low, high: range of its values, if they are numbers.
        choices: its values, if they are words.
        whole: whether its values are whole numbers.
        needs: name of a factor that must be set, too; without it this one has no effect.
    """

    name: str
    default: Value
    meaning: str
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    whole: bool = False
    needs: str = ""

    @property
    def allowed(self) -> str:
        """The allowed values as text."""
        return " | ".join(self.choices) if self.choices else f"{self.low:g} to {self.high:g}"


FACTORS: dict[str, Factor] = {
    factor.name: factor
    for factor in (
        Factor("light_azimuth", 0.0, "rotation of the key light around the plant, in degrees", -150, 150),
        Factor("light_elevation", 0.0, "degrees added to the elevation of the key light, 44", -30, 30),
        Factor("light_strength", 1.0, "strength of the key light, relative to its default", 0.4, 1.6),
        Factor("background", "graded", "what is behind the plant", choices=("plain", "graded", "textured")),
        Factor("elevation", 24.0, "degrees by which the camera looks down", 5, 60),
        Factor("size", 1.0, "size of the plant, relative to the largest that fits into every crop", 0.3, 1.0),
        Factor("flower_size", 1.0, "size of the flower, relative to its default", 0.5, 1.5),
        Factor("extra_leaves", 0, "number of additional leaves on the stem", 0, 4, whole=True),
        Factor("second_plant", 0, "1 puts a plant without a flower behind the plant", 0, 1, whole=True),
        Factor("occlusion", 0.0, "share of the discriminative part that is hidden by a board", 0, 0.7),
        # The random stream of a factor is its position: new factors come last.
        Factor(
            "cheat", "none", "what else has a colour of the class: a patch on the wall, or the pot",
            choices=("none", *CHEATS),
        ),
        Factor(
            "cheat_share", 1.0, "share of the frames whose cheat has the colour of their own class",
            0, 1, needs="cheat",
        ),
        Factor(
            "light_hue", 0.0, "hue of all light, in degrees: 0 red, 120 green, 240 blue", 0, 360,
            needs="light_saturation",
        ),
        Factor("light_saturation", 0.0, "how coloured all light is; 0 is the light of the paper", 0, 0.9),
    )
}  # fmt: skip
DEFAULTS: dict[str, Value] = {name: factor.default for name, factor in FACTORS.items()}


def parse(texts: Iterable[str]) -> dict[str, Value | Range]:
    """Parse settings written as "size=0.6", "size=0.5..1" or "background=textured".

    Args:
        texts: one text per factor.
    Returns:
        value or range (low, high) by name of the factor.
    Raises:
        UnknownNameError: for an unknown factor; the message names the closest matches.
        ValueError: for a value that the factor does not allow, a factor without one that it needs, or one
            that is set twice.

    >>> parse(["size=0.5..1", "background=plain"])
    {'size': (0.5, 1.0), 'background': 'plain'}
    """
    settings: dict[str, Value | Range] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"write a factor as name=value, e.g. size=0.6; got {text!r}")
        if name in settings:
            raise ValueError(f"factor {name} is set twice; set it once")
        settings[name] = _parsed(name, value)
    return checked(settings)


def checked(settings: Settings) -> dict[str, Value | Range]:
    """Return a copy of the settings after a check that each factor is known and within its range.

    Numbers of NumPy become those of Python, which JSON has, too.

    Raises:
        UnknownNameError: for an unknown factor; the message names the closest matches.
        ValueError: for a value that the factor does not allow, or a factor without one that it needs.
    """
    settings = {name: _plain(value) for name, value in settings.items()}
    for name, value in settings.items():
        if name not in FACTORS:
            raise unknown("factor", name, FACTORS)
        factor = FACTORS[name]
        if factor.choices:
            valid = value in factor.choices
        else:
            ends = value if isinstance(value, tuple) else (value,)
            valid = all(isinstance(end, int | float) and factor.low <= end <= factor.high for end in ends)
            valid = valid and list(ends) == sorted(ends)
            valid = valid and not (factor.whole and any(float(end) % 1 for end in ends))
        if not valid:
            shown = "..".join(map(str, value)) if isinstance(value, tuple) else value
            raise ValueError(f"factor {name} must be {_described(factor)}; got {shown}")
    for name in settings:
        needs = FACTORS[name].needs
        if needs and settings.get(needs, DEFAULTS[needs]) == DEFAULTS[needs]:
            raise ValueError(f"factor {name} has no effect without the factor {needs}; set {needs}, too")
    return settings


def values_of(settings: Settings, *, seed: int, view: int) -> dict[str, Value]:
    """Return the value of every factor in one view; a factor set to a range gets a random value from it.

    Args:
        settings: the factors that are set; all others have their default.
        seed: of the dataset.
        view: from 1.

    >>> values_of({"size": (0.5, 1.0)}, seed=0, view=3) == values_of({"size": (0.5, 1.0)}, seed=0, view=3)
    True
    """
    values = dict(DEFAULTS)
    for position, name in enumerate(FACTORS):
        value = settings.get(name, values[name])
        if isinstance(value, tuple):
            # One random stream per factor and view: setting one factor does not change the others.
            rng = np.random.default_rng([seed, view, position])
            low, high = value
            value = (
                int(rng.integers(int(low), int(high) + 1))
                if FACTORS[name].whole
                else float(rng.uniform(low, high))
            )
        values[name] = value
    return values


def _plain(value: Value | Range) -> Value | Range:
    if isinstance(value, tuple):
        return cast(Range, tuple(end.item() if isinstance(end, np.generic) else end for end in value))
    return cast(Value, value.item()) if isinstance(value, np.generic) else value


def _described(factor: Factor) -> str:
    if factor.choices:
        return f"one of {factor.allowed}"
    whole = "a whole number from " if factor.whole else ""
    return f"{whole}{factor.allowed}, or a range such as {factor.low:g}..{factor.high:g}"


def _parsed(name: str, text: str) -> Value | Range:
    if name not in FACTORS:
        raise unknown("factor", name, FACTORS)
    factor = FACTORS[name]
    if factor.choices:
        return text
    try:
        numbers = tuple(float(number) for number in text.split(".."))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 2):
        raise ValueError(f"factor {name} must be {_described(factor)}; got {text}")
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    return int(numbers[0]) if factor.whole and not numbers[0] % 1 else numbers[0]
