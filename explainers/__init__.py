"""Methods that explain an image classifier with a heatmap.

>>> import explainers
>>> "grad_cam" in explainers.names()
True
"""

from explainers.base import Explainer, ExplainerError, ExplainerSpec, explainer, registry
from explainers.reference import get, names

__all__ = ["Explainer", "ExplainerError", "ExplainerSpec", "explainer", "get", "names", "registry"]
