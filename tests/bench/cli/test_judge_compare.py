"""`bench judge compare`: from the answers in the store, over HTTP, to the table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from parbench.bench.store.layout import COMPARISONS, PREDICTIONS
from parbench.reports.judged import JUDGMENTS, Judged, Line
from parbench.reports.pairing import pair_answers
from parbench.reports.statistics import Interval
from parbench.tasks.judge import PairSummary
from tests.support.data import write_jsonl
from tests.support.judge_files import judge_prompts
from tests.support.judge_stub import chat, endpoint, failing, text_of
from tests.support.records import RECORD, with_spec

KEY = "sk-planted-4f9c2e7718aa03bd"
QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]},
    {"question_id": 82, "category": "writing", "turns": ["Tell.", "More."]},
    {"question_id": 101, "category": "math", "turns": ["1+1?", "+1?"]},
    {"question_id": 102, "category": "math", "turns": ["2+2?", "+2?"]},
]
TASK = "mt_bench"
pytestmark = pytest.mark.usefixtures("no_judge_keys")


@pytest.fixture
def root(tmp_path):
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
def revision(root):
    from parbench.tasks.data.folder import FolderSource
    from parbench.tasks.mt_bench import MT_BENCH_TASK

    return MT_BENCH_TASK.revision(FolderSource(root))


@pytest.fixture
def add(store, revision):
    """Put a run with answers into the store; they say whose they are."""

    def put(method, seed, word=None, questions=QUESTIONS, **changes):
        spec = {"task": TASK, "base_model": "tiny", "data_revision": revision, "options": {"judge": "local"}}
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
def compare(bench, store, root):
    def call(stub, *arguments, a="loca", b="lora"):
        judge = ("--judge", f"gpt-4@{stub.url}") if stub else ()
        return bench("judge", "compare", TASK, a, b, *judge, "--data-root", root, "--out", store.root, *arguments)

    return call


def prefers(method, but=()):
    """Answer for a method wherever it stands; ``but`` of the questions always for the first answer."""

    def script(request, number):
        text = request["messages"][-1]["content"]
        if any(question in text for question in but):
            return chat("I take [[A]]")
        others = {"loca": "lora", "lora": "loca"}
        return chat("[[A]]" if text.index(f"{method} of") < text.index(f"{others[method]} of") else "[[B]]")

    return script


def written(store):
    (path,) = (store.root / COMPARISONS).glob("*.json")
    content = json.loads(path.read_text())
    return content, {line["of"]: line for line in content["lines"]}


def test_from_the_answers_of_the_store_to_the_table(compare, store, add, root):
    ids = {(method, seed): add(method, seed) for method in ("lora", "loca") for seed in (1, 2)}
    with endpoint(prefers("loca", but=["More.", "2+2?"])) as stub:
        result = compare(stub)
        assert result.code == 0, result.err
        # Every turn of every question of every seed, in both orders.
        assert len(stub.requests) == 4 * 2 * 2 * 2
        asked = Counter(request["messages"][-1]["content"].partition("|")[0] for request in stub.requests)
        assert set(asked) == {"pair-v2", "pair-v2-multi-turn", "pair-math-v1", "pair-math-v1-multi-turn"}
        assert {(request["model"], request["temperature"]) for request in stub.requests} == {("gpt-4", 0.0)}
        texts = {request["messages"][-1]["content"] for request in stub.requests}
        assert "pair-math-v1|1+1?|loca of seed 2, turn 1|lora of seed 2, turn 1|right" in texts
        assert "pair-math-v1|1+1?|lora of seed 2, turn 1|loca of seed 2, turn 1|right" in texts
        assert not any("of seed 1" in text and "of seed 2" in text for text in texts)
        again = compare(stub)
        assert len(stub.requests) == 32
    assert again.out == result.out
    content, lines = written(store)
    assert content["a"] == {"name": "loca", "runs": {str(seed): ids["loca", seed] for seed in (1, 2)}}
    assert content["b"] == {"name": "lora", "runs": {str(seed): ids["lora", seed] for seed in (1, 2)}}
    assert set(lines) == {"all", "writing", "math", "seed 1", "seed 2"}
    # By hand: question 81 is won in both turns, 82 only in its first turn, 101 in both, 102 in none.
    counts = {of: tuple(line[name] for name in ("wins", "ties", "losses")) for of, line in lines.items()}
    assert counts == {
        "all": (10, 6, 0),
        "writing": (6, 2, 0),
        "math": (4, 4, 0),
        "seed 1": (5, 3, 0),
        "seed 2": (5, 3, 0),
    }
    assert lines["all"]["inconsistent"] == 6
    assert lines["all"]["win_rate_adjusted"] == pytest.approx(13 / 16)
    assert lines["all"]["win_rate"] == pytest.approx(10 / 16)
    assert content["judge"]["judge"] == "gpt-4"
    assert content["judge"]["temperature"] == 0
    assert content["judge"]["served_models"] == ["judge-0613"]
    assert set(content["judge"]["questions"]["hashes"]) == {"questions", "references", "prompts"}
    assert content["over_seeds"]["no_interval"].startswith("n = 2")
    assert content["label"].startswith("MINI SUITE")
    for text in (
        "loca against lora on mt_bench, judged by gpt-4",
        "MINI SUITE",
        "81.2",
        "Runs of the same seed are compared: 1, 2",
    ):
        assert text in result.out, text
    rows = pd.read_parquet(next((store.root / COMPARISONS).glob("*.parquet")))
    assert len(rows) == 16
    assert (root / "mt-bench").is_dir()
    kept = {path.stem for path in (store.root / COMPARISONS / JUDGMENTS).rglob("*.json")}
    assert len(kept) == 32


def test_the_interval_is_that_of_independent_software(compare, store, add):
    """A t interval of the questions' means: least squares with clusters, where all have as many verdicts."""
    sm = pytest.importorskip("statsmodels.api")
    for method in ("lora", "loca"):
        add(method, 1)
    with endpoint(prefers("loca", but=["More.", "2+2?"])) as stub:
        assert compare(stub).code == 0
    _, lines = written(store)
    rows = pd.read_parquet(next((store.root / COMPARISONS).glob("*.parquet")))
    points = rows["winner"].map({"a": 1.0, "tie": 0.5, "b": 0.0}).to_numpy()
    groups = {"groups": rows["question_id"].to_numpy()}
    fit = sm.OLS(points, np.ones(len(points))).fit(cov_type="cluster", cov_kwds=groups, use_t=True)
    low, high = fit.conf_int(0.05)[0]
    assert lines["all"]["low"] == pytest.approx(low)
    assert lines["all"]["high"] == pytest.approx(min(1.0, high))
    assert 0 < low < 13 / 16 < lines["all"]["high"]


def test_what_has_no_verdict_is_shown_and_is_no_tie(compare, store, add):
    for method in ("lora", "loca"):
        add(method, 1)

    def script(request, number):
        text = request["messages"][-1]["content"]
        if "pair-v2|Write.|lora" in text:
            return chat("Both are fine.")
        if "1+1?" in text:
            return failing(400, "content policy", code="content_filter")
        return prefers("lora")(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    _, lines = written(store)
    everything = lines["all"]
    # Of eight comparisons: the first turn of question 81, and both turns of question 101.
    assert (everything["wins"], everything["ties"], everything["losses"], everything["undecided"]) == (0, 0, 5, 3)
    assert (everything["unparsable"], everything["failed"]) == (1, 4)
    assert everything["win_rate_adjusted"] == 0
    assert everything["no_interval"].startswith("all questions have the same result")
    assert "5 of 16 judgments have no verdict: " in result.out
    assert "4 refused" in result.out
    assert "1 unparsable" in result.out


# As at a terminal, also where the tests run in the background, where shells have SIGINT ignored.
LISTENING = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from parbench.bench.cli import main; main()"
)


def test_an_interrupted_comparison_goes_on_where_it_was_cut(store, add, root):
    for method in ("lora", "loca"):
        add(method, 1)
    cut = threading.Event()

    def script(request, number):
        if number == 5:
            running["process"].send_signal(signal.SIGINT)
            cut.set()
        return prefers("loca")(request, number)

    running = {}
    with endpoint(script) as stub:
        names = ["judge", "compare", TASK, "loca", "lora", "--judge", f"gpt-4@{stub.url}", "--concurrency", "1"]
        command = [sys.executable, "-c", LISTENING, *names, "--data-root", str(root), "--out", str(store.root)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}

        def start():
            piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            running["process"] = subprocess.Popen(command, env=environment, **piped)
            return running["process"].communicate(timeout=120)

        _, said = start()
        assert cut.is_set()
        assert running["process"].returncode == 130, said
        assert "the same command goes on from here" in said
        assert not list((store.root / COMPARISONS).glob("*.json"))
        before = len(stub.requests)
        assert 6 <= before < 16
        assert len(list((store.root / COMPARISONS / JUDGMENTS).rglob("*.json"))) == before
        out, said = start()
        assert running["process"].returncode == 0, said
        assert len(stub.requests) == 16
    _, lines = written(store)
    assert lines["all"]["wins"] == 8
    assert "loca against lora" in out


def test_a_judge_that_dies_leaves_what_it_said(compare, store, add, impatient, monkeypatch):
    monkeypatch.setenv("PARBENCH_JUDGE_KEY", KEY)
    for method in ("lora", "loca"):
        add(method, 1)
    alive = threading.Event()

    def script(request, number):
        fine = alive.is_set() or number < 3
        return prefers("loca")(request, number) if fine else failing(503, f"gone, {KEY}")

    with endpoint(script) as stub:
        result = compare(stub, "--concurrency", 1)
        assert result.code == 2
        assert "3 judgments are kept and will not be asked again" in result.err
        assert KEY not in result.err
        before = len(stub.requests)
        alive.set()
        assert compare(stub, "--concurrency", 1).code == 0
        assert len(stub.requests) - before == 13
    for path in (store.root / COMPARISONS).rglob("*.*"):
        assert KEY.encode() not in path.read_bytes()


def test_a_single_judgment_that_might_be_had_is_asked_for_again(compare, store, add, impatient):
    for method in ("lora", "loca"):
        add(method, 1)
    alive = threading.Event()

    def script(request, number):
        lost = "pair-v2|Write.|lora" in request["messages"][-1]["content"] and not alive.is_set()
        return failing(500, "try later") if lost else prefers("loca")(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
        assert result.code == 2
        assert "1 of 16 judgments by gpt-4 are missing: the endpoint answers 500: try later" in result.err
        assert not list((store.root / COMPARISONS).glob("*.json"))
        alive.set()
        assert compare(stub).code == 0
    assert written(store)[1]["all"]["wins"] == 8


def test_a_flagged_comparison_does_not_block_the_others(compare, store, add):
    for method in ("lora", "loca"):
        add(method, 1)

    def script(request, number):
        flagged = "1+1?" in request["messages"][-1]["content"]
        return failing(403, "no") if flagged else prefers("loca")(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    assert "4 forbidden (the endpoint answers 403: no)" in result.out
    assert written(store)[1]["all"]["wins"] == 6


def test_what_fastchat_reads_otherwise_is_shown(compare, store, add):
    for method in ("lora", "loca"):
        add(method, 1)

    def script(request, number):
        return chat(f"They claim [[A]]. {text_of(prefers('loca')(request, number))}")

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    assert written(store)[1]["all"]["wins"] == 8
    assert written(store)[1]["all"]["read_otherwise"] == 8
    assert "reads 8 of 16 judgments otherwise" in " ".join(result.out.split())


def test_a_judge_without_verdicts_is_one_sentence(compare, store, add):
    for method in ("lora", "loca"):
        add(method, 1)
    with endpoint([chat("Rating: [[5]]")]) as stub:
        result = compare(stub)
    assert result.code == 2
    assert "has decided none of 8 comparisons: 16 of 16 judgments have no verdict: 16 unparsable" in result.err


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ("loca", "loca", "are the same runs"),
        ("locca", "lora", 'there are no runs of "locca"; did you mean "loca"?'),
        ("vera", "lora", "have no seed in common"),
        ("dora", "lora", 'the runs of "dora" differ in base_model; name those to compare by their ids'),
        ("ia3", "lora", "have not answered the same questions"),
        ("boft", "lora", "the data and questions of mt_bench are not those of the runs"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(compare, add, a, b, said):
    for method in ("lora", "loca"):
        add(method, 1)
    add("vera", 7)
    add("dora", 1)
    add("dora", 1, base_model="other")
    add("ia3", 1, questions=QUESTIONS[:2], limit=2)
    add("boft", 1, data_revision="sha256:" + "0" * 64)
    with endpoint([chat("[[A]]")]) as stub:
        result = compare(stub, a=a, b=b)
        assert stub.requests == []
    assert result.code == 2
    assert said in result.err


def test_runs_are_named_by_id_and_their_differences_are_told(compare, store, add):
    one = add("dora", 1, word="loca")
    other = add("dora", 1, word="lora", base_model="other", options={"judge": "gpt-4@https://example.org/v1"})
    add("dora", 2, base_model="other")
    with endpoint(prefers("loca")) as stub:
        result = compare(stub, a=one[:10], b=other)
    assert result.code == 0, result.err
    assert "Not the same on both sides: base_model (tiny, other)." in result.out
    assert written(store)[1]["all"]["wins"] == 8


def test_another_task_or_no_judge_is_one_sentence(bench, store, add, compare):
    add("lora", 1)
    result = bench("judge", "compare", "glue/sst2", "a", "b", "--judge", "x@http://127.0.0.1:1/v1", "--out", store.root)
    assert result.code == 2
    assert '"glue/sst2" has no answers to be judged' in result.err
    result = bench("judge", "compare", TASK, "a", "b", "--judge", "local", "--out", store.root)
    assert result.code == 2
    assert "MODEL@URL" in result.err
    result = bench("judge", "compare", TASK, "a", "b", "--judge", "gpt-4@https://example.org/v1", "--out", store.root)
    assert result.code == 2
    assert "needs an API key" in result.err
    result = bench(
        "judge", "compare", "vicuna_bench", "a", "b", "--judge", "x@http://127.0.0.1:1/v1", "--out", store.root
    )
    assert result.code == 2
    assert "no run of vicuna_bench" in result.err


def test_with_three_seeds_there_is_an_interval_over_seeds(compare, store, add, root):
    for seed in (1, 2, 3):
        for method in ("lora", "loca"):
            add(method, seed)

    def script(request, number):
        # One seed loses a question that the others win.
        text = request["messages"][-1]["content"]
        return prefers("lora" if "of seed 3" in text and "1+1?" in text else "loca", but=["More."])(request, number)

    with endpoint(script) as stub:
        result = compare(stub)
    assert result.code == 0, result.err
    content, lines = written(store)
    over = content["over_seeds"]
    assert over["no_interval"] is None
    assert over["mean"] == pytest.approx(lines["all"]["win_rate_adjusted"])
    assert over["low"] < lines["all"]["win_rate_adjusted"] < over["high"] <= 1
    assert "Over seeds and questions: " in result.out
    pairing = pair_answers(store, TASK, "loca", "lora", root)
    assert pairing.seeds == (1, 2, 3)
    assert pairing.judgments == 48
    rows = pd.read_parquet(next((store.root / COMPARISONS).glob("*.parquet")))
    judged = Judged(pairing, content["judge"], rows)
    # What was written is all that is needed to make it again.
    assert [line["of"] for line in content["lines"]] == [line.of for line in judged.lines]
    first = judged.lines[0]
    assert isinstance(first, Line)
    assert isinstance(first.counts, PairSummary)
    assert isinstance(first.interval, Interval)
    assert (first.counts.wins, first.interval.low) == (lines["all"]["wins"], lines["all"]["low"])
