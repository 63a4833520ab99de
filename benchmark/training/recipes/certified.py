"""certified: the images, the part alone, and no part, so that the model uses the part.

A model that is trained on images alone may use whatever differs between the classes, may need the rest of the
plant to recognise a colour, and answers with one of the classes when the part is missing. Here it also sees
the part of each training image alone, with the same label: as the twin shows it, or in front of colours of no
class. And it sees the image without the part, for which all classes are to be equally probable: as the other
twin shows it, with the part covered by such colours, or with the part in such colours. These pictures are
moved as a whole by a few pixels. The twins are those of the training views.

Each epoch draws new backgrounds, covers and colours. They are not near the colours that the certificate gives
to parts, and none of its pictures is shown; see `benchmark.training.lessons`.
"""

from benchmark.training.recipes.base import Lesson, Recipe, recipes

CERTIFIED = recipes.add(
    Recipe(
        name="certified",
        epochs=6,
        batch=50,
        learning_rate=0.06,
        decay=0.65,
        enough_loss=0.0,
        lessons=(
            Lesson("image", "label"),
            Lesson("part_varied", "label"),
            Lesson("covered_varied", "uniform"),
        ),
        source="an8Flower",
    )
)
