"""Questions about and captions of videos with subtitles: four tasks of the VALUE benchmark, as VL-Adapter puts them.

Sung et al., 2022 (arXiv 2112.06825): the prompt is the subtitles, the question with its moment and the answers by their
names, or the moment to describe, and the task's name; the answer is the name of one, or the caption. Other than in the
published code, the answer is the one whose name is most likely in place of what is written, and captions are scored
clip by clip against all of a clip's references, as the benchmark's own evaluation scores them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.reference import Reference
from parbench.tasks.base import Splits
from parbench.tasks.data.features import shape_of
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.data.value import (
    SEGMENT,
    SELECTION,
    TRAIN,
    VALIDATION,
    How2qa,
    Tvc,
    Tvqa,
    Yc2c,
    begins,
)
from parbench.tasks.data.values import texts_of
from parbench.tasks.kinds.features_text import FEATURES, FeaturesTextChoice, FeaturesTextGeneration
from parbench.tasks.kinds.text_generation import Template
from parbench.tasks.vl.captions import METRICS, CaptionsScored

if TYPE_CHECKING:
    from datasets import Dataset

QUESTION_COLUMNS = ("subtitles", "question", "moment", "answers")
QUESTION = "[Subs] {subtitles} [Q] {question} [TS] ({moment}) [Choices] {answers}"


@dataclass(frozen=True, kw_only=True)
class VideoQuestions(FeaturesTextChoice):
    """Questions about videos, whose answers are named a0, a1 and so on in the prompt.

    Attributes:
        published: the publishers' files, in a folder of a data root.
    """

    published: type[Tvqa | How2qa]
    choices: tuple[str, ...] = ()
    label: str = "label"
    metrics: tuple[str, ...] = ("accuracy",)

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files."""
        return self.published(root)

    @property
    def reads(self) -> Reads:
        """All columns."""
        return Reads((*QUESTION_COLUMNS, "label", FEATURES))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns of the prompt, ``choices``, the names of the answers, ``label`` and ``features``."""
        from datasets import Dataset

        where = f"the {split} split of {self.name}"
        texts = {name: texts_of(dataset, name, where) for name in QUESTION_COLUMNS}
        names = [f"a{number}" for number in range(self.published.answers)]
        labels = [int(label) for label in dataset["label"][:]]
        columns = {**texts, "choices": [names] * len(labels), "label": labels}
        return self.beside_features(Dataset.from_dict(columns), dataset, where)

    def findings(self, splits: Splits) -> list[str]:
        """Return in words what is suspicious about the data: empty texts, and moments after the end of their video."""
        return [*super().findings(splits), *late_moments(splits)]


@dataclass(frozen=True, kw_only=True)
class VideoCaptions(FeaturesTextGeneration, CaptionsScored):
    """Captions of videos or of their moments, cleaned as the benchmark's evaluation cleans them.

    Attributes:
        published: the publishers' files, in a folder of a data root.
    """

    published: type[Tvc | Yc2c]
    metrics: tuple[str, ...] = METRICS
    references: str | None = "captions"

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files."""
        return self.published(root)

    def cleaned(self, text: str) -> str:
        """Return a caption with blanks for all that is not ASCII."""
        return "".join(character if character.isascii() else " " for character in text)

    def findings(self, splits: Splits) -> list[str]:
        """Return in words what is suspicious about the data: empty texts, and moments after the end of their video."""
        return [*super().findings(splits), *late_moments(splits)]


def late_moments(splits: Splits) -> Iterable[str]:
    """Yield, for each split, how many moments begin after the last of their video's features."""
    for name, split in splits.by_name.items():
        if "moment" not in split.column_names:
            continue
        segments: dict[str, int] = {}
        late = 0
        for path, moment in zip(split[FEATURES][:], split["moment"][:], strict=True):
            if path not in segments:
                segments[path] = shape_of(Path(path), "a video")[0]
            begin = begins(moment)
            late += begin is not None and begin >= SEGMENT * (segments[path] + 1)
        if late:
            yield (
                f"{late} of {len(split)} {name} examples are about a moment after the last of their video's features, "
                f"which there are one of per {SEGMENT} seconds"
            )


_DATA = DataRef("value", TRAIN, {"": VALIDATION}, selection=SELECTION)
TVQA = VideoQuestions(
    name="vl/tvqa",
    reference=Reference("TVQA: Localized, Compositional Video Question Answering", 2018, "EMNLP", "1809.01696"),
    data=_DATA,
    published=Tvqa,
    prompt_template=Template(f"{QUESTION} tvqa: "),
)
HOW2QA = VideoQuestions(
    name="vl/how2qa",
    reference=Reference(
        "HERO: Hierarchical Encoder for Video+Language Omni-representation Pre-training", 2020, "EMNLP", "2005.00200"
    ),
    data=_DATA,
    published=How2qa,
    prompt_template=Template(f"{QUESTION} how2qa: "),
)
TVC = VideoCaptions(
    name="vl/tvc",
    reference=Reference("TVR: A Large-Scale Dataset for Video-Subtitle Moment Retrieval", 2020, "ECCV", "2001.09099"),
    data=_DATA,
    published=Tvc,
    prompt_template=Template("[Subs] {subtitles} [TS] ({moment}) tvc: "),
    response_template=Template(" {caption}"),
)
YC2C = VideoCaptions(
    name="vl/yc2c",
    reference=Reference(
        "Towards Automatic Learning of Procedures from Web Instructional Videos", 2018, "AAAI", "1703.09788"
    ),
    data=_DATA,
    published=Yc2c,
    prompt_template=Template("[Subs] {subtitles} yc2c: "),
    response_template=Template(" {caption}"),
)
