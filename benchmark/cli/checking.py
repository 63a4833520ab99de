"""The command that checks explainers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.console import JSON, app, out, say

if TYPE_CHECKING:
    from explainers.base import Explainer
    from explainers.conformance.checking import Report


@app.command()
def check(
    explainer: Annotated[
        list[str] | None,
        typer.Argument(help="Names, 'library:Name' or 'path/to/file.py:function'.", show_default=False),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All that are registered, and the adapted libraries'; a line each.")
    ] = False,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="What a batch may take.")] = 60.0,
    gib: Annotated[float, typer.Option("--gib", min=0.1, help="What a method may allocate.")] = 8.0,
    as_json: JSON = False,
) -> None:
    """Check that an explainer does what every one must, on small networks; exits with 1 if not.

    Example: an8flower check grad_cam my_method.py:my_method
    """
    from explainers import get
    from explainers.conformance.checking import check as report_on

    if bool(explainer) == every:
        raise typer.BadParameter("name one explainer or more, or else give --all")
    # All names are read before the first is checked, which may take a while.
    found, left_out, broken = _all() if every else ([get(name) for name in explainer or ()], [], [])
    reports: list[Report] = []
    for one in found:
        report = report_on(one, limit_s=seconds, limit_gib=gib)
        if every and _too_slow(one, report):
            left_out.append(f"{one.key}: left out, it takes more than {seconds:g} s a batch; see --seconds")
            continue
        reports.append(report)
        if not as_json:
            out.print(report.summary if every else str(report), markup=False, highlight=False, soft_wrap=True)
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
    """Every explainer there is; a line for each library that is not installed, or that cannot be used."""
    from explainers.base import Explainer
    from explainers.names import available

    there = available()
    return [Explainer.of(spec, {}) for spec in there.specs], list(there.missing), list(there.broken)


def _too_slow(explainer: Explainer, report: Report) -> bool:
    return explainer.spec.costly and any(one.check == "time" for one in report.of("fail"))
