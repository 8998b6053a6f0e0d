"""Judges claims from the records of a store: supported, contradicted, or cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

import pandas as pd

from parbench.bench.store.declarations import Declaration, read_declarations
from parbench.bench.store.store import Store, Unreadable
from parbench.bench.util.errors import UserError
from parbench.reports.attempt import NotComputed, attempt
from parbench.reports.claims.claim import Claim, ClaimFile, as_claim, claim_names, load_claim
from parbench.reports.claims.effects import Effect, effects_of
from parbench.reports.claims.subsets import on_subsets
from parbench.reports.every_budget import once
from parbench.reports.frame import Frame
from parbench.reports.scored import LEVEL
from parbench.reports.statistics import holm

if TYPE_CHECKING:
    from parbench.reports.claims.evidence import SideRuns

Verdict = Literal["supported", "contradicted", "cannot tell"]
EDITED = "edited after the runs"
BEFORE = "declared before its runs"
CHANGED = "changed since it was declared, before any run"
UNDECLARED = "not declared before its runs"


@dataclass(frozen=True)
class Judgment:
    """What the records of a store show of a claim.

    Attributes:
        claim: the claim.
        sha256: of its content.
        declared: whether and when it was declared, in words.
        verdict: the answer.
        effects: one for each row that it is compared with, and for each task where it must hold on each.
        holds: p-value of the hypothesis that the claim does not hold, corrected for the claims of the page; ``None``
            where it was not tested.
        fails: likewise of the hypothesis that it does.
        reason: why nothing can be told; ``None`` where there are tests.
        runs: the runs that were judged, of both sides.
    """

    claim: Claim
    sha256: str
    declared: str
    verdict: Verdict
    effects: tuple[Effect, ...]
    holds: float | None
    fails: float | None
    reason: str | None
    runs: pd.DataFrame


@dataclass(frozen=True)
class Judged:
    """The claims of a page.

    Attributes:
        judgments: in the order of their names.
        notes: claims and files of the store that could not be read.
    """

    judgments: tuple[Judgment, ...] = ()
    notes: tuple[str, ...] = ()


def judge_store(store: Store, frame: Frame, asked: Sequence[ClaimFile] = ()) -> Judged:
    """Judge the claims that were declared in a store, and those asked for.

    A declared claim that comes with parbench, or is asked for, is judged as its file is now; another as it was
    declared last. Its page shows whether that is the version that its runs were planned for.

    Args:
        store: that the frame was read from.
        frame: of the store.
        asked: further claims.
    """
    entries = list(read_declarations(store))
    notes = [f"{entry.path.name} {entry.reason}" for entry in entries if isinstance(entry, Unreadable)]
    versions: dict[str, list[Declaration]] = {}
    for entry in entries:
        if isinstance(entry, Declaration):
            versions.setdefault(entry.name, []).append(entry)
    current = {one.claim.name: one for one in asked}
    for name, known in versions.items():
        if name not in current:
            found = attempt(partial(_current, name, known))
            if isinstance(found, NotComputed):
                notes.append(f"the claim {name} is {found.reason}")
            else:
                current[name] = found
    drafts = [_draft(one, versions.get(name, []), frame) for name, one in sorted(current.items())]
    return Judged(tuple(_corrected(drafts)), tuple(notes))


def _current(name: str, known: Sequence[Declaration]) -> ClaimFile:
    return load_claim(name) if name in claim_names() else as_claim(known[-1].content, f'the claim "{name}"')


@dataclass(frozen=True)
class _Evidence:
    """The effects of a claim and the runs behind them, or why there are none."""

    effects: tuple[Effect, ...]
    runs: pd.DataFrame
    reason: str | None = None


def _draft(one: ClaimFile, versions: Sequence[Declaration], frame: Frame) -> Judgment:
    """Return the judgment before the correction for several claims."""
    own = next((version for version in versions if version.sha256 == one.sha256), None)
    found = attempt(lambda: _evidence(one.claim, frame, own.runs if own else None))
    evidence = _Evidence((), frame.runs.iloc[:0], found.reason) if isinstance(found, NotComputed) else found
    holds, fails = _together(evidence.effects)
    reason = evidence.reason or "; ".join(dict.fromkeys(effect.reason for effect in evidence.effects if effect.reason))
    declared = declared_text(one.sha256, versions, evidence.runs, frame.runs["run_id"])
    return Judgment(
        one.claim, one.sha256, declared, "cannot tell", evidence.effects, holds, fails, reason or None, evidence.runs
    )


def _evidence(claim: Claim, frame: Frame, declared: Mapping[str, Sequence[str]] | None) -> _Evidence:
    none = frame.runs.iloc[:0]
    if claim.here is None:
        return _Evidence((), none, f"it cannot be tested here: {claim.not_testable}")
    # What knows of methods and models loads torch, which only a report with claims has to wait for.
    from parbench.reports.claims.evidence import runs_of_side, tasks_of, unlike

    here, metric = claim.here, claim.metric
    if claim.subsets:
        frame = on_subsets(frame, claim.subsets)
    runs = once(frame.runs)
    try:
        tasks = tasks_of(here)
        by_side: dict[str, list[SideRuns]] = {}
        for side in (claim.row, *claim.against):
            planned = None if declared is None else declared.get(str(side), ())
            by_side[str(side)] = [runs_of_side(runs, side, here, task, metric, planned) for task in tasks]
    except UserError as error:
        return _Evidence((), none, str(error))
    sides = [one for found in by_side.values() for one in found]
    if reasons := dict.fromkeys(one.reason for one in sides if one.reason):
        missing = all(one.is_missing for one in sides)
        listed = f"its runs are missing: bench run --claims {claim.name}" if missing else "; ".join(map(str, reasons))
        return _Evidence((), none, listed)
    if apart := [reason for task, *on in zip(tasks, *by_side.values(), strict=True) if (reason := unlike(on, task))]:
        return _Evidence((), none, "; ".join(apart))
    effects: list[Effect] = []
    for other in claim.against:
        both = zip(tasks, by_side[str(claim.row)], by_side[str(other)], strict=True)
        pairs = {task: (row.runs, against.runs) for task, row, against in both}
        effects += effects_of(claim, str(other), pairs, frame)
    judged = pd.concat([one.runs for one in sides]).drop_duplicates("run_id")
    return _Evidence(tuple(effects), judged)


def _together(effects: Sequence[Effect]) -> tuple[float | None, float | None]:
    """Return the p-values of a claim that must hold for all of its effects.

    It holds if each of them does, so that the largest p-value is that of the whole (an intersection-union test). It
    fails if any of them does, which is corrected for their number.
    """
    known = [effect.fails for effect in effects if effect.fails is not None]
    fails = min(1.0, len(effects) * min(known)) if known else None
    each = [effect.holds for effect in effects if effect.holds is not None]
    holds = max(each) if each and len(each) == len(effects) else None
    return holds, fails


def _corrected(drafts: Sequence[Judgment]) -> Iterable[Judgment]:
    """Yield the judgments with their verdicts; counted values are exact, and belong to no family of tests."""
    estimated = [not (draft.effects and all(effect.is_exact for effect in draft.effects)) for draft in drafts]
    holds = holm([draft.holds if test else None for draft, test in zip(drafts, estimated, strict=True)])
    fails = holm([draft.fails if test else None for draft, test in zip(drafts, estimated, strict=True)])
    for draft, test, first, second in zip(drafts, estimated, holds, fails, strict=True):
        pair = (first, second) if test else (draft.holds, draft.fails)
        yield replace(draft, verdict=_verdict(*pair), holds=pair[0], fails=pair[1])


def _verdict(holds: float | None, fails: float | None) -> Verdict:
    alpha = 1 - LEVEL
    if holds is not None and holds <= alpha:
        return "supported"
    if fails is not None and fails <= alpha:
        return "contradicted"
    return "cannot tell"


def declared_text(sha256: str, versions: Sequence[Declaration], runs: pd.DataFrame, known: pd.Series[str]) -> str:
    """Return whether a version of a claim was declared before its runs.

    Args:
        sha256: of the version that is judged.
        versions: of the claim that the store has declarations of.
        runs: that are judged.
        known: ids of all runs of the store.
    """
    own = next((version for version in versions if version.sha256 == sha256), None)
    started = [_time(str(text)) for text in runs["started"]]
    if own is None:
        planned = {run_id for version in versions for ids in version.runs.values() for run_id in ids}
        edited = EDITED if started or known.isin(planned).any() else CHANGED
        return edited if versions else UNDECLARED
    # Runs keep the second in which they started.
    late = sum(time < own.time.replace(microsecond=0) for time in started)
    if late and any(version.time < own.time for version in versions):
        return EDITED
    if late:
        return f"declared after {late} of its {len(started)} runs"
    return f"{BEFORE}, {own.time:%Y-%m-%d %H:%M:%S} UTC"


def _time(text: str) -> datetime:
    """Return the time at which a run started; where it cannot be read, one before any declaration."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
