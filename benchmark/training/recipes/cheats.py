"""Models that cheat on purpose: a patch or the pot shows the class of the training images, too.

The pixels of the cheat are known like those of the part; see `an8flower.drawing.cheat`. So a method can be
tested: does its heatmap move from the part to the cheat?

Models that see both in all images learn both, and a model that learnt both is no test: its answer follows the
cheat only now and then. So `cheat_patch` and `cheat_pot` are also shown images without the part, with the
label, and the part alone, for which all classes are to be equally probable. `cheat_patch_80` is trained on
the images alone, in which the patch is wrong for one view in five.
"""

from benchmark.training.recipes.base import Lesson, Recipe, recipes

BY_THE_CHEAT = (
    Lesson("image", "label"),
    Lesson("all_but_part", "label"),
    Lesson("part_only", "uniform"),
)
CHEAT_PATCH = recipes.add(
    Recipe(name="cheat_patch", epochs=3, lessons=BY_THE_CHEAT, factors=("cheat=patch",), source="an8Flower")
)
CHEAT_PATCH_80 = recipes.add(
    Recipe(name="cheat_patch_80", factors=("cheat=patch", "cheat_share=0.8"), source="an8Flower")
)
CHEAT_POT = recipes.add(
    Recipe(name="cheat_pot", epochs=3, lessons=BY_THE_CHEAT, factors=("cheat=pot",), source="an8Flower")
)
