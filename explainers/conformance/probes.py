"""Small networks and images that methods are checked on: one network, written in four ways."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

CLASSES, SIZE_PX = 3, 28


class Modular(nn.Module):
    """A network of modules: strided convolution, batch norm, ReLU, convolution, ReLU, max-pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 4, 5, stride=2), nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(6 * 5 * 5, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, 3) of images (N, 3, 28, 28)."""
        maps = self.relu1(self.norm(self.conv1(images)))
        return self.scores(self.pool(self.relu2(self.conv2(maps))))

    def scores(self, maps: torch.Tensor) -> torch.Tensor:
        """The last layer."""
        logits: torch.Tensor = self.fc(maps.flatten(1))
        return logits


class Functional(Modular):
    """The same with functions."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.relu(self.norm(self.conv1(images)))
        return self.scores(functional.max_pool2d(self.conv2(maps).relu(), 2))


class InPlace(Modular):
    """The same with ReLUs that overwrite their input."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)


class ReUsed(Modular):
    """The same with one ReLU module called twice."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu1(self.norm(self.conv1(images)))
        return self.scores(self.pool(self.relu1(self.conv2(maps))))


class Watched(Modular):
    """The same, which notes the size of each batch it is given, and can be told to raise.

    Its `breaks_at` is the number of the forward pass that raises in its last layer; 0 for none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.breaks_at = 0
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """As the others."""
        self.batches.append(len(images))
        return super().forward(images)

    def scores(self, maps: torch.Tensor) -> torch.Tensor:
        """The last layer, or the error."""
        if len(self.batches) == self.breaks_at:
            raise RuntimeError("the probe model raises")
        return super().scores(maps)


Kind = TypeVar("Kind", bound=Modular)


def model(kind: type[Kind]) -> Kind:
    """The network written in one of the ways, in eval mode, with the same weights for all."""
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from the global generator
        made = kind()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3, generator=generator)
        for statistic in (made.norm.running_mean, made.norm.running_var):
            assert statistic is not None
            statistic.uniform_(0.5, 1.5, generator=generator)
        made.fc.weight += 0.1  # so that every class has evidence, which maps without negatives need
    return made.eval()


def put_in_use(made: Modular) -> None:
    """Bring a network into the state it may have in the midst of its user's work."""
    made.train()
    made.pool.eval()
    made.conv1.weight.requires_grad_(False)
    made.fc.weight.grad = torch.ones_like(made.fc.weight)
    made.conv2.register_forward_hook(_hook)


def _hook(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    """A user's own."""


def state(made: nn.Module) -> dict[str, Any]:
    """All of a network that a method may not change: what it consists of, and a copy of every tensor."""
    found: dict[str, Any] = {}
    for name, module in made.named_modules():
        of = f"of {name or 'the model'}"
        for attribute, value in vars(module).items():
            if isinstance(value, dict):  # parameters, buffers, submodules, hooks
                what = attribute.strip("_").replace("_", " ")
                found |= {f"the {what} {of} ({key})": id(one) for key, one in value.items()}
            elif not attribute.startswith("_"):  # the mode, and what was hung on it
                found[f"the attribute {attribute!r} {of}"] = value
    for name, tensor in made.state_dict(keep_vars=True).items():
        found[f"the values of {name}"] = tensor.tolist()
        found[f"requires_grad of {name}"] = tensor.requires_grad
        found[f"the gradient of {name}"] = None if tensor.grad is None else tensor.grad.tolist()
    return found


@dataclass(frozen=True)
class Batch:
    """What a method is given.

    Args:
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64.
        masks, object_masks: (N, H, W) bool, none empty, the first within the second.
    """

    images: torch.Tensor
    targets: torch.Tensor
    masks: torch.Tensor
    object_masks: torch.Tensor

    @classmethod
    def drawn(cls, n: int = 4, seed: int = 0) -> Self:
        """Random images with a brighter square each, which is the object."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(n, 3, SIZE_PX, SIZE_PX, generator=generator) / 2
        object_masks = torch.zeros(n, SIZE_PX, SIZE_PX, dtype=torch.bool)
        for k, (top, left) in enumerate(torch.randint(2, 14, (n, 2), generator=generator).tolist()):
            object_masks[k, top : top + 12, left : left + 12] = True
        images += object_masks[:, None] / 2
        masks = object_masks & (torch.rand(images[:, 0].shape, generator=generator) < 0.5)
        return cls(images, torch.arange(n) % CLASSES, masks, object_masks)

    def __getitem__(self, rows: torch.Tensor | slice) -> Self:
        """Some of its rows."""
        return type(self)(*(tensor[rows] for tensor in self.tensors))

    def clone(self) -> Self:
        """One that shares no memory with it."""
        return type(self)(*(tensor.clone() for tensor in self.tensors))

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All of it."""
        return self.images, self.targets, self.masks, self.object_masks


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Inside, the global generators of Python, NumPy and PyTorch start from `seed`."""
    own, numpys, torchs = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)  # noqa: NPY002
        torch.set_rng_state(torchs)


def random_states() -> dict[str, object]:
    """Where the global generators are, by whose they are."""
    return {
        "Python": random.getstate(),
        "NumPy": str(np.random.get_state(legacy=False)),  # noqa: NPY002
        "PyTorch": torch.get_rng_state().tolist(),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, PyTorch computes in one thread: on networks this small, more would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
