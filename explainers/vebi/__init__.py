"""Visual explanation by interpretation: select the features that a network uses, and explain with them.

A feature is one channel of a layer. Three classes describe it at the three stages of the method:

- `Feature`: layer and channel alone. `responses` has one column per feature; no class is involved.
- `Selected`: a feature that the μ-lasso selected for a class on the training images, with its weight and
  its mean relevance for this class. `Selection.features` holds them.
- `Evidence`: a selected feature with positive relevance for the target class in one image, with this
  relevance (weight times response). `Explanation.evidence` holds them, for each image.

>>> from explainers.vebi import mu_lasso
>>> mu_lasso([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]], mu=0.5).weights.ravel().tolist()
[0.5, 0.0]
"""

from explainers.vebi.explainer import Evidence, Explanation, Vebi
from explainers.vebi.feature_selection import select
from explainers.vebi.interpretation import Interpretation, interpret
from explainers.vebi.lasso import Gram, MuLasso, mu_lasso, solve
from explainers.vebi.response import Feature, responses
from explainers.vebi.selected_features import Selected, Selection, SelectionError

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
