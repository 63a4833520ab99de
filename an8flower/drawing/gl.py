"""Find an off-screen OpenGL platform on this machine."""

from __future__ import annotations

import ctypes
import importlib
import platform
import sys
from contextlib import suppress
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Literal

Platform = Literal["auto", "egl", "osmesa"]

# Commands that install each platform on a minimal system, by the system's name in /etc/os-release.
INSTALL = {
    "egl": {
        "debian": "sudo apt-get install libegl1 libgl1 libxrender1",
        "fedora": "sudo dnf install mesa-libEGL mesa-libGL mesa-dri-drivers libXrender",
    },
    "osmesa": {
        "debian": "sudo apt-get install libosmesa6 libgl1 libxrender1",
        "fedora": "sudo dnf install mesa-libOSMesa mesa-libGL libXrender",
    },
}
_SYSTEM_NAMES = {"debian": "Debian or Ubuntu", "fedora": "Fedora"}


class NoGraphicsError(RuntimeError):
    """This machine has no off-screen OpenGL; the message has the command that installs it."""


def choose_platform(wanted: Platform = "auto") -> Literal["egl", "osmesa"]:
    """Return the off-screen OpenGL platform to use.

    Args:
        wanted: "egl", "osmesa", or "auto": EGL if it has a device, otherwise OSMesa.
    Raises:
        NoGraphicsError: if the wanted platform, or with "auto" both platforms, are missing.
    """
    candidates: tuple[Literal["egl", "osmesa"], ...] = ("egl", "osmesa") if wanted == "auto" else (wanted,)
    for name in candidates:
        if _works(name):
            return name
    raise NoGraphicsError(f"no off-screen OpenGL ({' or '.join(candidates)}): {_advice(candidates[0])}")


def import_with_assertions(name: str) -> None:
    """Import a module with its `assert` statements, also if Python was told to leave them out.

    pyrender initialises EGL within `assert` statements, so nothing works without them.

    Args:
        name: of a module that is written in Python.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module {name!r}", name=name)
    source = Path(spec.origin).read_bytes()
    code = compile(source, spec.origin, "exec", dont_inherit=True, optimize=0)
    module = sys.modules[name] = module_from_spec(spec)
    exec(code, module.__dict__)
    package, _, last = name.rpartition(".")
    setattr(importlib.import_module(package), last, module)


def _advice(name: str) -> str:
    """Return the command that installs a platform on this system; on an unknown system all commands."""
    release: dict[str, str] = {}
    with suppress(OSError):
        release = platform.freedesktop_os_release()
    names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    known = [system for system in INSTALL[name] if system in names]
    return "run " + " or ".join(
        f"'{INSTALL[name][system]}'" + ("" if known else f" on {_SYSTEM_NAMES[system]}")
        for system in known or INSTALL[name]
    )


def _works(name: str) -> bool:
    # Tested with the libraries themselves: PyOpenGL binds to one platform when it is imported, and keeps it.
    try:
        ctypes.CDLL("libGL.so.1")
        if name == "osmesa":
            return any(_loads(f"libOSMesa.so{suffix}") for suffix in ("", ".8", ".6"))
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    if not address:
        return False
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(address)
    count = ctypes.c_int()
    return bool(query(0, None, ctypes.byref(count))) and count.value > 0


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
