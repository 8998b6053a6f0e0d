"""Answers in a store, and the command that has them compared."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from parbench.bench.store.layout import PREDICTIONS
from tests.support.compared import QUESTIONS, TASK
from tests.support.data import write_jsonl
from tests.support.judge_files import judge_prompts
from tests.support.records import RECORD, with_spec


@pytest.fixture
def questions_root(tmp_path):
    """A data root with pairs and questions in FastChat's layout; each prompt begins with its own name."""
    root = tmp_path / "data"
    pairs = [{"instruction": f"say {n}", "input": "", "output": str(n)} for n in range(20)]
    write_jsonl(root / "alpaca" / "train.jsonl", pairs)
    folder = root / "mt-bench"
    write_jsonl(folder / "judge_prompts.jsonl", judge_prompts("{name}|"))
    write_jsonl(folder / TASK / "question.jsonl", QUESTIONS)
    references = [{"question_id": number, "choices": [{"turns": ["right", "too"]}]} for number in (101, 102)]
    write_jsonl(folder / TASK / "reference_answer_gpt-4.jsonl", references)
    return root


@pytest.fixture
def questions_revision(questions_root):
    """The data root in a run's record."""
    from parbench.tasks.data.folder import FolderSource
    from parbench.tasks.mt_bench import MT_BENCH_TASK

    return MT_BENCH_TASK.revision(FolderSource(questions_root))


@pytest.fixture
def add_answers(store, questions_revision):
    """Put a run with answers into the store; they say whose they are."""

    def put(method, seed, word=None, questions=QUESTIONS, **changes):
        spec = {"task": TASK, "base_model": "tiny", "data_revision": questions_revision, "options": {"judge": "local"}}
        setting = {"r": 8, "learning_rate": 1e-3, "target_modules": None}
        record = with_spec(RECORD, **{**spec, "method": method, "seed": seed, "setting": setting, **changes})
        rows = pd.DataFrame(
            [
                {
                    "example": f"{TASK}:{question['question_id']}",
                    "subset": "",
                    "category": question["category"],
                    "rating": 5.0,
                    "rating_turn_1": 5.0,
                    "rating_turn_2": 5.0,
                    "answers": [f"{word or method} of seed {seed}, turn {turn}" for turn in (1, 2)],
                    "ratings": [[5.0], [5.0]],
                    "fastchat_scores": [[5.0], [5.0]],
                    "problems": [[""], [""]],
                    "errors": [[""], [""]],
                    "served_models": [[""], [""]],
                    "text_sha256": [[""], [""]],
                }
                for question in questions
            ]
        )
        metrics = {"rating": 5.0, "rating_turn_1": 5.0, "rating_turn_2": 5.0, "unparsable": 0.0, "failed": 0.0}
        record = replace(record, primary="rating", metrics=metrics, files={})
        output = store.workspace(record.run_id) / "output"
        output.mkdir()
        rows.to_parquet(output / PREDICTIONS, index=False)
        return store.commit(record, output).run_id

    return put


@pytest.fixture
def compare(bench, store, questions_root):
    """Have the answers of two methods compared by a judge."""

    def call(stub, *arguments, a="loca", b="lora"):
        judge = ("--judge", f"gpt-4@{stub.url}") if stub else ()
        return bench(
            "judge", "compare", TASK, a, b, *judge, "--data-root", questions_root, "--out", store.root, *arguments
        )

    return call
