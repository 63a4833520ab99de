"""The process of an isolated explainer: it receives work, calls the explainer, and answers.

Requests are pickled by the process that starts this one. Answers are JSON, and heatmaps as bytes, because
what comes from here is not trusted.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

import torch

import explainers
from an8flower.ground.text import error_line, one_line
from explainers.base import Explainer, ExplainerError
from explainers.conformance.limits import (
    PrintedWarning,
    kept_gib,
    limited,
    quiet,
    unaltered,
    unforked,
)
from explainers.errors import NoReLURuleWarning


class _Requests:
    """The connection, read in its own thread, so that its end is noticed at once."""

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> Any:
        return pickle.loads(self._waiting.get())

    def answer(self, kind: str, **values: Any) -> None:
        self._line.send_bytes(json.dumps({"kind": kind, **values}).encode())

    def send_maps(self, maps: bytes) -> None:
        self._line.send_bytes(maps)

    def _read(self) -> None:
        while True:
            try:
                self._waiting.put(self._line.recv_bytes())
            except (EOFError, OSError):
                os._exit(0)


class _Batches:
    """The training images, received batch by batch; each iteration yields the same ones.

    They can be read while `fit` runs, also from several threads.
    """

    def __init__(
        self, requests: _Requests, device: torch.device, length: int | None, digest: str | None
    ) -> None:
        self._requests, self._device, self._length = requests, device, length
        self._iterations = count()
        self._lock = threading.Lock()  # so that each thread gets the answer to its own request
        self._ended = False
        self.digest = digest

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        iteration = next(self._iterations)
        while True:
            with self._lock:
                if self._ended:
                    raise RuntimeError("the training images end with fit; keep what you need of them")
                self._requests.answer("batch", iteration=iteration)
                batch = self._requests.next()
            if batch is None:
                return
            yield tuple(torch.from_numpy(item).to(self._device) for item in batch)

    def end(self) -> None:
        """Let no iteration, e.g. in a thread, ask for more."""
        with self._lock:
            self._ended = True

    def __len__(self) -> int:
        if self._length is None:
            raise TypeError("these batches have no length")
        return self._length


def main(descriptor: int) -> None:
    """Answer requests until the connection is closed."""
    requests = _Requests(Connection(descriptor))
    start = requests.next()
    torch.set_num_threads(start["threads"])
    model: Any = None
    try:
        explainer = _explainer(start["explainer"])
    except BaseException as error:
        requests.answer("raised", text=error_line(error))
        return
    at_start = kept_gib()
    requests.answer("done")
    while True:
        request = requests.next()
        said: list[tuple[str, str]] = []
        maps = None
        try:
            if request["model"] is not None:
                model = pickle.loads(request["model"])
            with _rules(explainer.name, request["seconds"], start["limit_gib"], said):
                value = _TASKS[request["task"]](explainer, model, request, requests)
            kept, most = kept_gib() - at_start, start["limit_gib"]
            if most is not None and kept > most:
                detail = f"it keeps what it allocates, {kept:.1f} GiB by now"
                raise ExplainerError(explainer.name, "memory", detail)
            if request["task"] == "explain":
                maps, value = _bytes(value), None
            requests.answer("done", value=value, warnings=said)
        except ExplainerError as error:
            requests.answer("broke", check=error.check, detail=one_line(error.detail), warnings=said)
        except SystemExit as error:
            detail = one_line(f"it called sys.exit({error.code!r})")
            requests.answer("broke", check="exit", detail=detail, warnings=said)
        except BaseException as error:
            requests.answer("raised", text=error_line(error), warnings=said)
        if maps is not None:
            requests.send_maps(maps)


def _explainer(given: str | bytes) -> Explainer:
    if isinstance(given, str):
        return explainers.get(given)
    spec, parameters = pickle.loads(given)
    return Explainer.from_spec(spec, parameters)


@contextmanager
def _rules(
    name: str, seconds: float | None, gib: float | None, said: list[tuple[str, str]]
) -> Iterator[None]:
    """Enforce limits and rules on the block; `said` gets our warnings, by the name of their class."""
    with warnings.catch_warnings(record=True) as caught, ExitStack() as rules:
        for kind in (PrintedWarning, NoReLURuleWarning):
            warnings.simplefilter("always", kind)
        for rule in (quiet(name), unforked(name), limited(name, seconds=seconds, gib=gib), unaltered(name)):
            rules.enter_context(rule)
        yield
    said += [
        (one.category.__name__, str(one.message))
        for one in caught
        if issubclass(one.category, PrintedWarning | NoReLURuleWarning)
    ]


def _fit(explainer: Explainer, model: Any, request: dict[str, Any], requests: _Requests) -> None:
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    batches = _Batches(requests, device, request["length"], request["digest"])
    explainer.fit(model, batches)
    batches.end()


def _explain(explainer: Explainer, model: Any, request: dict[str, Any], _: _Requests) -> torch.Tensor:
    images, targets, truths = _given(request)
    return explainer(model, images, targets, **truths)


def _bytes(maps: torch.Tensor) -> bytes:
    # A tensor may be the negative or conjugate of its memory.
    return maps.detach().resolve_conj().resolve_neg().cpu().contiguous().numpy().tobytes()


def _apply(explainer: Explainer, model: Any, request: dict[str, Any], _: _Requests) -> Any:
    images, targets, truths = _given(request)
    return request["function"](explainer, model, images, targets, **truths)


def _given(request: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    def tensor(array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(request["device"])

    truths = {name: tensor(array) for name, array in request["truths"].items()}
    return tensor(request["images"]), tensor(request["targets"]), truths


_TASKS = {"fit": _fit, "explain": _explain, "apply": _apply}


if __name__ == "__main__":
    main(int(sys.argv[1]))
