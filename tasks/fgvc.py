"""FGVC: the five fine-grained tasks that Visual Prompt Tuning put together (Jia et al., 2022).

VPT resizes the shorter side to 256 pixels and keeps 224, in training anywhere and mirrored at random. Its validation
splits are its own, a tenth of the training splits; here a tenth is cut likewise, except for Oxford Flowers, which has
an official one. A local copy lies below the data root in a folder of the task's own name (``cub200``), in the forms
that `parbench.tasks.data.folder.FolderSource` reads.
"""

from __future__ import annotations

from parbench.bench.util.reference import Reference
from parbench.tasks.data.labels import numbered
from parbench.tasks.data.source import DataRef
from parbench.tasks.kinds.image_classification import ImageClassification, ImageOptions
from parbench.tasks.vision import STANFORD_CARS as CARS

PUBLISHED = ImageOptions(fit="crop", augmentation="crop_flip")

CUB200 = ImageClassification(
    name="fgvc/cub200",
    reference=Reference("The Caltech-UCSD Birds-200-2011 Dataset", 2011, "technical report, Caltech"),
    data=DataRef("cub200", "train", {"": "test"}),
    labels=numbered(200),
    options=PUBLISHED,
)
NABIRDS = ImageClassification(
    name="fgvc/nabirds",
    reference=Reference(
        "Building a Bird Recognition App and Large Scale Dataset with Citizen Scientists: The Fine Print in "
        "Fine-Grained Dataset Collection",
        2015,
        "CVPR",
    ),
    data=DataRef("nabirds", "train", {"": "test"}),
    labels=numbered(555),
    options=PUBLISHED,
)
OXFORD_FLOWERS = ImageClassification(
    name="fgvc/oxford_flowers",
    reference=Reference("Automated Flower Classification over a Large Number of Classes", 2008, "ICVGIP"),
    data=DataRef("oxford_flowers", "train", {"": "test"}, selection="validation"),
    labels=numbered(102),
    options=PUBLISHED,
)
STANFORD_DOGS = ImageClassification(
    name="fgvc/stanford_dogs",
    reference=Reference(
        "Novel Dataset for Fine-Grained Image Categorization: Stanford Dogs", 2011, "CVPR workshop FGVC"
    ),
    data=DataRef("stanford_dogs", "train", {"": "test"}),
    labels=numbered(120),
    options=PUBLISHED,
)
STANFORD_CARS = ImageClassification(
    name="fgvc/stanford_cars", reference=CARS.reference, data=CARS.data, labels=CARS.labels, options=PUBLISHED
)
