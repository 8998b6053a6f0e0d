"""What is known of a task without training: its examples, labels and leaks, and what simple predictions score."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from datasets import Video
from PIL import Image

from parbench.bench.util.errors import UserError
from parbench.tasks import TASKS, is_task_file
from parbench.tasks.base import Modality, Splits, Task
from parbench.tasks.data.features import load, shape_of
from parbench.tasks.data.images import decoded, images_of
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.source import DataSource
from parbench.tasks.data.video.columns import VIDEO
from parbench.tasks.data.video.decoding import ClipFacts, encoded, facts
from parbench.tasks.data.video.frame_cache import FrameCache
from parbench.tasks.e2e_nlg import E2eNlg
from parbench.tasks.from_yaml import task_of_file
from parbench.tasks.gpt4tools import Gpt4Tools
from parbench.tasks.kinds.features_text import FEATURES, WithFeatures
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.kinds.multiple_choice import MultipleChoice
from parbench.tasks.kinds.special_tokens import closed_ids, continuing_ids
from parbench.tasks.kinds.text_generation import TextGeneration
from parbench.tasks.leaks import ADDED, content_of

if TYPE_CHECKING:
    from datasets import Dataset

    from parbench.tasks.inference import Predictor

# Longer than any example; a tokenizer without a limit has a number that its own library cannot count to.
ANY_LENGTH = 1_000_000


@dataclass(frozen=True)
class Constant:
    """The score of a prediction that is the same for every example.

    Attributes:
        says: the prediction, in words.
        scores: every metric on the reported split.
    """

    says: str
    scores: Mapping[str, float]


def task_to_check(name: str) -> Task:
    """Return a task by its registered name or the path of a YAML file.

    Raises:
        UserError: there is none, or the file defines none.
    """
    if not is_task_file(name):
        members = [known for known in TASKS if known.startswith(f"{name}/")]
        if name not in TASKS and members:
            raise UserError(f'"{name}" is a group of tasks; name one of them: {", ".join(members)}')
        return TASKS[name]
    return task_of_file(Path(name))


def source_to_check(task: Task, location: DataLocation) -> DataSource:
    """Return the source of a task's data.

    Raises:
        UserError: the data is not there.
    """
    found = location.source(task)
    # The data alone: whether a judge is available, for example, is not checked here.
    if missing := next((reason for ref in task.refs if (reason := found.missing(ref))), None):
        raise UserError(f"the task {task.name} has no data: {missing}; put it there, or give --data-root")
    return found


def label_counts(task: Task, splits: Splits, most: int = 20) -> dict[str, dict[str, int]]:
    """Return how often each class occurs in each split; of more than ``most`` only the extremes and the median."""
    if not task.head.labels:
        return {}
    names = task.head.labels
    counts = {name: Counter(split["label"][:]) for name, split in splits.by_name.items()}
    if len(names) <= most:
        return {name: {split: count[place] for split, count in counts.items()} for place, name in enumerate(names)}
    ordered = {split: sorted(count[place] for place in range(len(names))) for split, count in counts.items()}
    places = {"smallest": 0, "median": (len(names) - 1) // 2, "largest": len(names) - 1}
    return {
        f"{what} of {len(names)} classes": {split: sizes[place] for split, sizes in ordered.items()}
        for what, place in places.items()
    }


def shown(task: Task, example: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of an example as a model and the metrics see them, each on one line.

    Line breaks and control characters are written as JSON writes them, so that they are seen and do nothing.
    """
    if isinstance(task, LanguageModelTask):
        parts: dict[str, Any] = {"prompt": task.prompt(example), "response": task.response(example)}
        parts |= {f"image {number}": image for number, image in enumerate(images_of(example), start=1)}
        if isinstance(task, WithFeatures):
            parts["features"] = "{} segments of {} numbers".format(*shape_of(Path(example[FEATURES]), "the video"))
        parts |= {name: example[name] for name in ("choices", "references") if name in example}
        if "choices" in example:
            parts["right choice"] = example["label"]
        if "references" in example and isinstance(task, TextGeneration | E2eNlg):
            seen = task.as_scored(example["references"][0])
            parts |= {f"first reference to {metric}": text for metric, text in seen.items()}
    else:
        parts = {name: value for name, value in example.items() if name not in ADDED}
        if task.head.labels:
            parts["label"] = task.head.labels[example["label"]]
    return {name: _line(value, video=name == VIDEO) for name, value in parts.items()}


def check_files(splits: Splits) -> None:
    """Read every image, video and file of features: reading a task reads the headers only, and a run would end there.

    Raises:
        UserError: one cannot be decoded.
    """
    for dataset in splits.by_name.values():
        if VIDEO in dataset.column_names and isinstance(dataset.features[VIDEO], Video):
            for example in dataset.select_columns(["example", VIDEO]):
                _facts(example[VIDEO], f"clip {example['example']}")
        if FEATURES in dataset.column_names:
            for path in dict.fromkeys(dataset[FEATURES][:]):
                load(Path(path), "a video")
        columns = [name for name in dataset.column_names if name == "image" or name.startswith("image_")]
        seen: set[str] = set()
        for example in dataset.select_columns(["example", *columns]) if columns else ():
            for image in images_of(example):
                if image["path"] not in seen or image["bytes"]:
                    decoded(image, f"image {example['example']}")
                    seen.add(image["path"])


def truncated(task: Task, dataset: Dataset, tokenizer: Any, max_length: int) -> float:
    """Return the share of the examples that have more than ``max_length`` tokens."""
    lengths = list(_lengths(task, dataset, tokenizer))
    return sum(length > max_length for length in lengths) / len(lengths)


def constant(task: Task, splits: Splits) -> Constant | None:
    """Return what the simplest prediction scores, or ``None`` where it is not known what that would be.

    It is the most frequent class of the training split, its mean number, the first choice, or a text: the most frequent
    answer of the training split, where one is there several times, and otherwise none.
    """
    reported = splits.reported
    if isinstance(task, TextGeneration):
        answers = Counter(texts[0].strip() for texts in splits.train["references"][:])
        text, count = answers.most_common(1)[0] if answers else ("", 0)
        if count > 1:
            scores = task.score(task.predictions(reported, [text] * len(reported)))
            return Constant(f"{_line(text, 60)} always, as is most frequent in train", scores)
    if isinstance(task, TextGeneration | Gpt4Tools):
        return Constant("nothing", task.score(task.predictions(reported, [""] * len(reported))))
    if isinstance(task, MultipleChoice):
        equal = np.zeros(sum(map(len, reported["choices"][:])))
        return Constant("the first choice", task.score(task.predictions(reported, equal)))
    if not task.head.is_new:
        return None
    labels = np.asarray(splits.train["label"][:])
    if task.head.labels:
        place = int(np.bincount(labels, minlength=len(task.head.labels)).argmax())
        says, logits = f"{task.head.labels[place]} always", np.eye(len(task.head.labels))[place]
    else:
        says, logits = f"{labels.mean():.4g} always", labels.mean(keepdims=True)
    frame = _predicted(task, reported, np.tile(logits, (len(reported), 1)))
    return Constant(f"{says}, as is {'most frequent' if task.head.labels else 'the mean'} in train", task.score(frame))


def perfect_scores(task: Task, splits: Splits) -> Mapping[str, float] | None:
    """Return what each metric gives where every prediction is the reference itself, or ``None`` where not known.

    A metric that gives less than full marks there cannot measure a right answer.
    """
    reported = splits.reported
    if isinstance(task, TextGeneration):
        # By the same function that a run is refused by.
        return task.reference_scores(reported)
    if isinstance(task, E2eNlg):
        return task.score(task.predictions(reported, [texts[0] for texts in reported["references"][:]]))
    if isinstance(task, Gpt4Tools):
        return task.score(task.predictions(reported, [task.response(example) for example in reported]))
    if isinstance(task, MultipleChoice):
        right = [
            np.arange(len(choices)) == label
            for choices, label in zip(reported["choices"][:], reported["label"][:], strict=True)
        ]
        # Likelihoods are negative: what is not right must be unlikely even by the character.
        return task.score(task.predictions(reported, np.where(np.concatenate(right), 0.0, -1e9)))
    if not task.head.is_new:
        return None
    labels = np.asarray(reported["label"][:])
    logits = np.eye(len(task.head.labels))[labels] if task.head.labels else labels[:, None]
    return task.score(_predicted(task, reported, logits))


def _predicted(task: Task, examples: Dataset, logits: np.ndarray) -> pd.DataFrame:
    @dataclass(frozen=True)
    class Fixed:
        def logits(self, rows: Sequence[Any]) -> np.ndarray:
            return logits.astype("float32")

    return task.predict(cast("Predictor", Fixed()), examples, cast(Any, examples))


def _lengths(task: Task, dataset: Dataset, tokenizer: Any) -> Iterator[int]:
    if isinstance(task, LanguageModelTask) and task.modality is Modality.TEXT:
        for example in dataset:
            response = continuing_ids(task.response(example), tokenizer)
            yield len(task.prompt_ids(example, tokenizer)) + len(closed_ids(response, tokenizer))
    else:
        rows = task.prepare(dataset, tokenizer, ANY_LENGTH)
        yield from (len(rows[row]["input_ids"]) for row in range(len(rows)))


def _line(value: Any, most: int = 600, video: bool = False) -> str:
    if isinstance(value, Mapping) and "bytes" in value:
        return _clip(value) if video else _image(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    # JSON leaves alone what a terminal does not.
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _image(value: Mapping[str, Any]) -> str:
    content = content_of(value)
    with Image.open(io.BytesIO(content)) as image:
        return f"{image.format} of {image.width} x {image.height} pixels, {image.mode}, {len(content):,} bytes"


def _facts(clip: Mapping[str, Any], name: str) -> ClipFacts:
    content = encoded(clip, name)
    return FrameCache.usual().facts(hashlib.sha256(content).hexdigest(), lambda: facts(content, clip, name))


def _clip(value: Mapping[str, Any]) -> str:
    clip = _facts(value, "the clip")
    return f"{clip.frames} frames of {clip.width} x {clip.height} pixels, {len(content_of(value)):,} bytes"
