"""`bench gc`: removes files that no run needs any more."""

from __future__ import annotations

from typing import Annotated

import typer

from parbench.bench.cli.console import open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, Out


def gc(
    out: Out = DEFAULT_STORE,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also remove checkpoints of interrupted runs; these restart.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, without removing it.")
    ] = False,
) -> None:
    """Remove unused checkpoints, expired leases and temporary files; records are never removed."""
    from parbench.bench.store.garbage import find_garbage, remove
    from parbench.bench.store.store import Store

    store = Store(out)
    store.require_folder()
    console = open_console()
    freed = 0
    for waste in find_garbage(store, unfinished):
        if dry_run or remove(waste, store):
            freed += waste.size
            say(str(waste), console)
    say(f"{freed:,} bytes {'would be ' if dry_run else ''}freed in {store.root}", console)
