"""Versions of Python and of installed packages, as manifests and records keep them."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version

PACKAGES = ("an8flower", "numpy", "torch")  # they decide what a model computes


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the version of Python and of each package.

    Args:
        packages: names of installed distributions, e.g. "opencv-python-headless".
    Returns:
        version by name, "python" first, then the packages in the given order.
    Raises:
        importlib.metadata.PackageNotFoundError: if a package is not installed.

    >>> list(versions(["numpy", "an8flower"]))
    ['python', 'numpy', 'an8flower']
    """
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
