"""Does runs by an executor given as Python: a command that tests can interrupt and kill.

python on_cluster.py "parbench.bench.execute.ray:RayExecutor" '{"workers": 2}' STORE METHODS SEEDS MODEL DATA SETTING...
"""

import importlib
import json
import sys
from pathlib import Path


def main(target, options, store_folder, methods, seeds, model, data, *sets):
    from rich.console import Console

    from parbench.bench.execute.executor import RunOptions
    from parbench.bench.execute.progress import LineProgress
    from parbench.bench.plan.overrides import Overrides
    from parbench.bench.plan.planner import make_plan
    from parbench.bench.plan.suite import load_suite
    from parbench.bench.store.store import Store
    from parbench.tasks.data.lock import RevisionLock

    module, _, name = target.partition(":")
    options = json.loads(options)
    executor = getattr(importlib.import_module(module), name)(
        **{**options, "options": RunOptions(**options["options"])}
    )
    store = Store(Path(store_folder))
    overrides = Overrides(
        methods=tuple(methods.split(",")),
        tasks=("glue/sst2",),
        base_model=model,
        seeds=tuple(map(int, seeds.split(","))),
        data_root=Path(data),
        sets=sets,
    )
    store.prepare()
    plan = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file))
    runs = [run for run in plan.runs if not store.is_done(run.spec.run_id)]
    records = list(executor.execute(runs, store, LineProgress(Console(width=200), len(runs))))
    return int(any(record.status != "ok" for record in records))


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
