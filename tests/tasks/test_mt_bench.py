"""MT-Bench and Vicuna-bench as tasks: from a plan over answers and a stub judge to the record."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from parbench.bench.deploy.measure import Measured, measure
from parbench.bench.deploy.trained import Whereabouts, find_trained
from parbench.bench.run.inputs import DataCache
from tests.support.judge_stub import chat, endpoint, text_of
from tests.support.mt_bench import QUESTIONS, do, rated, rows_of
from tests.support.tiny_llama import SPECIAL, byte_tokenizer, tiny_model_folder

pytestmark = pytest.mark.usefixtures("no_judge_keys", "own_cache")


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


def test_a_converted_adapter_is_not_judged(planned, store, llama_folder, mt_bench_root, tmp_path):
    with endpoint(rated) as stub:
        record = do(planned(f"gpt-4@{stub.url}"), store)
        asked = len(stub.requests)
        trained = find_trained(store, record.run_id, Whereabouts(str(llama_folder), mt_bench_root))
        trained.check_data()
        what = Measured((2, 8), torch.device("cpu"), tmp_path, plain_peft=False)
        found = measure(trained, DataCache().of(trained.planned), what)
        assert len(stub.requests) == asked
    assert found.merges[0].difference < 1e-4 * found.merges[0].largest
    assert {(one.rows, one.reason) for one in found.conversions} == {
        (None, "answers are rated by a judge, which is not asked again")
    }
    assert found.conversions[-1].error < 1e-5


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


def test_repeats_are_all_kept_and_their_spread_is_reported(planned, store):
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


def test_what_fastchat_reads_otherwise_is_counted(planned, store):
    def script(request, number):
        return chat(f"<think>[[10]]</think> {text_of(rated(request, number))}")

    with endpoint(script) as stub:
        record = do(planned(f"judge@{stub.url}"), store)
    assert record.metrics["rating"] == 6
    (note,) = [note for note in record.provenance.notes if "FastChat" in note]
    assert note.endswith("reads 8 of 8 judgments otherwise; its mean is 10.00, not 6.00")
    assert rows_of(record, store)["fastchat_scores"][0][0].tolist() == [10]


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
        # Too little to change what follows what, and enough for adapters on the attention to get a gradient.
        layer = model.model.layers[0]
        layer.input_layernorm.weight.fill_(1)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            getattr(layer.self_attn, name).weight.normal_(std=1e-3)
        for token in range(size):
            model.model.embed_tokens.weight[token, token] = 1
            model.lm_head.weight[follows.get(token, end), token] = 10
    return model


def test_the_base_model_judges_itself_and_the_record_contains_it(planned, store, tmp_path):
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
