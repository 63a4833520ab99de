"""Find the module that computes a layer: other libraries hook modules and do not see functions."""

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

# Kinds of layers, with max- and average pooling distinguished, and the modules that a library recognises.
Known = Mapping[str, tuple[type[nn.Module], ...]]
_AS_TEXT = {"relu": "ReLU", "max_pool": "max-pooling", "avg_pool": "average pooling", "conv": "convolution"}


@dataclass(frozen=True)
class Operation:
    """A layer and the module that computes it.

    Args:
        layer: the layer, as found by `explainers.layers`.
        kind: "conv", "relu", "max_pool", "avg_pool" or "fc".
        module: the module whose output is the layer's; None if a function inside a larger module
            computes it.
        place: name of the module that computes it, or that contains the function.
        calls: number of calls of `module` in a forward pass.
        in_place: the layer overwrites its input.
        overwritten: the next layer overwrites the layer's output.
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
    """Return all layers of `model` in forward order, with their modules.

    Args:
        model: in eval mode; hooked for one forward pass.
        images: (N, 3, H, W); the first image is enough.
    """
    running: list[nn.Module] = []
    calls: Counter[nn.Module] = Counter()
    outputs: dict[nn.Module, tuple[torch.Tensor, int]] = {}
    computed: dict[str, tuple[Call, nn.Module, torch.Tensor]] = {}
    before: dict[str, nn.Module | None] = {}

    def begins(module: nn.Module, _: Any) -> None:
        running.append(module)

    def ends(module: nn.Module, _: Any, output: Any) -> None:
        running.pop()
        calls[module] += 1
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, torch.Tensor):
            outputs[module] = first, first._version

    def act(call: Call) -> Any:
        sources = (module for module, (output, _) in outputs.items() if output is call.source)
        before[call.name] = next(sources, None)  # the innermost module ended first
        output = call.run()
        computed[call.name] = call, running[-1], value(output)
        return output

    with ExitStack() as hooks, torch.no_grad(), Watch(act) as watch:
        for module in model.modules():
            hooks.enter_context(module.register_forward_pre_hook(begins))
            hooks.enter_context(module.register_forward_hook(ends))
        model(images[:1].clone())

    places = {module: place for place, module in model.named_modules()}
    located = []
    for layer in watch.seen:
        call, innermost, output = computed[layer.name]
        last, version = outputs.get(innermost, (None, 0))
        # A module that runs several times has produced another output since.
        own = last is output or (calls[innermost] > 1 and not list(innermost.children()))
        kind = layer.kind if layer.kind != "pool" else "max_pool" if "max" in call.function else "avg_pool"
        located.append(
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
    return located


def module_for(
    model: nn.Module, images: torch.Tensor, layer: str, who: str, past: type[nn.Module] | None = None
) -> nn.Module:
    """Return the module that computes a layer with a map.

    Args:
        model: in eval mode.
        images: (N, 3, H, W); the first image is enough.
        layer: a name that `explainers.layers.find_layer` accepts.
        who: name of the method that needs the module, for messages.
        past: if the module has this type, return the module whose output is its input.
    Raises:
        UnknownNameError: if there is no such layer, with the closest matches.
        ValueError: if the layer has no map, or is not computed by a module alone; the message says why.
    """
    model_operations = operations(model, images)
    actual = named([operation.layer for operation in model_operations], layer)
    if len(actual.shape) != 3:
        raise ValueError(f"layer {layer!r} is fully connected and has no map; name a convolution")
    operation = model_operations[actual.number - 1]
    needs = f"{who} needs layer {actual.name!r} to be a module of its own, but "
    if operation.module is None:
        raise ValueError(f"{needs}the model calls it as a function; name a layer that is a module")
    if operation.calls > 1:
        raise ValueError(
            f"{needs}the model calls {operation.place!r} {operation.calls} times; name another layer"
        )
    if operation.overwritten:
        raise ValueError(f"{needs}the next layer overwrites its output in place; name the next layer")
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
    """Raise if a library would silently miss layers of a model.

    Args:
        model: in eval mode.
        images: (N, 3, H, W); the first image is enough.
        who: name of the method, for messages.
        known: kinds of layers that the method has rules for, and the modules that it recognises.
        once: kinds of layers for which it stores one call per module.
        intact: kinds of layers whose input it reads after the forward pass.
    Raises:
        ValueError: naming the layer and what would go wrong.
    """
    for operation in operations(model, images):
        kind, module, name = operation.kind, operation.module, operation.layer.name
        needs = f"{who} has a rule for {_AS_TEXT.get(kind, 'fully connected')} modules, but"
        if kind in known and module is None:
            raise ValueError(
                f"{needs} the model calls {name!r} as a function: the rule would silently not apply; use a "
                "module"
            )
        if kind in known and not isinstance(module, known[kind]):
            what = type(module).__name__
            raise ValueError(f"{needs} not for {what} ({name!r}): the rule would silently not apply")
        if kind in once and operation.calls > 1:
            raise ValueError(
                f"{needs} it stores one call per module, and the model calls {operation.place!r} "
                f"{operation.calls} times: it would mix them up; use a module for each call"
            )
        if kind in intact and operation.in_place:
            raise ValueError(
                f"{needs} it reads their input after the forward pass, and {name!r} overwrites its input: "
                "it would read the output instead; use inplace=False"
            )


def in_order(model: nn.Module, images: torch.Tensor) -> list[nn.Module]:
    """Return the modules in the order in which a forward pass completes them, one entry per call."""
    ended: list[nn.Module] = []
    with ExitStack() as hooks, torch.no_grad():
        for module in model.modules():
            hooks.enter_context(module.register_forward_hook(lambda one, *_: ended.append(one)))
        model(images[:1].clone())
    return ended


@contextmanager
def clean(model: nn.Module) -> Iterator[None]:
    """Remove the attributes that a library adds to modules inside the block."""
    before = {module: set(vars(module)) for module in model.modules()}
    try:
        yield
    finally:
        for module, names in before.items():
            for name in set(vars(module)) - names:
                delattr(module, name)


@contextmanager
def seeded(seed: int, image: torch.Tensor) -> Iterator[None]:
    """Seed the global generators of NumPy and PyTorch from a seed and an image inside the block.

    Afterwards they are restored.
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
    """Split a batch into batches of one, for libraries whose result depends on the whole batch."""
    return ((images[k : k + 1], targets[k : k + 1]) for k in range(len(images)))


def described(
    build: Callable[..., torch.Tensor], name: str, about: str, parameters: Mapping[str, Any]
) -> None:
    """Set the name, docstring and parameters of a function that takes any keyword arguments."""
    positional = [p for p in inspect.signature(build).parameters.values() if p.kind is not p.VAR_KEYWORD]
    own = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=default)
        for key, default in parameters.items()
    ]
    build.__signature__ = inspect.Signature([*positional, *own])  # type: ignore[attr-defined]
    build.__name__ = build.__qualname__ = name
    build.__doc__ = about
