"""Train the small CNNs, one model for each fold, and read their weights.

>>> from benchmark.training import Recipe, load_model, train
"""

from benchmark.training.recipes import Lesson, Recipe, recipes
from benchmark.training.trainer import train, trained_record
from benchmark.training.weights import Trained, load_model, weights_path

__all__ = ["Lesson", "Recipe", "Trained", "load_model", "recipes", "train", "trained_record", "weights_path"]
