"""Images and a prompt in, text out: generation and multiple choice with language models that see images.

The models are those of transformers' ``AutoModelForImageTextToText``. Images stand where ``<image>`` does in the
template of the prompt, or before its text where it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from pydantic import Field

from parbench.bench.util.errors import UserError
from parbench.tasks.base import IMAGE_TEXT_MODEL, Collate, Head, Modality
from parbench.tasks.data.images import checked_image_columns, images_of
from parbench.tasks.data.source import DataSource, Reads
from parbench.tasks.data.thumbnail import thumbnail
from parbench.tasks.kinds.image_text_rows import DECODER, ImageTextRows, batch_of
from parbench.tasks.kinds.language_model import LanguageModelTask
from parbench.tasks.kinds.multiple_choice import MultipleChoice
from parbench.tasks.kinds.text_generation import GenerationOptions, Template, TextGeneration, cut_at
from parbench.tasks.options import TaskOptions

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from parbench.tasks.inference import Predictor, Rows

# Where an image stands in the template of a prompt.
IMAGE = "<image>"
# Of so many examples the per-example rows have a small picture and the question: as many as a report shows.
PICTURED = 12

Layout = Literal["model", "plain"]
_LAYOUT: Any = Field(
    default="model",
    description="model: the chat template of the model, where it has one; plain: images and text one after the other",
)


_SIZE: Any = Field(
    default=None,
    ge=1,
    le=2048,
    description="height and width to which images are resized, where the model takes several; its own if not given",
)


class ImageTextOptions(GenerationOptions):
    """How a text about images is generated: without sampling, greedily or by beams."""

    for_a_model: ClassVar[frozenset[str]] = frozenset({"image_size"})

    layout: Layout = _LAYOUT
    image_size: int | None = _SIZE


class ImageChoiceOptions(TaskOptions):
    """How a question about images is put to the model."""

    for_a_model: ClassVar[frozenset[str]] = frozenset({"image_size"})

    layout: Layout = _LAYOUT
    image_size: int | None = _SIZE


class WithImages(LanguageModelTask):
    """What the prompts of a task with images add to one of text alone.

    Attributes:
        images: the columns of images, in their order; each holds one image or a list of them.
        prompt_template: what the model is given beside the images.
    """

    head: Head = IMAGE_TEXT_MODEL
    modality = Modality.IMAGE_TEXT
    images: tuple[str, ...]
    prompt_template: Template
    options: ImageTextOptions | ImageChoiceOptions

    @property
    def reads(self) -> Reads:
        """The columns of the texts, and those of the images."""
        of_text = cast(Reads, super().reads)
        return Reads(of_text.texts, (*of_text.others, *((column,) for column in self.images)))

    def prompt(self, example: Mapping[str, Any]) -> str:
        """Return the text of the prompt, without its images."""
        return "".join(part for part in self._parts(example) if part is not None)

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns of the texts, and the images, not decoded, as ``image_1``, ``image_2``, ..."""
        texts = cast(Any, super()).check(dataset, split)
        return self.beside_images(texts, dataset, f"the {split} split of {self.name}")

    def beside_images(self, texts: Dataset, dataset: Dataset, where: str) -> Dataset:
        """Return checked rows with their images beside them.

        Args:
            texts: the rows' other columns, as `check` leaves them.
            dataset: the rows as the source has them.
            where: the split in words, for an error.

        Raises:
            UserError: a column of images is missing, or an image cannot be read.
        """
        from datasets import concatenate_datasets

        absent = [column for column in self.images if column not in dataset.column_names]
        if absent:
            raise UserError(f"{where} has no column {', '.join(absent)}; it has {', '.join(dataset.column_names)}")
        images = checked_image_columns(dataset, self.images, where)
        if both := sorted(set(images.column_names) & set(texts.column_names)):
            raise UserError(f"{where}: a template may not show the column {', '.join(both)}; give it another name")
        checked = concatenate_datasets([texts, images], axis=1)
        self._check_places(checked, where)
        return checked

    def prepare(self, dataset: Dataset, processor: Any, max_length: int) -> ImageTextRows:
        """Return rows that are decoded and tokenised one by one, on access.

        ``max_length`` counts the tokens of prompt, images and response. Prompts are never shortened.

        Raises:
            UserError: the tokenizer has no end of text, a text has the processor's token for an image in it, or the
                longest prompt leaves no room for a response or, of the model, for what is generated.
        """
        if processor.tokenizer.eos_token_id is None:
            raise UserError(
                f"the task {self.name} needs a language model that sees images, and the tokenizer of this base model "
                "has no end of text, which every response ends with; give another base model"
            )
        prompts, responses = [], []
        for example in dataset:
            prompts.append(self._laid_out(example, processor))
            responses.append(self._answer(self.response(example), processor))
        images = [name for name in dataset.column_names if name == "example" or name.startswith("image_")]
        rows = ImageTextRows(
            dataset.select_columns(images), prompts, responses, processor, max_length, self.options.image_size
        )
        if prompts:
            longest = max(range(len(prompts)), key=lambda row: len(prompts[row]))
            self._check_room(rows.with_responses(None)[longest]["input_ids"], processor.tokenizer)
        return rows

    def collate(self, processor: Any) -> Collate:
        """Return padding on the right, to the longest of the batch."""
        pad = int(processor.tokenizer.pad_token_id)
        return lambda rows: batch_of(rows, pad)

    def pictured(self, examples: Dataset, frame: pd.DataFrame) -> pd.DataFrame:
        """Return per-example rows with ``question`` and ``picture``, a small JPEG, of the first examples.

        Args:
            examples: the split.
            frame: its per-example rows.
        """
        first = examples.select(range(min(PICTURED, len(examples))))
        rest: list[Any] = [None] * (len(examples) - len(first))
        questions = [self.prompt(example) for example in first]
        pictures = [thumbnail(example) for example in first]
        frame["question"], frame["picture"] = [*questions, *rest], [*pictures, *rest]
        return frame

    def _check_room(self, prompt: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that a model has room for the longest prompt."""

    def _parts(self, example: Mapping[str, Any]) -> list[str | None]:
        """Return the filled texts of the prompt in their order, ``None`` where an image is."""
        texts = [Template(text).filled(example) for text in self.prompt_template.text.split(IMAGE)]
        if len(texts) == 1:
            return [*([None] * len(images_of(example))), *texts]
        return [part for text in texts for part in (text, None)][:-1]

    def _check_places(self, dataset: Dataset, where: str) -> None:
        places = self.prompt_template.text.count(IMAGE)
        if not places:
            return
        for row, example in enumerate(dataset, start=1):
            if len(images_of(example)) != places:
                raise UserError(
                    f"{where} has {len(images_of(example))} images in row {row}, and the prompt has {IMAGE} {places} "
                    f"times; give as many, or leave {IMAGE} out of the prompt, and the images come first"
                )

    def _is_chat(self, processor: Any) -> bool:
        return self.options.layout == "model" and bool(processor.chat_template)

    def _answer(self, response: str, processor: Any) -> str:
        """Return a response as it follows the prompt: behind a chat template without a blank before it."""
        return response.lstrip() if self._is_chat(processor) else response

    def _laid_out(self, example: Mapping[str, Any], processor: Any) -> str:
        """Return the prompt with the processor's token for each image."""
        parts = self._parts(example)
        token = str(processor.image_token)
        if any(part is not None and token in part for part in parts):
            raise UserError(
                f'example {example["example"]} of {self.name} has "{token}" in its text, by which the base model knows '
                "the place of an image; remove it there"
            )
        if self._is_chat(processor):
            written = (part for part in parts if part != "")
            content = [{"type": "image"} if part is None else {"type": "text", "text": part} for part in written]
            turns = [{"role": "user", "content": content}]
            return str(processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
        if IMAGE not in self.prompt_template.text:
            *images, text = parts
            return f"{token * len(images)}\n{text}"
        return "".join(token if part is None else part for part in parts)


@dataclass(frozen=True, kw_only=True)
class ImageTextGeneration(WithImages, TextGeneration):
    """A task of one generated text per example, of one or several images and a prompt.

    Attributes:
        images: the columns of images.
    """

    images: tuple[str, ...] = ("image",)
    options: ImageTextOptions = field(default_factory=ImageTextOptions)
    own_source: DataSource | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the templates."""
        return tuple(dict.fromkeys((*self.prompt_template.columns, *self.response_template.columns)))

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `TextGeneration.predictions` and `WithImages.pictured`."""
        options = self.options
        decoding = {"max_new_tokens": options.max_new_tokens, "num_beams": options.num_beams}
        written = generate(predictor, cast(ImageTextRows, inputs), **decoding)
        texts = predictor.processor.tokenizer.batch_decode(written, skip_special_tokens=True)
        return self.pictured(examples, self.predictions(examples, [cut_at(text, options.stop) for text in texts]))

    def _check_room(self, prompt: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> None:
        new = self.options.max_new_tokens
        if len(prompt) + new > tokenizer.model_max_length:
            raise UserError(
                f"a prompt of {len(prompt)} tokens with its images and max_new_tokens {new} are more than the "
                f"{tokenizer.model_max_length} tokens that the base model takes; lower max_new_tokens"
            )


@dataclass(frozen=True, kw_only=True)
class ImageTextChoice(WithImages, MultipleChoice):
    """A question about one or several images with a choice of answers.

    Attributes:
        images: the columns of images.
    """

    images: tuple[str, ...] = ("image",)
    options: ImageChoiceOptions = field(default_factory=ImageChoiceOptions)
    own_source: DataSource | None = None

    def prepare(self, dataset: Dataset, processor: Any, max_length: int) -> ImageTextRows:
        """Return rows that are decoded and tokenised one by one, on access; see `WithImages.prepare`.

        Raises:
            UserError: as there, or the longest prompt leaves no room for its choices: of what is cut only the beginning
                would be ranked.
        """
        rows = super().prepare(dataset, processor, max_length)
        if len(rows):
            longest = max(range(len(rows)), key=lambda row: len(rows.prompts[row]))
            choices = [self._answer(f" {text}", processor) for text in dataset["choices"][longest]]
            written = max(choices, key=len)
            needed = rows.select([longest]).with_responses([written]).needed_length(0)
            if needed > max_length:
                raise UserError(
                    f"example {dataset['example'][longest]} of {self.name} has {needed} tokens with its images and the "
                    f'choice "{written.strip()[:40]}", and train.max_length is {max_length}; raise it'
                )
        return rows

    def predict(self, predictor: Predictor, examples: Dataset, inputs: Rows) -> pd.DataFrame:
        """Return one row per example; see `MultipleChoice.predictions` and `WithImages.pictured`."""
        rows = cast(ImageTextRows, inputs)
        choices = examples["choices"][:]
        places = [place for place, texts in enumerate(choices) for _ in texts]
        responses = [self._answer(f" {text}", predictor.processor) for texts in choices for text in texts]
        ranked = replace(rows.select(places), responses=responses, closed=False)
        return self.pictured(examples, self.predictions(examples, predictor.log_likelihoods(ranked)[:, 0]))


def generate(predictor: Predictor, rows: ImageTextRows, **decoding: Any) -> list[list[int]]:
    """Return the tokens that a model writes after each prompt with its images, up to its end of text.

    Args:
        predictor: the model; its processor is one of images and text.
        rows: the prompts.
        decoding: arguments of transformers' ``generate``, such as ``num_beams`` and ``max_new_tokens``.

    Raises:
        DivergedError: a logit is not finite.
    """
    import torch

    from parbench.tasks.decoding import MustBeFinite, own_defaults_aside
    from parbench.tasks.inference import autocast

    model: Any = predictor.model.eval()
    tokenizer = predictor.processor.tokenizer
    pad, end = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)
    written: list[list[int]] = []
    writes_apart = bool(model.config.is_encoder_decoder)
    decoding["logits_processor"] = [MustBeFinite()]
    for rows_of_batch in _in_batches(rows.with_responses(None), predictor.batch_size):
        batch = batch_of(rows_of_batch, pad, left=not writes_apart)
        for name in ("labels", DECODER):
            batch.pop(name, None)
        inputs = {name: tensor.to(predictor.device) for name, tensor in batch.items()}
        with torch.no_grad(), autocast(predictor.device, predictor.precision), own_defaults_aside(model):
            found = model.generate(**inputs, do_sample=False, pad_token_id=pad, eos_token_id=end, **decoding)
        # A decoder of its own repeats the token that it starts from, and no prompt.
        first = 1 if writes_apart else inputs["input_ids"].shape[1]
        for tokens in found[:, first:].tolist():
            written.append(tokens[: tokens.index(end)] if end in tokens else tokens)
        predictor.on_batch(len(rows_of_batch))
    return written


def _in_batches(rows: ImageTextRows, size: int) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), size):
        yield [rows[row] for row in range(start, min(start + size, len(rows)))]
