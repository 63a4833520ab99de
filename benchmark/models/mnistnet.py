"""mnistnet: MatConvNet's network for MNIST, with stride 4 so that its input is 112 px."""

from collections import OrderedDict

from torch import nn

from benchmark.models.base import ModelSpec, SubtractMean, models

SIZE_PX = 112


def mnistnet(classes: int) -> nn.Module:
    """Build conv 5x5x20 s4, max-pool, conv 5x5x50, max-pool, conv 4x4x500, ReLU, conv 1x1xC.

    The last two convolutions are fully connected layers, written as convolutions over a map of one pixel.

    Args:
        classes: number of logits C.
    Source: MatConvNet (Vedaldi and Lenc 2015, arXiv 1412.4564), `cnn_mnist_init.m`, of which the network of
        Oramas et al. 2019, section 4.3, is "a variation". Departs: conv1 has three input channels, and
        stride 4, which reduces 112 px to 1 as stride 1 does for 28 px; weights are drawn as in
        `benchmark.training.fitting.initialise`.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        mean=SubtractMean(SIZE_PX),
        conv1=nn.Conv2d(3, 20, 5, stride=4),  # 112 -> 27
        pool1=nn.MaxPool2d(2),  # 13
        conv2=nn.Conv2d(20, 50, 5),  # 9
        pool2=nn.MaxPool2d(2),  # 4
        conv3=nn.Conv2d(50, 500, 4),  # 1
        relu1=nn.ReLU(),
        conv4=nn.Conv2d(500, classes, 1),
        flatten=nn.Flatten(),
    )
    return nn.Sequential(layers)


MNISTNET = models.add(ModelSpec("mnistnet", mnistnet, SIZE_PX, source="MatConvNet, cnn_mnist_init.m"))
