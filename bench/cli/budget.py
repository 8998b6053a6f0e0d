"""`bench budget`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from parbench.bench.budget import BudgetMode, MeasuredLimit
from parbench.bench.cli.available_model import find_available_model
from parbench.bench.cli.console import announce, announce_loading, open_console, say
from parbench.bench.cli.grid import Grid
from parbench.bench.cli.parsing import read_names, read_positive
from parbench.bench.profile import MOST_EXAMPLES
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from parbench.bench.budget.budget import Budget
    from parbench.bench.budget.fit import Fit
    from parbench.bench.profile.workload import Workload
    from parbench.methods.expression import ResolvedMethod


Matched = Literal["parameters", MeasuredLimit]


def budget(
    model: Annotated[str, typer.Option(help="Base model: a name, a hub id or a local folder.")],
    budget: Annotated[
        str, typer.Option(help="Adapter parameters, comma-separated: 24000, 24k, 0.1%, match:lora(r=8).")
    ],
    methods: Annotated[str, typer.Option(help="Comma-separated methods, or all.", metavar="A,B")] = "all",
    budget_mode: Annotated[
        BudgetMode, typer.Option(help="pattern: fill a budget with fewer or unevenly sized layers.")
    ] = "uniform",
    matched: Annotated[
        Matched, typer.Option("--match", help="What is limited; memory (2GiB) and step-time (250ms) are measured.")
    ] = "parameters",
    batch: Annotated[int, typer.Option(help="Examples per measured step.")] = 8,
    seq: Annotated[int, typer.Option(help="Tokens per example of a measured step.")] = 128,
    device: Annotated[str | None, typer.Option(help="Where to measure: cpu, cuda or cuda:N.")] = None,
) -> None:
    """Show the size at which each method meets a budget; with parameters, nothing is loaded or trained."""
    announce_loading()
    from parbench.bench.budget.budget import parse_budgets
    from parbench.bench.budget.count import Architecture
    from parbench.bench.budget.fit import fit
    from parbench.bench.profile.workload import Workload, check_length
    from parbench.bench.util.environment import choose_device, quiet_libraries
    from parbench.methods import METHODS, find_method
    from parbench.methods.expression import default_setting

    quiet_libraries()
    expressions = list(METHODS) if methods == "all" else read_names(methods, "--methods") or ()
    chosen = [find_method(expression) for expression in expressions]
    base = find_available_model(model, weights=False)
    if matched != "parameters":
        read_positive(batch, "--batch", most=MOST_EXAMPLES)
        read_positive(seq, "--seq")
        workload = Workload(model, batch, seq, str(choose_device(device)))
        check_length(workload)
        _print_matches(dict(zip(expressions, chosen, strict=True)), budget, matched, workload)
        return
    architecture = Architecture(base)

    def counted(expression: str) -> int:
        choice = find_method(expression)
        return architecture.count(choice.method, default_setting(choice)).reported

    console = open_console()
    for limit in parse_budgets(budget, architecture, counted):
        fits: dict[str, Fit] = {}
        for number, (expression, choice) in enumerate(zip(expressions, chosen, strict=True), 1):
            # A large model takes a second per size, a method with a decomposition several.
            announce(f"counting {expression} ({number} of {len(chosen)})")
            fits[expression] = fit(
                choice.method,
                default_setting(choice),
                limit,
                architecture,
                budget_mode,
                given=choice.values,
            )
        _print_fits(console, model, limit, fits)


def _print_fits(console: Console, model: str, target: Budget, fits: Mapping[str, Fit]) -> None:
    """Print one row per method expression."""
    title = f"{model}, {target.text}: at most {target.parameters:,} reported parameters"
    say(title, console)
    titles = ("method", "size", "reported", "trainable", "optimised", "bytes", "share", "next size")
    rows = []
    for expression, found in fits.items():
        counts = found.counts
        numbers = (counts.reported, counts.trainable, counts.optimised, counts.stored_bytes) if counts else ()
        cells = [f"{number:,}" for number in numbers] or ["—"] * 4
        share = f"{found.achieved:.1%}" if found.achieved is not None else "—"
        larger = f"{found.larger.size}: {found.larger.reported:,}" if found.larger else "—"
        rows.append((expression, found.size or "—", *cells, share, larger))
    console.print(Grid(titles, rows, names=2, numbers=frozenset(titles[2:7])))
    heads = {f"{found.counts.head:,}" for found in fits.values() if found.counts}
    notes = [f"The task head, {' or '.join(sorted(heads))} parameters, is never counted."] if heads else []
    for expression, found in fits.items():
        remarks = filter(None, (found.note, found.counts.excess if found.counts else ""))
        notes += [f"{expression}: {remark}" for remark in remarks]
    for note in notes:
        say(note, console)
    console.print()


def _print_matches(
    chosen: Mapping[str, ResolvedMethod], budget: str, currency: MeasuredLimit, workload: Workload
) -> None:
    from parbench.bench.budget.count import Architecture
    from parbench.bench.budget.measured import fit_measured, in_fresh_process, read_limit
    from parbench.bench.models.catalogue import find_model
    from parbench.bench.plan.model_checks import refusal

    console = open_console()
    measure = in_fresh_process(workload)
    limit = read_limit(budget, currency, measure)
    unit, factor = ("ms", 1e3) if currency == "step-time" else ("MiB", 2.0**-20)
    title = f"{workload.base_model}, {budget}: at most {limit * factor:,.1f} {unit} of {currency} a training step"
    detail = f"batch {workload.batch_size} x {workload.length} tokens on {workload.device}, random weights; measured"
    say(f"{title} ({detail})", console)
    titles = ("method", "size", f"reached ({unit})", "of budget", f"tried ({unit})")
    rows, refused = [], []
    refuse = partial(refusal, architecture=Architecture(find_model(workload.base_model)), chosen=False)
    for expression, choice in chosen.items():
        found = fit_measured(choice, limit, currency, measure, refuse)
        if isinstance(found, str):
            refused.append(f"{expression}: {found}")
            continue
        size = found.size or "fixed"
        tried = ", ".join(
            f"{name or 'fixed'} {f'{amount * factor:,.1f}' if math.isfinite(amount) else 'out of memory'}"
            for name, amount in found.tried
        )
        share = f"{found.reached / limit:.1%}{'' if found.within else ', over'}"
        rows.append((expression, size, f"{found.reached * factor:,.1f}", share, tried))
    if not rows:
        raise UserError(f"nothing can be measured: {'; '.join(refused)}")
    console.print(Grid(titles, rows, names=2, sentences=frozenset(titles[4:]), numbers=frozenset(titles[2:4])))
    for sentence in refused:
        say(sentence, console)
