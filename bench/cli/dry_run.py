"""The table of a dry run: one row per run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.bench.cli.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from parbench.bench.plan.planned_run import PlannedRun
    from parbench.bench.record.run_spec import RunSpec
    from parbench.bench.store.store import Store


def plan_table(runs: Sequence[PlannedRun], store: Store, is_tuned: bool = True) -> Grid:
    """Return the runs, what distinguishes those of one method, and whether each is done already.

    Args:
        is_tuned: whether their settings are final; otherwise their ids, and which are done, are not known yet.
    """
    told = differences([planned.spec for planned in runs])
    titles = ["run", "task", "base model", "method", "budget", "seed", "record"]
    if any(told):
        titles.insert(4, "differs by")
    rows = []
    for planned, difference in zip(runs, told, strict=True):
        spec = planned.spec
        state = _state(planned, store) if is_tuned else _to_do(planned)
        budget = spec.budget["asked"] if spec.budget else "—"
        run_id = spec.run_id if is_tuned else "—"
        cells = [run_id, spec.task, spec.base_model, spec.method, budget, str(spec.seed), state]
        if any(told):
            cells.insert(4, difference or "—")
        rows.append(cells)
    return Grid(tuple(titles), rows, sentences=frozenset({"differs by", "record"}))


def _state(planned: PlannedRun, store: Store) -> str:
    from parbench.bench.store.store import Unreadable

    if store.is_done(planned.spec.run_id):
        return "done"
    found = store.load(planned.spec.run_id)
    return _to_do(planned) + (f"; what is there {found.reason}" if isinstance(found, Unreadable) else "")


def _to_do(planned: PlannedRun) -> str:
    return f"to be skipped: {planned.skip}" if planned.skip else "to do"


def differences(specs: Sequence[RunSpec]) -> list[str]:
    """Return what distinguishes each run from others of its method, task and budget, apart from the seed."""
    groups: dict[Hashable, list[dict[str, str]]] = {}
    flat = [_flat(spec) for spec in specs]
    keys = [(spec.task, spec.base_model, spec.method, str(spec.budget)) for spec in specs]
    for key, values in zip(keys, flat, strict=True):
        groups.setdefault(key, []).append(values)
    varied = {
        key: [name for name in members[0] if len({values.get(name) for values in members}) > 1]
        for key, members in groups.items()
    }
    return [", ".join(f"{name}={values[name]}" for name in varied[key]) for key, values in zip(keys, flat, strict=True)]


def _flat(spec: RunSpec) -> dict[str, str]:
    from parbench.bench.record.run_spec import canonical

    training = {f"train.{name}": value for name, value in spec.training.items()}
    others = {"base-precision": spec.base_precision, "train-fraction": spec.train_fraction, "repeat": spec.repeat}
    return {name: canonical(value) for name, value in {**spec.setting, **training, **others}.items()}
