"""Receptive fields against the plainest oracle: put a NaN into a pixel and see which units it reaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from explainers.layers import Watch, layers, value
from explainers.receptive_field import ReceptiveField

SIZE = 24


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 7, stride=2, padding=3)
        self.norm = nn.BatchNorm2d(4)
        self.inner = nn.Conv2d(4, 4, 3, padding=1)
        self.skip = nn.Conv2d(4, 6, 1, stride=2)
        self.down = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.last = nn.Conv2d(6, 5, 2)

    def forward(self, x):
        x = functional.relu(self.norm(self.stem(x)), inplace=True)
        y = self.inner(x)
        y += x
        z = self.down(y.relu_()) + self.skip(x)
        return functional.adaptive_avg_pool2d(self.last(z), 1).flatten(1)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 5, padding="same")
        self.wide = nn.Conv2d(4, 3, 5, stride=2, padding=2)
        self.narrow = nn.Conv2d(4, 3, 1, stride=2)
        self.after = nn.Conv2d(6, 5, 3, dilation=2)

    def forward(self, x):
        x = functional.max_pool2d(self.first(x).clamp(min=0), 3, 2, 1)
        x = torch.cat([self.wide(x), self.narrow(x)], dim=1)
        return functional.avg_pool2d(self.after(functional.pad(x, (2, 1, 3, 0))), 2).mean((2, 3))


def plain():
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 5), stride=(1, 2), padding=(0, 2)), nn.ReLU6(), nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(4, 4, 3), nn.Dropout2d(), nn.AdaptiveAvgPool2d((3, 2)), nn.Flatten(), nn.Linear(24, 3),
    )  # fmt: skip


def reached(model, images):
    """For each layer, which units are NaN: (layers) list of bool maps."""
    found = []

    def note(call):
        output = call.run()
        found.append(value(output)[0].isnan().any(0))
        return output

    with torch.no_grad(), Watch(note):
        model(images)
    return found


@pytest.mark.parametrize("build", [Residual, Branching, plain])
def test_windows_are_the_pixels_that_reach_a_unit(build):
    torch.manual_seed(0)
    model = build().eval()
    images = torch.rand(1, 3, SIZE, SIZE)
    every = layers(model, images)
    spread = [torch.zeros(*layer.shape[1:], SIZE, SIZE, dtype=torch.bool) for layer in every]
    for row in range(SIZE):
        for column in range(SIZE):
            touched = images.clone()
            touched[0, :, row, column] = float("nan")
            for layer, seen, hit in zip(every, spread, reached(model, touched), strict=True):
                seen[..., row, column] = hit if layer.has_map else hit.any()
    exact = 0
    for layer, seen in zip(every, spread, strict=True):
        for place in np.ndindex(*seen.shape[:2]) if layer.has_map else ():
            top, bottom, left, right = layer.receptive_field.window(*place)
            rows, columns = seen[place].any(1).nonzero()[:, 0], seen[place].any(0).nonzero()[:, 0]
            assert (rows[0], columns[0]) == (max(top, 0), max(left, 0)), layer
            assert (rows[-1] + 1, columns[-1] + 1) == (min(bottom, SIZE), min(right, SIZE)), layer
            exact += 1
    assert exact > 100


def test_fully_connected_units_and_what_cannot_be_followed_see_the_whole_image():
    convolutions = nn.Conv2d(3, 4, 3), nn.PixelShuffle(2), nn.Conv2d(1, 2, 3)
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(288, 3))
    every = {layer.name: layer.receptive_field for layer in layers(model.eval(), torch.rand(1, 3, 9, 9))}
    assert every["conv1"] == ReceptiveField((3, 3), (1, 1), (0, 0))
    assert every["conv2"] == every["fc1"] == ReceptiveField((9, 9), (0, 0), (0, 0))
