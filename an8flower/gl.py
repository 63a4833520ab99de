"""Which off-screen OpenGL this machine has."""

from __future__ import annotations

import ctypes
from typing import Literal

Platform = Literal["auto", "egl", "osmesa"]

PACKAGES = {"egl": "libegl1 libgl1 libxrender1", "osmesa": "libosmesa6 libgl1 libxrender1"}


class NoGraphicsError(RuntimeError):
    """No off-screen OpenGL on this machine; the message names the package that brings it."""


def choose_platform(wanted: Platform = "auto") -> Literal["egl", "osmesa"]:
    """The off-screen GL platform to use: EGL where a display can be opened, else OSMesa.

    Raises:
        NoGraphicsError: if `wanted`, or with "auto" every platform, is missing.
    """
    candidates: tuple[Literal["egl", "osmesa"], ...] = ("egl", "osmesa") if wanted == "auto" else (wanted,)
    for name in candidates:
        if _works(name):
            return name
    install = "' or 'apt-get install ".join(PACKAGES[name] for name in candidates)
    raise NoGraphicsError(
        f"no off-screen OpenGL ({' or '.join(candidates)}): run 'apt-get install {install}'"
    )


def _works(platform: str) -> bool:
    # Asked of the libraries themselves: PyOpenGL binds to one platform at import, for good.
    try:
        ctypes.CDLL("libGL.so.1")
        if platform == "osmesa":
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
