"""Examples of the reported split that are in training as well: what is scored there was seen."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.tasks.base import Modality, Splits, Task
from parbench.tasks.data.images import images_of
from parbench.tasks.data.video.columns import VIDEO
from parbench.tasks.kinds.features_text import FEATURES, WithFeatures
from parbench.tasks.kinds.language_model import LanguageModelTask

# What a task adds to an example's own columns.
ADDED = ("example", "subset")
# Of the reported examples: short texts that people write are the same by chance now and then.
MOST_LEAKED = 0.01


@dataclass(frozen=True)
class Leaks:
    """How many examples occur in two splits, whatever their labels.

    Attributes:
        reported: reported examples that are in train or selection as well.
        similar: further reported examples that differ from one there in case, blanks or the form of a character only.
        selection: selection examples that are in train as well, or similar to one there.
    """

    reported: int
    similar: int
    selection: int


def leaks(task: Task, splits: Splits) -> Leaks:
    """Return how many examples of the splits are in others as well."""
    train, selection, reported = (
        [_input(task, example) for example in split] for split in (splits.train, splits.selection, splits.reported)
    )
    known = {*train, *selection}
    similar, similar_train = set(map(_folded, known)), set(map(_folded, train))
    exact = sum(text in known for text in reported)
    return Leaks(
        exact,
        sum(_folded(text) in similar for text in reported) - exact,
        sum(_folded(text) in similar_train for text in selection),
    )


def _folded(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in texts)


def leak_findings(task: Task, splits: Splits) -> list[str]:
    """Return in words that more than `MOST_LEAKED` of the reported examples of a user's own data are in training.

    The splits of known tasks are as their publishers made them. Clips, which would all be read for it, are not compared
    here; `bench task check` does.
    """
    if task.definition is None or task.modality is Modality.VIDEO:
        return []
    found, size = leaks(task, splits), len(splits.reported)
    leaked = found.reported + found.similar
    if leaked <= MOST_LEAKED * size:
        return []
    similar = f" ({found.similar:,} of them but for case and blanks)" if found.similar else ""
    return [
        f"{leaked:,} of {size:,} reported examples ({leaked / size:.1%}) are in train or selection as well{similar}: "
        "what is scored there was seen in training"
    ]


def _input(task: Task, example: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what a model is given of an example."""
    images = tuple(hashlib.sha256(content_of(image)).hexdigest() for image in images_of(example))
    if isinstance(task, WithFeatures):
        # By name: a video of several questions would be read for each.
        return (task.prompt(example), *example.get("choices", ()), example[FEATURES])
    if isinstance(task, LanguageModelTask):
        return (task.prompt(example), *example.get("choices", ()), *images)
    own = {name: value for name, value in example.items() if name not in (*ADDED, "label")}
    if images:
        return images
    if isinstance(own.get(VIDEO), Mapping):
        return (hashlib.sha256(content_of(own[VIDEO])).hexdigest(),)
    return tuple(value if isinstance(value, str) else json.dumps(value, default=str) for value in own.values())


def content_of(image: Mapping[str, Any]) -> bytes:
    """Return the bytes of the file of an image or a clip."""
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()
