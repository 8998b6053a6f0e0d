"""Features of a video and a prompt in, text out: generation and multiple choice.

The features are arrays that another model has made, one per video, see `parbench.tasks.data.features`. The models are
those that are given such features; of transformers' own there are none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from parbench.bench.util.errors import UserError
from parbench.tasks.base import FEATURES_TEXT_MODEL, Collate, Head, Modality
from parbench.tasks.data.features import load, shape_of
from parbench.tasks.data.source import DataSource, Reads
from parbench.tasks.data.values import texts_of
from parbench.tasks.kinds.image_text import generate
from parbench.tasks.kinds.image_text_rows import ImageTextRows, batch_of
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.kinds.multiple_choice import MultipleChoice
from parbench.tasks.kinds.text_generation import GenerationOptions, TextGeneration, cut_at

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset

    from parbench.tasks.inference import Predictor, Rows

# The column of paths.
FEATURES = "features"


@dataclass(frozen=True)
class FeatureTextRows(ImageTextRows):
    """Rows whose features are read on access; ``dataset`` has their paths in ``features``, and ``example``."""

    def _encoded(self, row: int) -> dict[str, Any]:
        example = self.dataset[row]
        name = f"the video of example {example['example']}"
        features = load(Path(example[FEATURES]), name)
        _check_size(features.shape[1], self.processor, name)
        return dict(self.processor(features=[features], text=[self.prompts[row]]))


class WithFeatures(LanguageModelTask):
    """What the prompts of a task with features add to one of text alone."""

    head: Head = FEATURES_TEXT_MODEL
    modality = Modality.FEATURES_TEXT

    @property
    def reads(self) -> Reads:
        """The columns of the texts, and that of the paths."""
        of_text = cast(Reads, super().reads)
        return Reads((*of_text.texts, FEATURES), of_text.others)

    def beside_features(self, texts: Dataset, dataset: Dataset, where: str) -> Dataset:
        """Return checked rows with the paths of their features beside them; each file's header is read once.

        Args:
            texts: the rows' other columns, as `check` leaves them.
            dataset: the rows as the source has them.
            where: the split in words, for an error.

        Raises:
            UserError: a file cannot be read.
        """
        paths = texts_of(dataset, FEATURES, where)
        first = {path: row for row, path in reversed(list(enumerate(paths, start=1)))}
        for path, row in first.items():
            shape_of(Path(path), f"the video of row {row} of {where}")
        return texts.add_column(FEATURES, paths)

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns of the texts, and ``features``, the path of a file."""
        texts = cast(Any, super()).check(dataset, split)
        return self.beside_features(texts, dataset, f"the {split} split of {self.name}")

    def prepare(self, dataset: Dataset, processor: Any, max_length: int) -> FeatureTextRows:
        """Return rows whose features are read one by one, on access.

        A prompt of more than ``max_length`` tokens loses its end.

        Raises:
            UserError: the first video's features are not of the model's size.
        """
        if len(dataset):
            name = f"the video of example {dataset[0]['example']}"
            _check_size(shape_of(Path(dataset[0][FEATURES]), name)[1], processor, name)
        prompts = [self.prompt(example) for example in dataset]
        responses = [self.response(example) for example in dataset]
        kept = dataset.select_columns(["example", FEATURES])
        return FeatureTextRows(kept, prompts, responses, processor, max_length)

    def collate(self, processor: Any) -> Collate:
        """Return padding on the right, to the longest of the batch."""
        pad = int(processor.tokenizer.pad_token_id)
        return lambda rows: batch_of(rows, pad)


@dataclass(frozen=True, kw_only=True)
class FeaturesTextGeneration(WithFeatures, TextGeneration):
    """A task of one generated text per example, of the features of a video and a prompt."""

    options: GenerationOptions = field(default_factory=lambda: GenerationOptions(max_new_tokens=20))
    own_source: DataSource | None = None

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `TextGeneration.predictions`."""
        options = self.options
        decoding = {"max_new_tokens": options.max_new_tokens, "num_beams": options.num_beams}
        written = generate(predictor, cast(FeatureTextRows, inputs), **decoding)
        texts = predictor.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        return self.predictions(examples, [cut_at(text, options.stop) for text in texts])


@dataclass(frozen=True, kw_only=True)
class FeaturesTextChoice(WithFeatures, MultipleChoice):
    """A question about a video, of which the features are given, with a choice of answers."""

    own_source: DataSource | None = None

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `MultipleChoice.predictions`."""
        rows = cast(FeatureTextRows, inputs)
        choices = examples["choices"][:]
        places = [place for place, texts in enumerate(choices) for _ in texts]
        responses = [f" {text}" for texts in choices for text in texts]
        ranked = replace(rows.select(places), responses=responses, closed=False)
        return self.predictions(examples, predictor.log_likelihoods(ranked)[:, 0])


def _check_size(found: int, processor: Any, name: str) -> None:
    if found != processor.feature_size:
        raise UserError(
            f"{name} has features of {found} numbers, and the base model takes {processor.feature_size}; give those of "
            "the image model that it was made for, or another base model"
        )
