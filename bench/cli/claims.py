"""`bench run --claims`: the runs that judging some claims of papers takes."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from parbench.bench.cli.console import announce, counted, say
from parbench.bench.cli.options import ComparisonOptions, RerunOptions, ScoringOptions, option_name
from parbench.bench.cli.parsing import read_names
from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from parbench.bench.cli.session import CommandSession
    from parbench.bench.plan.planner import Plan
    from parbench.reports.claims.claim import ClaimFile
    from parbench.reports.claims.planning import ClaimPlan

# What a claim leaves to the command: where the records go, where data is read, and how runs are executed.
_ALLOWED = {"claims", "out", "data_root", "overwrite", "dry_run"}


def read_claims(text: str | None) -> list[ClaimFile]:
    """Return the claims of an option.

    Raises:
        UserError: one cannot be read.
    """
    from parbench.reports.claims.claim import load_claims

    return load_claims(read_names(text, "--claims") or ())


def refuse_other_options(comparison: ComparisonOptions, scoring: ScoringOptions, rerun: RerunOptions) -> None:
    """Check that a command with claims changes nothing of what they declare.

    Raises:
        UserError: it does.
    """
    for group in (comparison, scoring, rerun):
        for entry in fields(group):
            value: Any = getattr(group, entry.name)
            if entry.name not in _ALLOWED and value != entry.default:
                name = "--set" if entry.name == "sets" else option_name(entry)
                raise UserError(
                    f"{name} does not go with --claims: a claim's file declares what is run; change it there"
                )


def plan_of_claims(session: CommandSession, claims: list[ClaimFile], data_root: Path | None) -> ClaimPlan:
    """Return the runs of claims, and print what the plan notes.

    Raises:
        UserError: a claim cannot be tested here.
    """
    from parbench.reports.claims.planning import plan_claims

    found = plan_claims(claims, session.lock, data_root, announce)
    session.show_notes(found.plan)
    for one in claims:
        ids = {run_id for runs in found.runs_of[one.claim.name].values() for run_id in runs}
        say(f"claim {one.claim.name}, {counted(len(ids), 'run')}: {one.claim.comparison}", session.console)
    return found


def declare_claims(session: CommandSession, claims: list[ClaimFile], found: ClaimPlan) -> Plan:
    """Record in the store that the runs of the claims are planned, and return the plan.

    Raises:
        UserError: the store cannot be written to.
    """
    from parbench.bench.store.declarations import declare

    for one in claims:
        declare(session.store, one.claim.name, one.content, found.runs_of[one.claim.name])
    return found.plan
