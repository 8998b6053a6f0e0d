"""`bench status`."""

from __future__ import annotations

from typing import Annotated

import typer

from parbench.bench.cli.console import counted, open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, Out


def status(
    out: Out = DEFAULT_STORE,
    everything: Annotated[bool, typer.Option("--all", help="Name every run, not the first of each kind.")] = False,
) -> None:
    """Say what is done, at work, cut off, failed and stale."""
    from parbench.bench.store.status import EXAMPLES, store_status
    from parbench.bench.store.store import Store

    store = Store(out)
    store.require_folder()
    found = store_status(store, kept=2**31 if everything else EXAMPLES)
    console = open_console()
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(found.statuses.items()))
    say(f"{counted(found.statuses.total(), 'record')} in {store.root}{f': {counts}' if counts else ''}", console)
    for title, runs in (
        ("at work", found.at_work),
        ("cut off; the command that began them goes on with them", found.unfinished),
        ("failed; bench run does them again", found.failed),
        ("stale; bench run would make new runs in their place", found.stale),
        ("superseded by a newer record that differs in code or revisions only", found.superseded),
        ("not readable", found.unreadable),
    ):
        if not runs.count:
            continue
        say(f"\n{runs.count} {title}:", console)
        for text in runs.examples:
            say(f"  {text}", console)
        if runs.count > len(runs.examples):
            say(f"  and {runs.count - len(runs.examples)} more; name them all with --all", console)
    if found.unreadable.count:
        raise typer.Exit(1)
