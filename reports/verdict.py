"""The result of a leaderboard in a few sentences, made from its numbers.

Which methods are better than which and by how much, which cannot be told apart, what each costs beside the baseline,
which did not learn, and what the comparison cannot show. A method is called better only where its corrected comparison
shows it; intervals are of single differences. Where the rows or tasks are many, the sentences name the first of them
and count the rest, so that there are never more than six.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from parbench.reports.cost_ratios import CostRatio, cost_ratios, memory_column
from parbench.reports.ranking import Ranking
from parbench.reports.rows import COLUMN, WITH_MODEL
from parbench.reports.tables import NOTHING
from parbench.reports.task_findings import TaskFindings, sentences_on_tasks, tasks_of_own_sentence
from parbench.reports.words import grouped, listed, plural

# So many differences, tasks, or methods with their costs are written out; the rest are counted.
MOST = 4
UNLIMITED = "other tasks, base models, budgets and settings than those compared here may rank the methods differently"


def verdict(cells: pd.DataFrame, ranking: Ranking, baseline: str | None, limits: Sequence[str] = ()) -> tuple[str, ...]:
    """Return three to six sentences on a leaderboard.

    Args:
        cells: its summary.
        ranking: its statistics.
        baseline: the row that costs are relative to; ``None`` where no row has a score.
        limits: what its suites cannot show.
    """
    tasks = _findings(cells, ranking)
    sentences = [
        *sentences_on_tasks(tasks),
        _against(baseline, tasks) if baseline and _row_count(tasks) > 2 else None,
        _costs(cells, baseline),
        f"What this cannot show: {'; '.join(_plain(limit) for limit in limits) or UNLIMITED}.",
    ]
    return tuple(sentence for sentence in sentences if sentence)


def _findings(cells: pd.DataFrame, ranking: Ranking) -> list[TaskFindings]:
    short = _short_names(cells)
    found = []
    for (name, metric), part in cells.groupby(COLUMN):
        lacking = tuple(str(row) for row in part.loc[part["n_ok"] == 0, "row"])
        found.append(TaskFindings(short[str(name)], ranking.columns.get((str(name), str(metric))), lacking))
    return found


def _short_names(cells: pd.DataFrame) -> Mapping[str, str]:
    """Return the names of the columns without their base model, where a task is on one base model only."""
    pairs = cells[["column", "base_model"]].drop_duplicates()
    tasks = {str(name): str(name).removesuffix(f"{WITH_MODEL}{model}") for name, model in pairs.itertuples(index=False)}
    counts = Counter(tasks.values())
    return {name: task if counts[task] == 1 else name for name, task in tasks.items()}


def _against(baseline: str, tasks: Sequence[TaskFindings]) -> str | None:
    """Return where rows differ from the baseline; nothing where no row does or other sentences give all of it."""
    compared = [task for task in tasks if baseline in task.tested]
    given = {(task.name, *pair) for task in tasks_of_own_sentence(tasks) for pair in task.shown}
    better: list[tuple[str, TaskFindings]] = []
    worse: list[tuple[str, TaskFindings]] = []
    same = 0
    for task in compared:
        for row in task.tested:
            if frozenset((row, baseline)) in task.pairs:
                better += [(row, task)] if task.beats(row, baseline) else []
                worse += [(row, task)] if task.beats(baseline, row) else []
                same += not (task.beats(row, baseline) or task.beats(baseline, row))
    shown = {
        *((task.name, row, baseline) for row, task in better),
        *((task.name, baseline, row) for row, task in worse),
    }
    if shown <= given:
        return None
    clauses = [
        f"{row} is {word} on {_places(where, compared)} by {_gaps(row, baseline, where, word)}"
        for word, found in (("better", better), ("worse", worse))
        for row, where in grouped(found).items()
    ]
    if (more := len(clauses) - MOST) > 0:
        clauses[MOST:] = [f"{more} more {plural('difference', more)}, see the table"]
    clauses += [f"no difference is shown in {same} more {plural('comparison', same)}"] if same else []
    return f"Against {baseline}: {'; '.join(clauses)}."


def _places(where: Sequence[TaskFindings], compared: Sequence[TaskFindings]) -> str:
    if len(where) == len(compared) > 1:
        return f"all {len(where)} tasks"
    return listed([task.name for task in where], MOST)


def _gaps(row: str, baseline: str, where: Sequence[TaskFindings], word: str) -> str:
    """Return how much a row is better or worse on some tasks: the least and the largest difference."""
    a, b = (row, baseline) if word == "better" else (baseline, row)
    texts = {task.difference(a, b): task.gap(a, b, sign=False) for task in where}
    least, largest = texts[min(texts)], texts[max(texts)]
    return least if len(texts) == 1 else f"{least} to {largest}"


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
    # A row that shares no task with the baseline has no ratio.
    ratios = {row: one for row, one in ratios.items() if any(getattr(one, name) is not None for name in known)}
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


def _row_count(tasks: Iterable[TaskFindings]) -> int:
    return len({row for task in tasks for row in task.tested})


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
