"""`bench plan`."""

from __future__ import annotations

from parbench.bench.cli.console import announce_loading
from parbench.bench.cli.forecast_table import print_forecast
from parbench.bench.cli.options import ComparisonOptions, ScoringOptions, WorkerOptions, takes
from parbench.bench.cli.session import open_session, read_overrides


@takes(ComparisonOptions, ScoringOptions, WorkerOptions)
def plan(comparison: ComparisonOptions, scoring: ScoringOptions, workers: WorkerOptions) -> None:
    """Estimate the time, memory and disk of a suite on this device, from a few real steps of each kind of run."""
    announce_loading()
    session = open_session(comparison, read_overrides(comparison, scoring), workers)
    print_forecast(session.plan().runs, session.store, session.executor, session.console)
