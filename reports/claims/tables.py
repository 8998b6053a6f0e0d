"""Judged claims as a table and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import Any

import pandas as pd

from parbench.reports.claims.claim import SMALLEST_EFFECT, WITH_MARGIN, Claim
from parbench.reports.claims.effects import Effect
from parbench.reports.claims.judge import EDITED, Judged, Judgment
from parbench.reports.scored import LEVEL
from parbench.reports.statistics.power import examples_needed, seeds_needed
from parbench.reports.tables import NOTHING, Table, distinct

NOTE = (
    "A claim is judged on the runs of its own set-up and seeds alone. Differences are of the row minus the one that it "
    "is compared with, paired by seed and example. Better: the two-sided test at 5 %, with the interval of 95 %. Not "
    "worse, and equivalent: one-sided tests at 5 % against the margin, with the interval of 90 %. A claim with several "
    "comparisons is supported if all of them show it. p-values are corrected by Holm for the claims of this page."
)
_HEAD = ("claim", "verdict", "effect", "p (corrected)", "it would take", "declared", "source")
_CSV = ["claim", "sha256", "declared", "kind", "verdict", "holds", "fails", "against", "where", "unit", "value", "low"]
_CSV += ["high", "level", "p_holds", "p_fails", "reason"]


@dataclass(frozen=True)
class ClaimsSection:
    """The claims on a page: a note on how they are judged, the table, and a sentence for each claim."""

    note: str
    table: Table
    sentences: tuple[str, ...]


def claims_section(judged: Judged) -> ClaimsSection | None:
    """Return what a page shows of claims, or ``None`` if there are none."""
    if not judged.judgments and not judged.notes:
        return None
    unread = (f"Left out: {note}." for note in judged.notes)
    return ClaimsSection(NOTE, claims_table(judged), (*difference_sentences(judged), *unread))


def claims_table(judged: Judged) -> Table:
    """Return a row for each claim."""
    rows = tuple(tuple(_cells(one)) for one in judged.judgments)
    return Table(_HEAD, rows)


def _cells(one: Judgment) -> Iterator[str]:
    yield f"{one.claim.name}: {one.claim.words}"
    yield one.verdict + (f" ({EDITED})" if one.declared == EDITED else "")
    yield "; ".join(effect_text(effect) for effect in one.effects if effect.value is not None) or NOTHING
    p_value = one.fails if one.verdict == "contradicted" else one.holds
    exact = bool(one.effects) and all(effect.is_exact for effect in one.effects)
    yield NOTHING if p_value is None or exact else f"{p_value:.3g}"
    yield would_take(one) or NOTHING
    yield one.declared
    yield str(one.claim.source)


def effect_text(effect: Effect) -> str:
    """Return an effect with its interval in words."""
    if effect.value is None:
        return NOTHING
    if effect.unit is None:
        ends = f" [{effect.interval.low:.2f}x, {effect.interval.high:.2f}x]{_level(effect)}" if effect.interval else ""
        return f"{effect.value:.2f}x of {effect.against} on {effect.where}{ends}"
    unit = effect.unit
    ends = ""
    if effect.interval:
        low, high = (unit.text(end, sign=True) for end in (effect.interval.low, effect.interval.high))
        ends = f" [{low}, {high}]{_level(effect)}"
    return f"{unit.text(effect.value, sign=True)}{ends} against {effect.against} on {effect.where}"


def would_take(one: Judgment) -> str:
    """Return what a claim about which nothing can be told would take, in words."""
    if one.verdict != "cannot tell":
        return ""
    if one.reason:
        return one.reason
    # What holds by itself is not what the answer waits for.
    unshown = [effect for effect in one.effects if effect.holds is None or effect.holds > 1 - LEVEL]
    return "; ".join(dict.fromkeys(_needed(one.claim, effect) for effect in unshown or one.effects if effect.sources))


def _level(effect: Effect) -> str:
    """Return the level of an interval that is not of 95 %, as those of every other table are."""
    level = effect.interval.level if effect.interval else LEVEL
    return "" if level == LEVEL else f" ({level:.0%})".replace("%", " %")


def _needed(claim: Claim, effect: Effect) -> str:
    """Return how many seeds, or how many examples, would show the effect that the claim is about."""
    if effect.sources is None:
        return ""
    # An equivalence at no difference must pass two tests, each at half the risk.
    alpha, power = (0.05, 0.8) if claim.kind == "better" else (0.1, 0.9 if claim.kind == "equivalent" else 0.8)
    if effect.unit is None:
        goal, shown = abs(_log_gap(claim, effect)), "a ratio as measured"
        if goal == 0:
            return "more seeds"
    else:
        shown_goal = claim.smallest_effect or (claim.margin if claim.kind in WITH_MARGIN else None) or SMALLEST_EFFECT
        goal = shown_goal / effect.unit.factor
        points = " points" if effect.unit.factor == 100 else ""
        beyond = f" beyond the margin of {claim.margin:g}" if claim.kind == "better" and claim.margin else ""
        shown = f"a difference of {shown_goal:g}{points}{beyond}"
    seeds = seeds_needed(effect.sources, goal, alpha, power)
    if seeds is not None and seeds <= effect.seeds:
        return f"more than these {effect.seeds} seeds, which show {shown} with 80 % power"
    parts = [f"about {seeds} seeds"] if seeds else []
    if effect.unit is not None:
        parts[:1] = [f"{parts[0]} with these {effect.sources.examples:,} examples"] if parts else []
        examples = examples_needed(effect.sources, goal, effect.seeds, alpha, power)
        parts += [f"about {examples:,} examples with {effect.seeds} seeds"] if examples else []
    needed = ", or ".join(parts) or "more than 1,000 seeds with more examples"
    return f"{needed}, to see {shown} with 80 % power"


def _log_gap(claim: Claim, effect: Effect) -> float:
    return log(effect.value) - log(claim.factor) if effect.value and claim.factor else 0.0


def difference_sentences(judged: Judged) -> Iterator[str]:
    """Yield, claim by claim, what was compared and what differs from the paper's set-up."""
    for one in judged.judgments:
        parts = [f"{one.claim.name}: {one.claim.comparison}"]
        if differences := list(paper_differences(one)):
            parts.append(f"other than in the paper: {'; '.join(differences)}")
        parts += one.claim.notes
        yield ". ".join(part.rstrip(".") for part in parts) + f". Hash {one.sha256[:16]}."


def paper_differences(one: Judgment) -> Iterator[str]:
    """Yield what is not as in the paper, as far as the claim's file states it."""
    here, paper = one.claim.here, one.claim.paper
    if here is None:
        return
    runs = one.runs
    models = ", ".join(distinct(runs["base_model"])) if len(runs) else here.base_model or f"those of suite {here.suite}"
    tasks = ", ".join(here.tasks)
    facts = [
        ("base model", models, paper.base_model),
        ("tasks", tasks, paper.tasks),
        ("seeds", str(len(here.seeds)), None if paper.seeds is None else str(paper.seeds)),
        ("sizes", _sizes(runs), paper.sizes),
        ("training", _training(one), paper.training),
        ("selection", "on a split cut from train, protocol strict", paper.selection),
    ]
    for name, own, theirs in facts:
        if theirs is not None and theirs != own:
            yield f"{name}: {own or 'not run'} (the paper: {theirs})"
    if paper.unknown:
        yield f"not known of the paper: {paper.unknown}"


def _sizes(runs: pd.DataFrame) -> str:
    counted = runs.dropna(subset=["ledger/reported"])
    sizes = counted.groupby("method")["ledger/reported"].unique()
    texts = {method: " and ".join(f"{int(size):,}" for size in sorted(found)) for method, found in sizes.items()}
    return ", ".join(f"{method} {text}" for method, text in texts.items())


def _training(one: Judgment) -> str:
    steps = sorted({int(count) for count in one.runs["cost/train_steps"].dropna()})
    return f"{' or '.join(f'{count:,}' for count in steps)} steps" if steps else ""


def claims_frame(judged: Judged) -> pd.DataFrame:
    """Return a row for each effect of each claim; values are in the metric's unit, not scaled."""
    rows: list[dict[str, Any]] = []
    for one in judged.judgments:
        shared = {
            "claim": one.claim.name,
            "sha256": one.sha256,
            "declared": one.declared,
            "kind": one.claim.kind,
            "verdict": one.verdict,
            "holds": one.holds,
            "fails": one.fails,
            "reason": one.reason,
        }
        rows += [{**shared, **_effect(effect)} for effect in one.effects] or [shared]
    return pd.DataFrame(rows, columns=_CSV)


def _effect(effect: Effect) -> dict[str, Any]:
    ends = effect.interval
    return {
        "against": effect.against,
        "where": effect.where,
        "unit": effect.unit.name if effect.unit else "ratio",
        "value": effect.value,
        "low": ends.low if ends else None,
        "high": ends.high if ends else None,
        "level": ends.level if ends else None,
        "p_holds": effect.holds,
        "p_fails": effect.fails,
        **({"reason": effect.reason} if effect.reason else {}),
    }


def claim_lines(judged: Judged) -> Iterator[str]:
    """Yield a line for each claim, for a terminal."""
    for one in judged.judgments:
        effects = "; ".join(effect_text(effect) for effect in one.effects if effect.value is not None)
        needed = would_take(one)
        yield f"claim {one.claim.name}: {one.verdict}{f', {effects}' if effects else ''} ({one.declared})"
        if needed:
            yield f"    it would take: {needed}" if not one.reason else f"    {needed}"
