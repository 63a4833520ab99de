"""Digests of a few frames of every built-in variant: `python tests/digest.py` writes them anew.

They change when the pictures change; then `RECIPE_VERSION` must be raised with them.
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
VIEWS = (1, 18, 33)


def digest(name: str) -> dict[str, str]:
    """SHA-256 of part ids and of colours (twins included) over some frames, and who drew them."""
    part_ids, colours = hashlib.sha256(), hashlib.sha256()
    # Not closed: that would break the contexts of the variants that follow in this process.
    renderer = Renderer(variants.get(name))
    for class_index in range(len(renderer.variant.classes)):
        for view in VIEWS:
            frame, twins = renderer.render(class_index, view), renderer.render_twins(class_index, view)
            part_ids.update(frame.part_ids.tobytes())
            for image in (frame.image, twins.part_only, twins.all_but_part):
                colours.update(image.tobytes())
    drawn_by = fingerprint(renderer.gl)
    return {"fingerprint": drawn_by, "part_ids": part_ids.hexdigest(), "colours": colours.hexdigest()}


def main() -> None:
    """Write the digests of all built-in variants, or print that of the one named."""
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(digest(sys.argv[1])))
        return
    made = {"recipe_version": RECIPE_VERSION, **{name: digest(name) for name in NAMES}}
    RECORDED.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
