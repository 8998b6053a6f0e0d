"""Whether the per-example rows of a run bear its record out: the same file, and the same metrics when recomputed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.code_version import source_hash
from bench.errors import UserError
from bench.record import RunRecord, Status
from bench.store import PREDICTIONS, Store, Unreadable

if TYPE_CHECKING:
    from tasks.base import Task

# Of a correlation of 32-bit numbers, two libraries agree no better; one example of 100,000 moves a metric by more.
TOLERANCE = 1e-6

_EXAMPLE = ["example", "subset", "label"]
_LOGITS = "logits"  # most of the file, and of no use to most metrics: read only for a task that asks for them


@dataclass(frozen=True, eq=False)
class Examples:
    """What runs were scored on; one object for all runs that share it.

    Attributes:
        subsets: index of each example's subset, of shape (examples,).
        labels: of shape (examples,).
    """

    subsets: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Said:
    """What one run said of each example, in the order of the examples' names.

    Attributes:
        examples: what it was scored on.
        predicted: numbers, of shape (examples,).
    """

    examples: Examples
    predicted: np.ndarray


@dataclass(frozen=True)
class Checked:
    """A record that its rows do not contradict.

    Attributes:
        run_id: the record's.
        record: the record.
        said: the rows; ``None`` for a run that is not ok, and where they are not one number an example.
        unchecked: why its metrics could not be recomputed, in words; ``None`` where they were.
    """

    run_id: str  # a record hashes its spec whenever it is asked
    record: RunRecord
    said: Said | None = None
    unchecked: str | None = None


@dataclass(frozen=True, eq=False)
class _Layout:
    """An order in which runs have written the same examples: as written, by name, and from the one to the other."""

    rows: pa.Table
    ordered: pa.Table
    order: np.ndarray
    examples: Examples


# By task, what runs were scored on: given to the checkers of two stores, it tells that theirs are the same examples.
Known = dict[str, list[_Layout]]


@dataclass
class Checker:
    """Checks the runs of one store, keeping what they share."""

    store: Store
    known: Known = field(default_factory=dict)

    def check(self, record: RunRecord) -> Checked | Unreadable:
        """Return the record with its rows, or why it must not count.

        Of runs that are ok, the file of rows must have the hash that the record holds, and every metric of the record
        that the task still has must come out of the rows. The file is read in pieces and without its logits.
        """
        if record.status is not Status.OK:
            return Checked(record.run_id, record)
        run_id = record.run_id
        path = self.store.runs / run_id / PREDICTIONS
        expected = record.files.get(PREDICTIONS)
        if expected is None and not record.metrics:
            return Checked(run_id, record)  # a run to choose hyper-parameters, which scores no reported split
        if expected is None:
            return Unreadable(path, "is not among the files of its record")
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    return Unreadable(path, "was changed after it was written (its hash is not that of the record)")
                file.seek(0)
                parquet = pq.ParquetFile(file)
                columns = [name for name in parquet.schema_arrow.names if name != _LOGITS]
                table = parquet.read(columns, use_threads=False)
        except FileNotFoundError:
            return Unreadable(path, "is missing")
        except OSError as error:
            return Unreadable(path, f"cannot be opened ({error.strerror or error})")
        except pa.ArrowException as error:
            return Unreadable(path, f"is not a table of rows ({error})")
        return self._recompute(run_id, record, table, path)

    def _recompute(self, run_id: str, record: RunRecord, table: pa.Table, path: Path) -> Checked | Unreadable:
        task = _find_task(record.spec.task)
        if isinstance(task, str):
            return Checked(run_id, record, self._said(record, table), task)
        try:
            metrics = _score(task, table, path)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            return Unreadable(path, f"cannot be scored by {record.spec.task} ({type(error).__name__}: {error})")
        for name, value in record.metrics.items():
            if name in metrics and not _equal(value, metrics[name]):
                return Unreadable(path, _contradiction(record, name, value, metrics[name]))
        gone = sorted(record.metrics.keys() - metrics.keys())
        unchecked = f"{record.spec.task} has no {', '.join(gone)} in this version" if gone else None
        return Checked(run_id, record, self._said(record, table), unchecked)

    def _said(self, record: RunRecord, table: pa.Table) -> Said | None:
        if not {*_EXAMPLE, "prediction"}.issubset(table.column_names):
            return None
        if not all(_is_numbers(table[name]) for name in ("label", "prediction")):
            return None
        layout = self._layout(record.spec.task, table.select(_EXAMPLE))
        return Said(layout.examples, _compact(table["prediction"].to_numpy()[layout.order]))

    def _layout(self, task: str, rows: pa.Table) -> _Layout:
        known = self.known.setdefault(task, [])
        found = next((layout for layout in known if layout.rows.equals(rows)), None)
        if found is None:
            order = pc.sort_indices(rows["example"])
            ordered = rows.take(order)
            shared = next((layout.examples for layout in known if layout.ordered.equals(ordered)), None)
            examples = shared or Examples(_codes(ordered["subset"]), ordered["label"].to_numpy())
            found = _Layout(rows, ordered, order.to_numpy(), examples)
            known.append(found)
        return found


def _score(task: Task, table: pa.Table, path: Path) -> Mapping[str, float]:
    import sklearn

    # The library's check of the arguments' types takes as long as the metrics.
    with sklearn.config_context(skip_parameter_validation=True):
        try:
            return task.score(_rows(table))
        except KeyError as error:
            if error.args != (_LOGITS,):
                raise
            return task.score(_rows(pq.read_table(path, use_threads=False)))


def _rows(table: pa.Table) -> pd.DataFrame:
    # What a file says of how pandas should read it is not asked: the columns tell enough, and in half the time.
    return table.to_pandas(ignore_metadata=True, use_threads=False)


def _find_task(name: str) -> Task | str:
    """Return the task, or why there is none."""
    from tasks import TASKS

    try:
        return TASKS[name]
    except UserError as error:
        return str(error)


def _equal(recorded: float, recomputed: float) -> bool:
    return math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (
        math.isnan(recorded) and math.isnan(recomputed)
    )


def _contradiction(record: RunRecord, name: str, recorded: float, recomputed: float) -> str:
    what = f"gives {name} {recomputed:.6g}, but the record says {recorded:.6g}"
    if record.spec.task_code == _task_code(record.spec.task):
        return what
    return f"{what}; {record.spec.task} has changed since, so that either may be right"


@cache
def _task_code(name: str) -> str:
    from tasks import TASKS

    return source_hash(TASKS.entry(name).module)


def _is_numbers(column: pa.ChunkedArray) -> bool:
    return not column.null_count and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    return column.combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)


def _compact(numbers: np.ndarray) -> np.ndarray:
    """Return whole numbers in as few bytes as hold them: a store may have many millions."""
    if not len(numbers) or not np.issubdtype(numbers.dtype, np.integer):
        return numbers
    return numbers.astype(np.promote_types(np.min_scalar_type(numbers.min()), np.min_scalar_type(numbers.max())))
