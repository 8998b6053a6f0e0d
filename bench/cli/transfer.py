"""`bench export` and `bench import`: copy records between stores and machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parbench.bench.cli.console import counted, open_console, say
from parbench.bench.cli.options import DEFAULT_STORE, Out
from parbench.bench.store.archive import Take


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar.gz", help="The file to write.")],
    out: Out = DEFAULT_STORE,
    adapters: Annotated[
        bool, typer.Option(help="Include the trained adapters, which make up most of the file.")
    ] = True,
    logits: Annotated[bool, typer.Option(help="Include the examples' logits, which no table needs.")] = True,
) -> None:
    """Write the records of a store into an archive, for example for another machine."""
    from parbench.bench.store import archive as transfer
    from parbench.bench.store.store import Store

    done = transfer.export(Store(out), file, adapters, logits)
    console = open_console()
    for text in done.left_out:
        say(f"left out: {text}", console)
    say(f"{counted(done.runs, 'record')} written to {file}", console)
    if done.left_out:
        raise typer.Exit(1)


def import_(
    source: Annotated[Path, typer.Argument(help="An archive written by bench export, or the folder of another store.")],
    out: Out = DEFAULT_STORE,
    take: Annotated[
        Take | None, typer.Option(help="Which record to keep where both stores have one of the same run.")
    ] = None,
) -> None:
    """Copy the records of another store into this one."""
    from parbench.bench.store import archive as transfer
    from parbench.bench.store.store import Store

    done = transfer.take_in(source, Store(out), take)
    console = open_console()
    for text in done.refused:
        say(f"refused: {text}", console)
    for text in done.conflicts:
        say(f"not imported: {text}; keep one of them with --take ours or --take theirs", console)
    replaced = f", {len(done.replaced)} replaced (the previous ones are in aside/)" if done.replaced else ""
    completed = f", {len(done.completed)} completed with adapters or logits" if done.completed else ""
    measured = f", {counted(len(done.deployments), 'measurement')} of adapters" if done.deployments else ""
    kept = f", {len(done.kept)} not taken because ours are kept" if done.kept else ""
    known = f"{len(done.same)} already present{completed}{replaced}{kept}{measured}"
    say(f"{counted(len(done.new), 'record')} imported, {known}", console)
    if done.refused or done.conflicts:
        raise typer.Exit(1)
