"""Small networks and images on which explainers are checked: one network, written in four ways."""

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

from an8flower.ground.deprecated import renamed

CLASSES, SIZE_PX = 3, 28


class Modular(nn.Module):
    """Network of modules: strided convolution, batch norm, ReLU, convolution, ReLU, max-pool, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm = nn.Conv2d(3, 4, 5, stride=2), nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(6 * 5 * 5, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, 3) of images (N, 3, 28, 28)."""
        maps = self.relu1(self.norm(self.conv1(images)))
        return self.scores(self.pool(self.relu2(self.conv2(maps))))

    def scores(self, maps: torch.Tensor) -> torch.Tensor:
        """Apply the last layer."""
        logits: torch.Tensor = self.fc(maps.flatten(1))
        return logits


class Functional(Modular):
    """The same network with functions instead of modules for ReLU and pooling."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = functional.relu(self.norm(self.conv1(images)))
        return self.scores(functional.max_pool2d(self.conv2(maps).relu(), 2))


class InPlace(Modular):
    """The same network with ReLUs that overwrite their input."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)


class ReUsed(Modular):
    """The same network with one ReLU module called twice."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu1(self.norm(self.conv1(images)))
        return self.scores(self.pool(self.relu1(self.conv2(maps))))


class Instrumented(Modular):
    """The same network, which records the size of each batch and raises on request.

    Args:
        breaks_at: number of the forward pass, from 1, that raises in the last layer; 0 for none. An
            attribute, as is `batches`, the sizes of the batches so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.breaks_at = 0
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Record the size of the batch and return its logits."""
        self.batches.append(len(images))
        return super().forward(images)

    def scores(self, maps: torch.Tensor) -> torch.Tensor:
        """Apply the last layer, or raise."""
        if len(self.batches) == self.breaks_at:
            raise RuntimeError("the probe model raises")
        return super().scores(maps)


Kind = TypeVar("Kind", bound=Modular)


def model(kind: type[Kind]) -> Kind:
    """Return the network written in one of the ways, in eval mode, with the same weights for all."""
    with torch.random.fork_rng(devices=[]):  # layers draw their initial weights from the global generator
        network = kind()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.3, generator=generator)
        for statistic in (network.norm.running_mean, network.norm.running_var):
            assert statistic is not None
            statistic.uniform_(0.5, 1.5, generator=generator)
        network.fc.weight += 0.1  # every class needs positive scores, for maps without negative values
    return network.eval()


def put_in_use(network: Modular) -> None:
    """Bring a network into a state that it may have during training: modes, gradients, a hook."""
    network.train()
    network.pool.eval()
    network.conv1.weight.requires_grad_(False)
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    network.conv2.register_forward_hook(_hook)


def _hook(module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
    """Stand for a hook that the user has registered."""


def state(network: nn.Module) -> dict[str, Any]:
    """Return all of a network that an explainer must not change, by description.

    These are the identities of its parts and hooks, its attributes, and the values, gradients and
    `requires_grad` of its tensors.
    """
    described: dict[str, Any] = {}
    for name, module in network.named_modules():
        of = f"of {name or 'the model'}"
        for attribute, value in vars(module).items():
            if isinstance(value, dict):  # parameters, buffers, submodules, hooks
                what = attribute.strip("_").replace("_", " ")
                described |= {f"the {what} {of} ({key})": id(part) for key, part in value.items()}
            elif not attribute.startswith("_"):  # the mode, and attributes that were added
                described[f"the attribute {attribute!r} {of}"] = value
    for name, tensor in network.state_dict(keep_vars=True).items():
        described[f"the values of {name}"] = tensor.tolist()
        described[f"requires_grad of {name}"] = tensor.requires_grad
        described[f"the gradient of {name}"] = None if tensor.grad is None else tensor.grad.tolist()
    return described


@dataclass(frozen=True)
class ProbeBatch:
    """The inputs of an explainer.

    Args:
        images: (N, 3, H, W) float32 in [0, 1].
        targets: (N,) int64.
        masks, object_masks: (N, H, W) bool, none of them empty, each mask within its object mask.
    """

    images: torch.Tensor
    targets: torch.Tensor
    masks: torch.Tensor
    object_masks: torch.Tensor

    @classmethod
    def drawn(cls, n: int = 4, seed: int = 0) -> Self:
        """Draw `n` random images, each with a brighter square, which is the object."""
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(n, 3, SIZE_PX, SIZE_PX, generator=generator) / 2
        object_masks = torch.zeros(n, SIZE_PX, SIZE_PX, dtype=torch.bool)
        for k, (top, left) in enumerate(torch.randint(2, 14, (n, 2), generator=generator).tolist()):
            object_masks[k, top : top + 12, left : left + 12] = True
        images += object_masks[:, None] / 2
        masks = object_masks & (torch.rand(images[:, 0].shape, generator=generator) < 0.5)
        return cls(images, torch.arange(n) % CLASSES, masks, object_masks)

    def __getitem__(self, rows: torch.Tensor | slice) -> Self:
        """Return some of the rows."""
        return type(self)(*(tensor[rows] for tensor in self.tensors))

    def clone(self) -> Self:
        """Return a copy that shares no memory."""
        return type(self)(*(tensor.clone() for tensor in self.tensors))

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All four tensors."""
        return self.images, self.targets, self.masks, self.object_masks


__getattr__ = renamed(__name__, {"Batch": "ProbeBatch", "Watched": "Instrumented"})


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators of Python, NumPy and PyTorch with `seed` inside the block."""
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
    """Return the states of the global generators, by library."""
    return {
        "Python": random.getstate(),
        "NumPy": str(np.random.get_state(legacy=False)),  # noqa: NPY002
        "PyTorch": torch.get_rng_state().tolist(),
    }


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch use one thread inside the block: networks this small gain nothing from more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
