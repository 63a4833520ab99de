"""Measure what an explainer costs: time, passes through the model, and memory.

A pass is counted by its arithmetic: the multiply-accumulates that involve the model's weights, seen where
PyTorch executes them. It does not matter which code calls them, or how the model is written. In units of one
plain forward pass of one image,

- forward: arithmetic with the weights in the same way as in a plain pass;
- backward: arithmetic with them, or with tensors computed from them, in any other way. Backpropagation
  through a convolution counts as much as the forward pass through it, also for a modified backward pass such
  as the stride fix, whose arithmetic differs.

So a gradient costs 1 and 1, a pass that stops early or starts late costs a fraction, and computation outside
the model costs nothing. Products of activations alone, as in attention, do not count in either direction.

PyTorch's `FlopCounterMode` does not replace this: it counts all products, and distinguishes neither weights
from activations nor forward from backward arithmetic.
"""

from __future__ import annotations

import time
import weakref
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explainers.base import Explainer
from explainers.guard import unchanged

MIB = 2**20


@dataclass(frozen=True)
class Cost:
    """What an explainer takes per image when it is called alone on a batch.

    Args:
        ms_per_image: median of the repeats, after a warm-up. On a CPU it is the time of the processor, all
            threads added, which other programs on the machine hardly change; on a GPU, the time that passes.
        forward_passes, backward_passes: in units of the arithmetic of one plain pass; NaN for a model
            without weights that multiply.
        peak_mib_per_image: peak memory of tensors beyond what was allocated before, divided by the number of
            images. On a CPU without the memory used inside an operation, and without NumPy's.
    """

    ms_per_image: float
    forward_passes: float
    backward_passes: float
    peak_mib_per_image: float


def cost(
    explainer: Explainer,
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    *,
    masks: torch.Tensor | None = None,
    object_masks: torch.Tensor | None = None,
    repeats: int = 3,
) -> Cost:
    """Explain `images` several times and measure what it takes.

    The explainer is called once on one image as a warm-up, once while passes and memory are counted, and
    `repeats` times for the clock, without counting.

    Args:
        explainer: fitted, if it learns.
        model, images, targets, masks, object_masks: arguments of the call, N of 1 or more.
        repeats: number of timed calls.
    Raises:
        ValueError: for no images or no repeats.
        Exception: what the explainer raises.
    """
    if not len(images) or repeats < 1:
        raise ValueError(f"cost needs 1 or more images and repeats; got {len(images)} and {repeats}")
    images = images.clone()  # so that no cached result of other explainers is used

    all_truths = {"masks": masks, "object_masks": object_masks}

    def call(some: slice = slice(None)) -> None:
        truths = {name: truth if truth is None else truth[some] for name, truth in all_truths.items()}
        explainer(model, images[some], targets[some], **truths)

    call(slice(1))
    plain, meter = Meter(model), Meter(model)
    with _in_parts():
        with unchanged(model), torch.no_grad(), plain:
            model(images[:1])
        with meter:
            call()
    runs = [_run(call, images.device) for _ in range(repeats)]
    forward, backward = passes(meter.uses, plain.uses)
    on_gpu = images.device.type == "cuda"
    peak = max(run.peak_bytes for run in runs) if on_gpu else meter.peak_bytes
    n = len(images)
    return Cost(1000 * median(run.seconds for run in runs) / n, forward / n, backward / n, peak / MIB / n)


def cost_as_json(
    explainer: Explainer,
    model: nn.Module,
    images: torch.Tensor,
    targets: torch.Tensor,
    **truths: Any,
) -> dict[str, float]:
    """Return the fields of `cost`, in a form that another process can send."""
    return asdict(cost(explainer, model, images, targets, **truths))


@contextmanager
def _in_parts() -> Iterator[None]:
    """Inside, PyTorch's attention consists of single operations, which can be counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@dataclass(frozen=True)
class _Run:
    """One call: its time, and on a GPU the memory beyond what was allocated before."""

    seconds: float
    peak_bytes: int


def _run(call: Callable[[], None], device: torch.device) -> _Run:
    if device.type != "cuda":
        start = time.process_time()
        call()
        return _Run(time.process_time() - start, 0)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    start = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    return _Run(seconds, torch.cuda.max_memory_allocated(device) - before)


@dataclass(frozen=True)
class Use:
    """Arithmetic that involved weights of the model.

    Args:
        weights: which ones; several if they were combined before.
        way: in which way, the same in every plain pass.
        macs: number of multiply-accumulates.
        images: number of images that went through a convolution that may be computed in several ways; None if
            `macs` is enough.
    """

    weights: frozenset[int]
    way: Hashable
    macs: int
    images: int | None = None


def passes(uses: Iterable[Use], plain: Sequence[Use]) -> tuple[float, float]:
    """Return forward and backward passes in `uses`, in units of `plain`, the forward pass of one image."""
    ways = {(use.weights, use.way) for use in plain}
    macs: Counter[int] = Counter()
    times: Counter[int] = Counter()
    for use in plain:
        for weight in use.weights:
            macs[weight] += use.macs
            times[weight] += 1
    forward = backward = 0.0
    for use in uses:
        if (use.weights, use.way) in ways:
            forward += use.macs
        elif use.images is None:
            backward += use.macs
        else:
            backward += use.images * sum(macs[one] / times[one] for one in use.weights if times[one])
    whole = sum(use.macs for use in plain)
    return (forward / whole, backward / whole) if whole else (float("nan"), float("nan"))


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Inside, record for each operation how it uses the weights of `model`, and the memory of its results.

    A tensor is derived from weights if all tensors that it is computed from are. Tensors are identified by
    their memory, because views and autograd's copies of them have nothing else in common.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.uses: list[Use] = []
        self.peak_bytes = 0
        self._held_bytes = 0
        self._born: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        tensors = [*model.parameters(), *model.buffers()]
        self._own = {_key(tensor) for tensor in tensors if _key(tensor)}
        self._made_of = {key: frozenset({key}) for key in self._own}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        given, made = _tensors((args, kwargs)), _tensors(output)
        self._count(func.overloadpacket, args, made)
        known = {_key(tensor) for tensor in given}
        sources = [self._made_of.get(_key(tensor)) for tensor in given]
        for tensor in made:
            key = _key(tensor)
            if key not in known:
                self._hold(key, tensor)
            if not key or key in self._own:
                continue
            if sources and None not in sources:
                self._made_of[key] = frozenset().union(*(one for one in sources if one))
            elif key in self._made_of:
                del self._made_of[key]
        return output

    def _hold(self, key: int, tensor: torch.Tensor) -> None:
        """Count the memory of a new tensor until it is freed."""
        if not key or key in self._born:
            return
        storage = tensor.untyped_storage()
        size = storage.nbytes()

        def gone(_: object) -> None:
            del self._born[key]
            self._made_of.pop(key, None)
            self._held_bytes -= size

        self._born[key] = weakref.ref(storage, gone)
        self._held_bytes += size
        self.peak_bytes = max(self.peak_bytes, self._held_bytes)

    def _count(self, operation: Any, args: tuple[Any, ...], made: Sequence[torch.Tensor]) -> None:
        if operation is _aten.convolution:
            self._convolve(args[0], args[1], made[0], transposed=args[6])
        elif operation is _aten.convolution_backward:
            signal, source, weight, transposed, wanted = *args[:3], args[7], args[10]
            macs = (source if transposed else signal).numel() * weight.numel() // weight.shape[0]
            for _ in range(sum(wanted[:2])):  # to the input, to the weights
                self._use(weight, source, "convolution, back", macs)
        elif operation in _PRODUCTS:
            first, second = args[_PRODUCTS[operation] : _PRODUCTS[operation] + 2]
            macs = made[0].numel() * first.shape[-1]
            contracted = 0 if operation is _aten.mv else -2
            self._use(second, first, _way(second, contracted), macs)
            self._use(first, second, _way(first, -1), macs)

    def _convolve(
        self, source: torch.Tensor, weight: torch.Tensor, output: torch.Tensor, *, transposed: bool
    ) -> None:
        macs = (source if transposed else output).numel() * weight.numel() // weight.shape[0]
        itself = _key(weight) in self._own
        self._use(weight, source, ("convolution", transposed, itself), macs, len(source))

    def _use(
        self, weight: torch.Tensor, other: torch.Tensor, way: Hashable, macs: int, images: int | None = None
    ) -> None:
        weights = self._made_of.get(_key(weight))
        if weights and _key(other) not in self._made_of:
            self.uses.append(Use(weights, way, macs, images))


_aten = torch.ops.aten
# Products of matrices, and which argument is their first factor.
_PRODUCTS = {_aten.mm: 0, _aten.bmm: 0, _aten.mv: 0, _aten.addmm: 1, _aten.baddbmm: 1, _aten.addmv: 1}


def _way(weight: torch.Tensor, contracted: int) -> Hashable:
    """Return which side of a matrix is summed over; in a backward pass it is the other one."""
    return "product", weight.shape[contracted], weight.stride(contracted)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _key(tensor: torch.Tensor) -> int:
    """Return a number that identifies the memory of a tensor, 0 if it has no own memory."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0
