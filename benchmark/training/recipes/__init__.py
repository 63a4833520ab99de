"""The recipes of training, one file each."""

from benchmark.training.recipes.base import Lesson, Recipe, recipes

__all__ = ["Lesson", "Recipe", "recipes"]
