"""Recognise a ReLU however it is written, e.g. `torch.maximum(x, 0)`, `x * (x > 0)` or `(x + abs(x)) / 2`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

# Functions that are a ReLU with certain arguments, or a part of one, and the names of their arguments.
ORDERS: dict[str, tuple[str, ...]] = {
    "leaky_relu": ("input", "slope", "inplace"),
    "elu": ("input", "slope", "inplace"),
    "prelu": ("input", "slope"),
    "rrelu": ("input", "lower", "upper", "training", "inplace"),
    "threshold": ("input", "threshold", "value", "inplace"),
    "masked_fill": ("input", "mask", "value"),
    "setitem": ("input", "mask", "value"),
    "where": ("mask", "input", "other"),
    **dict.fromkeys(("clamp", "clip"), ("input", "min", "max")),
    "clamp_min": ("input", "min"),
    "clamp_max": ("input", "max"),
    **dict.fromkeys(("abs", "absolute", "heaviside", "neg"), ("input",)),
    "einsum": ("equation", "input", "other"),
    "addcmul": ("base", "input", "other"),
    "rsub": ("other", "input"),
    "amax": ("input", "dim"),
    "stack": ("tensors", "dim"),
    **dict.fromkeys(
        (
            *("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide"),
            *("max", "maximum", "fmax", "min", "minimum", "fmin"),
            *("gt", "greater", "ge", "greater_equal", "lt", "less", "le", "less_equal"),
        ),
        ("input", "other"),
    ),
}
_SLOPES = {"leaky_relu": ("negative_slope", 0.01), "elu": ("alpha", 1.0), "prelu": ("weight", None)}
_ABOVE = ("gt", "greater", "ge", "greater_equal")
_BELOW = ("lt", "less", "le", "less_equal")
_TIMES = ("mul", "multiply")
_OVER = ("div", "divide", "true_divide")
_OPPOSITES = frozenset(("logical_not", "invert", "bitwise_not"))
# Functions after which a mask is still the same mask.
_CONVERSIONS = frozenset(
    ("to", "type", "type_as", "float", "half", "bfloat16", "double", "int", "long", "clone", "contiguous")
)


@dataclass(frozen=True)
class _Note:
    """What a tensor is of another, its source.

    Args:
        kind: "positive" or "negative", the mask of where the source is; "abs"; "neg"; "below", what is below
            0; "minus", minus its ReLU; "twice", two times its ReLU; "stacked", it and zeros.
        source: the other tensor.
        version: its version, to tell whether it was overwritten since.
    """

    kind: str
    source: torch.Tensor
    version: int

    def is_of(self, tensor: Any, *kinds: str) -> bool:
        return self.source is tensor and self.version == tensor._version and self.kind in kinds


class Spellings:
    """Follow the calls of a forward pass and tell which of them complete a ReLU.

    Args:
        depends: whether a tensor depends on the images; a tensor of zeros that does is no constant.
    """

    def __init__(self, depends: Callable[[torch.Tensor], bool]) -> None:
        self._depends = depends
        self._notes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        self._copies: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def as_relu(self, name: str, given: Mapping[str, Any]) -> tuple[torch.Tensor, float | None] | None:
        """Return the input and the upper bound, if any, of a call that is a ReLU; else None."""
        x: Any = given.get("input")
        other = given.get("other")
        if name in _SLOPES:
            return (x, None) if self._is_zero(given["slope"], x) else None
        if name == "rrelu":
            sloped = given.get("lower", 1 / 8) or given.get("upper", 1 / 3)
            return None if sloped else (x, None)
        if name == "threshold":
            return (x, None) if given["threshold"] == 0 and given["value"] == 0 else None
        if name in ("clamp", "clip", "clamp_min") and isinstance(given.get("min"), torch.Tensor):
            top = given.get("max")
            if not self._is_zero(given["min"], x) or (isinstance(top, torch.Tensor) and top.numel() > 1):
                return None
            return x, None if top is None else float(top)
        if name in ("max", "maximum", "fmax"):
            return self._beside_zero(x, other)
        if name in ("masked_fill", "setitem"):
            mask, value = self._noted(given.get("mask")), given.get("value")
            of_this = mask is not None and any(mask.is_of(one, "negative") for one in (x, self._original(x)))
            return (x, None) if of_this and self._is_zero(value, x) else None
        if name == "where":
            mask = self._noted(given.get("mask"))
            if mask is None:
                return None
            for kept, cut, kind in ((x, other, "positive"), (other, x, "negative")):
                if mask.is_of(kept, kind) and self._is_zero(cut, kept):
                    return mask.source, None
            return None
        if name in _TIMES or (name == "einsum" and _is_product(given)) or self._adds_nothing(name, given):
            for kept, mask in ((x, other), (other, x)):
                note = self._noted(mask)
                if note is not None and note.is_of(kept, "positive"):
                    return note.source, None
        if name in (*_TIMES, *_OVER):
            halved = 0.5 if name in _TIMES else 2
            for twice, factor in ((x, other), (other, x)) if name in _TIMES else ((x, other),):
                note = self._noted(twice)
                if note is not None and note.is_of(note.source, "twice") and _equals(factor, halved):
                    return note.source, None
        if name == "amax":
            note = self._noted(x)
            stacked = note is not None and note.kind == "stacked" and given.get("dim") in (0, (0,), [0])
            return (note.source, None) if note is not None and stacked else None
        if name in ("sub", "subtract"):
            note = self._noted(other)
            return (note.source, None) if note is not None and note.is_of(x, "below") else None
        if name == "neg":
            note = self._noted(x)
            return (note.source, None) if note is not None and note.is_of(note.source, "minus") else None
        return None

    def _adds_nothing(self, name: str, given: Mapping[str, Any]) -> bool:
        base, is_plain = given.get("base"), given.get("value", 1) == 1
        return name == "addcmul" and is_plain and self._is_zero(base, given.get("input"))

    def _original(self, tensor: Any) -> Any:
        """Return the tensor that this is still a copy of, else itself."""
        if isinstance(tensor, torch.Tensor) and tensor in self._copies and tensor._version == 0:
            source, version = self._copies[tensor]
            return source if source._version == version else tensor
        return tensor

    def _noted(self, value: Any) -> _Note | None:
        note: _Note | None = None
        if isinstance(value, torch.Tensor):
            note = self._notes.get(value)  # type: ignore[no-untyped-call]
        return note

    def converted(self, name: str, source: Any, output: Any) -> None:
        """Remember that the output is a copy, the same mask or the opposite one, if the call makes it so."""
        note = self._noted(source)
        if note is None and name == "clone" and isinstance(source, torch.Tensor):
            self._copies[output] = source, source._version
        if note is None:
            return
        if name in _CONVERSIONS:
            self._notes[output] = note
        elif name in _OPPOSITES:
            self._opposed(source, output)

    def _opposed(self, mask: Any, output: torch.Tensor) -> None:
        note = self._noted(mask)
        if note is not None:
            kind = {"positive": "negative", "negative": "positive"}.get(note.kind, "")
            self._notes[output] = _Note(kind, note.source, note.version)

    def note(self, name: str, given: Mapping[str, Any], output: Any) -> None:
        """Remember what the output is of its input, if it may be a part of a ReLU."""
        x, other = given.get("input"), given.get("other")
        kind, source = "", x
        if name == "rsub" and _equals(given.get("input"), 1):
            self._opposed(other, output)
        if name == "stack" and given.get("dim", 0) == 0 and len(given["tensors"]) == 2:
            beside = self._beside_zero(*given["tensors"])
            kind, source = ("stacked", beside[0]) if beside else ("", None)
        if name in (*_ABOVE, *_BELOW):
            above = name in _ABOVE
            if self._is_zero(other, x):
                kind = "positive" if above else "negative"
            elif self._is_zero(x, other):
                kind, source = ("negative" if above else "positive"), other
        elif name == "heaviside":
            kind = "positive"
        elif name in ("abs", "absolute", "neg"):
            kind = name[:3]
        elif name == "add":
            for term, rest in ((x, other), (other, x)):
                note = self._noted(rest)
                if note is not None and note.is_of(term, "abs"):
                    kind, source = "twice", term
        elif name in ("min", "minimum", "fmin") and (below := self._beside_zero(x, other)):
            kind, source = "below", below[0]
            note = self._noted(source)
            if note is not None and note.is_of(note.source, "neg"):
                kind, source = "minus", note.source
        elif name in ("clamp", "clip", "clamp_max") and given.get("min") is None:
            kind = "below" if self._is_zero(given.get("max"), x) else ""
        if kind and isinstance(source, torch.Tensor):
            self._notes[output] = _Note(kind, source, source._version)

    def _beside_zero(self, one: Any, other: Any) -> tuple[torch.Tensor, None] | None:
        """Return the operand beside a tensor of zeros."""
        for x, zero in ((one, other), (other, one)):
            if isinstance(zero, torch.Tensor) and isinstance(x, torch.Tensor) and self._is_zero(zero, x):
                return x, None
        return None

    def _is_zero(self, value: Any, x: Any) -> bool:
        """Return whether a value is 0 and does not depend on the images; `x` is the tensor beside it."""
        if not isinstance(x, torch.Tensor):
            return False
        if not isinstance(value, torch.Tensor):
            return isinstance(value, int | float) and value == 0
        if self._depends(value) or value.numel() == 0 or value.any():
            return False
        return value.dim() <= x.dim() and all(
            mine in (1, full) for mine, full in zip(value.shape[::-1], x.shape[::-1], strict=False)
        )


def arguments(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    given = {**dict(zip(ORDERS[name], args, strict=False)), **kwargs}
    if name in _SLOPES:
        spelled, default = _SLOPES[name]
        given.setdefault("slope", given.pop(spelled, default))
    if name == "einsum" and isinstance(given.get("input"), list | tuple):
        given.update(zip(("input", "other"), given["input"], strict=False))
    if name == "where":
        given["mask"] = given.pop("condition", given.get("mask"))
        if "self" in given:
            given["input"] = given.pop("self")
        mask, x = given.get("mask"), given.get("input")
        if _is_mask(x) and not _is_mask(mask):  # Tensor.where(mask, other)
            given["mask"], given["input"] = x, mask
    return given


def _is_mask(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool


def _is_product(given: Mapping[str, Any]) -> bool:
    """Return whether an einsum multiplies two tensors element by element, e.g. "nchw,nchw->nchw"."""
    ends = str(given["equation"]).replace(" ", "").replace("->", ",").split(",")
    return len(ends) == 3 and len(set(ends)) == 1 and len(set(ends[0])) == len(ends[0])


def _equals(value: Any, number: float) -> bool:
    if isinstance(value, torch.Tensor):
        return value.numel() == 1 and float(value) == number
    return bool(value == number)
