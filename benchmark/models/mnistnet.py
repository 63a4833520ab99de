"""mnistnet: MatConvNet's network for MNIST, at stride 4 so that it takes 112 px."""

from collections import OrderedDict

from torch import nn

from benchmark.models.base import ModelSpec, SubtractMean, models

SIZE_PX = 112


def mnistnet(classes: int) -> nn.Module:
    """conv 5x5x20 s4, max-pool, conv 5x5x50, max-pool, conv 4x4x500, ReLU, conv 1x1xC.

    Its two last layers are fully connected ones, written as convolutions over a map of one pixel.

    Args:
        classes: number of logits.
    Source: MatConvNet (Vedaldi and Lenc 2015, arXiv 1412.4564), `cnn_mnist_init.m`, of which the network of
        Oramas et al. 2019, section 4.3, is "a variation". Departs: conv1 has stride 4, the one for which
        112 px end in 1 (28 px do so at stride 1), and three input channels; weights are drawn as in
        `benchmark.training.trainer.initialise`.
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
