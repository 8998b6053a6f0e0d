"""The peak memory of runs, as measured for runs of the same configuration."""

from __future__ import annotations

from collections.abc import Container

from parbench.bench.record.cost_key import cost_key
from parbench.bench.record.run_record import RunRecord
from parbench.bench.record.run_spec import RunSpec, digest
from parbench.bench.store.store import Store


class PeakMemoryHistory:
    """Knows the largest peak of every kind of run, see `parbench.bench.record.cost_key`.

    Forecasts are not used for this: they measure memory allocated in training, not memory reserved by torch or used
    for scoring.

    Args:
        store: looked through once, when it is first asked.
        accelerators: as records name them; what was measured on others does not count. ``None`` for runs on the CPU,
            of which the memory of the process counts.
    """

    def __init__(self, store: Store, accelerators: Container[str] | None) -> None:
        self._store = store
        self._accelerators = accelerators
        self._largest: dict[str, int] | None = None
        self._kinds: dict[str, str] = {}

    def of(self, spec: RunSpec) -> int | None:
        """Return the most bytes that a run of the same configuration has taken; ``None`` if there was none."""
        return self._known().get(self._kind(spec))

    def learn(self, record: RunRecord) -> None:
        """Count a new record."""
        self._add(self._known(), record)

    def _known(self) -> dict[str, int]:
        if self._largest is None:
            self._largest = {}
            for record in self._store.scan():
                if isinstance(record, RunRecord):
                    self._add(self._largest, record)
        return self._largest

    def _add(self, largest: dict[str, int], record: RunRecord) -> None:
        peak = self._peak(record)
        if peak is None:
            return
        kind = self._kind(record.spec)
        largest[kind] = max(peak, largest.get(kind, 0))

    def _peak(self, record: RunRecord) -> int | None:
        if record.cost is None:
            return None
        accelerator = record.provenance.hardware.get("accelerator")
        if self._accelerators is None:
            return record.cost.peak_process_bytes if accelerator is None else None
        return record.cost.reserved_device_bytes if accelerator in self._accelerators else None

    def _kind(self, spec: RunSpec) -> str:
        if spec.run_id not in self._kinds:
            self._kinds[spec.run_id] = digest(cost_key(spec))
        return self._kinds[spec.run_id]
