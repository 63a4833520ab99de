"""The side that starts the process of an explainer, sends it work, and checks what comes back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from typing import Any, Self

import cloudpickle
import numpy as np
import torch
from torch import nn

from an8flower.ground.worker import process_command
from explainers.base import TRUTHS, Explainer, ExplainerError, Loader
from explainers.conformance.limits import PrintedWarning
from explainers.errors import NoReLURuleWarning

# How late the explainer's own alarm may be before its process is stopped, and how long a process may take to
# start, both in seconds.
GRACE_S = 15.0
START_S = 300.0
MOST_BYTES = 2**20  # of a message, without heatmaps


_WARNINGS = {kind.__name__: kind for kind in (PrintedWarning, NoReLURuleWarning)}


class ForeignError(RuntimeError):
    """What an isolated explainer raised, as text: type and message of the error."""


class ProcessEndedError(RuntimeError):
    """The process of an isolated explainer ended while it worked; the message says how."""


@contextmanager
def isolated(
    explainer: Explainer, *, reference: str | None = None, limit_s: float | None, limit_gib: float | None
) -> Iterator[Explainer]:
    """Give an explainer that is fitted and called like `explainer`, but runs in a process of its own.

    The process starts at the first call and ends with the block.

    Args:
        explainer: not fitted.
        reference: the name by which `explainers.get` finds it in another process; None to send its code,
            e.g. of a function that is defined in a notebook.
        limit_s, limit_gib: seconds and GiB that it may take for one call; None for no limit.
    Raises:
        ExplainerError: from a call, if it breaks a rule.
        ForeignError: from a call, for what it raises.
        ProcessEndedError: from a call, if its process ends.
    """
    method = RemoteMethod(explainer, reference, limit_s, limit_gib)
    try:
        yield replace(explainer, method=method)
    finally:
        method.close()


class RemoteMethod:
    """The method of an explainer in another process; fitted and called as the method itself.

    Args:
        explainer, reference, limit_s, limit_gib: as for `isolated`.
    """

    def __init__(
        self, explainer: Explainer, reference: str | None, limit_s: float | None, limit_gib: float | None
    ) -> None:
        self._name = explainer.name
        self._start = {
            "explainer": reference or cloudpickle.dumps((explainer.spec, dict(explainer.parameters))),
            "threads": torch.get_num_threads(),
            "limit_gib": limit_gib,
        }
        self._limit_s = limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._line: Connection | None = None
        self._model = b""  # what the process has, pickled

    def fit(self, model: nn.Module, loader: Loader) -> Self:
        """Fit the explainer; the batches are sent as it asks for them."""
        length = len(loader) if isinstance(loader, Sized) else None
        about = {"length": length, "digest": getattr(loader, "digest", None)}
        self._ask("fit", model, about, calls=length or 1, batches=loader)
        return self

    def __call__(
        self, model: nn.Module, images: torch.Tensor, targets: torch.Tensor, **keywords: Any
    ) -> torch.Tensor:
        """Return the heatmaps (N, H, W) that the explainer returns; of the keywords, the truth is sent."""
        self._ask("explain", model, _call(images, targets, keywords))
        return torch.from_numpy(self._receive_maps(images)).to(images.device)

    def apply(
        self, function: Callable[..., Any], model: nn.Module, images: torch.Tensor, targets: torch.Tensor,
        *, calls: int = 1, **truths: torch.Tensor | None,
    ) -> Any:  # fmt: skip
        """Return `function(explainer, model, images, targets, **truths)`, called in the process.

        Args:
            function: a function of a module; what it returns must be JSON.
            model, images, targets, truths: its arguments.
            calls: how many calls of the explainer it may make in its time.
        """
        about = {**_call(images, targets, truths), "function": function}
        return self._ask("apply", model, about, calls=calls)["value"]

    def close(self) -> None:
        """End the process."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)  # and all that it has started
            self._process.wait()
        self._line = self._process = None
        self._model = b""

    def _ask(
        self, task: str, model: nn.Module, about: dict[str, Any], *, calls: int = 1,
        batches: Iterable[Any] = (),
    ) -> dict[str, Any]:  # fmt: skip
        """Send a request and return the answer; on any error the process ends."""
        seconds = None if self._limit_s is None else self._limit_s * calls
        try:
            line = self._started()
            pickled = cloudpickle.dumps(model)
            sent = None if pickled == self._model else pickled
            _send(line, {"task": task, "model": sent, "seconds": seconds, **about})
            self._model = pickled
            return self._answer(seconds, batches)
        except (EOFError, OSError):
            raise ProcessEndedError(self._ended()) from None
        except BaseException:
            self.close()
            raise

    def _answer(self, seconds: float | None, batches: Iterable[Any]) -> dict[str, Any]:
        iterators: dict[int, Iterator[Any]] = {}
        while True:
            answer = self._receive(None if seconds is None else seconds + GRACE_S)
            for kind, text in answer.get("warnings", ()):
                warnings.warn(str(text), _WARNINGS.get(kind, UserWarning), stacklevel=5)
            match answer.get("kind"):
                case "batch":  # the explainer asks for the next batch of one of its iterations
                    number = int(answer["iteration"])
                    if number not in iterators:
                        iterators[number] = iter(batches)
                    batch = next(iterators[number], None)
                    assert self._line is not None
                    _send(self._line, None if batch is None else [_array(item) for item in batch])
                case "done":
                    return answer
                case "broke":
                    raise ExplainerError(self._name, str(answer["check"]), str(answer["detail"]))
                case "raised":
                    raise ForeignError(str(answer["text"]))
                case _:
                    raise self._garbled("a message of unknown kind")

    def _receive(self, seconds: float | None) -> dict[str, Any]:
        assert self._line is not None
        if not self._line.poll(seconds):
            limit = "the limit" if self._limit_s is None else f"{self._limit_s:g} s per call"
            raise ExplainerError(
                self._name, "time", f"it took longer than {limit} and could not be interrupted"
            )
        try:
            answer = json.loads(self._line.recv_bytes(MOST_BYTES))
        except (ValueError, RecursionError):
            raise self._garbled("a message that is not JSON") from None
        if not isinstance(answer, dict):
            raise self._garbled("a message that is no object")
        return answer

    def _receive_maps(self, images: torch.Tensor) -> np.ndarray[Any, Any]:
        """Receive heatmaps; the process has checked their shape and dtype."""
        shape = (len(images), *images.shape[2:])
        size = 4 * int(np.prod(shape))
        assert self._line is not None
        try:
            data = self._line.recv_bytes(size)
        except (EOFError, OSError):
            raise ProcessEndedError(self._ended()) from None
        if len(data) != size:
            self.close()
            raise self._garbled(f"{len(data)} bytes instead of heatmaps of shape {shape}")
        return np.frombuffer(bytearray(data), np.float32).reshape(shape)

    def _garbled(self, what: str) -> ExplainerError:
        return ExplainerError(self._name, "process", f"its process sent {what}")

    def _started(self) -> Connection:
        if self._line is not None:
            return self._line
        mine, its = Pipe()
        with its:
            self._process = subprocess.Popen(
                process_command("explainers.isolation.process", its.fileno()),
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # its standard output is not a result of the command
                start_new_session=True,
            )
        self._line = mine
        _send(mine, self._start)
        self._answer(START_S, ())
        return mine

    def _ended(self) -> str:
        """End the process if it still runs, and return how it ended, as text."""
        process = self._process
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)  # if it has just died, its status says from what
        code = None if process is None else process.poll()
        self.close()
        if code is None:
            return "it closed the connection of its process"
        if code < 0:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
            return f"its process ended by {name}" + (", as when memory runs out" if code == -9 else "")
        return f"its process exited with status {code}"


def _send(line: Connection, message: Any) -> None:
    line.send_bytes(cloudpickle.dumps(message))


def _call(
    images: torch.Tensor, targets: torch.Tensor, keywords: dict[str, torch.Tensor | None]
) -> dict[str, Any]:
    truths = {name: truth for name in TRUTHS if (truth := keywords.get(name)) is not None}
    return {
        "images": _array(images),
        "targets": _array(targets),
        "truths": {name: _array(truth) for name, truth in truths.items()},
        "device": str(images.device),
    }


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    # As an array, whose bytes are copied: tensors would be handed over in memory that both processes share.
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
