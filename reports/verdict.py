"""The result of a leaderboard in a few sentences, made from its numbers.

Which methods are better than which and by how much, which cannot be told apart, what each costs beside the baseline,
which did not learn, and what the comparison cannot show. A method is called better only where its corrected comparison
shows it; intervals are of single differences. Where the rows are many, the sentences name the first of them and count
the rest, so that there are never more than six.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import pandas as pd

from parbench.reports.columns import Column
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.cost_ratios import CostRatio, cost_ratios, memory_column
from parbench.reports.ranking import Ranking
from parbench.reports.rows import WITH_MODEL
from parbench.reports.scored import LEVEL
from parbench.reports.statistics import Comparison
from parbench.reports.tables import NOTHING

K = TypeVar("K")
V = TypeVar("V")

# So many names, tasks or methods are written out; the rest are counted.
MOST = 4
UNLIMITED = "other tasks, base models, budgets and settings than those compared here may rank the methods differently"


@dataclass(frozen=True)
class _Task:
    """A column of a leaderboard, and what its comparisons show."""

    name: str
    column: Column

    @cached_property
    def pairs(self) -> Mapping[frozenset[str], Comparison]:
        """The comparisons that were tested, by their two rows."""
        tested = (pair for pair in self.column.comparisons if pair.adjusted_p_value is not None)
        return {frozenset((pair.a, pair.b)): pair for pair in tested}

    @cached_property
    def tested(self) -> list[str]:
        """The rows of tested pairs, best mean first."""
        names = {name for rows in self.pairs for name in rows}
        return sorted(names, key=lambda row: (-self.column.standings[row].estimate.mean, row))

    @property
    def untested(self) -> list[str]:
        """The rows that learnt and are in no tested pair, where there are tests."""
        learnt = [row for row, standing in self.column.standings.items() if standing.learnt]
        return [row for row in learnt if row not in self.tested] if self.pairs else []

    @property
    def is_decided(self) -> bool:
        """Whether some row is shown to be better than another."""
        return any(pair.better(1 - LEVEL) for pair in self.pairs.values())

    def beats(self, a: str, b: str) -> bool:
        """Return whether a row is shown to be better than another."""
        pair = self.pairs.get(frozenset((a, b)))
        return pair is not None and pair.better(1 - LEVEL) == a

    def gap(self, a: str, b: str, sign: bool = True) -> str:
        """Return the difference of two tested rows, the first minus the second, with its interval.

        Args:
            a: the one row.
            b: the other.
            sign: whether a difference above zero has a plus.
        """
        pair = self.pairs[frozenset((a, b))]
        turn = 1 if pair.a == a else -1
        ends = sorted((turn * pair.interval.low, turn * pair.interval.high)) if pair.interval else None
        unit = self.column.unit
        interval = f" [{unit.text(ends[0], sign)}, {unit.text(ends[1], sign)}]" if ends else ""
        return f"{unit.text(turn * pair.difference, sign)}{' points' if unit.factor == 100 else ''}{interval}"

    def largest_gap(self) -> str:
        """Return the largest difference of two tested rows in words."""
        pair = max(self.pairs.values(), key=lambda one: abs(one.difference))
        first, second = (pair.a, pair.b) if pair.difference >= 0 else (pair.b, pair.a)
        return f"{first} minus {second} {self.gap(first, second)}"


def verdict(cells: pd.DataFrame, ranking: Ranking, baseline: str | None, limits: Sequence[str] = ()) -> tuple[str, ...]:
    """Return three to six sentences on a leaderboard.

    Args:
        cells: its summary.
        ranking: its statistics.
        baseline: the row that costs are relative to; ``None`` where no row has a score.
        limits: what its suites cannot show.
    """
    short = _short_names(cells)
    tasks = [_Task(short[name], column) for (name, _), column in ranking.columns.items()]
    sentences = [
        _decided([task for task in tasks if task.is_decided]),
        _undecided(tasks),
        _against(baseline, tasks) if baseline and _row_count(tasks) > 2 else None,
        _costs(cells, baseline),
        _without_rank(cells, short, tasks),
        f"What this cannot show: {'; '.join(_plain(limit) for limit in limits) or UNLIMITED}.",
    ]
    return tuple(sentence for sentence in sentences if sentence)


def _short_names(cells: pd.DataFrame) -> Mapping[str, str]:
    """Return the names of the columns without their base model, where a task is on one base model only."""
    pairs = cells[["column", "base_model"]].drop_duplicates()
    tasks = {str(name): str(name).removesuffix(f"{WITH_MODEL}{model}") for name, model in pairs.itertuples(index=False)}
    counts = Counter(tasks.values())
    return {name: task if counts[task] == 1 else name for name, task in tasks.items()}


def _decided(tasks: Sequence[_Task]) -> str | None:
    """Return which rows are better than which, task by task."""
    if not tasks:
        return None
    clauses = [f"on {task.name}, {_order(task)}" for task in tasks[:MOST]]
    if more := len(tasks) - MOST:
        clauses += [f"methods differ on {more} more {_plural('task', more)}, see the table"] if more > 0 else []
    return _sentence("; ".join(clauses))


def _order(task: _Task) -> str:
    rows = task.tested
    first, *others = rows
    if all(task.beats(first, other) for other in others):
        if len(others) == 1:
            return f"{first} is better than {others[0]} by {task.gap(first, others[0], sign=False)}"
        return (
            f"{first} is better than each of the {len(others)} other methods, and than the next of them, "
            f"{others[0]}, by {task.gap(first, others[0], sign=False)}"
        )
    beaten = {row: next((other for other in rows if task.beats(other, row)), None) for row in rows}
    worse = [(row, better) for row, better in beaten.items() if better is not None]
    clauses = [
        f"{row} is worse than {better} by {task.gap(better, row, sign=False)}" for row, better in worse[: MOST - 1]
    ]
    if (more := len(worse) - len(clauses)) > 0:
        clauses.append(f"{more} more are worse than some other method")
    unbeaten = _names([row for row, better in beaten.items() if better is None])
    return f"no method is shown to be better than {unbeaten}, and {', '.join(clauses)}"


def _undecided(tasks: Sequence[_Task]) -> str | None:
    """Return which rows cannot be told apart on which tasks, and where nothing could be tested."""
    tied = [(tuple(task.tested), task) for task in tasks if task.column.reason is None and not task.is_decided]
    ties = []
    for rows, same in _grouped(tied).items():
        shown = _names([f"{task.name} ({_largest(task, rows)})" for task in same])
        ties.append(f"{_names(rows)} on {shown}")
    clauses = [f"cannot be told apart: {'; '.join(ties)}"] if ties else []
    untested = [(task.column.reason, task.name) for task in tasks if task.column.reason is not None]
    for reason, names in _grouped(untested).items():
        clauses.append(f"no difference could be tested on {_names(names)} ({reason})")
    few = [f"{row} on {task.name}" for task in tasks for row in task.untested]
    clauses += [f"not tested, for want of runs: {_names(few)}"] if few else []
    return _sentence("; ".join(clauses)) if clauses else None


def _largest(task: _Task, rows: Sequence[str]) -> str:
    return task.largest_gap() if len(rows) == 2 else f"largest difference: {task.largest_gap()}"


def _against(baseline: str, tasks: Sequence[_Task]) -> str | None:
    """Return where rows differ from the baseline; nothing where no row does, which other sentences say."""
    better, worse, same = [], [], 0
    for task in tasks:
        for row in task.tested if baseline in task.tested else ():
            if frozenset((row, baseline)) not in task.pairs:
                continue
            text = f"{row} on {task.name} ({task.gap(row, baseline)})"
            if task.beats(row, baseline):
                better.append(text)
            elif task.beats(baseline, row):
                worse.append(text)
            else:
                same += 1
    clauses = [f"better: {_names(better)}"] if better else []
    clauses += [f"worse: {_names(worse)}"] if worse else []
    if not clauses:
        return None
    clauses += [f"in {same} more {_plural('comparison', same)} no difference is shown"] if same else []
    return f"Against {baseline}, {'; '.join(clauses)}."


def _costs(cells: pd.DataFrame, baseline: str | None) -> str:
    """Return what each row costs relative to the baseline."""
    if baseline is None:
        return "No run has a score, so no cost is compared."
    ratios = {row: ratio for row, ratio in cost_ratios(cells, baseline).items() if row != baseline}
    where = "device" if memory_column(cells) == "peak_device_bytes" else "process"
    words = {"time": "time per training step", "memory": f"peak {where} memory", "parameters": "parameters"}
    known = {
        name: word for name, word in words.items() if any(getattr(one, name) is not None for one in ratios.values())
    }
    if not ratios:
        return f"Only {baseline} has a score, so its cost is compared with nothing."
    if not known:
        return "Costs were not measured."
    if len(ratios) > MOST + 1:
        ranges = "; ".join(_range(ratios, name, word) for name, word in known.items())
        return f"Cost as a multiple of {baseline}'s: {ranges}."
    each = "; ".join(f"{row} {_each(ratio, known)}" for row, ratio in sorted(ratios.items()))
    return f"Cost as a multiple of {baseline}'s ({', '.join(known.values())}): {each}."


def _each(ratio: CostRatio, names: Iterable[str]) -> str:
    values = (getattr(ratio, name) for name in names)
    return ", ".join(NOTHING if value is None else times(value) for value in values)


def _range(ratios: Mapping[str, CostRatio], name: str, word: str) -> str:
    known = sorted((getattr(ratio, name), row) for row, ratio in ratios.items() if getattr(ratio, name) is not None)
    (low, first), (high, last) = known[0], known[-1]
    if times(low) == times(high):
        return f"{word} {times(low)} of each"
    return f"{word} from {times(low)} ({first}) to {times(high)} ({last})"


def times(ratio: float) -> str:
    """Return a ratio with as many digits as can be read."""
    if ratio == 0:
        return "0x"
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:,.0f}x"


def _without_rank(cells: pd.DataFrame, short: Mapping[str, str], tasks: Sequence[_Task]) -> str | None:
    """Return which rows did not learn, and which have no score."""
    clauses = []
    for task in tasks:
        rows = [row for row, standing in task.column.standings.items() if not standing.learnt]
        if rows and task.column.constant is not None:
            constant = task.column.unit.text(task.column.constant)
            clauses.append(
                f"on {task.name}, {_names(rows)} {DID_NOT_LEARN} (not better with confidence than a constant "
                f"prediction, {constant})"
            )
    failed = cells[cells["n_ok"] == 0]
    lacking = [f"{row} on {short[task]}" for row, task in zip(failed["row"], failed["column"], strict=True)]
    shown = [*clauses[:MOST], *([f"the same on {len(clauses) - MOST} more tasks"] if len(clauses) > MOST else [])]
    shown += [f"there is no score of {_names(lacking)}"] if lacking else []
    return _sentence("; ".join(shown)) if shown else None


def _row_count(tasks: Iterable[_Task]) -> int:
    return len({row for task in tasks for row in task.tested})


def _grouped(pairs: Iterable[tuple[K, V]]) -> Mapping[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def _names(names: Sequence[str]) -> str:
    """Return names as a list in words, the last of many counted."""
    if len(names) > MOST:
        return f"{', '.join(names[:MOST])} and {len(names) - MOST} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
