"""an8net, the default: a small CNN with three convolutions, the first with stride 2."""

from collections import OrderedDict

from torch import nn

from benchmark.models.base import ModelSpec, SubtractMean, models

SIZE_PX = 112


def an8net(classes: int) -> nn.Module:
    """Build conv 7x7x32 s2, conv 5x5x64, conv 3x3x128, each with ReLU and max-pool, then fc 128, fc C.

    Args:
        classes: number of logits C.
    Source: this project; a variation of MatConvNet's MNIST network in the spirit of
        Oramas et al. 2019, section 4.3.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        mean=SubtractMean(SIZE_PX),
        conv1=nn.Conv2d(3, 32, 7, stride=2),  # 112 -> 53
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(2),  # 26
        conv2=nn.Conv2d(32, 64, 5),  # 22
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(2),  # 11
        conv3=nn.Conv2d(64, 128, 3),  # 9
        relu3=nn.ReLU(),
        pool3=nn.MaxPool2d(2),  # 4
        flatten=nn.Flatten(),
        fc1=nn.Linear(128 * 4 * 4, 128),
        relu4=nn.ReLU(),
        fc2=nn.Linear(128, classes),
    )
    return nn.Sequential(layers)


AN8NET = models.add(ModelSpec("an8net", an8net, SIZE_PX, source="an8Flower"))
