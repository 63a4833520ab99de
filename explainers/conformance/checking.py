"""The checks that any explainer, ours or a user's, must pass.

`check` reports on all of them, `assert_conforms` is for a user's own pytest.

>>> print(check("grad_cam").of("pass")[2])
pass    shape                     (4, 28, 28)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from explainers import adapters
from explainers.base import Explainer, ExplainerError, ExplainerSpec, registry
from explainers.conformance import probes
from explainers.conformance.checks import FAULTS, MEASUREMENTS, TABLE, FailedError, Subject
from explainers.names import get

CHECKS = tuple(TABLE)
Status = Literal["pass", "fail", "fact", "skipped"]


@dataclass(frozen=True)
class Result:
    """What one check saw.

    Args:
        check: its name, one of `CHECKS`.
        status: "fact" is a measurement, or a defect of another library's method that is known;
            "skipped" if the method's first call failed already.
        detail: the value seen, one line.
    """

    check: str
    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.status:<8}{self.check:<26}{self.detail}".rstrip()


@dataclass(frozen=True)
class Report:
    """What all checks saw of one method.

    Args:
        explainer: its key.
        library: whose code it is, if not this project's.
        known: its known defect, if it is an adapted method that has one.
        results: one a check, in the order of `CHECKS`.
    """

    explainer: str
    library: str
    known: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether no check fails."""
        return not self.of("fail")

    def of(self, status: Status) -> tuple[Result, ...]:
        """The results with that status."""
        return tuple(result for result in self.results if result.status == status)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**asdict(self), "results": [asdict(result) for result in self.results], "passed": self.passed}

    @property
    def count(self) -> str:
        """How many checks it passes."""
        total = len(self.results) - len(MEASUREMENTS)
        return f"{self.explainer}: {len(self.of('pass'))} of {total} checks pass"

    @property
    def summary(self) -> str:
        """One line: the count, the checks that fail, and the known defect."""
        named = [f"fails {one.check!r}: {one.detail}" for one in self.of("fail")]
        if self.known:
            failed = [repr(one.check) for one in self.of("fact") if one.check not in MEASUREMENTS]
            named.append(f"known{': ' if failed else ''}{', '.join(failed)}: {self.known}")
        return "; ".join([self.count, *named])

    def __str__(self) -> str:
        lines = [str(result) for result in self.results if result.status != "skipped"]
        if self.of("skipped"):
            lines.append(f"{'skipped':<8}{len(self.of('skipped'))} other checks: its first call failed")
        return "\n".join([self.count, *(f"  {line}" for line in lines)])


def check(
    explainer: Explainer | str | Callable[..., Any], *, limit_s: float = 60.0, limit_gib: float = 8.0
) -> Report:
    """Try a method on small networks and images, and report what it does wrong.

    Args:
        explainer: an explainer, a name that `explainers.get` reads, or a function or class as a user
            writes it; it need not be registered, and is not fitted.
        limit_s: what a batch of 4 images may take.
        limit_gib: what it may allocate.
    Raises:
        UnknownNameError, ScriptError, MissingExtraError: for a name, as `explainers.get`.
    """
    one = _as_explainer(explainer)
    known = _known(one.spec)
    with probes.one_thread():
        results = _results(one, limit_s, limit_gib, known)
    return Report(one.key, one.spec.library, known, tuple(results))


def assert_conforms(
    explainer: Explainer | str | Callable[..., Any], *, limit_s: float = 60.0, limit_gib: float = 8.0
) -> None:
    """`check` for pytest.

    Raises:
        AssertionError: with a line for each check that fails.
    """
    report = check(explainer, limit_s=limit_s, limit_gib=limit_gib)
    if not report.passed:
        raise AssertionError("\n".join([report.explainer, *map(str, report.of("fail"))]))


def _results(explainer: Explainer, limit_s: float, limit_gib: float, known: str) -> list[Result]:
    def fault(name: str, error: BaseException) -> Result:
        return Result(
            name, "fact" if known else "fail", _line(error) + (f" (known: {known})" if known else "")
        )

    try:
        subject = Subject.of(explainer, limit_s, limit_gib)
    except FAULTS as error:
        at = error.check if isinstance(error, ExplainerError) and error.check in CHECKS else "runs"
        return [fault(name, error) if name == at else Result(name, "skipped", "") for name in CHECKS]
    results = []
    for name, seen in TABLE.items():
        try:
            results.append(Result(name, "fact" if name in MEASUREMENTS else "pass", seen(subject)))
        except FAULTS as error:
            results.append(fault(name, error))
    return results


def _as_explainer(explainer: Explainer | str | Callable[..., Any]) -> Explainer:
    if isinstance(explainer, Explainer):
        return explainer
    if isinstance(explainer, str):
        return get(explainer)
    registered = (registry.get(name) for name in registry.names())
    spec = next((spec for spec in registered if spec.build is explainer), None)
    name = getattr(explainer, "__name__", type(explainer).__name__)
    spec = spec or ExplainerSpec(name, explainer, source="a user's own", needs_fit=hasattr(explainer, "fit"))
    return Explainer(spec, spec.parameters, spec.build)


def _known(spec: ExplainerSpec) -> str:
    library, _, name = spec.name.partition(":")
    if not spec.library or library not in adapters.EXTRAS:
        return ""
    adapter = importlib.import_module(f"explainers.adapters.{library}")
    text: str = getattr(adapter, "known", lambda name: "")(name)
    return text


def _line(error: BaseException) -> str:
    if isinstance(error, FailedError):
        return str(error)
    if isinstance(error, ExplainerError):
        return error.detail
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
