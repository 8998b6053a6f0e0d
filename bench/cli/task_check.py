"""What can be seen of a task before anything is trained: examples, labels, leaks, and the score of a constant."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from parbench.bench.util.errors import UserError
from parbench.tasks import TASKS, is_task_file
from parbench.tasks.data.location import DataLocation
from parbench.tasks.data.source import Source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from datasets import Dataset

    from parbench.tasks.base import Splits, Task
    from parbench.tasks.inference import Predictor

# What a task adds to an example's own columns.
_ADDED = ("example", "subset")
# Longer than any example; a tokenizer without a limit names a number that its own library cannot count to.
_ANY_LENGTH = 1_000_000


@dataclass(frozen=True)
class Constant:
    """What a model that says the same of every example is worth.

    Attributes:
        says: what it says, in words.
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
            raise UserError(f'"{name}" is a group of tasks, and one is looked into at a time: {", ".join(members)}')
        return TASKS[name]
    from parbench.tasks.from_yaml import task_of_file

    return task_of_file(Path(name))


def source_to_check(task: Task, location: DataLocation) -> Source:
    """Return the source of a task's data.

    Raises:
        UserError: the data is not there.
    """
    found = location.source(task)
    # The data alone: whether a judge is available, for example, is not checked here.
    if missing := next((reason for ref in task.refs if (reason := found.missing(ref))), None):
        raise UserError(f"the task {task.name} has no data: {missing}; put it there, or give --data-root")
    return found


def label_counts(task: Task, splits: Splits) -> dict[str, dict[str, int]]:
    """Return how often each class occurs in each split; nothing where there are no classes."""
    counts = {split: Counter(_of(splits, split)["label"][:]) for split in splits.sizes} if task.head.labels else {}
    return {
        name: {split: count[number] for split, count in counts.items()}
        for number, name in enumerate(task.head.labels if counts else ())
    }


def shown(task: Task, example: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of an example as a model sees them, each on one line.

    Line breaks and control characters are written as JSON writes them, so that they are seen and do nothing.
    """
    from parbench.tasks.kinds.language_model import LanguageModelTask

    if isinstance(task, LanguageModelTask):
        parts: dict[str, Any] = {"prompt": task.prompt(example), "response": task.response(example)}
        if "choices" in example:
            parts["choices"] = example["choices"]
    else:
        parts = {name: value for name, value in example.items() if name not in _ADDED}
        if task.head.labels:
            parts["label"] = task.head.labels[example["label"]]
    return {name: _line(value) for name, value in parts.items()}


def check_images(splits: Splits) -> None:
    """Decode every image, of which reading a task looks at the beginning only; a run would end at a broken one.

    Raises:
        UserError: one cannot be decoded.
    """
    from parbench.tasks.data.images import decoded

    for split in splits.sizes:
        dataset = _of(splits, split)
        if "image" in dataset.column_names:
            for example in dataset.select_columns(["example", "image"]):
                decoded(example["image"], f"image {example['example']}")


def truncated(task: Task, dataset: Dataset, tokenizer: Any, max_length: int) -> float:
    """Return the share of the examples that have more than ``max_length`` tokens."""
    lengths = list(_lengths(task, dataset, tokenizer))
    return sum(length > max_length for length in lengths) / len(lengths)


def leaks(task: Task, splits: Splits) -> int:
    """Return how many reported examples are, but for their label, in the training or selection split as well."""
    known = {_input(task, example) for dataset in (splits.train, splits.selection) for example in dataset}
    return sum(_input(task, example) in known for example in splits.reported)


def constant(task: Task, splits: Splits) -> Constant | None:
    """Return what the simplest model there is scores, or ``None`` where it is not known what that would be.

    It says the most frequent class of the training split, its mean number, nothing at all, or the first choice.
    """
    import numpy as np

    from parbench.tasks.gpt4tools import Gpt4Tools
    from parbench.tasks.kinds.multiple_choice import MultipleChoice
    from parbench.tasks.kinds.text_generation import TextGeneration

    reported = splits.reported
    if isinstance(task, TextGeneration | Gpt4Tools):
        return Constant("nothing", task.score(task.predictions(reported, [""] * len(reported))))
    if isinstance(task, MultipleChoice):
        alike = np.zeros(sum(map(len, reported["choices"][:])))
        return Constant("the first choice", task.score(task.predictions(reported, alike)))
    if not task.head.is_new:
        return None
    labels = np.asarray(splits.train["label"][:])
    if task.head.labels:
        place = int(np.bincount(labels, minlength=len(task.head.labels)).argmax())
        says, logits = f"{task.head.labels[place]} always", np.eye(len(task.head.labels))[place]
    else:
        says, logits = f"{labels.mean():.4g} always", labels.mean(keepdims=True)
    frame = _said_of_all(task, reported, logits)
    return Constant(f"{says}, as is {'most frequent' if task.head.labels else 'the mean'} in train", task.score(frame))


def _said_of_all(task: Task, examples: Dataset, logits: np.ndarray) -> pd.DataFrame:
    import numpy as np

    @dataclass(frozen=True)
    class Same:
        def logits(self, rows: Sequence[Any]) -> np.ndarray:
            return np.tile(logits.astype("float32"), (len(examples), 1))

    return task.predict(cast("Predictor", Same()), examples, cast(Any, examples))


def _of(splits: Splits, name: str) -> Dataset:
    return getattr(splits, name)


def _lengths(task: Task, dataset: Dataset, tokenizer: Any) -> Iterator[int]:
    from parbench.tasks.kinds.language_model import LanguageModelTask

    if isinstance(task, LanguageModelTask):
        for example in dataset:
            prompt = tokenizer(task.prompt(example))["input_ids"]
            response = tokenizer(task.response(example), add_special_tokens=False)["input_ids"]
            # The end of text follows the response, and is not in the prompt though some tokenizers put it there.
            yield len(prompt) - (prompt[-1:] == [tokenizer.eos_token_id]) + len(response) + 1
    else:
        rows = task.prepare(dataset, tokenizer, min(int(tokenizer.model_max_length), _ANY_LENGTH))
        yield from (len(rows[row]["input_ids"]) for row in range(len(rows)))


def _input(task: Task, example: Mapping[str, Any]) -> str:
    from parbench.tasks.kinds.language_model import LanguageModelTask

    if isinstance(task, LanguageModelTask):
        return json.dumps([task.prompt(example), example.get("choices")])
    own = {name: value for name, value in example.items() if name not in (*_ADDED, "label")}
    if "image" in own:
        return hashlib.sha256(_encoded(own["image"])).hexdigest()
    return json.dumps(own, default=str)


def _encoded(image: Mapping[str, Any]) -> bytes:
    return image["bytes"] if image["bytes"] is not None else Path(image["path"]).read_bytes()


def _line(value: Any, most: int = 600) -> str:
    if isinstance(value, Mapping) and "bytes" in value:
        return _image(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    # JSON leaves alone what a terminal does not.
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def _image(value: Mapping[str, Any]) -> str:
    import io

    from PIL import Image

    content = _encoded(value)
    with Image.open(io.BytesIO(content)) as image:
        return f"{image.format} of {image.width} x {image.height} pixels, {image.mode}, {len(content):,} bytes"
