"""Visual explanation by interpretation: find the features a network uses, explain with them, show them.

>>> from explainers.vebi import mu_lasso
>>> mu_lasso([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]], mu=0.5).weights.ravel().tolist()
[0.5, 0.0]
"""

from explainers.vebi.explainer import Evidence, Explanation, Vebi
from explainers.vebi.interpretation import Interpretation, interpret
from explainers.vebi.lasso import Gram, MuLasso, mu_lasso, solve
from explainers.vebi.response import Feature, responses
from explainers.vebi.selection import Selected, Selection, SelectionError
from explainers.vebi.selector import select

__all__ = [
    "Evidence",
    "Explanation",
    "Feature",
    "Gram",
    "Interpretation",
    "MuLasso",
    "Selected",
    "Selection",
    "SelectionError",
    "Vebi",
    "interpret",
    "mu_lasso",
    "responses",
    "select",
    "solve",
]
