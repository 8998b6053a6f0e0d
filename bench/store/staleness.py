"""Which records the present source would not reproduce, and which are superseded by newer ones.

A run's id is the hash of all that determines its result, its code among it: after a change the same command plans a new
run, and the record of the old one stays. This module distinguishes the two.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from functools import lru_cache

from parbench.bench.record.code_hashes import harness_code, method_code
from parbench.bench.record.run_record import RunRecord, Status
from parbench.bench.record.run_spec import RunSpec, canonical
from parbench.bench.store.store import Store
from parbench.bench.util.errors import UserError
from parbench.methods import find_method
from parbench.tasks import find_task, task_code

_CODE = ("method_code", "task_code", "harness_code")
_FIELDS = tuple(field.name for field in dataclasses.fields(RunSpec))
_REVISIONS = ("data_revision", "model_revision")


def stale_reasons(spec: RunSpec) -> tuple[str, ...]:
    """Return why the present source would not reproduce this run: what has changed or was removed since."""
    method, task = _method_now(spec.method), _task_now(spec.task, canonical(spec.definition))
    reasons = []
    if method is None:
        reasons.append(f"the method {spec.method} no longer exists")
    elif method != spec.method_code:
        reasons.append(f"the code of {spec.method} has changed")
    if task is None:
        reasons.append(f"the task {spec.task} no longer exists")
    elif task != spec.task_code:
        reasons.append(f"the code of {spec.task} has changed")
    if harness_code() != spec.harness_code:
        reasons.append("the code that trains has changed")
    return tuple(reasons)


@lru_cache(maxsize=4096)
def _method_now(name: str) -> str | None:
    try:
        return method_code(find_method(name))
    except UserError:
        return None


@lru_cache(maxsize=4096)
def _task_now(name: str, definition: str) -> str | None:
    import json

    try:
        # A task defined by a file is not in the registry; the record contains the definition.
        return task_code(find_task(name, json.loads(definition)))
    except UserError:
        return None


class Newest:
    """The newest record of every run, where runs count as the same that differ only in code and revisions.

    It keeps some hundred bytes per record, and never the records themselves.
    """

    def __init__(self) -> None:
        self._newest: dict[bytes, tuple[str, str]] = {}
        self._older: dict[str, str] = {}

    def add(self, record: RunRecord) -> None:
        """Add a record. Failed records never supersede others."""
        if record.status is not Status.OK:
            return
        key, entry = _identity(record.spec), (record.provenance.finished, record.run_id)
        other = self._newest.get(key)
        if other is None or other[1] == entry[1]:
            self._newest[key] = entry
            return
        older, newer = sorted((other, entry))
        self._newest[key] = newer
        self._older[older[1]] = newer[1]

    def superseded(self) -> Iterator[tuple[str, str]]:
        """Yield the runs that a newer one supersedes, each with the newest."""
        for run_id in self._older:
            newer = self._older[run_id]
            while newer in self._older:
                newer = self._older[newer]
            yield run_id, newer


class Superseding:
    """Moves aside what a new record supersedes: what ``--overwrite stale`` asks for.

    Args:
        store: its records are scanned once.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[bytes, set[str]] = {}
        for record in store.scan():
            if isinstance(record, RunRecord):
                self._runs.setdefault(_identity(record.spec), set()).add(record.run_id)

    def by(self, record: RunRecord) -> list[str]:
        """Move aside the older records of the same run under other code or revisions; return their ids.

        Nothing is moved for a run that has failed, and nothing is ever deleted.
        """
        if record.status is not Status.OK:
            return []
        same = self._runs.setdefault(_identity(record.spec), set())
        older = sorted(same - {record.run_id})
        for run_id in older:
            self._store.move_aside(run_id)
        self._runs[_identity(record.spec)] = {record.run_id}
        return older


def _identity(spec: RunSpec) -> bytes:
    """Return what a run is apart from the code and the revisions that it was done with."""
    ignored = (*_CODE, *_REVISIONS, "suite", "small", "data_source")
    content = {name: getattr(spec, name) for name in _FIELDS if name not in ignored}
    # Specs once held how often a training is saved, which decides nothing.
    content["training"] = {name: value for name, value in spec.training.items() if name != "checkpoint_steps"}
    return hashlib.sha256(canonical(content).encode()).digest()
