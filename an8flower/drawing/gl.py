"""Which off-screen OpenGL this machine has."""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from typing import Literal

Platform = Literal["auto", "egl", "osmesa"]

# What installs each on a bare system, by the name that the system gives itself in /etc/os-release.
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
_CALLED = {"debian": "Debian or Ubuntu", "fedora": "Fedora"}


class NoGraphicsError(RuntimeError):
    """No off-screen OpenGL on this machine; the message has the command that installs it."""


def choose_platform(wanted: Platform = "auto") -> Literal["egl", "osmesa"]:
    """The off-screen GL platform to use: EGL where a display can be opened, else OSMesa.

    Raises:
        NoGraphicsError: if `wanted`, or with "auto" every platform, is missing.
    """
    candidates: tuple[Literal["egl", "osmesa"], ...] = ("egl", "osmesa") if wanted == "auto" else (wanted,)
    for name in candidates:
        if _works(name):
            return name
    raise NoGraphicsError(f"no off-screen OpenGL ({' or '.join(candidates)}): {_advice(candidates[0])}")


def _advice(name: str) -> str:
    """The command that installs a platform on this system; on one that is not known, all commands."""
    mine: dict[str, str] = {}
    with suppress(OSError):
        mine = platform.freedesktop_os_release()
    names = [mine.get("ID", ""), *mine.get("ID_LIKE", "").split()]
    known = [system for system in INSTALL[name] if system in names]
    return "run " + " or ".join(
        f"'{INSTALL[name][system]}'" + ("" if known else f" on {_CALLED[system]}")
        for system in known or INSTALL[name]
    )


def _works(name: str) -> bool:
    # Asked of the libraries themselves: PyOpenGL binds to one platform at import, for good.
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
