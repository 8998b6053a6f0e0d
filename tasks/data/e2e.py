"""The format of the E2E data: meaning representations of restaurants, each with texts of the same meaning.

Novikova, Dušek and Rieser, "The E2E Dataset: New Challenges For End-to-End Generation", SIGDIAL 2017. A row is a pair:
a meaning representation such as ``name[Blue Spice], eatType[coffee shop], area[city centre]`` and one reference. A
meaning has several rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

# The official files' names of the two columns, and the hub's.
COLUMNS = {"mr": "meaning_representation", "ref": "human_reference"}

# What the texts of published GPT-2 work on E2E call an attribute; see `linearised`.
LABELS = {
    "name": "name",
    "eatType": "Type",
    "food": "food",
    "priceRange": "price",
    "customer rating": "customer rating",
    "area": "area",
    "familyFriendly": "family friendly",
    "near": "near",
}

_ATTRIBUTE = re.compile(r"\s*([^\[\],]+?)\s*\[([^\[\]]*)\]\s*(?:,|$)")

Attributes = tuple[tuple[str, str], ...]


def parsed(meaning: str) -> Attributes:
    """Return the attributes of a meaning representation and their values, in its order.

    An attribute may occur twice: in the cleaned data it does.

    Raises:
        UserError: it is not of the form ``name[value], name[value]``.
    """
    found, end = [], 0
    while end < len(meaning) and (match := _ATTRIBUTE.match(meaning, end)):
        found.append((match[1], match[2].strip()))
        end = match.end()
    if end < len(meaning) or not found or meaning.rstrip().endswith(","):
        raise UserError(
            f'the meaning representation "{meaning}" cannot be read at character {end + 1}; '
            "it must be attributes with their values: name[Blue Spice], eatType[coffee shop]"
        )
    return tuple(found)


def written(attributes: Attributes) -> str:
    """Return the meaning representation of attributes: the inverse of `parsed`."""
    return ", ".join(f"{name}[{value}]" for name, value in attributes)


def linearised(meaning: str) -> str:
    """Return a meaning as GPT-2 is given it: ``name : Blue Spice | Type : coffee shop | area : city centre``.

    The form of the published E2E work with GPT-2: prefix tuning (Li and Liang, 2021) and LoRA (Hu et al., 2022), whose
    data files have it. An attribute that E2E does not know keeps its name.
    """
    return " | ".join(f"{LABELS.get(name, name)} : {value}" for name, value in parsed(meaning))


def pairs(dataset: Dataset, where: str) -> Dataset:
    """Return the columns ``mr`` and ``ref``, one row per pair, from a file's columns or from the hub's.

    The same pair may occur more than once: in the official files it does, and the official scorer counts each.

    Args:
        dataset: a split as a source has it.
        where: the split in words, for an error.

    Raises:
        UserError: a column is missing, a text is missing or blank, a meaning representation cannot be read.
    """
    if not len(dataset):
        raise UserError(f"{where} is empty; give a file with examples")
    for column, name_on_hub in COLUMNS.items():
        if column not in dataset.column_names and name_on_hub in dataset.column_names:
            dataset = dataset.rename_column(name_on_hub, column)
    absent = [column for column in COLUMNS if column not in dataset.column_names]
    if absent:
        raise UserError(
            f"{where} has no column {', '.join(absent)}: it must have mr and ref, and has "
            f"{', '.join(dataset.column_names)}"
        )
    for column in COLUMNS:
        texts = dataset[column][:]
        wrong = next((row for row, text in enumerate(texts) if not isinstance(text, str) or not text.strip()), None)
        if wrong is not None:
            raise UserError(f"{where} has no text in column {column}, row {wrong + 1}; fix or remove the row")
    for meaning in dict.fromkeys(dataset["mr"][:]):
        try:
            parsed(meaning)
        except UserError as error:
            raise UserError(f"in {where}, {error}") from error
    return dataset.select_columns(list(COLUMNS))


def grouped(dataset: Dataset) -> Dataset:
    """Return one row per meaning, ``mr`` with all its ``references``, in the order in which meanings first occur.

    What a model is scored on. References keep their order, and one that is there twice counts twice, as in the official
    scorer.

    Args:
        dataset: rows as `pairs` returns them.
    """
    from datasets import Dataset

    references: dict[str, list[str]] = {}
    meanings: Sequence[str] = dataset["mr"][:]
    for meaning, reference in zip(meanings, dataset["ref"][:], strict=True):
        references.setdefault(meaning, []).append(reference)
    return Dataset.from_dict({"mr": list(references), "references": list(references.values())})
