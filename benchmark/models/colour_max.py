"""colour_max: a colour detector with fixed weights; the best-matching pixel decides."""

from torch import nn

from benchmark.models.base import ModelSpec, models
from benchmark.models.colour_detector import LOGIT, SIZE_PX, colour_detector


def colour_max(classes: int) -> nn.Module:
    """Build the detector whose logit of a colour is 20 times its largest match over all pixels.

    Args:
        classes: number of logits C; see `colour_detector`.
    Source: this project; the derivation is in `benchmark.models.colour_detector`.
    """
    return colour_detector(classes, nn.MaxPool2d(SIZE_PX), LOGIT)


COLOUR_MAX = models.add(ModelSpec("colour_max", colour_max, SIZE_PX, source="an8Flower"))
