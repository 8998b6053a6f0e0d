"""Fixtures that several of the tasks' tests share."""

import pytest

from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.metrics import java
from tests.support.data import pairs, write_jsonl
from tests.support.judge_files import judge_prompts
from tests.support.mt_bench import QUESTIONS
from tests.support.tiny_llama import tiny_llama, tiny_model_folder


@pytest.fixture
def no_java(monkeypatch):
    """A machine without Java, on which nothing takes seconds to start either."""
    monkeypatch.setattr(java, "_programs", lambda: "there is no java on the PATH; install a Java runtime")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache that no other test has written to."""
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mt_bench_root(tmp_path):
    """A data root with Alpaca-like pairs and both sets of questions in FastChat's layout."""
    root = tmp_path / "data"
    write_jsonl(root / "alpaca" / "train.jsonl", pairs(60))
    folder = root / "mt-bench"
    write_jsonl(folder / "judge_prompts.jsonl", judge_prompts("turn {turn}|"))
    references = [{"question_id": number, "choices": [{"turns": ["right", "too"]}]} for number in (101, 111)]
    write_jsonl(folder / "mt_bench" / "question.jsonl", QUESTIONS)
    write_jsonl(folder / "mt_bench" / "reference_answer_gpt-4.jsonl", references)
    once = [
        {"question_id": number, "category": category, "turns": ["What?"]}
        for number, category in ((1, "generic"), (2, "common-sense"), (3, "generic"))
    ]
    write_jsonl(folder / "vicuna_bench" / "question.jsonl", once)
    write_jsonl(folder / "vicuna_bench" / "reference_answer_gpt-4.jsonl", references)
    return root


@pytest.fixture(scope="module")
def llama_folder(tmp_path_factory):
    """A tiny language model over bytes, as a local folder."""
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny", tiny_llama())


@pytest.fixture
def planned(store, mt_bench_root, llama_folder):
    """Plan one small run of a judged task."""

    def make(judge, task="mt_bench", method="lora", base=llama_folder, sets=(), plan=None, **options):
        steps = () if any(text.startswith("train.max_steps=") for text in sets) else ("train.max_steps=2",)
        small = (*steps, "train.batch_size=2", "train.max_length=300")
        overrides = Overrides(
            methods=(method,),
            tasks=(task,),
            base_model=str(base),
            seeds=(1,),
            sets=(*small, *(("loca.n_frequency=50",) if method == "loca" else ()), *sets),
            options={"judge": judge, "max_new_tokens": 6, **options},
            data_root=mt_bench_root,
            **(plan or {}),
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        return run

    return make
