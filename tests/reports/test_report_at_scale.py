"""A store of thousands of runs is reported in a few hundred megabytes."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.record import to_json
from bench.store import PREDICTIONS, RECORD, Store

TASKS = {"glue/cola": 1043, "glue/sst2": 872, "glue/mrpc": 408, "glue/qnli": 5463, "glue/rte": 277}
METHODS, SEEDS, MODELS = 20, 5, 10

PROGRAM = """
import resource, sys, time
from pathlib import Path
from bench.store import Store
from reports.report import write_report
start = time.process_time()
report = write_report(Store(Path(sys.argv[1])))
print(f"{time.process_time() - start:.1f} seconds of one processor")
print(len(report.frame.runs), len(report.frame.unreadable), len(report.boards))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_thousand_runs(planter: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "large")
    store.prepare()
    template = planter.run(0.5, metric="accuracy")
    draw = np.random.default_rng(0)
    for task, size in TASKS.items():
        labels = np.random.default_rng(size).integers(0, 2, size)
        examples = [f"validation:{row}" for row in range(size)]
        for model, method, seed in product(range(MODELS), range(METHODS), range(SEEDS)):
            predicted = np.where(draw.random(size) < 0.7 + method / 100, labels, 1 - labels)
            rows = pd.DataFrame({"example": examples, "subset": "", "label": labels, "prediction": predicted})
            buffer = io.BytesIO()
            rows.to_parquet(buffer, index=False)
            names = {"task": task, "base_model": f"model-{model}", "method": f"method-{method}", "seed": seed}
            spec = replace(template.spec, **names, task_code=task, method_code=names["method"])
            accuracy = {"accuracy": float((labels == predicted).mean())}
            if task == "glue/cola":
                accuracy = {"matthews_correlation": float(np.corrcoef(labels, predicted)[0, 1])}
            files = {PREDICTIONS: hashlib.sha256(buffer.getvalue()).hexdigest()}
            record = replace(template, spec=spec, primary=next(iter(accuracy)), metrics=accuracy, files=files)
            folder = store.runs / record.run_id
            folder.mkdir()
            (folder / PREDICTIONS).write_bytes(buffer.getvalue())
            (folder / RECORD).write_text(to_json(record))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(store.root)], capture_output=True, text=True, check=True)
    took, counts, memory = done.stdout.splitlines()
    print(took)  # noqa: T201 - shown by pytest -s; a machine's speed is no property of the code
    assert counts == f"{len(TASKS) * METHODS * SEEDS * MODELS} 0 {MODELS}"
    assert int(memory) < 2 * 1024**3
