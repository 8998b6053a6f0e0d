"""Check a record against its per-example rows: the same file, and the same metrics when recomputed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import sklearn

from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.record.run_spec import RunSpec, canonical
from parbench.bench.store.layout import PREDICTIONS
from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.errors import UserError
from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.constant import EXACT_MATCH
from parbench.reports.examples import REFERENCES, KnownLayouts, layout_of, with_answers
from parbench.reports.jackknife import TOLERANCE, LeftOut, leave_out, to_frame
from parbench.tasks import TASKS, find_task, task_code
from parbench.tasks.base import Task

_NAMES = ("example", "subset")


@dataclass(frozen=True)
class Checked:
    """A record that agrees with its rows.

    Attributes:
        run_id: the record's.
        record: the record.
        left_out: its score without each of its examples in turn, or in words why that is not known; ``None`` for a run
            that no table counts.
        unchecked: why its metrics could not be recomputed, in words; ``None`` where they were.
    """

    run_id: str  # a record hashes its spec whenever it is asked
    record: RunRecord
    left_out: LeftOut | str | None = None
    unchecked: str | None = None

    @property
    def is_reported(self) -> bool:
        """Whether tables count the run: it chose no hyper-parameters, and repeats no other."""
        return is_reported(self.record.spec)


@dataclass
class _Scorer:
    """A task as runs had it configured.

    Attributes:
        task: the task, or in words why there is none.
        kinds_read: how many kinds of columns its rows were read with, see `_columns`: what one run needed, the next
            one will.
    """

    task: Task | str
    kinds_read: int = 0


@dataclass
class Checker:
    """Checks the runs of one store, keeping what they share."""

    store: Store
    known: KnownLayouts = field(default_factory=dict)
    _scorers: dict[str, _Scorer] = field(default_factory=dict)

    def check(self, record: RunRecord) -> Checked | Unreadable:
        """Return the record with its rows, or why it must not count; see `_check`."""
        found = attempt(lambda: self._check(record))
        if isinstance(found, NotComputed):
            return Unreadable(self.store.runs / record.run_id, f"cannot be checked ({found.reason})")
        return found

    def _check(self, record: RunRecord) -> Checked | Unreadable:
        """Return the record with its rows, or why it must not count.

        Of runs that are ok, the file of rows must have the hash that the record holds, and every metric of the record
        that the task still has must come out of the rows. The file is read in pieces, and of it the columns that the
        task needs.
        """
        run_id = record.run_id
        if record.status is not Status.OK:
            return Checked(run_id, record)
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
                return self._recompute(run_id, record, pq.ParquetFile(file), path)
        except FileNotFoundError:
            return Unreadable(path, "is missing")
        except OSError as error:
            return Unreadable(path, f"cannot be opened ({error.strerror or error})")
        except pa.ArrowException as error:
            return Unreadable(path, f"is not a table of rows ({error})")

    def _recompute(self, run_id: str, record: RunRecord, file: pq.ParquetFile, path: Path) -> Checked | Unreadable:
        scorer = self._scorer(record.spec)
        if isinstance(scorer.task, str):
            return Checked(run_id, record, scorer.task, scorer.task)
        kinds = list(_columns(file.schema_arrow))
        for number in range(min(scorer.kinds_read, len(kinds) - 1), len(kinds)):
            table = file.read(kinds[number], use_threads=False)
            found = _score(scorer.task, record, table)
            if _settles(record, found):
                scorer.kinds_read = number
                break
        if isinstance(found, UserError | ImportError):
            reason = f"{record.spec.task} cannot score them here: {found}"
            return Checked(run_id, record, reason, reason)
        if isinstance(found, Exception):
            return Unreadable(path, f"cannot be scored by {record.spec.task} ({type(found).__name__}: {found})")
        for name, value in record.metrics.items():
            if name in found and not _equal(value, found[name]):
                return Unreadable(path, self._contradiction(record, scorer.task, name, value, found[name]))
        gone = sorted(record.metrics.keys() - found.keys())
        if gone:
            reason = f"{record.spec.task} has no {', '.join(gone)} in this version"
            return Checked(run_id, record, reason, reason)
        return Checked(run_id, record, self._left_out(record, scorer.task, table, file))

    def _scorer(self, spec: RunSpec) -> _Scorer:
        key = canonical([spec.task, spec.options, spec.definition])
        if key not in self._scorers:
            self._scorers[key] = _Scorer(_find_task(spec))
        return self._scorers[key]

    def _left_out(self, record: RunRecord, task: Task, table: pa.Table, file: pq.ParquetFile) -> LeftOut | str | None:
        score = record.score
        if score is None or not math.isfinite(score) or not is_reported(record.spec):
            return None
        layout = layout_of(self.known, record.spec.task, _labelled(table, record.primary, file))
        try:
            return leave_out(task, table, layout, record.primary, score)
        except KeyError:  # a score that needs fewer columns than how it varies
            whole = file.read(use_threads=False)
        try:
            return leave_out(task, whole, layout, record.primary, score)
        except KeyError as error:
            return f"how {record.primary} varies with the examples needs the column {error}, which the rows lack"

    def _contradiction(self, record: RunRecord, task: Task, name: str, recorded: float, recomputed: float) -> str:
        what = f"gives {name} {recomputed:.6g}, but the record says {recorded:.6g}"
        if record.spec.task_code == task_code(task):
            return what
        return f"{what}; {record.spec.task} has changed since, so that either may be right"


def _labelled(table: pa.Table, metric: str, file: pq.ParquetFile) -> pa.Table:
    """Return rows with a number for the right answer of each, where a constant answer has a score."""
    if metric != EXACT_MATCH or REFERENCES not in file.schema_arrow.names:
        return table
    return with_answers(table, file.read([REFERENCES], use_threads=False)[REFERENCES])


def is_reported(spec: RunSpec) -> bool:
    """Return whether tables count a run."""
    return spec.purpose == "report" and spec.repeat == 0


def _columns(schema: pa.Schema) -> Iterator[list[str]]:
    """Yield which columns to read, fewest first: numbers and the examples' names; lists of numbers, too; all.

    Texts and logits are most of a file, and most metrics need neither. Tasks do not declare what they need, so the
    narrowest choice is tried first.
    """
    numbers = [field.name for field in schema if field.name in _NAMES or _is_number(field.type)]
    lists = [field.name for field in schema if field.name in numbers or _is_numbers(field.type)]
    yield from (names for names, more in ((numbers, lists), (lists, schema.names)) if len(names) < len(more))
    yield schema.names


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _is_numbers(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and _is_number(kind.value_type)


def _score(task: Task, record: RunRecord, table: pa.Table) -> dict[str, float] | Exception:
    """Return every metric of the rows, or what hindered it."""
    # The library's checks of its arguments take as long as the metrics.
    with sklearn.config_context(skip_parameter_validation=True):
        try:
            return dict(task.score(to_frame(table)))
        except (ArithmeticError, AttributeError, ImportError, LookupError, TypeError, ValueError) as error:
            return error


def _settles(record: RunRecord, found: dict[str, float] | Exception) -> bool:
    """Return whether reading more columns cannot change the verdict on a record."""
    if isinstance(found, Exception):
        return isinstance(found, ImportError)
    return all(name in found and _equal(value, found[name]) for name, value in record.metrics.items())


def _find_task(spec: RunSpec) -> Task | str:
    """Return the task, or why there is none."""
    if spec.definition is None and spec.task not in TASKS:
        return f'there is no task called "{spec.task}" in this version'
    try:
        return find_task(spec.task, spec.definition).configured(spec.options)
    except (UserError, ImportError) as error:
        return str(error)


def _equal(recorded: float, recomputed: float) -> bool:
    return math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE) or (
        math.isnan(recorded) and math.isnan(recomputed)
    )
