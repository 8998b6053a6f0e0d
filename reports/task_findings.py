"""What the comparisons on each task show, in a sentence per task or group of tasks."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from parbench.reports.columns import Column
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.scored import LEVEL
from parbench.reports.statistics import Comparison
from parbench.reports.words import grouped, listed

# So many sentences there are on tasks; where more are needed, the last is on all the other tasks.
MOST_SENTENCES = 3
# So many rows that are worse than another stand in a sentence; of more, the first, and the rest are counted.
MOST_WORSE = 3


@dataclass(frozen=True)
class TaskFindings:
    """A task of a leaderboard, and what its comparisons show.

    Attributes:
        name: of the task.
        column: of the leaderboard; ``None`` where no row has a score.
        lacking: the rows without a score.
    """

    name: str
    column: Column | None
    lacking: tuple[str, ...] = ()

    @cached_property
    def pairs(self) -> Mapping[frozenset[str], Comparison]:
        """The comparisons that were tested, by their two rows."""
        comparisons = self.column.comparisons if self.column else ()
        return {frozenset((pair.a, pair.b)): pair for pair in comparisons if pair.adjusted_p_value is not None}

    @cached_property
    def tested(self) -> list[str]:
        """The rows of tested pairs, best mean first."""
        standings = self.column.standings if self.column else {}
        names = {name for rows in self.pairs for name in rows}
        return sorted(names, key=lambda row: (-standings[row].estimate.mean, row))

    @property
    def untested(self) -> list[str]:
        """The rows that learnt and are in no tested pair, where there are tests."""
        standings = self.column.standings if self.column else {}
        return [row for row, one in standings.items() if one.learnt and row not in self.tested] if self.pairs else []

    @property
    def unlearnt(self) -> list[str]:
        """The rows that did not learn."""
        return [row for row, standing in self.column.standings.items() if not standing.learnt] if self.column else []

    @property
    def is_decided(self) -> bool:
        """Whether some row is shown to be better than another."""
        return any(pair.better(1 - LEVEL) for pair in self.pairs.values())

    def beats(self, a: str, b: str) -> bool:
        """Return whether a row is shown to be better than another."""
        pair = self.pairs.get(frozenset((a, b)))
        return pair is not None and pair.better(1 - LEVEL) == a

    @cached_property
    def shown(self) -> tuple[tuple[str, str], ...]:
        """The differences that the task's own sentence gives, each as the better and the worse row."""
        if self.winner is not None:
            return ((self.winner, self.tested[1]),)
        beaten = ((next((other for other in self.tested if self.beats(other, row)), None), row) for row in self.tested)
        found = tuple((better, row) for better, row in beaten if better is not None)
        return found if len(found) <= MOST_WORSE else found[:1]

    @property
    def winner(self) -> str | None:
        """The row that is shown to be better than every other tested row."""
        if len(self.tested) < 2:
            return None
        first, *others = self.tested
        return first if all(self.beats(first, other) for other in others) else None

    @property
    def unbeaten(self) -> list[str]:
        """The tested rows that no row is shown to be better than."""
        return [row for row in self.tested if not any(self.beats(other, row) for other in self.tested)]

    def difference(self, a: str, b: str) -> float:
        """Return the mean of a tested row minus that of another, as the tables show it."""
        pair = self.pairs[frozenset((a, b))]
        factor = self.column.unit.factor if self.column else 1.0
        return factor * (pair.difference if pair.a == a else -pair.difference)

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
        assert self.column is not None  # noqa: S101 - it has the pair
        unit = self.column.unit
        interval = f" [{unit.text(ends[0], sign)}, {unit.text(ends[1], sign)}]" if ends else ""
        return f"{unit.text(turn * pair.difference, sign)}{' points' if unit.factor == 100 else ''}{interval}"

    def largest_gap(self) -> str:
        """Return the largest difference of two tested rows in words."""
        pair = max(self.pairs.values(), key=lambda one: abs(one.difference))
        first, second = (pair.a, pair.b) if pair.difference >= 0 else (pair.b, pair.a)
        return f"{first} minus {second} {self.gap(first, second)}"


@dataclass(frozen=True)
class _Group:
    """Tasks of which the same is true."""

    tasks: Sequence[TaskFindings]
    text: str

    @property
    def names(self) -> str:
        return listed([task.name for task in self.tasks])


def sentences_on_tasks(tasks: Sequence[TaskFindings]) -> list[str]:
    """Return at most `MOST_SENTENCES` sentences, of the tasks with a shown difference first."""
    own, rest = _groups(tasks)
    sentences = [f"{group.names}: {group.text}." for group in own]
    return [*sentences, f"Other tasks: {'; '.join(_in_short(rest))}."] if rest else sentences


def tasks_of_own_sentence(tasks: Sequence[TaskFindings]) -> list[TaskFindings]:
    """Return the tasks with a shown difference whose sentence gives it."""
    own, _ = _groups(tasks)
    return [task for group in own for task in group.tasks if task.is_decided]


def _groups(tasks: Sequence[TaskFindings]) -> tuple[list[_Group], list[TaskFindings]]:
    """Return the groups of tasks with a sentence of their own, and the other tasks."""
    groups = [*_decided(tasks), *_tied(tasks), *_undecidable(tasks)]
    if len(groups) <= MOST_SENTENCES:
        return groups, []
    rest = [task for group in groups[MOST_SENTENCES - 1 :] for task in group.tasks]
    return groups[: MOST_SENTENCES - 1], rest


def _decided(tasks: Sequence[TaskFindings]) -> Iterator[_Group]:
    """Yield the tasks with a shown difference; those with the same winner and the same next row are one group."""
    decided = [task for task in tasks if task.is_decided]
    keys = [_winner_key(task) or (task.name,) for task in decided]
    for same in grouped(zip(keys, decided, strict=True)).values():
        text = _lead(same) if same[0].winner is not None else _order(same[0])
        yield _Group(same, "; ".join([text, *_aside(same[0])]))


def _winner_key(task: TaskFindings) -> tuple[Hashable, ...] | None:
    if task.winner is None:
        return None
    return (task.winner, task.tested[1], len(task.tested), *_aside(task))


def _tied(tasks: Sequence[TaskFindings]) -> Iterator[_Group]:
    tied = [task for task in tasks if task.pairs and not task.is_decided]
    for (rows, aside), same in grouped(
        ((tuple(sorted(task.tested)), tuple(_aside(task))), task) for task in tied
    ).items():
        gaps = [task.largest_gap() + (f" on {task.name}" if len(same) > 1 else "") for task in same]
        largest = "difference" if len(rows) == 2 else "largest difference"
        names = listed(same[0].tested)
        yield _Group(same, "; ".join([f"{names} cannot be told apart ({largest}: {listed(gaps, 3)})", *aside]))


def _undecidable(tasks: Sequence[TaskFindings]) -> Iterator[_Group]:
    without = [task for task in tasks if not task.pairs]
    for (reason, aside), same in grouped(
        ((_why_untested(task), tuple(_aside(task))), task) for task in without
    ).items():
        yield _Group(same, "; ".join([reason, *aside]))


def _why_untested(task: TaskFindings) -> str:
    if task.column is None:
        return f"there is no score of {listed(task.lacking)}"
    return f"no difference could be tested ({task.column.reason or 'no pair of methods could be compared'})"


def _lead(tasks: Sequence[TaskFindings]) -> str:
    """Return by how much the winner of some tasks leads on each of them."""
    winner, next_best, *others = tasks[0].tested
    leads = listed([task.gap(winner, next_best, sign=False) for task in tasks])
    if not others:
        return f"{winner} is better than {next_best} by {leads}"
    every = f"each of the {len(others) + 1} other methods"
    return f"{winner} is better than {every}; it leads {next_best}, the next, by {leads}"


def _order(task: TaskFindings) -> str:
    """Return which rows are better than which on a task with a shown difference and without a winner."""
    alone = len(task.unbeaten) == 1
    names = listed(task.unbeaten)
    clauses = [f"no method is shown to be better than {names}" if alone else f"{names} cannot be told apart"]
    for first, pairs in grouped(task.shown).items():
        (row, *rows) = pairs
        clause = f"{row} is worse than {first} by {task.gap(first, row, sign=False)}"
        clauses.append(", ".join([clause, *(f"{other} by {task.gap(first, other, sign=False)}" for other in rows)]))
    if (more := len(task.tested) - len(task.unbeaten) - len(task.shown)) > 0:
        clauses.append(f"{more} more {'is' if more == 1 else 'are'} worse than some other method")
    return "; ".join(clauses)


def _aside(task: TaskFindings) -> Iterator[str]:
    """Yield the rows that are in no comparison of the task, and why."""
    if task.unlearnt and task.column is not None and task.column.constant is not None:
        constant = task.column.unit.text(task.column.constant)
        yield f"{listed(task.unlearnt)} {DID_NOT_LEARN} (not above a constant prediction, {constant})"
    if task.untested:
        yield f"{listed(task.untested)} had too few runs to be tested"
    if task.lacking and task.column is not None:
        yield f"there is no score of {listed(task.lacking)}"


def _in_short(tasks: Sequence[TaskFindings]) -> Iterator[str]:
    """Yield clauses on tasks that have no sentence of their own."""
    kinds = {
        "methods differ on": [task for task in tasks if task.is_decided],
        "no two methods can be told apart on": [task for task in tasks if task.pairs and not task.is_decided],
        "no difference could be tested on": [task for task in tasks if not task.pairs],
    }
    for words, found in kinds.items():
        if found:
            names = listed([task.name for task in found])
            yield f"{words} {names}{', see the table' if words.startswith('methods') else ''}"
    unlearnt = [f"{listed(task.unlearnt)} on {task.name}" for task in tasks if task.unlearnt]
    if unlearnt:
        yield f"{DID_NOT_LEARN}: {listed(unlearnt, 3)}"
    lacking = [f"{listed(task.lacking)} on {task.name}" for task in tasks if task.lacking]
    if lacking:
        yield f"no score: {listed(lacking, 3)}"
