"""The fields of a task file."""

from __future__ import annotations

from datetime import date
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    field_validator,
    model_validator,
)

from parbench.bench.util.errors import UserError
from parbench.tasks import is_task_file
from parbench.tasks.kinds.image_classification import ImageOptions
from parbench.tasks.kinds.image_text import ImageChoiceOptions, ImageTextOptions
from parbench.tasks.kinds.text_generation import GenerationOptions, Template
from parbench.tasks.kinds.video_classification import VideoOptions
from parbench.tasks.metrics.tokens import BleuTokens, RougeTokens, TokenizerNames

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?$"
TEXT_METRICS = Literal["exact_match", "bleu", "chrf", "rouge_l"]
CHOICE_METRICS = Literal["accuracy", "acc_norm"]
IMAGE_TEXT_METRICS = Literal["exact_match", "bleu", "chrf", "rouge_l", "accuracy", "acc_norm"]


def _inside(text: str) -> str:
    """Return a relative path that stays below where it starts."""
    if PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or "\\" in text:
        raise ValueError("must be a relative path with / in it")
    if not text.strip() or ".." in PurePosixPath(text).parts or "\0" in text:
        raise ValueError("must not leave its folder")
    return text


def _quoted(value: object) -> object:
    """Refuse what YAML has taken for something else than a text or a whole number."""
    if value is None or isinstance(value, bool | float | date):
        written = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        raise ValueError(f"is {written} in YAML (as No, Yes, off and on are false and true); put it in quotes")
    return value


def _template(text: str) -> str:
    try:
        Template(text)
    except UserError as error:
        raise ValueError(str(error)) from error
    return text


Inside = Annotated[StrictStr, AfterValidator(_inside)]
TemplateText = Annotated[StrictStr, AfterValidator(_template)]
ColumnName = Annotated[StrictStr, Field(min_length=1), BeforeValidator(_quoted)]
LabelName = Annotated[StrictStr | StrictInt, BeforeValidator(_quoted)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Publication(_Model):
    """Where the task comes from: a publication, or its author."""

    title: StrictStr
    year: StrictInt
    venue: StrictStr
    arxiv: StrictStr | None = None


class Hub(_Model):
    """A dataset on the hub. Without a revision, the first one seen is kept beside the task file."""

    repository: StrictStr = Field(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")
    config: StrictStr | None = None
    revision: StrictStr | None = Field(default=None, pattern=r"^[0-9a-f]{40}$")


class Data(_Model):
    """Where the examples are.

    Attributes:
        folder: the folder of the files, below that of the task file; with ``--data-root``, below that.
        train: the split to train on: a file's name, or of images and videos a folder's.
        selection: the split to choose settings on; cut from ``train`` where none is named.
        reported: the split to report on; or several, by the name of each subset.
        hub: where to take the splits from in place of files.
    """

    folder: Inside = "."
    train: Inside
    selection: Inside | None = None
    reported: Inside | dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")], Inside] = Field(min_length=1)
    hub: Hub | None = None

    @model_validator(mode="after")
    def _apart(self) -> Self:
        reported = list(self.reported.values()) if isinstance(self.reported, dict) else [self.reported]
        names = [self.train, *([self.selection] if self.selection else []), *reported]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f'the split "{twice}" is named twice; train, selection and reported must be different')
        return self


class Definition(_Model):
    """The fields of every kind of task."""

    name: StrictStr = Field(pattern=_NAME)
    kind: StrictStr
    reference: Publication
    licence: StrictStr | None = None
    data: Data

    @field_validator("name")
    @classmethod
    def _no_file(cls, name: str) -> str:
        if is_task_file(name):
            raise ValueError("must not end like a file's")
        return name


class _Labelled(Definition):
    label: ColumnName = "label"
    labels: tuple[LabelName, ...] = Field(min_length=2)

    @field_validator("labels")
    @classmethod
    def _different(cls, labels: tuple[str | int, ...]) -> tuple[str | int, ...]:
        if len(set(map(str, labels))) < len(labels):
            raise ValueError("must be different from each other")
        return labels


class Classification(_Labelled):
    """One of several classes for a text or a pair of texts."""

    kind: Literal["classification"]
    texts: tuple[ColumnName, ...] = Field(min_length=1, max_length=2)
    metrics: tuple[Literal["accuracy", "f1", "matthews_correlation"], ...] = Field(default=("accuracy",), min_length=1)

    @model_validator(mode="after")
    def _f1_of_two(self) -> Self:
        if "f1" in self.metrics and len(self.labels) != 2:
            raise ValueError("the metric f1 is of two classes, the second being what is looked for")
        return self


class Regression(Definition):
    """A number for a text or a pair of texts."""

    kind: Literal["regression"]
    texts: tuple[ColumnName, ...] = Field(min_length=1, max_length=2)
    label: ColumnName = "label"
    metrics: tuple[Literal["pearson", "spearman"], ...] = Field(default=("pearson", "spearman"), min_length=1)


class Images(_Labelled):
    """One of several classes for an image."""

    kind: Literal["image_classification"]
    image: ColumnName = "image"
    metrics: tuple[Literal["accuracy", "mean_per_class_accuracy"], ...] = Field(default=("accuracy",), min_length=1)
    options: ImageOptions = Field(default_factory=ImageOptions)


class Videos(_Labelled):
    """One of several classes for a video."""

    kind: Literal["video_classification"]
    video: ColumnName = "video"
    metrics: tuple[Literal["accuracy", "top5_accuracy", "mean_per_class_accuracy"], ...] = Field(
        default=("accuracy",), min_length=1
    )
    options: VideoOptions = Field(default_factory=VideoOptions)


class TextTokens(_Model):
    """The tokens of metrics: of BLEU by sacrebleu's names, of ROUGE-L words of any script or of ASCII."""

    bleu: BleuTokens = TokenizerNames.bleu
    rouge_l: RougeTokens = TokenizerNames.rouge_l


class Generation(Definition):
    """A text to write."""

    kind: Literal["text_generation"]
    prompt: TemplateText
    response: TemplateText
    references: ColumnName | None = None
    metrics: tuple[TEXT_METRICS, ...] = Field(min_length=1)
    tokens: TextTokens = Field(default_factory=TextTokens)
    options: GenerationOptions = Field(default_factory=GenerationOptions)


class MultipleChoiceDefinition(Definition):
    """One of several answers, by their likelihood."""

    kind: Literal["multiple_choice"]
    prompt: TemplateText
    choices: ColumnName | tuple[ColumnName, ...] = Field(min_length=1)
    label: ColumnName = "label"
    metrics: tuple[CHOICE_METRICS, ...] = Field(default=("accuracy", "acc_norm"), min_length=1)


class ImageText(Definition):
    """A text to write, or one of several answers to choose, about one or several images."""

    kind: Literal["image_text"]
    images: ColumnName | tuple[ColumnName, ...] = Field(default="image", min_length=1)
    prompt: TemplateText
    response: TemplateText | None = None
    references: ColumnName | None = None
    choices: ColumnName | tuple[ColumnName, ...] | None = Field(default=None, min_length=1)
    label: ColumnName = "label"
    metrics: tuple[IMAGE_TEXT_METRICS, ...] = Field(min_length=1)
    tokens: TextTokens = Field(default_factory=TextTokens)
    options: ImageTextOptions = Field(default_factory=ImageTextOptions)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.response is None) == (self.choices is None):
            raise ValueError("needs either a response, which is written, or choices, which are ranked")
        if not isinstance(self.images, str) and len(set(self.images)) < len(self.images):
            raise ValueError("names a column of images twice; several images of a row are several columns, or a list")
        if self.choices is not None and self.references is not None:
            raise ValueError("has references, which are of a response; choices have a label")
        if self.choices is None:
            what, metrics, options = "a response", get_args(TEXT_METRICS), set(ImageTextOptions.model_fields)
        else:
            what, metrics, options = "choices", get_args(CHOICE_METRICS), set(ImageChoiceOptions.model_fields)
        if wrong := sorted(set(self.metrics) - set(metrics)):
            raise ValueError(f'"{wrong[0]}" is no metric of a task with {what}; there is: {", ".join(metrics)}')
        if unused := sorted(self.options.model_fields_set - options):
            raise ValueError(f'the option "{unused[0]}" has no meaning for a task with {what}; leave it out')
        return self


KINDS: dict[str, type[Definition]] = {
    "classification": Classification,
    "regression": Regression,
    "image_classification": Images,
    "video_classification": Videos,
    "text_generation": Generation,
    "multiple_choice": MultipleChoiceDefinition,
    "image_text": ImageText,
}
