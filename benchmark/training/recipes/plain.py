"""plain: the paper's training, on the images alone."""

from benchmark.training.recipes.base import Recipe, recipes

PLAIN = recipes.add(Recipe())
