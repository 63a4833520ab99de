"""Which module computes which layer: other libraries hook modules, and see nothing of functions."""

from __future__ import annotations

import inspect
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from explainers.layers import Call, Layer, Watch, named, value

# A layer's kind, with poolings told apart, and the modules of it that a library knows.
Known = Mapping[str, tuple[type[nn.Module], ...]]
_AS_TEXT = {"relu": "ReLU", "max_pool": "max-pooling", "avg_pool": "average pooling", "conv": "convolution"}


@dataclass(frozen=True)
class Operation:
    """A layer and where it is computed.

    Args:
        layer: as `explainers.layers` sees it.
        kind: "conv", "relu", "max_pool", "avg_pool" or "fc".
        module: the one that gives its output; None if a function computes it within a larger module.
        place: the name in the model of the module that computes it, or within which it is computed.
        calls: how often `module` runs in a forward pass.
        in_place: it writes into its input.
        overwritten: what follows writes into the layer's output.
        before: the module whose output is the layer's input, if there is one.
    """

    layer: Layer
    kind: str
    module: nn.Module | None
    place: str
    calls: int
    in_place: bool
    overwritten: bool
    before: nn.Module | None


def operations(model: nn.Module, images: torch.Tensor) -> list[Operation]:
    """All layers of `model` in forward order.

    Args:
        model: in eval mode; hooked for one forward pass.
        images: (N, 3, H, W), the first one is enough.
    """
    running: list[nn.Module] = []
    calls: Counter[nn.Module] = Counter()
    given: dict[nn.Module, tuple[torch.Tensor, int]] = {}
    made: dict[str, tuple[Call, nn.Module, torch.Tensor]] = {}
    before: dict[str, nn.Module | None] = {}

    def begins(module: nn.Module, _: Any) -> None:
        running.append(module)

    def ends(module: nn.Module, _: Any, output: Any) -> None:
        running.pop()
        calls[module] += 1
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor):
            given[module] = first, first._version

    def act(call: Call) -> Any:
        givers = (module for module, (output, _) in given.items() if output is call.source)
        before[call.name] = next(givers, None)  # the innermost one ended first
        output = call.run()
        made[call.name] = call, running[-1], value(output)
        return output

    with ExitStack() as hooks, torch.no_grad(), Watch(act) as watch:
        for module in model.modules():
            hooks.enter_context(module.register_forward_pre_hook(begins))
            hooks.enter_context(module.register_forward_hook(ends))
        model(images[:1].clone())

    places = {module: place for place, module in model.named_modules()}
    found = []
    for layer in watch.seen:
        call, innermost, output = made[layer.name]
        last, version = given.get(innermost, (None, 0))
        # A module that runs again has given another output since.
        own = last is output or (calls[innermost] > 1 and not list(innermost.children()))
        kind = layer.kind if layer.kind != "pool" else "max_pool" if "max" in call.function else "avg_pool"
        found.append(
            Operation(
                layer=layer,
                kind=kind,
                module=innermost if own else None,
                place=places[innermost],
                calls=calls[innermost] if own else 0,
                in_place=call.in_place,
                overwritten=last is output and output._version != version,
                before=before[layer.name],
            )
        )
    return found


def module_for(
    model: nn.Module, images: torch.Tensor, layer: str, who: str, past: type[nn.Module] | None = None
) -> nn.Module:
    """The module that computes a layer with a map.

    Args:
        model: in eval mode.
        images: (N, 3, H, W), the first one is enough.
        layer: a name that `explainers.layers.find_layer` knows.
        who: the method that needs it.
        past: for a module of this type, the one that gives its input is meant.
    Raises:
        UnknownNameError: if there is no such layer, with the closest matches.
        ValueError: if it has no map, or no module of its own; the message says what is in the way.
    """
    every = operations(model, images)
    found = named([operation.layer for operation in every], layer)
    if len(found.shape) != 3:
        raise ValueError(f"layer {layer!r} is fully connected and has no map; name a convolution")
    operation = every[found.number - 1]
    needs = f"{who} needs layer {found.name!r} to be a module of its own, but "
    if operation.module is None:
        raise ValueError(f"{needs}the model calls it as a function; name a layer that is a module")
    if operation.calls > 1:
        raise ValueError(
            f"{needs}the model calls {operation.place!r} {operation.calls} times; name another layer"
        )
    if operation.overwritten:
        raise ValueError(f"{needs}what follows overwrites it in place; name that layer instead")
    if past and isinstance(operation.module, past) and operation.before:
        return operation.before
    return operation.module


def must_be_modules(
    model: nn.Module,
    images: torch.Tensor,
    who: str,
    known: Known,
    once: tuple[str, ...] = (),
    intact: tuple[str, ...] = (),
) -> None:
    """Refuse a model of which a library would silently miss layers.

    Args:
        model: in eval mode.
        images: (N, 3, H, W), the first one is enough.
        who: the method.
        known: the kinds of layers that it has rules for, and the modules it recognises them by.
        once: the kinds of which it remembers one call a module.
        intact: the kinds whose input it looks at afterwards.
    Raises:
        ValueError: naming the layer and what would go wrong.
    """
    for operation in operations(model, images):
        kind, module, name = operation.kind, operation.module, operation.layer.name
        needs = f"{who} has a rule for {_AS_TEXT.get(kind, 'fully connected')} modules, but"
        if kind in known and module is None:
            raise ValueError(
                f"{needs} the model calls {name!r} as a function: it would silently go without; use a module"
            )
        if kind in known and not isinstance(module, known[kind]):
            what = type(module).__name__
            raise ValueError(f"{needs} does not know {what} ({name!r}): it would silently go without")
        if kind in once and operation.calls > 1:
            raise ValueError(
                f"{needs} remembers one call of each, and the model calls {operation.place!r} "
                f"{operation.calls} times: it would mix them up; use a module for each call"
            )
        if kind in intact and operation.in_place:
            raise ValueError(
                f"{needs} looks at their input afterwards, which {name!r} overwrites: it would take "
                f"the output for the input; write it with inplace=False"
            )


def in_order(model: nn.Module, images: torch.Tensor) -> list[nn.Module]:
    """The modules as a forward pass ends them, one for each call."""
    ended: list[nn.Module] = []
    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(lambda one, *_: ended.append(one)))
        model(images[:1].clone())
    return ended


@contextmanager
def clean(model: nn.Module) -> Iterator[None]:
    """Inside, a library may hang attributes on modules; afterwards they are gone."""
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, names in before.items():
            for name in set(vars(module)) - names:
                delattr(module, name)


@contextmanager
def seeded(seed: int, image: torch.Tensor) -> Iterator[None]:
    """Inside, the global generators of NumPy and PyTorch start from a seed and an image, as for `random`.

    Afterwards they are as before.
    """
    content = zlib.crc32(image.detach().cpu().contiguous().numpy().tobytes())
    start = int(np.random.SeedSequence([seed, content]).generate_state(1)[0])
    gpus = [image.device] if image.is_cuda else []
    numpys = np.random.get_state()  # noqa: NPY002 - the libraries draw from it
    with torch.random.fork_rng(devices=gpus):
        try:
            np.random.seed(start)  # noqa: NPY002
            torch.default_generator.manual_seed(start)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(start)
            yield
        finally:
            np.random.set_state(numpys)  # noqa: NPY002


def one_by_one(images: torch.Tensor, targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Each image and its target as a batch of one, for what a library computes from the whole batch."""
    return ((images[k : k + 1], targets[k : k + 1]) for k in range(len(images)))


def described(
    build: Callable[..., torch.Tensor], name: str, about: str, parameters: Mapping[str, Any]
) -> None:
    """Give a function that takes any keyword arguments the name, docstring and parameters it stands for."""
    positional = [p for p in inspect.signature(build).parameters.values() if p.kind is not p.VAR_KEYWORD]
    own = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default)
        for key, default in parameters.items()
    ]
    build.__signature__ = inspect.Signature([*positional, *own])  # type: ignore[attr-defined]
    build.__name__ = build.__qualname__ = name
    build.__doc__ = about
