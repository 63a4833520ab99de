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


def test_the_explainer_in_ten_lines_is_one(monkeypatch, modular):
    explainers.names()
    monkeypatch.setattr(explainers.registry, "_entries", dict(explainers.registry._entries))
    (block,) = [block for block in blocks("python") if "@explainer" in block]
    assert len([line for line in block.splitlines() if line]) <= 12
    exec(compile(block, "README.md", "exec"), {})
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    heatmaps = explainers.get("input_x_gradient")(modular, images, torch.tensor([0, 1]))
    pixels = images.clone().requires_grad_()
    logits = modular(pixels)
    (gradient,) = torch.autograd.grad(logits[0, 0] + logits[1, 1], pixels)
    torch.testing.assert_close(heatmaps, (gradient * images).norm(dim=1))


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)#:]+)\)", README.read_text()))
def test_links_and_pictures_lead_somewhere(path):
    assert (README.parent / path).exists()


def test_the_board_is_the_measured_one():
    measured = (README.parent / "results/single-6c/an8net/leaderboard.md").read_text()
    rows = [line for line in measured.splitlines() if line.startswith("| ") and "±" in line]
    assert rows
    shown = README.read_text()
    for row in rows:
        name, role, layer, score, best = [cell.strip() for cell in row.split("|")[1:6]]
        assert f"| {name} | {role} | {layer} | {score} | {best} |".replace("|  |", "| |") in shown
