"""`bench plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from parbench.bench.cli.console import announce_loading
from parbench.bench.cli.detect import print_needed
from parbench.bench.cli.forecast_table import print_forecast
from parbench.bench.cli.options import ComparisonOptions, ScoringOptions, WorkerOptions, takes
from parbench.bench.cli.parsing import MOST_PLANNED, read_positive, read_seeds
from parbench.bench.cli.session import open_session, read_overrides


@takes(ComparisonOptions, ScoringOptions, WorkerOptions)
def plan(
    comparison: ComparisonOptions,
    scoring: ScoringOptions,
    workers: WorkerOptions,
    detect: Annotated[
        float | None,
        typer.Option(
            help="Print how many seeds and examples show a difference of so many points with 80 % power, instead of "
            "the cost; from the variances in OUT where it has some.",
            metavar="POINTS",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            help="Trials per method and task of an equal tuning, whose cost is printed apart; default: the suite's."
        ),
    ] = None,
    selection_seeds: Annotated[
        str | None,
        typer.Option(help="Seeds of these trials, comma-separated; default: the suite's.", metavar="1001"),
    ] = None,
) -> None:
    """Estimate the time, memory and disk of a suite on this device, from a few real steps of each kind of run."""
    announce_loading()
    from parbench.bench.plan.tuning import to_be_tuned
    from parbench.bench.tune.study import DESIGNED, SELECTION_SEEDS, TuningBudget

    read_positive(trials, "--trials", most=MOST_PLANNED)
    seeds = read_seeds(selection_seeds, "--selection-seeds")
    session = open_session(comparison, read_overrides(comparison, scoring), workers)
    if detect is not None:
        print_needed(session, detect)
        return
    runs, tuned = session.plan().runs, session.suite.tuning
    effort = TuningBudget(
        trials or (tuned.trials if tuned else DESIGNED),
        seeds or (tuned.selection_seeds if tuned else SELECTION_SEEDS),
    )
    print_forecast(runs, session, to_be_tuned(session.suite, runs), effort)
