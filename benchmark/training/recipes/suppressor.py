"""suppressor: the plain training, on images under a coloured light that varies from view to view.

All classes of a view have the same light, so it tells nothing about the class. But the colour of petals can
only be read if the light is known, and pot and wall show it. So a model that reads the pot is right to do so,
although the pot belongs to no class. See Haufe et al. 2014, "On the interpretation of weight vectors of
linear models in multivariate neuroimaging", and Wilming et al. 2023, arXiv 2306.01464.
"""

from benchmark.training.recipes.base import Recipe, recipes

SUPPRESSOR = recipes.add(
    Recipe(
        name="suppressor",
        factors=("light_hue=0..360", "light_saturation=0.85"),
        source="Haufe et al. 2014",
    )
)
