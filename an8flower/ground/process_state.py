"""Find and undo what code leaves changed in its process: replaced functions, modes, settings, limits.

Other code in the process would compute something else afterwards, or stop. This finds what careless code
leaves; code that hides what it does is no danger to others only in a process of its own.
"""

from __future__ import annotations

import gc
import inspect
import locale
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils import _python_dispatch as dispatch

from an8flower.ground.registry import PlugInWarning

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Modules whose functions and classes must stay the same objects, if they are loaded.
_MODULES = (
    "builtins", "math", "os", "io", "json", "hashlib", "time", "pickle", "numpy", "pandas", "scipy.ndimage",
    "cv2", "PIL.Image", "safetensors.torch", "torch", "torch.nn", "torch.nn.functional", "torch.nn.init",
    "torch.nn.modules.module", "torch.autograd", "torch.autograd.graph", "torch.autograd.function",
    "torch.overrides", "torch.fft", "torch.linalg", "torch.random",
)  # fmt: skip
_OURS = ("an8flower", "explainers", "benchmark")
# PyTorch's hooks on all modules.
_HOOKS = torch.nn.modules.module
_HOOK_TABLES = [name for name in vars(_HOOKS) if name.startswith("_global_") and name.endswith("_hooks")]


@contextmanager
def altered() -> Iterator[list[str]]:
    """Run the block, and undo at its end what it has changed in the process.

    Yields:
        a list that is filled at the end with what had to be undone, e.g. "torch.nn.functional.relu", in
        words that follow "it changed".
    """
    changes: list[str] = []
    settings = [(setting, setting.get()) for setting in _SETTINGS]
    loaded = {name: module for name, module in sys.modules.items() if _is_watched(name)}
    contents = {name: dict(vars(space)) for name, space in _namespaces(loaded)}
    try:
        yield changes
    finally:
        for name, module in loaded.items():
            if sys.modules.get(name) is not module:
                changes.append(f"the module {name}")
                sys.modules[name] = module
        # Functions first: a setting is read and set by functions.
        for name, space in _namespaces(loaded):
            changes += _restore(name, space, contents.get(name, {}))
        for setting, before in settings:
            if setting.get() != before:
                changes.append(setting.name)
                with suppress(Exception):  # e.g. a limit that only the administrator may raise again
                    setting.set(before)
        changes[:] = dict.fromkeys(changes)


@contextmanager
def undone(what: str) -> Iterator[None]:
    """Undo what the block changes in the process, and warn about it.

    Args:
        what: whose code runs in the block, for the warning.
    Warns:
        PlugInWarning: naming what was changed.
    """
    with altered() as changes:
        yield
    if changes:
        warnings.warn(undone_text(what, changes), PlugInWarning, stacklevel=3)


def undone_text(what: str, changes: list[str]) -> str:
    """Return the sentence that says what was undone.

    >>> undone_text("my.py", ["torch.relu"]).partition(";")[0]
    'my.py changed torch.relu while it was loaded'
    """
    some = ", ".join(changes[:3]) + (", ..." if len(changes) > 3 else "")
    return (
        f"{what} changed {some} while it was loaded; this was undone, because it would change other methods: "
        "change it inside the method, and restore it"
    )


@dataclass(frozen=True)
class _Setting:
    """A setting of the process: its name in messages, and how to read and set it."""

    name: str
    get: Callable[[], Any]
    set: Callable[[Any], object]


def _attribute(owner: Any, name: str, text: str) -> _Setting:
    return _Setting(text, lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _default_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)


def _pop_default_hooks(before: Any) -> None:
    while (top := _default_hooks()) is not None and top != before:
        torch._C._autograd._pop_saved_tensors_default_hooks()


def _pop_modes(length: Callable[[], int], pop: Callable[[], object]) -> Callable[[int], None]:
    def shorten(before: int) -> None:
        while length() > before:
            pop()

    return shorten


def _hooks() -> dict[str, dict[Any, Any]]:
    return {name: dict(getattr(_HOOKS, name)) for name in _HOOK_TABLES}


def _set_hooks(before: Mapping[str, Mapping[Any, Any]]) -> None:
    for name, hooks in before.items():
        table = getattr(_HOOKS, name)
        table.clear()
        table.update(hooks)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _set_handlers(before: Mapping[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) != handler:
                signal.signal(number, handler)


_SIGNALS = [
    number
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGCHLD", "SIGUSR1", "SIGPIPE", "SIGXFSZ")
    if (number := getattr(signal, name, None)) is not None
]
_LIMITS = sorted(name for name in dir(resource) if name.startswith("RLIMIT_")) if resource else []


def _limits() -> dict[str, tuple[int, int]]:
    return {name: resource.getrlimit(getattr(resource, name)) for name in _LIMITS}


def _set_limits(before: Mapping[str, tuple[int, int]]) -> None:
    for name, limit in before.items():
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, name), limit)


# Not among them: sys.path, environment variables and filters of warnings, which libraries may set when they
# are first imported, and which change no result.
_SETTINGS: tuple[_Setting, ...] = (
    _Setting(
        "torch.overrides' stack of function modes",
        torch._C._len_torch_function_stack,
        _pop_modes(torch._C._len_torch_function_stack, torch._C._pop_torch_function_stack),
    ),
    _Setting(
        "PyTorch's stack of dispatch modes",
        torch._C._len_torch_dispatch_stack,
        _pop_modes(torch._C._len_torch_dispatch_stack, dispatch._pop_mode),
    ),
    _Setting("the hooks for saved tensors", _default_hooks, _pop_default_hooks),
    _Setting("the hooks on all modules", _hooks, _set_hooks),
    _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting("anomaly mode", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    _Setting(
        "autocast", lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)
    ),
    _Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    _Setting(
        "the precision of matrix products",
        torch.get_float32_matmul_precision,
        torch.set_float32_matmul_precision,
    ),
    _Setting(
        "deterministic algorithms",
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    _Setting(
        "attention's fast path",
        torch.backends.mha.get_fastpath_enabled,
        torch.backends.mha.set_fastpath_enabled,
    ),
    _attribute(torch.backends.mkldnn, "enabled", "torch.backends.mkldnn.enabled"),
    _attribute(torch.backends.cudnn, "enabled", "torch.backends.cudnn.enabled"),
    _attribute(torch.backends.cudnn, "benchmark", "torch.backends.cudnn.benchmark"),
    _attribute(torch.backends.cudnn, "deterministic", "torch.backends.cudnn.deterministic"),
    _Setting("NumPy's handling of floating-point errors", np.geterr, lambda before: np.seterr(**before)),
    _Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    _Setting("the trace function", sys.gettrace, sys.settrace),
    _Setting("the profile function", sys.getprofile, sys.setprofile),
    _attribute(sys, "stdout", "sys.stdout"),
    _attribute(sys, "stderr", "sys.stderr"),
    _attribute(sys, "excepthook", "sys.excepthook"),
    _Setting("the working directory", os.getcwd, os.chdir),
    _Setting("the umask", _umask, os.umask),
    _Setting("the signal handlers", _handlers, _set_handlers),
    _Setting("the limits of the process", _limits, _set_limits),
    _Setting("the garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    _Setting(
        "the locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda before: locale.setlocale(locale.LC_ALL, before),
    ),
)


def _is_watched(name: str) -> bool:
    return name in _MODULES or name.partition(".")[0] in _OURS


def _namespaces(loaded: Mapping[str, ModuleType]) -> Iterator[tuple[str, Any]]:
    """Yield the watched modules and the classes that they define, with their full names."""
    yield "torch.Tensor", torch.Tensor
    for name, module in loaded.items():
        yield name, module
        if name.partition(".")[0] in _OURS:
            yield from (
                (f"{name}.{key}", value)
                for key, value in list(vars(module).items())
                if isinstance(value, type) and value.__module__ == name
            )
    for key, value in list(vars(torch.nn.modules).items()):
        if isinstance(value, type):
            yield f"torch.nn.{key}", value


def _restore(name: str, space: Any, before: Mapping[str, Any]) -> list[str]:
    """Put back functions and classes that were replaced or deleted; return their names."""
    changes = []
    now = vars(space)
    for key, value in before.items():
        new = now.get(key, _MISSING)
        if new is not value and _is_code(value) and not _is_wrapped_by_torch(new, value):
            changes.append(f"{name}.{key}")
            with suppress(Exception):
                setattr(space, key, value)
    return changes


def _is_code(value: Any) -> bool:
    return inspect.isroutine(value) or isinstance(
        value, type | ModuleType | staticmethod | classmethod | property
    )


def _is_wrapped_by_torch(new: Any, old: Any) -> bool:
    """Return whether PyTorch has wrapped its own function, as its compiler does when it is first imported."""
    code = getattr(new, "__code__", None)
    return getattr(new, "__wrapped__", None) is old and code is not None and _TORCH in code.co_filename


_TORCH = str(Path(torch.__file__).parent)
_MISSING = object()
