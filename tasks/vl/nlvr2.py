"""NLVR2: is a statement true of two photographs?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from parbench.bench.util.reference import Reference
from parbench.tasks.data.nlvr2 import Statements
from parbench.tasks.data.source import DataRef, DataSource, Reads
from parbench.tasks.data.values import texts_of
from parbench.tasks.kinds.image_text import ImageTextChoice
from parbench.tasks.kinds.text_generation import Template
from parbench.tasks.metrics.subsets import over_subsets
from parbench.tasks.metrics.units import FRACTION, Unit

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

LABELS = ("false", "true")
CONSISTENCY = "consistency"


@dataclass(frozen=True, kw_only=True)
class Nlvr2(ImageTextChoice):
    """A statement about two images, each of which several pairs of images share.

    ``accuracy`` counts examples, ``consistency`` statements that are judged right for all their pairs of images, as the
    publishers' script does.
    """

    units: ClassVar[Mapping[str, Unit]] = MappingProxyType({CONSISTENCY: FRACTION})
    images: tuple[str, ...] = ("images",)
    choices: tuple[str, ...] = ()
    label: str = "label"
    metrics: tuple[str, ...] = ("accuracy", CONSISTENCY)

    def in_folder(self, root: Path) -> DataSource:
        """Return the publishers' files."""
        return Statements(root)

    @property
    def reads(self) -> Reads:
        """All columns."""
        return Reads(("sentence", "label", "group"), (("images",),))

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return ``sentence``, the images, ``choices``, ``label`` and ``group``."""
        from datasets import Dataset

        where = f"the {split} split of {self.name}"
        texts = {name: texts_of(dataset, name, where) for name in ("sentence", "group")}
        labels = [LABELS.index(label) for label in texts_of(dataset, "label", where)]
        columns = {**texts, "choices": [list(LABELS)] * len(labels), "label": labels}
        return self.beside_images(Dataset.from_dict(columns), dataset, where)

    def predictions(self, examples: Dataset, log_likelihoods: np.ndarray) -> pd.DataFrame:
        """Return the rows of `MultipleChoice.predictions`, and ``group``."""
        frame = super().predictions(examples, log_likelihoods)
        return frame.assign(group=examples["group"][:])

    def score(self, predictions: pd.DataFrame) -> Mapping[str, float]:
        """Return ``accuracy`` and ``consistency``."""
        return over_subsets(
            predictions,
            lambda rows: {
                "accuracy": float((rows["prediction"] == rows["label"]).mean()),
                CONSISTENCY: float((rows["prediction"] == rows["label"]).groupby(rows["group"]).all().mean()),
            },
        )

    def leave_one_out(self, predictions: pd.DataFrame, metric: str) -> np.ndarray | None:
        """Return a metric without each of the examples in turn; a statement without its only example is gone."""
        if metric != CONSISTENCY:
            return super().leave_one_out(predictions, metric)
        wrong = (predictions["prediction"] != predictions["label"]).to_numpy(dtype="float64")
        _, groups = np.unique(predictions["group"].to_numpy(dtype=str), return_inverse=True)
        sizes, faults = np.bincount(groups), np.bincount(groups, weights=wrong)
        consistent = faults == 0
        own = np.where(sizes[groups] > 1, faults[groups] - wrong == 0, False)
        count = len(sizes) - (sizes[groups] == 1)
        others = consistent.sum() - consistent[groups]
        return np.divide(others + own, count, out=np.full(len(wrong), np.nan), where=count > 0)


NLVR2 = Nlvr2(
    name="vl/nlvr2",
    reference=Reference(
        "A Corpus for Reasoning About Natural Language Grounded in Photographs", 2019, "ACL", "1811.00491"
    ),
    data=DataRef("nlvr2", "train", {"": "test1"}, selection="dev", images=("images",)),
    prompt_template=Template("{sentence}\nIs this true or false of the two images?"),
)
