"""Numbers, fields and plans in the pages on results are those of the code and of results/."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import skew

import explainers
from an8flower.folds import fold_of
from an8flower.protocol import FOLDS, VIEWPOINTS
from benchmark.board.model_set import board_records
from benchmark.certificate import judging, read_certificates
from benchmark.certificate.interventions import SHIFT_PX
from benchmark.experiments.evidence.clusters import FAR, NEXT, error_ratio, likeness
from benchmark.measuring.groups import UNIT
from benchmark.plan import Plan, read_plan
from benchmark.record import Record, to_json
from benchmark.setups import model_name
from benchmark.statistics import compared, groups, scores_by_view
from benchmark.store import cell_of
from benchmark.training.lessons import MOVED_PX
from benchmark.training.recipes import recipes

PROJECT = Path(__file__).parent.parent
DOCS, RESULTS = PROJECT / "docs", PROJECT / "results"
VARIANTS = ("single-6c", "double-12c", "part-2c")
# Recipes whose models have published certificates.
RECIPES = [
    recipe
    for recipe in ("certified", "plain")
    if (RESULTS / "double-12c" / model_name("an8net", recipe) / "certificate").exists()
]


def page(name: str) -> str:
    return (DOCS / name).read_text()


def text(name: str) -> str:
    """A page without line breaks."""
    return " ".join(page(name).split())


def table(name: str, heading: str) -> list[dict[str, str]]:
    """The rows of the table of a page whose first line contains `heading`; without marks of bold and code."""
    lines = page(name).splitlines()
    (start,) = [k for k, line in enumerate(lines) if line.startswith("|") and heading in line]
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip(" *") for cell in line.split("|")[1:-1]])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


@cache
def records(variant: str) -> list[Record]:
    return board_records(RESULTS, variant, "an8net").records


@cache
def scores(variant: str) -> pd.DataFrame:
    """Scores by view of the methods, as the board compares them."""
    methods = [record for record in records(variant) if record.role == "method"]
    return scores_by_view(methods).dropna(axis=1)


class TestCertificate:
    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_shares_of_the_models(self, variant, recipe):
        rows = table("certificate.md", "images that pass |")
        (shown,) = (row for row in rows if (row["recipe"], row["variant"]) == (f"`{recipe}`", variant))
        certificates = read_certificates(RESULTS, variant, model_name("an8net", recipe))
        percent = 100 * certificates[[*judging.SHARES, "necessity_expected"]]

        def numbers(heading: str) -> list[float]:
            return [float(number) for number in re.findall(r"[\d.]+", shown[heading])]

        def mean_and_range(name: str) -> list[float]:
            mean, least, most = percent[name].mean(), percent[name].min(), percent[name].max()
            return [mean] if f"{least:.1f}" == f"{most:.1f}" else [mean, least, most]

        expected = [*mean_and_range("necessity"), percent["necessity_expected"].mean()]
        assert numbers("necessity, highest possible") == pytest.approx(expected, abs=0.051)
        for name in ("sufficiency", "swap"):
            assert numbers(name) == pytest.approx(mean_and_range(name), abs=0.051)
        assert numbers("images that pass") == pytest.approx(mean_and_range("passed"), abs=0.051)
        assert shown["certified"] == f"{certificates['certified'].sum()} of {len(certificates)}"

    def test_how_many_models_are_certified(self):
        assert "plain" in RECIPES
        for recipe in RECIPES:
            every = [read_certificates(RESULTS, name, model_name("an8net", recipe)) for name in VARIANTS]
            certified = pd.concat(every)["certified"]
            assert len(certified) == 15
            for said in (text("../README.md"), text("certificate.md"), text("board.md")):
                assert f"{certified.sum()} of the 15 models of the recipe `{recipe}`" in said

    def test_all_models_reach_the_highest_necessity(self):
        every = pd.concat([read_certificates(RESULTS, variant, "an8net") for variant in VARIANTS])
        assert "Necessity and swap have the best possible values" in text("certificate.md")
        np.testing.assert_allclose(every["necessity"], every["necessity_expected"])

    def test_classes_that_fail_sufficiency(self):
        """The reasons name the classes for which more than one image in a hundred fails, in percent."""
        said = text("certificate.md")

        def lost(variant: str, name: str) -> list[int]:
            reasons = read_certificates(RESULTS, variant, "an8net")["reason"]
            alone = [reason.partition("part_only: ")[2].partition(";")[0] for reason in reasons]
            return [int(share) for share in re.findall(rf"{name}: (\d+)%", " ".join(alone))]

        assert "pink petals alone are classified as red ones" in said
        assert min(lost("single-6c", "pink petals")) > 80
        assert "15 % of the violet petals lose their class" in said
        assert np.mean(lost("single-6c", "violet petals")) == pytest.approx(15, abs=1)
        assert "a pink stem alone never keeps its class, and most pink petals do not" in said
        assert lost("double-12c", "pink stem") == [100] * 5 and min(lost("double-12c", "pink petals")) > 50
        assert "thorns alone are often classified as balls" in said
        assert min(lost("part-2c", "thorns")) > 20

    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_answers_to_each_picture(self, variant, recipe):
        rows = table("certificate.md", "picture, worst fold")
        shown = {row["picture, worst fold"]: row[f"{variant}, `{recipe}`"] for row in rows}
        folder = RESULTS / variant / model_name("an8net", recipe) / "certificate"
        certificates = [json.loads(path.read_text()) for path in sorted(folder.glob("fold*.json"))]
        assert len(certificates) == 5
        for k, one in enumerate(certificates[0]["kept"]):
            least = min(record["kept"][k]["share"] for record in certificates)
            assert shown[f"`{one['picture']}`, images that keep the class, %"] == f"{100 * least:.1f}"
        for k, one in enumerate(certificates[0]["without"]):
            entries = [record["without"][k] for record in certificates]
            most = max(max(entry["own"], entry["largest"]) for entry in entries)
            assert shown[f"`{one['picture']}`, largest probability"] == f"{most:.2f}"
        assert shown["limit of the probability"] == f"{one['limit']:.2f}"

    def test_limits_of_the_verdict(self):
        said = text("certificate.md")
        assert f"**at least {judging.ENOUGH:.0%}**".replace("%", " %") in said
        assert judging.largest_without(6) == 2 / 6 and judging.largest_without(2) == 0.75
        assert "**2/C**" in said and "the limit there is 0.75" in said

    def test_the_recipe_is_as_said(self):
        said, recipe = text("certificate.md"), recipes.get("certified")
        assert f"{recipe.epochs} epochs of three pictures per image" in said and len(recipe.lessons) == 3
        assert f"{recipe.batch} pictures per step" in said
        assert {lesson.weight for lesson in recipe.lessons} == {1} and "All pictures count equally" in said
        assert f"moved as a whole by up to {MOVED_PX} px at 112 px" in said
        assert f"`shifted` by its distance, {SHIFT_PX} px" in said
        assert {lesson.target for lesson in recipe.lessons} == {"label", "uniform"}

    def test_fields_of_the_record(self):
        rows = table("certificate.md", "field of the record")
        (heading,) = [heading for heading in rows[0] if heading.startswith("field")]
        listed = {name for row in rows for name in re.findall(r"`(\w+)`", row[heading])}
        record = json.loads((RESULTS / "single-6c/an8net/certificate/fold0.json").read_text())
        assert listed == set(record)
        documented = set(re.findall(r"`(\w+)`", " ".join(row["meaning"] for row in rows)))
        assert {*record["identity"], *record["shares"], *record["views"], "bytes", "sha256"} <= documented


class TestResults:
    def test_fields_of_a_record(self):
        rows = table("results.md", "| field |")
        listed = {name for row in rows for name in re.findall(r"`(\w+)`", row["field"])}
        assert listed == {field.name for field in fields(Record)} | {"schema_version"}

    def test_the_first_and_the_last_field_that_a_failed_record_lacks(self):
        order = [
            name for row in table("results.md", "| field |") for name in re.findall(r"`(\w+)`", row["field"])
        ]
        first, last = re.findall(r"does not have the fields from `(\w+)` to `(\w+)`", text("results.md"))[0]
        measured = replace(records("single-6c")[0], zeros=0, classes={})
        failed = to_json(Record(**{**vars(measured), "status": "failed"}))
        assert set(to_json(measured)) - set(failed) == set(order[order.index(first) : order.index(last) + 1])

    def test_causes(self):
        """The page lists the checks that a run can report, and no others."""
        rows = table("results.md", "| `cause` | status |")
        listed = {name for row in rows for name in re.findall(r"`(\w+)`", row["`cause`"])}
        checks = {
            node.args[1].value
            for package in ("explainers", "benchmark")
            for path in (PROJECT / package).rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name | ast.Attribute)
            and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr) == "ExplainerError"
            and isinstance(node.args[1], ast.Constant)
        }
        assert listed == checks | {"nan", "raised"}


class TestRunning:
    def test_the_plan_is_valid_and_has_every_entry(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (plan,) = re.findall(r"```toml\n(.*?)```", page("running.md"), re.DOTALL)
        (tmp_path / "my_method.py").write_text(
            "def my_method(model, images, targets):\n    return images[:, 0]\n"
        )
        (tmp_path / "plan.toml").write_text(plan)
        names = set(re.findall(r"^(\w+) =", plan, re.MULTILINE))
        assert names == {field.name for field in fields(Plan)}
        with explainers.registry.temporarily():
            shown = read_plan(tmp_path / "plan.toml")
        assert set(fold_of(shown.viewpoints, shown.scheme)) == set(shown.folds) == set(range(FOLDS))


class TestScale:
    def test_time_of_all_heatmaps(self):
        said = text("scale.md")
        costs = {record.explainer: [] for record in records("single-6c") if record.role == "method"}
        for record in records("single-6c"):
            if record.explainer in costs:
                costs[record.explainer].append(record.cost["ms_per_image"])
        median_ms = f"{np.median([np.mean(cost) for cost in costs.values()]):.1f}"
        assert f"The median method of the single-6c board takes {median_ms} ms per image" in said
        core_seconds = 3.0e9 * (float(median_ms) + 0.4) / 1000
        assert f"{core_seconds / 1e6:.1f} \N{MULTIPLICATION SIGN} 10⁶ core seconds" in said
        hours = round(core_seconds / 3600, -1)
        assert f"**{hours:,.0f} core hours**".replace(",", " ") in said
        assert f"{hours / 128:.0f} hours on 128 cores" in said

    def test_cells_and_bytes(self):
        said = text("scale.md")
        cells = 1000 * 50 * 10 * 5
        count, units = (f"{number:,}".replace(",", " ") for number in (cells, -(-cells // UNIT)))
        assert f"= {count}, in {units} units of {UNIT}" in said
        sizes = [
            cell_of(RESULTS, record).record_path.stat().st_size for v in VARIANTS for record in records(v)
        ]
        kib = round(np.mean(sizes) / 1024)
        assert f"{kib} KiB record, 103 KiB table" in said
        assert f"**{cells * (kib + 103) / 2**20:.0f} GiB**" in said
        assert f"the records alone are {cells * kib // 2**20} GiB" in said
        plan = read_plan(RESULTS / "board.toml")
        assert len(plan.variants) * len(plan.folds) * 46 == 690 and "the 690 cells" in said


class TestStatistics:
    def test_ratio_of_standard_errors(self):
        rows = {row["board"]: row for row in table("statistics.md", "90 % quantile")}
        for variant in VARIANTS:
            ratio = error_ratio(scores(variant))
            assert rows[variant] == {
                "board": variant, "methods": str(len(ratio)), "median": f"{ratio.median():.2f}",
                "90 % quantile": f"{ratio.quantile(0.9):.2f}", "largest": f"{ratio.max():.2f}",
            }  # fmt: skip

    def test_ratio_of_a_difference(self):
        ratios = []
        for variant in VARIANTS:
            table = scores(variant)
            difference = pd.DataFrame({"both": table["vebi"] - table["upsampled_activations"]})
            ratios.append(f"{error_ratio(difference)['both']:.2f}")
        shown = "the ratio is {} on single-6c, {} on double-12c and {} on part-2c"
        assert shown.format(*ratios) in text("statistics.md")

    def test_likeness_of_neighbours(self):
        def correlation(variant: str, steps: int) -> str:
            return f"{likeness(scores(variant), steps):.2f}"

        said = text("statistics.md")
        near = f"at {correlation('single-6c', NEXT)} for the median row of single-6c "
        assert near + f"({correlation('part-2c', NEXT)} on part-2c)" in said
        far = f"is still {correlation('single-6c', FAR)} ({correlation('part-2c', FAR)} on part-2c)"
        assert far in said

    def test_skewness_of_the_rows(self):
        most = max(skew(scores(variant)).max() for variant in VARIANTS)
        assert f"the rows have at most {most:.1f}" in text("statistics.md")

    def test_a_significant_difference_may_be_small(self):
        said = text("statistics.md")
        table = scores("single-6c")
        ours, theirs = "grad_cam_pp", "pytorch_grad_cam:GradCAMPlusPlus"
        rng = np.random.default_rng(0)
        difference = table[theirs] - table[ours]
        assert f"differ by {100 * difference.mean():.3f} points on single-6c" in said
        assert (difference > 0).sum() == VIEWPOINTS and f"in all {VIEWPOINTS} views" in said
        p = compared(table, theirs, [ours], rng=rng).loc[ours, "p"]
        assert f"a direct comparison gives p = {p:.4f}" in said

    @pytest.mark.slow
    def test_groups_of_the_board_are_those_of_the_function(self):
        rows = json.loads((RESULTS / "part-2c/an8net/leaderboard.json").read_text())["rows"]
        letters = {row["explainer"]: row["group"] for row in rows if row["role"] == "method"}
        assert set(letters) == set(scores("part-2c"))
        assert set(groups(scores("part-2c"), rng=np.random.default_rng(0)).values) == set(letters.values())
