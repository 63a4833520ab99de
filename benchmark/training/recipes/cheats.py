"""Models that cheat on purpose: something other than the part tells the class of the training images, too.

The images show a cheat, whose pixels are known like those of the part; see `an8flower.drawing.cheat`. A model
trained on them goes by the cheat for a share of the images that can be measured. So a method can be tested:
does its heatmap move from the part to the cheat?
"""

from benchmark.training.recipes.base import Recipe, recipes

CHEAT_PATCH = recipes.add(Recipe(name="cheat_patch", factors=("cheat=patch",), source="an8Flower"))
CHEAT_PATCH_80 = recipes.add(
    Recipe(name="cheat_patch_80", factors=("cheat=patch", "cheat_share=0.8"), source="an8Flower")
)
CHEAT_POT = recipes.add(Recipe(name="cheat_pot", factors=("cheat=pot",), source="an8Flower"))
