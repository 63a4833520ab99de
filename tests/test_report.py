"""The report: one offline page, as a reader's browser shows it, and the pieces it is made of."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from synthetic_results import DOLLAR, FEW, HOSTILE, MEANS, write_results
from typer.testing import CliRunner

from benchmark import evaluate, leaderboard, store
from benchmark.board.model_set import board_records
from benchmark.cli import app
from benchmark.experiments.evidence.screenshots import chromium
from benchmark.report import write_report
from benchmark.report.content import content_of
from benchmark.report.factor_panel import binned, by_factor
from benchmark.report.gallery import kept
from benchmark.report.heatmaps import chosen, gallery_of, outline
from benchmark.report.layer_panel import _in_order
from benchmark.report.score_panels import _front
from benchmark.report.words import verdict
from benchmark.store import ResultsError


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Boards nobody measured, hostile names among them. Not to be changed."""
    return write_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def file(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, in a folder of its own."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    written = write_report(results, path, root="none", checkpoints="none")
    assert written.bytes == path.stat().st_size < 2e6
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        one = chromium(playwright)
        yield one
        one.close()


@pytest.fixture
def page(browser: Browser, file: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page as it opens; whatever a test does, it must ask nobody, and no error may be logged."""
    given = {"viewport": {"width": 1600, "height": 1000}} | getattr(request, "param", {})
    context = browser.new_context(**given)
    context.add_init_script("window.hurt = () => { window.hurting = true; };")
    one = context.new_page()
    asked, complaints = [], []
    one.on("request", lambda request: asked.append(request.url))
    one.on("console", lambda message: complaints.append(message.text))
    one.on("pageerror", lambda error: complaints.append(str(error)))
    one.goto(file.as_uri())
    yield one
    assert one.evaluate("window.hurting") is None
    assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
    assert {url for url in asked if url.startswith("file://")} == {file.as_uri()}
    assert complaints == []
    context.close()


BOARD = ".board:not([hidden])"


def column(page: Page, heading: str) -> list[str]:
    """The texts of a column of the rows that are seen, from above."""
    k = page.locator(f"{BOARD} .main thead th").evaluate_all(
        "(all, heading) => all.findIndex((one) => one.innerText.replace(/[↕↑↓]/g, '').trim() === heading)",
        heading,
    )
    assert k >= 0, heading
    return page.locator(f"{BOARD} .main tbody tr:not([hidden])").evaluate_all(
        "(rows, k) => rows.map((row) => row.cells[k].innerText.trim())", k
    )


def names(page: Page) -> list[str]:
    return page.locator(f"{BOARD} .main tbody tr:not([hidden]) .open").all_inner_texts()


def head(page: Page, heading: str):
    return page.locator(f"{BOARD} .main thead button", has_text=heading).first


def test_the_table_sorts_by_text_by_scores_by_figures_and_back(page):
    assert names(page)[0] == "grad_cam@conv1" and names(page)[-1] == "oracle_lowres"
    head(page, "explainer").click()
    assert names(page) == sorted(names(page), key=str.lower)
    head(page, "explainer").click()
    assert names(page) == sorted(names(page), key=str.lower, reverse=True)
    head(page, "IoU-AUC").click()  # best first, ceilings among them; what has no score last
    assert names(page)[0] == "oracle" and names(page)[-1] == "broken"
    head(page, "score").click()
    scores = [float(text.split()[0]) for text in column(page, "score") if text != "failed"]
    assert scores == sorted(scores, reverse=True)
    head(page, "score").click()
    assert names(page)[0] == "random" and names(page)[-1] == "broken"
    head(page, "ms").click()  # less is better
    costs = [float(text) for text in column(page, "ms") if text]
    assert costs == sorted(costs) and column(page, "ms")[-1] == ""
    head(page, "#").click()
    assert column(page, "#")[:3] == ["1", "2", "3"] and column(page, "#")[-1] == ""
    sorted_by = page.locator(f"{BOARD} th[aria-sort=ascending]")
    assert sorted_by.count() == 1 and "#" in sorted_by.inner_text()


def test_a_metric_of_which_less_is_better_sorts_so(page):
    page.locator(f"{BOARD} [data-family=metric]").check()
    head(page, "deletion").click()
    found = [float(text) for text in column(page, "deletion") if text]
    assert found == sorted(found)


def test_rows_are_found_by_text_and_by_role(page):
    find, count = page.locator(f"{BOARD} [data-filter]"), page.locator(f"{BOARD} output.count")
    find.fill("CAM conv1")
    assert sorted(names(page)) == ["grad_cam@conv1", "layer_cam@conv1"]
    assert count.inner_text() == f"2 of {len(MEANS) + 2} rows"
    find.fill("")
    for role in ("method", "ceiling"):
        page.locator(f"{BOARD} [data-role-filter={role}]").uncheck()
    assert names(page) == ["train_mean_mask", "random"]
    find.fill("nothing of this name")
    assert names(page) == [] and count.inner_text().startswith("0 of")


def test_columns_can_be_brought_and_put_away(page):
    assert head(page, "forward").is_hidden()
    page.locator(f"{BOARD} [data-family=cost]").check()
    assert head(page, "forward").is_visible()
    page.locator(f"{BOARD} [data-family=cost]").uncheck()
    assert head(page, "forward").is_hidden()


def test_variant_and_model_are_chosen_and_stay_in_the_address(page, file):
    place = page.locator(f"{BOARD} .eyebrow")
    assert place.inner_text().split() == ["single-6c", "·", "an8net"]
    page.get_by_role("radio", name="mnistnet").check(force=True)
    assert place.inner_text().split()[-1] == "mnistnet"
    page.get_by_role("radio", name="part-2c").check(force=True)  # which has no mnistnet
    assert place.inner_text().split() == ["part-2c", "·", "an8net"]
    assert page.get_by_role("radio", name="mnistnet").is_disabled()
    assert page.url.endswith("#part-2c/an8net")
    page.reload()
    assert place.inner_text().split()[0] == "part-2c" and page.locator(BOARD).count() == 1
    page.goto("about:blank")
    page.goto(file.as_uri())


def test_a_picture_is_picked_and_every_tile_follows(page):
    gallery = page.locator(f"{BOARD} .gallery")
    tile = gallery.locator(".tile").first
    names_shown = gallery.locator(".tile .of").all_inner_texts()
    order = [name for name in names(page) if name in names_shown]
    assert names_shown == order and HOSTILE not in names_shown and len(order) == len(MEANS)
    gallery.locator(".picker input").nth(1).check(force=True)
    assert set(gallery.locator(".tile b").all_inner_texts()) == {"20.0"}
    assert gallery.locator(".sheet:not([hidden])").inner_text().startswith("<b>red</b> 1; predicted as blue")
    assert "20.0 %" in tile.locator("img").get_attribute("alt")
    assert tile.locator("use").first.get_attribute("href").endswith("outline-1")
    window, strip = tile.locator(".window").bounding_box(), tile.locator("img").bounding_box()
    assert window["y"] - strip["y"] == pytest.approx(window["height"], abs=1)  # the second of its maps
    assert "not measured" not in gallery.inner_text() and "2 rows have no heatmaps" in gallery.inner_text()


def test_a_row_opens_its_record(page):
    page.locator(f"{BOARD} .open", has_text="grad_cam@conv2").click()
    record = page.locator("dialog")
    text = record.inner_text()
    assert "an8flower evaluate --variant single-6c --model an8net --explainer grad_cam@conv2" in text
    assert "python 3.11.7, torch 2.6.0" in text and "mu 5" in text
    assert record.locator("tbody tr").count() == 5
    assert record.get_by_role("link").get_attribute("href") == "https://arxiv.org/abs/1610.02391"
    record.get_by_role("button", name="Close").click()
    assert record.is_hidden()


def test_what_strangers_write_is_text(page):
    page.locator(f"{BOARD} .open", has_text="submitted").click()
    record = page.locator("dialog")
    assert record.locator("h2").inner_text() == HOSTILE
    assert "<i>theirs</i>" in record.inner_text() and "javascript:hurt()" in record.inner_text()
    assert record.locator("a, script, img, i").count() == 0
    page.keyboard.press("Escape")
    page.locator(f"{BOARD} .open", has_text="broken").click()
    assert "<b>it broke</b>" in record.inner_text()
    page.keyboard.press("Escape")
    assert DOLLAR in names(page) and HOSTILE in names(page)
    assert page.locator("a[href^='javascript:'], [onerror]").count() == 0
    assert page.locator("script").count() == 2  # the data and the page's own
    chip = page.locator(f"{BOARD} tr", has=page.locator(".open", has_text="submitted")).locator(".origin")
    assert chip.inner_text() == "self-reported"


def test_the_policy_stops_what_got_in_all_the_same(browser, file, tmp_path):
    """Were escaping to fail somewhere, the browser would still not run it nor ask anybody."""
    foul = tmp_path / "foul.html"
    harm = (
        "<script>document.title = 'hurt'</script>"
        "<img src='http://127.0.0.1:9/a.png' onerror='document.title = 1'>"
    )
    foul.write_text(file.read_text().replace('<main id="main">', f'<main id="main">{harm}'))
    one = browser.new_page()
    answered = []
    one.on("requestfinished", lambda request: answered.append(request.url))
    one.goto(foul.as_uri())
    assert one.title().startswith("an8Flower") and one.locator(BOARD).count() == 1
    assert not [url for url in answered if url.startswith("http")]
    one.close()


def test_a_row_lights_its_lines(page):
    row = page.locator(f"{BOARD} tbody tr", has=page.locator(".open", has_text="grad_cam@conv1")).first
    row.locator(".bars").hover()
    lit = page.locator(f"{BOARD} svg .series.lit")
    assert lit.count() >= 3  # curve, cost, layer
    assert all(text.startswith("grad_cam@conv1: ") for text in lit.locator("title").all_text_contents())
    page.locator(f"{BOARD} .legend button").first.click()
    assert page.locator(f"{BOARD} .legend button").first.get_attribute("aria-pressed") == "true"


def test_all_panels_are_there_and_missing_ones_say_why(page):
    board = page.locator(BOARD)
    for title in ("IoU against the threshold", "Score against cost", "CAMs by layer",
                  "Score against the plant's size", "Comparison with the paper", "Stability of the order",
                  "Critical differences"):  # fmt: skip
        assert board.locator(".panel", has_text=title).count() == 1, title
    assert board.locator(".certificate tbody tr").count() == 5
    assert "✗ not certified swap 80% is below 90%" in board.locator(".certificate").inner_text()
    page.get_by_role("radio", name="double-12c").check(force=True)
    absent = board.locator(".absent").inner_text()
    assert "schema versions before 3" in absent and "several sizes" in absent and "several layers" in absent
    assert "it is an assumption that the masks are ground truth" in board.locator(".certificate").inner_text()
    assert "none" not in board.locator(".gallery").inner_text()  # no path of the machine that made it
    assert "The results contain no heatmaps" in board.locator(".gallery").inner_text()


def test_the_keyboard_reaches_everything(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator(f"{BOARD} .eyebrow").inner_text().startswith("double-12c")
    page.keyboard.press("ArrowLeft")
    head(page, "explainer").focus()
    page.keyboard.press("Enter")
    assert names(page)[0].startswith("broken")
    first = page.locator(f"{BOARD} .open").first
    first.focus()
    page.keyboard.press("Enter")
    assert page.locator("dialog").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()
    assert first.evaluate("one => one === document.activeElement")
    page.locator(f"{BOARD} .picker input").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(f"{BOARD} .tile b").first.inner_text() == "20.0"


SCHEMES = [{"color_scheme": "light"}, {"color_scheme": "dark"}]
WIDTHS = [{"viewport": {"width": width, "height": 850}} for width in (400, 1600)]


@pytest.mark.parametrize("page", WIDTHS, indirect=True, ids=["400 px", "1600 px"])
def test_the_page_is_as_wide_as_its_window(page):
    for radio in page.locator("input[name=variant]").all():
        radio.check(force=True)
        for family in page.locator(f"{BOARD} [data-family]").all():
            family.check()
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    for text in page.locator(f"{BOARD} .panel:not(.wide) svg text").all()[:5]:
        assert text.bounding_box()["height"] >= 9


@pytest.mark.parametrize("page", SCHEMES, indirect=True, ids=["light", "dark"])
def test_every_text_stands_out(page):
    assert page.evaluate(_PALE) == []
    page.locator(f"{BOARD} .open").first.click()
    assert page.evaluate(_PALE) == []


@pytest.mark.parametrize("page", [{"color_scheme": "dark"}], indirect=True)
def test_light_and_dark_follow_the_system_and_the_switch(page):
    def brightness() -> int:
        return page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])")

    assert brightness() < 40
    page.emulate_media(color_scheme="light")
    assert brightness() > 220
    switch = page.get_by_role("button", name="Theme")
    switch.click()
    switch.click()
    assert switch.inner_text() == "Theme: dark" and brightness() < 40
    page.reload()
    assert switch.inner_text() == "Theme: dark" and brightness() < 40


def test_every_picture_has_words(page):
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    drawn = "svg:not([aria-hidden=true]):not([role=img][aria-label]), [role=img]:not([aria-label])"
    assert page.locator(drawn).count() == 0
    for label in page.locator("svg[role=img]").evaluate_all("all => all.map((one) => one.ariaLabel)"):
        assert len(label) > 15
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))


def test_it_prints_without_what_one_clicks_on(page):
    page.emulate_media(media="print")
    assert page.locator(f"{BOARD} .controls").is_hidden() and page.locator(f"{BOARD} .main").is_visible()


# Texts whose contrast with what is behind them is below WCAG 2.2 AA: 4.5, or 3 for large ones.
_PALE = """() => {
  const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
  const parse = (text) => (text.match(/[0-9.]+/g) || [0, 0, 0, 0]).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const c = parse(getComputedStyle(one).backgroundColor);
      if (c.length === 3 || c[3] === 1) return c;
    }
    return [255, 255, 255];
  };
  const pale = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const one = node.parentElement;
    if (!node.data.trim() || !one.checkVisibility() || one.closest("script, title, .skip, .mark")) continue;
    const style = getComputedStyle(one);
    const ink = parse(one.closest("svg") ? style.fill : style.color);
    const [a, b] = [light(ink), light(behind(one))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) pale.push([node.data.trim(), one.className, ratio.toFixed(2)]);
  }
  return pale;
}"""


def test_a_missing_browser_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FileNotFoundError, match="sudo apt-get install chromium"):
        chromium(None)


@pytest.mark.slow
def test_the_verdict_says_by_how_much_and_how_sure(results):
    board = leaderboard(results, "single-6c")
    said = "".join(part.text for part in verdict(board))
    assert said.startswith("grad_cam@conv1 is first of ") and "points ahead of grad_cam@pool1" in said
    assert "significant" in said and "not significant" not in said
    tied = board.rows.assign(group=["a", "a", *board.rows["group"][2:]])
    said = "".join(part.text for part in verdict(replace(board, rows=tied)))
    assert "not significant: one other method does not differ significantly from it" in said
    bare = leaderboard(results, "double-12c")
    assert "only method" in "".join(part.text for part in verdict(bare))


def test_content_is_plain(results):
    content = content_of(
        leaderboard(results, "single-6c"), board_records(results, "single-6c", "an8net").records, "b0"
    )
    plain = asdict(replace(content, columns=()))  # columns contain functions
    assert json.loads(json.dumps(plain, allow_nan=False))["rows"][0]["explainer"] == "grad_cam@conv1"
    by_name = {row.explainer: row for row in content.rows}
    assert by_name["oracle"].bar.beyond and not by_name["vebi"].bar.beyond
    assert by_name["broken"].bar is None and by_name["vebi"].bar.low < by_name["vebi"].bar.width


def test_layers_are_in_the_models_order():
    assert _in_order(["pool1", "conv2", "conv1", "relu1"], "an8net") == ["conv1", "relu1", "pool1", "conv2"]
    assert _in_order(["pool1", "conv2", "conv1"], "someone's") == ["conv1", "pool1", "conv2"]


def test_no_other_method_is_both_faster_and_better_than_the_front():
    methods = pd.DataFrame({"ms_per_image": [1.0, 1.0, 2.0, 3.0, 4.0], "iou_auc": [5.0, 6.0, 4.0, 9.0, 9.0]})
    assert _front(methods).index.tolist() == [1, 3]


def test_factors_are_read_from_records_and_binned(results):
    table = by_factor(board_records(results / "size", "single-6c", "an8net").records, "size")
    assert len(table) == len(FEW) * 2 * 8 and table["value"].between(0.4, 1).all()
    bins = binned(table)
    assert bins.groupby("explainer").size().eq(5).all()
    vebi = bins[bins["explainer"] == "vebi"]
    assert vebi["value"].is_monotonic_increasing and vebi["score"].iloc[-1] > vebi["score"].iloc[0] + 5
    assert by_factor(board_records(results, "single-6c", "an8net").records, "size").empty


def test_pictures_are_spread_and_the_same_each_time(test_set):
    table = test_set.table
    rows = chosen(table)
    assert rows == chosen(table) and len(set(rows)) == len(rows) == 12
    picked = table.iloc[rows]
    assert (
        picked["class"].nunique() == 2 and picked["crop"].nunique() > 2 and picked["rotation"].nunique() > 2
    )


def test_an_outline_goes_around_each_part():
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:4] = mask[6:, 6:] = True
    assert outline(mask).count("M") == 2 and "nan" not in outline(mask)


@pytest.mark.slow
def test_the_gallery_is_drawn_kept_and_drawn_no_more(data, checkpoints, tmp_path, tiny, monkeypatch):
    explainers = ["grad_cam", "guided_grad_cam", "random", "oracle", "plant_mask"]
    evaluate(data, tiny.name, explainers=explainers, folds=[0], checkpoints=checkpoints, results=tmp_path)
    records = board_records(tmp_path, tiny.name, "an8net").records
    place = {"root": data, "checkpoints": checkpoints}
    drawn = gallery_of(tmp_path, tiny.name, "an8net", records, **place)
    assert sorted(drawn.strips) == sorted(explainers) and not drawn.left_out and not drawn.note
    assert set(drawn.strips["oracle"].scores) == {100.0}
    cell = store.Cell(tmp_path, tiny.name, "an8net", "grad_cam", 0)
    scores = store.read_scores(cell).set_index(["class", "view", "crop", "rotation"])["iou_auc"]
    numbers = {name: k + 1 for k, name in enumerate(one.name for one in tiny.classes)}
    for picture, score in zip(drawn.pictures, drawn.strips["grad_cam"].scores, strict=True):
        at = numbers[picture.label], picture.view, picture.crop, picture.rotation
        assert score == pytest.approx(100 * scores[at], abs=0.01)
    # One that is measured later is drawn for the same pictures.
    evaluate(data, tiny.name, explainers=["sobel"], folds=[0], checkpoints=checkpoints, results=tmp_path)
    records = board_records(tmp_path, tiny.name, "an8net").records
    monkeypatch.setattr("benchmark.report.heatmaps.chosen", lambda table: pytest.fail("chosen anew"))
    more = gallery_of(tmp_path, tiny.name, "an8net", records, **place)
    assert more.pictures == drawn.pictures and {**more.strips} == {
        **drawn.strips,
        "sobel": more.strips["sobel"],
    }
    drawn = more
    nowhere = {"root": tmp_path / "none", "checkpoints": tmp_path / "none"}
    assert gallery_of(tmp_path, tiny.name, "an8net", records, **nowhere) == drawn
    other = [replace(record, key="other") if record.explainer == "grad_cam" else record for record in records]
    without = gallery_of(tmp_path, tiny.name, "an8net", other, **nowhere)
    assert "grad_cam" not in without.strips and "not stored" in without.left_out["grad_cam"]
    changed = gallery_of(tmp_path, tiny.name, "an8net", other, **place)
    assert "belongs to other code" in changed.left_out["grad_cam"]
    # A folder may be anyone's: what would break out of an attribute is not taken.
    path = tmp_path / tiny.name / "an8net/gallery/pictures.json"
    about = json.loads(path.read_text())
    about["pictures"][0]["outline"] = '"/><script>'
    path.write_text(json.dumps(about))
    digest = records[0].identity["dataset_digest"]
    assert not kept(
        tmp_path, tiny.name, "an8net", digest, {record.explainer: record.key for record in records}
    ).strips
    shutil.rmtree(path.parent)
    assert gallery_of(tmp_path, tiny.name, "an8net", records, **nowhere).note.startswith(
        "The results contain no heatmaps"
    )


def test_the_command_says_where_the_page_is(results, tmp_path):
    path = tmp_path / "page.html"
    options = ["--results", str(results), "--out", str(path), "--variant", "part-2c", "--no-gallery"]
    done = CliRunner().invoke(app, ["report", *options])
    assert done.exit_code == 0 and f"wrote {path}" in done.output.replace("\n", " ")
    said = json.loads(CliRunner().invoke(app, ["report", *options, "--json"]).stdout)
    assert said["path"] == str(path) and said["boards"] == [{"variant": "part-2c", "model": "an8net"}]
    assert any("no heatmaps" in note for note in said["notes"])


def test_equal_records_give_equal_pages(results, tmp_path):
    pages = [tmp_path / name for name in ("one.html", "two.html")]
    for path in pages:
        write_report(results, path, variants=["part-2c"], gallery=False)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_nothing_to_show_is_said(tmp_path):
    with pytest.raises(ResultsError, match="an8flower evaluate"):
        write_report(tmp_path)
