"""What runs were scored on. The same examples are one object, which is how two runs are known to be comparable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_EXAMPLE = ("example", "subset")
_LABEL = "label"
# Of generated texts, the column of right answers.
REFERENCES = "references"


@dataclass(frozen=True, eq=False)
class Examples:
    """What runs were scored on; one object for all runs that share it.

    Attributes:
        subsets: index of each example's subset, of shape (examples,).
        labels: of shape (examples,); ``None`` where they are not numbers. Of texts that are right or wrong, a number
            for each right answer, see `with_answers`.
        names: of the subsets, by index.
    """

    subsets: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.subsets)

    @cached_property
    def strata(self) -> tuple[np.ndarray, ...]:
        """The places of each subset's examples, which are scored by themselves."""
        return tuple(np.flatnonzero(self.subsets == subset) for subset in np.unique(self.subsets))


@dataclass(frozen=True, eq=False)
class Layout:
    """An order in which runs have written the same examples.

    Attributes:
        rows: as written: names, subsets and, where they are numbers, labels.
        ordered: the same by name.
        order: places of the ordered rows among those that were written.
        examples: what they are.
    """

    rows: pa.Table
    ordered: pa.Table
    order: np.ndarray
    examples: Examples


# By task, what runs were scored on: given to the checkers of two stores, it identifies the examples that they share.
KnownLayouts = dict[str, list[Layout]]


def layout_of(known: KnownLayouts, task: str, table: pa.Table) -> Layout | None:
    """Return the order of a run's rows, or ``None`` where they do not name their examples.

    Two runs have the same examples where names, subsets and, if they are numbers, labels are the same.
    """
    if not set(_EXAMPLE).issubset(table.column_names):
        return None
    numbered = _LABEL in table.column_names and is_numbers(table[_LABEL])
    rows = table.select([*_EXAMPLE, _LABEL] if numbered else _EXAMPLE)
    layouts = known.setdefault(task, [])
    found = next((layout for layout in layouts if layout.rows.equals(rows)), None)
    if found is None:
        order = pc.sort_indices(rows["example"])
        ordered = rows.take(order)
        shared = next((layout.examples for layout in layouts if layout.ordered.equals(ordered)), None)
        labels = ordered[_LABEL].to_numpy() if numbered else None
        found = Layout(rows, ordered, order.to_numpy(), shared or _examples(ordered["subset"], labels))
        layouts.append(found)
    return found


def with_answers(table: pa.Table, references: pa.ChunkedArray) -> pa.Table:
    """Return rows whose label is a number for the right answer of each; unchanged where one has none or several.

    Args:
        table: rows of generated texts, without a label.
        references: of each row the list of its right answers.
    """
    if references.null_count or pc.any(pc.not_equal(pc.list_value_length(references), 1)).as_py():
        return table
    answers = pc.utf8_trim_whitespace(pc.list_flatten(references)).combine_chunks()
    if answers.null_count:
        return table
    found = answers.dictionary_encode()
    # Equal in every run, in whatever order it has the examples.
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in found.dictionary.to_pylist()]
    numbers = np.array([int.from_bytes(digest, signed=True) for digest in digests], dtype="int64")
    return table.append_column(_LABEL, pa.array(numbers[found.indices.to_numpy()]))


def is_numbers(column: pa.ChunkedArray) -> bool:
    """Return whether a column holds a number for every example."""
    return not column.null_count and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def _examples(subsets: pa.ChunkedArray, labels: np.ndarray | None) -> Examples:
    encoded = subsets.combine_chunks().dictionary_encode()
    names = tuple(map(str, encoded.dictionary.to_pylist()))
    return Examples(encoded.indices.to_numpy(zero_copy_only=False), labels, names)
