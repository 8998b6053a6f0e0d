"""What is reported of all tasks together: averages, mean ranks, and wins against each other method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pandas as pd

from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.ranking import Ranking
from parbench.reports.scored import LEVEL
from parbench.reports.scores_table import averages_of
from parbench.reports.tables import NOTHING, Table


def over_tasks_table(names: list[str], ranking: Ranking) -> Table:
    """Return methods against averages and mean ranks."""
    averages = averages_of(ranking)
    body = []
    for name in names:
        middle = ranking.interquartile.get(name)
        text = f"{100 * middle.value:z.1f}" if middle and middle.value is not None else NOTHING
        if middle and middle.interval:
            text += f" [{100 * middle.interval.low:z.1f}, {100 * middle.interval.high:z.1f}]"
        rank = ranking.over_tasks.mean_ranks.get(name)
        texts = (average.text(name) for average in averages.values())
        new_task = (_on_new_task(ranking, name),) if ranking.over_tasks.on_new_task else ()
        body.append((name, *texts, text, NOTHING if rank is None else f"{rank:.2f}", *new_task))
    best = {
        (number, place)
        for number, name in enumerate(names)
        for place, average in enumerate(averages.values(), start=1)
        if average.is_best(name)
    }
    head = ("method", *averages, "interquartile mean", "mean rank")
    new_task_head = ("rank on a new task",) if ranking.over_tasks.on_new_task else ()
    return Table((*head, *new_task_head), tuple(body), frozenset(best))


def _on_new_task(ranking: Ranking, name: str) -> str:
    """Return the interval of a row's rank on a task that is not among these."""
    found = ranking.over_tasks.on_new_task.get(name)
    return NOTHING if found is None else f"{found.low:.1f}-{found.high:.1f} (held {found.held}/{found.tasks})"


def over_tasks_notes(ranking: Ranking) -> Iterator[str]:
    """Yield how to read that table, and why entries are missing."""
    if ranking.no_average:
        yield ranking.no_average
    unranked = _grouped((average.column.reason, head) for head, average in averages_of(ranking).items())
    for reason, heads in unranked.items():
        yield f"No ranks by {', '.join(heads)}: {reason}."
    over = ranking.over_tasks
    if ranking.incomplete:
        yield f"Not ranked over tasks, for want of a score on some of them: {', '.join(ranking.incomplete)}."
    if ranking.unlearnt:
        rows = ", ".join(ranking.unlearnt)
        yield f"In no average and no rank over tasks, because they {DID_NOT_LEARN} on some task: {rows}."
    if over.reason is None and over.critical_difference is not None:
        yield (
            f"Friedman's test over {len(over.tasks)} tasks: chi-squared {over.statistic:.2f}, p = {over.p_value:.3g}. "
            f"Mean ranks that differ by less than {over.critical_difference:.2f} are not told apart (Nemenyi, "
            f"{over.alpha:.0%})."
        )
    else:
        yield f"No Friedman or Nemenyi test: {over.reason}."
    if over.on_new_task:
        yield (
            f"Rank on a new task: a prediction interval of {LEVEL:.0%} for a task like these. Held: on how many of "
            "these tasks the interval from the others holds the rank."
        )
    without = _grouped((one.reason, name) for name, one in ranking.interquartile.items() if one.interval is None)
    for reason, names in without.items():
        yield f"No interval of the interquartile mean of {', '.join(names)}: {reason}."
    if any(one.interval for one in ranking.interquartile.values()):
        yield (
            f"Interquartile mean: of the middle half of all scores, with a {LEVEL:.0%} bootstrap interval over seeds, "
            "for these tasks."
        )


def _grouped(pairs: Iterable[tuple[str | None, str]]) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for reason, name in pairs:
        if reason is not None:
            found.setdefault(reason, []).append(name)
    return found


def wins_table(names: list[str], counts: pd.DataFrame) -> Table:
    """Return methods against methods: tasks won, tied and lost.

    Args:
        names: the rows of a leaderboard, in its order.
        counts: of `parbench.reports.statistics.win_tie_loss`.
    """
    texts: dict[tuple[str, str], str] = {}
    for _, pair in counts.iterrows():
        untested = f" ({pair['untested']} untested)" if pair["untested"] else ""
        texts[pair["method"], pair["opponent"]] = f"{pair['wins']}/{pair['ties']}/{pair['losses']}{untested}"
    return Table(
        ("method", *(f"against {name}" for name in names)),
        tuple((name, *(texts.get((name, other), NOTHING) for other in names)) for name in names),
    )
