"""A small question set, fast clients, and FastChat's own judging code to compare with."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import pytest

from parbench.tasks.judge import ClientSettings, JudgeClient, JudgeSpec, QuestionSet, Retries, from_folder
from tests.support.judge_files import judge_prompts, write_lines


@pytest.fixture(autouse=True)
def _no_keys(no_judge_keys):
    pass


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The waits between attempts, in seconds, which no test sleeps through."""
    asked: list[float] = []
    wait_s = Retries.wait_s

    def no_wait(self, failure) -> float:
        asked.append(wait_s(self, failure))
        return 0.0

    monkeypatch.setattr(Retries, "wait_s", no_wait)
    return asked


@pytest.fixture
def connect(waits):
    """Make clients for a stub; they do not wait between attempts, and are closed at the end."""
    clients = []

    def make(stub, model="judge", **settings) -> JudgeClient:
        clients.append(JudgeClient(JudgeSpec(model, stub.url), ClientSettings(**settings)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    """Three questions in FastChat's layout, one of them graded against a reference."""
    root = tmp_path / "fastchat"
    write_lines(root / "judge_prompts.jsonl", judge_prompts())
    questions = [
        {"question_id": 1, "category": "writing", "turns": ["write", "again"]},
        {"question_id": 2, "category": "math", "turns": ["1+1?", "+1?"], "reference": ["2", "3"]},
        {"question_id": 3, "category": "stem", "turns": ["why?", "how?"]},
    ]
    write_lines(root / "mt_bench" / "question.jsonl", questions)
    references = [{"question_id": 2, "choices": [{"index": 0, "turns": ["two", "three"]}]}]
    write_lines(root / "mt_bench" / "reference_answer" / "gpt-4.jsonl", references)
    return root


@pytest.fixture
def questions(folder) -> QuestionSet:
    return from_folder(folder)


@pytest.fixture
def answers() -> dict[int, tuple[str, str]]:
    return {number: (f"first of {number}", f"second of {number}") for number in (1, 2, 3)}


@pytest.fixture(scope="session")
def fastchat_common():
    """``fastchat.llm_judge.common``, which asks for API libraries that it does not need for what is compared here."""
    pytest.importorskip("fastchat")
    stood_in = []
    for name in ("openai", "anthropic"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
            stood_in.append(name)
    try:
        return importlib.import_module("fastchat.llm_judge.common")
    finally:
        for name in stood_in:
            del sys.modules[name]


@pytest.fixture(scope="session")
def tokenizer():
    """Letters as tokens, a beginning and an end, no chat template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = ["<unk>", "<s>", "</s>", *map(chr, range(32, 127)), "\n"]
    inner = Tokenizer(models.WordLevel({letter: place for place, letter in enumerate(letters)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
