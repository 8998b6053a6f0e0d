"""Small runs of MT-Bench and Vicuna-bench, judged by a stub."""

from __future__ import annotations

import pandas as pd
import torch

from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from tests.support.judge_stub import chat

CPU = torch.device("cpu")
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 101, "category": "math", "turns": ["1+1?", "+1?"]},
    {"question_id": 111, "category": "math", "turns": ["2+2?", "+2?"]},
    {"question_id": 141, "category": "stem", "turns": ["Why?", "How?"]},
]


def do(run, store, watch=None):
    """Do a planned run; return its record."""
    return execute_run(run, store, DataCache(), CPU, watch or RunHooks())


def rows_of(record, store):
    """Return the predictions of a run."""
    return pd.read_parquet(store.runs / record.run_id / "predictions.parquet")


def rated(request, number):
    """Rate by what is asked, whatever the order: the first turn 4, the second 8."""
    first = request["messages"][-1]["content"].startswith("turn 1|")
    return chat(f"Rating: [[{4 if first else 8}]]")
