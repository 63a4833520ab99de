"""The command that checks explainers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli import completion
from benchmark.cli.console import out, say
from benchmark.cli.options import JSON, LIMIT_GIB, LIMIT_S

if TYPE_CHECKING:
    from explainers.base import Explainer
    from explainers.conformance.checking import ConformanceReport


def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="EXPLAINER...",
            autocompletion=completion.explainers,
            show_default=False,
            help="Names, e.g. grad_cam, captum:Saliency or my.py:my_method.",
        ),
    ] = None,
    check_all: Annotated[
        bool,
        typer.Option("--all", help="Check all registered explainers and all those of adapted libraries."),
    ] = False,
    limit_s: LIMIT_S = 60.0,
    limit_gib: LIMIT_GIB = 8.0,
    as_json: JSON = False,
) -> None:
    """Check that explainers meet the interface.

    They are called on small networks. The exit status is 1 if a check fails.

    Example: an8flower check grad_cam my_method.py:my_method
    """
    from explainers import get
    from explainers.conformance.checking import check as report_on

    if bool(names) == check_all:
        raise typer.BadParameter("name one explainer or more, or give --all")
    # All names are looked up before the first explainer is checked, because a check may take long.
    asked, left_out, broken = _all() if check_all else ([get(name) for name in names or ()], [], [])
    reports: list[ConformanceReport] = []
    for explainer in asked:
        report = report_on(explainer, limit_s=limit_s, limit_gib=limit_gib)
        if check_all and _too_slow(explainer, report):
            left_out.append(
                f"{explainer.name}: left out, it takes more than {limit_s:g} s per batch; see --limit-s"
            )
            continue
        reports.append(report)
        if not as_json:
            text = report.summary if check_all else str(report)
            out.print(text, markup=False, highlight=False, soft_wrap=True)
    failing = [report.explainer for report in reports if not report.passed]
    result = {
        "passed": not (failing or broken),
        "explainers": [report.to_dict() for report in reports],
        "left_out": left_out,
        "broken": broken,
    }
    named = f": {', '.join(failing)}" if failing else ""
    lines = [*left_out, *broken, f"{len(reports)} checked, {len(failing)} fail{named}"]
    say(result, as_json, "\n".join(lines))
    raise typer.Exit(0 if result["passed"] else 1)


def _all() -> tuple[list[Explainer], list[str], list[str]]:
    """Return all explainers, and one line for each library that is not installed, or that is broken."""
    from explainers.base import Explainer
    from explainers.names import available

    methods = available()
    explainers = [Explainer.from_spec(spec) for spec in methods.specs]
    return explainers, list(methods.missing), list(methods.broken)


def _too_slow(explainer: Explainer, report: ConformanceReport) -> bool:
    return explainer.spec.costly and any(result.check == "time" for result in report.results_with("fail"))
