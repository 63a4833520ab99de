"""certified: the images, the part alone, and all but the part, so that the model goes by the part.

A model that is trained on images alone may use whatever differs between the classes, may need the rest of the
plant to recognise a colour, and answers with one of the classes when the part is missing. Here it also sees
each training image's part alone, with the same label, and the image without the part, for which all classes
are to be equally probable. No test view is used: the twins are those of the training views.
"""

from benchmark.training.recipes.base import Lesson, Recipe, recipes

CERTIFIED = recipes.add(
    Recipe(
        name="certified",
        epochs=3,
        enough_loss=0.0,
        lessons=(
            Lesson("image", "label"),
            Lesson("part_only", "label"),
            Lesson("all_but_part", "uniform"),
        ),
        source="an8Flower",
    )
)
