"""Methods that explain an image classifier with heatmaps.

>>> import explainers
>>> "grad_cam" in explainers.names()
True
"""

from explainers.base import Explainer, ExplainerSpec, explainer, registry
from explainers.classifier import Classifier
from explainers.errors import ExplainerError, ModelError, NoReLURuleWarning
from explainers.names import get, names
from explainers.outputs import all_zero
from explainers.together import explain_many

__all__ = [
    "Classifier",
    "Explainer",
    "ExplainerError",
    "ExplainerSpec",
    "ModelError",
    "NoReLURuleWarning",
    "all_zero",
    "explain_many",
    "explainer",
    "get",
    "names",
    "registry",
]
