"""Digests of some frames of every built-in variant; `python tests/digest.py` writes them again.

They change if the images change; then `RECIPE_VERSION` must be increased, too.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from an8flower.drawing.generation import RECIPE_VERSION, fingerprint
from an8flower.drawing.renderer import Renderer
from an8flower.variants import variants

RECORDED = Path(__file__).with_name("digests.json")
NAMES = ("single-6c", "double-12c", "part-2c")
VIEWS = (1, 18, 33)  # the classes take turns, so that each is drawn in one view and each view is drawn


def digest(name: str) -> dict[str, str]:
    """Return the SHA-256 of part ids and colours (with twins) over some frames, and the platform."""
    part_ids, colours = hashlib.sha256(), hashlib.sha256()
    # Not closed: that would break the contexts of the next variants in this process.
    renderer = Renderer(variants.get(name))
    classes = len(renderer.variant.classes)
    for k in range(max(classes, len(VIEWS))):
        frame, twins = (draw(k % classes, VIEWS[k % 3]) for draw in (renderer.render, renderer.render_twins))
        part_ids.update(frame.part_ids.tobytes())
        for image in (frame.image, twins.part_only, twins.all_but_part):
            colours.update(image.tobytes())
    drawn_by = fingerprint(renderer.gl)
    return {"fingerprint": drawn_by, "part_ids": part_ids.hexdigest(), "colours": colours.hexdigest()}


def main() -> None:
    """Write the digests of all built-in variants, or print the digests of the variant in the argument."""
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(digest(sys.argv[1])))
        return
    digests = {"recipe_version": RECIPE_VERSION, **{name: digest(name) for name in NAMES}}
    RECORDED.write_text(json.dumps(digests, indent=2) + "\n")


if __name__ == "__main__":
    main()
