"""The studies of `bench tune` and of `bench run --trials`: done, written into the store, and printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.bench.cli.console import say
from parbench.bench.cli.forecast_table import print_known_forecast
from parbench.bench.cli.grid import Grid
from parbench.bench.cli.session import CommandSession
from parbench.bench.store.layout import TUNED

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from parbench.bench.plan.suite import Suite
    from parbench.bench.tune.study import Study, StudyResult, TuningBudget


@dataclass(frozen=True)
class Studies:
    """The result of the studies.

    Attributes:
        suite: the suite with the best settings.
        failures: studies in which no trial had a score, a sentence each.
    """

    suite: Suite
    failures: tuple[str, ...]


def run_studies(session: CommandSession, effort: TuningBudget) -> Studies:
    """Tune every method on every task, and write the suite of the best settings into the store.

    Raises:
        UserError: something cannot be tuned.
    """
    from parbench.bench.execute.progress import make_progress
    from parbench.bench.tune.study import make_studies
    from parbench.bench.tune.tune import tune
    from parbench.bench.tune.tuned_suite import read_tuned, tuned_suite

    store, console = session.store, session.console
    studies = make_studies(session.suite, session.overrides, effort, session.lock)
    store.prepare()
    # At once, not after hours of trials, when their results are to be added to it.
    read_tuned(store.root / TUNED)
    with make_progress(console, len(studies) * effort.trials * len(effort.seeds)) as progress:
        found = tune(
            studies, effort, store, lambda runs, follow_up: session.execute(runs, progress, follow_up), progress.known
        )
    _print_found(found, console)
    written = _write(tuned_suite(session.suite, session.overrides, effort, found), store.root, console)
    failed = [tuned for tuned in found if tuned.best is None]
    failures = tuple(
        f"no trial of {tuned.study.method.name} on {tuned.study.task} came to a score; the last: "
        f"{tuned.trials[-1].reason}"
        for tuned in failed
    )
    for failure in failures:
        say(failure, console)
    return Studies(written, failures)


def print_dry_studies(session: CommandSession, effort: TuningBudget) -> None:
    """Print the studies, and their cost if it was measured before.

    Raises:
        UserError: something cannot be tuned.
    """
    from parbench.bench.tune.study import make_studies

    studies = make_studies(session.suite, session.overrides, effort, session.lock)
    session.console.print(_studies_table(studies, effort))
    # The cost of a trial is that of its starting point; which trials are done is known only when they are drawn.
    every = [run for study in studies for run in study.runs * effort.trials]
    print_known_forecast(every, session.store, session.executor, session.console, lambda run: True)


def _write(suite: Suite, out: Path, console: Console) -> Suite:
    """Write the tuned suite into the store, merged with what was tuned there under the same conditions, if any."""
    from parbench.bench.tune.tuned_suite import write_tuned

    path = out / TUNED
    written = write_tuned(suite, path)
    if written.kept is not None:
        what = f"the earlier {path} was tuned under other conditions and is now {written.kept}"
        say(f"{what}; run with it by --suite {written.kept}", console)
    say(f"the settings are in {path}", console)
    return written.suite


def _studies_table(studies: list[Study], effort: TuningBudget) -> Grid:
    seeds = ", ".join(map(str, effort.seeds))
    runs = len(studies) * effort.trials * len(effort.seeds)
    title = f"{effort.trials} trials ({effort.sampler}) of seeds {seeds} each: {runs} runs"
    searched = "searched, evenly on a logarithmic scale"
    rows = []
    for study in studies:
        space = ", ".join(f"{axis.field} {axis.low:g} to {axis.high:g}" for axis in study.space)
        rows.append((study.task, study.method.name, space))
    return Grid(("task", "method", searched), rows, title, names=2, sentences=frozenset({searched}))


def _print_found(found: list[StudyResult], console: Console) -> None:
    titles = ("task", "method", "trial", "point", "selection score", "")
    rows = []
    for tuned in found:
        task = tuned.study.runs[0].task
        unit = task.unit(tuned.metric)
        for trial in tuned.trials:
            point = ", ".join(f"{name} {value:.3g}" for name, value in trial.point.items())
            score = trial.reason if trial.score is None else unit.text(trial.score)
            mark = _mark(tuned) if trial is tuned.best else ""
            rows.append((tuned.study.task, tuned.study.method.name, str(trial.number), point, score, mark))
    console.print(Grid(titles, rows, names=3, sentences=frozenset({"point", "selection score"})))
    for tuned in found:
        if tuned.tied and tuned.best:
            others = ", ".join(str(trial.number) for trial in tuned.tied)
            what = f"trial {tuned.best.number} is ahead of {others} by one example or less; any may be best"
            say(f"{tuned.study.method.name} on {tuned.study.task}: {what}", console)
        for edge in tuned.at_bounds:
            what = f"{tuned.study.method.name} on {tuned.study.task}: the best {edge}; a better one may lie beyond"
            say(f"WARNING: {what}", console)


def _mark(tuned: StudyResult) -> str:
    """Return the mark of the best trial, with what of it lies at an end of its range."""
    edges = ", ".join(text.partition(" ")[0] for text in tuned.at_bounds)
    return f"best; at an end of its range: {edges}" if edges else "best"
