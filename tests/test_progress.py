"""Progress of long work: lines, the bar, and how to silence both."""

from __future__ import annotations

import logging
import re

import pytest

from an8flower.ground import progress as module
from an8flower.ground.progress import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        now[0] += seconds

    return sleep


def lines(capsys):
    return capsys.readouterr().err.splitlines()


def test_lines_come_now_and_then_and_at_the_end(clock, capsys):
    with progress("draw", 100, "frames") as advance:
        for _ in range(100):
            clock(0.25)
            advance(1)
    told = lines(capsys)
    assert told[0] == "draw: 20/100 frames, 4.0 frames/s, 20 s left"
    assert told[-1] == "draw: 100/100 frames, 4.0 frames/s, done in 25.0 s" and len(told) == 5


def test_slow_units_have_no_estimate_before_there_is_one(clock, capsys):
    with progress("train", 5, "models") as advance:
        for epoch in range(1, 5):
            clock(6)
            advance(0, f"fold 0: epoch {epoch}")
        advance(1, "")
        clock(6)
        advance(1, "fold 2: epoch 1 (50 %)")
    assert lines(capsys) == [
        "train: 0/5 models, fold 0: epoch 1",
        "train: 0/5 models, fold 0: epoch 2",
        "train: 0/5 models, fold 0: epoch 3",
        "train: 0/5 models, fold 0: epoch 4",
        "train: 2/5 models, fold 2: epoch 1 (50 %), 15.0 s/model, 45 s left",
    ]


def test_what_was_done_before_says_nothing_of_the_pace(clock, capsys):
    with progress("evaluate", 1000, "maps", done=900) as advance:
        clock(10)
        advance(20)
    assert lines(capsys) == ["evaluate: 920/1000 maps, 2.0 maps/s, 40 s left"]
    with progress("evaluate", 1000, "maps", done=1000) as advance:
        advance(0)
    assert lines(capsys) == ["evaluate: all 1000 maps were done before"]
    with progress("nothing", 0, "maps") as advance:
        advance(0)
    assert lines(capsys) == []


def test_on_a_terminal_it_is_one_bar(monkeypatch, capsys):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True, raising=False)
    with progress("train an8net [on] single-6c", 2, "models") as advance:
        advance(0, "fold 0: epoch 1 (10 %)")
        advance(2)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "train an8net [on] single-6c" in shown and "2/2" in shown and "done in" in shown


@pytest.mark.parametrize("terminal", [False, True])
def test_the_level_of_its_logger_silences_it(monkeypatch, clock, capsys, terminal):
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: terminal, raising=False)
    logger = logging.getLogger("an8flower.ground.progress")
    logger.setLevel("WARNING")
    try:
        with progress("draw", 2, "frames") as advance:
            clock(60)
            advance(2)
    finally:
        logger.setLevel("INFO")
    assert lines(capsys) == []
