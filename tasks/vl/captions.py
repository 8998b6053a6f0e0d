"""Captions, scored as the caption evaluation scores them: of MS COCO's images, by Karpathy's splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.data.coco import Captions
from parbench.tasks.data.source import DataRef, DataSource
from parbench.tasks.kinds.image_text import ImageTextGeneration, ImageTextOptions
from parbench.tasks.kinds.text_generation import Template, TextGeneration
from parbench.tasks.metrics import generation
from parbench.tasks.metrics.units import Unit

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset

METRICS = ("cider", "bleu_4")
# As papers on captions print it.
CIDER_IN_PERCENT = Unit("from 0 to 10", factor=100, places=1, low=0.0, high=10.0)


@dataclass(frozen=True, kw_only=True)
class CaptionsScored(TextGeneration):
    """Captions with several references each.

    CIDEr-D and BLEU-4 are pycocoevalcap's, on the tokens of its Java program. CIDEr lies between 0 and 10 and is shown,
    as papers print it, a hundred times as large. Its document frequencies are those of the scored references.
    """

    units: ClassVar[Mapping[str, Unit]] = MappingProxyType({"cider": CIDER_IN_PERCENT})
    metrics: tuple[str, ...] = METRICS
    references: str | None = "captions"

    def cleaned(self, text: str) -> str:
        """Return a caption as its evaluation passes it to the tokenizer."""
        return text

    def check_metrics(self, reported: Dataset) -> None:
        """Check that the metrics can be computed here.

        Raises:
            UserError: there is no Java.
        """
        if missing := generation.unavailable().get("cider"):
            raise UserError(f"{self.name} is scored by CIDEr and BLEU-4 on the tokens of a Java program: {missing}")

    def reference_scores(self, reported: Dataset) -> Mapping[str, float]:
        """Return what the first reference of each example scores against all of them."""
        self.check_metrics(reported)
        return self.score(self.predictions(reported, [texts[0] for texts in reported["references"][:]]))

    def predictions(self, examples: Dataset, texts: Sequence[str]) -> pd.DataFrame:
        """Return ``example``, ``subset``, ``text``, ``references``, and the statistics of both metrics."""
        import pandas as pd

        references = examples["references"][:]
        frame = pd.DataFrame({name: examples[name][:] for name in ("example", "subset")})
        frame = frame.assign(text=list(texts), references=references)
        written = [self.cleaned(text) for text in texts]
        wanted = [[self.cleaned(text) for text in several] for several in references]
        return pd.concat([frame, generation.example_statistics(written, wanted, self.metrics)], axis=1)

    def as_scored(self, text: str) -> dict[str, str]:
        """Return nothing: the tokens are made by a Java program."""
        return {}

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return ``cider`` and ``bleu_4``; needs no Java."""
        return generation.corpus_scores(predictions)

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return a metric without each of the examples in turn, of shape (examples,)."""
        return generation.leave_one_out(predictions, metric) if metric in self.metrics else None


@dataclass(frozen=True, kw_only=True)
class CocoCaptions(ImageTextGeneration, CaptionsScored):
    """A caption for each image, scored against five references; one of them is trained on at a time."""

    metrics: tuple[str, ...] = METRICS
    references: str | None = "captions"

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files."""
        return Captions(root)


COCO_CAPTION = CocoCaptions(
    name="vl/coco_caption",
    reference=Reference("Microsoft COCO Captions: Data Collection and Evaluation Server", 2015, "arXiv", "1504.00325"),
    data=DataRef("coco", "train", {"": "test"}, selection="val", images=("image",)),
    prompt_template=Template("Describe the image in one sentence."),
    response_template=Template(" {caption}"),
    options=ImageTextOptions(max_new_tokens=32),
)
