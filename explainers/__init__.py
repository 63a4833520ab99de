"""Methods that explain an image classifier with heatmaps.

>>> import explainers
>>> "grad_cam" in explainers.names()
True
"""

from explainers.base import Explainer, ExplainerError, ExplainerSpec, explainer, registry
from explainers.names import get, names
from explainers.together import explain_many

__all__ = [
    "Explainer",
    "ExplainerError",
    "ExplainerSpec",
    "explain_many",
    "explainer",
    "get",
    "names",
    "registry",
]
