"""`bench list`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.cli.console import open_console

if TYPE_CHECKING:
    from bench.registry import Registry


class Listing(StrEnum):
    """What `bench list` lists."""

    METHODS = "methods"
    TASKS = "tasks"
    MODELS = "models"
    SUITES = "suites"


def list_names(what: Annotated[Listing, typer.Argument(help="What to list.")]) -> None:
    """List the methods, tasks, base models or suites by name."""
    if what is Listing.SUITES:
        from bench.suite import load_suite, suite_names

        rows = [(name, load_suite(name).title) for name in suite_names()]
    else:
        registry = _registry(what)
        rows = [(name, registry.entry(name).summary) for name in registry]
    open_console().print(_two_columns(what.value, rows))


def _registry(what: Listing) -> Registry[Any]:
    if what is Listing.METHODS:
        from methods import METHODS

        return METHODS
    if what is Listing.TASKS:
        from tasks import TASKS

        return TASKS
    from bench.models import MODELS

    return MODELS


def _two_columns(title: str, rows: list[tuple[str, str]]) -> Any:
    from rich.table import Table

    table = Table(title.rstrip("s"), "", box=None, pad_edge=False)
    for name, summary in rows:
        table.add_row(name, summary)
    return table
