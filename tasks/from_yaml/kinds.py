"""The tasks that YAML files define, one class per kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Task
from parbench.tasks.data.source import DataRef, DataSource, HubDataset
from parbench.tasks.from_yaml import schema
from parbench.tasks.kinds.image_classification import ImageClassification
from parbench.tasks.kinds.image_text import ImageChoiceOptions, ImageTextChoice, ImageTextGeneration
from parbench.tasks.kinds.multiple_choice import MultipleChoice
from parbench.tasks.kinds.text_classification import TextClassification
from parbench.tasks.kinds.text_generation import Template, TextGeneration
from parbench.tasks.kinds.video_classification import VideoClassification
from parbench.tasks.metrics.tokens import TokenizerNames

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class FromFile(Task):
    """What a task of a YAML file has beside the attributes of its kind."""

    own_source: DataSource | None = None
    definition: Mapping[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True, kw_only=True)
class FileClassification(FromFile, TextClassification):
    """A text classification or regression whose label column has a name of its own."""

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the text columns and ``label``."""
        if self.label in self.texts:
            raise UserError(f'the column "{self.label}" of {self.name} cannot be both a text and the label')
        return super().check(dataset, split)


@dataclass(frozen=True, kw_only=True)
class FileImages(FromFile, ImageClassification):
    """An image classification."""


@dataclass(frozen=True, kw_only=True)
class FileImageText(FromFile, ImageTextGeneration):
    """A text generation about images."""


@dataclass(frozen=True, kw_only=True)
class FileImageChoice(FromFile, ImageTextChoice):
    """A multiple choice about images."""


@dataclass(frozen=True, kw_only=True)
class FileVideos(FromFile, VideoClassification):
    """A video classification."""


@dataclass(frozen=True, kw_only=True)
class FileGeneration(FromFile, TextGeneration):
    """A text generation."""


@dataclass(frozen=True, kw_only=True)
class FileChoice(FromFile, MultipleChoice):
    """A multiple choice."""


def made(definition: schema.Definition, own_source: DataSource | None) -> Task:
    """Return the task that a definition is of."""
    common: dict[str, Any] = {
        "name": definition.name,
        "reference": Reference(**definition.reference.model_dump()),
        "data": data_ref(definition.data),
        "own_source": own_source,
        "definition": dumped(definition),
    }
    return _MAKERS[definition.kind](definition, common)


def dumped(definition: schema.Definition) -> dict[str, Any]:
    """Return a definition as a record keeps it, with every default."""
    return definition.model_dump(mode="json", exclude_none=True)


def data_ref(data: schema.Data) -> DataRef:
    """Return where the data is, in every kind of source."""
    hub = data.hub
    return DataRef(
        folder=data.folder,
        train=data.train,
        selection=data.selection,
        reported=data.reported if isinstance(data.reported, dict) else {"": data.reported},
        hub=HubDataset(hub.repository, hub.config, hub.revision) if hub else None,
    )


def _classification(definition: Any, common: dict[str, Any]) -> Task:
    return FileClassification(
        **common,
        texts=definition.texts,
        labels=tuple(map(str, getattr(definition, "labels", ()))),
        label=definition.label,
        metrics=definition.metrics,
    )


def _images(definition: Any, common: dict[str, Any]) -> Task:
    # A table may hold its images, or name their files.
    common |= {"data": replace(common["data"], images=(definition.image,))}
    return FileImages(
        **common,
        labels=tuple(map(str, definition.labels)),
        image_columns=(definition.image,),
        label_columns=(definition.label,),
        metrics=definition.metrics,
        options=definition.options,
    )


def _videos(definition: Any, common: dict[str, Any]) -> Task:
    return FileVideos(
        **{**common, "data": replace(common["data"], media="video")},
        labels=tuple(map(str, definition.labels)),
        video_columns=(definition.video,),
        label_columns=(definition.label,),
        metrics=definition.metrics,
        options=definition.options,
    )


def _generation(definition: Any, common: dict[str, Any]) -> Task:
    return FileGeneration(
        **common,
        prompt_template=Template(definition.prompt),
        response_template=Template(definition.response),
        references=definition.references,
        metrics=definition.metrics,
        tokens=TokenizerNames(definition.tokens.bleu, definition.tokens.rouge_l),
        options=definition.options,
    )


def _choice(definition: Any, common: dict[str, Any]) -> Task:
    choices = definition.choices
    return FileChoice(
        **common,
        prompt_template=Template(definition.prompt),
        choices=(choices,) if isinstance(choices, str) else choices,
        label=definition.label,
        metrics=definition.metrics,
    )


def _image_text(definition: Any, common: dict[str, Any]) -> Task:
    images = (definition.images,) if isinstance(definition.images, str) else definition.images
    common |= {"images": images, "data": replace(common["data"], images=images)}
    if definition.choices is None:
        return FileImageText(
            **common,
            prompt_template=Template(definition.prompt),
            response_template=Template(definition.response),
            references=definition.references,
            metrics=definition.metrics,
            tokens=TokenizerNames(definition.tokens.bleu, definition.tokens.rouge_l),
            options=definition.options,
        )
    choices = definition.choices
    return FileImageChoice(
        **common,
        prompt_template=Template(definition.prompt),
        choices=(choices,) if isinstance(choices, str) else choices,
        label=definition.label,
        metrics=definition.metrics,
        options=ImageChoiceOptions(**definition.options.model_dump(include=set(ImageChoiceOptions.model_fields))),
    )


_MAKERS: dict[str, Callable[[Any, dict[str, Any]], Task]] = {
    "classification": _classification,
    "regression": _classification,
    "image_classification": _images,
    "video_classification": _videos,
    "text_generation": _generation,
    "multiple_choice": _choice,
    "image_text": _image_text,
}
