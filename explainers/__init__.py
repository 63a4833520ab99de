"""Methods that explain an image classifier with a heatmap.

>>> import explainers
>>> "grad_cam" in explainers.names()
True
"""

from explainers.base import Explainer, ExplainerSpec, explainer, get, names, registry

__all__ = ["Explainer", "ExplainerSpec", "explainer", "get", "names", "registry"]
