"""`bench list`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parbench.bench.cli.console import open_console, say
from parbench.bench.cli.grid import Grid
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.util.registry import Registry
    from parbench.methods.probe import Ability
    from parbench.reports.claims.claim import Claim


class Listing(StrEnum):
    """What `bench list` lists."""

    METHODS = "methods"
    TASKS = "tasks"
    MODELS = "models"
    SUITES = "suites"
    CLAIMS = "claims"


def list_names(
    what: Annotated[Listing, typer.Argument(help="What to list.", metavar="|".join(Listing))],
    probe: Annotated[
        bool, typer.Option("--probe", help="Try each method on tiny models and show what it can do (a minute).")
    ] = False,
) -> None:
    """List the methods, tasks, base models, suites or claims of papers by name."""
    if probe:
        if what is not Listing.METHODS:
            raise UserError(f"--probe goes with methods, not with {what.value}")
        _print_capabilities()
        return
    if what is Listing.SUITES:
        from parbench.bench.plan.suite import load_suite, suite_names

        rows = [(name, load_suite(name).title) for name in suite_names()]
    elif what is Listing.CLAIMS:
        from parbench.reports.claims.claim import claim_names, load_claim

        rows = [(name, claim_summary(load_claim(name).claim)) for name in claim_names()]
    else:
        registry = _registry(what)
        rows = [(name, registry.entry(name).summary) for name in registry]
    open_console().print(Grid((what.value.rstrip("s"), "summary"), rows, sentences=frozenset({"summary"})))


def claim_summary(claim: Claim) -> str:
    """Return a claim in words, with its source and whether it can be tested here."""
    untestable = "" if claim.here else "; cannot be tested here"
    return f"{claim.words} [{claim.source}{untestable}]"


def _print_capabilities() -> None:
    from parbench.bench.util.base_precision import QUANTISED
    from parbench.bench.util.environment import quiet_libraries
    from parbench.methods import METHODS
    from parbench.methods.probe import capability_rows
    from parbench.methods.testing import TINY_MODELS

    quiet_libraries()
    console = open_console()
    rows = capability_rows(METHODS)
    models = {"bert": "encoder", "gpt2": "GPT-2 (Conv1D)", "llama": "Llama (grouped queries)", "vit": "ViT"}
    columns = [models.get(name, name) for name in TINY_MODELS]
    titles = ("method", *columns, *QUANTISED, "starts at base", "merges", "size", "reported", "file bytes")
    cells = []
    for row in rows:
        counts = row.counts
        numbers = (counts.size or "fixed", f"{counts.reported:,}", f"{counts.file_bytes:,}") if counts else ("—",) * 3
        quantised = (row.quantised.get(precision) for precision in QUANTISED)
        abilities = (*(row.models.get(name) for name in TINY_MODELS), *quantised, row.starts_at_base, row.merges)
        cells.append((row.method, *map(_yes_or_no, abilities), *numbers))
    console.print(Grid(titles, cells, numbers=frozenset(titles[-2:])))
    say(
        "Found by trying, on tiny models of random weights; sizes, and int8 and nf4 base weights, are on the first of "
        "them that works.",
        console,
    )
    for row in rows:
        tried = (*row.models.values(), *row.quantised.values())
        reasons = dict.fromkeys(filter(None, (row.reason, *(ability.reason for ability in tried))))
        if reasons:
            say(f"{row.method}: {'; '.join(reasons)}", console)


def _yes_or_no(ability: Ability | None) -> str:
    return "—" if ability is None else "yes" if ability.able else "no"


def _registry(what: Listing) -> Registry[Any]:
    if what is Listing.METHODS:
        from parbench.methods import METHODS

        return METHODS
    if what is Listing.TASKS:
        from parbench.tasks import TASKS

        return TASKS
    from parbench.bench.models import MODELS

    return MODELS
