"""What is suspicious about a task's data and does not prevent its use: a check and every record report it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from parbench.tasks.data.labels import shortened

if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.tasks.metrics.classification import Metric

# A correlation of labels with themselves may miss 1 by so much.
_ROUNDING = 1e-6


def class_findings(labels: Sequence[str], splits: Mapping[str, Dataset]) -> list[str]:
    """Return in words which classes no model can learn, because ``train`` has no example of them.

    Args:
        labels: the class names in the order of their ids.
        splits: ``train``, ``selection`` and ``reported``, with the ids in the column ``label``.
    """
    counts = {name: Counter(split["label"][:]) for name, split in splits.items()}
    lacking = [number for number in range(len(labels)) if not counts["train"][number]]
    reported = [number for number in lacking if counts["reported"][number]]
    found = []
    if reported:
        examples = sum(counts["reported"][number] for number in reported)
        found.append(
            f"{_several(reported, labels)} in the reported split ({examples:,} of {len(splits['reported']):,} "
            "examples) and not in train: no model can learn what is scored there"
        )
    if elsewhere := [number for number in lacking if number not in reported]:
        found.append(f"{_several(elsewhere, labels)} named as a label, and train has no example of it")
    return found


def empty_texts(columns: Sequence[str], splits: Mapping[str, Dataset]) -> list[str]:
    """Return in words in which of the columns of text there are empty ones, or such of white space alone."""
    found = []
    for name, split in splits.items():
        for column in columns:
            texts: list[str] = split[column][:]
            empty = [row for row, text in enumerate(texts) if not text.strip()]
            if empty:
                example = split["example"][empty[0]] if "example" in split.column_names else f"row {empty[0] + 1}"
                found.append(
                    f"{len(empty):,} of {len(texts):,} {name} examples have an empty text in column {column} "
                    f"(the first is {example})"
                )
    return found


def below_full_marks(metrics: Mapping[str, Metric], splits: Mapping[str, Dataset]) -> list[str]:
    """Return in words which metrics do not give the right answers full marks, as no correlation does for equal labels.

    Args:
        metrics: by name.
        splits: ``train``, ``selection`` and ``reported``, with the columns ``label`` and ``subset``.
    """
    import numpy as np

    found = []
    for name in ("selection", "reported"):
        labels, subsets = np.array(splits[name]["label"][:]), np.array(splits[name]["subset"][:], dtype=object)
        for subset in dict.fromkeys(subsets.tolist()):
            part = labels[subsets == subset]
            where = f"on the {name} split{f', subset {subset},' if subset else ''}"
            values = shortened([f"{label:g}" for label in np.unique(part)])
            found += [
                f"{metric} gives the right answers {value:.2f} of 1 {where} because of its labels ({values}): it "
                "cannot distinguish models there"
                for metric, score in metrics.items()
                if (value := score(part, part)) < 1 - _ROUNDING
            ]
    return found


def _several(numbers: Sequence[int], labels: Sequence[str]) -> str:
    names = shortened([f'"{labels[number]}"' for number in numbers])
    return f"the class {names} is" if len(numbers) == 1 else f"the {len(numbers)} classes {names} are each"
