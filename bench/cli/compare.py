"""`bench compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.console import DEFAULT_STORE, Out, open_console
from bench.errors import UserError


def compare(
    a: Annotated[str, typer.Argument(help="A method, or the folder of a store.", metavar="A")],
    b: Annotated[str, typer.Argument(help="Another of the same kind.", metavar="B")],
    out: Out = DEFAULT_STORE,
    method: Annotated[str | None, typer.Option(help="Of two stores, compare this method only.")] = None,
) -> None:
    """Compare two methods of one store, or two stores: paired differences, and what differs in their specs."""
    from bench.store import Store
    from reports.compare import TerminalComparison, compare_methods, compare_stores

    folders = [Path(name).is_dir() for name in (a, b)]
    if all(folders):
        compared = compare_stores(Store(Path(a)), Store(Path(b)), method)
    elif any(folders):
        raise UserError(f'"{a}" and "{b}" are not of one kind; give two methods, or the folders of two stores')
    elif method is not None:
        raise UserError("--method goes with two stores, not with two methods")
    else:
        compared = compare_methods(Store(out), a, b)
    open_console().print(TerminalComparison(compared))
