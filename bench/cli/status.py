"""`bench status`: the state of the runs of a store."""

from __future__ import annotations

from typing import Annotated

import typer

from parbench.bench.cli.console import counted, open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, Out


def status(
    out: Out = DEFAULT_STORE,
    everything: Annotated[
        bool, typer.Option("--all", help="List every run; default: the first few of each kind.")
    ] = False,
) -> None:
    """Show which runs are completed, running, interrupted, failed, stale and superseded."""
    from parbench.bench.store.status import EXAMPLES, store_status
    from parbench.bench.store.store import Store

    store = Store(out)
    store.require_folder()
    found = store_status(store, kept=2**31 if everything else EXAMPLES)
    console = open_console()
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(found.statuses.items()))
    say(f"{counted(found.statuses.total(), 'record')} in {store.root}{f': {counts}' if counts else ''}", console)
    for title, runs in (
        ("running", found.running),
        ("interrupted; the same command resumes them", found.interrupted),
        ("failed; bench run repeats them", found.failed),
        ("stale; bench run replaces them by new runs", found.stale),
        ("superseded by a newer record that differs only in code or revisions", found.superseded),
        ("not readable", found.unreadable),
    ):
        if not runs.count:
            continue
        say(f"\n{runs.count} {title}:", console)
        for text in runs.examples:
            say(f"  {text}", console)
        if runs.count > len(runs.examples):
            say(f"  and {runs.count - len(runs.examples)} more; list them with --all", console)
    if found.unreadable.count:
        raise typer.Exit(1)
