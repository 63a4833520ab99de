"""colour_mean: a colour detector with fixed weights; all pixels that match add up."""

from torch import nn

from benchmark.models.base import ModelSpec, models
from benchmark.models.colour_detector import LOGIT, SHARE, SIZE_PX, colour_detector


def colour_mean(classes: int) -> nn.Module:
    """Build the detector whose logit of a colour is 2000 times its mean match over all pixels.

    Args:
        classes: number of logits C; see `colour_detector`.
    Source: this project; the derivation is in `benchmark.models.colour_detector`.
    """
    return colour_detector(classes, nn.AvgPool2d(SIZE_PX), LOGIT / SHARE)


COLOUR_MEAN = models.add(ModelSpec("colour_mean", colour_mean, SIZE_PX, source="an8Flower"))
