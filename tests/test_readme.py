"""The README and docs/board.md: examples run, and numbers are the measured ones. See also test_docs.py."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

import explainers
from benchmark.experiments.evidence.question import draw

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
BOARD = REPOSITORY / "docs/board.md"
RESULTS = REPOSITORY / "results"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


@cache
def measured(variant: str) -> dict[str, Any]:
    return json.loads((RESULTS / variant / "an8net/leaderboard.json").read_text())


def score(variant: str, explainer: str) -> str:
    (row,) = [row for row in measured(variant)["rows"] if row["explainer"] == explainer]
    return f"{row['iou_auc']:.1f}"


def test_a_person_reads_the_readme_in_three_minutes():
    assert len(README.read_text().split()) <= 900


def test_the_explainer_in_ten_lines_is_one(modular):
    (block,) = [block for block in blocks(README, "python") if "@explainer" in block]
    assert len([line for line in block.splitlines() if line]) <= 12
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with explainers.registry.temporarily():
        exec(compile(block, "README.md", "exec"), {})
        heatmaps = explainers.get("my_method")(modular, images, torch.tensor([0, 1]))
    pixels = images.clone().requires_grad_()
    logits = modular(pixels)
    (gradient,) = torch.autograd.grad(logits[0, 0] + logits[1, 1], pixels)
    torch.testing.assert_close(heatmaps, (gradient * images).norm(dim=1))


def test_the_first_result_runs_as_it_stands(monkeypatch, tmp_path, data, checkpoints, tiny, capsys):
    (block,) = [block for block in blocks(README, "python") if "load_model" in block]
    (tmp_path / "data").symlink_to(data)
    (tmp_path / "checkpoints").symlink_to(checkpoints)
    monkeypatch.chdir(tmp_path)
    exec(compile(block.replace("single-6c", tiny.name), "README.md", "exec"), {})
    assert 0 < float(capsys.readouterr().out) < 1
    record = json.loads((RESULTS / "single-6c/an8net/records/grad_cam/fold0.json").read_text())
    assert f"# {record['scores']['iou_auc']:.3f} for the published weights" in block
    assert f"# {record['images']} images" in block


def test_the_picture_of_the_question_shows_each_method_with_its_score(data, checkpoints, tiny):
    figure = draw(data, tiny.name, checkpoints, classes=(0, 1), methods=("grad_cam", "sobel"))
    titles = [axes.get_title() for axes in figure.axes]
    assert [title.partition("\n")[0] for title in titles[:4]] == [
        "image and",
        "what decides",
        "grad_cam",
        "sobel",
    ]
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert labels[::4] == ["“red petals”", "“blue petals”"]
    assert all(re.fullmatch(r"IoU-AUC \d+ %", label) for row in (2, 6) for label in labels[row : row + 2])


def test_the_statistics_of_the_docs_run_as_they_stand(monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    (block,) = blocks(REPOSITORY / "docs/statistics.md", "python")
    known: dict[str, object] = {}
    exec(compile(block, "docs/statistics.md", "exec"), known)
    assert {"vebi", "deconv_gb", "grad_cam"} <= set(known["scores"])


def test_every_method_is_in_the_docs():
    page = (REPOSITORY / "docs/explainers.md").read_text()
    assert [name for name in explainers.names() if f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", [README, BOARD], ids=lambda page: page.name)
def test_the_boards_are_the_measured_one(page):
    whole, shown = board((RESULTS / "single-6c/an8net/leaderboard.md").read_text()), board(page.read_text())
    assert len(shown) > 8
    for name, cells in shown.items():
        assert cells == {heading: whole[name][heading] for heading in cells}
    # In the order of the whole board, apart from references, which come last.
    assert sorted(shown, key=list(whole).index) == list(shown)


def test_the_long_board_has_every_method_of_ours():
    own = [name for name in explainers.names() if not explainers.registry.get(name).costly]
    assert set(own) <= set(board(BOARD.read_text()))


def board(page: str) -> dict[str, dict[str, str]]:
    """The cells of a page's first table that has scores, by explainer and heading."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    (start, *_) = [k for k, line in enumerate(lines) if "explainer" in line and "IoU-AUC" in line]
    headings, rows = lines[start], {}
    for line in lines[start + 2 :]:
        if not line:
            break
        row = dict(zip(headings, line, strict=True))
        rows[row["explainer"]] = row
    return rows


def findings() -> list[tuple[Path, str]]:
    """What the pages say about the boards, with the figures of results/."""
    single, double, part = map(measured, ("single-6c", "double-12c", "part-2c"))

    def ahead(content: dict[str, Any], name: str) -> dict[str, float]:
        assert content["table_1"]["first"] == "vebi"
        assert all(other["p_holm"] < 0.001 for other in content["table_1"]["others"])
        (row,) = [row for row in content["table_1"]["others"] if row["explainer"] == name]
        return row

    first, second = ahead(single, "deconv_gb"), ahead(double, "deconv_gb")
    prior = float(score("single-6c", "train_mean_mask"))
    shown = [name for name, cells in board(BOARD.read_text()).items() if cells["role"] == "method"]
    beaten = [name for name in shown if float(score("single-6c", name)) < prior]
    best = max(float(score("single-6c", f"grad_cam_pp@{layer}")) for layer in ("pool1", "relu1", "conv1"))
    passed = [fold["passed"] for fold in single["certificate"]]
    assert part["table_1"]["first"] == "guided_grad_cam_pp"
    assert part["table_1"]["others"][0]["explainer"] == "vebi"
    assert len(single["rows"]) == 73 and len(double["rows"]) == len(part["rows"]) == 46
    assert single["accuracy"] == double["accuracy"] == part["accuracy"] == [1.0] * 5
    texts = [
        "46 to 73 explainers per variant",
        f"by {first['difference']:.1f} points on single-6c (95 % interval {first['low']:.1f} to "
        f"{first['high']:.1f}) and by {second['difference']:.1f} points on double-12c "
        f"({second['low']:.1f} to {second['high']:.1f})",
        f"is {single['paper']['spearman_rho']:.2f} (p = {single['paper']['p']:.3f}) on single-6c and "
        f"{double['paper']['spearman_rho']:.2f} (p = {double['paper']['p']:.3f}) on double-12c",
        f"Guided Grad-CAM++ with {score('part-2c', 'guided_grad_cam_pp')}; `vebi` is second with "
        f"{score('part-2c', 'vebi')}",
        f"Grad-CAM scores {score('single-6c', 'grad_cam')} after the last convolution (at `relu3`), where it "
        f"is commonly used, and {score('single-6c', 'grad_cam@relu1')} after the first one (at `relu1`)",
        f"before the ReLU, at `conv3`, it scores {score('single-6c', 'grad_cam@conv3')}",
        f"(`oracle_lowres`, {score('single-6c', 'oracle_lowres')})",
        f"Grad-CAM++ scores {score('single-6c', 'grad_cam_pp')} and, at its best layer, {best:.1f}; LayerCAM "
        f"scores {score('single-6c', 'layer_cam')} and {score('single-6c', 'layer_cam@pool1')} at the first",
        f"never sees the image and scores {prior:.1f} on single-6c. Of the {len(shown)} methods above, "
        f"{len(beaten)} do not score higher",
        f"{100 * sum(passed) / len(passed):.1f} % of the images of single-6c",
    ]
    assert single["table_1"]["first"] == double["table_1"]["first"] == "vebi"
    assert len(beaten) >= 3  # "several"
    verdicts = [fold["certified"] for content in (single, double, part) for fold in content["certificate"]]
    assert not any(verdicts)
    certified = f"0 of the {len(verdicts)} models of the recipe `plain`"
    texts.append(certified)
    readme = [
        f"Grad-CAM scores {score('single-6c', 'grad_cam')} after the last convolution (`relu3`), where it is "
        f"commonly used, and {score('single-6c', 'grad_cam@relu1')} after the first one (`relu1`)",
        certified,
    ]
    return [*((BOARD, text) for text in texts), *((README, text) for text in readme)]


def test_findings_are_the_measured_ones():
    pages = {page: " ".join(page.read_text().split()) for page in (BOARD, README)}
    assert [text for page, text in findings() if text not in pages[page]] == []


def test_the_page_of_commands_has_every_command():
    from benchmark.cli import app

    page = (REPOSITORY / "docs/commands.md").read_text()
    assert [name for name in typer.main.get_command(app).commands if f"`an8flower {name}`" not in page] == []
