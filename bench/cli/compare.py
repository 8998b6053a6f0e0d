"""`bench compare`: paired differences between two methods or two stores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parbench.bench.cli.console import end_incomplete, open_console
from parbench.bench.cli.options import DEFAULT_STORE, Out
from parbench.bench.util.errors import UserError


def compare(
    a: Annotated[str, typer.Argument(help="A method, or the folder of a store.", metavar="A")],
    b: Annotated[str, typer.Argument(help="A second method or store.", metavar="B")],
    out: Out = DEFAULT_STORE,
    method: Annotated[str | None, typer.Option(help="With two stores: compare this method only.")] = None,
) -> None:
    """Compare two methods of one store, or two stores: paired differences, and differences between their specs."""
    from parbench.reports.plotting import import_matplotlib

    import_matplotlib()
    from parbench.bench.store.store import Store
    from parbench.reports.contrasts import contrast_methods, contrast_stores
    from parbench.reports.contrasts_render import TerminalContrasts

    # A folder that has the name of a method but no records is not a store.
    stores = [Store(Path(name)) for name in (a, b) if Store(Path(name)).runs.is_dir()]
    if a == b or (len(stores) == 2 and stores[0].root.samefile(stores[1].root)):
        raise UserError(f'"{a}" and "{b}" are the same; give two that differ')
    if len(stores) == 2:
        compared = contrast_stores(stores[0], stores[1], method)
    elif stores:
        raise UserError(f'"{a}" and "{b}" are a store and a method; give two methods, or the folders of two stores')
    elif method is not None:
        raise UserError("--method applies to two stores, not to two methods")
    else:
        compared = contrast_methods(Store(out), a, b)
    open_console().print(TerminalContrasts(compared))
    if compared.unreadable:
        end_incomplete("left out of the comparison", compared.unreadable)
