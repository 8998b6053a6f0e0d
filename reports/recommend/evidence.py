"""What stores know of methods: one column of a leaderboard for each task and base model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.errors import UserError, did_you_mean
from parbench.reports.columns import Column
from parbench.reports.frame import read_frame
from parbench.reports.hardware import hardware_in_words
from parbench.reports.leaderboard import Leaderboard, leaderboards
from parbench.reports.rows import BOARD, COLUMN, at_same
from parbench.tasks import find_task
from parbench.tasks.base import Kind

Cells = Mapping[str, "pd.Series[Any]"]


@dataclass(frozen=True)
class Evidence:
    """The methods on one task with one base model, under the conditions with the most of them.

    Attributes:
        store: folder of the records.
        task: its name.
        base_model: its name, as in records.
        kind: of the task's model; ``None`` where the task is not known here.
        metric: the one that ranks.
        column: estimates, ranks and comparisons of the rows, corrected by Holm.
        cells: the summary of each row: setting, costs, counts and trials.
        conditions: title of the leaderboard: protocol, limits and budget.
        small: whether it is of a miniature suite.
        hardware: that it was run on, in words; empty where none is recorded.
    """

    store: str
    task: str
    base_model: str
    kind: Kind | None
    metric: str
    column: Column
    cells: Cells
    conditions: str
    small: bool
    hardware: str

    @property
    def learnt(self) -> tuple[str, ...]:
        """The rows that are above a constant prediction."""
        return tuple(row for row, standing in self.column.standings.items() if standing.learnt)

    @property
    def seeds(self) -> int:
        """The fewest seeds of any row that learnt."""
        return min((self.column.standings[row].estimate.n for row in self.learnt), default=0)

    @property
    def name(self) -> str:
        """Task and base model."""
        return f"{self.task} with {self.base_model}"

    def __str__(self) -> str:
        small = ", a miniature" if self.small else ""
        methods = f"{len(self.learnt)} method{'' if len(self.learnt) == 1 else 's'}"
        return f"{self.name}: {methods}, {self.seeds} seed{'' if self.seeds == 1 else 's'}{small} (in {self.store})"


@dataclass(frozen=True)
class Known:
    """All evidence.

    Attributes:
        evidence: one per task and base model.
        notes: what was not used, and why.
        left_out: records that cannot be used, which may be what is missing.
    """

    evidence: tuple[Evidence, ...]
    notes: tuple[str, ...]
    left_out: tuple[Unreadable, ...] = ()


def read_evidence(stores: Sequence[Store]) -> Known:
    """Read stores; methods of different stores are not compared with each other.

    Raises:
        UserError: a store does not exist, or has no runs.
    """
    found: dict[tuple[str, str], list[Evidence]] = {}
    notes: list[str] = []
    left_out: list[Unreadable] = []
    for store in stores:
        frame = read_frame(store)
        left_out += frame.unreadable
        definitions = _definitions(frame.runs)
        for board in leaderboards(frame):
            if board.in_full:
                for one in _of_board(board, frame.runs, str(store.root), definitions):
                    found.setdefault((one.task, one.base_model), []).append(one)
    chosen = []
    for several in found.values():
        several.sort(key=lambda one: (-len(one.learnt), -one.seeds, one.small))
        chosen.append(several[0])
        if len(several) > 1:
            notes.append(
                f"{several[0].name} was run under {len(several)} conditions; used is that of the most methods: "
                f"{several[0].conditions} (in {several[0].store})"
            )
    return Known(tuple(chosen), tuple(notes), tuple(left_out))


def _of_board(board: Leaderboard, runs: pd.DataFrame, store: str, definitions: Mapping[str, Any]) -> Iterator[Evidence]:
    for (name, metric), cells in board.cells.groupby(COLUMN):
        column = board.ranking.columns.get((str(name), str(metric)))
        if column is None:
            continue
        first = cells.iloc[0]
        task = str(first["task"])
        yield Evidence(
            store=store,
            task=task,
            base_model=str(first["base_model"]),
            kind=_kind(task, definitions.get(task)),
            metric=str(metric),
            column=column,
            cells={str(cell["row"]): cell for _, cell in cells.iterrows()},
            conditions=board.title,
            small=bool(first["small"]),
            hardware=hardware_in_words(runs[at_same(runs, first, [*BOARD, *COLUMN])]),
        )


def _definitions(runs: pd.DataFrame) -> Mapping[str, Any]:
    pairs = runs.loc[runs["definition"].notna(), ["task", "definition"]].drop_duplicates("task")
    return {str(task): json.loads(text) for task, text in pairs.itertuples(index=False, name=None)}


def _kind(task: str, definition: Any) -> Kind | None:
    try:
        return find_task(task, definition).kind
    except UserError:  # of a package that is not installed here, or of another version of parbench
        return None


def of_methods(evidence: Sequence[Evidence], names: Sequence[str]) -> tuple[Evidence, ...]:
    """Return the evidence of some methods alone, or of some rows; their comparisons stay corrected with the others.

    Raises:
        UserError: there is evidence, and none of one of the names.
    """
    known = {name for one in evidence for row, cell in one.cells.items() for name in (row, str(cell["method"]))}
    if known and (unknown := next((name for name in names if name not in known), None)):
        raise UserError(f'there are no runs of "{unknown}"{did_you_mean(unknown, known)}')
    return tuple(_of_rows(one, names) for one in evidence)


def _of_rows(one: Evidence, names: Sequence[str]) -> Evidence:
    rows = {row for row, cell in one.cells.items() if row in names or cell["method"] in names}
    standings = {row: standing for row, standing in one.column.standings.items() if row in rows}
    pairs = tuple(pair for pair in one.column.comparisons if {pair.a, pair.b} <= rows)
    column = replace(one.column, standings=standings, comparisons=pairs)
    return replace(one, column=column, cells={row: one.cells[row] for row in one.cells if row in rows})
