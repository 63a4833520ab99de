"""Take pictures of the report for docs/board.md: `python -m benchmark.experiments.evidence.screenshots`."""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Playwright, sync_playwright

from an8flower.ground import files

# The browser draws a local file and needs no network.
OPTIONS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SHOTS = {  # name: width and height of the window, light or dark, and the part of the board at its top
    "wide": ((1600, 1000), "light", ""),
    "wide-dark": ((1600, 1000), "dark", "pictures"),
}
SHRUNK_TO = 1000  # width in pixels; a page needs no more


def chromium(playwright: Playwright) -> Browser:
    """Start Chromium, as Debian packages it, without a window.

    Raises:
        FileNotFoundError: if it is not installed; the message says what to run.
    """
    executable = shutil.which("chromium")
    if executable is None:
        raise FileNotFoundError("chromium is missing: run 'sudo apt-get install chromium'")
    return playwright.chromium.launch(executable_path=executable, args=list(OPTIONS))


def main() -> None:
    """Open the page and write its pictures as WebP."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("results/report.html"))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/report"))
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        for name, ((width, height), scheme, part) in SHOTS.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme="dark" if scheme == "dark" else "light",
                reduced_motion="reduce",
            )
            page.goto(arguments.page.resolve().as_uri())
            if part:
                page.locator(f".board:not([hidden]) .{part}").evaluate("element => element.scrollIntoView()")
            page.wait_for_timeout(500)  # time to decode the heatmaps
            shot = Image.open(io.BytesIO(page.screenshot()))
            shot.thumbnail((SHRUNK_TO, SHRUNK_TO), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            shot.convert("RGB").save(buffer, "WEBP", quality=82, method=6)
            files.write(arguments.out / f"{name}.webp", buffer.getvalue())
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
