"""The tables of deployment, for the page, the Markdown and CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from parbench.bench.record.deployment import AS_LOADED, Deployment
from parbench.reports.constant import DID_NOT_LEARN
from parbench.reports.deployment.engines import Engine, known_engines, obstacles, unknown
from parbench.reports.deployment.losses import DeployedRow, Loss, reproduces
from parbench.reports.tables import NOTHING, Table
from parbench.reports.words import listed
from parbench.tasks import metric_unit

NOTE = (
    "Measured on the trained adapters by bench adapter measure; where the base weights of the runs were not in "
    "float32, on a copy of them that is. Merging: the largest change of a logit, over the "
    "largest logit. Converted to LoRA: score of the run minus that of the converted adapter on the same examples, the "
    "mean over the seeds, with its interval of 95 % over the draw of the examples, for these adapters. Whether an "
    "engine can serve an adapter follows from its type, rank and modules, and from the sources listed below; it was "
    "not tried."
)


@dataclass(frozen=True)
class Deployed:
    """What a page shows of deployment.

    Attributes:
        note: how to read it.
        tables: uses of the adapters; conversions; engines.
        remarks: what could not be read or does not agree, and the sources of what engines load.
    """

    note: str
    tables: tuple[Table, ...]
    remarks: tuple[str, ...]


def deployed(rows: Sequence[DeployedRow], unread: Iterable[str]) -> Deployed | None:
    """Return the section, or ``None`` where nothing was measured."""
    unread = list(unread)
    if not rows and not unread:
        return None
    tables = [_uses(rows), _conversions(rows), _engines(rows)] if rows else []
    return Deployed(NOTE, tuple(table for table in tables if table.rows), (*_remarks(rows), *unread))


def _uses(rows: Sequence[DeployedRow]) -> Table:
    head = (
        *("method", "task", "adapter", "bytes", "merges (float32)", "merges (bfloat16)", "plain peft"),
        *("several, switched", "several in a batch", "one example (ms)", "merged (ms)"),
    )
    return Table(head, tuple(tuple(_use(row)) for row in rows), caption="What the adapters can be used for")


def _use(row: DeployedRow) -> Iterator[str]:
    found = list(row.found.values())
    first = found[0]
    yield row.row
    yield row.column
    yield f"{first.kind}{f' ({first.variant})' if first.variant else ''}" or NOTHING
    yield _span(f"{one.adapter_bytes:,}" for one in found)
    for dtype in ("float32", "bfloat16"):
        yield _merging(found, dtype)
    yield next((text for one in found if (text := row.in_plain_peft(one)).startswith("no")), row.in_plain_peft(first))
    for values in ([one.switched for one in found], [one.mixed for one in found]):
        yield next((f"no: {value}" for value in values if value), "yes")
    for seconds in ([one.unmerged_seconds for one in found], [one.merged_seconds for one in found]):
        known = [value for value in seconds if value is not None]
        yield f"{1e3 * sorted(known)[len(known) // 2]:.2f}" if known else NOTHING


def _merging(found: Sequence[Deployment], dtype: str) -> str:
    merges = [merge for one in found for merge in one.merges if merge.dtype == dtype]
    if reasons := [merge.reason for merge in merges if merge.reason]:
        return f"no: {reasons[0]}"
    worst = max(
        (merge for merge in merges if merge.difference is not None), key=lambda one: one.difference or 0.0, default=None
    )
    return NOTHING if worst is None else f"{worst.difference:.2g} of {worst.largest:.3g}"


def _span(texts: Iterable[str]) -> str:
    values = list(dict.fromkeys(texts))
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}"


def targets_of(rows: Iterable[DeployedRow]) -> list[str]:
    """Return the targets of all conversions, in order of their first appearance."""
    return list(dict.fromkeys(loss.target for row in rows for loss in row.losses if loss.target != AS_LOADED))


def _conversions(rows: Sequence[DeployedRow]) -> Table:
    targets = targets_of(rows)
    heads = [f"rank {target}" if target.isdecimal() else f"energy {target}" for target in targets]
    lines = []
    for row in rows:
        by_target = {loss.target: loss for loss in row.losses}
        lines.append((row.row, row.column, *(_loss(row, by_target.get(target)) for target in targets)))
    return Table(("method", "task", *heads), tuple(lines), caption="Score lost by conversion to LoRA")


def _loss(row: DeployedRow, loss: Loss | None) -> str:
    if loss is None:
        return NOTHING
    if loss.lost is None:
        return f"no: {loss.reason}"
    unit = metric_unit(row.task, row.metric)
    ends = ""
    if loss.interval is not None:
        ends = f" [{unit.text(loss.interval.low, sign=True)}, {unit.text(loss.interval.high, sign=True)}]"
    ranks = ""
    if loss.ranks is not None and not loss.target.isdecimal():
        low, high = loss.ranks
        ranks = f", rank {low}" if low == high else f", ranks {low} to {high}"
    unlearnt = "" if row.learnt else f", {DID_NOT_LEARN}"
    return f"{unit.text(loss.lost, sign=True)}{ends}{ranks}{unlearnt}"


def _engines(rows: Sequence[DeployedRow]) -> Table:
    engines = known_engines().engines
    lines = [(row.row, row.column, *(_served(engine, row) for engine in engines)) for row in rows]
    caption = f"Serving, by what engines load (sources seen {known_engines().seen})"
    return Table(("method", "task", *(engine.name for engine in engines)), tuple(lines), caption=caption)


def _served(engine: Engine, row: DeployedRow) -> str:
    """Return how an engine can serve the adapters of a row: as they are, as a converted LoRA, or merged only."""
    first = next(iter(row.found.values()))
    as_trained = list(obstacles(engine, first))
    if not as_trained and not (unclear := unknown(engine, first)):
        return "serve as is"
    if not as_trained:
        as_trained = [f"whether it loads {listed(unclear)} is not known"]
    ranks = [(int(loss.target), loss) for loss in row.losses if loss.target.isdecimal() and loss.lost is not None]
    fitting = [(rank, loss) for rank, loss in ranks if not list(obstacles(engine, first, rank))]
    if fitting:
        unit = metric_unit(row.task, row.metric)
        # The smallest rank that loses no more than half a percent of the scale, or else the one that loses least.
        close = [(rank, loss) for rank, loss in fitting if (loss.lost or 0.0) * unit.factor <= 0.5]
        rank, loss = min(close) if close else min(fitting, key=lambda pair: pair[1].lost or 0.0)
        lost = f"loses {unit.text(loss.lost or 0.0, sign=True)}" if row.learnt else f"the runs {DID_NOT_LEARN}"
        return f"serve as converted LoRA of rank {rank} ({lost})"
    reason = next(iter(obstacles(engine, first, ranks[0][0])), as_trained[0]) if ranks else as_trained[0]
    can_merge = any(merge.difference is not None for one in row.found.values() for merge in one.merges)
    return f"merge only: {reason}" if can_merge else f"no: {reason}"


def _remarks(rows: Sequence[DeployedRow]) -> Iterator[str]:
    for row in rows:
        if reproduces(row.losses) is False:
            yield (
                f"{row.row} on {row.column}: loaded again, the adapters do not score as the runs did; their losses "
                "include that difference"
            )
    for engine in known_engines().engines if rows else ():
        for evidence in engine.evidence:
            yield f"{engine.name}: {evidence.shows} ({evidence.url})"


def deployment_frame(rows: Iterable[DeployedRow]) -> pd.DataFrame:
    """Return one line for each run and target of a conversion."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        losses = {loss.target: loss for loss in row.losses}
        for seed, found in row.found.items():
            merges = {f"merge_{one.dtype}": one.difference for one in found.merges}
            for conversion in found.conversions:
                loss = losses[conversion.target]
                lines.append(
                    {
                        "row": row.row,
                        "column": row.column,
                        "seed": seed,
                        "run_id": found.run_id,
                        "kind": found.kind,
                        "rank": found.rank,
                        "adapter_bytes": found.adapter_bytes,
                        **merges,
                        "plain_peft": found.plain_peft or row.in_plain_peft(found),
                        "several_switched": found.switched or "yes",
                        "several_mixed": found.mixed or "yes",
                        "unmerged_seconds": found.unmerged_seconds,
                        "merged_seconds": found.merged_seconds,
                        "target": conversion.target,
                        "least_rank": conversion.ranks[0] if conversion.ranks else None,
                        "largest_rank": conversion.ranks[1] if conversion.ranks else None,
                        "lora_bytes": conversion.bytes,
                        "relative_error": conversion.error,
                        "lost_mean_of_seeds": loss.lost,
                        "lost_low": loss.interval.low if loss.interval else None,
                        "lost_high": loss.interval.high if loss.interval else None,
                        "reason": conversion.reason or loss.reason,
                    }
                )
    return pd.DataFrame(lines)
