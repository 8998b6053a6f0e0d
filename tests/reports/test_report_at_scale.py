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

from parbench.bench.record.serialization import to_json
from parbench.bench.store.layout import PREDICTIONS, RECORD
from parbench.bench.store.store import Store
from parbench.tasks.vtab import GROUPS

# Those of VTAB have an average of their own.
TASKS = {
    "glue/cola": 1043,
    **dict(zip((f"vtab/{name}" for name in GROUPS["specialized"]), (872, 408, 5463, 277), strict=True)),
}
METHODS, SEEDS, MODELS = 20, 5, 10

PROGRAM = """
import resource, sys, time
from pathlib import Path
from parbench.bench.store.store import Store
from parbench.reports.report import write_report
start = time.process_time()
report = write_report(Store(Path(sys.argv[1])))
print(f"{time.process_time() - start:.1f} seconds of one processor")
print(len(report.frame.runs), len(report.frame.unreadable), len(report.boards))
print(sum(bool(board.other_metrics) and len(board.ranking.named) == 1 for board in report.boards))
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
            rows["accuracy"] = (labels == predicted).astype("float64")
            buffer = io.BytesIO()
            rows.to_parquet(buffer, index=False)
            names = {"task": task, "base_model": f"model-{model}", "method": f"method-{method}", "seed": seed}
            spec = replace(template.spec, **names, task_code=task, method_code=names["method"])
            accuracy = {"accuracy": float((labels == predicted).mean())}
            if task == "glue/cola":
                accuracy = {"matthews_correlation": float(np.corrcoef(labels, predicted)[0, 1])}
            primary = next(iter(accuracy))
            others = {name: float(draw.random()) for name in ("f1", "precision", "recall", "ece")}
            files = {PREDICTIONS: hashlib.sha256(buffer.getvalue()).hexdigest()}
            record = replace(template, spec=spec, primary=primary, metrics=accuracy | others, files=files)
            folder = store.runs / record.run_id
            folder.mkdir()
            (folder / PREDICTIONS).write_bytes(buffer.getvalue())
            (folder / RECORD).write_text(to_json(record))
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(store.root)], capture_output=True, text=True, check=True)
    took, counts, whole, memory = done.stdout.splitlines()
    print(took, f"{int(memory) / 2**20:,.0f} MiB")  # noqa: T201 - shown by pytest -s; the speed is the machine's
    assert counts == f"{len(TASKS) * METHODS * SEEDS * MODELS} 0 {MODELS}"
    assert whole == str(MODELS)
    assert int(memory) < 1024**3
