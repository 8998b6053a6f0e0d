"""Visual questions with short answers: VQA v2 by Karpathy's splits, and GQA.

The prompt is LLaVA-1.5's for short answers (Liu et al., 2023, "Improved Baselines with Visual Instruction Tuning").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.reference import Reference
from parbench.tasks.base import Task
from parbench.tasks.data.coco import Questions
from parbench.tasks.data.gqa import GqaQuestions
from parbench.tasks.data.source import DataRef, DataSource
from parbench.tasks.kinds.image_text import ImageTextGeneration, ImageTextOptions
from parbench.tasks.kinds.text_generation import Template
from parbench.tasks.metrics.subsets import over_subsets
from parbench.tasks.metrics.vqa import normalised, vqa_accuracy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset

VQA_ACCURACY = "vqa_accuracy"
SHORT = Template("{question}\nAnswer the question using a single word or phrase.")
ANSWER = Template(" {answer}")
# The longest answers of either set have a few words.
OPTIONS = ImageTextOptions(max_new_tokens=16)


@dataclass(frozen=True, kw_only=True)
class VqaV2(ImageTextGeneration):
    """Questions with ten annotators' answers; trained on the most frequent one, scored by the official accuracy."""

    metrics: tuple[str, ...] = (VQA_ACCURACY,)
    references: str | None = "answers"

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files."""
        return Questions(root)

    def check_metrics(self, reported: Dataset) -> None:
        """Pass: annotators disagree, so that no answer needs to be right for all of them."""

    def reference_scores(self, reported: Dataset) -> Mapping[str, float]:
        """Return what the most frequent answers score."""
        return self.score(self.predictions(reported, reported["answer"][:]))

    def predictions(self, examples: Dataset, texts: Sequence[str]) -> pd.DataFrame:
        """Return ``example``, ``subset``, ``text``, ``references`` and ``vqa_accuracy``."""
        import pandas as pd

        references = examples["references"][:]
        return pd.DataFrame(
            {
                "example": examples["example"][:],
                "subset": examples["subset"][:],
                "text": list(texts),
                "references": references,
                VQA_ACCURACY: [vqa_accuracy(text, given) for text, given in zip(texts, references, strict=True)],
            }
        )

    def as_scored(self, text: str) -> dict[str, str]:
        """Return an answer as it is compared."""
        return {VQA_ACCURACY: normalised(text)}

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return ``vqa_accuracy``."""
        return over_subsets(predictions, lambda rows: {VQA_ACCURACY: float(rows[VQA_ACCURACY].mean())})

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return the mean accuracy without each of the examples in turn."""
        return Task.leave_one_out(self, predictions, metric) if metric in self.metrics else None


@dataclass(frozen=True, kw_only=True)
class Gqa(ImageTextGeneration):
    """Questions with one answer each, which must be given exactly, as by the official evaluator."""

    metrics: tuple[str, ...] = ("exact_match",)

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files."""
        return GqaQuestions(root)


# No commit of a copy on the hub could be verified: the publishers' files are needed.
VQA_V2 = VqaV2(
    name="vl/vqa_v2",
    reference=Reference(
        "Making the V in VQA Matter: Elevating the Role of Image Understanding in Visual Question Answering",
        2017,
        "CVPR",
        "1612.00837",
    ),
    data=DataRef("vqa_v2", "train", {"": "test"}, selection="val", images=("image",)),
    prompt_template=SHORT,
    response_template=ANSWER,
    options=OPTIONS,
)
# VL-Adapter and DoRA watch testdev after each epoch; here settings are chosen on the official validation split.
GQA = Gqa(
    name="vl/gqa",
    reference=Reference(
        "GQA: A New Dataset for Real-World Visual Reasoning and Compositional Question Answering",
        2019,
        "CVPR",
        "1902.09506",
    ),
    data=DataRef("gqa", "train", {"": "testdev"}, selection="val", images=("image",)),
    prompt_template=SHORT,
    response_template=ANSWER,
    options=OPTIONS,
)
