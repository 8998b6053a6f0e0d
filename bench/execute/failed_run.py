"""Writes the record of a run whose process has ended without one."""

from __future__ import annotations

import logging
import shutil

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.run.execute_run import empty_record
from parbench.bench.store.layout import ERROR, LOG, OUTPUT
from parbench.bench.store.log import event, logged
from parbench.bench.store.store import Store
from parbench.bench.util.files import explained


def record_failure(
    run: PlannedRun,
    store: Store,
    status: Status,
    reason: str,
    started: str,
    hardware: dict[str, str],
    printed: str = "",
) -> RunRecord:
    """Write the record of a run that has failed without writing one itself.

    Its checkpoints stay: a run that has timed out resumes from them when it is given more time.

    Args:
        started: start of the last attempt, ISO 8601.
        hardware: hardware of the run, as far as known.
        printed: output of its process.

    Raises:
        UserError: the store cannot be written to.
    """
    workspace = store.workspace(run.spec.run_id)
    output = workspace / OUTPUT
    with explained(output):
        # Files left by a killed process belong to no record.
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        (output / ERROR).write_text(f"{reason}\n\n{printed}", encoding="utf-8", errors="backslashreplace")
        with logged(workspace / LOG):
            event("given up", reason, logging.ERROR)
    return store.commit(empty_record(run, status, reason, started, hardware), output)
