"""The tasks that files define, one class a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.bench.util.reference import Reference
from parbench.tasks.base import Task
from parbench.tasks.data.source import DataRef, HubDataset, Source
from parbench.tasks.from_yaml import schema
from parbench.tasks.kinds.image_classification import ImageClassification
from parbench.tasks.kinds.local_files import LocalFilesTask
from parbench.tasks.kinds.multiple_choice import MultipleChoice
from parbench.tasks.kinds.text_classification import TextClassification
from parbench.tasks.kinds.text_generation import Template, TextGeneration, check_columns

if TYPE_CHECKING:
    from datasets import Dataset


# Of the numbers of 32 bits: (2 - 2**-23) * 2**127.
_LARGEST = 3.4028234663852886e38


@dataclass(frozen=True, kw_only=True)
class FromFile(LocalFilesTask):
    """What a task of a file has beside what its kind has."""

    own_source: Source | None = None
    definition: Mapping[str, Any] | None = field(default=None, hash=False)


@dataclass(frozen=True, kw_only=True)
class FileClassification(FromFile, TextClassification):
    """A text classification or regression whose label column has a name of its own."""

    label: str = "label"

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the text columns and ``label``."""
        if self.label in self.texts:
            raise UserError(f'the column "{self.label}" of {self.name} cannot be both a text and the label')
        where = f"the {split} split of {self.name}"
        check_columns(dataset, (*self.texts, self.label), where)
        renamed = dataset.select_columns([*self.texts, self.label])
        if self.label != "label":
            renamed = renamed.rename_column(self.label, "label")
        if self.labels:
            return super().check(_by_name(renamed, "label", self.labels, where), split)
        return super().check(_finite(renamed, where), split)


@dataclass(frozen=True, kw_only=True)
class FileImages(FromFile, ImageClassification):
    """An image classification."""

    def check(self, dataset: Dataset, split: str) -> Dataset:
        """Return the columns ``image``, not decoded, and ``label``."""
        (column,) = self.label_columns
        where = f"the {split} split of {self.name}"
        check_columns(dataset, (*self.image_columns, column), where)
        # Class folders and the hub have names for the numbers in the column; of other columns nobody says.
        if getattr(dataset.features[column], "names", None) is None:
            dataset = _by_name(dataset, column, self.labels, where)
        return super().check(dataset, split)


@dataclass(frozen=True, kw_only=True)
class FileGeneration(FromFile, TextGeneration):
    """A text generation."""


@dataclass(frozen=True, kw_only=True)
class FileChoice(FromFile, MultipleChoice):
    """A multiple choice."""


def made(definition: schema.Definition, own_source: Source | None) -> Task:
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
    return FileImages(
        **common,
        labels=tuple(map(str, definition.labels)),
        image_columns=(definition.image,),
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


_MAKERS: dict[str, Callable[[Any, dict[str, Any]], Task]] = {
    "classification": _classification,
    "regression": _classification,
    "image_classification": _images,
    "text_generation": _generation,
    "multiple_choice": _choice,
}


def _by_name(dataset: Dataset, column: str, labels: tuple[str, ...], where: str) -> Dataset:
    """Return the labels in a column as ids: one is a name, or a number from 0 where no name is a number.

    Raises:
        UserError: a label is missing or unknown.
    """
    ids = {name: number for number, name in enumerate(labels)}
    # A file of comma-separated values does not tell the name 1 from the number, nor "true" from true.
    ids |= {name.lower(): number for name, number in ids.items() if name.lower() in ("true", "false")}
    numbers_are_names = any(name.lstrip("-").isdecimal() for name in labels)
    found: list[int] = []
    for row, label in enumerate(dataset[column][:]):
        name = str(label).lower() if isinstance(label, bool) else str(label)
        is_id = isinstance(label, int) and not isinstance(label, bool) and not numbers_are_names
        number = label if is_id else ids.get(name, -1)
        if label is None or not 0 <= number < len(labels):
            what = "no label" if label is None else f"the unknown label {label!r}"
            raise UserError(f"{where} has {what} in row {row + 1}; it may be {', '.join(labels)}")
        found.append(number)
    return dataset.remove_columns(column).add_column(column, found)


def _finite(dataset: Dataset, where: str) -> Dataset:
    """Return the labels as numbers with a point.

    Raises:
        UserError: one is missing, no number, or beyond those of 32 bits, as which models see them.
    """
    found: list[float] = []
    for row, label in enumerate(dataset["label"][:]):
        is_number = isinstance(label, int | float) and not isinstance(label, bool)
        if not is_number or not abs(label) <= _LARGEST:
            raise UserError(f"{where} has no number as its label in row {row + 1} (it is {label!r}); mend the row")
        found.append(float(label))
    return dataset.remove_columns("label").add_column("label", found)
