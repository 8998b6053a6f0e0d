"""`bench plan --detect`: the seeds and examples that it takes to see a difference."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from parbench.bench.cli.console import announce, say
from parbench.bench.cli.grid import Grid
from parbench.bench.util.errors import UserError
from parbench.tasks.metrics.units import SHARES_OF_EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from parbench.bench.cli.session import CommandSession
    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.store.store import Store
    from parbench.reports.needed import Measured, Needed

_TITLES = ("task", "base model", "variances", "seeds", "examples", "seeds needed", "examples needed", "could see")


def print_needed(session: CommandSession, difference: float, runs: Sequence[PlannedRun] | None = None) -> None:
    """Print what it takes to see a difference on each task of a plan.

    Args:
        session: with the plan and the store.
        difference: in the units that tables show, such as points of an accuracy.
        runs: of the plan, where it has been made already.

    Raises:
        UserError: the difference is not above 0.
    """
    if not (math.isfinite(difference) and difference > 0):
        raise UserError(f"--detect is {difference:g}; give a difference above 0, in points")
    runs = session.plan().runs if runs is None else runs
    known = _known(session.store, runs)
    rows: list[tuple[str, ...]] = []
    for (task, model), part in _by_task(runs).items():
        found = _needed(part, known.get((task, model)), difference)
        if isinstance(found, str):
            rows.append((task, model, found, *("—",) * 5))
            continue
        unit = part[0].task.unit(part[0].task.primary)
        could_see = "—" if found.detectable is None else unit.text(found.detectable)
        enough = [
            f"{count:,}" if count else "not enough alone" for count in (found.seeds_needed, found.examples_needed)
        ]
        rows.append((task, model, found.origin, str(found.seeds), f"{found.examples:,}", *enough, could_see))
    numbers = frozenset(_TITLES[3:])
    session.console.print(Grid(_TITLES, rows, names=2, numbers=numbers, sentences=frozenset({"variances"})))
    say(
        f"Needed: to find a difference of {difference:g} between two methods with 80 % power, by the paired two-sided "
        "test at 5 %: the seeds with the examples as they are, or the examples with the seeds as planned. Could see: "
        "the difference that seeds and examples as planned find with 80 % power. A correction for many comparisons "
        "takes more.",
        session.console,
    )


def _known(store: Store, runs: Sequence[PlannedRun]) -> Mapping[tuple[str, str], Measured]:
    """Return what the store has measured; nothing where there is no store yet."""
    if not store.runs.is_dir() or not any(store.runs.iterdir()):
        return {}
    from parbench.reports.frame import read_frame
    from parbench.reports.needed import measured

    announce(f"reading {store.root}")
    return measured(read_frame(store), {run.spec.method for run in runs})


def _by_task(runs: Sequence[PlannedRun]) -> Mapping[tuple[str, str], list[PlannedRun]]:
    found: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        found.setdefault((run.spec.task, run.spec.base_model), []).append(run)
    return found


def _needed(runs: Sequence[PlannedRun], known: Measured | None, difference: float) -> Needed | str:
    """Return what a task needs, or why that is not known."""
    from parbench.reports.needed import default_sources, default_words, needed

    run = runs[0]
    unit = run.task.unit(run.task.primary)
    if known is None and run.task.primary not in SHARES_OF_EXAMPLES:
        return f"not known: run a few seeds first, since nothing is assumed of {run.task.primary}"
    splits = run.task.splits(run.source, run.spec.limit).capped(run.spec.evaluation_limit)
    examples = splits.sizes["reported"]
    sources, origin = (known.sources, str(known)) if known else (default_sources(examples), default_words())
    return needed(sources, origin, difference / unit.factor, len({run.spec.seed for run in runs}), examples)
