"""certified: the images, the part alone, and no part, so that the model goes by the part.

A model that is trained on images alone may use whatever differs between the classes, may need the rest of the
plant to recognise a colour, and answers with one of the classes when the part is missing. Here it also sees
the part of each training image alone, with the same label: as the twin shows it, or in front of colours of no
class. And it sees the image without the part, for which all classes are to be equally probable: as the other
twin shows it, or with the part covered by such colours. The twins are those of the training views.

Each epoch draws new backgrounds and covers. They have no colour near those with which the certificate
covers parts, and none of its pictures is shown; see `benchmark.training.lessons`.
"""

from benchmark.training.recipes.base import Lesson, Recipe, recipes

CERTIFIED = recipes.add(
    Recipe(
        name="certified",
        epochs=8,
        learning_rate=0.08,
        decay=0.7,
        enough_loss=0.0,
        lessons=(
            Lesson("image", "label"),
            Lesson("part_varied", "label"),
            Lesson("covered_varied", "uniform"),
        ),
        source="an8Flower",
    )
)
