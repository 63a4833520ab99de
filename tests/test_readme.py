"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import explainers

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_explainer_in_ten_lines_is_one(modular):
    (block,) = [block for block in blocks("python") if "@explainer" in block]
    assert len([line for line in block.splitlines() if line]) <= 12
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with explainers.registry.temporarily():
        exec(compile(block, "README.md", "exec"), {})
        heatmaps = explainers.get("my_method")(modular, images, torch.tensor([0, 1]))
    pixels = images.clone().requires_grad_()
    logits = modular(pixels)
    (gradient,) = torch.autograd.grad(logits[0, 0] + logits[1, 1], pixels)
    torch.testing.assert_close(heatmaps, (gradient * images).norm(dim=1))


PAGES = [README, *sorted((README.parent / "docs").glob("*.md"))]


@pytest.mark.parametrize(
    ("page", "path"),
    [(page, path) for page in PAGES for path in re.findall(r"\]\(([^)#:]+)\)", page.read_text())],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_links_and_pictures_lead_somewhere(page, path):
    assert (page.parent / path).exists()


def test_the_statistics_of_the_docs_run_as_they_stand(monkeypatch):
    monkeypatch.chdir(README.parent)
    page = (README.parent / "docs/statistics.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    known: dict[str, object] = {}
    exec(compile(block, "docs/statistics.md", "exec"), known)
    assert {"vebi", "deconv_gb", "grad_cam"} <= set(known["scores"])


def test_every_method_is_in_the_docs():
    page = (README.parent / "docs/explainers.md").read_text()
    assert [name for name in explainers.names() if f"`{name}`" not in page] == []


def test_the_board_is_the_measured_one():
    measured = _board((README.parent / "results/single-6c/an8net/leaderboard.md").read_text())
    shown = _board(README.read_text())
    assert shown
    for name, cells in shown.items():
        assert cells == {heading: measured[name][heading] for heading in cells}
    own = [name for name in explainers.names() if not explainers.registry.get(name).costly]
    assert set(own) <= set(shown)


def _board(page: str) -> dict[str, dict[str, str]]:
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
