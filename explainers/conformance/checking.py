"""Run the checks that every explainer must pass, and report their results.

`check` reports the result of every check; `assert_conforms` is for pytest.

>>> print(check("grad_cam").results_with("pass")[2])
pass    shape                     (4, 28, 28)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from an8flower.ground.deprecated import renamed, warn_renamed
from explainers import adapters
from explainers.base import Explainer, ExplainerError, ExplainerSpec, registry
from explainers.conformance import probes
from explainers.conformance.checks import (
    FAULTS,
    MEASUREMENTS,
    TABLE,
    WARNINGS,
    FailedError,
)
from explainers.conformance.under_test import MethodUnderTest
from explainers.names import get

CHECKS = tuple(TABLE)
Status = Literal["pass", "fail", "fact", "skipped"]


@dataclass(frozen=True)
class Result:
    """The result of one check.

    Args:
        check: name of the check, one of `CHECKS`.
        status: "fact" is a measurement, a warning, or a known defect of another library's method;
            "skipped" means that the first call of the method failed already.
        detail: what was observed, one line.
    """

    check: str
    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.status:<8}{self.check:<26}{self.detail}".rstrip()


@dataclass(frozen=True)
class ConformanceReport:
    """The results of all checks for one explainer.

    Args:
        explainer: name of the explainer.
        library: the library that implements it; empty for this project's own code.
        known: its known defect, if it is another library's method that has one; else empty.
        results: one result per check, in the order of `CHECKS`.
    """

    explainer: str
    library: str
    known: str
    results: tuple[Result, ...]

    @property
    def passed(self) -> bool:
        """Whether no check fails."""
        return not self.results_with("fail")

    def results_with(self, status: Status) -> tuple[Result, ...]:
        """Return the results that have a given status."""
        return tuple(result for result in self.results if result.status == status)

    def of(self, status: Status) -> tuple[Result, ...]:
        """Deprecated name of `results_with`."""
        warn_renamed("ConformanceReport.of", "ConformanceReport.results_with")
        return self.results_with(status)

    def to_dict(self) -> dict[str, Any]:
        """Return the whole report as JSON can hold it."""
        return {**asdict(self), "results": [asdict(result) for result in self.results], "passed": self.passed}

    @property
    def count(self) -> str:
        """The number of checks that the explainer passes, as text."""
        total = len(self.results) - len(MEASUREMENTS)
        return f"{self.explainer}: {len(self.results_with('pass'))} of {total} checks pass"

    @property
    def summary(self) -> str:
        """One line: the count, the checks that fail, the warnings and the known defect."""
        facts = self.results_with("fact")
        parts = [f"fails {result.check!r}: {result.detail}" for result in self.results_with("fail")]
        parts += [
            f"warning {result.check!r}: {result.detail}" for result in facts if result.check in WARNINGS
        ]
        if self.known:
            defects = [repr(result.check) for result in facts if result.check not in MEASUREMENTS + WARNINGS]
            parts.append(f"known{': ' if defects else ''}{', '.join(defects)}: {self.known}")
        return "; ".join([self.count, *parts])

    def __str__(self) -> str:
        lines = [str(result) for result in self.results if result.status != "skipped"]
        skipped = len(self.results_with("skipped"))
        if skipped:
            lines.append(f"{'skipped':<8}{skipped} other checks: the first call failed")
        return "\n".join([self.count, *(f"  {line}" for line in lines)])


__getattr__ = renamed(__name__, {"Report": "ConformanceReport"})


def check(
    explainer: Explainer | str | Callable[..., Any], *, limit_s: float = 60.0, limit_gib: float = 8.0
) -> ConformanceReport:
    """Run an explainer on small networks and images, and report the result of every check.

    Args:
        explainer: an explainer, a name that `explainers.get` reads, or a function or class as a user
            writes it. It need not be registered or fitted.
        limit_s: time limit for a batch of 4 images, in seconds.
        limit_gib: limit of the memory that it may allocate, in GiB.
    Raises:
        UnknownNameError, ScriptError, MissingExtraError: for a name, as `explainers.get`.
    """
    checked = _as_explainer(explainer)
    known = _known(checked.spec)
    with probes.one_thread():
        results = _results(checked, limit_s, limit_gib, known)
    return ConformanceReport(checked.name, checked.spec.library, known, tuple(results))


def assert_conforms(
    explainer: Explainer | str | Callable[..., Any], *, limit_s: float = 60.0, limit_gib: float = 8.0
) -> None:
    """Raise unless an explainer passes all checks; for pytest.

    Args:
        explainer, limit_s, limit_gib: as for `check`.
    Raises:
        AssertionError: with one line per check that fails.
    """
    report = check(explainer, limit_s=limit_s, limit_gib=limit_gib)
    if not report.passed:
        raise AssertionError("\n".join([report.explainer, *map(str, report.results_with("fail"))]))


def _results(explainer: Explainer, limit_s: float, limit_gib: float, known: str) -> list[Result]:
    def fault(name: str, error: BaseException) -> Result:
        if name in WARNINGS:
            return Result(name, "fact", _line(error))
        if known:
            return Result(name, "fact", f"{_line(error)} (known: {known})")
        return Result(name, "fail", _line(error))

    try:
        method = MethodUnderTest.prepare(explainer, limit_s, limit_gib)
    except FAULTS as error:
        at = error.check if isinstance(error, ExplainerError) and error.check in CHECKS else "runs"
        return [fault(name, error) if name == at else Result(name, "skipped", "") for name in CHECKS]
    results = []
    for name, run in TABLE.items():
        try:
            results.append(Result(name, "fact" if name in MEASUREMENTS else "pass", run(method)))
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
    spec = spec or ExplainerSpec(
        name, explainer, source="the user's own", needs_fit=hasattr(explainer, "fit")
    )
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
